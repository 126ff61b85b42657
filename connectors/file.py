"""Files as a source and a sink: CSV and JSON lines, plain or gzipped, Parquet; a growing file; JSON lines out.

A position is (generation, byte): the generation counts the files that a followed path has had, the byte is
counted in the text after gunzip. In a Parquet file it is (0, row).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from stream_rnn.connectors import Log, Message, Owner, identity
from stream_rnn.connectors.lines import CHUNK_BYTES, LineCutter
from stream_rnn.errors import ConfigError, InputError, SinkError, SourceError, StateBusy
from stream_rnn.records import Position, Record

try:
    import fcntl
except ImportError:  # Windows: two writers to one file are not noticed
    fcntl = None  # type: ignore[assignment]

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_LAST_LINE_BYTES = 1 << 16  # first guess at how far back the last complete line begins


def format_of(path: str | os.PathLike[str]) -> str:
    """json, csv or parquet, by the name's suffix; `.gz` is looked through.

    >>> format_of("readings.csv.gz")
    'csv'
    """
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in FORMATS:
        raise ConfigError(
            f"{os.fspath(path)!r}: the suffix {suffix!r} names no format; use one of {', '.join(FORMATS)} "
            "(the lines also with .gz), or name the format"
        )
    return FORMATS[suffix]


class Reader(Protocol):
    """What FileSource asks of each kind of file."""

    @property
    def columns(self) -> tuple[str, ...] | None: ...
    @property
    def finished(self) -> bool: ...
    def read(self, limit: int) -> list[Record]: ...
    def seek(self, position: Position, notes: bytes) -> None: ...
    def end(self) -> Position: ...
    def notes(self, position: Position) -> bytes: ...
    def acknowledge(self, position: Position) -> None: ...
    def close(self) -> None: ...


class FileSource:
    """One file from its beginning to its end, or (`follow`) for as long as it grows, across rotation by rename.

    It is its own only log. `columns`: the names of a CSV's or Parquet file's columns, once known; else None.
    """

    name = "file:"
    replays = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        follow: bool = False,
        delimiter: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.format = format or format_of(path)
        self.id = f"file:{self.path.resolve()}"
        suffix = self.path.suffix.lower()
        gzipped = suffix == ".gz"
        if suffix == ".tsv" and delimiter is None:
            delimiter = "\t"
        if self.format not in ("csv", "json", "parquet", "text"):
            raise ConfigError(
                f"{self.path}: a file is csv, json (one object a line), parquet or text, not {self.format}"
            )
        if follow and (gzipped or self.format == "parquet"):
            kind = "gzipped" if gzipped else "Parquet"
            raise ConfigError(f"source.follow: {self.path} is {kind}; only a plain .jsonl or .csv file can be followed")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder; name a file")
        if not follow and not self.path.exists():
            raise InputError(f"{self.path}: there is no such file")
        try:
            self._reader = self._open(follow, gzipped, delimiter)
        except OSError as e:
            raise InputError(f"{self.path}: {e.strerror or e}") from None

    def _open(self, follow: bool, gzipped: bool, delimiter: str | None) -> Reader:
        if self.format == "parquet":
            from stream_rnn.connectors.parquet import ParquetRows

            return ParquetRows(self.path)
        if follow:
            from stream_rnn.connectors.follow import FollowedLines

            return FollowedLines(self.path, csv=self.format == "csv", delimiter=delimiter)
        kind = {"csv": self.format == "csv", "json": self.format == "json"}
        return WholeLines(self.path, **kind, gzipped=gzipped, delimiter=delimiter)

    def join(self, owner: Owner) -> None:
        """The file is ours at once."""
        owner.assigned([self])

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Column names, where the format has them."""
        return self._reader.columns

    @property
    def finished(self) -> bool:
        """Read to its end; never so for a followed file."""
        return self._reader.finished

    def first(self, where: str) -> Position:
        """The file's beginning, or its present end."""
        return (0, 0) if where == "earliest" else self._reader.end()

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Read on from there; SourceError if that is no longer the file it was."""
        self._reader.seek(position, notes)

    def notes(self, position: Position) -> bytes:
        """Which file that was."""
        return self._reader.notes(position)

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` records; none at the end, or where a followed file has nothing new."""
        return self._reader.read(limit)

    def wait(self, timeout_s: float) -> None:
        """Look again a little later (a growing file tells nobody)."""
        if not self.finished:
            time.sleep(min(timeout_s, 0.02))

    def acknowledge(self, position: Position) -> None:
        """Forget the files before it."""
        self._reader.acknowledge(position)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class WholeLines:
    """A file of lines that is read once through."""

    def __init__(self, path: Path, *, csv: bool, json: bool, gzipped: bool, delimiter: str | None) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._stream: Any = gzip.GzipFile(fileobj=self._file) if gzipped else self._file
        self._cutter = LineCutter(str(path), csv=csv, delimiter=delimiter)
        self._ended = False
        while not self._ended and self._cutter.empty and (self._cutter.columns is None or not csv):
            self._load()
        if csv and self._cutter.columns is None:
            raise InputError(f"{path} is empty; a CSV file begins with a line of column names")
        if json and self._cutter.peek().lstrip()[:1] == b"[":
            raise InputError(f"{path} is a JSON array; make it one object a line: jq -c '.[]' {path.name} > new.jsonl")

    @property
    def columns(self) -> tuple[str, ...] | None:
        """A CSV's."""
        return self._cutter.columns

    @property
    def finished(self) -> bool:
        """At its end."""
        return self._ended and self._cutter.empty

    def read(self, limit: int) -> list[Record]:
        """The next records."""
        records = self._cutter.take(limit)
        while len(records) < limit and not self.finished:
            if self._cutter.empty:
                self._load()
            records += self._cutter.take(limit - len(records))
        return records

    def seek(self, position: Position, notes: bytes) -> None:
        """Go to a byte; a gzipped file is read through up to it."""
        generation, byte = position
        if notes and not identity.load(notes)[0].head_is(self._file.fileno()):
            raise SourceError(
                f"{self._path} is not the file that this state has read: its beginning differs; "
                "give it another path, or begin with a new state"
            )
        if generation != 0:
            raise SourceError(f"position {position} is in a rotated file, and {self._path} is not followed")
        self._guard(lambda: self._stream.seek(byte))
        if self._stream.tell() < byte or (self._stream is self._file and os.fstat(self._file.fileno()).st_size < byte):
            raise SourceError(f"{self._path} ends before byte {byte}, where this state goes on: it was cut")
        self._cutter.begin(0, byte, self._cutter.header if byte else None)
        self._ended = False

    def end(self) -> Position:
        """Its size in bytes of text."""
        while not self._ended:
            self._load()
            self._cutter.take(1 << 30)
        return (0, self._guard(self._stream.tell))

    def notes(self, position: Position) -> bytes:
        """The file's identity."""
        return identity.dump([identity.Identity.of(self._file.fileno())])

    def acknowledge(self, position: Position) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Close it."""
        self._stream.close()
        self._file.close()

    def _load(self) -> None:
        data = self._guard(lambda: self._stream.read(CHUNK_BYTES))
        if data:
            self._cutter.feed(data)
        else:
            self._cutter.end()
            self._ended = True

    def _guard(self, action: Any) -> Any:
        try:
            return action()
        except (OSError, EOFError, zlib.error) as e:
            raise InputError(f"{self._path} cannot be read: {e}") from None


class FileSink:
    """JSON lines. One file; where the source has several logs, one a shard: forecasts.jsonl → forecasts-3.jsonl."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if format_of(path) != "json" or self.path.suffix.lower() == ".gz":
            raise ConfigError(f"sink.path = {os.fspath(path)!r}: outputs are JSON lines; let the name end in .jsonl")

    def open(self, shard: str) -> FileOutput:
        """The file of one shard; cuts a torn last line off."""
        path = self.path.with_name(f"{self.path.stem}-{shard}{self.path.suffix}") if shard else self.path
        return FileOutput(path)


class _Line(msgspec.Struct):
    source: str


class FileOutput:
    """One file of JSON lines, each with its `source`: the last complete line is the mark. Its own unit."""

    has_mark = True
    keeps_headers = False
    beside = True  # as a unit: `commit` may run in another thread while more is written

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unit = self
        self._mark: str | None = None
        self._turn = threading.Lock()  # between writing and taking back
        self._refused = ""  # what the disk said to an earlier commit
        self._dirty = True  # what an earlier process left may not be on the disk yet
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = not path.exists()
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise SinkError(f"{path} cannot be opened for writing: {e.strerror}") from None
        try:
            self._lock()
            self._mark = self._cut_torn_tail()
            self._durable_bytes = os.lseek(self._fd, 0, os.SEEK_CUR)  # as far as we can know
            if new:
                _sync_folder(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def mark(self) -> str | None:
        """The last line's `source`."""
        return self._mark

    def write(self, messages: Sequence[Message]) -> None:
        """Append a line each."""
        if not messages:
            return
        data = b"\n".join([m.value or b"{}" for m in messages]) + b"\n"
        with self._turn:
            if self._refused:
                raise SinkError(self._refused)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError as e:
                raise SinkError(f"{self.path}: writing failed: {e.strerror}; mend that and start again") from e
            finally:
                self._dirty = True
        self._mark = messages[-1].source

    def commit(self, last: str, resume_at: Position, log: Log) -> None:
        """To the disk."""
        if self._refused:  # also to the commits that were waiting behind the one that failed
            raise SinkError(self._refused)
        if not self._dirty:
            return
        with self._turn:
            self._dirty = False  # what is written from now on waits for the next
            size = os.lseek(self._fd, 0, os.SEEK_CUR)
        try:
            os.fsync(self._fd)
        except OSError as e:
            refused = f"{self.path}: the disk refused it: {e.strerror}; start again when it is well"
            self._take_back(refused)
            raise SinkError(refused) from e
        self._durable_bytes = size

    def _take_back(self, why: str) -> None:
        """Cut off what may never reach the disk: the next to open the file would see it in the system's cache, and
        take it for durable. What is lost here is written again."""
        with self._turn, contextlib.suppress(OSError):
            self._refused = why
            os.ftruncate(self._fd, self._durable_bytes)

    def close(self) -> None:
        """Close it; another may open it now."""
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateBusy(f"{self.path} is written by another process; stop it, or choose another path") from None

    def _cut_torn_tail(self) -> str | None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        back = _LAST_LINE_BYTES
        while True:
            data = os.pread(self._fd, min(back, size), max(0, size - back))
            whole = data.rfind(b"\n") + 1
            before = data.rfind(b"\n", 0, max(0, whole - 1)) + 1
            if back >= size or (whole and before):
                break
            back *= 2
        keep = size - len(data) + whole
        if keep < size:
            os.ftruncate(self._fd, keep)
        os.lseek(self._fd, keep, os.SEEK_SET)
        if not keep:
            return None
        try:
            return msgspec.json.decode(data[before:whole], type=_Line).source
        except msgspec.MsgspecError:
            raise SinkError(
                f"{self.path}: its last line is not one of ours (no text `source` in it): "
                "move the file away, or choose another path"
            ) from None


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems know no such thing
            os.fsync(fd)
    finally:
        os.close(fd)
