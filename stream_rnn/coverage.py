"""How often values came to lie inside the intervals that had been told of them, and how wide those were.

Sums a block at a time for K keys so far × T targets × C levels, one step ahead. n events in a block; arrays are
float64, NaN for "none". The Winkler score of level c (Winkler 1972, doi:10.1080/01621459.1972.10481224) is the width,
and 2 / (1 - c) times the distance of a value that lies outside: small if intervals are narrow and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.metrics import Pairs
from stream_rnn.records import Key

Floats = NDArray[np.float64]


class Coverage:
    """Sums; `summary` turns them into the numbers that people read."""

    _FIELDS = ("n", "inside", "width", "winkler")

    def __init__(self, targets: int, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)
        self.sums = np.zeros((1, len(self._FIELDS), targets, len(self.levels)))

    def add(self, slots: NDArray[np.int64], actual: Floats, bounds: Floats) -> None:
        """Take in a block: slots (n,), actual (n, T), bounds (n, T, C, 2)."""
        if not len(slots) or not self.levels:
            return
        low, high = bounds[..., 0], bounds[..., 1]
        inside = contained(actual, bounds)
        judged = ~np.isnan(inside)
        value = actual[:, :, None]
        outside = np.maximum(low - value, 0.0) + np.maximum(value - high, 0.0)
        winkler = high - low + outside * (2 / (1 - np.array(self.levels)))
        terms = np.where(judged[:, None], np.stack([judged, inside, high - low, winkler], axis=1), 0.0)
        top = int(slots.max())
        if top == 0:
            self.sums[0] += terms.sum(axis=0)
            return
        if top >= len(self.sums):
            more = max(top + 1, 2 * len(self.sums)) - len(self.sums)
            self.sums = np.concatenate([self.sums, np.zeros((more, *self.sums.shape[1:]))])
        np.add.at(self.sums, slots, terms)

    def summary(self, target: int | None = None, slot: int | None = None) -> dict[str, Any]:
        """{level: {scored, coverage, width, winkler}} over all keys, or of one; of all targets, or of one."""
        sums = self.sums if slot is None else self.sums[slot : slot + 1]
        sums = sums if target is None else sums[:, :, target : target + 1]
        out = {}
        for c, level in enumerate(self.levels):
            n, *rest = sums[:, :, :, c].sum(axis=(0, 2)).tolist()
            coverage, width, winkler = (v / n if n else None for v in rest)
            out[f"{level:g}"] = {"scored": round(n), "coverage": coverage, "width": width, "winkler": winkler}
        return out


class Ahead:
    """The same for the steps ahead from the second on, without keys: `steps[i]` is of the intervals told i + 2 events
    before. None where there is one step ahead, or no level."""

    def __init__(self, targets: int, levels: Sequence[float], horizon: int) -> None:
        self._shape = (targets, len(levels), 2, horizon)
        self._pairs = Pairs(targets * len(levels) * 2, horizon)
        self.steps = [Coverage(targets, levels) for _ in range(horizon - 1)] if levels else []

    def add(self, keys: Sequence[Key], actual: Floats, told: Floats, forecast: Floats) -> None:
        """Take in a block: actual (n, T), bounds told (n, T, C, 2) one event before, those of the forecasts made now
        (n, T, C, 2, H)."""
        n = len(keys)
        flat = told.reshape(n, -1)
        said, _ = self._pairs.pair(self._pairs.slots_of(keys), flat, flat, forecast.reshape(n, *flat.shape[1:], -1))
        bounds = said.reshape(n, *self._shape)
        for i, step in enumerate(self.steps):
            step.add(np.zeros(n, np.int64), actual, bounds[..., i + 1])


def contained(actual: Floats, bounds: Floats) -> Floats:
    """1 where a value lies inside its interval, 0 where not, NaN where one of them is missing; (n, T, C)."""
    value = actual[:, :, None]
    inside = (bounds[..., 0] <= value) & (value <= bounds[..., 1])
    return np.where(np.isnan(value + bounds[..., 0] + bounds[..., 1]), np.nan, inside)
