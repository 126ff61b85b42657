"""Writing: all outputs of a shard in one transaction with its position, so that they are out once or not at all.

How a commit can end:
    done
    the group has moved on (a rebalance): aborted; sent again if the partition is still ours, else SinkFenced
    fenced by another producer of our name: SinkFenced, or Unavailable where the partition is still ours
    no answer in time: nobody knows; Unavailable: the shard is opened again, which fences this producer, settles
    its transaction one way or the other, and asks the group for the mark
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stream_rnn.connectors import Log, Message
from stream_rnn.connectors.kafka_client import (
    FencedMember,
    FencedProducer,
    OutcomeUnknown,
    Place,
    Producer,
    StaleMember,
)
from stream_rnn.connectors.kafka_source import KafkaLog
from stream_rnn.errors import SinkError, SinkFenced, Unavailable
from stream_rnn.records import Position

if TYPE_CHECKING:
    from stream_rnn.connectors.kafka import KafkaJob

_MARK_BYTES = 4095  # the broker takes no longer metadata than 4096, of which the last is zero
_RENEW_S = 3600.0  # a group without members forgets a position that is not committed again for days
_ROOM_BYTES = 1024  # in a record, for what is not value or headers
_SMALL_BYTES = 1 << 18  # no topic refuses such a record


class KafkaSink:
    """A topic to write. It must have each partition that the source has."""

    def __init__(self, job: KafkaJob, topic: str) -> None:
        self.job = job
        self.topic = topic
        self._largest: int | None = None

    def open(self, shard: str) -> KafkaOutput:
        """A shard's output; the first one of a shard fences whoever wrote it before."""
        partition = int(shard or 0)
        self._check(partition + 1)
        transaction = self.job.transaction(shard)
        transaction.join(self.topic, partition)
        return KafkaOutput(self, transaction, partition)

    def check(self) -> None:
        """SinkError if the topic cannot take all that the source may give; nothing is opened."""
        if self.job.reader is not None:
            self.job.reader.look()
        self._check(max(1, self.job.reader.partitions if self.job.reader else 1))

    def _check(self, partitions: int) -> None:
        """SinkError if the topic is not there, or has fewer partitions than that."""
        found = self.job.lookup.topic(self.topic)
        reader = self.job.reader
        wanted = max(partitions, reader.partitions) if reader is not None else partitions
        if found is None:
            raise SinkError(
                f"Kafka at {self.job.settings.servers} shows us no topic {self.topic}; make it, or let this user "
                f"describe it: kafka-topics.sh --create --topic {self.topic} --partitions {wanted}"
            )
        if partitions > found.partitions:
            raise SinkError(
                f"topic {self.topic} has {found.partitions} partitions, and an output of partition {partitions - 1} "
                f"goes to the same one: kafka-topics.sh --alter --topic {self.topic} --partitions {wanted}"
            )

    @property
    def largest(self) -> int:
        """Bytes of the largest record that the topic takes."""
        if self._largest is None:
            self._largest = self.job.lookup.largest_message(self.topic)
        return self._largest


class KafkaOutput:
    """One shard's partition of a sink's topic."""

    has_mark = True
    keeps_headers = True
    everywhere = True
    marks_events = True

    def __init__(self, sink: KafkaSink, transaction: Transaction, partition: int) -> None:
        self.unit = transaction
        self._sink = sink
        self._partition = partition

    @property
    def no_mark(self) -> str:
        """Why there may be no mark any more."""
        (topic, partition), group = self.unit.place, self.unit.job.group
        text = (
            f"group {group} has no position in {topic}/{partition} any more: without members it forgets it after "
            "offsets.retention.minutes, or somebody deleted it"
        )
        if self.unit.job.reader is None:
            return text
        return (
            f"{text}. If N is the offset of the last input that is out, set it: kafka-consumer-groups.sh --group "
            f"{group} --topic {topic}:{partition} --reset-offsets --to-offset N+1 --execute"
        )

    def mark(self) -> str | None:
        """The `source` of the last event whose outputs are out."""
        return self.unit.mark

    def write(self, messages: Sequence[Message]) -> None:
        """Into the shard's transaction."""
        if messages:
            fitting = [self._fit(m) if m.value and len(m.value) > _SMALL_BYTES else m for m in messages]
            self.unit.write(self._sink.topic, self._partition, fitting)

    def close(self) -> None:
        """Let go; what is not committed never happened."""
        self.unit.part()

    def _fit(self, message: Message) -> Message:
        """A dead letter that the topic would refuse is cut, and says so."""
        if not message.headers or message.value is None:
            return message
        besides = len(message.record.key or b"") if message.record else 0
        besides += sum(len(name) + len(value) + 10 for name, value in message.headers)
        room = self._sink.largest - besides - _ROOM_BYTES
        if len(message.value) <= room:
            return message
        headers = (*message.headers, ("cut_from_bytes", str(len(message.value)).encode()))
        return Message(message.value[: max(0, room)], message.source, message.record, headers)


class Transaction:
    """What a shard's outputs share: one producer, at most one transaction at a time, one mark."""

    def __init__(self, job: KafkaJob, shard: str) -> None:
        self.job = job
        self.shard = shard
        self.mark: str | None = None
        self._outputs = 0
        self._anchor: tuple[str, int] | None = None  # the first output's partition
        self._producer: Producer | None = None
        self._pending: list[tuple[str, int, Sequence[Message]]] = []
        self._committed_at = time.monotonic()

    @property
    def place(self) -> tuple[str, int]:
        """The partition whose position in the group is ours: the input's, else the first output's."""
        assert self._anchor is not None
        return (self.job.reader.topic, int(self.shard)) if self.job.reader is not None else self._anchor

    def join(self, topic: str, partition: int) -> None:
        """One more output."""
        self._outputs += 1
        if self._outputs == 1:
            self._anchor = (topic, partition)
            try:
                self._begin()
            except BaseException:
                self._end()
                raise

    def part(self) -> None:
        """One output less."""
        self._outputs -= 1
        if self._outputs <= 0:
            self._end()

    def write(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Send; kept until they are committed, for a rebalance may abort them."""
        try:
            self._alive().send(topic, partition, messages)
        except (FencedProducer, OutcomeUnknown) as e:
            raise self._failed(e, self._own_log()) from None
        self._pending.append((topic, partition, messages))

    def commit(self, last: str, resume_at: Position, log: Log) -> None:
        """All that was written, and the position, at once."""
        if not self._pending and self._is_out(last, log):
            return
        if len(last.encode()) > _MARK_BYTES:
            raise SinkError(f"the source {last[:60]}… is longer than the {_MARK_BYTES} bytes that Kafka keeps of it")
        ours = log if isinstance(log, KafkaLog) and log.source.job is self.job else None
        assert self._anchor is not None
        topic, partition = (ours.source.topic, ours.partition) if ours else self._anchor
        until = time.monotonic() + self.job.deadline_s
        while True:
            if ours and not ours.ours:
                self._end()
                raise SinkFenced(f"partition {self.shard} of {topic} is no longer ours")
            polls = ours.source.polls if ours else 0
            identity = ours.source.identity if ours else self.job.lookup.stranger()
            try:
                left = max(0.1, until - time.monotonic())
                self._alive().commit(Place(topic, partition, resume_at[-1], last), identity, left)
                break
            except StaleMember as e:
                self._await_the_group(ours, identity, polls, until, e)
                self._send_again(ours)
            except FencedMember:
                self._end()
                text = str(ours.source.fenced()) if ours else "another process has our group.instance.id"
                raise SinkFenced(text) from None
            except (FencedProducer, OutcomeUnknown) as e:
                raise self._failed(e, ours) from None
        self._pending.clear()
        self.job.doubted.discard(self.shard)
        self.mark = last
        self._committed_at = time.monotonic()

    def _is_out(self, last: str, log: Log) -> bool:
        """Whether nothing is to be said: in a replay the mark is ahead, and must not go back."""
        if self.mark is None or (last == self.mark and time.monotonic() - self._committed_at >= _RENEW_S):
            return False
        begin = log.name
        if not (last.startswith(begin) and self.mark.startswith(begin)):
            return last == self.mark
        return _numbers(last, begin) <= _numbers(self.mark, begin)

    def _begin(self) -> None:
        """Fence, settle what an earlier producer left open, and ask for the mark."""
        source = self.job.reader
        assert self._anchor is not None
        if source is not None:
            log = self._own_log()
            # who took a producer's id may be its partition's new owner, whom we must not fence in turn
            sure = log is not None and (self.shard not in self.job.doubted or source.confirm(log, *self._anchor))
            if log is None or not log.ours:
                raise SinkFenced(f"partition {self.shard} of {source.topic} is no longer ours")
            if not sure:
                raise Unavailable(f"group {self.job.group} has not confirmed yet that partition {self.shard} is ours")
        self._producer = self.job.producer(self.shard or "0")
        topic, partition = self.place
        found = self.job.lookup.committed(topic, partition)
        if found is not None:
            if found.text:
                self.mark = found.text
            elif source is not None and found.offset > 0:  # set by another tool
                self.mark = f"{topic}/{partition}/{found.offset - 1}"

    def _await_the_group(
        self, log: KafkaLog | None, identity: Any, polls: int, until: float, reason: StaleMember
    ) -> None:
        """Until we go by another name in the group, or may; or the partition turns out to be another's."""
        while log is not None and log.ours and time.monotonic() < until:
            if log.source.identity != identity or log.source.polls > polls + 1:
                return
            if log.leaving:
                break
            time.sleep(0.01)
        self._end()
        if log is not None and log.ours and not log.leaving:
            raise Unavailable(f"group {self.job.group} did not settle in {self.job.deadline_s:g} s: {reason}")
        raise SinkFenced(f"partition {self.shard} was given to another member of group {self.job.group}: {reason}")

    def _send_again(self, log: KafkaLog | None) -> None:
        try:
            for topic, partition, messages in self._pending:
                self._alive().send(topic, partition, messages)
        except (FencedProducer, OutcomeUnknown) as e:
            raise self._failed(e, log) from None

    def _failed(self, reason: Exception, log: KafkaLog | None) -> Exception:
        """What to raise for a producer that is done for."""
        self._end()
        self.job.doubted.add(self.shard)
        if isinstance(reason, FencedProducer) and (log is None or not log.ours or log.leaving):
            return SinkFenced(f"another process writes as {self.job.transactional_id}-{self.shard or '0'}: {reason}")
        return Unavailable(f"Kafka at {self.job.settings.servers}: the outcome of a commit is unknown: {reason}")

    def _own_log(self) -> KafkaLog | None:
        return self.job.reader.log_of(self.shard) if self.job.reader is not None else None

    def _alive(self) -> Producer:
        if self._producer is None:
            raise Unavailable(f"the transaction of shard {self.shard!r} was given up; open its outputs again")
        return self._producer

    def _end(self) -> None:
        self.job.forget(self)
        self._pending.clear()
        if self._producer is not None:
            self._producer.close()
            self._producer = None


def _numbers(source: str, log_name: str) -> list[int]:
    """The position in a `source` text."""
    return [int(part) for part in source[len(log_name) :].split("/")]
