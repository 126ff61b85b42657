"""What Regressor and Classifier share: events and their labels, at once or later, in; predictions out.

A block is a sequence of events and of late labels, in the order of the log, and goes through in a few passes:

    records → fields, labels, ids → back (which event?) → X, goal → learner → ŷ, hidden → experts → predictions

An event is predicted from its features, its time and what was known before it; then its label, if it brings one, is
learnt. A late label {key, id, label} is learnt with what was kept of its event: inputs, hidden state and what the
experts said of it then, for the newest `max_delay` events of each key. Nothing is learnt from a label before its
record, and nothing that was told of an event changes afterwards.

A record is a late label if it has an id and a label and not one of the features (fields.py says what a feature is);
every other record is an event. Ids are kept as 64-bit hashes; of two events with one id the newer has the label.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn import blob, growth
from stream_rnn.answers import listed
from stream_rnn.classes import Classes
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.features import KEY_WORDS, key_vector
from stream_rnn.fields import Fields, flat_events, key_of, names_of, number
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.gains import identity
from stream_rnn.kernels.labels import (
    CLOCK_INPUTS,
    EACH,
    EVENTS,
    FIND_EVENTS,
    HEAD,
    LAST,
    LAST_TIME,
    NORM_WORDS,
    NUMBER_INPUTS,
    READ_EVENTS,
    TWICE,
    UNIT_WORDS,
    find_events,
    read_events,
)
from stream_rnn.keys import KeySpace, plain_key
from stream_rnn.learner import Learner
from stream_rnn.records import BadEvent, Event, Key, Prediction
from stream_rnn.saving import Saved
from stream_rnn.torch_cells import only_ours

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Int64s = NDArray[np.int64]
Table = tuple[Any, int, NDArray[Any] | None]  # dtype, words, template

_LATE_ONLY = "it has an id and a label and no feature, so it is the label of an event before it"


class Batch(NamedTuple):
    """A block of good records; columns of n."""

    keys: list[Key]
    time: Floats
    values: Floats  # (n, features)
    labels: Floats  # numbers or codes of classes, NaN: none, inf: of a class that is new
    told: list[Any]  # labels as they came, None: none
    ids: Int64s  # hashes, 0: none
    shown: list[Any]  # ids as they came
    late: NDArray[np.bool_]

    def part(self, rows: Any) -> Batch:
        """Some of the rows: a slice, or flags."""
        if isinstance(rows, slice):
            return Batch._make(column[rows] for column in self)
        where = np.flatnonzero(rows)
        return Batch._make(c[where] if isinstance(c, np.ndarray) else [c[i] for i in where.tolist()] for c in self)


class Seen(NamedTuple):
    """What the passes over a batch have found; arrays of n."""

    slots: Int64s
    back: Int64s  # see kernels/labels.py
    step: Int64s
    X: Floats32
    line: Floats32
    goal: Floats32
    last: Floats
    norm: Floats


class Labelled(Saved):
    """Base of the two models; a subclass says what its labels, its experts and its predictions are."""

    learner: Learner
    task: ClassVar[str]
    live: ClassVar[tuple[str, ...]] = ("lr", "clip")
    _format: ClassVar[str]

    def _begin(self, settings: dict[str, Any]) -> None:
        """Check the settings that both have and make the model."""
        s = settings
        only_ours(s["cell"], type(self).__name__)
        keys = names_of("key", s["key"])
        features = None if s["features"] is None else names_of("features", s["features"])
        for name in ("label", "id", "time"):
            if s[name] is not None and (not isinstance(s[name], str) or not s[name]):
                raise ConfigError(f"{name} = {s[name]!r}: give the name of the field, or None where there is none")
        for name in ("label", "id"):
            if s[name] is not None and s[name] in {*keys, s["time"], *(features or ())}:
                raise ConfigError(f"{name} = {s[name]!r} is also the key, the time or a feature; it is a field of its "
                                  "own: a model must not see what it is to predict")  # fmt: skip
        if s["label"] is not None and s["label"] == s["id"]:
            raise ConfigError(f"id = {s['id']!r} is also the label; it is a field of its own")
        if both := set(features or ()) & {*keys, s["time"]}:
            raise ConfigError(f"features = {list(features or ())}: {both.pop()!r} is the key or the time, which the "
                              "model knows already; leave it out")  # fmt: skip
        for name in ("max_features", "max_delay"):
            _whole(name, s[name], 0)
        if s["cell"] not in ("gru", "lstm", "elman"):
            raise ConfigError(f"cell = {s['cell']!r}: it must be one of 'gru', 'lstm', 'elman'; torch's are for a "
                              "Forecaster")  # fmt: skip
        if isinstance(s["lr"], bool) or not isinstance(s["lr"], (int, float)):
            raise ConfigError(f"lr = {s['lr']!r}: the learning rate of this model is a number, 0.001 for example")
        s |= {name: _plain(s[name]) for name in ("key", "features")}
        s["ignore"] = list(names_of("ignore", s["ignore"]))
        self.settings = s
        self.classes = Classes()
        self._known = 0  # of them, before the records that are going through
        for name, value in s.items():  # river's tools look for them
            setattr(self, name, value)
        self._kept = 1 + (s["max_delay"] if s["id"] is not None else 0)
        ignored = [name for name in (s["label"], s["id"], *s["ignore"]) if name is not None]
        self.fields = Fields((), keys, s["time"], features, s["max_features"], ignored)
        self._dotted = tuple(n for n in (*ignored, *keys, s["time"] or "", *(features or ())) if "." in n)
        self._refused = {"label": 0, "id": 0, "classes": 0, "unknown": 0, "twice": 0}
        self.keyspace = KeySpace()
        self.keyspace.adapt = self._adapt
        self._find = compiled(find_events, FIND_EVENTS, "the labels' kernels")
        self._read_events = compiled(read_events, READ_EVENTS, "the labels' kernels")
        self._build(growth.capacity(0, len(features or ())))

    def _build(self, units: int) -> None:
        """Make tables and network for so many units of features, all at their start."""
        s = self.settings
        self._units = units
        self._sizes = np.array([self._classes, self._kept, self._key_words], np.int64)
        self._tables = {n: self.keyspace.table(n, *table) for n, table in self._layout(units).items()}
        self._places = {n: np.array([t.shift, t.mask, t.stride], np.int64) for n, t in self._tables.items()}
        loss = self._network_loss()
        self.learner = Learner(
            self._inputs(units), max(1, self._classes), cell=s["cell"], hidden=s["hidden"], k1=s["k1"], k2=s["k2"],
            optimizer=s["optimizer"], lr=s["lr"], clip=s["clip"], seed=s["seed"], zero_head=True,
            wait=self._kept if self._kept > 1 else 0, keyspace=self.keyspace, **loss,
        )  # fmt: skip
        R = 1 + self._inputs(units)
        self.P1, self.P2 = (self._first_P * identity(n) for n in (R, R + s["hidden"]))
        self.w1, self.w2 = (np.zeros((*self._weight_shape, n)) for n in (R, R + s["hidden"]))

    # What a subclass says -----------------------------------------------------------------------------

    _classes: int  # room for classes; 0: labels are numbers
    _first_P: float
    _weight_shape: tuple[int, ...]

    @abstractmethod
    def _network_loss(self) -> dict[str, Any]:
        """The learner's arguments about its loss."""

    @abstractmethod
    def _more_tables(self, units: int) -> dict[str, Table]:
        """Tables besides those of the inputs; room for more units is zeros at a row's end."""

    @abstractmethod
    def _read_labels(self, column: Sequence[Any]) -> tuple[Floats, list[Any], dict[int, str]]:
        """Labels as numbers (NaN: none, inf: a class that is new), as they are told, and why some are none, by row."""

    def _enter_class(self, batch: Batch) -> BadEvent | None:
        """Give the one record's new class its code, or say why not; numbers have no classes."""

    @abstractmethod
    def _mix(self, batch: Batch, seen: Seen, y: Floats32, hidden: Floats32) -> tuple[Any, ...]:
        """Run the experts; columns of n: predicted, error, predicted_interval, probabilities."""

    # Events -------------------------------------------------------------------------------------------

    def step(self, event: Event) -> Prediction | BadEvent:
        """Take one record, an event or a late label."""
        return self.step_many([event])[0]

    def step_many(self, events: Sequence[Event]) -> list[Prediction | BadEvent]:
        """Take a block of records: one Prediction each, or a BadEvent that says why it was left out.

        Of an event: `predicted` before its label was used, with `actual` and `error` where it brought one. Of a late
        label: what had been `predicted` of its event, with that event's `step`, and `actual` and `error`.
        """
        flat = flat_events(events, self._dotted) if self._dotted else events
        label = self.settings["label"]
        column = [None] * len(flat) if label is None else [e.get(label) for e in flat]
        return self._take(flat, column)

    def learn(self, key: Key, id: Any, label: Any) -> Prediction | BadEvent:
        """Learn a label that came later, of the event with that id; as a record {key, id, label} would."""
        if self.settings["id"] is None:
            raise ConfigError("learn() finds an event by its id: make the model with id='…', the field that holds it")
        labels, told, wrong = self._read_labels([label])
        try:
            hashed = hash_of(id)
        except ValueError as error:
            return self._refuse("id", f"the id is {id!r}: {error}")
        if wrong:
            return self._refuse("label", f"the label is {label!r}: {wrong[0]}")
        if told[0] is None:
            return self._refuse("label", f"the label of the event {id!r} is missing")
        none = np.full((1, len(self.fields.places)), np.nan)
        now, ids = np.full(1, np.nan), np.array([hashed])
        batch = Batch([plain_key(key)], now, none, labels, told, ids, [id], np.ones(1, bool))
        return self._advance(batch)[0]

    def _take(self, events: Sequence[Event], column: list[Any]) -> list[Prediction | BadEvent]:
        """Flat records and their labels through."""
        name, bad = self.settings["id"], {}
        labels, told, wrong = self._read_labels(column)
        for row, why in wrong.items():
            bad[row] = self._refuse("label", f"the label {self.settings['label']!r} is {_show(column[row])}: {why}")
        ids, shown = np.zeros(len(events), np.int64), [None] * len(events)
        if name is not None:
            shown = [e.get(name) for e in events]
            for row, value in enumerate(shown):
                try:
                    ids[row] = hash_of(value)
                except ValueError as error:
                    bad.setdefault(row, self._refuse("id", f"the id field {name!r} is {_show(value)}: {error}"))
        fine = [row for row in range(len(events)) if row not in bad] if bad else range(len(events))
        block = self.fields.read([events[row] for row in fine] if bad else events)
        if block.bad:
            bad |= {fine[row]: event for row, event in block.bad.items()}
            fine = [row for row in range(len(events)) if row not in bad]
        if bad:
            labels, ids = labels[fine], ids[fine]
            told, shown = [told[row] for row in fine], [shown[row] for row in fine]
        late = (ids != 0) & ~np.isnan(labels)
        if late.any():
            late &= np.isnan(block.values).all(axis=1)
        batch = Batch(block.keys, block.time, block.values, labels, told, ids, shown, late)
        out: list[Prediction | BadEvent] = []
        start = 0
        for stop, units in self._cuts(batch, dict(block.cuts)):
            if stop > start:
                out += self._advance(batch.part(slice(start, stop)))
                start = stop
            if units:
                self._grow(units)
        if start < len(batch.keys):
            out += self._advance(batch.part(slice(start, None)))
        for row in sorted(bad):
            out.insert(row, bad[row])
        return out

    def _cuts(self, batch: Batch, needed: dict[int, int]) -> Iterator[tuple[int, int]]:
        """(row, units): before this row the block is cut, and the model grows to so many units (0: it does not).

        A row whose label is of a new class goes through alone.
        """
        units = self._units
        alone = np.flatnonzero(np.isinf(batch.labels)).tolist()
        for row in sorted({*needed, *alone, *(row + 1 for row in alone)}):
            more = 0
            if needed.get(row, 0) > units:
                more = units = growth.capacity(units, needed[row])
            yield row, more

    def _advance(self, batch: Batch) -> list[Prediction | BadEvent]:
        """Take records through for whose features there is room; one whose label is of a new class comes alone."""
        self._known = len(self.classes.values)
        nowhere = self._of_no_key(batch)
        if np.isinf(batch.labels[0]) and not nowhere:
            if batch.late[0] and not self._waits(batch):
                batch.labels[0] = 0.0  # it will be refused: the class has had no label
            elif (refused := self._enter_class(batch)) is not None:
                return [refused]
        good = batch if not nowhere else batch.part([row not in nowhere for row in range(len(batch.keys))])
        out: list[Prediction | BadEvent] = []
        if good.keys:
            slots = self._enter(good.keys)
            seen = self._look(slots, good)
            y, hidden = self.learner.take_many(seen.X, seen.goal, np.where(good.late, np.maximum(seen.back, 0), -1),
                                               slots=slots, return_hidden=True)  # fmt: skip
            out = self._answers(good, seen, y, hidden)
        for row in sorted(nowhere):
            out.insert(row, self._unknown(batch, row))
        return out

    def _waits(self, batch: Batch) -> bool:
        """Whether the event of one late label is there and waits for it."""
        (slot,) = self._enter(batch.keys)
        ring = self._tables["ids"].row(int(slot)).reshape(-1, 2)
        done = int(self._tables["events"].row(int(slot))[EVENTS])
        newest = [ring[s % self._kept] for s in range(done - 1, max(-1, done - 1 - self._kept), -1)]
        found = next((labelled for hashed, labelled in newest if hashed == batch.ids[0]), 1)
        return not found

    def _of_no_key(self, batch: Batch) -> set[int]:
        """Rows of late labels whose key has had no event; they make no key."""
        if not batch.late.any():
            return set()
        space, nowhere, here = self.keyspace, set(), set()
        for row, (key, late) in enumerate(zip(batch.keys, batch.late.tolist(), strict=True)):
            if not late:
                here.add(key)
            elif key not in space.slots and key not in here and (space.recall is None or space.recall(key) is None):
                nowhere.add(row)
        return nowhere

    def _enter(self, keys: Sequence[Key]) -> Int64s:
        """The slots of a block's keys; a new key gets its vector."""
        new = [k for k in dict.fromkeys(keys) if k not in self.keyspace.slots] if self._key_words else []
        slots = self.keyspace.enter_many(keys)
        for key in new:
            self._tables["events"].row(self.keyspace.slots[key])[-self._key_words :] = key_vector(key)
        return slots

    def _look(self, slots: Int64s, batch: Batch) -> Seen:
        """Find the events of late labels, and read what the others say."""
        n, units = len(slots), self._units
        back, step = np.empty(n, np.int64), np.empty(n, np.int64)
        events = self._address("events")
        labelled = (~np.isnan(batch.labels)).astype(np.int64)
        self._find(slots, batch.late.astype(np.int64), batch.ids, labelled, self._kept, *events,
                   *self._address("ids"), back, step)  # fmt: skip
        seen = Seen(
            slots, back, step, np.zeros((n, self._inputs(units)), np.float32), np.zeros((n, units), np.float32),
            np.empty(n, np.float32), np.empty(n), np.empty((n, NORM_WORDS)),
        )  # fmt: skip
        self._read_events(slots, back, step, batch.time, batch.values, batch.labels, *self.fields.layout(), self._sizes,
                          *events, *self._address("inputs"), *seen[3:])  # fmt: skip
        return seen

    def _answers(self, batch: Batch, seen: Seen, y: Floats32, hidden: Floats32) -> list[Prediction | BadEvent]:
        """The predictions, and BadEvents in the place of labels that found no event."""
        predicted, error, interval, probabilities = self._mix(batch, seen, y, hidden)
        times = batch.time.tolist()
        if np.isnan(batch.time).any():
            times = listed(batch.time)
        ids: Any = repeat(msgspec.UNSET) if self.settings["id"] is None else batch.shown
        none, unset = repeat(None), repeat(msgspec.UNSET)
        columns = (batch.keys, times, none, seen.step.tolist(), predicted, batch.told, error, none, none, unset,
                   interval, unset, unset, unset, unset, ids, probabilities)  # fmt: skip
        out: list[Any] = list(map(Prediction, *columns))
        for row in np.flatnonzero(seen.back < -1).tolist():
            out[row] = self._unknown(batch, row, seen.back[row] == TWICE)
        return out

    def _unknown(self, batch: Batch, row: int, twice: bool = False) -> BadEvent:
        of = "" if batch.keys[row] is None else f" of key {batch.keys[row]!r}"
        if twice:
            return self._refuse("twice", f"{_LATE_ONLY}; but the event {batch.shown[row]!r}{of} has its label already")
        s = self.settings
        return self._refuse("unknown", f"{_LATE_ONLY}; but none of the newest {s['max_delay']} events{of} has the id "
                            f"{batch.shown[row]!r}: it never came, or more events ago than max_delay says")  # fmt: skip

    def _refuse(self, cause: str, reason: str) -> BadEvent:
        self._refused[cause] += 1
        return BadEvent(reason, {"unknown": "label_expired", "twice": "label_twice"}.get(cause, cause))

    # Looking without learning -------------------------------------------------------------------------

    def look(self, event: Event) -> Prediction | BadEvent:
        """What `step` would predict of this event, as if it came now; nothing changes."""
        s, space, fields = self.settings, self.keyspace, self.fields
        known = {*fields.places, *fields.key, *((s["time"],) if s["time"] else ()), "@timestamp", "@key"}
        flat = flat_events([event], self._dotted)[0]
        counts = fields.masked, fields.over_limit, fields.bad
        block = fields.read([{n: v for n, v in flat.items() if n in known}])
        fields.masked, fields.over_limit, fields.bad = counts
        if block.bad:
            return block.bad[0]
        key, clock = block.keys[0], space.clock
        slot = space.find(key)
        before = None if slot < 0 else (space.get(key), int(space.changed[slot]), int(space.last_seen[slot]))
        batch = Batch(block.keys, block.time, block.values, np.full(1, np.nan), [None], np.zeros(1, np.int64), [None],
                      np.zeros(1, bool))  # fmt: skip
        self._known = len(self.classes.values)
        slots = self._enter(batch.keys)
        seen = self._look(slots, batch)
        y, hidden = self.learner.look_many(seen.X, slots)
        (prediction,) = self._answers(batch, seen, y, hidden)
        if before is None:
            space.forget(key)
        else:
            space.put(key, before[0])
            space.changed[slot], space.last_seen[slot] = before[1:]
        space.clock = clock
        return prediction

    # Features that turn up later ----------------------------------------------------------------------

    def _inputs(self, units: int) -> int:
        """Of the network."""
        return CLOCK_INPUTS + (self._classes or NUMBER_INPUTS) + self._key_words + EACH * units

    @property
    def _key_words(self) -> int:
        return KEY_WORDS if self.fields.key else 0

    def _layout(self, units: int) -> dict[str, Table]:
        """Name → dtype, words and template of a row of each table but the learner's."""
        events = np.zeros(HEAD + NORM_WORDS * self._kept + self._key_words)
        events[[LAST_TIME, LAST]] = np.nan
        inputs = max(1, units) * UNIT_WORDS
        return {"events": (np.float64, len(events), events), "ids": (np.int64, 2 * self._kept, None),
                "inputs": (np.float64, inputs, None), **self._more_tables(units)}  # fmt: skip

    def _grow(self, units: int) -> None:
        """Make room; what has been learnt stays, bit for bit, and new inputs begin at zero weights."""
        if not self.learner.counters["steps"] and not len(self.keyspace):
            self.keyspace.clear()
            self._build(units)
            return
        learner, old = self.learner, (self.P1, self.w1, self.P2, self.w2)
        growth.replace_tables(self.keyspace, lambda: self._build(units))
        self.learner.load_shared(growth.wider_shared(learner, self.learner))
        for P, w, P_before, w_before in ((self.P1, self.w1, *old[:2]), (self.P2, self.w2, *old[2:])):
            growth.wider_regression(P, w, P_before, w_before)

    def _adapt(self, state: bytes) -> bytes | None:
        """A key's state from when there was room for fewer units, as today's tables take it; None: it is none."""
        for before in range(0, self._units, growth.UNITS):
            words = {name: table[1] for name, table in self._layout(before).items()}
            I = self._inputs(before)
            words["learner"] = growth.learner_words(self.learner, I)
            tables = self.keyspace.tables
            if sum(words[name] * table.dtype.itemsize for name, table in tables.items()) == len(state):
                return growth.wider_rows(state, tables, words, {"learner": (self.learner, I)})
        return None

    def _address(self, *names: str) -> list[Int64s]:
        """Where the rows of tables are, as the kernels take it."""
        return [a for name in names for a in (self._tables[name].bases, self._places[name])]

    # State --------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """The learner's, and: records refused (bad); values masked, and those of features over the limit; labels that
        came for no event that is kept (expired), for one that had its label (twice), or of a class too many."""
        f, r = self.fields, self._refused
        return self.learner.counters | {
            "bad": f.bad + sum(r.values()), "masked": f.masked, "over_limit": f.over_limit, "expired": r["unknown"],
            "twice": r["twice"], "over_classes": r["classes"],
        }  # fmt: skip

    def set_live(self, name: str, value: Any) -> None:
        """Change one of the settings that may, while learning."""
        if name not in self.live:
            raise ConfigError(f"the setting = {name!r}: it must be one of {', '.join(map(repr, self.live))}")
        value = self._set(name, value)
        self.settings[name] = value
        setattr(self, name, value)

    def _set(self, name: str, value: Any) -> Any:
        setattr(self.learner, name, value)
        return value

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """All state that is not per key."""
        arrays = {f"learner.{name}": array for name, array in self.learner.shared_arrays().items()}
        refused = np.array(list(self._refused.values()), np.int64)
        return arrays | {"fields": self.fields.pack(), "units": np.array([self._units], np.int64), "refused": refused,
                         "P1": self.P1, "P2": self.P2, "w1": self.w1, "w2": self.w2}  # fmt: skip

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `shared_arrays` gave, before any key's rows."""
        wanted = self.shared_arrays()
        if missing := wanted.keys() - arrays.keys():
            raise StateMismatch(f"state array {min(missing)!r} is missing: this is no {type(self).__name__}'s state")
        units = int(arrays["units"][0])
        if units != self._units:
            if len(self.keyspace):
                raise StateMismatch(f"the saved state has room for {units} features and this model for {self._units}, "
                                    "with keys in it; load it into a new model")  # fmt: skip
            self.keyspace.clear()
            self._build(units)
        self.learner.load_shared({n.removeprefix("learner."): a for n, a in arrays.items() if n.startswith("learner.")})
        for name in self._fixed():
            mine = self.shared_arrays()[name]
            if mine.shape != arrays[name].shape:
                raise StateMismatch(f"state array {name!r} has shape {arrays[name].shape}, not {mine.shape}; it was "
                                    "made with other settings")  # fmt: skip
            mine[:] = arrays[name]
        self._refused = dict(zip(self._refused, map(int, arrays["refused"]), strict=True))
        self.fields.unpack(arrays["fields"])

    def _fixed(self) -> tuple[str, ...]:
        """Shared arrays that are set in place."""
        return ("P1", "P2", "w1", "w2")

    def to_bytes(self) -> bytes:
        """The whole model; `from_bytes` goes on bit for bit."""
        states = ((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return blob.pack(self._format, self.settings, self.shared_arrays(), states)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The model that `to_bytes` saved."""
        settings, arrays, states = blob.unpack(raw, cls._format)
        model = cls(**settings)
        model.load_shared(arrays)
        model.keyspace.load(states)
        return model


def hash_of(id: Any) -> int:
    """64 bits of an id, the same everywhere, never 0; 0 for none. ValueError says why it cannot be one.

    >>> hash_of(None), hash_of(7) == hash_of(7.0), hash_of("7") == hash_of(7)
    (0, True, False)
    """
    if id is None or (isinstance(id, (str, float)) and math.isnan(number(id))):
        return 0
    digest = hashlib.blake2b(blob.pack_key(key_of(id)), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


def _plain(names: Any) -> Any:
    """Names as JSON has them."""
    return names if names is None or isinstance(names, str) else list(names)


def _whole(what: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} = {value!r}: it must be a whole number of at least {least}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
