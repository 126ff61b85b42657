"""Intervals: between which bounds the coming value will be, at levels such as 50 and 90 %.

Each level's width is tracked per key, target and step ahead, so that its share of the values comes to lie inside,
whatever the stream does; the formulas are in kernels/intervals.py.

>>> from stream_rnn.keys import KeySpace
>>> Intervals(1, 1, [0.9, 0.5], KeySpace()).levels
(0.5, 0.9)
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.intervals import LEVELS, TRACK_BLOCK, part_words, track_block
from stream_rnn.keys import KeySpace

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

MEAN_ERROR = 0.7979  # of a normal distribution, in standard deviations


class Intervals:
    """The pass and its table in a KeySpace; `levels` may change while it runs."""

    def __init__(self, targets: int, horizon: int, levels: Sequence[float], keyspace: KeySpace) -> None:
        self.targets, self.horizon = targets, horizon
        words = targets * part_words(horizon)
        self._table = keyspace.table("intervals", np.float64, words)
        self._place = np.array([self._table.shift, self._table.mask, self._table.stride], np.int64)
        self._track = compiled(track_block, TRACK_BLOCK, "the intervals' kernel")
        self.levels = levels_of(levels)

    def track(
        self, slots: Int64s, values: Floats, forecast: Floats, unit: Floats, step: Int64s
    ) -> tuple[Floats, Floats]:
        """Take a block: half widths of the forecasts' intervals (n, outputs, levels), and the intervals that had been
        told of its events (n, T, levels, 2); NaN where there is none.

        values (n, T) and forecast (n, outputs) in the user's units; unit (n, T): the targets' D, 0 where there is none.
        """
        n, C = len(slots), len(self.levels)
        half, told = np.empty((n, forecast.shape[1], C)), np.empty((n, self.targets, C, 2))
        levels = np.array(self.levels)
        starts = np.array([NormalDist().inv_cdf((1 + c) / 2) / MEAN_ERROR for c in self.levels])
        self._track(slots, values, forecast, unit, step, levels, starts, self.targets, self.horizon, self._table.bases,
                    self._place, half, told)  # fmt: skip
        return half, told


def levels_of(given: Sequence[float]) -> tuple[float, ...]:
    """The levels in ascending order.

    >>> levels_of([90])
    Traceback (most recent call last):
    stream_rnn.errors.ConfigError: intervals = [90]: a level is a number between 0 and 1, 0.9 for example
    """
    levels: tuple[Any, ...] = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for level in levels:
        if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
            raise ConfigError(f"intervals = {given!r}: a level is a number between 0 and 1, 0.9 for example")
    if len(set(levels)) < len(levels) or len(levels) > LEVELS:
        raise ConfigError(f"intervals = {given!r}: give each level once, and at most {LEVELS} of them")
    return tuple(sorted(float(level) for level in levels))
