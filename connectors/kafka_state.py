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

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka_client import FencedProducer, OutcomeUnknown, Producer
from stream_rnn.errors import SinkFenced, Unavailable
from stream_rnn.records import Position, Record

if TYPE_CHECKING:
    from stream_rnn.connectors.kafka import KafkaJob

SLOT_BYTES = 900_000
TOPIC_OPTIONS = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 << 20),  # what is not compacted yet: the last segment
    "min.cleanable.dirty.ratio": "0.1",
    "compression.type": "producer",
}
_HEADER = "snapshot"
_SOMEWHERE = -1  # an offset that we were not told


class Snapshot(msgspec.Struct):
    """A shard's state as of a position."""

    data: bytes
    position: Position
    notes: bytes = b""


class _Slot(msgspec.Struct, array_like=True, frozen=True):
    """What each of a snapshot's records says in its header."""

    generation: int
    slot: int
    slots: int
    crc: int  # of the whole snapshot
    position: tuple[int, ...]
    notes: bytes


class SharedState:
    """One shard's snapshots. Whoever opens it fences the one who had it before."""

    def __init__(self, job: KafkaJob, topic: str, shard: str) -> None:
        self._job = job
        self._topic = topic
        self._shard = shard or "0"
        self._partition = int(self._shard)
        self._make_topic()
        self._producer: Producer | None = job.producer(f"{self._shard}-state")
        self._last = self._last_slot()

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

    def put(self, snapshot: Snapshot) -> None:
        """Make it the newest. It is there whole, or not at all."""
        before = self._last[1] if self._last else None
        pieces = [snapshot.data[i : i + SLOT_BYTES] for i in range(0, len(snapshot.data), SLOT_BYTES)] or [b""]
        generation = before.generation + 1 if before else 1
        crc = zlib.crc32(snapshot.data)
        heads = [_Slot(generation, n, len(pieces), crc, snapshot.position, snapshot.notes) for n in range(len(pieces))]
        gone = range(len(pieces), before.slots if before else 0)
        records = [Message(None, "", self._key(n)) for n in gone]
        for head, piece in zip(heads, pieces, strict=True):
            headers = ((_HEADER, msgspec.msgpack.encode(head)),)
            records.append(Message(piece, "", self._key(head.slot), headers))
        if self._producer is None:
            raise Unavailable(f"the shared state of shard {self._shard} was given up; open it again")
        try:
            self._producer.send(self._topic, self._partition, records)
            self._producer.commit(None, None, self._job.deadline_s + len(snapshot.data) / 1e6)
        except FencedProducer as e:
            self.close()
            raise SinkFenced(f"another process keeps the state of shard {self._shard}: {e}") from None
        except OutcomeUnknown as e:
            self.close()
            raise Unavailable(
                f"whether a snapshot of shard {self._shard} is in {self._topic} is unknown: {e}"
            ) from None
        self._last = (_SOMEWHERE, heads[-1])

    def close(self) -> None:
        """Let go."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _key(self, slot: int) -> Record:
        return Record(None, (), (), f"{self._shard}/{slot}".encode())

    def _make_topic(self) -> None:
        lookup = self._job.lookup
        found = lookup.topic(self._topic)
        if found is None or found.partitions <= self._partition:
            source = lookup.topic(self._job.reader.topic) if self._job.reader else None
            partitions = max(self._partition + 1, source.partitions if source else 1)
            lookup.create(self._topic, partitions, TOPIC_OPTIONS)

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
                data = b"".join([pieces[n] for n in range(head.slots)])
                if zlib.crc32(data) == head.crc:
                    found = Snapshot(data, head.position, head.notes)
        return found


def _head(record: Record) -> _Slot | None:
    """The header of a slot; None: a tombstone, or a stranger's record."""
    for name, value in record.headers:
        if name == _HEADER and record.value is not None:
            try:
                return msgspec.msgpack.decode(value, type=_Slot)
            except msgspec.MsgspecError:
                return None
    return None
