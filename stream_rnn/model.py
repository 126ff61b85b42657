"""Forecaster: events in, forecasts in the user's units out; it learns from every event after having forecast it.

On an event of key q: `predicted` is q's newest forecast, bit for bit; the values label q's earlier steps and the
update runs; the features enter the network; `forecast` is for the expected time of q's next event. A block goes
through in a few passes, each in the order of the events, so that its cut never shows:

    events → fields → columns → features → X, labels → learner → ŷ → (experts) → forecasts → intervals → predictions

kind="mixture", the default, mixes the network with experts (experts.py) that carry the forecast while it is new, or
where there is nothing for it to find. kind="rnn" is the network alone: base + scale · ŷ.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn import blob, growth
from stream_rnn.alerts import Watch, tell
from stream_rnn.answers import Answers
from stream_rnn.drift import actions_of
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.experts import NAMES, Experts, loss_of
from stream_rnn.features import Features, Floats, Inputs, forecasts
from stream_rnn.fields import TEXT_UNITS, Block, Fields, names_of
from stream_rnn.intervals import Intervals, levels_of
from stream_rnn.keys import Int64s, KeySpace
from stream_rnn.learner import Learner
from stream_rnn.records import BadEvent, Event, Key, Prediction
from stream_rnn.torch_cells import CellLike, cell_again, is_custom, width_of

KINDS = ("mixture", "rnn")
CELLS = {"mixture": "lstm", "rnn": "gru"}  # unless one is named; in the mixture an LSTM's error is 1 % below a GRU's
LEVELS = {"mixture": (0.5, 0.9), "rnn": ()}  # of the intervals, unless they are named
LOSSES = {  # what they are for a network alone: the learner's loss, and its delta
    "huber": ("huber", 1.0), "mae": ("huber", 0.05), "mse": ("squared", 1.0), "squared": ("squared", 1.0),
}  # fmt: skip
_FORMAT = "forecaster/1"
# of the shared arrays
_NO_WEIGHTS = ("fields", "units", "learner.counters", "learner.torch", "classes", "refused")
# settings that may change while it runs
LIVE = ("lr", "clip", "intervals", "show_experts", "alert_budget", "silent_alerts")


class Forecaster:
    """Forecasts one or several numbers of a stream of events, for each key its own series, with one shared network.

    target: the field to forecast, or several. key: the field(s) that tell series apart. time: the field with the
    event's time. features: fields to learn from besides (None: every numeric one but `ignore`, up to max_features).
    horizon: how many events ahead. Every k1 events of a key the network learns from the newest k2.

    loss: "mae", "mse" (or "squared"), or what is between them, "huber". intervals: the levels between whose bounds
    coming values are to be, up to four; a mixture's are 0.5 and 0.9. show_experts: predictions say who carries them.

    cell, backend, device: as a Learner's. A cell of your own is given room for max_features unnamed features, or all
    named ones, from the beginning: as a class or function (inputs, hidden) it is told how many inputs that makes.

    alert_budget: how many alerts of a key are wanted ("1/week"; None: none), in the long run. silent_alerts: also where
    a key is silent. learn_anomalies: "always", or "down-weight" (one event at a time: ten times slower). drift:
    "none", "page-hinkley" or "adwin"; on_drift: "alert", "boost_lr", or both.

    >>> model = Forecaster("temperature", key="room", time="at")
    >>> p = model.step({"room": "hall", "at": "2024-05-01T10:00", "temperature": 20.5})
    >>> p.predicted, p.forecast, p.step
    (None, 20.5, 1)
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        key: str | Sequence[str] | None = None,
        time: str | None = None,
        features: Sequence[str] | None = None,
        horizon: int = 1,
        kind: str = "mixture",
        cell: CellLike | None = None,
        hidden: int = 32,
        k1: int = 1,
        k2: int = 16,
        lr: float = 1e-3,
        loss: str = "huber",
        optimizer: str = "adam",
        clip: float | None = 1.0,
        seed: int = 0,
        max_features: int = 32,
        ignore: Sequence[str] = (),
        intervals: Sequence[float] | None = None,
        show_experts: bool = False,
        backend: str = "auto",
        device: str = "cpu",
        alert_budget: str | None = "1/week",
        silent_alerts: bool = True,
        learn_anomalies: str = "always",
        drift: str = "none",
        on_drift: str | Sequence[str] = ("alert",),
    ) -> None:
        self.targets = names_of("target", target, empty=False)
        _among("kind", kind, KINDS)
        _among("loss", loss, LOSSES)
        _at_least("horizon", horizon, 1)
        _at_least("max_features", max_features, 0)
        _is_rate(lr)
        keys = names_of("key", key)
        named = None if features is None else names_of("features", features)
        if time is not None and (not isinstance(time, str) or not time):
            raise ConfigError(f"time = {time!r}: give the name of the field, or None where events have no time")
        if both := set(self.targets) & {*keys, time}:
            raise ConfigError(f"target = {both.pop()!r} is also the key or the time; a target is a number of its own")
        if both := set(named or ()) & {*keys, time}:
            raise ConfigError(f"features = {list(named or ())}: {both.pop()!r} is the key or the time, which the model "
                              "knows already; leave it out")  # fmt: skip
        self.settings: dict[str, Any] = {
            "target": _plain(target), "key": _plain(key), "time": time, "features": _plain(features),
            "horizon": horizon, "kind": kind, "cell": "", "hidden": hidden, "k1": k1, "k2": k2,
            "lr": lr, "loss": loss, "optimizer": optimizer, "clip": clip, "seed": seed, "max_features": max_features,
            "ignore": list(names_of("ignore", ignore)),
            "intervals": list(levels_of(LEVELS[kind] if intervals is None else intervals)),
            "show_experts": _is_flag("show_experts", show_experts),
            "alert_budget": alert_budget, "silent_alerts": _is_flag("silent_alerts", silent_alerts),
            "learn_anomalies": learn_anomalies, "drift": drift, "on_drift": list(actions_of(on_drift)),
        }  # fmt: skip
        self._cell: CellLike = CELLS[kind] if cell is None else cell
        self._network: dict[str, Any] = {"backend": backend, "device": device}
        self.horizon = horizon
        self.fields = Fields(self.targets, keys, time, named, max_features, self.settings["ignore"])
        self.keyspace = KeySpace()
        self.keyspace.adapt = self._adapt
        self._build(growth.capacity(0, self._first_units(named, max_features)))
        self.settings["cell"] = self.learner.cell
        if type(self.learner) is not Learner:  # for states of before there was a choice, only said where it is one
            self.settings |= self._network | {"backend": "torch"}
        else:
            self.settings["hidden"] = self.learner.hidden

    def _first_units(self, named: Sequence[str] | None, max_features: int) -> int:
        """Units of features to begin with; a cell of the user's own cannot be widened, and begins with all."""
        if is_custom(self._cell):
            return max_features if named is None else TEXT_UNITS * len(named)
        return len(named or ())

    def _build(self, units: int) -> None:
        """Make the tables and the network for so many units of features, all at their start."""
        s = self.settings
        T, keyed = len(self.targets), bool(self.fields.key)
        self.features = Features(T, self.horizon, units, self.keyspace, keyed)
        self.experts: Experts | None = None
        (network, delta), inputs = LOSSES[s["loss"]], self.features.inputs
        if s["kind"] == "mixture":
            loss, inputs = loss_of(s["loss"]), inputs + Experts.lead_of(T)
            width = width_of(self._cell, inputs, s["hidden"], s["seed"])
            self.experts = Experts(self.features, width, loss, self.keyspace)
            network, delta = loss.network, loss.delta
        before: Learner | None = getattr(self, "learner", None)
        self.learner = Learner(
            inputs, self.features.outputs, cell=self._cell, hidden=s["hidden"], k1=s["k1"],
            k2=s["k2"], horizon=self.horizon, loss=network, delta=delta, optimizer=s["optimizer"], lr=s["lr"],
            clip=s["clip"], seed=s["seed"], zero_head=True, keyspace=self.keyspace, **self._network,
        )  # fmt: skip
        self.learner.stopwatch = None if before is None else before.stopwatch
        self.intervals = Intervals(T, self.horizon, s["intervals"], self.keyspace)
        self.watch = Watch(
            self.targets, self.keyspace, budget=s["alert_budget"], silent=s["silent_alerts"], keyed=keyed,
            drift=s["drift"], on_drift=tuple(s["on_drift"]), learn=s["learn_anomalies"],
        )  # fmt: skip
        self.answers = Answers(self.targets, self.horizon, NAMES)

    # Events -------------------------------------------------------------------------------------------

    def step(self, event: Event) -> Prediction | BadEvent:
        """Take one event."""
        return self.step_many([event])[0]

    def step_many(self, events: Sequence[Event]) -> list[Prediction | BadEvent]:
        """Take a block of events: one Prediction each, or a BadEvent that says why it was left out."""
        block = self.fields.read(events)
        out: list[Prediction | BadEvent] = []
        start = 0
        for stop, units in self._growth(block):
            if stop > start:
                out += self._advance(block, start, stop)
            self._grow(units)
            start = stop
        if start < len(block.keys):
            out += self._advance(block, start, len(block.keys))
        for row in sorted(block.bad):  # rows are of the good events: put the others between them
            out.insert(row, block.bad[row])
        return out

    def _advance(self, block: Block, start: int, stop: int) -> list[Prediction]:
        """Take rows start … stop - 1 through: the model has room for their features."""
        if not self.watch.drifts.boosts and not self.watch.weighs:
            return self._take(block, start, stop)
        out: list[Prediction] = []
        for begin, end in self.watch.drifts.cells(start, stop):  # in each the learning rate stays
            if self.watch.drifts.boosts:
                self.learner.lr = self.settings["lr"] * self.watch.drifts.factor()
            for row in range(begin, end) if self.watch.weighs else (begin,):
                out += self._take(block, row, row + 1 if self.watch.weighs else end)
        return out

    def _take(self, block: Block, start: int, stop: int) -> list[Prediction]:
        """The same; one event at a time where its label's weight depends on how strange it is."""
        keys, time, values = block.keys[start:stop], block.time[start:stop], block.values[start:stop]
        slots = self.features.enter(keys)
        inputs = self.features.read(slots, time, values, *self.fields.layout())
        unit = self.features.unit(inputs)
        watched, weights = None, None
        if self.watch.weighs:
            before = self.features.predicted(int(slots[0]))[None]
            watched = self.watch.look(keys, slots, time, values, before, unit)
            weights = self.watch.weights(watched)
        forecast, shares = self._forecast(slots, time, values, inputs, weights)
        predicted = self.features.settle(slots, forecast)
        half, told = None, None
        if levels := self.intervals.levels:
            half, told = self.intervals.track(slots, values, forecast, unit, inputs.step)
        if watched is None:
            watched = self.watch.look(keys, slots, time, values, predicted, unit)
        actual = np.ascontiguousarray(values[:, : len(self.targets)])
        out = self.answers.predictions(
            keys, time, inputs.step, predicted, actual, forecast, inputs.expected, levels, half, told, shares,
            watched.judged.anomaly, watched.judged.p_value,
        )  # fmt: skip
        for row, alert in watched.alerts.items():
            tell(alert, out[row])
        return out

    def _forecast(
        self, slots: Int64s, time: Floats, values: Floats, inputs: Inputs, weights: NDArray[np.float32] | None
    ) -> tuple[Floats, Floats | None]:
        """Learn from a block and forecast after each event, (n, outputs); and the experts' shares, if to be shown."""
        lags = self.features.lags
        if self.experts is None:
            y = self.learner.advance_many(inputs.X, inputs.labels, lags=lags, slots=slots, weights=weights)
            return forecasts(inputs.base, inputs.scale, y), None
        X, usual = self.experts.read(slots, time, values, inputs)
        y, hidden = self.learner.advance_many(X, inputs.labels, lags=lags, slots=slots, weights=weights,
                                              return_hidden=True)  # fmt: skip
        shown = self.settings["show_experts"]
        forecast, shares = self.experts.mix(slots, values, X, usual, inputs, y, hidden, shown)
        return forecast, shares if shown else None

    def experts_of(self, key: Key) -> Any:
        """Who carries a key's forecasts now, as a Prediction's `experts`; None without a mixture or such a key."""
        slot = self.keyspace.find(key)
        if self.experts is None or slot < 0:
            return None
        return self.answers.shares(self.experts.shares(slot)[None])[0]

    def forget(self, keys: Sequence[Key]) -> None:
        """Be told that these keys have been dropped from `keyspace`, for good: they begin afresh if they come again."""
        self.watch.forget(keys)

    # Features that turn up later ----------------------------------------------------------------------

    def _growth(self, block: Block) -> Iterator[tuple[int, int]]:
        """(row, units): from this row of the block on the model needs room for so many units."""
        units = self.features.units
        for row, needed in dict(block.cuts).items():
            if needed > units:
                units = growth.capacity(units, needed)
                yield row, units

    def _grow(self, units: int) -> None:
        """Make room; what has been learnt stays, bit for bit, and the new inputs begin at zero weights."""
        if not self.learner.counters["steps"]:
            self.keyspace.tables.clear()
            self._build(units)
            return
        learner, experts, watch = self.learner, self.experts, self.watch
        growth.replace_tables(self.keyspace, lambda: self._build(units))
        self.learner.load_shared(growth.wider_shared(learner, self.learner))
        if experts is not None and self.experts is not None:
            self.experts.take_over(experts)
        self.watch.take_over(watch)

    def _adapt(self, state: bytes) -> bytes | None:
        if is_custom(self.learner.cell):  # never grows
            return None
        return growth.wider_state(state, self.keyspace, [self.learner], self.features.units,
                                  {} if self.experts is None else self.experts.tails)  # fmt: skip

    # State --------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """The learner's, and bad events, masked values (of a wrong type) and values of features over the limit."""
        f = self.fields
        return self.learner.counters | {"bad": f.bad, "masked": f.masked, "over_limit": f.over_limit}

    def set_live(self, name: str, value: Any) -> None:
        """Change lr, clip, the levels of intervals, whether experts are shown, or what is alerted, while learning."""
        _among("the setting", name, LIVE)
        if name == "intervals":
            self.intervals.levels = levels_of(value)
            value = list(self.intervals.levels)
        elif name == "alert_budget":
            self.watch.anomalies.budget = value
        elif name == "silent_alerts":
            self.watch.silent = _is_flag(name, value)
        elif name == "show_experts":
            _is_flag(name, value)
        else:
            if name == "lr":
                _is_rate(value)
            setattr(self.learner, name, value)
        self.settings[name] = value

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """All state that is not per key."""
        arrays = {f"learner.{name}": array for name, array in self.learner.shared_arrays().items()}
        if self.experts is not None:
            arrays |= {f"experts.{name}": array for name, array in self.experts.shared_arrays().items()}
        arrays |= {f"watch.{name}": array for name, array in self.watch.arrays().items()}
        return arrays | {"fields": self.fields.pack(), "units": np.array([self.features.units], np.int64)}

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `shared_arrays` gave, before any key's rows."""
        if missing := {"fields", "units"} - arrays.keys():
            raise StateMismatch(f"state array {missing.pop()!r} is missing: this is no Forecaster's state")
        units = int(arrays["units"][0])
        if units != self.features.units:
            if len(self.keyspace):
                raise StateMismatch(f"the saved state has room for {units} features and this model for "
                                    f"{self.features.units}, with keys in it; load it into a new model")  # fmt: skip
            self.keyspace.tables.clear()
            self.keyspace.keys.clear()
            self._build(units)
        self.learner.load_shared(_under("learner.", arrays))
        if self.experts is not None:
            self.experts.load_shared(_under("experts.", arrays))
        self.watch.load(_under("watch.", arrays))
        self.fields.unpack(arrays["fields"])

    def weights(self) -> set[str]:
        """The shared arrays that are weights or an optimizer's: what may be taken from an older state of this model."""
        return set(filter(is_weight, self.shared_arrays()))

    def to_bytes(self) -> bytes:
        """The whole model; `from_bytes` goes on bit for bit."""
        states = ((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return blob.pack(_FORMAT, self.settings, self.shared_arrays(), states)

    @classmethod
    def from_bytes(cls, raw: bytes, *, cell: CellLike | None = None) -> Forecaster:
        """The model that `to_bytes` saved; cell: again, where it is not one of ours (it is code, and not saved)."""
        settings, arrays, states = blob.unpack(raw, _FORMAT)
        settings["cell"] = cell_again(settings["cell"], cell, "Forecaster.load(path, cell=…)")
        model = cls(**settings)
        model.load_shared(arrays)
        model.keyspace.load(states)
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all."""
        blob.write_whole(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, cell: CellLike | None = None) -> Forecaster:
        """The model in a file that `save` wrote; cell: as in `from_bytes`."""
        return cls.from_bytes(blob.read_whole(path), cell=cell)

    @property
    def again(self) -> Callable[[bytes | None], Forecaster]:
        """What makes another model like this one: from what `to_bytes` gave, or (None) with nothing learnt."""
        return partial(_again, dict(self.settings), self._cell)

    def __repr__(self) -> str:
        return f"Forecaster({', '.join(self.targets)}; {len(self.keyspace)} keys, {self.learner!r})"


def is_weight(name: str) -> bool:
    """Whether a shared array of that name is a Forecaster's weights or optimizer."""
    return name not in _NO_WEIGHTS and not name.startswith("watch.")


def _again(settings: dict[str, Any], cell: CellLike, raw: bytes | None) -> Forecaster:
    if raw is not None:
        return Forecaster.from_bytes(raw, cell=cell)
    return Forecaster(**settings | {"cell": cell})


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose name has the prefix, without it."""
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _plain(names: Any) -> Any:
    """Names as JSON has them."""
    return names if names is None or isinstance(names, str) else list(names)


def _among(what: str, value: Any, choices: Collection[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{what} = {value!r}: it must be one of {', '.join(map(repr, choices))}")


def _is_rate(lr: Any) -> None:
    if isinstance(lr, bool) or not isinstance(lr, (int, float)):
        raise ConfigError(f"lr = {lr!r}: a Forecaster's learning rate is a number, 0.001 for example")


def _is_flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} = {value!r}: it must be True or False")
    return value


def _at_least(what: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} = {value!r}: it must be a whole number of at least {least}")
