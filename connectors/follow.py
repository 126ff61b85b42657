"""A growing file of lines, followed across rotation by rename.

When the path is another file than the one that is open, the open one was rotated: it is read to its end,
then the next, in the order of their last change, the path's own last. A line without its line break waits.
Rotation by copy and truncate loses lines whatever a reader does, so it is refused where it is seen.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from stream_rnn import phases
from stream_rnn.connectors import identity
from stream_rnn.connectors.identity import HEAD_BYTES, Identity
from stream_rnn.connectors.lines import CHUNK_BYTES, LineCutter
from stream_rnn.errors import SourceError
from stream_rnn.records import Position, Record

_TAIL_BYTES = 256  # before the place where we wait: a file rewritten under us differs there
_TORN_WAIT_S = 5.0  # how long a rotated file's unfinished last line may still be completed
_REMEMBERED = 16  # earlier files that must not be taken for later ones
_PACKED = (".gz", ".bz2", ".xz", ".zst")


class FollowedLines:
    """The file that a path names, for as long as it grows."""

    finished = False

    def __init__(self, path: Path, *, csv: bool, delimiter: str | None) -> None:
        self._path = path
        self._cutter = LineCutter(str(path), csv=csv, quoted_breaks=False, delimiter=delimiter)
        self._fd = -1
        self._generation = 0
        self._read_to = 0  # byte up to which the open file has been fed to the cutter
        self._tail = b""  # the last bytes before it
        self._files: dict[int, Identity] = {}  # by generation, the open one's last
        self._open_path()

    @property
    def columns(self) -> tuple[str, ...] | None:
        """A CSV's, once its header has come."""
        return self._cutter.columns

    def read(self, limit: int) -> list[Record]:
        """Whole lines that have come."""
        records = self._cutter.take(limit)
        while len(records) < limit and (not self._cutter.empty or self._load()):
            records += self._cutter.take(limit - len(records))
        return records

    def end(self) -> Position:
        """After the last whole line of the file as it is."""
        if self._fd < 0 and not self._open_path():
            return (0, 0)
        size = os.fstat(self._fd).st_size
        at = size
        while at > 0:
            start = max(0, at - CHUNK_BYTES)
            cut = os.pread(self._fd, at - start, start).rfind(b"\n")
            if cut >= 0:
                return (self._generation, start + cut + 1)
            at = start
        return (self._generation, 0)

    def seek(self, position: Position, notes: bytes) -> None:
        """Find the file that this was, whatever it is called now, and go there."""
        generation, byte = position
        self.close()
        self._files.clear()
        if notes:
            known = identity.load(notes)
            self._files = {generation - i: file for i, file in enumerate(known)}
            fd = self._find(known[0])
            for _ in range(3):  # it may have been renamed while we looked
                if fd < 0:
                    time.sleep(0.02)
                    fd = self._find(known[0])
            if fd < 0:
                raise SourceError(
                    f"the file that this state was reading is no longer beside {self._path}: it was deleted, packed "
                    f"or rewritten before byte {byte} was reached. Put it back, or begin with a new state"
                )
            self._begin(fd, generation, byte)
        elif (fd := _open(self._path)) >= 0:
            self._begin(fd, generation, byte)
        elif byte:
            raise SourceError(f"{self._path} is gone, and this state goes on at its byte {byte}")
        else:
            self._generation = generation

    def notes(self, position: Position) -> bytes:
        """The identity of that position's file."""
        if position[0] == self._generation and self._fd >= 0:
            self._remember()
        files = [self._files[g] for g in range(position[0], position[0] - _REMEMBERED, -1) if g in self._files]
        return identity.dump(files) if position[0] in self._files else b""

    def acknowledge(self, position: Position) -> None:
        """Forget files long past."""
        for generation in [g for g in self._files if g <= position[0] - _REMEMBERED]:
            del self._files[generation]

    def close(self) -> None:
        """Close the open file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open_path(self) -> bool:
        """Open what the path names, from its beginning, if there is such a file yet."""
        fd = _open(self._path)
        if fd >= 0:
            self._begin(fd, self._generation, 0)
        return fd >= 0

    def _begin(self, fd: int, generation: int, byte: int) -> None:
        self.close()
        self._fd, self._generation, self._read_to = fd, generation, byte
        size = os.fstat(fd).st_size
        if size < byte:
            raise SourceError(self._rewritten(f"has {size} bytes where {byte} had been read"))
        self._tail = os.pread(fd, min(_TAIL_BYTES, byte), max(0, byte - _TAIL_BYTES))
        header = None
        if byte and self._cutter.csv:
            header = os.pread(fd, 1 << 20, 0).split(b"\n", 1)[0].removesuffix(b"\r")
        self._cutter.begin(generation, byte, header)
        self._remember()

    def _remember(self) -> None:
        known = self._files.get(self._generation)
        if known is None or known.head_bytes < HEAD_BYTES:
            self._files[self._generation] = Identity.of(self._fd)

    def _load(self) -> bool:
        """Take in what has come; False: nothing has."""
        if self._fd < 0 and not self._open_path():
            return False
        if self._take_bytes():
            return True
        moved = self._successor()
        if moved is None:
            return False
        if self._take_bytes():  # written between our last look and the rename
            return True
        if self._cutter.torn and time.time() - os.fstat(self._fd).st_mtime < _TORN_WAIT_S:
            return False
        self._cutter.end()
        if not self._cutter.empty:  # a torn last line that nobody will complete
            return True
        path, inode = moved
        phases.enter("rotation")
        fd = _open(path)
        if fd < 0 or os.fstat(fd).st_ino != inode:  # rotated again just now: look afresh
            if fd >= 0:
                os.close(fd)
            return False
        self._remember()
        self._begin(fd, self._generation + 1, 0)
        return True

    def _take_bytes(self) -> bool:
        size = os.fstat(self._fd).st_size
        if size < self._read_to:
            raise SourceError(self._rewritten(f"shrank from {self._read_to} to {size} bytes"))
        if size == self._read_to:
            return False
        data = os.pread(self._fd, CHUNK_BYTES + len(self._tail), self._read_to - len(self._tail))
        old, data = data[: len(self._tail)], data[len(self._tail) :]
        if old != self._tail:
            raise SourceError(self._rewritten(f"no longer holds what was read before byte {self._read_to}"))
        self._cutter.feed(data)
        self._read_to += len(data)
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return bool(data)

    def _rewritten(self, found: str) -> str:
        return (
            f"{self._path} {found}: it was truncated or rewritten in place, which loses lines. Rotate it by rename "
            "(logrotate: `create`, not `copytruncate`), and begin with a new state or the file as it was"
        )

    def _successor(self) -> tuple[Path, int] | None:
        """Path and inode of the file that came after the open one, if that was rotated away."""
        open_file = os.fstat(self._fd)
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return None  # renamed, and the new one is not there yet
        if current.st_ino == open_file.st_ino or current.st_size == 0:
            return None
        between: list[tuple[int, Path, int]] = []
        for path, fd in self._siblings():
            info = os.fstat(fd)
            if info.st_ino in (open_file.st_ino, current.st_ino) or info.st_mtime_ns < open_file.st_mtime_ns:
                continue
            if any(known.is_open_as(fd) for known in self._files.values()):
                continue
            if path.suffix in _PACKED:
                raise SourceError(
                    f"{path} was packed before it was read; let the rotation delay packing "
                    "(logrotate: `delaycompress`), unpack it, and start again"
                )
            between.append((info.st_mtime_ns, path, info.st_ino))
        return min(between)[1:] if between else (self._path, current.st_ino)

    def _find(self, known: Identity) -> int:
        """The file with that identity, opened: by inode, or (moved, restored) by its beginning; -1: there is none."""
        alike: list[int] = []
        for _, fd in self._siblings():
            if known.is_open_as(fd):
                alike, others = [os.dup(fd)], alike
                for other in others:
                    os.close(other)
                break
            if known.head_bytes >= _TAIL_BYTES and known.head_is(fd):
                alike.append(os.dup(fd))
        if len(alike) == 1:
            return alike[0]
        for fd in alike:
            os.close(fd)
        return -1

    def _siblings(self) -> Iterator[tuple[Path, int]]:
        """The path's file and those that rotation may have named after it, opened for a moment."""
        pattern = "".join(f"[{c}]" if c in "*?[" else c for c in self._path.name)
        for path in [self._path, *sorted(self._path.parent.glob(f"{pattern}[.-]*"))]:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait at a named pipe
            except OSError:
                continue
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    yield path, fd
            finally:
                os.close(fd)


def _open(path: Path) -> int:
    """A descriptor to read from; -1 where there is no such file, or no longer."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
