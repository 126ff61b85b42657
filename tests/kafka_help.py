"""What the Kafka tests share: filling and reading topics, and an engine without a learner."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import confluent_kafka

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka import KafkaJob, KafkaLog
from stream_rnn.errors import StreamRnnError, Unavailable

CLIENTS = ("kafka-python", "confluent")
_names = itertools.count()


def fresh(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{next(_names)}"


def until(condition: Callable[[], Any], timeout_s: float = 60.0, *, fail: bool = True) -> None:
    """Wait for it; fail when it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            assert not fail, "waited in vain"
            return
        time.sleep(0.01)


def fill(address: str, topic: str, values: Iterable[Any], partition: int = 0, **options: Any) -> None:
    """Write records: values, or (value, key, timestamp, headers)."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "message.max.bytes": 1 << 26, **options})
    transactional = "transactional.id" in options
    if transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    for item in values:
        value, key, timestamp, headers = item if isinstance(item, tuple) else (item, b"k", 1000, [])
        producer.produce(topic, value, key, partition, timestamp=timestamp or 0, headers=headers)
        producer.poll(0)
    if transactional:
        producer.commit_transaction(30)
    assert producer.flush(60) == 0


def abort(address: str, topic: str, values: Iterable[bytes], partition: int = 0, **options: Any) -> None:
    """Write values in a transaction that is aborted."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "transactional.id": fresh("aborted"), **options})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.flush(30)
    producer.abort_transaction(30)


def content(address: str, topic: str, partition: int = 0, isolation: str = "read_committed") -> list[Any]:
    """All records of a partition up to its present end."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "content",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 1 << 24,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
    found: list[Any] = []
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                return found
    finally:
        consumer.close()
    raise AssertionError(f"{topic}/{partition} does not end")


def values(address: str, topic: str, partition: int = 0) -> list[bytes | None]:
    """The values of `content`."""
    return [m.value() for m in content(address, topic, partition)]


def expect(address: str, topic: str, wanted: list[bytes | None], partition: int = 0) -> None:
    """`values` are these, or will be in a moment: a broker marks a committed transaction so a little later."""
    end = time.monotonic() + 30
    while (found := values(address, topic, partition)) != wanted and time.monotonic() < end:
        time.sleep(0.02)
    assert found == wanted


class Feed:
    """Writes records to all partitions of a topic, a few at a time, until it is told to stop."""

    def __init__(
        self, address: str, topic: str, partitions: int, *, pause_s: float = 0.05, at_once: int = 20,
        lines: Callable[[int], Iterator[bytes]] = lambda partition: (b"%d" % n for n in itertools.count()),
    ) -> None:  # fmt: skip
        self.count = 0
        self._address, self._topic, self._pause_s, self._at_once = address, topic, pause_s, at_once
        self._lines = [lines(partition) for partition in range(partitions)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": self._address, "reconnect.backoff.max.ms": 500})
        while not self._stop.wait(self._pause_s):
            for partition, lines in enumerate(self._lines):
                for line in itertools.islice(lines, self._at_once):
                    producer.produce(self._topic, line, b"k%d" % (self.count % 3), partition)
                    self.count += 1
            producer.poll(0)
        assert producer.flush(60) == 0


class Logs:
    """An owner that only notes what it is told."""

    def __init__(self) -> None:
        self.held: dict[int, KafkaLog] = {}
        self.told: list[tuple[str, list[int]]] = []

    def assigned(self, logs: Sequence[Any]) -> None:
        self.held |= {log.partition: log for log in logs}
        self.told.append(("assigned", [log.partition for log in logs]))

    def revoked(self, logs: Sequence[Any]) -> None:
        self._drop("revoked", logs)

    def lost(self, logs: Sequence[Any]) -> None:
        self._drop("lost", logs)

    def _drop(self, what: str, logs: Sequence[Any]) -> None:
        self.told.append((what, [log.partition for log in logs]))
        for log in logs:
            self.held.pop(log.partition, None)


def join(job: KafkaJob, topic: str, partitions: int = 1) -> Logs:
    """Join the group and wait for the logs."""
    logs = Logs()
    job.source(topic).join(logs)
    until(lambda: len(logs.held) == partitions)
    return logs


def take(log: Any, count: int, timeout_s: float = 60.0) -> list[Any]:
    """`count` records."""
    records: list[Any] = []
    end = time.monotonic() + timeout_s
    while len(records) < count:
        assert time.monotonic() < end, f"{len(records)} of {count} records came"
        log.wait(0.1)
        records += log.read(count - len(records))
    return records


class Copier:
    """An engine without a learner: copies a topic exactly once, one thread a partition.

    Every `bad`th record is a dead letter. Where it goes on is the output's mark alone.
    """

    def __init__(self, job: KafkaJob, topic: str, sink: str, dead: str, *, block: int = 20, bad: int = 7) -> None:
        self.job, self.block, self.bad = job, block, bad
        self.source, self.sink, self.dead = job.source(topic), job.sink(sink), job.sink(dead)
        self.threads: dict[Any, threading.Thread] = {}
        self.told: list[tuple[str, list[int]]] = []
        self.ends: list[StreamRnnError] = []  # how shards ended that were not revoked
        self.unavailable = 0
        self.commits = 0
        self._stop: set[Any] = set()
        self._write = True

    def start(self) -> Copier:
        """Join the group."""
        self.source.join(self)
        return self

    def stop(self) -> None:
        """Commit and leave."""
        self.revoked(list(self.threads))
        self.source.close()
        self.job.close()

    def die(self) -> None:
        """Leave without committing what is open."""
        self._write = False
        self.stop()

    def assigned(self, logs: Sequence[Any]) -> None:
        self.told.append(("assigned", [log.partition for log in logs]))
        for log in logs:
            self.threads[log] = threading.Thread(target=self._copy, args=(log,), daemon=True)
            self.threads[log].start()

    def revoked(self, logs: Sequence[Any]) -> None:
        self.told.append(("revoked", [log.partition for log in logs]))
        self._end(logs)

    def lost(self, logs: Sequence[Any]) -> None:
        self.told.append(("lost", [log.partition for log in logs]))
        self._end(logs)

    def _end(self, logs: Sequence[Any]) -> None:
        self._stop.update(logs)
        for log in logs:
            thread = self.threads.pop(log, None)
            if thread is not None:
                thread.join(60)
                assert not thread.is_alive()

    def _copy(self, log: Any) -> None:
        while log not in self._stop:
            try:
                self._session(log)
            except Unavailable:
                self.unavailable += 1
                time.sleep(0.05)
            except StreamRnnError as e:
                self.ends.append(e)
                return

    def _session(self, log: Any) -> None:
        outputs = []
        try:
            out = self.sink.open(log.shard)
            outputs.append(out)
            dead = self.dead.open(log.shard)
            outputs.append(dead)
            assert out.unit is dead.unit
            mark = out.mark()
            log.seek((int(mark.rsplit("/", 1)[1]) + 1,) if mark else log.first("earliest"))
            while log not in self._stop:
                log.wait(0.05)
                records = log.read(self.block)
                if records:
                    self._block(log, records, out, dead)
        finally:
            for output in outputs:
                output.close()

    def _block(self, log: Any, records: Sequence[Any], out: Any, dead: Any) -> None:
        for record in records:
            source = log.name + str(record.at[0])
            if record.at[0] % self.bad == 0:
                dead.write([Message(record.value, source, record, (("source", source.encode()),))])
            else:
                out.write([Message(b"out:" + record.value, source, record)])
        if self._write:
            out.unit.commit(log.name + str(records[-1].at[0]), records[-1].resume_at, log)
            self.commits += 1


def assert_copied(address: str, topic: str, sink: str, dead: str, partitions: int, *, bad: int = 7) -> None:
    """Every record of `topic` is out once, in order, in the partition of its own."""
    for partition in range(partitions):
        wanted: list[bytes] = []
        wanted_dead: list[bytes] = []
        for message in content(address, topic, partition):
            (wanted_dead if message.offset() % bad == 0 else wanted).append(message.value())
        expect(address, sink, [b"out:" + value for value in wanted], partition)
        expect(address, dead, wanted_dead, partition)
