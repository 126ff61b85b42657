"""TextModel: a network that guesses a text symbol by symbol and learns it as it comes, one sequence a key.

The classic use of truncated BPTT: the sequence is cut into segments of k1 symbols, each learnt when it is complete,
with the state carried across. The network is mixed with counts of what followed the last 0 … 8 symbols before
(kernels/contexts.py); kind="rnn" is the network alone.

What is told is the cost: -log₂ of the probability that each symbol was given before it came. A good guess costs
little, a surprise much; their sum is the size to which the text could be compressed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn import blob
from stream_rnn.alphabet import SYMBOLS, alphabet
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.fields import Fields, names_of
from stream_rnn.kernels import contexts as mixing
from stream_rnn.kernels.contexts import COUNT, INPUTS, LEVELS, ORDERS, RECENT, RECORDS, WORDS
from stream_rnn.keys import KeySpace
from stream_rnn.learner import Learner
from stream_rnn.records import BadEvent, Event, Key, Prediction
from stream_rnn.saving import Saved
from stream_rnn.torch_cells import only_ours

Floats = NDArray[np.float64]

KINDS = ("mixture", "rnn")
LIVE = ("lr", "clip")
_FORMAT = "text/1"
_CHUNK = 2048  # symbols at a time; no result depends on it


class TextPrediction(Prediction, gc=False, kw_only=True):
    """What a piece of text cost, in the place of what a number's prediction says."""

    predicted: Any = msgspec.UNSET
    actual: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    forecast: Any = msgspec.UNSET
    forecast_time: Any = msgspec.UNSET
    bytes: int  # of the text in UTF-8, with the line's end that follows it
    bits_per_byte: float
    characters: Any = msgspec.UNSET  # where they are the unit; with the line's end
    bits_per_character: Any = msgspec.UNSET


class TextModel(Saved):
    """Learns texts, for each key its own sequence, with one shared network.

    target: the field with the text (str, or bytes). key, time: as a Forecaster's. unit: "bytes", or "chars"
    (at most 255 different ones have a symbol of their own). Every k1 symbols of a key the network learns from the
    newest k2. contexts: slots of the table of counts, 6 bytes each. max_updates: after so many it guesses on and
    learns nothing more.

    >>> model = TextModel(hidden=16)
    >>> costs = model.learn("the cat sat on the mat. " * 40)
    >>> bool(costs[:24].mean() > 4), bool(costs[-24:].mean() < 1)
    (True, True)
    """

    def __init__(
        self,
        target: str = "text",
        *,
        key: str | Sequence[str] | None = None,
        time: str | None = None,
        unit: str = "bytes",
        kind: str = "mixture",
        contexts: int = 1 << 22,
        cell: str = "lstm",
        hidden: int = 128,
        k1: int = 32,
        k2: int = 32,
        lr: float = 8e-3,
        optimizer: str = "adam",
        clip: float | None = 1.0,
        seed: int = 0,
        max_updates: int | None = None,
    ) -> None:
        if not isinstance(target, str):
            raise ConfigError(f"target = {target!r}: a TextModel learns one field; name it")
        (self.target,) = names_of("target", target, empty=False)
        keys = names_of("key", key)
        if self.target in {*keys, time}:
            raise ConfigError(f"target = {target!r} is also the key or the time; the text is a field of its own")
        only_ours(cell, "TextModel")
        if kind not in KINDS:
            raise ConfigError(f"kind = {kind!r}: it must be one of {', '.join(map(repr, KINDS))}")
        if type(contexts) is not int or contexts < 2 or contexts & (contexts - 1):
            raise ConfigError(f"contexts = {contexts!r}: it must be a power of two, {1 << 22} for example")
        if isinstance(lr, bool) or not isinstance(lr, (int, float)):
            raise ConfigError(f"lr = {lr!r}: a TextModel's learning rate is a number, {8e-3} for example")
        self.settings: dict[str, Any] = {
            "target": target, "key": key if key is None or isinstance(key, str) else list(key), "time": time,
            "unit": unit, "kind": kind, "contexts": contexts, "cell": cell, "hidden": hidden, "k1": k1, "k2": k2,
            "lr": lr, "optimizer": optimizer, "clip": clip, "seed": seed, "max_updates": max_updates,
        }  # fmt: skip
        self.alphabet = alphabet(unit)
        self.keyspace = KeySpace()
        self.learner = Learner(
            SYMBOLS, SYMBOLS, cell=cell, hidden=hidden, k1=k1, k2=k2, loss="cross_entropy", optimizer=optimizer, lr=lr,
            clip=clip, seed=seed, input_kind="classes", max_updates=max_updates, keyspace=self.keyspace,
        )  # fmt: skip
        self.bad = 0
        self._fields = Fields((), keys, time, ())
        template = np.full(WORDS, self.alphabet.end, np.int64)  # a sequence begins as after a line's end
        template[[RECORDS, COUNT]] = 0
        self._rows = self.keyspace.table("text", np.int64, WORDS, template)
        self._place = np.array([self._rows.shift, self._rows.mask, self._rows.stride], np.int64)
        mixed = kind == "mixture"
        self._orders = np.array(ORDERS if mixed else (), np.int64)
        self._chance = np.zeros(contexts if mixed else 2, np.float32)
        self._tag = np.zeros(len(self._chance), np.uint16)
        self._weights = mixing.weights()
        n = len(self._orders)
        self._scratch = (np.zeros((LEVELS, INPUTS + 2)), np.zeros(SYMBOLS + 1), np.zeros(SYMBOLS, np.float32),
                         np.zeros(n, np.uint64), np.zeros((LEVELS, n), np.int64))  # fmt: skip
        self._mix, self._following = mixing.ready()

    # Texts --------------------------------------------------------------------------------------------

    def learn(self, text: str | bytes, key: Key = None) -> Floats:
        """Take in a further piece of a key's sequence, as it stands: what each symbol cost, in bits, (n,)."""
        return self.learn_symbols(self.alphabet.symbols(text), key)[:, 0]

    def learn_symbols(self, symbols: NDArray[np.uint8], key: Key = None) -> Floats:
        """The same from symbols; with what the network alone would have cost beside it, (n, 2)."""
        bits = np.empty((len(symbols), 2))
        if len(symbols):
            self._advance(symbols, np.full(len(symbols), self.keyspace.enter(key), np.int64), bits)
        return bits

    def _advance(self, symbols: NDArray[np.uint8], slots: NDArray[np.int64], bits: Floats) -> None:
        """Take symbols of entered keys through, in pieces; the last symbol of a key is the input for its next."""
        before = np.empty(len(symbols), np.uint8)
        before[1:] = symbols[:-1]
        starts = np.flatnonzero(np.diff(slots, prepend=-1))
        newest: dict[int, int] = {}
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(slots)], strict=True):
            slot = int(slots[start])
            before[start] = newest[slot] if slot in newest else self._rows.row(slot)[RECENT]
            newest[slot] = int(symbols[stop - 1])
        start = 0
        while start < len(symbols):
            stop = min(start + _CHUNK, len(symbols))
            learning = self.learning
            if learning and self.learner.max_updates is not None:
                stop = start + self._until_last_update(slots[start:stop])
            here = slice(start, stop)
            logits = self.learner.step_many(before[here], symbols[here], slots=slots[here])
            self._mix(symbols[here], slots[here], logits, *self._state(), int(learning), bits[here])
            start = stop
        if self.alphabet.extra:
            bits[symbols == 0] += self.alphabet.extra

    @property
    def learning(self) -> bool:
        """Whether it still learns; after max_updates it does not."""
        most = self.learner.max_updates
        return most is None or self.learner.counters["updates"] < most

    def _until_last_update(self, slots: NDArray[np.int64]) -> int:
        """How many of the symbols to come there are up to the one that brings the last update."""
        assert self.learner.max_updates is not None
        left, k1 = self.learner.max_updates - self.learner.counters["updates"], self.learner.k1
        counts: dict[int, int] = {}
        for i, slot in enumerate(slots.tolist()):
            count = counts[slot] = (counts[slot] if slot in counts else int(self._rows.row(slot)[COUNT])) + 1
            left -= count % k1 == 0
            if not left:
                return i + 1
        return len(slots)

    def _state(self) -> tuple[Any, ...]:
        return (self._rows.bases, self._place, self._orders, self._chance, self._tag, self._weights, *self._scratch)

    # Events -------------------------------------------------------------------------------------------

    def step(self, event: Event) -> Prediction | BadEvent:
        """Take one event."""
        return self.step_many([event])[0]

    def step_many(self, events: Sequence[Event]) -> list[Prediction | BadEvent]:
        """Take a block of events, each a text that a line's end is to follow: a TextPrediction or BadEvent each."""
        block = self._fields.read(events)
        rows = [row for row in range(len(events)) if row not in block.bad]
        out: list[Any] = [block.bad.get(row) for row in range(len(events))]
        pieces, good = [], []
        for i, row in enumerate(rows):
            piece = self._symbols(events[row])
            if isinstance(piece, BadEvent):
                out[row] = piece
            else:
                pieces.append(piece)
                good.append(i)
        self.bad += len(events) - len(good)
        if not good:
            return out
        slots = self.keyspace.enter_many([block.keys[i] for i in good])
        sizes = [len(symbols) for symbols, _ in pieces]
        bits = np.empty((sum(sizes), 2))
        self._advance(np.concatenate([symbols for symbols, _ in pieces]), np.repeat(slots, sizes), bits)
        costs = np.add.reduceat(bits[:, 0], np.cumsum([0, *sizes[:-1]])).tolist()
        for i, slot, (symbols, n_bytes), cost in zip(good, slots.tolist(), pieces, costs, strict=True):
            words = self._rows.row(slot)
            words[RECORDS] += 1
            time = float(block.time[i])
            said = TextPrediction(block.keys[i], None if math.isnan(time) else time, None, int(words[RECORDS]),
                                  bytes=n_bytes, bits_per_byte=cost / n_bytes)  # fmt: skip
            if self.settings["unit"] == "chars":
                said.characters, said.bits_per_character = len(symbols), cost / len(symbols)
            out[rows[i]] = said
        return out

    def _symbols(self, event: Event) -> tuple[NDArray[np.uint8], int] | BadEvent:
        """An event's text as symbols with a line's end, and its bytes."""
        text = event.get(self.target)
        if not isinstance(text, (str, bytes)):
            what = "missing" if text is None else f"{text!r:.80}, a {type(text).__name__}"
            return BadEvent(f"the text {self.target!r} is {what}; it must be a text", "target")
        try:
            n_bytes = len(text.encode() if isinstance(text, str) else text) + 1
            return np.append(self.alphabet.symbols(text), np.uint8(self.alphabet.end)), n_bytes
        except UnicodeError as error:
            return BadEvent(f"the text {self.target!r} is no valid Unicode ({error}); unit = \"bytes\" takes any",
                            "target")  # fmt: skip

    # Guesses ------------------------------------------------------------------------------------------

    def probabilities(self, key: Key = None) -> Floats:
        """Of each symbol to come next, (256,); of a key that is not there: as after a line's end."""
        slot = self.keyspace.find(key)
        if slot < 0:
            copy = self._copy()
            copy.keyspace.enter(key)
            return copy.probabilities(key)
        out = np.empty(SYMBOLS)
        logits = self.learner.predict([int(self._rows.row(slot)[RECENT])], key)
        self._following(slot, logits[None], *self._state(), out)
        return out

    def sample(
        self, n: int, key: Key = None, *, start: str | bytes = "", seed: int = 0, temperature: float = 1.0
    ) -> Any:
        """How it would go on: n symbols as text, str or bytes by the unit; nothing changes.

        start: what the key's sequence is taken to go on with first. temperature: below 1, the likely is made likelier.
        """
        if not temperature > 0:
            raise ConfigError(f"temperature = {temperature!r}: it must be a number above 0")
        rng = np.random.default_rng(seed)
        copy = self._copy()
        copy.learn(start, key)
        said = np.zeros(n, np.uint8)
        for i in range(n):
            p = copy.probabilities(key) ** (1.0 / temperature)
            said[i] = rng.choice(SYMBOLS, p=p / p.sum())
            copy.learn_symbols(said[i : i + 1], key)
        return copy.alphabet.text(said)

    def _copy(self) -> TextModel:
        """One that learns nothing any more."""
        copy = TextModel(**self.settings | {"max_updates": 0})
        copy.load_shared(self.shared_arrays())
        copy.keyspace.load((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return copy

    # State --------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        """The learner's, whose steps are symbols, and bad events."""
        return self.learner.counters | {"bad": self.bad}

    def set_live(self, name: str, value: Any) -> None:
        """Change lr or clip while learning."""
        if name not in LIVE:
            raise ConfigError(f"the setting = {name!r}: it must be one of {', '.join(map(repr, LIVE))}")
        setattr(self.learner, name, value)
        self.settings[name] = value

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """All state that is not per key."""
        arrays = {f"learner.{name}": array for name, array in self.learner.shared_arrays().items()}
        if len(self._orders):
            arrays |= {"contexts.chance": self._chance, "contexts.tag": self._tag, "contexts.weights": self._weights}
        return arrays | {"alphabet": self.alphabet.pack(), "bad": np.array([self.bad], np.int64)}

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `shared_arrays` gave, before any key's rows."""
        for name, mine in self.shared_arrays().items():
            fits = name in arrays and (name == "alphabet" or arrays[name].shape == mine.shape)
            if not fits or arrays[name].dtype != mine.dtype:
                raise StateMismatch(f"state array {name!r}: {mine.dtype} {mine.shape} was wanted; "
                                    "this was made with other settings, or is no TextModel's state")  # fmt: skip
        self.learner.load_shared({n.removeprefix("learner."): a for n, a in arrays.items() if n.startswith("learner.")})
        self.alphabet.unpack(arrays["alphabet"])
        self.bad = int(arrays["bad"][0])
        if len(self._orders):
            self._chance[:] = arrays["contexts.chance"]
            self._tag[:] = arrays["contexts.tag"]
            self._weights[:] = arrays["contexts.weights"]

    def weights(self) -> set[str]:
        """The shared arrays that are weights or an optimizer's: what may be taken from an older state of this model."""
        return {n for n in self.shared_arrays() if n not in ("alphabet", "bad", "learner.counters")}

    def to_bytes(self) -> bytes:
        """The whole model; `from_bytes` goes on bit for bit."""
        states = ((key, self.keyspace.get(key)) for key in self.keyspace.slots)
        return blob.pack(_FORMAT, self.settings, self.shared_arrays(), states)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The model that `to_bytes` saved."""
        settings, arrays, states = blob.unpack(raw, _FORMAT)
        model = cls(**settings)
        model.load_shared(arrays)
        model.keyspace.load(states)
        return model

    def __repr__(self) -> str:
        return f"TextModel({self.target}; {len(self.keyspace)} keys, {self.learner!r})"
