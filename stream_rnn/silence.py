"""Silence: keys that have not been heard of for much longer than usual, by the events of the others.

The rule is in kernels/silence.py. What is here: the watch's arrays, which are state of the model as a whole, and the
names of the keys watched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.blob import pack_key, unpack_key
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.silence import (
    BACK,
    E_SERIAL,
    ENTRIES,
    ENTRY_WORDS,
    FREE,
    HEAD,
    HEAP,
    JOINED,
    NEWEST,
    ROW_WORDS,
    WATCH_BLOCK,
    watch_block,
)
from stream_rnn.keys import KeySpace
from stream_rnn.records import Key

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]


class Note(NamedTuple):
    """A key that fell silent, or is back."""

    row: int  # of the block
    key: Key
    back: bool
    last_time: float  # of its newest event before; NaN: it had no time


class Silence:
    """The pass and its arrays."""

    def __init__(self, keyspace: KeySpace) -> None:
        self._table = keyspace.table("silence", np.float64, ROW_WORDS)
        self._place = np.array([self._table.shift, self._table.mask, self._table.stride], np.int64)
        self._watch = compiled(watch_block, WATCH_BLOCK, "the kernel that looks for silent keys")
        self._head = np.zeros(HEAD)
        self._head[FREE], self._head[NEWEST] = -1.0, np.nan
        self._entries = np.zeros((0, ENTRY_WORDS))
        self._heap = np.zeros(0, np.int64)
        self._keys: list[Key] = []  # by entry
        self._entry: dict[Key, int] = {}  # the other way round, of those that are watched

    def look(self, slots: Int64s, keys: Sequence[Key], time: Floats) -> list[Note]:
        """Take in a block; the keys that fell silent or came back, in order."""
        n = len(slots)
        room = int(self._head[ENTRIES]) + n
        if room > len(self._heap):
            more = max(room, 2 * len(self._heap)) - len(self._heap)
            self._entries = np.concatenate([self._entries, np.zeros((more, ENTRY_WORDS))])
            self._heap = np.concatenate([self._heap, np.zeros(more, np.int64)])
        notes = np.empty((3 * n + room, 4))
        written = self._watch(slots, time, self._table.bases, self._place, self._head, self._entries, self._heap, notes)
        found = []
        for row, entry, what, last in notes[:written].tolist():
            at = int(entry)
            if what == JOINED:
                self._keys += [None] * (at + 1 - len(self._keys))
                self._keys[at] = keys[int(row)]
                self._entry[keys[int(row)]] = at
            elif what == BACK:
                found.append(Note(int(row), keys[int(row)], True, last))
            else:
                self._entry.pop(self._keys[at], None)
                found.append(Note(int(row), self._keys[at], False, last))
        return found

    def forget(self, keys: Sequence[Key]) -> None:
        """These begin afresh, if they come again."""
        for key in keys:
            entry = self._entry.pop(key, None)
            if entry is not None:
                self._entries[entry, E_SERIAL] = -1.0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is not per key."""
        n = int(self._head[ENTRIES])
        names = msgspec.msgpack.encode([pack_key(key) for key in self._keys[:n]])
        return {
            "head": self._head, "entries": self._entries[:n], "heap": self._heap[: int(self._head[HEAP])],
            "keys": np.frombuffer(names, np.uint8).copy(),
        }  # fmt: skip

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        self._head[:] = arrays["head"]
        self._entries = np.ascontiguousarray(arrays["entries"], np.float64).reshape(-1, ENTRY_WORDS).copy()
        self._heap = np.zeros(len(self._entries), np.int64)
        self._heap[: len(arrays["heap"])] = arrays["heap"]
        names: list[bytes] = msgspec.msgpack.decode(arrays["keys"].tobytes(), type=list[bytes])
        self._keys = [unpack_key(name) for name in names]
        watched = np.flatnonzero(self._entries[:, E_SERIAL] > 0.0).tolist()
        self._entry = {self._keys[at]: at for at in watched}


__all__ = ["Note", "Silence"]
