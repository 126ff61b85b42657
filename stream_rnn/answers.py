"""Answers: arrays of a block → Predictions in the shapes that people read (records.Prediction has the rules)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.records import Key, Prediction

Floats = NDArray[np.float64]


class Answers:
    """Makes the Predictions of a model with so many targets and steps ahead."""

    def __init__(self, targets: Sequence[str], horizon: int, experts: Sequence[str] = ()) -> None:
        self.targets, self.horizon, self.experts = tuple(targets), horizon, tuple(experts)

    def predictions(
        self,
        keys: Sequence[Key],
        time: Floats,
        step: NDArray[np.int64],
        predicted: Floats,
        actual: Floats,
        forecast: Floats,
        expected: Floats,
        levels: Sequence[float] = (),
        half: Floats | None = None,
        told: Floats | None = None,
        shares: Floats | None = None,
        anomaly: Floats | None = None,
        p_value: Floats | None = None,
    ) -> list[Prediction]:
        """One an event.

        predicted and actual (n, T), forecast (n, T · horizon). Where there are any: half widths of the forecast's
        intervals (n, T · horizon, levels), those told before (n, T, levels, 2), experts' shares (n, T · horizon, K);
        anomaly and p_value (n, T).
        """
        n, T = actual.shape
        unset: Any = repeat(msgspec.UNSET)
        interval, interval_told, experts, strange, p = unset, unset, unset, unset, unset
        if anomaly is not None and p_value is not None:
            strange, p = self._named(np.round(anomaly, 6)), self._named(np.round(p_value, 6))
        if half is not None and told is not None:
            bounds = np.stack([forecast[:, :, None] - half, forecast[:, :, None] + half], -1)
            interval = self._each(self._intervals(bounds.reshape(n, T, self.horizon, len(levels), 2), levels))
            interval_told = self._each(self._intervals(told[:, :, None], levels))
        if shares is not None:
            experts = self.shares(shares)
        shown = forecast if self.horizon == 1 else forecast.reshape(n, T, self.horizon)
        columns = (
            keys, listed(time), repeat(None), step.tolist(), self._named(predicted), self._named(actual),
            self._named(actual - predicted), self._named(shown), listed(expected), interval, interval_told, strange, p,
            experts,
        )  # fmt: skip
        return list(map(Prediction, *columns))

    def _named(self, numbers: Floats) -> list[Any]:
        """(n, T) or (n, T, horizon) → a number an event (None: none yet), a list of them, a dict of those by target."""
        return self._each([listed(numbers[:, j]) for j in range(len(self.targets))])

    def _each(self, columns: list[list[Any]]) -> list[Any]:
        """A column a target → an item an event."""
        if len(columns) == 1:
            return columns[0]
        return [dict(zip(self.targets, row, strict=True)) for row in zip(*columns, strict=True)]

    def _intervals(self, bounds: Floats, levels: Sequence[float]) -> list[list[Any]]:
        """(n, T, steps, levels, 2) → a column a target of {level: [low, high]}, lists if there are several steps."""
        ahead = bounds.shape[2] > 1
        columns = []
        for j in range(bounds.shape[1]):
            column = bounds[:, j].transpose(0, 2, 3, 1) if ahead else bounds[:, j, 0]
            rows: list[Any]
            if len(levels) == 2:  # as usual: twice as quick
                a, b = levels
                rows = [{a: x, b: y} for x, y in column.tolist()]
            else:
                rows = [dict(zip(levels, row, strict=True)) for row in column.tolist()]
            for e in np.flatnonzero(np.isnan(column).reshape(len(column), -1).any(axis=1)).tolist():
                rows[e] = None
            columns.append(rows)
        return columns

    def shares(self, shares: Floats) -> list[Any]:
        """(n, T · horizon, experts) → {expert: share} an event, a list each if there are several steps."""
        shares = shares.reshape(len(shares), len(self.targets), self.horizon, -1)
        columns = []
        for j in range(shares.shape[1]):
            column = shares[:, j].transpose(0, 2, 1) if shares.shape[2] > 1 else shares[:, j, 0]
            columns.append([dict(zip(self.experts, row, strict=True)) for row in column.tolist()])
        return self._each(columns)


def listed(numbers: Floats) -> list[Any]:
    """As a list, None for NaN; a row of several is a list, or None where all are.

    >>> listed(np.array([1.0, np.nan]))
    [1.0, None]
    """
    missing = np.isnan(numbers)
    if not missing.any():
        return numbers.tolist()  # type: ignore[no-any-return]
    if numbers.ndim > 1:
        missing = np.asarray(missing.all(axis=1))
    return [None if m else x for m, x in zip(missing.tolist(), numbers.tolist(), strict=True)]
