"""Lists as a source and a sink: for tests, notebooks and embedding. Position: (index,)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from stream_rnn.connectors import Log, Message, Owner
from stream_rnn.errors import SourceError
from stream_rnn.records import Position, Record


class MemorySource:
    """Events (dicts), raw values (bytes) or whole Records, from a list, or from any iterable.

    A list can be read again, and (`open_ended`) may grow; another iterable is taken as it comes and is over
    when it ends.
    """

    name = "memory:"
    replays: bool

    def __init__(self, items: Iterable[Any], *, id: str = "memory", open_ended: bool = False) -> None:
        self.id = id
        self.replays = isinstance(items, Sequence)
        self.open_ended = open_ended  # more may be appended to the list
        self._items = items
        self._iterator = None if self.replays else iter(items)
        self._next = 0
        self._over = False

    def join(self, owner: Owner) -> None:
        """It is ours at once."""
        owner.assigned([self])

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Unknown."""
        return None

    @property
    def finished(self) -> bool:
        """All has been read, and the list will not grow."""
        if self._iterator is not None:
            return self._over
        return not self.open_ended and self._next >= len(self._list)

    @property
    def _list(self) -> Sequence[Any]:
        return self._items  # type: ignore[return-value]

    def first(self, where: str) -> Position:
        """The first item, or the end of the list as it is."""
        return (0,) if where == "earliest" or self._iterator is not None else (len(self._list),)

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Go to an index."""
        (index,) = position
        if self._iterator is not None and index != self._next:
            raise SourceError(f"this iterable is at item {self._next} and cannot go to {index}; give a list instead")
        if self._iterator is None and index > len(self._list):
            raise SourceError(f"this state goes on at item {index}, and the list has only {len(self._list)}")
        self._next = index

    def notes(self, position: Position) -> bytes:
        """None."""
        return b""

    def read(self, limit: int) -> list[Record]:
        """The next items."""
        if self._iterator is None:
            items = self._list[self._next : self._next + limit]
        else:
            items = list(islice(self._iterator, limit))
            self._over = len(items) < limit
        first = self._next
        self._next += len(items)
        return [_record(item, n) for n, item in enumerate(items, first)]

    def wait(self, timeout_s: float) -> None:
        """Another thread may append."""
        if not self.finished:
            time.sleep(min(timeout_s, 0.01))

    def acknowledge(self, position: Position) -> None:
        """The list is the caller's."""

    def close(self) -> None:
        """Nothing to let go."""


def _record(item: Any, index: int) -> Record:
    if isinstance(item, Record):
        return Record(item.value, (index,), (index + 1,), item.key, item.timestamp_ms, item.headers)
    if isinstance(item, str):
        item = item.encode()
    return Record(item, (index,), (index + 1,))


class MemorySink:
    """Keeps everything in lists, by shard; the object outlives an engine, as a file does."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = {}
        self.committed: dict[str, int] = {}  # how many of them are durable

    def open(self, shard: str) -> MemoryOutput:
        """The list of one shard."""
        return MemoryOutput(self, shard)

    @property
    def lines(self) -> list[bytes]:
        """What was written, all shards one after the other."""
        return [m.value or b"" for messages in self.messages.values() for m in messages]

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """The same, read back from JSON."""
        return [json.loads(line) for line in self.lines]


class MemoryOutput:
    """One shard's list. Its own unit."""

    has_mark = True
    keeps_headers = False

    def __init__(self, sink: MemorySink, shard: str) -> None:
        self.unit = self
        self._sink = sink
        self._shard = shard
        self._messages = sink.messages.setdefault(shard, [])

    def mark(self) -> str | None:
        """The last one's `source`."""
        return self._messages[-1].source if self._messages else None

    def write(self, messages: Sequence[Message]) -> None:
        """Append."""
        self._messages += messages

    def commit(self, last: str, resume_at: Position, log: Log) -> None:
        """Count them as durable."""
        self._sink.committed[self._shard] = len(self._messages)

    def close(self) -> None:
        """The list stays."""
