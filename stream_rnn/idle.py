"""Keys that were silent for longer than a time to live start afresh, by the time in their own events.

Nothing here reads a clock. A key whose next event comes too late is dropped right before that event. Rows of keys
that never come again are deleted at event counts (every SWEEP events of the shard), if they are silent for twice
the time to live as of the median time of the newest events before that: so one wild time deletes nothing. A replay
comes to the same counts and times, and drops the same keys before the same events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.fields import Fields, names_of
from stream_rnn.records import Event, Key
from stream_rnn.spill import Spill
from stream_rnn.store import KeyState, Store
from stream_rnn.tally import Tally

SWEEP = 100_000  # events between two looks for keys to delete
_RECENT = 255  # event times whose median says what time it is


class IdleKeys:
    """The silence of each key of one shard."""

    def __init__(self, ttl_s: float, model: Any, store: Store, spill: Spill, tally: Tally) -> None:
        s = model.settings
        self.ttl_s = ttl_s
        targets = () if "unit" in s else names_of("target", s.get("target"))  # a text is no number
        self._fields = Fields(targets, names_of("key", s["key"]), s["time"], ())
        self._keyspace = model.keyspace
        self._store, self._spill, self._tally = store, spill, tally
        self._seen: dict[Key, float] = {}  # of keys in memory
        self._events, *self._recent = tally.recent or [0.0]  # events since the last look; times of the newest

    def cuts(self, events: Sequence[Event]) -> Iterator[tuple[int, list[Key]]]:
        """(row, keys): before this event of the block these keys are to be dropped."""
        block = self._fields.read(events)
        rows = [i for i in range(len(events)) if i not in block.bad]
        for row, key, time in zip(rows, block.keys, block.time.tolist(), strict=True):
            if self._events >= SWEEP:
                yield row, self._too_old()
                self._events = 0.0  # a float as in a checkpoint, bit for bit
            self._events += 1
            if math.isnan(time):
                continue
            self._recent = [*self._recent[1 - _RECENT :], time] if self._events > SWEEP - _RECENT else self._recent
            before = self._last(key)
            if before is not None and time - before > self.ttl_s:
                self._tally.silent += 1
                yield row, [key]
                before = None
            self._seen[key] = time if before is None else max(time, before)

    def restored(self, states: Iterator[KeyState]) -> Iterator[KeyState]:
        """Passes on key states as they are loaded, and takes note of when each was seen."""
        for state in states:
            if state.seen is not None:
                self._seen[state.key] = state.seen
            yield state

    def by_slot(self) -> NDArray[np.float64]:
        """When each key in memory was last seen, by slot; NaN where that is not known."""
        slots = self._keyspace.slots
        self._seen = {key: seen for key, seen in self._seen.items() if key in slots}  # the others are in the store
        times = np.full(len(self._keyspace.keys), np.nan)
        for key, seen in self._seen.items():
            times[slots[key]] = seen
        return times

    def save(self, tally: Tally) -> None:
        """What a checkpoint needs besides."""
        tally.recent = [self._events, *self._recent]

    def _last(self, key: Key) -> float | None:
        """When a key was last seen, in memory or in the store."""
        seen = self._seen.get(key)
        if seen is None and self._spill.away and key not in self._keyspace.slots and not self._spill.is_gone(key):
            return self._store.seen(key)
        return seen

    def _too_old(self) -> list[Key]:
        """The keys to be deleted now."""
        if not self._recent:
            return []
        before = median(self._recent) - 2 * self.ttl_s
        self._recent = []
        slots = self._keyspace.slots
        old = {key for key, seen in self._seen.items() if seen < before and key in slots}
        if self._spill.away:
            old |= {k for k in self._store.idle(before) if k not in slots and not self._spill.is_gone(k)}
        for key in old:
            self._seen.pop(key, None)
        self._tally.silent += len(old)
        return sorted(old, key=repr)
