"""Snapshots of a shard in a compacted topic, so that a shard that moves to another machine finds its state there.

A snapshot is cut into slots of less than a megabyte, since topics refuse larger records: a record each, key
"shard/slot", all in one transaction. Compaction keeps the last record of each key by itself, so the records carry
their snapshot's generation, and slots that the next, smaller snapshot does not need get tombstones. Shard p has
partition p to itself: the newest snapshot is at the partition's end, and is found without reading the rest.
"""

from __future__ import annotations

import itertools
import time
import zlib
from typing import TYPE_CHECKING

import msgspec

from stream_rnn.connectors import Message, Snapshot
from stream_rnn.connectors.kafka_client import FencedProducer, Lookup, OutcomeUnknown, Producer
from stream_rnn.errors import SinkError, SinkFenced, SourceError, StreamRnnError, Unavailable
from stream_rnn.records import Position, Record

if TYPE_CHECKING:
    from stream_rnn.connectors.kafka import KafkaJob

SLOT_BYTES = 900_000
_ROOM_BYTES = 1024  # in a record, for its key and headers
_IN_FLIGHT = 16  # slots that wait for the broker at most: copies of that much of a snapshot
TOPIC_OPTIONS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 << 20),  # what is not compacted yet: the last segment
    "min.cleanable.dirty.ratio": "0.1",
    "compression.type": "producer",
    "max.message.bytes": str(1 << 20),
}
_HEADER = "snapshot"
_SOMEWHERE = -1  # an offset that we were not told


class _Slot(msgspec.Struct, array_like=True, frozen=True):
    """What each of a snapshot's records says in its header."""

    generation: int
    slot: int
    slots: int
    crc: int  # of the whole snapshot
    position: tuple[int, ...]
    notes: bytes


class SharedState:
    """One shard's snapshots. Whoever first puts one there fences the one who did before."""

    def __init__(self, job: KafkaJob, topic: str, shard: str) -> None:
        self.name = f"topic {topic}"
        self._job = job
        self._topic = topic
        self._shard = shard or "0"
        self._partition = int(self._shard)
        self._slot_bytes = SLOT_BYTES
        self._producer: Producer | None = None
        self._given_up = False
        self._last: tuple[int, _Slot] | None = None
        try:
            self._make_topic()
            self._last = self._last_slot()
        except (SourceError, SinkError) as e:
            raise self._explained(e) from None

    @property
    def position(self) -> Position | None:
        """The newest snapshot's; None: there is none."""
        return None if self._last is None else self._last[1].position

    def newest(self) -> Snapshot | None:
        """The newest whole snapshot; None: there is none."""
        if self._last is None:
            return None
        offset, last = self._last
        found = self._whole(offset - last.slot, last.generation)
        until = time.monotonic() + self._job.deadline_s
        while found is None and offset == _SOMEWHERE and time.monotonic() < until:
            time.sleep(0.01)  # ours, committed a moment ago: the broker marks it so a little later
            found = self._whole(0, last.generation)
        return found or self._whole(0, None)

    def put(self, snapshot: Snapshot) -> bool:
        """Make it the newest, whole or not at all; False: there is one that is further."""
        try:
            producer = self._writer()
        except (SourceError, SinkError) as e:
            raise self._explained(e) from None
        before = self._last[1] if self._last else None
        if before is not None and before.position > snapshot.position:
            return False
        data = memoryview(snapshot.data)
        slots = max(1, -(-len(data) // self._slot_bytes))
        generation = before.generation + 1 if before else 1
        crc = zlib.crc32(data)
        last = _Slot(generation, slots - 1, slots, crc, snapshot.position, snapshot.notes)
        gone = [Message(None, "", self._key(n)) for n in range(slots, before.slots if before else 0)]
        try:
            producer.send(self._topic, self._partition, gone)
            for n in range(slots):
                piece = bytes(data[n * self._slot_bytes :][: self._slot_bytes])
                header = msgspec.msgpack.encode(msgspec.structs.replace(last, slot=n))
                producer.send(self._topic, self._partition, [Message(piece, "", self._key(n), ((_HEADER, header),))])
                if n % _IN_FLIGHT == _IN_FLIGHT - 1:
                    producer.flush(self._job.deadline_s)
            producer.commit(None, None, self._job.deadline_s)
        except FencedProducer as e:
            self.close()
            raise SinkFenced(f"another process keeps the state of shard {self._shard}: {e}") from None
        except OutcomeUnknown as e:
            self.close()
            raise Unavailable(
                f"whether a snapshot of shard {self._shard} is in {self._topic} is unknown: {e}"
            ) from None
        except SinkError as e:
            self.close()
            raise self._explained(e) from None
        self._last = (_SOMEWHERE, last)
        return True

    def close(self) -> None:
        """Let go."""
        self._given_up = True
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _writer(self) -> Producer:
        """Ours, fencing the one who wrote before: what he left last is known only then."""
        if self._given_up:
            raise Unavailable(f"the shared state of shard {self._shard} was given up; open it again")
        if self._producer is None:
            self._slot_bytes = min(SLOT_BYTES, self._job.lookup.largest_message(self._topic) - _ROOM_BYTES)
            self._producer = self._job.producer(f"{self._shard}-state")
            self._last = self._last_slot()
        return self._producer

    def _key(self, slot: int) -> Record:
        return Record(None, (), (), f"{self._shard}/{slot}".encode())

    def _make_topic(self) -> None:
        """Have the topic, compacted, with a partition for this shard."""
        lookup = self._job.lookup
        with self._job.making:  # one shard at a time; another process may do it at the same moment all the same
            found = lookup.topic(self._topic)
            if found is None or found.partitions <= self._partition:
                source = lookup.topic(self._job.reader.topic) if self._job.reader else None
                partitions = max(self._partition + 1, source.partitions if source else 1)
                try:
                    lookup.create(self._topic, partitions, TOPIC_OPTIONS)
                except (SinkError, SourceError):
                    found = lookup.topic(self._topic)
                    if found is None or found.partitions <= self._partition:
                        raise
        check_policy(lookup, self._topic)

    def _explained(self, e: StreamRnnError) -> SinkError:
        """The same, with what this is about and what there is to choose."""
        return SinkError(
            f"{e}. That is where snapshots of shards go, for when a shard moves to another machine: let this user "
            f"create {self._topic} (or make it: cleanup.policy=compact, as many partitions as the source), read it, "
            f'write it, also with the transactional id {self._job.transactional_id}-{self._shard}-state; or set '
            'state.share = "none", and a shard that moves learns again from the start'
        )

    def _last_slot(self) -> tuple[int, _Slot] | None:
        """The last record that is a slot, from the end backwards."""
        first, end = self._job.lookup.bounds(self._topic, self._partition)
        until = end
        for step in itertools.count(1):
            begin = max(first, until - 4**step)
            for record in reversed(list(self._job.lookup.read(self._topic, self._partition, begin, until))):
                head = _head(record)
                if head is not None:
                    return record.at[0], head
            if begin == first:
                return None
            until = begin
        return None

    def _whole(self, begin: int, generation: int | None) -> Snapshot | None:
        """The last whole snapshot (of that generation) among the records from `begin` on."""
        first, end = self._job.lookup.bounds(self._topic, self._partition)
        found: Snapshot | None = None
        pieces: dict[int, bytes] = {}
        current = generation
        for record in self._job.lookup.read(self._topic, self._partition, max(first, begin), end):
            head = _head(record)
            if head is None or (generation is not None and head.generation != generation):
                continue
            if head.generation != current:
                current, pieces = head.generation, {}
            pieces[head.slot] = record.value  # type: ignore[assignment]
            if len(pieces) == head.slots:
                data = bytearray()
                for n in range(head.slots):
                    data += pieces.pop(n)  # never twice in memory
                if zlib.crc32(data) == head.crc:
                    found = Snapshot(data, head.position, head.notes)
        return found


def check_policy(lookup: Lookup, topic: str) -> None:
    """SinkError if the topic there is would lose snapshots."""
    policy = lookup.setting(topic, "cleanup.policy")
    if policy not in (None, "compact"):
        raise SinkError(
            f"topic {topic} has cleanup.policy = {policy}, which loses snapshots: kafka-configs.sh --alter --topic "
            f"{topic} --add-config cleanup.policy=compact"
        )


def _head(record: Record) -> _Slot | None:
    """The header of a slot; None: a tombstone, or a stranger's record."""
    for name, value in record.headers:
        if name == _HEADER and record.value is not None:
            try:
                return msgspec.msgpack.decode(value, type=_Slot)
            except msgspec.MsgspecError:
                return None
    return None
