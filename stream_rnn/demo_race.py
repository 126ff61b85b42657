"""The demo's race: one stream, several forecasters, each told an event only after it has forecast it.

said[name] is (N, 2): what `name` said of event n, 1 and 6 events before it; NaN where it had not said anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_rnn.baselines import LinearAR, SeasonalNaive
from stream_rnn.records import BadEvent, Event, Prediction

Floats = NDArray[np.float64]

AHEAD = (1, 6)  # steps ahead that are judged
DAY = 288  # events of 5 minutes


class _Model(Protocol):
    def step_many(self, events: list[Event]) -> Sequence[Prediction | BadEvent]: ...


class Race:
    """Runs the forecasters side by side and keeps what they said; the demo's stream is short enough to keep."""

    def __init__(self, events: list[Event], model: _Model) -> None:
        self.total = len(events)
        self.count = 0
        self.value = np.full(self.total, np.nan)
        self.time = np.full(self.total, np.nan)
        self.said = {name: np.full((self.total, len(AHEAD)), np.nan) for name in ("last", "season", "linear", "ours")}
        self.forecast: Floats = np.empty(0)  # the model's newest, AHEAD[-1] steps
        self.learning_s = 0.0
        self._events = events
        self._model = model
        self._season = SeasonalNaive(AHEAD, interval_s=300.0)
        self._linear = LinearAR(AHEAD, scale=100.0)

    @property
    def rate(self) -> float:
        """Events a second that the model takes, other contestants and drawing not counted."""
        return self.count / max(self.learning_s, 1e-9)

    def advance(self, events: int) -> None:
        """Take the next so many events through everybody."""
        block = self._events[self.count : self.count + events]
        began = time.perf_counter()
        predictions = self._model.step_many(block)
        self.learning_s += time.perf_counter() - began
        for prediction in predictions:
            if isinstance(prediction, BadEvent):
                raise ValueError(f"the demo's stream has a bad event: {prediction.reason}")
            n = self.count
            self.count += 1
            self.value[n] = value = float(prediction.actual)
            self.time[n] = moment = float(prediction.time or 0.0)
            self._say("ours", n, [prediction.forecast[i - 1] for i in AHEAD])
            self._say("last", n, [value] * len(AHEAD))
            self._say("season", n, self._season.step(moment, value))
            self._say("linear", n, self._linear.step(value))
            self.forecast = np.array(prediction.forecast, dtype=float)

    def _say(self, name: str, n: int, forecast: Any) -> None:
        for j, i in enumerate(AHEAD):
            if n + i < self.total:
                self.said[name][n + i, j] = forecast[j]

    def _errors(self, name: str, j: int) -> Floats:
        """Of the events that all contestants have spoken on; NaN for the others."""
        spoken = np.isfinite([said[: self.count, j] for said in self.said.values()]).all(axis=0)
        error: Floats = np.where(spoken, self.said[name][: self.count, j] - self.value[: self.count], np.nan)
        return error

    def error(self, name: str, j: int) -> tuple[float, float]:
        """MAE and RMSE at AHEAD[j] over all events so far; NaN if there is nothing to judge."""
        e = self._errors(name, j)
        e = e[~np.isnan(e)]
        return (float(np.abs(e).mean()), float(np.sqrt((e**2).mean()))) if len(e) else (np.nan, np.nan)

    def recent(self, name: str, events: int = DAY) -> float:
        """MAE of the newest events, at the far step."""
        e = self._errors(name, -1)[-events:]
        e = e[~np.isnan(e)]
        return float(np.abs(e).mean()) if len(e) else np.nan

    def daily(self, name: str, days: int = 1) -> Floats:
        """MAE at the far step of each run of 288 events, or the running mean over several."""
        e = np.abs(self._errors(name, -1))
        e = np.append(e, np.full(-len(e) % DAY, np.nan)).reshape(-1, DAY)
        there = ~np.isnan(e)
        sums, counts = np.where(there, e, 0.0).sum(axis=1), there.sum(axis=1)
        window = np.ones(days)
        with np.errstate(invalid="ignore"):
            return np.convolve(sums, window)[: len(sums)] / np.convolve(counts, window)[: len(sums)]
