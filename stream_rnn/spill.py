"""Key states between memory and the store: copies for a checkpoint, and a bound on the memory that they take.

A checkpoint writes every key that changed, so right after one a key that has not moved since is in the store bit
for bit: to spill it is to forget it in memory. It comes back, through KeySpace.recall, when its next event does.
Which keys wait where never shows in a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from stream_rnn import phases
from stream_rnn.kernels.copies import gather_rows
from stream_rnn.keys import KeySpace
from stream_rnn.records import Key
from stream_rnn.store import KeyState, Store

_BESIDES = 400  # bytes a key takes besides its rows: its name, its places in dicts and lists
_KEPT_BYTES = 128 << 20  # a larger memory for copies is given back
_KEEP = 0.9  # of the limit after spilling, so that it is not done for every new key


class Copies:
    """Key states copied at one instant; iterating makes a KeyState of each (in the thread that writes them)."""

    def __init__(self, keys: list[Key], states: NDArray[np.uint8], seen: list[float | None]) -> None:
        self._keys, self._states, self._seen = keys, states, seen

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[KeyState]:
        return map(KeyState, self._keys, self._states, self._seen)


class Copier:
    """Copies key states, again and again into the same memory: fresh memory costs more than the copying."""

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)

    def prepare(self, n_bytes: int) -> None:
        """Have so much memory, touched: in a helper thread, before it is needed. Not while copies are in use."""
        if len(self._memory) < n_bytes <= _KEPT_BYTES:
            memory = np.empty(n_bytes, np.uint8)
            memory[:: 1 << 12] = 0
            self._memory = memory

    def gather(self, keyspace: KeySpace, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As KeySpace.gather, (n, row_bytes); good until the next call."""
        tables, width = keyspace.tables.values(), keyspace.row_bytes
        if any(table.bytes % 4 for table in tables):
            return keyspace.gather(slots)
        size = len(slots) * width
        if len(self._memory) < size:
            self._memory = np.empty(size + size // 8, np.uint8)
        states = self._memory[:size].reshape(len(slots), width)
        if len(self._memory) > _KEPT_BYTES:
            self._memory = np.empty(0, np.uint8)
        start = states.ctypes.data
        for table in tables:
            place = np.array([table.shift, table.mask, table.stride], np.int64)
            gather_rows(slots, table.bases, place, table.bytes // 4, start, width)
            start += table.bytes
        return states


def copy_changed(
    keyspace: KeySpace, seen: NDArray[np.float64] | None = None, copier: Copier | None = None
) -> Copies:
    """The states of the keys that changed since the last call; what is copied counts as unchanged.

    `seen`, by slot, is the event time of a key's last event (NaN: it has none). With a copier, the copies are good
    until its next.
    """
    slots = np.flatnonzero(keyspace.changed[: len(keyspace.keys)])
    states = (copier or Copier()).gather(keyspace, slots)
    keyspace.clear_changed()
    keys = [keyspace.keys[slot] for slot in slots.tolist()]
    times: list[float | None] = [None] * len(keys)
    if seen is not None:
        times = [None if math.isnan(t) else t for t in seen[slots].tolist()]
    return Copies(keys, states, times)


class Spill:
    """Keeps a key space within `limit_bytes`, the keys not seen for longest in the store.

    `settle` is to be called when a checkpoint has been committed. `full` asks for one.
    """

    def __init__(self, keyspace: KeySpace, store: Store, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.away = 0  # keys in the store and not in memory
        self.spilled = self.recalled = 0  # counts, for people
        self._keyspace = keyspace
        self._store = store
        self._gone: set[Key] = set()  # forgotten for good, and no checkpoint says so yet
        self._going: set[Key] = set()  # the same, and a checkpoint is being written that does
        keyspace.recall = self._recall

    def restore(self, states: Iterable[KeyState], count: int) -> None:
        """Take up a snapshot's keys, those that changed last first, as far as there is room."""
        keyspace = self._keyspace
        keyspace.recall = None
        keyspace.load((key, state) for key, state, _ in islice(states, self._room()))
        keyspace.clear_changed()
        self.away = count - len(keyspace)
        keyspace.recall = self._recall

    @property
    def taken_bytes(self) -> int:
        """What the keys in memory take."""
        return len(self._keyspace) * (self._keyspace.row_bytes + _BESIDES)

    @property
    def full(self) -> bool:
        """More is in memory than should be: make a checkpoint, then `settle`."""
        return self.taken_bytes > self.limit_bytes

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget keys for good, in memory or in the store."""
        for key in keys:
            if key in self._keyspace.slots:
                self._keyspace.forget(key)
            elif not self.is_gone(key):
                self.away -= 1
            self._gone.add(key)

    def take_gone(self) -> list[Key]:
        """The keys dropped since last asked: for the checkpoint that is made now."""
        self._going |= self._gone
        gone, self._gone = self._gone, set()
        return list(gone)

    def settle(self) -> int:
        """The checkpoint of all that had changed is in the store: forget what is too much; how many keys."""
        self._going.clear()
        keyspace = self._keyspace
        excess = len(keyspace) - self._room() if self.full else 0
        if excess <= 0:
            return 0
        phases.enter("spill")
        slots = np.fromiter(keyspace.slots.values(), np.int64, len(keyspace))
        slots = slots[keyspace.changed[slots] == 0]
        oldest = slots[np.argsort(keyspace.last_seen[slots], kind="stable")][:excess]
        for slot in oldest.tolist():
            keyspace.forget(keyspace.keys[slot])
        self.away += len(oldest)
        self.spilled += len(oldest)
        return len(oldest)

    def is_gone(self, key: Key) -> bool:
        """Whether the store's row of a key, if there is one, is not to be used."""
        return key in self._gone or key in self._going

    def _room(self) -> int:
        return max(1, int(self.limit_bytes * _KEEP) // (self._keyspace.row_bytes + _BESIDES))

    def _recall(self, key: Key) -> bytes | None:
        if not self.away or self.is_gone(key):
            return None
        phases.enter("recall")
        state = self._store.recall(key)
        if state is not None:
            self.away -= 1
            self.recalled += 1
        return state
