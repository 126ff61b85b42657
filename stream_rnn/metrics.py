"""Errors of a forecast and of the last value, summed a block at a time, for every series and step ahead.

A series is one target of one key. K keys so far, T targets, H steps ahead, n events in a block. Arrays are
float64; NaN stands for "none". Step ahead i = 1 … H pairs an event with the forecast made i events of its
key earlier; the last value (persistence) is the newest one known at that same moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.records import Key

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

MIN_PAIRS = 30  # a series needs this many scored events to have a say in the geometric mean


class Pairs:
    """Brings each event together with what was forecast for it, and with the last value.

    Per key it holds the newest H last values and, for H > 1, the newest H forecasts: nothing grows with
    the stream, only with the keys.
    """

    def __init__(self, targets: int, horizon: int = 1) -> None:
        self.targets = targets
        self.horizon = horizon
        self.slots: dict[Key, int] = {}
        self._values = np.full((1, horizon, targets), np.nan)  # oldest first
        self._forecasts = np.full((1, horizon, targets, horizon if horizon > 1 else 0), np.nan)

    def slots_of(self, keys: Sequence[Key]) -> Int64s:
        """A number for each key, in order of appearance; int64 (n,)."""
        try:  # nearly always: every key is known
            return np.fromiter(map(self.slots.__getitem__, keys), np.int64, len(keys))
        except KeyError:
            found = np.fromiter((self.slots.setdefault(k, len(self.slots)) for k in keys), np.int64, len(keys))
            self._values = _grown(self._values, len(self.slots))
            self._forecasts = _grown(self._forecasts, len(self.slots))
            return found

    def pair(
        self, slots: Int64s, actual: Floats, predicted: Floats, forecast: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """What was predicted for each event and the last value then, both (n, T, H), in the order of the events.

        actual (n, T); predicted (n, T): made one event before; forecast (n, T, H): made after this event,
        needed for H > 1 only.
        """
        H = self.horizon
        n = len(slots)
        order = np.argsort(slots, kind="stable")
        starts = np.flatnonzero(np.diff(slots[order], prepend=-1))  # of each key's run in the sorted block
        owners = slots[order][starts]
        # One long column: every key's run of events, with its H remembered rows in front.
        place = np.arange(n) + H * np.repeat(np.arange(1, len(starts) + 1), np.diff(starts, append=n))
        memory = (place[starts][:, None] - H + np.arange(H)).ravel()
        values = np.empty((n + H * len(starts), self.targets))
        values[memory] = self._values[owners].reshape(-1, self.targets)
        values[place] = actual[order]
        seen = ~np.isnan(values)
        seen[memory] = True  # a remembered row is as it is: filling stops there
        newest = np.maximum.accumulate(np.where(seen, np.arange(len(values))[:, None], 0), axis=0)
        values = np.take_along_axis(values, newest, axis=0)
        keep = np.append(place[starts][1:] - H, len(values))[:, None] - H + np.arange(H)
        self._values[owners] = values[keep]

        said = np.empty((n, self.targets, H))
        last = np.empty((n, self.targets, H))
        said[:, :, 0] = predicted
        last[order, :, 0] = values[place - 1]
        if H > 1:
            assert forecast is not None
            told = np.empty((len(values), self.targets, H))
            told[memory] = self._forecasts[owners].reshape(-1, self.targets, H)
            told[place] = forecast[order]
            self._forecasts[owners] = told[keep]
            for i in range(1, H):
                said[order, :, i] = told[place - 1 - i, :, i]
                last[order, :, i] = values[place - 1 - i]
        return said, last


class Scores:
    """Sums of errors for K × T × H; `summary` turns them into the numbers that people read."""

    # The last value is missing before a key's first, so the comparison keeps its own count and sums.
    _FIELDS = ("n", "abs", "sq", "both", "both_abs", "both_sq", "last_abs", "last_sq")

    def __init__(self, targets: int, horizon: int = 1) -> None:
        self.sums = np.zeros((1, len(self._FIELDS), targets, horizon))
        self.labels = 0  # actual values seen

    def add(self, slots: Int64s, actual: Floats, said: Floats, last: Floats) -> None:
        """Take in a block: slots (n,), actual (n, T), said and last (n, T, H)."""
        if len(slots) == 0:
            return
        self.labels += int((~np.isnan(actual)).sum())
        error = said - actual[:, :, None]
        naive = last - actual[:, :, None]
        scored = ~np.isnan(error)
        both = scored & ~np.isnan(naive)
        error[~scored] = 0.0
        naive[~both] = 0.0
        size, naive_size = np.abs(error), np.abs(naive)
        terms = np.stack(
            [scored, size, size**2, both, size * both, (size * both) ** 2, naive_size, naive_size**2], axis=1
        )
        top = int(slots.max())
        if top == 0:
            self.sums[0] += terms.sum(axis=0)
            return
        self.sums = _grown(self.sums, top + 1, 0.0)
        np.add.at(self.sums, slots, terms)

    def summary(self, target: int | None = None, step: int | None = None) -> dict[str, Any]:
        """MAE, RMSE, skill and the last value's, over all keys, of one or all targets and steps ahead."""
        sums = self._of(target, step).sum(axis=(0, 2, 3))
        n, size, sq, both, both_size, both_sq, last_size, last_sq = sums.tolist()
        return {
            "scored": round(n),
            "mae": _ratio(size, n),
            "rmse": _root(_ratio(sq, n)),
            "skill_mae": _skill(both_size, last_size),
            "skill_rmse": _skill(math.sqrt(both_sq), math.sqrt(last_sq)),
            "baselines": {"persistence": {"mae": _ratio(last_size, both), "rmse": _root(_ratio(last_sq, both))}},
        }

    def score(self, target: int | None = None, step: int | None = None) -> dict[str, Any]:
        """Geometric mean over the series of error / last value's error; `better`: series where it is below 1 in MAE."""
        sums = self._of(target, step).sum(axis=3)
        _, _, _, both, size, sq, last_size, last_sq = np.moveaxis(sums, 1, 0)
        count = (both >= MIN_PAIRS) & (last_size > 0)
        if not count.any():
            return {"series": 0, "better": 0, "mae": None, "rmse": None}
        mae = size[count] / last_size[count]
        with np.errstate(divide="ignore"):  # a perfect series has a ratio of 0, and so has the mean
            log_mae, log_rmse = np.log(mae).mean(), np.log(sq[count] / last_sq[count]).mean() / 2
        better = int((mae < 1).sum())
        return {"series": int(count.sum()), "better": better, "mae": math.exp(log_mae), "rmse": math.exp(log_rmse)}

    def by_series(self, target: int) -> tuple[Floats, Floats, Floats]:
        """Of each key: pairs that the last value has too, the mean absolute error over them, and the last value's."""
        sums = self._of(target, None).sum(axis=(2, 3))
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums[:, 3], sums[:, 4] / sums[:, 3], sums[:, 6] / sums[:, 3]

    def _of(self, target: int | None, step: int | None) -> Floats:
        sums = self.sums if target is None else self.sums[:, :, target : target + 1]
        return sums if step is None else sums[:, :, :, step - 1 : step]


def _grown(rows: Floats, count: int, fill: float = np.nan) -> Floats:
    """At least `count` rows, with room to spare."""
    if count <= len(rows):
        return rows
    more = np.full((max(count, 2 * len(rows)) - len(rows), *rows.shape[1:]), fill)
    return np.concatenate([rows, more])


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def _root(a: float | None) -> float | None:
    return None if a is None else math.sqrt(a)


def _skill(ours: float, theirs: float) -> float | None:
    return 1.0 - ours / theirs if theirs else None
