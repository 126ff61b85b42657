"""Forecasts that anybody could make, to be better than: the same time a season ago, and a linear autoregression.

Plain NumPy, one event at a time, several steps ahead at once. The last value itself is metrics.Pairs' work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class SeasonalNaive:
    """The value one season before the time to be forecast, or the newest value where there was none."""

    def __init__(self, steps: Sequence[int], interval_s: float, season_s: float = 86400.0) -> None:
        self.steps = steps
        self.interval_s = interval_s
        self.season_s = season_s
        self._past: dict[int, float] = {}
        self._order: deque[int] = deque()

    def step(self, time: float, value: float) -> Floats:
        """Take in a value; forecasts for each of `steps`."""
        now = round(time / self.interval_s)
        season = round(self.season_s / self.interval_s)
        self._past[now] = value
        self._order.append(now)
        while self._order[0] < now - season:
            self._past.pop(self._order.popleft(), None)
        return np.array([self._past.get(now + i - season, value) for i in self.steps])


class LinearAR:
    """Autoregression by recursive least squares with forgetting; until it has `order` values, the last value.

    x (order + 1,): the newest `order` values less their mean, in units of `scale`, and a 1. y(t + i) − y(t) is
    fitted by w_i · x(t). The gains depend on the x alone, so all steps ahead share one covariance P; forgetting
    pauses while P has more than twice its first trace, or quiet stretches would blow it up.
    """

    def __init__(self, steps: Sequence[int], order: int = 8, forget: float = 0.999, scale: float = 1.0) -> None:
        self.steps = steps
        self.order = order
        self.forget = forget
        self.scale = scale
        self._w = np.zeros((len(steps), order + 1))
        self._P = np.eye(order + 1)
        self._recent: deque[float] = deque(maxlen=order)
        self._waiting: deque[tuple[Floats, Floats, float]] = deque(maxlen=max(steps))  # x, gain, value
        self._mean = 0.0
        self._count = 0

    def step(self, value: float) -> Floats:
        """Take in a value; forecasts for each of `steps`."""
        y = value / self.scale
        self._count += 1
        self._mean += (y - self._mean) / min(self._count, 2000)
        for j, i in enumerate(self.steps):
            if len(self._waiting) >= i:
                x, gain, origin = self._waiting[-i]
                self._w[j] += gain * (y - origin - self._w[j] @ x)
        self._recent.append(y)
        if len(self._recent) < self.order:
            return np.full(len(self.steps), value)
        x = np.append(np.array(self._recent) - self._mean, 1.0)
        forget = 1.0 if np.trace(self._P) > 2 * len(x) else self.forget
        k = self._P @ x
        gain = k / (forget + x @ k)
        P = self._P - np.outer(gain, k)
        self._P = (P + P.T) / (2 * forget)  # kept symmetric: forgetting would blow up what rounding leaves
        self._waiting.append((x, gain, y))
        return np.asarray((y + self._w @ x) * self.scale)
