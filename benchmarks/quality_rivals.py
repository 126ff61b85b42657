"""What others forecast on the same rows: the season before, river's models, deep-river where it is installed.

A rival forecasts one series at a time, one step ahead, from that series' past values and the clock. Each has its
documented or default settings and the same ones everywhere, like our model: this shows what a user gets, not what an
expert could make of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from quality_runs import Run

Floats = NDArray[np.float64]

LAGS = 8
DEEP_EVENTS = 1500  # of the first series: it takes milliseconds an event


class Rival(Protocol):
    """One series' forecaster."""

    def forecast(self) -> float | None: ...
    def learn(self, time: float, value: float) -> None: ...


class Season:
    """The value one season before, in events; until there is one, the last."""

    def __init__(self, season: int) -> None:
        self._past: deque[float] = deque(maxlen=season)

    def forecast(self) -> float | None:
        return (self._past[0] if len(self._past) == self._past.maxlen else self._past[-1]) if self._past else None

    def learn(self, time: float, value: float) -> None:
        self._past.append(value)


class Lags:
    """A regression of river's on eight lags and the time of day."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._past: deque[float] = deque(maxlen=LAGS)
        self._x: dict[str, float] | None = None

    def forecast(self) -> float | None:
        return None if self._x is None else self._model.predict_one(self._x)

    def learn(self, time: float, value: float) -> None:
        if self._x is not None:
            self._model.learn_one(self._x, value)
        self._past.append(value)
        if len(self._past) == LAGS:
            day = 0.0 if math.isnan(time) else time % 86400 / 86400 * 2 * math.pi
            self._x = {f"lag{i}": v for i, v in enumerate(self._past)} | {"sin": math.sin(day), "cos": math.cos(day)}


class RiverSeries:
    """A time series model of river's."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen = 0

    def forecast(self) -> float | None:
        if self._seen < 2 * LAGS:
            return None
        try:
            return float(self._model.forecast(horizon=1)[0])
        except (ValueError, IndexError, ZeroDivisionError, OverflowError):
            return None

    def learn(self, time: float, value: float) -> None:
        self._seen += 1
        self._model.learn_one(value)


def linear() -> Rival:
    from river import linear_model, preprocessing

    return Lags(preprocessing.StandardScaler() | linear_model.LinearRegression())


def snarimax() -> Rival:
    from river import time_series

    return RiverSeries(time_series.SNARIMAX(p=LAGS, d=1, q=0))


def holt_winters() -> Rival:
    from river import time_series

    return RiverSeries(time_series.HoltWinters(alpha=0.3, beta=0.1))


def deep_river() -> Rival:
    """RollingRegressor with an LSTM of 32 units over a window of 20, as its documentation has it."""
    import torch
    from deep_river.regression import RollingRegressor

    torch.manual_seed(0)
    torch.set_num_threads(1)

    class Network(torch.nn.Module):
        def __init__(self, n_features: int) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(n_features, 32)
            self.head = torch.nn.Linear(32, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][-1])

    from river import preprocessing

    network = RollingRegressor(Network(LAGS + 2), loss_fn="mse", optimizer_fn="adam", lr=1e-3, window_size=20)
    return Lags(preprocessing.StandardScaler() | network)


RIVALS: dict[str, Callable[[], Rival]] = {"LinReg": linear, "SNARIMAX": snarimax, "HoltWin": holt_winters}


def has_deep_river() -> bool:
    """Whether it can be imported here; it wants an older river than others do."""
    try:
        import deep_river.regression  # noqa: F401
    except ImportError:
        return False
    return True


def said(run: Run, make: Callable[[], Rival], events: int | None = None) -> Floats:
    """What a rival says before each event, (N, T), else the last value; events: only so many of the first series."""
    out = run.last[:, :, 0].copy()
    rivals: dict[tuple[int, int], Rival] = {}
    for e in range(len(run.slots)):
        for j in range(run.actual.shape[1]):
            series = (int(run.slots[e]), j)
            if events is not None and (series != (int(run.slots[0]), 0) or run.step[e] > events):
                continue
            rival = rivals.setdefault(series, make()) if series not in rivals else rivals[series]
            forecast = rival.forecast()
            if forecast is not None and math.isfinite(forecast):
                out[e, j] = forecast
            if not math.isnan(run.actual[e, j]):
                rival.learn(float(run.time[e]), float(run.actual[e, j]))
    return out
