"""Forecaster: events in, forecasts in the user's units out; it learns from every event after having forecast it.

On an event of key q: `predicted` is q's newest forecast, bit for bit; the values label q's earlier steps and the
update runs; the features enter the network; `forecast` is for the expected time of q's next event. A block goes
through in four passes, each in the order of the events, so that its cut never shows:

    events → fields → columns → features → X, labels → learner → ŷ → base + scale · ŷ → predictions
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn import blob, growth
from stream_rnn.errors import ConfigError, InputError, StateMismatch
from stream_rnn.features import Features, Floats, Inputs, forecasts
from stream_rnn.fields import Block, Fields, names_of
from stream_rnn.keys import Int64s, KeySpace
from stream_rnn.learner import Learner
from stream_rnn.records import BadEvent, Event, Key, Prediction

KINDS = ("rnn",)
LOSSES = ("huber", "squared")
_FORMAT = "forecaster/1"
LIVE = ("lr", "clip")  # settings that may change while it runs


class Forecaster:
    """Forecasts one or several numbers of a stream of events, for each key its own series, with one shared network.

    target: the field to forecast, or several. key: the field(s) that tell series apart. time: the field with the
    event's time. features: fields to learn from besides (None: every numeric one but `ignore`, up to max_features).
    horizon: how many events ahead. Every k1 events of a key the network learns from the newest k2.

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
        kind: str = "rnn",
        cell: str = "gru",
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
            "horizon": horizon, "kind": kind, "cell": cell, "hidden": hidden, "k1": k1, "k2": k2, "lr": lr,
            "loss": loss, "optimizer": optimizer, "clip": clip, "seed": seed, "max_features": max_features,
            "ignore": list(names_of("ignore", ignore)),
        }  # fmt: skip
        self.horizon = horizon
        self.fields = Fields(self.targets, keys, time, named, max_features, self.settings["ignore"])
        self.keyspace = KeySpace()
        self.keyspace.adapt = self._adapt
        self._build(growth.capacity(0, len(named or ())))

    def _build(self, units: int) -> None:
        """Make the tables and the network for so many units of features, all at their start."""
        s = self.settings
        self.features = Features(len(self.targets), self.horizon, units, self.keyspace, bool(self.fields.key))
        self.learner = Learner(
            self.features.inputs, self.features.outputs, cell=s["cell"], hidden=s["hidden"], k1=s["k1"], k2=s["k2"],
            horizon=self.horizon, loss=s["loss"], optimizer=s["optimizer"], lr=s["lr"], clip=s["clip"], seed=s["seed"],
            zero_head=True, keyspace=self.keyspace,
        )  # fmt: skip

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
        keys, time, values = block.keys[start:stop], block.time[start:stop], block.values[start:stop]
        slots = self.features.enter(keys)
        inputs = self.features.read(slots, time, values, *self.fields.layout())
        forecast = self._forecast(slots, inputs)
        predicted = self.features.settle(slots, forecast)
        return self._predictions(keys, time, values, inputs, predicted, forecast)

    def _forecast(self, slots: Int64s, inputs: Inputs) -> Floats:
        """Learn from a block and forecast after each event, (n, outputs)."""
        y = self.learner.advance_many(inputs.X, inputs.labels, lags=self.features.lags, slots=slots)
        return forecasts(inputs.base, inputs.scale, y)

    def _predictions(self, keys: list[Key], time: Floats, values: Floats, inputs: Inputs, predicted: Floats,
                     forecast: Floats) -> list[Prediction]:  # fmt: skip
        actual = np.ascontiguousarray(values[:, : len(self.targets)])
        shown = forecast if self.horizon == 1 else forecast.reshape(len(keys), len(self.targets), self.horizon)
        each = (
            keys, _listed(time), repeat(None), inputs.step.tolist(), self._named(predicted), self._named(actual),
            self._named(actual - predicted), self._named(shown), _listed(inputs.expected),
        )  # fmt: skip
        return list(map(Prediction, *each))

    def _named(self, numbers: Floats) -> list[Any]:
        """Rows for people: a number (None: none yet), or a list of them, or a dict of those by target."""
        if len(self.targets) == 1:
            return _listed(numbers[:, 0])
        columns = [_listed(numbers[:, j]) for j in range(len(self.targets))]
        return [dict(zip(self.targets, row, strict=True)) for row in zip(*columns, strict=True)]

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
        old = self.learner
        growth.replace_tables(self.keyspace, lambda: self._build(units))
        self.learner.load_shared(growth.wider_shared(old, self.learner))

    def _adapt(self, state: bytes) -> bytes | None:
        return growth.wider_state(state, self.keyspace, [self.learner], self.features.units)

    # State --------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """The learner's, and bad events, masked values (of a wrong type) and values of features over the limit."""
        f = self.fields
        return self.learner.counters | {"bad": f.bad, "masked": f.masked, "over_limit": f.over_limit}

    def set_live(self, name: str, value: Any) -> None:
        """Change lr or clip while learning."""
        _among("the setting", name, LIVE)
        if name == "lr":
            _is_rate(value)
        setattr(self.learner, name, value)
        self.settings[name] = value

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """All state that is not per key."""
        learner = {f"learner.{name}": array for name, array in self.learner.shared_arrays().items()}
        return learner | {"fields": self.fields.pack(), "units": np.array([self.features.units], np.int64)}

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
        prefix = "learner."
        self.learner.load_shared({n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)})
        self.fields.unpack(arrays["fields"])

    def to_bytes(self) -> bytes:
        """The whole model; `from_bytes` goes on bit for bit."""
        states = ((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return blob.pack(_FORMAT, self.settings, self.shared_arrays(), states)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Forecaster:
        """The model that `to_bytes` saved."""
        settings, arrays, states = blob.unpack(raw, _FORMAT)
        model = cls(**settings)
        model.load_shared(arrays)
        model.keyspace.load(states)
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all."""
        target = Path(path)
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Forecaster:
        """The model in a file that `save` wrote."""
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
        return cls.from_bytes(raw)

    def __repr__(self) -> str:
        return f"Forecaster({', '.join(self.targets)}; {len(self.keyspace)} keys, {self.learner!r})"


def _listed(numbers: Floats) -> list[Any]:
    """As a list, None for NaN; a row of several is a list, or None where all are."""
    missing = np.isnan(numbers)
    if not missing.any():
        return numbers.tolist()  # type: ignore[no-any-return]
    none: Any = missing if numbers.ndim == 1 else missing.all(axis=1)
    return [None if m else x for m, x in zip(none.tolist(), numbers.tolist(), strict=True)]


def _plain(names: Any) -> Any:
    """Names as JSON has them."""
    return names if names is None or isinstance(names, str) else list(names)


def _among(what: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{what} = {value!r}: it must be one of {', '.join(map(repr, choices))}")


def _is_rate(lr: Any) -> None:
    if isinstance(lr, bool) or not isinstance(lr, (int, float)):
        raise ConfigError(f"lr = {lr!r}: a Forecaster's learning rate is a number, 0.001 for example")


def _at_least(what: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} = {value!r}: it must be a whole number of at least {least}")
