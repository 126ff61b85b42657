"""Anomalies: how strange each value was, and when that is worth an alert; the rules are in kernels/anomaly.py.

`anomaly`, 0 … 1, is the larger of two judges' answers: novelty (beyond the range so far) and surprise (an unusual
error, spread, rhythm or standstill). 0.5 and more of surprise is an alert at the budget; without one it stays below
0.1. `p_value` is the share of earlier errors that were as large.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.kernels.anomaly import (
    BEFORE,
    BINS,
    HEAD,
    HISTOGRAM,
    JUDGE_BLOCK,
    LAST_TIME,
    PART,
    PREV,
    STATISTICS,
    judge_block,
)
from stream_rnn.kernels.cache import compiled
from stream_rnn.keys import KeySpace
from stream_rnn.units import per

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]


ODD = 0.1  # of `anomaly`: surprise is beyond the threshold, be it in a rest, or the value well beyond its range


UNLESS_GIVEN = "1/week"  # what `anomaly` is judged by where no alerts are wanted


class Judged(NamedTuple):
    """What is said of a block: (n events, …); NaN where there is nothing to judge."""

    anomaly: Floats  # (n, T), 0 … 1
    p_value: Floats  # (n, T), 0 … 1
    size: Floats  # (n, T): |error| in its usual size, at most 8
    hit: Int64s  # (n, 2): the target and the statistic of an alert; -1: none


class Anomalies:
    """The pass and its table in a KeySpace; `budget`, alerts of a key in a time ("1/week"), may change."""

    def __init__(self, targets: int, budget: str | None, keyspace: KeySpace) -> None:
        self.targets = targets
        row = np.zeros(HEAD + targets * PART)
        row[LAST_TIME] = np.nan
        for j in range(targets):
            part = row[HEAD + j * PART :]
            part[[PREV, BEFORE]] = np.nan
            part[HISTOGRAM + BINS + 1] = 1.0
        self._table = keyspace.table("anomaly", np.float64, len(row), row)
        self._place = np.array([self._table.shift, self._table.mask, self._table.stride], np.int64)
        self._judge = compiled(judge_block, JUDGE_BLOCK, "the anomalies' kernel")
        self.budget = budget

    @property
    def budget(self) -> str | None:
        """As it was given; None: scores, and no alerts."""
        return self._budget

    @budget.setter
    def budget(self, budget: str | None) -> None:
        self._period_s = period_of(UNLESS_GIVEN if budget is None else budget)
        self._budget = budget

    def judge(self, slots: Int64s, time: Floats, values: Floats, predicted: Floats, unit: Floats) -> Judged:
        """Take a block: values and predicted (n, ≥ T) in the user's units; unit (n, T): D after each event."""
        n, T = len(slots), self.targets
        out = Judged(np.empty((n, T)), np.empty((n, T)), np.empty((n, T)), np.empty((n, 2), np.int64))
        self._judge(slots, time, values, predicted, unit, self._period_s, T, self._table.bases, self._place, *out)
        if self._budget is None:
            out.hit.fill(-1)
        return out


def period_of(budget: Any) -> float:
    """Seconds of one alert.

    >>> period_of("2/day")
    43200.0
    >>> period_of("weekly")
    Traceback (most recent call last):
    stream_rnn.errors.ConfigError: alerts.budget = 'weekly': give a number and a time: "1/week", "3/day", "10/month"
    """
    try:
        return 1.0 / per(budget)
    except ValueError as error:
        raise ConfigError(f"alerts.budget = {budget!r}: {error}") from None


__all__ = ["ODD", "STATISTICS", "Anomalies", "Judged", "period_of"]
