"""One SQLite file with one owner: WAL, synchronous=FULL, a format number, checksummed cells, an owner epoch.

Who takes a file raises its epoch; every transaction checks it, so that a former owner (stopped, paused, cut
off) can write nothing more. What SQLite says is put into our errors: a damaged file, a full disk, a lost owner.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn.errors import StateBusy, StateDamaged, StateError, StateMismatch

_APPLICATION = 0x53524E4E  # "SRNN"
_PAGE_BYTES = 16384  # seven key states of 2.2 KB a page
_BUSY_S = 20.0
_CELLS = "CREATE TABLE cells(name TEXT PRIMARY KEY, crc INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_IOERR_SHORT_READ,
}  # fmt: skip


class Database:
    """An open file. `write=False`: to look at only, also while its owner writes; takes no ownership."""

    def __init__(
        self, path: str | os.PathLike[str], kind: str, format: int, schema: str, *, write: bool = True
    ) -> None:
        self.path = Path(path)
        self.epoch = 0
        self._kind = kind
        self._format = format
        self._lock = threading.RLock()
        new = write and not self.path.exists()
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.errors():
            self._db = self._connect(write)
            self._reader = self._db
            try:
                if write:
                    self._db.execute(f"PRAGMA page_size={_PAGE_BYTES}")
                    if self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                        raise StateError(f"{self.path}: this file system cannot hold a database with a write-ahead "
                                         "log; put the state on a local disk")
                    self._db.execute("PRAGMA synchronous=FULL")
                    self._db.execute("PRAGMA wal_autocheckpoint=2000")
                    self._db.execute(f"PRAGMA journal_size_limit={64 << 20}")
                    self._reader = self._connect(False)
                    self._take(schema)
                else:
                    self._check_format()
            except BaseException:
                self.close()
                raise

    def _connect(self, write: bool) -> sqlite3.Connection:
        if write:
            return sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=True)

    def _take(self, schema: str) -> None:
        """Become the owner; a new file gets its tables."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._db.execute(_CELLS)
                for statement in schema.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={_APPLICATION}")
                self._db.execute(f"PRAGMA user_version={self._format}")
                self.put_cell("format", [self._kind, self._format])
            self._check_format()
            self.epoch = (self.cell("epoch", int) or 0) + 1
            self.put_cell("epoch", self.epoch)
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _check_format(self) -> None:
        kind, format = self.cell("format", list) or [None, None]
        number = self._db.execute("PRAGMA user_version").fetchone()[0]
        if kind != self._kind or number != format:
            raise StateDamaged(f"{self.path} is no {self._kind} file of ours, or says so in one place only")
        if format > self._format:
            raise StateMismatch(f"{self.path} has format {format}, and this version reads up to {self._format}: "
                                "use the newer stream_rnn that wrote it")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, durable at the end; StateBusy if another has taken the file."""
        with self._lock, self.errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                now = self.cell("epoch", int)
                if now != self.epoch:
                    raise StateBusy(f"{self.path} was taken by another process (owner {now}, and we were "
                                    f"{self.epoch}): this one stops without writing")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees what is committed; for one thread beside the writing one."""
        with self.errors():
            yield self._reader

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as e:
            exact = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            code = exact & 0xFF
            if code in _DAMAGED or exact in _DAMAGED:
                raise StateDamaged(f"{self.path} is damaged: {e}") from e
            if code == sqlite3.SQLITE_FULL:
                raise StateError(f"{self.path}: the disk is full; make room and start again: nothing is lost") from e
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StateBusy(f"{self.path} was kept locked by another process for {_BUSY_S:.0f} s") from e
            if code == sqlite3.SQLITE_IOERR:
                full = " or is full" if exact == sqlite3.SQLITE_IOERR_SHMSIZE else ""
                raise StateError(f"{self.path}: the disk refused it{full}: {e}; start again when it is well: nothing "
                                 "is lost") from e
            raise StateError(f"{self.path} cannot be used: {e}") from e
        except (UnicodeDecodeError, msgspec.MsgspecError) as e:
            raise StateDamaged(f"{self.path} is damaged: {e}") from e

    def cell(self, name: str, type: Any = Any, default: Any = None) -> Any:
        """A named value, checked; `default` if there is none."""
        row = self._db.execute("SELECT crc, value FROM cells WHERE name = ?", (name,)).fetchone()
        return default if row is None else unpack(row[0], row[1], type, f"{self.path}: the cell {name}")

    def put_cell(self, name: str, value: Any) -> None:
        """Set a named value; inside a transaction."""
        crc, packed = pack(value)
        self._db.execute("INSERT OR REPLACE INTO cells VALUES(?, ?, ?)", (name, crc, packed))

    def check(self) -> None:
        """StateDamaged unless every page and index of the file is consistent."""
        with self.errors():
            found = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != ("ok",):
            raise StateDamaged(f"{self.path} is damaged: {found[0] if found else 'nothing can be read'}")

    def close(self) -> None:
        """Let go; the log is folded into the file."""
        for db in (getattr(self, "_reader", None), self._db):
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()

    def _rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def pack(value: Any) -> tuple[int, bytes]:
    """A value as checksum and bytes."""
    packed = msgspec.msgpack.encode(value)
    return zlib.crc32(packed), packed


def unpack(crc: Any, packed: Any, type: Any, what: str) -> Any:
    """The value, if its checksum agrees."""
    if not isinstance(packed, bytes) or zlib.crc32(packed) != crc:
        raise StateDamaged(f"{what} is damaged: its checksum does not agree")
    return msgspec.msgpack.decode(packed, type=type)


def move_aside(path: Path) -> Path:
    """Put a damaged file and its log out of the way, for somebody to look at; returns the new name."""
    n = 1
    while (aside := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    for suffix in ("-wal", "-shm"):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(aside.with_name(aside.name + suffix))
    if path.exists():
        path.replace(aside)
    return aside
