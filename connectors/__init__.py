"""What a stream's two ends look like to the engine. A connector opens, reads, writes and closes: no policy.

    Source ── join(owner) ──▶ owner.assigned([Log, …]) … owner.revoked / owner.lost      who has which log
    Log    ── seek, read, wait, acknowledge                                             one ordered log
    Sink   ── open(shard) ──▶ Output ── write, mark ──▶ Unit ── commit                   what is out, what is durable

A log is what one learner follows: a file, a Kafka partition, a journal. The `source` text of an output
record is `log.name + "/".join(position)`: "file:0/1234", "sensors/3/55". A mark is such a text too.
Connectors know `records.py` and nothing else of the engine; third parties offer theirs by entry points in
the groups `stream_rnn.sources` and `stream_rnn.sinks` (registry.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from stream_rnn.records import Position, Record


class Message(msgspec.Struct, gc=False):
    """One thing to write: a prediction, a dead letter or an alert."""

    value: bytes | None  # one line of JSON; a dead letter keeps its record's own bytes where headers carry the rest
    source: str  # where its event was read
    record: Record | None = None  # the event's record: key, timestamp and partition for a sink that keeps them
    headers: tuple[tuple[str, bytes], ...] = ()


class Log(Protocol):
    """One ordered log. Used by one thread."""

    @property
    def name(self) -> str:
        """What its `source` texts begin with."""

    @property
    def id(self) -> str:
        """What its positions are stored under; the same in every run."""

    @property
    def replays(self) -> bool:
        """Whether `seek` can go back; if not, the engine keeps a journal of it."""

    @property
    def finished(self) -> bool:
        """Nothing more will ever come."""

    def first(self, where: str) -> Position:
        """Where to begin where no position is known: "earliest" or "latest"."""

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Read on from there. `notes` as they were given for that position."""

    def notes(self, position: Position) -> bytes:
        """What the log wants to be told again with this position (which file it was); stored beside it."""

    def read(self, limit: int) -> list[Record]:
        """Up to `limit` records without waiting; none when none has arrived."""

    def wait(self, timeout_s: float) -> None:
        """Come back when a `read` may give something, or after `timeout_s`."""

    # Optional: `recognise(notes)` raises if the notes are of another log of this name; `shared_state()`: SharedState.

    def acknowledge(self, position: Position) -> None:
        """Nothing before `position` will be asked for again."""

    def close(self) -> None:
        """Let go."""


class Snapshot(msgspec.Struct):
    """A shard's state as of a position, to be kept where any machine finds it."""

    data: bytes | bytearray
    position: Position
    notes: bytes = b""


class SharedState(Protocol):
    """A shard's newest snapshot, where any machine finds it. A log that has such a place offers it as `shared_state()`.

    Opened and read by the shard's thread, then written by one other. `SinkFenced`: another process writes there.
    """

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def position(self) -> Position | None:
        """The newest snapshot's; None: there is none."""

    def newest(self) -> Snapshot | None:
        """The newest that is whole."""

    def put(self, snapshot: Snapshot) -> bool:
        """Make it the newest, whole or not at all; False: there is one that is further, which is left alone."""

    def close(self) -> None:
        """Let go; to put more, open it again."""


class Owner(Protocol):
    """Who is told what it may read: the engine. Each call returns only when it is done with."""

    def assigned(self, logs: Sequence[Log]) -> None:
        """These are ours from now on."""

    def revoked(self, logs: Sequence[Log]) -> None:
        """These are about to be another's: finish, commit, let go."""

    def lost(self, logs: Sequence[Log]) -> None:
        """These are another's already: let go without writing."""


class Source(Protocol):
    """One or more logs, and who owns them."""

    def join(self, owner: Owner) -> None:
        """Take part; `owner` is called now (a file) or whenever a group's coordinator says so (Kafka)."""

    def close(self) -> None:
        """Leave."""


class Unit(Protocol):
    """What becomes durable in one step: one file, or all outputs of a Kafka transaction.

    Where it has an attribute `beside` that is true, `commit` may run in another thread while more is written: what is
    written meanwhile may or may not be covered, and is covered by the next.
    """

    def commit(self, last: str, resume_at: Position, log: Log) -> None:
        """Make durable all that was written, and that `log` is done through `last` and goes on at `resume_at`."""


class Output(Protocol):
    """One shard's end of a sink."""

    @property
    def unit(self) -> Unit:
        """What to commit; outputs that share a unit are committed together."""

    @property
    def has_mark(self) -> bool:
        """False: it cannot say what is already out (stdout), so a restart may repeat some."""

    # Optional: `everywhere` is true where any machine sees the same output, so that its mark counts for snapshots from
    # elsewhere; `marks_events` where a mark is the last event's, and only after a commit; `no_mark` says why there may
    # be no mark where there was one, and what to do.

    @property
    def keeps_headers(self) -> bool:
        """True: a dead letter is its record's own bytes with the reason in headers; False: a line of JSON."""

    def mark(self) -> str | None:
        """The `source` of the last message that is out, or of the last event whose outputs are; None: none is."""

    def write(self, messages: Sequence[Message]) -> None:
        """Take these, in order; durable only after `unit.commit`."""

    def close(self) -> None:
        """Let go, without committing."""


class Sink(Protocol):
    """A place for outputs."""

    def open(self, shard: str) -> Output:
        """The output of one shard; "" where the source has one log only."""


__all__ = ["Log", "Message", "Output", "Owner", "SharedState", "Sink", "Snapshot", "Source", "Unit"]
