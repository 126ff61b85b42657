"""Our Forecaster as one of river's time series models: learn_one(y, x), forecast(horizon).

    from stream_rnn.river import Forecaster
    river.evaluate.iter_evaluate and the like take it as any other

river (https://riverml.xyz) is imported here and nowhere at start. Regressor and Classifier are river estimators
themselves.
"""

from __future__ import annotations

import math
from typing import Any

from river.time_series.base import Forecaster as RiverForecaster

from stream_rnn import model
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.records import BadEvent

_TARGET = "@y"  # no field of x has this name


class Forecaster(RiverForecaster):
    """A series of numbers, one after the other, forecast up to `horizon` steps ahead.

    x: what else is known with a value, by name; numbers are learnt from, and the field named by `time` says when it was
    (datetime, ISO 8601 or epoch). What will be known later, `forecast`'s xs, is not used: steps are
    forecast from what is known now. The other arguments are stream_rnn.Forecaster's; `learnt` is that model.

    >>> f = Forecaster(horizon=3, hidden=16)
    >>> f.forecast(3)
    [0.0, 0.0, 0.0]
    >>> f.learn_one(20.5)
    >>> f.forecast(2)
    [20.5, 20.5]
    """

    def __init__(
        self,
        horizon: int = 12,
        *,
        time: str | None = None,
        kind: str = "mixture",
        cell: str | None = None,
        hidden: int = 32,
        k1: int = 1,
        k2: int = 16,
        lr: float = 1e-3,
        loss: str = "huber",
        optimizer: str = "adam",
        clip: float | None = 1.0,
        seed: int = 0,
        max_features: int = 32,
    ) -> None:
        self.horizon = horizon
        self.time = time
        self.kind = kind
        self.cell = cell
        self.hidden = hidden
        self.k1 = k1
        self.k2 = k2
        self.lr = lr
        self.loss = loss
        self.optimizer = optimizer
        self.clip = clip
        self.seed = seed
        self.max_features = max_features
        self.learnt = model.Forecaster(
            _TARGET, time=time, horizon=horizon, kind=kind, cell=cell, hidden=hidden, k1=k1, k2=k2, lr=lr, loss=loss,
            optimizer=optimizer, clip=clip, seed=seed, max_features=max_features, intervals=(),
        )  # fmt: skip
        self._newest: list[float] | None = None

    def learn_one(self, y: float | None, x: dict[Any, Any] | None = None) -> None:
        """Learn the next value (None or NaN: it is missing); InputError if it, or its time, is none."""
        event = {str(name): value for name, value in x.items()} if x else {}
        said = self.learnt.step(event | {_TARGET: y})
        if isinstance(said, BadEvent):
            raise InputError(said.reason.replace(f"target '{_TARGET}'", "value y"))
        if said.forecast is not None:
            self._newest = [said.forecast] if self.horizon == 1 else said.forecast

    def forecast(self, horizon: int, xs: list[dict[Any, Any]] | None = None) -> list[float]:
        """The next `horizon` values; zeros before the first was learnt."""
        if not 1 <= horizon <= self.horizon:
            raise ConfigError(f"forecast({horizon}): this model looks 1 to {self.horizon} steps ahead; make it with "
                              f"horizon={max(horizon, 1)}")  # fmt: skip
        if xs is not None and len(xs) != horizon:
            raise ConfigError(f"forecast({horizon}): xs has {len(xs)} entries; it must have one a step")
        newest = self._newest if self._newest is not None else [0.0] * self.horizon
        return [0.0 if value is None or math.isnan(value) else value for value in newest[:horizon]]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"learnt": self.learnt.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"learnt": model.Forecaster.from_bytes(state["learnt"])})

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield {"hidden": 16, "horizon": 4}
