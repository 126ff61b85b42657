"""The state of one shard in one SQLite file: checkpoints, key states, start positions, the log of live settings.

A checkpoint is a generation: all shared arrays, and a row for each key that changed since the last. Older rows of
a key stay as long as a retained snapshot needs them, so that snapshot s is, for each key, its newest row of a
generation ≤ s. A snapshot knows how many such rows there are and the sum of their checksums: a lost, stale or
foreign row is noticed. A key that is forgotten gets a row without a state.

A key state that is not in memory is simply its row here: spilling a key writes nothing (spill.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from stream_rnn import phases
from stream_rnn.blob import pack_array, pack_key, unpack_array, unpack_key
from stream_rnn.database import Database, move_aside, pack, unpack
from stream_rnn.errors import RecoveryError, StateBusy, StateDamaged, StateError
from stream_rnn.records import Key, Position

FORMAT = 1
_SCHEMA = """
CREATE TABLE snapshots(
    generation INTEGER PRIMARY KEY, whole INTEGER NOT NULL, digest BLOB NOT NULL, header BLOB NOT NULL);
CREATE TABLE arrays(
    generation INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(generation, name));
CREATE TABLE states(
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, generation INTEGER NOT NULL, crc INTEGER, seen REAL, state BLOB);
CREATE UNIQUE INDEX states_by_key ON states(key, generation, crc, seen);
CREATE TABLE settings(id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, value BLOB NOT NULL)
"""
_HOUR_S, _DAY_S, _MONTH_S = 3600.0, 86400.0, 31 * 86400.0
# For every key, the id of its newest row of a generation ≤ ?, in one walk along the index.
_LIVE = "SELECT id, crc, max(generation) FROM states WHERE generation <= ? GROUP BY key"
_ROWS = ("SELECT s.key, s.generation, s.crc, s.seen, s.state FROM "
         f"(SELECT id FROM ({_LIVE}) ORDER BY id DESC) l CROSS JOIN states s ON s.id = l.id")  # fmt: skip

_ROW = struct.Struct("<qd")
_BATCH = 1000  # rows at a time

Arrays = dict[str, NDArray[Any]]


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where a log goes on, and what the log wants to be told with it."""

    position: Position
    notes: bytes = b""


class Snapshot(msgspec.Struct, kw_only=True):
    """A checkpoint, without the key states."""

    positions: dict[str, Place]  # by log id
    marks: dict[str, str | None]  # by output: the `source` of the last message that was out
    settings: dict[str, Any]  # the model's: what it was made with
    arrays: Arrays
    info: dict[str, Any] = {}  # counts and metrics, for people
    created_s: float = 0.0  # wall clock, for thinning only
    generation: int = 0  # the store numbers it


class KeyState(NamedTuple):
    """One key's state; `seen` is the event time of its last event, for `idle`."""

    key: Key
    state: Any  # bytes, or any buffer
    seen: float | None = None


class SettingChange(msgspec.Struct, array_like=True, frozen=True):
    """A live setting that changed before the event at `position` of log `log`."""

    log: str
    position: Position
    name: str
    value: Any


class _Header(msgspec.Struct, kw_only=True):
    """What a snapshot's digest covers, besides the arrays."""

    generation: int
    created_s: float
    positions: dict[str, Place]
    marks: dict[str, str | None]
    settings: dict[str, Any]
    info: dict[str, Any]
    names: list[str]  # of the arrays, in the digest's order
    keys: int  # live rows
    crc_sum: int  # of their checksums
    first_id: int  # of this generation's rows


class Store:
    """Opens (and takes) the file. A damaged one is put aside and begun anew; `damaged` says so.

    `new`: there was no file.
    """

    def __init__(self, path: str | os.PathLike[str], *, retain: int = 3, write: bool = True) -> None:
        self.path = Path(path)
        self.retain = retain
        self.damaged: str | None = None
        if not write and not self.path.exists():
            raise StateError(f"{self.path}: there is no state here")
        self._write = write
        self.new = not self.path.exists() and not self._rebuilt.exists()
        self._open()

    def _open(self) -> None:
        if self._write and self._rebuilt.exists():  # a rebuild was interrupted: see there
            if self.path.exists():
                _unlink(self._rebuilt)
            else:
                self._rebuilt.replace(self.path)
        try:
            self._file = Database(self.path, "state", FORMAT, _SCHEMA, write=self._write)
        except StateDamaged as e:
            if not self._write:
                raise
            self.damaged = f"{e}; it was put aside as {move_aside(self.path).name}"
            self._file = Database(self.path, "state", FORMAT, _SCHEMA)

    @property
    def epoch(self) -> int:
        """Our number as an owner."""
        return self._file.epoch

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Start positions: also in a small file of their own, which outlives a damaged database.

    def start(self, log: str) -> Place | None:
        """Where that log was begun, if it was."""
        with contextlib.suppress(StateDamaged), self._file.errors():
            place = self._file.cell(f"start:{log}", Place)
            if place is not None:
                return place  # type: ignore[no-any-return]
        return self._starts().get(log)

    def set_start(self, log: str, place: Place) -> None:
        """Remember it, durably, before the first read."""
        with self._file.transaction():
            self._file.put_cell(f"start:{log}", place)
        crc, packed = pack(self._starts() | {log: place})
        part = self._beside(".start.part")
        with part.open("wb") as f:
            f.write(crc.to_bytes(4, "big") + packed)
            f.flush()
            os.fsync(f.fileno())
        part.replace(self._starts_path)

    @property
    def _starts_path(self) -> Path:
        return self._beside(".start")

    def _starts(self) -> dict[str, Place]:
        try:
            raw = self._starts_path.read_bytes()
            return unpack(int.from_bytes(raw[:4], "big"), raw[4:], dict[str, Place], "")  # type: ignore[no-any-return]
        except (OSError, StateDamaged, msgspec.MsgspecError):
            return {}

    # Settings that change while running.

    def log_setting(self, change: SettingChange) -> None:
        """Durable at once: a replay takes it up at the same event."""
        with self._file.transaction() as db:
            db.execute("INSERT INTO settings(crc, value) VALUES(?, ?)", pack(change))

    def settings_log(self) -> list[SettingChange]:
        """All of them, oldest first."""
        with self._file.reading() as db:
            rows = db.execute("SELECT crc, value FROM settings ORDER BY id").fetchall()
            return [unpack(crc, value, SettingChange, f"{self.path}: the settings log") for crc, value in rows]

    # Checkpoints.

    def checkpoint(self, snapshot: Snapshot, changed: Iterable[KeyState], gone: Iterable[Key] = ()) -> int:
        """The snapshot, the states of the keys that changed since the last, and the keys that were forgotten.

        One transaction, which also drops what is no longer needed. Returns the generation. The arguments must not
        change meanwhile: called in a helper thread, it wants copies made between two blocks.
        """
        arrays = _packed(snapshot)
        with self._file.transaction() as db:
            return self._add(db, snapshot, arrays, changed, gone)

    def take_over(
        self, snapshot: Snapshot | None, rows: Iterable[KeyState], changes: Iterable[SettingChange],
        starts: Mapping[str, Place],
    ) -> None:  # fmt: skip
        """Put a state from elsewhere in the place of all that is here; all of it or nothing."""
        with self._file.transaction() as db:
            for table in ("states", "arrays", "snapshots", "settings"):
                db.execute(f"DELETE FROM {table}")
            db.executemany("INSERT INTO settings(crc, value) VALUES(?, ?)", map(pack, changes))
            if snapshot is not None:
                self._add(db, snapshot, _packed(snapshot), rows, ())
        for log, place in starts.items():
            self.set_start(log, place)
        self.new = False

    def _add(
        self, db: sqlite3.Connection, snapshot: Snapshot, arrays: list[tuple[str, bytes]],
        changed: Iterable[KeyState], gone: Iterable[Key],
    ) -> int:  # fmt: skip
        """Inside a transaction."""
        generation: int = self._file.cell("generation", int, 0) + 1
        snapshot.generation = generation
        (first_id,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM states").fetchone()
        before = db.execute(
            "SELECT header FROM snapshots WHERE whole = 1 ORDER BY generation DESC LIMIT 1").fetchone()  # fmt: skip
        keys, crc_sum = (0, 0) if before is None else _counts(before[0])
        added, added_sum = _insert(db, generation, changed, gone)
        phases.enter("rows")
        old, old_sum = db.execute(
            "SELECT count(o.crc), coalesce(sum(o.crc), 0) FROM states n JOIN states o ON o.key = n.key AND "
            "o.generation = (SELECT max(p.generation) FROM states p WHERE p.key = n.key AND p.generation < ?) "
            "WHERE n.id >= ?", (generation, first_id)).fetchone()  # fmt: skip
        header = msgspec.msgpack.encode(_Header(
            generation=generation, created_s=snapshot.created_s, positions=snapshot.positions, marks=snapshot.marks,
            settings=snapshot.settings, info=snapshot.info, names=[name for name, _ in arrays],
            keys=keys + added - old, crc_sum=crc_sum + added_sum - old_sum, first_id=first_id,
        ))  # fmt: skip
        db.executemany("INSERT INTO arrays VALUES(?, ?, ?)", [(generation, *array) for array in arrays])
        db.execute("INSERT INTO snapshots VALUES(?, 1, ?, ?)", (generation, _digest(header, arrays), header))
        self._file.put_cell("generation", generation)
        self._prune(db)
        return generation

    def _prune(self, db: sqlite3.Connection) -> None:
        """Drop what no retained snapshot needs; thin the older ones."""
        whole = [g for (g,) in db.execute("SELECT generation FROM snapshots WHERE whole = 1 ORDER BY generation")]
        first = len(whole) - self.retain
        if first > 0:
            # Rows newer than those of the snapshot that was the oldest, up to the one that is it now: each puts an
            # older row of its key out of use. Rows lie in the order of their generations.
            stop = self._header(db, whole[first + 1]).first_id if first + 1 < len(whole) else 1 << 62
            ids = (self._header(db, whole[1]).first_id, stop)
            db.execute("DELETE FROM states WHERE id IN (SELECT o.id FROM states n JOIN states o ON o.key = n.key AND "
                       "o.generation < n.generation WHERE n.id >= ? AND n.id < ?)", ids)  # fmt: skip
            db.execute("DELETE FROM states WHERE id >= ? AND id < ? AND crc IS NULL", ids)
            db.executemany("UPDATE snapshots SET whole = 0 WHERE generation = ?", [(g,) for g in whole[:first]])
        past = db.execute("SELECT generation FROM snapshots WHERE whole = 0").fetchall()
        for generation in thinned({g: self._header(db, g).created_s for (g,) in past}, time.time()):
            db.execute("DELETE FROM snapshots WHERE generation = ?", (generation,))
            db.execute("DELETE FROM arrays WHERE generation = ?", (generation,))

    def _header(self, db: sqlite3.Connection, generation: int) -> _Header:
        (header,) = db.execute("SELECT header FROM snapshots WHERE generation = ?", (generation,)).fetchone()
        return msgspec.msgpack.decode(header, type=_Header)

    # Restoring.

    def newest(self, behind: Callable[[Snapshot], str | None] | None = None) -> Snapshot | None:
        """The newest snapshot of which everything verifies; None if there is none. An owner drops what is newer.

        `behind` says why one cannot be used all the same, if so; RecoveryError if that is said of all.
        A file in which anything at all is damaged is copied, as far as it verifies, into a new one.
        """
        wrong: list[str] = []
        unusable: list[str] = []
        found = None
        try:
            self._file.check()
        except StateError as e:
            wrong.append(str(e))
        for generation in self._generations(wrong):
            try:
                found = self._verified(generation)
            except StateBusy:
                raise
            except StateError as e:
                wrong.append(str(e))
                continue
            why = None if behind is None else behind(found)
            if why is None:
                break
            unusable.append(why)
            found = None
        if found is None and unusable:
            raise RecoveryError(unusable[0])
        if not self._write:
            return found
        if found is not None and not wrong:
            self._look_at_the_others(found.generation, wrong)
        if wrong:
            self._rebuild(found, wrong)
        elif found is not None:
            self._drop_newer(found.generation)
        return found

    def _look_at_the_others(self, newest: int, wrong: list[str]) -> None:
        """Note which of the snapshots that are not needed now are damaged: pruning will read their headers."""
        for generation in self._generations(wrong):
            if generation != newest:
                try:
                    self._verified(generation, with_rows=False)
                except StateError as e:
                    wrong.append(str(e))
        for generation in self._generations(wrong, whole=0):
            try:
                with self._file.reading() as db:
                    self._header(db, generation)
            except (StateError, TypeError, ValueError) as e:  # a damaged cell may have any type
                wrong.append(f"{self.path}: snapshot {generation} is damaged: {e}")

    def oldest(self) -> Snapshot | None:
        """The oldest snapshot that is still whole, without arrays: nothing before its positions is needed again."""
        with self._file.reading() as db:
            row = db.execute("SELECT header FROM snapshots WHERE whole = 1 ORDER BY generation LIMIT 1").fetchone()
        return None if row is None else _snapshot(msgspec.msgpack.decode(row[0], type=_Header), {})

    def rows(self, generation: int) -> Iterator[KeyState]:
        """The key states of that snapshot, those that changed last first; StateDamaged at one that does not verify."""
        for key, seen, state, _ in self._rows(generation):
            yield KeyState(unpack_key(key), state, seen)

    def _rows(self, generation: int) -> Iterator[tuple[bytes, float | None, bytes, int]]:
        with self._file.reading() as db:
            for key, row_generation, crc, seen, state in db.execute(_ROWS, (generation,)):
                if crc is None and state is None:
                    continue
                if crc != _row_crc(key, row_generation, seen, state):
                    raise StateDamaged(f"{self.path}: the state of a key is damaged: its checksum does not agree")
                yield key, seen, state, crc

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Several questions get their answers as of one instant, whatever an owner writes meanwhile (`write=False`)."""
        with self._file.reading() as db:
            db.execute("BEGIN")
            try:
                yield
            finally:
                db.execute("ROLLBACK")

    def count(self) -> int:
        """Keys in the newest snapshot."""
        with self._file.reading() as db:
            row = db.execute("SELECT header FROM snapshots ORDER BY generation DESC LIMIT 1").fetchone()
        return 0 if row is None else _counts(row[0])[0]

    def recall(self, key: Key) -> bytes | None:
        """One key's newest state, or None; to be asked only for a key that is not in memory."""
        packed = pack_key(key)
        with self._file.reading() as db:
            row = db.execute("SELECT generation, crc, seen, state FROM states WHERE key = ? "
                             "ORDER BY generation DESC LIMIT 1", (packed,)).fetchone()  # fmt: skip
        if row is None or row[3] is None:
            return None
        generation, crc, seen, state = row
        if crc != _row_crc(packed, generation, seen, state):
            raise StateDamaged(f"{self.path}: the state of key {key!r} is damaged: its checksum does not agree. "
                               "Start again: an older snapshot will be used")
        return state  # type: ignore[no-any-return]

    def seen(self, key: Key) -> float | None:
        """The event time of a key's last event, as its newest row has it."""
        with self._file.reading() as db:
            row = db.execute("SELECT seen FROM states WHERE key = ? ORDER BY generation DESC LIMIT 1",
                             (pack_key(key),)).fetchone()  # fmt: skip
        return None if row is None else row[0]

    def idle(self, before: float) -> list[Key]:
        """Keys whose newest row says that they were last seen before that event time."""
        with self._file.reading() as db:
            rows = db.execute("SELECT key, seen, crc, max(generation) FROM states GROUP BY key").fetchall()
        return [unpack_key(key) for key, seen, crc, _ in rows if crc is not None and seen is not None and seen < before]

    @property
    def whole(self) -> int:
        """How many snapshots still have all their key states."""
        return len(self._generations([]))

    def history(self) -> list[Snapshot]:
        """Every snapshot that is kept, newest first, without arrays: what `rollback` can choose from."""
        with self._file.reading() as db:
            headers = [h for (h,) in db.execute("SELECT header FROM snapshots ORDER BY generation DESC")]
            return [_snapshot(msgspec.msgpack.decode(h, type=_Header), {}) for h in headers]

    def kept(self) -> list[Snapshot]:
        """The same as far as it can be read; nothing of it is verified."""
        with contextlib.suppress(StateError):
            return self.history()
        return []

    def past(self, generation: int) -> Snapshot:
        """A kept snapshot's shared arrays, verified; its key states may be gone."""
        return self._verified(generation, with_rows=False)

    def _generations(self, wrong: list[str], whole: int = 1) -> list[int]:
        try:
            with self._file.reading() as db:
                rows = db.execute("SELECT generation FROM snapshots WHERE whole = ? ORDER BY generation DESC",
                                  (whole,)).fetchall()  # fmt: skip
        except StateError as e:
            wrong.append(str(e))
            return []
        return [g for (g,) in rows if isinstance(g, int)]

    def _verified(self, generation: int, with_rows: bool = True) -> Snapshot:
        try:
            with self._file.reading() as db:
                return self._verify(db, generation, with_rows)
        except (TypeError, ValueError, OverflowError, struct.error) as e:  # a damaged cell may have any type
            raise StateDamaged(f"{self.path}: snapshot {generation} is damaged: {e}") from None

    def _verify(self, db: sqlite3.Connection, generation: int, with_rows: bool) -> Snapshot:
        row = db.execute("SELECT digest, header FROM snapshots WHERE generation = ?", (generation,)).fetchone()
        if row is None:
            raise StateError(f"{self.path} has no snapshot {generation}")
        header = msgspec.msgpack.decode(row[1], type=_Header)
        stored = dict(db.execute("SELECT name, value FROM arrays WHERE generation = ?", (generation,)).fetchall())
        arrays = [(name, stored.get(name, b"")) for name in header.names]
        if header.generation != generation or _digest(row[1], arrays) != row[0]:
            raise StateDamaged(f"{self.path}: snapshot {generation} is damaged: its checksum does not agree")
        if with_rows:
            found = crc_sum = 0
            for *_, crc in self._rows(generation):
                found += 1
                crc_sum += crc
            if (found, crc_sum) != (header.keys, header.crc_sum):
                raise StateDamaged(f"{self.path}: snapshot {generation} has {header.keys} keys, and {found} of them, "
                                   "or others, are here")  # fmt: skip
        return _snapshot(header, {name: unpack_array(msgspec.msgpack.decode(value)) for name, value in arrays})

    def _drop_newer(self, generation: int) -> None:
        """Forget what came after a snapshot: it will be learnt again."""
        with self._file.transaction() as db:
            if db.execute("SELECT max(generation) FROM snapshots").fetchone()[0] == generation:
                return
            for table in ("states", "arrays", "snapshots"):
                db.execute(f"DELETE FROM {table} WHERE generation > ?", (generation,))

    def _rebuild(self, found: Snapshot | None, wrong: list[str]) -> None:
        """Begin a new file with what verifies in this one, which is put aside.

        The new file waits complete under another name until the old one is out of the way: see `_open`.
        """
        part = self._beside(".part")
        _unlink(part)
        with Store(part, retain=self.retain) as fresh:
            fresh._take_over(self, found, wrong)
        part.replace(self._rebuilt)
        starts = self._starts()
        with contextlib.suppress(StateError):
            starts |= self._start_cells()
        self.close()
        aside = move_aside(self.path)
        self._open()
        for log, place in starts.items():
            self.set_start(log, place)
        self.damaged = f"{'; '.join(dict.fromkeys(wrong))}; the damaged file was put aside as {aside.name}"

    def _take_over(self, old: Store, found: Snapshot | None, wrong: list[str]) -> None:
        """Copy a snapshot, the settings log and the past snapshots that verify."""
        try:
            for change in old.settings_log():
                self.log_setting(change)
        except StateError as e:
            wrong.append(str(e))
        with self._file.transaction() as db:
            self._file.put_cell("epoch", old.epoch)
            self._file.epoch = old.epoch
            if found is None:
                return
            self._file.put_cell("generation", found.generation - 1)
            for generation in old._generations(wrong, whole=0):
                with contextlib.suppress(StateError):
                    old.past(generation)
                    old._copy_past(db, generation)
        self.checkpoint(found, old.rows(found.generation))

    def _copy_past(self, db: sqlite3.Connection, generation: int) -> None:
        """Put one of our snapshots into another file, as one of the past: without its key states."""
        with self._file.reading() as ours:
            digest, header = ours.execute("SELECT digest, header FROM snapshots WHERE generation = ?",
                                          (generation,)).fetchone()  # fmt: skip
            arrays = ours.execute("SELECT name, value FROM arrays WHERE generation = ?", (generation,)).fetchall()
        db.execute("INSERT INTO snapshots VALUES(?, 0, ?, ?)", (generation, digest, header))
        db.executemany("INSERT INTO arrays VALUES(?, ?, ?)", [(generation, *array) for array in arrays])

    @property
    def _rebuilt(self) -> Path:
        return self._beside(".rebuilt")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _start_cells(self) -> dict[str, Place]:
        found = {}
        with self._file.reading() as db:
            for name, crc, value in db.execute("SELECT name, crc, value FROM cells WHERE name LIKE 'start:%'"):
                with contextlib.suppress(StateDamaged):
                    found[name.removeprefix("start:")] = unpack(crc, value, Place, name)
        return found


def _packed(snapshot: Snapshot) -> list[tuple[str, bytes]]:
    """Its arrays, as they are stored."""
    if not snapshot.created_s:
        snapshot.created_s = time.time()
    return [(name, msgspec.msgpack.encode(pack_array(array))) for name, array in snapshot.arrays.items()]


def _row_crc(key: bytes, generation: int, seen: float | None, state: Any) -> int:
    """The checksum of a key's row."""
    return zlib.crc32(state, zlib.crc32(key + _ROW.pack(generation, math.nan if seen is None else seen)))


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def thinned(created: Mapping[int, float], now_s: float) -> list[int]:
    """Which past snapshots to drop: kept are the first of each hour for a day, the first of each day for a month.

    >>> thinned({1: 0.0, 2: 600.0, 3: 3700.0, 4: 7000.0}, now_s=7200.0)
    [2, 4]
    """
    taken: set[tuple[str, int]] = set()
    drop = []
    for generation in sorted(created):
        at = created[generation]
        age = now_s - at
        slots = {("day", int(at // _DAY_S))} if age < _MONTH_S else set()
        if age < _DAY_S:
            slots.add(("hour", int(at // _HOUR_S)))
        if slots <= taken:
            drop.append(generation)
        taken |= slots
    return drop


def _insert(
    db: sqlite3.Connection, generation: int, changed: Iterable[KeyState], gone: Iterable[Key]
) -> tuple[int, int]:
    """Write the rows; how many have a state, and the sum of their checksums."""
    insert = partial(db.executemany, "INSERT INTO states(key, generation, crc, seen, state) VALUES(?, ?, ?, ?, ?)")
    rows: list[tuple[Any, ...]] = []
    total = 0
    live: set[bytes] = set()
    for key, state, seen in changed:
        packed = pack_key(key)
        crc = _row_crc(packed, generation, seen, state)
        total += crc
        live.add(packed)
        rows.append((packed, generation, crc, seen, state))
        if len(rows) == _BATCH:
            insert(rows)
            rows = []
    dead = {pack_key(key) for key in gone} - live  # one that came back at once has a state again
    rows += [(packed, generation, None, None, None) for packed in sorted(dead)]
    insert(rows)
    return len(live), total


def _counts(header: bytes) -> tuple[int, int]:
    found = msgspec.msgpack.decode(header, type=_Header)
    return found.keys, found.crc_sum


def _digest(header: bytes, arrays: Iterable[tuple[str, bytes]]) -> bytes:
    """Over everything of a snapshot but its key rows, whose count and sum are in the header."""
    h = hashlib.blake2b(header, digest_size=32)
    for name, value in arrays:
        h.update(name.encode())
        h.update(value)
    return h.digest()


def _snapshot(header: _Header, arrays: Arrays) -> Snapshot:
    return Snapshot(
        positions=header.positions, marks=header.marks, settings=header.settings, arrays=arrays, info=header.info,
        created_s=header.created_s, generation=header.generation,
    )  # fmt: skip
