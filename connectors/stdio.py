"""Standard input and output. Input cannot be read twice, so the engine keeps a journal of it; output keeps no mark."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Sequence

from stream_rnn.connectors import Log, Message, Owner
from stream_rnn.connectors.lines import CHUNK_BYTES, LineCutter
from stream_rnn.errors import ConfigError, InputError, SinkError, SourceError
from stream_rnn.records import Position, Record


class StdinSource:
    """Lines from a file descriptor. Position: (0, byte), counted from where this process began to read."""

    name = "stdin:"
    id = "stdin"
    replays = False

    def __init__(self, *, format: str = "json", delimiter: str | None = None, fd: int = 0) -> None:
        if format not in ("csv", "json", "text"):
            raise ConfigError(f"standard input is read as csv, json (one object a line) or text, not {format!r}")
        self._fd = fd
        self._cutter = LineCutter("standard input", csv=format == "csv", delimiter=delimiter)
        self._ended = False

    def join(self, owner: Owner) -> None:
        """It is ours at once."""
        owner.assigned([self])

    @property
    def columns(self) -> tuple[str, ...] | None:
        """A CSV's, once its header has come."""
        return self._cutter.columns

    @property
    def finished(self) -> bool:
        """The other end has closed, and all is read."""
        return self._ended and self._cutter.empty

    def first(self, where: str) -> Position:
        """Where it stands."""
        return (0, 0)

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Only to the beginning, before anything was read."""
        if position != (0, 0):
            raise SourceError(f"standard input cannot go back to {position}")

    def notes(self, position: Position) -> bytes:
        """None."""
        return b""

    def read(self, limit: int) -> list[Record]:
        """What has come."""
        records = self._cutter.take(limit)
        while len(records) < limit and not self.finished and (not self._cutter.empty or self._load(0.0)):
            records += self._cutter.take(limit - len(records))
        return records

    def wait(self, timeout_s: float) -> None:
        """Until something comes."""
        if self._cutter.empty and not self._ended:
            select.select([self._fd], [], [], timeout_s)

    def acknowledge(self, position: Position) -> None:
        """Nobody to tell."""

    def close(self) -> None:
        """The descriptor is not ours to close."""

    def _load(self, timeout_s: float) -> bool:
        """Take in what has come; False: nothing has."""
        if self._ended or not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except OSError as e:
            raise InputError(f"standard input cannot be read: {e.strerror}") from None
        if data:
            self._cutter.feed(data)
        else:
            self._cutter.end()
            self._ended = True
        return True


class StdoutSink:
    """Lines to a file descriptor. At least once: what a restart repeats, it cannot know."""

    def __init__(self, *, fd: int = 1) -> None:
        self._fd = fd

    def open(self, shard: str) -> StdoutOutput:
        """The same descriptor for every shard."""
        return StdoutOutput(self._fd)


class StdoutOutput:
    """Whole lines, a block at a time. Its own unit."""

    has_mark = False
    keeps_headers = False

    def __init__(self, fd: int) -> None:
        self.unit = self
        self._fd = fd

    def mark(self) -> str | None:
        """It has none."""
        return None

    def write(self, messages: Sequence[Message]) -> None:
        """A line each."""
        if not messages:
            return
        view = memoryview(b"\n".join([m.value or b"{}" for m in messages]) + b"\n")
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as e:
            raise SinkError(f"standard output is closed: {e.strerror}") from e

    def commit(self, last: str, resume_at: Position, log: Log) -> None:
        """To the disk, where it leads to a file."""
        with contextlib.suppress(OSError):  # a pipe or a terminal has no disk
            os.fsync(self._fd)

    def close(self) -> None:
        """The descriptor is not ours to close."""
