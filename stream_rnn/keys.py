"""Keys and their rows: which slot a key has, and fixed-size rows of memory by slot.

Everything that is kept per key (a learner's hidden state and ring, a scaler, an expert) is one row in a
`Rows` table; a `KeySpace` numbers the keys and owns the tables, so that one set of slots serves them all
and a key's whole state is the concatenation of its rows. Tables grow by slabs that never move: compiled
kernels hold addresses. New rows start as the table's template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import StateMismatch
from stream_rnn.records import Key

_SLAB_BYTES = 1 << 20
_LOAD_KEYS = 1000  # at a time
_LINE = 64  # bytes of a cache line: every row starts on one

Int64s = NDArray[np.int64]


class Rows:
    """A table of one row a slot: `words` numbers of `dtype` each, padded to whole cache lines.

    Row s lies at bases[s >> shift] + (s & mask) * stride bytes. Memory is touched only when a row is used.
    """

    def __init__(self, name: str, dtype: Any, words: int, template: NDArray[Any] | None = None) -> None:
        self.name = name
        self.dtype = np.dtype(dtype)
        self.words = words
        self.stride = -(-words * self.dtype.itemsize // _LINE) * _LINE
        self.shift = max(0, (_SLAB_BYTES // self.stride).bit_length() - 1)
        self.mask = (1 << self.shift) - 1
        self.bases: Int64s = np.zeros(0, np.int64)
        self.bytes = words * self.dtype.itemsize
        self._slabs: list[NDArray[np.uint8]] = []
        self._template = np.zeros(words, self.dtype) if template is None else template.astype(self.dtype)
        self._zero = not self._template.view(np.uint8).any()

    def reserve(self, slots: int) -> None:
        """Make room for slots 0 … slots - 1."""
        while len(self._slabs) << self.shift < slots:
            raw = np.zeros((self.stride << self.shift) + _LINE, np.uint8)
            slab = raw[-raw.ctypes.data % _LINE :]
            self._slabs.append(slab)
            self.bases = np.append(self.bases, np.int64(slab.ctypes.data))

    def row(self, slot: int) -> NDArray[Any]:
        """A live view of one row, shape (words,)."""
        start = (slot & self.mask) * self.stride
        row: NDArray[Any] = self._slabs[slot >> self.shift][start : start + self.bytes].view(self.dtype)
        return row

    def gather(self, slots: Int64s, into: NDArray[np.uint8]) -> None:
        """Copy the rows of many slots, in ascending order, as bytes; `into` has shape (n, bytes)."""
        for rows, some, here in self._by_slab(slots):
            into[here] = rows[some, : self.bytes]

    def scatter(self, slots: Int64s, states: NDArray[np.uint8]) -> None:
        """The other way round."""
        for rows, some, here in self._by_slab(slots):
            rows[some, : self.bytes] = states[here]

    def _by_slab(self, slots: Int64s) -> Iterator[tuple[NDArray[np.uint8], Int64s, slice]]:
        """Each slab's rows, which of them are meant, and where those stand in `slots`."""
        slabs = slots >> self.shift
        starts = np.flatnonzero(np.diff(slabs, prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(slots)]):
            rows = self._slabs[slabs[start]][: self.stride << self.shift].reshape(-1, self.stride)
            yield rows, slots[start:stop] & self.mask, slice(start, stop)

    def clear(self, slot: int) -> None:
        """Put the template into a row."""
        self.row(slot)[:] = self._template

    def fresh(self, slot: int, used_before: bool) -> None:
        """As `clear`, but leaves untouched memory alone where the template is zeros."""
        if used_before or not self._zero:
            self.clear(slot)


class KeySpace:
    """The keys of one learner or model, their slots and their tables.

    `changed` (uint8 a slot) says which keys moved since `clear_changed`; `last_seen` holds the value of
    `clock` (events counted so far) at a key's last event. `recall`, where set, is asked for the state of a key that
    is not here: it may wait elsewhere (None: the key is new). `adapt`, where set, is given a state of another length
    than today's rows have, and makes it fit if it is an older one of the same model (None: it is not).
    """

    def __init__(self) -> None:
        self.slots: dict[Key, int] = {}
        self.keys: list[Key] = []  # by slot; meaningless for a free slot
        self.tables: dict[str, Rows] = {}
        self.changed: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.last_seen: Int64s = np.zeros(0, np.int64)
        self.clock = 0
        self.recall: Callable[[Key], bytes | None] | None = None
        self.adapt: Callable[[bytes], bytes | None] | None = None
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.slots)

    def table(self, name: str, dtype: Any, words: int, template: NDArray[Any] | None = None) -> Rows:
        """Add a table; before the first key only."""
        if self.keys or name in self.tables:
            raise ValueError(f"table {name!r}: tables are added once, before the first key")
        self.tables[name] = Rows(name, dtype, words, template)
        return self.tables[name]

    def clear(self) -> None:
        """Drop all keys and tables."""
        self.tables, self.slots, self.keys, self._free = {}, {}, [], []
        self.changed, self.last_seen = np.zeros(0, np.uint8), np.zeros(0, np.int64)

    @property
    def row_bytes(self) -> int:
        """Bytes of one key's whole state."""
        return sum(t.bytes for t in self.tables.values())

    def find(self, key: Key) -> int:
        """The key's slot, or -1."""
        try:
            return self.slots.get(key, -1)
        except TypeError:  # unhashable
            plain_key(key)
            raise

    def enter(self, key: Key) -> int:
        """The key's slot, made if need be, for an event that will change it."""
        slot = self.find(key)
        if slot < 0:
            slot = self._new(key)
        self.touch(slot)
        return slot

    def touch(self, slot: int) -> None:
        """Count one event of the slot's key."""
        self.clock += 1
        self.changed[slot] = 1
        self.last_seen[slot] = self.clock

    def enter_many(self, keys: Sequence[Key], usable: Callable[[], Sequence[bool]] | None = None) -> Int64s:
        """`enter` for each of a block; int64, shape (n,).

        An event that `usable()` calls unusable (asked only when a key is new) makes no key: its slot is -1.
        """
        n = len(keys)
        try:  # the usual case in one pass: every key is known
            slots = np.fromiter(map(self.slots.__getitem__, keys), np.int64, n)
        except (KeyError, TypeError):
            for key in keys:  # all of them before any is made: a refused block leaves nothing behind
                plain_key(key)
            fit = [True] * n if usable is None else usable()
            slots = np.empty(n, np.int64)
            for e, key in enumerate(keys):
                slot = self.find(key)
                slots[e] = self._new(key) if slot < 0 and fit[e] else slot
        known = slots if slots.size and slots.min() >= 0 else slots[slots >= 0]
        self.changed[known] = 1
        self.last_seen[known] = np.arange(self.clock + 1, self.clock + len(known) + 1)
        self.clock += len(known)
        return slots

    def _new(self, key: Key) -> int:
        key = plain_key(key)
        if self._free:
            slot, used = self._free.pop(), True
            self.keys[slot] = key
        else:
            slot, used = len(self.keys), False
            self.keys.append(key)
            if slot >= len(self.changed):
                more = max(64, len(self.changed) // 8)
                self.changed = np.append(self.changed, np.zeros(more, np.uint8))
                self.last_seen = np.append(self.last_seen, np.zeros(more, np.int64))
            for table in self.tables.values():
                table.reserve(slot + 1)
        for table in self.tables.values():
            table.fresh(slot, used)
        self.slots[key] = slot
        if self.recall is not None and (state := self.recall(key)) is not None:
            self._fill(slot, self._fitting(key, state))
        return slot

    def _fitting(self, key: Key, state: bytes) -> bytes:
        """The state in today's length; StateMismatch if it is of another model."""
        if len(state) == self.row_bytes:
            return state
        fitting = None if self.adapt is None else self.adapt(state)
        if fitting is None:
            raise StateMismatch(f"key {key!r}: its saved state has {len(state)} bytes and this model's has "
                                f"{self.row_bytes}; it was made with other settings")
        return fitting

    def _fill(self, slot: int, state: bytes) -> None:
        """Put a key's whole state into its rows."""
        start = 0
        for table in self.tables.values():
            table.row(slot)[:] = np.frombuffer(state, table.dtype, table.words, start)
            start += table.bytes

    def forget(self, key: Key) -> None:
        """Drop a key; its slot will serve another."""
        slot = self.slots.pop(key)
        self.keys[slot] = None
        self.changed[slot] = 0
        self._free.append(slot)

    def changed_keys(self) -> list[Key]:
        """The keys that moved since `clear_changed`, in slot order."""
        return [self.keys[s] for s in np.flatnonzero(self.changed[: len(self.keys)])]

    def clear_changed(self) -> None:
        """Count changes from here on."""
        self.changed[:] = 0

    def get(self, key: Key) -> bytes:
        """The key's whole state: its rows in table order."""
        slot = self.slots[key]
        return b"".join(t.row(slot).tobytes() for t in self.tables.values())

    def gather(self, slots: Int64s) -> NDArray[np.uint8]:
        """The whole states of many slots in ascending order, copied: (n, row_bytes), each row what `get` gives."""
        states = np.empty((len(slots), self.row_bytes), np.uint8)
        start = 0
        for table in self.tables.values():
            table.gather(slots, states[:, start : start + table.bytes])
            start += table.bytes
        return states

    def put(self, key: Key, state: bytes) -> None:
        """Set a key's whole state, bit for bit as `get` gave it; the key counts as changed."""
        state = self._fitting(key, state)
        slot = self.slots.get(key, -1)
        if slot < 0:
            slot = self._new(key)
        self.changed[slot] = 1
        self._fill(slot, state)

    def load(self, states: Iterable[tuple[Key, bytes]]) -> None:
        """`put` many."""
        todo = iter(states)
        while block := [(key, self._fitting(key, state)) for key, state in islice(todo, _LOAD_KEYS)]:
            slots = np.array([self._new(key) if (s := self.find(key)) < 0 else s for key, _ in block], np.int64)
            self.changed[slots] = 1
            order = np.argsort(slots, kind="stable")
            rows = np.frombuffer(b"".join([state for _, state in block]), np.uint8).reshape(len(block), -1)[order]
            start = 0
            for table in self.tables.values():
                table.scatter(slots[order], rows[:, start : start + table.bytes])
                start += table.bytes


def plain_key(key: Key) -> Key:
    """The key in Python's own types; what cannot be written down and read back the same is refused.

    >>> plain_key(("a", np.int64(1)))
    ('a', 1)
    >>> plain_key(1.5)
    Traceback (most recent call last):
    TypeError: key 1.5 is a float; a key is a str, an int, bytes, None or a tuple of those
    """
    if isinstance(key, np.generic):
        key = key.item()
    if type(key) is tuple:
        return tuple(map(plain_key, key))
    if type(key) is int and not -(2**63) <= key < 2**64:
        raise ValueError(f"key {key} has more than 64 bits; make it a str")
    if type(key) is str and not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            raise ValueError(f"key {key!r} is no valid Unicode; make it bytes") from None
    if type(key) not in (str, int, bytes, type(None)):
        kind = type(key).__name__
        raise TypeError(f"key {key!r} is a {kind}; a key is a str, an int, bytes, None or a tuple of those")
    return key
