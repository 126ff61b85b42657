"""Kafka by `kafka-python` (pure Python), through its public interface alone.

What it lacks is put round it here: a deadline on transactions (they run in a thread of their own), a close that
succeeds, and the reason why a connection failed, which it tells only to its log.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import kafka
from kafka import errors as client_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState

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
from stream_rnn.errors import ConfigError, SinkError, SourceError, Unavailable
from stream_rnn.records import Record

T = TypeVar("T")
log = logging.getLogger("stream_rnn.kafka")

_BRISK = {"retry_backoff_ms": 10}  # a new client's first question else waits 100 ms
_REBALANCE_S = 1.0  # a poll in a rebalance
_REBALANCE_LIMIT_S = 10.0  # a rebalance
_DEFAULT_LARGEST = 1 << 20  # where the broker does not say
_STALE = (
    client_errors.CommitFailedError,
    client_errors.UnknownMemberIdError,
    client_errors.IllegalGenerationError,
    client_errors.RebalanceInProgressError,
)
_TOO_LARGE = (client_errors.MessageSizeTooLargeError, client_errors.RecordListTooLargeError)


class KafkaPythonLookup:
    """A client outside the group."""

    def __init__(self, settings: KafkaSettings, group: str, timeout_s: float) -> None:
        self._settings = settings
        self._group = group
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._consumer: Any = None
        self._admin: Any = None

    def topic(self, name: str) -> Topic | None:
        """What there is of that name; None: nothing, or it is not shown to us."""
        (found,) = self._ask(lambda: self._administrator().describe_topics([name]), f"about topic {name}")
        if found["error_code"] == client_errors.UnknownTopicOrPartitionError.errno:
            return None
        self._refuse(client_errors.for_code(found["error_code"]), f"topic {name}")
        return Topic(str(found["topic_id"] or ""), len(found["partitions"]))

    def create(self, name: str, partitions: int, options: Mapping[str, str]) -> None:
        """Make a topic, or give the one there is as many partitions."""
        wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": dict(options)}

        def make() -> None:
            try:
                self._administrator().create_topics({name: wanted}, wait_for_metadata=True)
            except client_errors.TopicAlreadyExistsError:
                self._administrator().create_partitions({name: partitions})

        try:
            self._ask(make, f"to make topic {name}")
        except client_errors.KafkaError as e:
            raise SinkError(f"topic {name} cannot be made: {_text(e)}; make it by hand, or let us") from None

    def setting(self, topic: str, name: str) -> str | None:
        """One of the topic's settings; None: it is not told to us."""
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})]
        try:
            found = self._ask(lambda: self._administrator().describe_configs(wanted, config_filter="all"), "a setting")
            return str(found["topic"][topic][name]["value"])
        except (client_errors.KafkaError, SourceError, KeyError, TypeError):
            return None

    def largest_message(self, topic: str) -> int:
        """The topic's max.message.bytes."""
        return int(self.setting(topic, "max.message.bytes") or _DEFAULT_LARGEST)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset there is, and the one after the last committed record."""
        place = kafka.TopicPartition(topic, partition)

        def ask() -> tuple[int, int]:
            consumer = self._member()
            first = consumer.beginning_offsets([place], timeout_ms=1000 * self._timeout_s)[place]
            return first, consumer.end_offsets([place], timeout_ms=1000 * self._timeout_s)[place]

        return self._ask(ask, f"for the bounds of {topic}/{partition}")

    def committed(self, topic: str, partition: int) -> Committed | None:
        """The group's position; waits for a transaction that is still open."""
        place = kafka.TopicPartition(topic, partition)
        found = self._ask(
            lambda: self._member().committed(place, metadata=True, timeout_ms=1000 * self._timeout_s),
            f"for the position of group {self._group} in {topic}/{partition}",
        )
        return None if found is None or found.offset < 0 else Committed.of(found.offset, found.metadata)

    def stranger(self) -> Any:
        """An identity for committing positions in a group that has no members."""
        return kafka.ConsumerGroupMetadata(self._group)

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[Record]:
        """The committed records from `first` up to `end`."""
        place = kafka.TopicPartition(topic, partition)
        options = _reader(self._settings, None) | _BRISK
        consumer = _made(kafka.KafkaConsumer, self._settings, self._timeout_s, **options)
        try:
            consumer.assign([place])
            consumer.seek(place, first)
            until = time.monotonic() + self._timeout_s
            while consumer.position(place, timeout_ms=1000) < end:
                got = consumer.poll(timeout_ms=100).get(place, [])
                for record in got:
                    if record.offset >= end:
                        return
                    yield _record(record)
                if got:
                    until = time.monotonic() + self._timeout_s
                elif time.monotonic() > until:
                    raise Unavailable(f"Kafka at {self._settings.servers}: {topic}/{partition} gives nothing more")
        except client_errors.AuthorizationError as e:
            raise SourceError(f"Kafka refuses us {topic}: {_text(e)}; let this user read it") from None
        except client_errors.KafkaError as e:
            raise Unavailable(f"Kafka at {self._settings.servers}: {topic}/{partition}: {_text(e)}") from None
        finally:
            consumer.close()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            for client in (self._consumer, self._admin):
                if client is not None:
                    client.close()
            self._consumer = self._admin = None

    def _member(self) -> Any:
        if self._consumer is None:
            options = _reader(self._settings, self._group) | _BRISK
            options.pop("group_instance_id", None)  # it never joins
            self._consumer = _made(kafka.KafkaConsumer, self._settings, self._timeout_s, **options)
        return self._consumer

    def _administrator(self) -> Any:
        if self._admin is None:
            options = self._settings.kafka_python("admin")
            self._admin = _made(kafka.KafkaAdminClient, self._settings, self._timeout_s, **options)
        return self._admin

    def _ask(self, question: Callable[[], T], about: str) -> T:
        """Ask until there is an answer or time is up."""
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                with self._lock:
                    return question()
            except client_errors.AuthorizationError as e:
                raise SourceError(f"Kafka refuses to say {about}: {_text(e)}; let this user do so") from None
            except client_errors.KafkaError as e:
                if not e.retriable:
                    raise
                if time.monotonic() > until:
                    text = f"Kafka at {self._settings.servers} does not answer {about}: {_text(e)}"
                    raise Unavailable(self._settings.hide(text)) from None
                time.sleep(0.05)

    def _refuse(self, error: Any, what: str) -> None:
        if error is not client_errors.NoError:
            if error.retriable:
                raise Unavailable(f"Kafka at {self._settings.servers}: {what}: {_text(error())}")
            raise SourceError(f"Kafka at {self._settings.servers}: {what}: {_text(error())}")


class KafkaPythonMember(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """One consumer in the group. The listener's calls come on the client's own thread, while `poll` waits."""

    def __init__(
        self, settings: KafkaSettings, group: str, topic: str, partitions: Partitions, timeout_s: float
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._partitions = partitions
        self._failed: BaseException | None = None  # of a listener's call, where the client would hide it
        self._rebalancing_since: float | None = None
        self._consumer = _made(kafka.KafkaConsumer, settings, timeout_s, **_reader(settings, group))
        self._consumer.subscribe([topic], listener=self)
        # The topic's partitions are to be known before the first assignment: one that is made while the client
        # still asks for them gives nobody any, or is made twice.
        self._consumer.topics()

    def poll(self, timeout_s: float, limit: int) -> dict[int, list[Record]]:
        """What has come, by partition."""
        rebalancing = self._rebalancing()
        if rebalancing and self._consumer.assignment():
            timeout_s = max(timeout_s, _REBALANCE_S)
        try:
            got = self._consumer.poll(timeout_ms=1000 * timeout_s, max_records=limit)
        except client_errors.KafkaError as e:
            if self._failed is not None:
                raise self._failed from None
            self._judge(e)
            time.sleep(timeout_s)
            return {}
        if rebalancing and self._rebalancing() and self._forgotten(bool(got)):
            self._join_again()
            return {}
        return {place.partition: [_record(r) for r in records] for place, records in got.items()}

    def seek(self, partition: int, offset: int) -> None:
        """Read on from there."""
        self._consumer.seek(kafka.TopicPartition(self._topic, partition), offset)

    def pause(self, partition: int) -> None:
        """Give no more of it."""
        self._consumer.pause(kafka.TopicPartition(self._topic, partition))

    def resume(self, partition: int) -> None:
        """Give it again."""
        self._consumer.resume(kafka.TopicPartition(self._topic, partition))

    def identity(self) -> Any:
        """Who we are in the group now."""
        return self._consumer.group_metadata()

    def end(self, partition: int) -> int | None:
        """The end of the partition, as the last fetch showed it."""
        place = kafka.TopicPartition(self._topic, partition)
        return self._consumer.highwater(place) if place in self._consumer.assignment() else None

    def acknowledge(self, offsets: Mapping[int, int], wait: bool) -> None:
        """Commit positions for others to see; that this fails harms nobody, unless we are fenced."""
        wanted = {kafka.TopicPartition(self._topic, p): kafka.OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}
        try:
            if wait:
                self._consumer.commit(wanted, timeout_ms=2000)
            else:
                self._consumer.commit_async(wanted)
        except client_errors.FencedInstanceIdError:
            raise FencedMember from None
        except client_errors.KafkaError as e:
            log.info("position not committed: %s", _text(e))

    def confirm(self, topic: str, partition: int, tell: Callable[[bool], None]) -> None:
        """Tell, from a later poll, whether the group knows us: it takes a position from us, for a place of no use."""
        wanted = {kafka.TopicPartition(topic, partition): kafka.OffsetAndMetadata(0, "a member made sure", -1)}
        try:
            self._consumer.commit_async(wanted, callback=lambda _, answer: tell(not isinstance(answer, Exception)))
        except client_errors.KafkaError:
            tell(False)

    def close(self) -> None:
        """Leave the group."""
        with contextlib.suppress(client_errors.KafkaError):
            self._consumer.close(timeout_ms=5000)

    def _rebalancing(self) -> bool:
        now = bool(self._consumer.group_metadata().state == MemberState.REBALANCING)
        if not now:
            self._rebalancing_since = None
        elif self._rebalancing_since is None:
            self._rebalancing_since = time.monotonic()
        return now

    def _forgotten(self, records_came: bool) -> bool:
        """Whether the client waits for an answer that it has had."""
        since = self._rebalancing_since
        return records_came or (since is not None and time.monotonic() - since > _REBALANCE_LIMIT_S)

    def _join_again(self) -> None:
        """Leave and join.

        The client forgets the answer to its own request to join if a `poll` ends while the answer is on its
        way, and the cause was that partitions were added: it would go on with what it had, without heartbeats.
        Records that come while it counts as rebalancing are the sign, or that this lasts. A longer `poll` makes
        it rare.
        """
        log.warning("group membership was forgotten by the client; joining again")
        held = self._consumer.assignment()
        self._consumer.unsubscribe()
        self._tell(self._partitions.on_lost, held)
        self._consumer.subscribe([self._topic], listener=self)

    def on_partitions_assigned(self, assigned: Any) -> None:
        """The client's call. Position 0 keeps it from asking for one of its own; nothing is fetched when paused."""
        for place in assigned:
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self._tell(self._partitions.on_assigned, assigned)

    def on_partitions_revoked(self, revoked: Any) -> None:
        """The client's call."""
        self._tell(self._partitions.on_revoked, revoked)

    def on_partitions_lost(self, lost: Any) -> None:
        """The client's call."""
        self._tell(self._partitions.on_lost, lost)

    def _tell(self, method: Callable[[Sequence[int]], None], places: Any) -> None:
        try:
            if places:
                method(sorted(place.partition for place in places))
        except BaseException as e:
            self._failed = e
            raise

    def _judge(self, e: Any) -> None:
        """Raise what a retry cannot mend."""
        text = self._settings.hide(_text(e))
        if isinstance(e, client_errors.OffsetOutOfRangeError | client_errors.LogTruncationError):
            raise OutOfRange(text) from None
        if isinstance(e, client_errors.FencedInstanceIdError):
            raise FencedMember from None
        if isinstance(e, client_errors.AuthorizationError):
            raise SourceError(f"Kafka refuses us {self._topic}: {text}; let this user read it and join the group")
        if isinstance(e, client_errors.UnsupportedCodecError):
            raise SourceError(f"topic {self._topic}: {text}; pip install 'kafka-python[lz4,snappy,zstd]'") from None
        if isinstance(e, client_errors.CorruptRecordError):
            raise SourceError(f"topic {self._topic}: a record is damaged: {text}") from None
        log.warning("reading %s: %s", self._topic, text)


class KafkaPythonProducer:
    """One transactional producer. Its transactions run in a thread, so that whoever waits can give up."""

    def __init__(self, settings: KafkaSettings, transactional_id: str, timeout_s: float) -> None:
        self._settings = settings
        self._id = transactional_id
        self._open = False
        self._sent: list[Any] = []  # what is known of each record of the open transaction
        _Retired.wait_for(transactional_id, timeout_s)
        options = settings.kafka_python("producer")
        options |= {
            "retry_backoff_ms": 5,  # else each transaction that meets the end of the last one waits 100 ms
            "max_block_ms": 1000 * timeout_s,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "transactional_id": transactional_id,
        }
        self._producer = _made(kafka.KafkaProducer, settings, timeout_s, **options)
        self._errands = Errands(f"commit-{transactional_id}")
        try:
            self._errands.run(self._producer.init_transactions, timeout_s)
        except GivenUp as e:
            self.close()
            raise Unavailable(f"Kafka at {settings.servers} does not answer {transactional_id}: {e}") from None
        except client_errors.KafkaError as e:
            self.close()
            if e.retriable or isinstance(e, client_errors.ProducerFencedError):
                raise Unavailable(f"Kafka at {settings.servers}: {transactional_id}: {_text(e)}") from None
            raise SinkError(
                f"Kafka refuses the transactional id {transactional_id}: {settings.hide(_text(e))}; "
                "let this user write with it"
            ) from None

    def send(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Write in the transaction that is open, or in a new one."""
        try:
            if not self._open:
                self._producer.begin_transaction()
                self._open = True
            send, sent = self._producer.send, self._sent.append
            for message in messages:
                record = message.record
                value = message.value
                if value is None and (record is None or record.key is None):
                    value = b""  # the client refuses a record of nothing
                if record is None:
                    sent(send(topic, value, None, list(message.headers), partition))
                else:
                    sent(send(topic, value, record.key, list(message.headers), partition, record.timestamp_ms))
        except Exception as e:
            self._judge(e, topic)

    def flush(self, timeout_s: float) -> None:
        """Until the broker has what was written."""
        try:
            self._errands.run(self._producer.flush, timeout_s)
        except GivenUp as e:
            raise OutcomeUnknown(str(e)) from None
        except Exception as e:
            self._judge(e, "")

    def commit(self, place: Place | None, identity: Any, timeout_s: float) -> None:
        """End the transaction, with the group's position in it."""

        def end() -> None:
            if not self._open:
                self._producer.begin_transaction()
                self._open = True
            self._make_sure(timeout_s)
            if place is not None:
                position = kafka.OffsetAndMetadata(place.offset, place.terminated, -1)
                partition = kafka.TopicPartition(place.topic, place.partition)
                self._producer.send_offsets_to_transaction({partition: position}, identity)
            if not self._errands.given_up:
                self._producer.commit_transaction()

        try:
            self._errands.run(end, timeout_s)
        except GivenUp as e:
            raise OutcomeUnknown(str(e)) from None
        except Exception as e:
            self._judge(e, place.topic if place else "the topic")
        self._open = False
        self._sent.clear()

    def _make_sure(self, timeout_s: float) -> None:
        """Raise if a record is not there. A commit alone succeeds without it: where the client can get a fenced
        producer a new epoch, it goes on in the same transaction, and what was on its way is dropped."""
        self._producer.flush(timeout_s)
        for future in self._sent:
            if future.exception is not None:
                raise future.exception

    def abort(self, timeout_s: float) -> None:
        """Take back what is open."""
        self._sent.clear()
        if self._open:
            self._open = False
            try:
                self._errands.run(self._producer.abort_transaction, timeout_s)
            except (GivenUp, client_errors.KafkaError) as e:
                raise OutcomeUnknown(_text(e)) from None

    def close(self) -> None:
        """Hang up; what is open is aborted by the broker, or by who takes the id next."""
        self._errands.close()
        _Retired(self._id, self._producer)

    def _judge(self, e: Exception, topic: str) -> None:
        """Say in our words how it ended; after a clean abort the producer can go on."""
        text = self._settings.hide(_text(e))
        if isinstance(e, client_errors.FencedInstanceIdError):
            self.abort(5.0)
            raise FencedMember from None
        if isinstance(e, _STALE):
            self.abort(5.0)
            raise StaleMember(text) from None
        if isinstance(e, client_errors.ProducerFencedError | client_errors.InvalidProducerEpochError):
            raise FencedProducer(text) from None
        if isinstance(e, _TOO_LARGE):
            raise SinkError(f"topic {topic}: {text}; {TOO_LARGE}") from None
        if isinstance(e, client_errors.AuthorizationError):
            raise SinkError(f"Kafka refuses us {topic}: {text}; let this user write it") from None
        raise OutcomeUnknown(text) from None


class _Retired:
    """A producer on its way out.

    `close` refuses while records wait for a broker, and such a producer, when the broker is back, would fence
    the one that has its id by then. So closing is tried until it succeeds, and a successor waits for it.
    """

    _waiting: dict[str, list[_Retired]] = {}  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, transactional_id: str, producer: Any) -> None:
        self._id = transactional_id
        self._producer = producer
        self._closed = threading.Event()
        if not self._try(0.5):
            with self._lock:
                self._waiting.setdefault(transactional_id, []).append(self)
            threading.Thread(target=self._retire, name=f"retire-{transactional_id}", daemon=True).start()

    @classmethod
    def wait_for(cls, transactional_id: str, timeout_s: float) -> None:
        """Until nobody of that id is left, or `timeout_s` are over."""
        until = time.monotonic() + timeout_s
        for old in list(cls._waiting.get(transactional_id, ())):
            old._closed.wait(max(0.0, until - time.monotonic()))

    def _try(self, timeout_s: float) -> bool:
        try:
            self._producer.close(timeout=timeout_s)
        except client_errors.KafkaError:
            return False
        return True

    def _retire(self) -> None:
        while not self._try(0.2):
            time.sleep(0.1)
        self._closed.set()
        with self._lock:
            self._waiting[self._id].remove(self)
            self._producer = None


class _Reasons(logging.Handler):
    """Remembers why a connection failed: the client says so to its log only."""

    _WORTH = ("Authentication", "SASL", "certificate", "SSL", "refused", "resolve", "Name or service", "disconnected")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._best: tuple[int, str] = (len(self._WORTH), "no answer")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the one that says most."""
        text = record.getMessage()
        worth = next((n for n, word in enumerate(self._WORTH) if word in text), len(self._WORTH))
        if worth < self._best[0]:
            self._best = (worth, text)

    def __str__(self) -> str:
        text = self._best[1]
        return text + "; a broker that hangs up at once wants another login, or TLS" if "socket disc" in text else text


def _made(client: Any, settings: KafkaSettings, timeout_s: float, **options: Any) -> Any:
    """A connected client."""
    reasons = _Reasons()
    logger = logging.getLogger("kafka")
    logger.addHandler(reasons)
    try:
        return client(bootstrap_timeout_ms=1000 * timeout_s, **options)
    except client_errors.KafkaConfigurationError as e:
        raise ConfigError(settings.hide(f"[kafka]: {_text(e)}")) from None
    except client_errors.KafkaError:
        text = f"Kafka at {settings.servers} cannot be reached: {reasons}"
        raise Unavailable(settings.hide(text)) from None
    except (OSError, ValueError, RuntimeError, AssertionError, ImportError) as e:  # a file, a codec, a mechanism
        raise ConfigError(settings.hide(f"[kafka]: {e}")) from None
    finally:
        logger.removeHandler(reasons)


def _reader(settings: KafkaSettings, group: str | None) -> dict[str, Any]:
    """Options of a consumer."""
    options = settings.kafka_python("consumer")
    if group is None:
        options.pop("group_instance_id", None)
    return options | {
        "group_id": group,
        "partition_assignment_strategy": [CooperativeStickyAssignor],
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def _record(r: Any) -> Record:
    timestamp = r.timestamp
    headers = tuple([(name, value or b"") for name, value in r.headers]) if r.headers else ()
    return Record(
        r.value,
        (r.offset,),
        (r.offset + 1,),
        r.key,
        timestamp if timestamp is not None and timestamp >= 0 else None,
        headers,
    )


def _text(e: BaseException) -> str:
    """An error's own words."""
    return str(e) or type(e).__name__


lookup, member, producer = KafkaPythonLookup, KafkaPythonMember, KafkaPythonProducer
