"""river's metrics and models beside ours, in `eval`: --metric R2, --baseline river:linear_model.LinearRegression.

A baseline forecasts the same events and is scored on the same pairs. There is one model a key, target and step ahead,
each learning as the values come; its inputs are the newest LAGS values and the event's other numeric fields, through
a StandardScaler, and its target goes through a TargetStandardScaler (without these most of river's models are far off,
or explode). Until it has learnt from FIRST values it forecasts the last one. river's time series models get the bare
values and forecast all steps themselves.
"""

from __future__ import annotations

import abc
import ast
import importlib
import inspect
import math
import pkgutil
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.hints import nearest
from stream_rnn.records import Event

Floats = NDArray[np.float64]

LAGS = 8
FIRST = 10


def metric_maker(name: str, kind: str = "RegressionMetric") -> Callable[[], Any]:
    """What makes that metric of river's; ConfigError if there is none, or it is not of the kind (a base class)."""
    from river import metrics

    found = {n: c for n in metrics.__all__ if inspect.isclass(c := getattr(metrics, n, None))}
    fit = {n: c for n, c in found.items() if issubclass(c, getattr(metrics.base, kind)) and _made(c) is not None}
    if name in fit:
        return fit[name]
    why = f"river's {name} judges something else" if name in found else f"river has no metric {name!r}"
    hint = nearest(name, fit) or nearest(name.upper(), fit)
    raise ConfigError(f"--metric {name}: {why}; there are {', '.join(sorted(fit))}{hint}")


def _made(make: Any) -> Any:
    try:
        return make()
    except Exception:  # it wants arguments
        return None


class Spec:
    """A model named on the command line: `river:module.Class`, or with settings, `river:module.Class(l2=0.1)`."""

    def __init__(self, text: str, kind: str = "series") -> None:
        """kind: what it is to be: "series" (a regressor or a time series model), "regressor" or "classifier"."""
        from river import base
        from river.time_series.base import Forecaster

        self.text = text
        where, _, rest = text.partition(":")
        if where != "river" or not rest:
            raise ConfigError(f"--baseline {text}: write river:module.Class, for example "
                              "river:linear_model.LinearRegression")  # fmt: skip
        path, _, arguments = rest.partition("(")
        self._class = self._find(path.strip())
        self._settings = self._arguments(f"({arguments}") if arguments else {}
        try:
            model = self.make()
        except Exception as error:  # whatever a library may say
            raise ConfigError(f"--baseline {text}: it cannot be made: {error}; settings are given as in "
                              f"river:{path.strip()}(name=value)") from None  # fmt: skip
        self.series = isinstance(model, Forecaster)
        if kind == "series" and not self.series and not isinstance(model, base.Regressor):
            raise ConfigError(f"--baseline {text}: it is no regressor and no time series model of river's")
        if kind != "series" and not isinstance(model, getattr(base, kind.title())):
            raise ConfigError(f"--baseline {text}: it is no {kind} of river's")

    def make(self) -> Any:
        """A new one."""
        return self._class(**self._settings)

    def _find(self, path: str) -> Any:
        module_name, _, name = path.rpartition(".")
        try:
            module = importlib.import_module(f"river.{module_name}" if module_name else "river")
        except ImportError:
            import river

            modules = [m.name for m in pkgutil.iter_modules(river.__path__)]
            raise ConfigError(f"--baseline {self.text}: river has no module {module_name!r}"
                              f"{nearest(module_name, modules)}") from None  # fmt: skip
        names = [n for n in getattr(module, "__all__", dir(module)) if inspect.isclass(getattr(module, n, None))]
        if name not in names:
            raise ConfigError(f"--baseline {self.text}: river.{module_name} has no model {name!r}{nearest(name, names)}"
                              f" (there are {', '.join(names)})")  # fmt: skip
        return getattr(module, name)

    def _arguments(self, text: str) -> dict[str, Any]:
        try:
            call = ast.parse(f"f{text}", mode="eval").body
            assert isinstance(call, ast.Call)
            assert not call.args
            return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        except (SyntaxError, ValueError, AssertionError):
            raise ConfigError(f"--baseline {self.text}: settings are plain values by name, as in (l2=0.1)") from None


class Rival:
    """One baseline over all keys and targets of a stream."""

    def __init__(self, spec: Spec, targets: Sequence[str], horizon: int, left_out: set[str],
                 features: Sequence[str] | None) -> None:  # fmt: skip
        self.name = spec.text
        self._spec, self._targets, self._horizon = spec, tuple(targets), horizon
        self._left_out, self._features = left_out, features
        self._series: dict[tuple[int, int], Any] = {}

    def said(self, events: Sequence[Event], slots: Sequence[int], actual: Floats) -> Floats:
        """What it forecast for each event, step i made i events of the key before, (n, T, H); NaN: nothing.

        slots: the keys' numbers. Then it learns from the event, and forecasts again.
        """
        out = np.full((len(events), len(self._targets), self._horizon), np.nan)
        for e, (event, slot) in enumerate(zip(events, slots, strict=True)):
            found = numbers(event, self._features, self._left_out)
            for j, target in enumerate(self._targets):
                series = self._series.get((slot, j))
                if series is None:
                    make = _Whole if self._spec.series else _Lagged
                    series = self._series[slot, j] = make(self._spec, self._horizon)
                others = {name: v for name, v in found.items() if name != target}
                out[e, j] = series.step(float(actual[e, j]), others)
        return out


def numbers(event: Event, names: Sequence[str] | None, left_out: set[str]) -> dict[str, float]:
    """The event's numeric fields, or of those named the ones that are numbers."""
    return {
        name: float(value)
        for name in (event if names is None else names)
        if name not in left_out and isinstance(value := event.get(name), (int, float)) and math.isfinite(value)
    }


class _Series(abc.ABC):
    """What was forecast for the events to come of one key and target."""

    def __init__(self, spec: Spec, horizon: int) -> None:
        self._made: deque[list[float]] = deque(maxlen=horizon)  # forecasts, the newest first
        self._horizon = horizon

    def step(self, value: float, numbers: dict[str, float]) -> list[float]:
        """Take an event in; what had been forecast for it."""
        told = [made[i] for i, made in enumerate(self._made)]
        told += [math.nan] * (self._horizon - len(told))
        self._made.appendleft(self._forecast(value, numbers))
        return told

    @abc.abstractmethod
    def _forecast(self, value: float, numbers: dict[str, float]) -> list[float]:
        """Learn from an event; forecasts from there, a step each."""


class _Lagged(_Series):
    """A regressor a step ahead, on the newest values and the other fields."""

    def __init__(self, spec: Spec, horizon: int) -> None:
        from river import preprocessing

        super().__init__(spec, horizon)
        self._models = [
            preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(regressor=spec.make())
            for _ in range(horizon)
        ]
        self._inputs: deque[dict[str, float]] = deque(maxlen=horizon)
        self._lags: deque[float] = deque(maxlen=LAGS)
        self._learnt = [0] * horizon

    def _forecast(self, value: float, numbers: dict[str, float]) -> list[float]:
        if not math.isnan(value):
            for i, x in enumerate(self._inputs):
                self._models[i].learn_one(x, value)
                self._learnt[i] += 1
            self._lags.appendleft(value)
        if not self._lags:
            self._inputs.clear()
            return [math.nan] * self._horizon
        x = {f"lag {i}": lag for i, lag in enumerate(self._lags)} | numbers
        self._inputs.appendleft(x)
        last = self._lags[0]
        return [_number(model.predict_one(x), last) if learnt >= FIRST else last
                for model, learnt in zip(self._models, self._learnt, strict=True)]  # fmt: skip


class _Whole(_Series):
    """A time series model."""

    def __init__(self, spec: Spec, horizon: int) -> None:
        super().__init__(spec, horizon)
        self._model = spec.make()
        self._learnt = 0
        self._last = math.nan

    def _forecast(self, value: float, numbers: dict[str, float]) -> list[float]:
        if not math.isnan(value):
            self._model.learn_one(value)
            self._learnt += 1
            self._last = value
        if self._learnt < FIRST:
            return [self._last] * self._horizon
        return [_number(v, self._last) for v in self._model.forecast(self._horizon)]


def _number(value: Any, instead: float) -> float:
    """A forecast, or what takes its place where it is none."""
    return float(value) if value is not None and math.isfinite(value) else instead


class Rivals:
    """Baselines and metrics of an evaluation, and their sums."""

    def __init__(self, rivals: Sequence[Rival], metrics: dict[str, Callable[[], Any]], targets: int) -> None:
        self.rivals = tuple(rivals)
        self.metrics = dict(metrics)
        names = ["ours", "persistence", *(r.name for r in rivals)]
        self._values = {
            name: [{m: make() for m, make in metrics.items()} for _ in range(targets + 1)] for name in names
        }
        self._sums = {name: np.zeros((targets, 3)) for name in names}  # pairs, absolute errors, their squares

    def take(self, events: Sequence[Event], slots: Sequence[int], actual: Floats, said: Floats, last: Floats) -> None:
        """A block: actual (n, T); said and last (n, T, H), ours and the last value, for each event."""
        told = {"ours": said, "persistence": last}
        told |= {rival.name: rival.said(events, slots, actual) for rival in self.rivals}
        truth = np.broadcast_to(actual[:, :, None], said.shape)
        both = ~np.isnan(truth) & ~np.isnan(said) & ~np.isnan(last)  # the same pairs for all
        for j in range(actual.shape[1]):
            here = both[:, j]
            y = truth[:, j][here]
            for name, forecasts in told.items():
                ours = forecasts[:, j][here]
                error = np.abs(ours - y)
                self._sums[name][j] += [len(y), error.sum(), (error**2).sum()]
                for values in (self._values[name][j + 1], self._values[name][0]):
                    for metric in values.values():
                        for a, b in zip(y.tolist(), ours.tolist(), strict=True):
                            metric.update(a, b)

    def told(self, target: int | None) -> dict[str, dict[str, Any]]:
        """Of each baseline, the last value among them: its errors, our skill against it, its metrics."""
        ours = self.errors("ours", target)
        out: dict[str, dict[str, Any]] = {}
        for name in ("persistence", *(r.name for r in self.rivals)):
            theirs = self.errors(name, target)
            out[name] = dict(theirs) if name != "persistence" else {}
            if name != "persistence":
                out[name] |= {f"skill_{m}": _skill(ours[m], theirs[m]) for m in theirs}
            if self.metrics:
                out[name]["metrics"] = self.values(name, target)
        return out

    def values(self, name: str, target: int | None) -> dict[str, float | None]:
        """Metrics of "ours", "persistence" or a rival, for a target or all."""
        found = self._values[name][0 if target is None else target + 1]
        return {m: _finite(metric.get()) for m, metric in found.items()}

    def errors(self, name: str, target: int | None) -> dict[str, float | None]:
        """mae and rmse, of the same."""
        sums = self._sums[name].sum(axis=0) if target is None else self._sums[name][target]
        n, size, square = sums.tolist()
        return {"mae": size / n if n else None, "rmse": math.sqrt(square / n) if n else None}


def _skill(ours: float | None, theirs: float | None) -> float | None:
    return 1.0 - ours / theirs if ours is not None and theirs else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
