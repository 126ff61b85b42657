"""Kafka by `confluent-kafka` (librdkafka): three to ten times cheaper a message, and with deadlines of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic  # type: ignore[attr-defined]

from stream_rnn.connectors import Message
from stream_rnn.connectors.errands import Errands, GivenUp
from stream_rnn.connectors.kafka_client import (
    TOO_LARGE,
    Committed,
    FencedMember,
    FencedProducer,
    OutcomeUnknown,
    OutOfRange,
    Partitions,
    Place,
    StaleMember,
    Topic,
)
from stream_rnn.connectors.kafka_settings import KafkaSettings
from stream_rnn.errors import ConfigError, SinkError, SourceError, StreamRnnError, Unavailable
from stream_rnn.records import Record

T = TypeVar("T")
log = logging.getLogger("stream_rnn.kafka")

_DEFAULT_LARGEST = 1 << 20  # where the broker does not say
_PRODUCER = {
    "retry.backoff.ms": 5,  # else a transaction that meets the end of the last one waits 100 ms
    "queue.buffering.max.messages": 2_000_000,
}
_STALE = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_WRONG_LOGIN = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL)


class _Connection:
    """Settings of one client, and what it last said of its connections."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._reason = ""
        self._wrong_login: str | None = None

    def options(self, taken_by: str, **more: Any) -> dict[str, Any]:
        """What its constructor is given."""
        return {**self._settings.confluent(taken_by), "error_cb": self._on_error, "logger": log, **more}

    def made(self, client: Callable[..., T], options: dict[str, Any]) -> T:
        """The client."""
        try:
            return client(options)
        except KafkaException as e:
            raise ConfigError(self._settings.hide(f"[kafka]: {_error(e).str()}")) from None

    def unavailable(self, what: str, e: KafkaException) -> StreamRnnError:
        """What to raise for a question without an answer."""
        if _error(e).code() in _REFUSED:
            return SourceError(f"Kafka refuses to say {what}: {_error(e).str()}; let this user do so")
        reason = self._wrong_login or self._reason or _error(e).str()
        return Unavailable(self._settings.hide(f"Kafka at {self._settings.servers} cannot be reached: {reason}"))

    def _on_error(self, error: Any) -> None:
        if error.code() in _WRONG_LOGIN:
            self._wrong_login = error.str()
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._reason:  # others say why
            self._reason = error.str()


class ConfluentLookup:
    """A client outside the group."""

    def __init__(self, settings: KafkaSettings, group: str, timeout_s: float) -> None:
        self._settings = settings
        self._group = group
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._connection = _Connection(settings)
        self._consumer: Any = None
        self._admin: Any = None

    def topic(self, name: str) -> Topic | None:
        """What there is of that name; None: nothing, or it is not shown to us."""

        def ask() -> Topic | None:
            wanted = confluent_kafka.TopicCollection([name])
            future = self._administrator().describe_topics(wanted, request_timeout=self._timeout_s)[name]
            try:
                found = future.result(self._timeout_s + 1)
            except KafkaException as e:
                if _error(e).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise
            return Topic(_uuid(found.topic_id), len(found.partitions))

        return self._ask(ask, f"about topic {name}")

    def create(self, name: str, partitions: int, options: Mapping[str, str]) -> None:
        """Make a topic, or give the one there is as many partitions."""

        def ask() -> None:
            admin = self._administrator()
            wanted = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(options))
            try:
                admin.create_topics([wanted], request_timeout=self._timeout_s)[name].result(self._timeout_s + 1)
            except KafkaException as e:
                if _error(e).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                more = [NewPartitions(name, partitions)]
                admin.create_partitions(more, request_timeout=self._timeout_s)[name].result(self._timeout_s + 1)

        try:
            self._ask(ask, f"to make topic {name}")
        except SourceError as e:
            raise SinkError(f"topic {name} cannot be made: {e}; make it by hand, or let us") from None
        until = time.monotonic() + self._timeout_s
        while (found := self.topic(name)) is None or found.partitions < partitions:
            if time.monotonic() > until:
                raise Unavailable(f"topic {name} was made and does not show")
            time.sleep(0.02)

    def setting(self, topic: str, name: str) -> str | None:
        """One of the topic's settings; None: it is not told to us."""
        wanted = ConfigResource(ConfigResource.Type.TOPIC, topic)
        try:
            (future,) = self._administrator().describe_configs([wanted], request_timeout=self._timeout_s).values()
            return str(future.result(self._timeout_s + 1)[name].value)
        except (KafkaException, KeyError, TypeError):
            return None

    def largest_message(self, topic: str) -> int:
        """The topic's max.message.bytes."""
        return int(self.setting(topic, "max.message.bytes") or _DEFAULT_LARGEST)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset there is, and the one after the last committed record."""
        place = TopicPartition(topic, partition)

        def ask() -> tuple[int, int]:
            first, end = self._member().get_watermark_offsets(place, timeout=self._timeout_s, cached=False)
            return first, end

        return self._ask(ask, f"for the bounds of {topic}/{partition}")

    def committed(self, topic: str, partition: int) -> Committed | None:
        """The group's position; waits for a transaction that is still open."""

        def ask() -> Committed | None:
            (found,) = self._member().committed([TopicPartition(topic, partition)], timeout=self._timeout_s)
            if found.error is not None:
                raise KafkaException(found.error)
            return None if found.offset < 0 else Committed.of(found.offset, found.metadata)

        return self._ask(ask, f"for the position of group {self._group} in {topic}/{partition}")

    def stranger(self) -> Any:
        """An identity for committing positions in a group that has no members."""
        with self._lock:
            return self._member().consumer_group_metadata()

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[Record]:
        """The committed records from `first` up to `end`."""
        options = self._connection.options("consumer", **_reader("stream-rnn-reader"), **{"enable.partition.eof": True})
        options.pop("group.instance.id", None)
        consumer: Any = self._connection.made(confluent_kafka.Consumer, options)
        try:
            consumer.assign([TopicPartition(topic, partition, first)])
            until = time.monotonic() + self._timeout_s
            while True:
                first_one = consumer.poll(0.1)
                for message in [] if first_one is None else [first_one, *consumer.consume(500, 0)]:
                    if message.error() is not None:
                        if message.error().code() == KafkaError._PARTITION_EOF:
                            return
                        raise self._connection.unavailable(f"{topic}/{partition}", KafkaException(message.error()))
                    if message.offset() >= end:
                        return
                    yield _record(message)
                    until = time.monotonic() + self._timeout_s
                if time.monotonic() > until:
                    raise Unavailable(f"Kafka at {self._settings.servers}: {topic}/{partition} gives nothing more")
        finally:
            consumer.close()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer = self._admin = None

    def _member(self) -> Any:
        with self._lock:
            if self._consumer is None:
                options = self._connection.options("consumer", **_reader(self._group))
                options.pop("group.instance.id", None)  # it never joins
                self._consumer = self._connection.made(confluent_kafka.Consumer, options)
            return self._consumer

    def _administrator(self) -> Any:
        with self._lock:
            if self._admin is None:
                self._admin = self._connection.made(AdminClient, self._connection.options("admin"))
            return self._admin

    def _ask(self, question: Callable[[], T], about: str) -> T:
        """Ask until there is an answer or time is up."""
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                with self._lock:
                    return question()
            except KafkaException as e:
                if _error(e).code() == KafkaError._UNKNOWN_PARTITION and self._consumer is not None:
                    with contextlib.suppress(KafkaException):
                        self._consumer.list_topics(timeout=1.0)  # it may have been added
                for client in (self._consumer, self._admin):
                    if client is not None:
                        client.poll(0)  # lets it tell its reasons
                if time.monotonic() > until or not _passes(_error(e)):
                    raise self._connection.unavailable(about, e) from None
                time.sleep(0.05)
            except TimeoutError:
                raise Unavailable(f"Kafka at {self._settings.servers} does not answer {about}") from None


class ConfluentMember:
    """One consumer in the group. The rebalance calls come from within `poll`, on the thread that polls."""

    def __init__(
        self, settings: KafkaSettings, group: str, topic: str, partitions: Partitions, timeout_s: float
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._connection = _Connection(settings)
        self._failed: BaseException | None = None  # of a rebalance call, which the library would swallow
        self._trouble: Any = None  # what came in the place of a record
        self._told: list[Callable[[bool], None]] = []  # whom the commits under way are for
        self._begun: set[int] = set()  # partitions that are fetched, or paused
        self._consumer: Any = self._connection.made(
            confluent_kafka.Consumer,
            self._connection.options("consumer", **_reader(group), on_commit=self._on_commit),
        )
        self._consumer.subscribe([topic], self._on_assigned, self._on_revoked, self._on_lost)

    def poll(self, timeout_s: float, limit: int) -> dict[int, list[Record]]:
        """What has come, by partition."""
        got: dict[int, list[Record]] = {}
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            self._judge(trouble)
        messages: list[Any] = []
        try:
            first = self._consumer.poll(timeout_s)  # `consume` alone would wait for all `limit` of them
            if first is not None:
                messages.append(first)
                messages += self._consumer.consume(limit - 1, 0)
        except KafkaException as e:
            self._trouble = _error(e)
        if self._failed is not None:
            raise self._failed
        for message in messages:
            if message.error() is None:
                partition = message.partition()
                block = got.get(partition)
                if block is None:
                    block = got[partition] = []
                block.append(_record(message))
            else:
                self._trouble = message.error()  # judged at the next poll: the others' records come first
        return got

    def seek(self, partition: int, offset: int) -> None:
        """Read on from there."""
        place = TopicPartition(self._topic, partition, offset)
        if partition not in self._begun:
            self._begun.add(partition)
            self._consumer.incremental_assign([place])
            return
        try:
            self._consumer.seek(place)
        except KafkaException as e:
            if _error(e).code() not in (KafkaError._STATE, KafkaError._TIMED_OUT):
                raise
            self._consumer.incremental_unassign([place])  # it fetches no more since it was out of range
            self._consumer.incremental_assign([place])

    def pause(self, partition: int) -> None:
        """Give no more of it."""
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def resume(self, partition: int) -> None:
        """Give it again."""
        self._consumer.resume([TopicPartition(self._topic, partition)])

    def identity(self) -> Any:
        """Who we are in the group now."""
        return self._consumer.consumer_group_metadata()

    def end(self, partition: int) -> int | None:
        """The end of the partition, as the last fetch showed it."""
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        except KafkaException:
            return None
        return None if end < 0 else end

    def acknowledge(self, offsets: Mapping[int, int], wait: bool) -> None:
        """Commit positions for others to see; that this fails harms nobody, unless we are fenced."""
        told: list[bool] = []
        self._commit([TopicPartition(self._topic, p, offset) for p, offset in offsets.items()], told.append)
        until = time.monotonic() + 2.0
        while wait and not told and time.monotonic() < until:
            self._consumer.poll(0.05)

    def confirm(self, topic: str, partition: int, tell: Callable[[bool], None]) -> None:
        """Tell, from a later poll, whether the group knows us: it takes a position from us, for a place of no use."""
        self._commit([TopicPartition(topic, partition, 0, "a member made sure")], tell)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _commit(self, places: list[Any], tell: Callable[[bool], None]) -> None:
        self._told.append(tell)
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as e:
            self._told.remove(tell)
            self._trouble = _error(e)
            tell(False)

    def _on_commit(self, error: Any, places: list[Any]) -> None:
        """The library's call, from within `poll`, in the order of the commits."""
        error = error or next((place.error for place in places if place.error is not None), None)
        if error is not None:
            log.info("position not committed: %s", error.str())
            if error.code() == KafkaError.FENCED_INSTANCE_ID:
                self._trouble = error
        if self._told:
            self._told.pop(0)(error is None)

    def _on_assigned(self, consumer: Any, places: list[Any]) -> None:
        consumer.incremental_assign([])  # each begins at its first seek: a paused one would take a second to
        self._tell(self._partitions.on_assigned, places)

    def _on_revoked(self, consumer: Any, places: list[Any]) -> None:
        self._tell(self._partitions.on_revoked, places)
        self._give_up(consumer, places)

    def _on_lost(self, consumer: Any, places: list[Any]) -> None:
        self._tell(self._partitions.on_lost, places)
        self._give_up(consumer, places)

    def _give_up(self, consumer: Any, places: list[Any]) -> None:
        consumer.incremental_unassign([place for place in places if place.partition in self._begun])
        self._begun.difference_update(place.partition for place in places)

    def _tell(self, method: Callable[[Sequence[int]], None], places: list[Any]) -> None:
        try:
            if places:
                method(sorted(place.partition for place in places))
        except BaseException as e:
            self._failed = e

    def _judge(self, error: Any) -> None:
        """Raise what a retry cannot mend."""
        code, text = error.code(), self._settings.hide(error.str())
        if code in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
            raise OutOfRange(text)
        if code == KafkaError.FENCED_INSTANCE_ID or (code == KafkaError._FATAL and "instance" in text):
            raise FencedMember
        if code in _REFUSED:
            raise SourceError(f"Kafka refuses us {self._topic}: {text}; let this user read it and join the group")
        if error.fatal():
            raise SourceError(f"reading {self._topic}: {text}")
        log.warning("reading %s: %s", self._topic, text)


class ConfluentProducer:
    """One transactional producer."""

    def __init__(self, settings: KafkaSettings, transactional_id: str, timeout_s: float) -> None:
        self._settings = settings
        self._open = False
        self._refused: Any = None  # the first record that the broker refused
        self._connection = _Connection(settings)
        options = self._connection.options("producer", **_PRODUCER, **{"transactional.id": transactional_id})
        options["socket.timeout.ms"] = int(1000 * timeout_s)
        self._errands = Errands(f"commit-{transactional_id}")
        self._producer: Any = self._connection.made(confluent_kafka.Producer, options)
        try:
            self._producer.init_transactions(timeout_s)
        except KafkaException as e:
            self.close()
            error = _error(e)
            if error.code() in _REFUSED:
                raise SinkError(
                    f"Kafka refuses the transactional id {transactional_id}: {error.str()}; let this user write with it"
                ) from None
            raise self._connection.unavailable(f"producer {transactional_id}", e) from None

    def send(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Write in the transaction that is open, or in a new one."""
        try:
            self._begin()
            produce, on_delivery = self._producer.produce, self._on_delivery
            for message in messages:
                record, value = message.record, message.value
                if value is None and (record is None or record.key is None):
                    value = b""  # as kafka-python does, which refuses a record of nothing
                while True:
                    try:
                        produce(
                            topic,
                            value,
                            record.key if record else None,
                            partition,
                            on_delivery=on_delivery,
                            timestamp=_timestamp(record),
                            headers=list(message.headers),
                        )
                        break
                    except BufferError:
                        self._producer.poll(0.05)
            self._producer.poll(0)
        except KafkaException as e:
            self._judge(_error(e), topic, 5.0)

    def flush(self, timeout_s: float) -> None:
        """Until the broker has what was written."""
        if self._producer.flush(timeout_s):
            raise OutcomeUnknown(f"no answer in {timeout_s:g} s")

    def commit(self, place: Place | None, identity: Any, timeout_s: float) -> None:
        """End the transaction, with the group's position in it."""
        until = time.monotonic() + timeout_s

        def end() -> None:
            if place is not None:
                positions = [TopicPartition(place.topic, place.partition, place.offset, place.text)]
                self._until(until, lambda t: client.send_offsets_to_transaction(positions, identity, t))
            if not self._errands.given_up:
                self._until(until, client.commit_transaction)

        try:
            self._begin()
            client = self._producer
            self._errands.run(end, timeout_s + 0.5)  # sending positions heeds no deadline after a broker's restart
        except GivenUp as e:
            raise OutcomeUnknown(str(e)) from None
        except KafkaException as e:
            self._judge(_error(e), place.topic if place else "the topic", max(1.0, until - time.monotonic()))
        self._open = False

    def abort(self, timeout_s: float) -> None:
        """Take back what is open."""
        if self._open:
            self._open = False
            try:
                self._errands.run(lambda: self._producer.abort_transaction(timeout_s), timeout_s + 0.5)
            except GivenUp as e:
                raise OutcomeUnknown(str(e)) from None
            except KafkaException as e:
                raise OutcomeUnknown(_error(e).str()) from None

    def close(self) -> None:
        """Hang up; what is open is aborted by the broker, or by who takes the id next."""
        producer, self._producer = self._producer, None
        self._errands.close()
        if producer is not None:
            with contextlib.suppress(KafkaException):
                producer.purge(blocking=False)
                producer.flush(0)

    def _begin(self) -> None:
        if self._producer is None:
            raise OutcomeUnknown("this producer was given up")
        if not self._open:
            self._refused = None
            self._producer.begin_transaction()
            self._open = True

    def _until(self, until: float, call: Callable[[float], None]) -> None:
        """Again and again, as the library asks for, until it is done or time is up."""
        while True:
            left = until - time.monotonic()
            try:
                call(max(0.05, left))
                return
            except KafkaException as e:
                if not _error(e).retriable() or left <= 0:
                    raise
                time.sleep(0.02)

    def _judge(self, error: Any, topic: str, timeout_s: float) -> NoReturn:
        """Say in our words how it ended; after a clean abort the producer can go on."""
        code, text = error.code(), self._settings.hide(error.str())
        refused = self._refused
        if code in _TOO_LARGE or (refused is not None and refused.code() in _TOO_LARGE):
            raise SinkError(f"topic {topic}: {text}; {TOO_LARGE}")
        if code in _REFUSED or (refused is not None and refused.code() in _REFUSED):
            raise SinkError(f"Kafka refuses us {topic}: {text}; let this user write it")
        if code in _FENCED or (error.fatal() and "fenced" in text.lower()):
            raise FencedProducer(text)
        if error.txn_requires_abort():
            self.abort(timeout_s)
            if code == KafkaError.FENCED_INSTANCE_ID:
                raise FencedMember
            if code in _STALE:
                raise StaleMember(text)
        raise OutcomeUnknown(text)

    def _on_delivery(self, error: Any, message: Any) -> None:
        if error is not None and self._refused is None:
            self._refused = error


def _reader(group: str) -> dict[str, Any]:
    """Options of a consumer."""
    return {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": "cooperative-sticky",
        "allow.auto.create.topics": False,
    }


def _record(m: Any) -> Record:
    offset = m.offset()
    kind, timestamp = m.timestamp()
    headers = m.headers()
    return Record(
        m.value(),
        (offset,),
        (offset + 1,),
        m.key(),
        timestamp if kind and timestamp >= 0 else None,
        tuple([(name, value or b"") for name, value in headers]) if headers else (),
    )


def _timestamp(record: Record | None) -> int:
    """For `produce`, where 0 is the present: the first millisecond of 1970 becomes the second."""
    if record is None or record.timestamp_ms is None:
        return 0
    return record.timestamp_ms or 1


def _error(e: KafkaException) -> Any:
    return e.args[0]


def _passes(error: Any) -> bool:
    """Whether the same question may be answered a moment later."""
    return error.code() in (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError._UNKNOWN_PARTITION,
    )


def _uuid(topic_id: Any) -> str:
    """A topic's id as kafka-python writes it, so that a state may change its client."""
    high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
    text = f"{high & (2**64 - 1):016x}{low & (2**64 - 1):016x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


lookup, member, producer = ConfluentLookup, ConfluentMember, ConfluentProducer
