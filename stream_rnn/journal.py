"""What a source said that cannot say it twice: every record, durable before it is learnt from, in SQLite.

`JournalLog` stands before such a source (standard input) as a log that can: its positions count the records. The
journal has a file of its own, so that a checkpoint being written keeps no record waiting.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn import phases
from stream_rnn.connectors import Log
from stream_rnn.database import Database
from stream_rnn.errors import RecoveryError, StateDamaged
from stream_rnn.records import Position, Record

FORMAT = 1
_SCHEMA = "CREATE TABLE journal(seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, record BLOB NOT NULL)"
_TRIM_ROWS = 10_000  # fewer are not worth a transaction


class _Entry(msgspec.Struct, array_like=True):
    value: Any
    key: bytes | None
    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes], ...]


class JournalLog:
    """A log that replays what `inner` gave. Position: (n,), n records before it."""

    replays = True

    def __init__(self, inner: Log, path: str | os.PathLike[str]) -> None:
        self.name = inner.name
        self.id = inner.id
        self.path = Path(path)
        self._inner = inner
        self._file = Database(path, "journal", FORMAT, _SCHEMA)
        with self._file.reading() as db:
            first, last = db.execute("SELECT min(seq), max(seq) FROM journal").fetchone()
        trimmed: int = self._file.cell("trimmed", int, 0)
        self._first: int = trimmed if first is None else first
        self._end: int = trimmed if last is None else last + 1  # records taken in so far
        self._next = self._first

    @property
    def received(self) -> int:
        """Records taken in so far, in all runs: what a sender need not send again."""
        return self._end

    @property
    def finished(self) -> bool:
        """The source is at its end, and all is read."""
        return self._next == self._end and self._inner.finished

    def first(self, where: str) -> Position:
        """The oldest record that is still here, or the end."""
        return (self._first if where == "earliest" else self._end,)

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Go to a record that is still here."""
        (n,) = position
        if not self._first <= n <= self._end:
            raise RecoveryError(f"{self.path} has records {self._first} to {self._end}, and the state goes on at {n}: "
                                "they are not of one run. Put back the right one, or begin anew")
        self._next = n

    def notes(self, position: Position) -> bytes:
        """None."""
        return b""

    def read(self, limit: int) -> list[Record]:
        """Records from the journal; at its end, new ones, once they are in it."""
        if self._next < self._end:
            return self._replay(limit)
        records = self._inner.read(limit)
        if records:
            theirs = records[-1].resume_at
            self._append(records)
            self._inner.acknowledge(theirs)
            self._next = self._end
        return records

    def wait(self, timeout_s: float) -> None:
        """Until the source may have something."""
        if self._next == self._end:
            self._inner.wait(timeout_s)

    def acknowledge(self, position: Position) -> None:
        """Delete what is before it."""
        (n,) = position
        if n - self._first < _TRIM_ROWS and n != self._end:
            return
        with self._file.transaction() as db:
            db.execute("DELETE FROM journal WHERE seq < ?", (n,))
            self._file.put_cell("trimmed", n)
        self._first = n

    def close(self) -> None:
        """Let go of both."""
        self._inner.close()
        self._file.close()

    def _append(self, records: list[Record]) -> None:
        rows = []
        for n, record in enumerate(records, self._end):
            entry = _Entry(record.value, record.key, record.timestamp_ms, record.headers)
            packed = msgspec.msgpack.encode(entry)
            rows.append((n, zlib.crc32(packed, n & 0xFFFFFFFF), packed))
            record.at, record.resume_at = (n,), (n + 1,)
        with self._file.transaction() as db:
            db.executemany("INSERT INTO journal VALUES(?, ?, ?)", rows)
            phases.enter("journal")
        self._end += len(records)

    def _replay(self, limit: int) -> list[Record]:
        with self._file.reading() as db:
            rows = db.execute("SELECT seq, crc, record FROM journal WHERE seq >= ? ORDER BY seq LIMIT ?",
                              (self._next, limit)).fetchall()  # fmt: skip
            records = [self._record(*row) for row in rows]
        if not records or [r.at[0] for r in records] != list(range(self._next, self._next + len(records))):
            raise StateDamaged(f"{self.path} is damaged: records from {self._next} on are missing")
        self._next += len(records)
        return records

    def _record(self, n: int, crc: int, packed: bytes) -> Record:
        if not isinstance(packed, bytes) or zlib.crc32(packed, n & 0xFFFFFFFF) != crc:
            raise StateDamaged(f"{self.path} is damaged: the checksum of record {n} does not agree. Begin with a new "
                               "state, and let the sender send again from there if it can")
        e = msgspec.msgpack.decode(packed, type=_Entry)
        return Record(e.value, (n,), (n + 1,), e.key, e.timestamp_ms, e.headers)
