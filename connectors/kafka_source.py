"""Reading: a member of the job's group polls in a thread of its own, and each partition's log buffers its records.

The group may give and take partitions at any time. The owner hears of it from the poll thread (given) or from
within the client's poll (taken: the group waits until the owner has committed and let go).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stream_rnn.connectors import Owner, SharedState
from stream_rnn.connectors.kafka_client import FencedMember, Member, OutOfRange, Topic
from stream_rnn.errors import SinkFenced, SourceError, SourceGap, StreamRnnError
from stream_rnn.records import Position, Record

if TYPE_CHECKING:
    from stream_rnn.connectors.kafka import KafkaJob

logger = logging.getLogger("stream_rnn.kafka")

_POLL_S = 0.05  # the longest that a seek waits
_CALM_POLL_S = 0.5  # where all logs flow
_POLL_RECORDS = 2000
_BUFFER_BYTES = 32 << 20  # read ahead of one log; fetching goes on below half of it
_WATCH_S = 2.0  # between two looks whether the topic is still there
_MISSED = 3  # looks after which it is gone
_RECORD_BYTES = 200  # what a record takes besides its own bytes


class KafkaLog:
    """One partition, for as long as it is ours. Position: (offset,). Its shard reads it; the poll thread fills it."""

    replays = True
    finished = False
    columns = None

    def __init__(self, source: KafkaSource, partition: int) -> None:
        self.source = source
        self.partition = partition
        self.shard = str(partition)
        self.name = f"{source.topic}/{partition}/"
        self.id = f"kafka:{source.topic}/{partition}"
        self.ours = True  # no longer: revoked or lost
        self.leaving = False  # being revoked: commits still pass, and the group waits for them
        self.end: int | None = None  # of the partition, as last seen
        self._changed = threading.Condition()
        self._blocks: deque[tuple[list[Record], int]] = deque()  # with their bytes
        self._bytes = 0
        self._target: int | None = None  # seek there at the next poll
        self._fetched: int | None = None  # offset of what comes next from the broker
        self._read: int | None = None  # offset of what comes next from `read`
        self._paused = True  # as a member gets it
        self._failure: StreamRnnError | None = None

    def first(self, where: str) -> Position:
        """The oldest record there is, or the end."""
        earliest, end = self.source.job.lookup.bounds(self.source.topic, self.partition)
        return (earliest,) if where == "earliest" else (end,)

    def seek(self, position: Position, notes: bytes = b"") -> None:
        """Read on from an offset, if the topic is the one that was read and still has it."""
        (offset,) = position
        self.recognise(notes)
        self._check(offset)
        with self._changed:
            self._blocks.clear()
            self._bytes = 0
            self._target = self._fetched = self._read = offset
            self._failure = None

    def recognise(self, notes: bytes) -> None:
        """Raise if they are of another topic of this name."""
        self.source.look(again=True)
        self.source.check_topic(notes.decode())

    def notes(self, position: Position) -> bytes:
        """The topic's id: a topic made again under its old name has another."""
        return self.source.topic_id.encode()

    def read(self, limit: int) -> list[Record]:
        """What has come."""
        failure = self._failure or self.source.failure
        if failure is not None:
            raise failure
        with self._changed:
            if not self._blocks:
                return []
            records, size = self._blocks[0]
            if len(records) <= limit:
                self._blocks.popleft()
                self._bytes -= size
            else:
                self._blocks[0] = (records[limit:], size)
                records = records[:limit]
            self._read = records[-1].resume_at[0]
            return records

    def wait(self, timeout_s: float) -> None:
        """Until something comes."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._blocks or self._failure or self.source.failure or not self.ours, timeout_s
            )

    def acknowledge(self, position: Position) -> None:
        """Where nothing goes to Kafka, show the position there all the same: tools look for it."""
        if not self.source.job.has_sink:
            self.source.acknowledge(self.partition, position[0])

    def shared_state(self) -> SharedState | None:
        """Where the shard's snapshots go; None where outputs stay on one machine, and with them the shard."""
        if not self.ours:
            raise SinkFenced(f"partition {self.shard} of {self.source.topic} is no longer ours")
        return self.source.job.shared_state(self.shard) if self.source.job.has_sink else None

    def close(self) -> None:
        """Nothing to let go: the group says whose it is."""

    @property
    def lag(self) -> int | None:
        """Offsets from what was read to the end, where that is known."""
        return None if self.end is None or self._read is None else max(0, self.end - self._read)

    # The poll thread's side

    def put(self, records: list[Record]) -> None:
        """More records."""
        size = sum([len(r.value or b"") + len(r.key or b"") for r in records]) + _RECORD_BYTES * len(records)
        with self._changed:
            if self._target is None and self._fetched is not None and self.ours:
                self._blocks.append((records, size))
                self._bytes += size
                self._fetched = records[-1].resume_at[0]
                self._changed.notify_all()

    def steer(self, member: Member) -> bool:
        """Carry a seek out; pause when there is too much, and go on when there is not. Whether records may come."""
        with self._changed:
            if self._target is not None:
                member.seek(self.partition, self._target)
                self._target = None
            if self._fetched is None or self._failure is not None:
                wanted = True
            elif self._paused:
                wanted = self._bytes > _BUFFER_BYTES // 2
            else:
                wanted = self._bytes > _BUFFER_BYTES
            if wanted != self._paused:
                (member.pause if wanted else member.resume)(self.partition)
                self._paused = wanted
            return not wanted

    def look_for_the_gap(self) -> None:
        """If what comes next is gone, the next `read` says so."""
        if self._fetched is not None and self._failure is None:
            try:
                self._check(self._fetched)
            except SourceError as e:
                self.fail(e)

    def fail(self, failure: StreamRnnError) -> None:
        """Let the next `read` raise it."""
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def leave(self) -> None:
        """It is not ours any more."""
        with self._changed:
            self.ours = False
            self._blocks.clear()
            self._changed.notify_all()

    def _check(self, offset: int) -> None:
        """Raise if an offset cannot be read from."""
        until = time.monotonic() + self.source.job.deadline_s
        while True:
            earliest, end = self.source.job.lookup.bounds(self.source.topic, self.partition)
            if offset < earliest:
                raise SourceGap(
                    f"{self.name}{offset} should come next, and Kafka has only what begins at {earliest}: retention "
                    f'removed {earliest - offset} offsets before they were read; state.on_gap = "skip" goes on there',
                    (earliest,),
                )
            if offset <= end:
                return
            if time.monotonic() > until:  # a broker that has just come back shows less for a moment
                raise SourceError(
                    f"{self.name}{offset} should come next, and the partition ends at {end}: it lost records, or it is "
                    "another topic of that name; begin with a new state and another job name"
                )
            time.sleep(0.1)


class _Question:
    """From a shard to the poll thread: are we still in the group?"""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.answer = False
        self.answered = threading.Event()

    def tell(self, answer: bool) -> None:
        """The answer."""
        self.answer = answer
        self.answered.set()


class KafkaSource:
    """A topic, read by one member of the job's group."""

    def __init__(self, job: KafkaJob, topic: str) -> None:
        self.job = job
        self.topic = topic
        self.topic_id = ""
        self.partitions = 0
        self.failure: StreamRnnError | None = None
        self.identity: Any = None  # who we are in the group, for transactions
        self.polls = 0
        self.turned_at = 0.0  # time.monotonic() when the poll thread's newest turn began; 0: it does not run
        self.rebalances = 0
        self._owner: Owner | None = None
        self._member: Member | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._logs: dict[int, KafkaLog] = {}
        self._new: list[KafkaLog] = []  # given to us, and the owner does not know yet
        self._acknowledged: dict[int, int] = {}
        self._questions: deque[_Question] = deque()

    def join(self, owner: Owner) -> None:
        """Join the group; it calls `owner`, from another thread, as partitions come and go."""
        self.look()
        self._owner = owner
        self._member = self.job.member(self)
        self._thread = threading.Thread(target=self._run, name=f"poll-{self.topic}", daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name=f"watch-{self.topic}", daemon=True).start()

    def look(self, again: bool = False) -> None:
        """Which topic has that name now; SourceError if there is none (at first), or another than before."""
        found = self.job.lookup.topic(self.topic)
        if found is None and again:  # a broker that has just come back may not know it yet
            return
        if found is None:
            raise SourceError(
                f"Kafka at {self.job.settings.servers} shows us no topic {self.topic}; make it, or let this user "
                f"describe it: kafka-topics.sh --create --topic {self.topic} --partitions 1"
            )
        self._note(found)

    def _note(self, found: Topic) -> None:
        if self.topic_id and found.id and found.id != self.topic_id:
            raise self._made_again(self.topic_id, found.id)
        self.topic_id = found.id
        if 0 < self.partitions < found.partitions:
            logger.warning(
                "topic %s has %d partitions now, and had %d: the new ones begin new models",
                self.topic,
                found.partitions,
                self.partitions,
            )
        self.partitions = found.partitions

    def close(self) -> None:
        """Leave the group. `owner` is called no more."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(self.job.deadline_s + 5)

    def log_of(self, shard: str) -> KafkaLog | None:
        """The log of a shard, if it is ours."""
        return self._logs.get(int(shard)) if shard.isdecimal() else None

    def acknowledge(self, partition: int, offset: int) -> None:
        """To be committed at the next poll."""
        self._acknowledged[partition] = offset

    def confirm(self, log: KafkaLog, topic: str, partition: int) -> bool:
        """Whether the group says that it knows us, asked by the poll thread; False: it does not say so now.

        The poll thread may be waiting for whoever asks, to take the log away.
        """
        asked = _Question(topic, partition)
        self._questions.append(asked)
        until = time.monotonic() + self.job.deadline_s
        while not asked.answered.wait(0.02):
            if not log.ours or log.leaving or self._closing.is_set() or time.monotonic() > until:
                break
        return asked.answer

    def check_topic(self, saved_id: str) -> None:
        """Raise if a state was made from another topic of this name."""
        if saved_id and self.topic_id and saved_id != self.topic_id:
            raise self._made_again(saved_id, self.topic_id)

    def _made_again(self, before: str, now: str) -> SourceError:
        return SourceError(
            f"topic {self.topic} was deleted and made again since this state was saved (its id is {now} and was "
            f"{before}): offsets mean other records now; begin with a new state and another job name"
        )

    def _watch(self) -> None:
        """Beside the polling: whether the topic is still the one that it was. The clients do not say."""
        missed = 0
        while not self._closing.wait(_WATCH_S):
            try:
                found = self.job.lookup.topic(self.topic)
            except StreamRnnError:  # nobody answers
                continue
            missed = missed + 1 if found is None else 0
            try:
                if found is not None:
                    self._note(found)
                elif missed == _MISSED:
                    raise SourceError(f"topic {self.topic} was deleted while it was being read")
            except SourceError as e:
                self.fail(e)
                return

    def fail(self, failure: StreamRnnError) -> None:
        """Every log raises it from now on."""
        self.failure = self.failure or failure
        for log in list(self._logs.values()):
            log.fail(self.failure)

    def fenced(self) -> StreamRnnError:
        """Our group.instance.id is another's: nothing more can be done here."""
        instance = self.job.settings.get("group.instance.id")
        self.fail(
            SourceError(
                f'another process runs with "group.instance.id" = {instance!r} in group {self.job.group} and has '
                "taken its place; give every process its own"
            )
        )
        assert self.failure is not None
        return self.failure

    # The member's calls, from within `poll`

    def on_assigned(self, partitions: Sequence[int]) -> None:
        """Ours from now on; the owner is told when `poll` is over, for it may take its time."""
        self._identify()
        self.rebalances += 1
        for partition in partitions:
            self._logs[partition] = log = KafkaLog(self, partition)
            self._new.append(log)

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Another's soon: the owner finishes, and the group waits for it."""
        self._identify()
        self.rebalances += 1
        known = self._take(partitions)
        for log in known:
            log.leaving = True
        try:
            if known and self._owner is not None and not self._closing.is_set():
                self._owner.revoked(known)
        finally:
            for log in known:
                log.leave()

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Another's already."""
        self.rebalances += 1
        known = self._take(partitions)
        for log in known:
            log.leave()
        if known and self._owner is not None and not self._closing.is_set():
            self._owner.lost(known)

    # The poll thread

    def _run(self) -> None:
        assert self._member is not None
        assert self._owner is not None
        member = self._member
        try:
            while not self._closing.is_set():
                self.turned_at = time.monotonic()
                self._poll(member)
                new, self._new = self._new, []
                if new:
                    self._owner.assigned(new)
            self._show_positions(member, wait=True)
        except StreamRnnError as e:
            self.fail(e)
        except FencedMember:
            self.fenced()
        except Exception as e:
            logger.exception("reading %s failed", self.topic)
            self.fail(SourceError(f"reading {self.topic} failed: {self.job.settings.hide(repr(e))}"))
        finally:
            self.turned_at = 0.0
            self._closing.set()
            for log in list(self._logs.values()):
                log.leave()
            member.close()

    def _poll(self, member: Member) -> None:
        flowing = [log.steer(member) for log in list(self._logs.values())]
        timeout_s = _CALM_POLL_S if all(flowing) and flowing else _POLL_S
        try:
            for partition, records in member.poll(timeout_s, _POLL_RECORDS).items():
                if records and partition in self._logs:
                    self._logs[partition].put(records)
        except OutOfRange:
            for log in list(self._logs.values()):
                log.look_for_the_gap()
        self.polls += 1
        self._identify()
        for partition, log in list(self._logs.items()):
            log.end = member.end(partition)
        self._show_positions(member, wait=False)
        while self._questions:
            asked = self._questions.popleft()
            member.confirm(asked.topic, asked.partition, asked.tell)

    def _show_positions(self, member: Member, wait: bool) -> None:
        offsets, self._acknowledged = self._acknowledged, {}
        offsets = {p: offset for p, offset in offsets.items() if p in self._logs}
        if offsets:
            member.acknowledge(offsets, wait)

    def _identify(self) -> None:
        if self._member is not None:
            self.identity = self._member.identity()

    def _take(self, partitions: Sequence[int]) -> list[KafkaLog]:
        """Forget these logs; those that the owner knows come back."""
        taken = [self._logs.pop(p) for p in partitions if p in self._logs]
        known = [log for log in taken if log not in self._new]
        self._new = [log for log in self._new if log not in taken]
        for log in taken:
            if log not in known:
                log.leave()
        return known
