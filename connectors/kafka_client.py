"""What connectors/kafka.py asks of a Kafka client library. Two fill it: _kafka_python.py and _confluent.py.

    Lookup     questions without membership: topics, bounds, committed positions, reading a stretch
    Member     one member of the consumer group: records of the partitions it was given
    Producer   one transactional producer: write, commit with a position, by a deadline

A client does what it is told once and says how that ended; who tries again, and when, is not its business.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka_settings import KafkaSettings
from stream_rnn.errors import ConfigError
from stream_rnn.records import Record

TOO_LARGE = "raise its max.message.bytes, lower kafka.batch.size, or shorten the event"


class StaleMember(Exception):
    """The group goes by another generation; the transaction was aborted, and nothing of it is out."""


class FencedMember(Exception):
    """Another process runs under our group.instance.id; the transaction was aborted."""


class FencedProducer(Exception):
    """Another producer has our transactional id, or the broker gave our transaction up; this one is done for."""


class OutcomeUnknown(Exception):
    """No answer in time: a commit under way may or may not happen. This producer is done for."""


class Topic(msgspec.Struct, frozen=True):
    """What a broker says of a topic."""

    id: str  # another one if the topic is deleted and made again; "" where the broker gives none
    partitions: int


class Committed(msgspec.Struct, frozen=True):
    """A group's position in a partition, and the text that was committed with it."""

    offset: int
    text: str

    @classmethod
    def of(cls, offset: int, metadata: str | None) -> Committed:
        """As a client found it: the text ends with a zero byte."""
        return cls(offset, (metadata or "").partition("\0")[0])


class Place(msgspec.Struct, frozen=True):
    """A group's position in a partition, and a text to keep with it: to be committed.

    confluent-kafka writes a zero byte behind the text, and needs one there to know where it ends: so we write one too.
    """

    topic: str
    partition: int
    offset: int
    text: str

    @property
    def terminated(self) -> str:
        """The text as it is to be in the group."""
        return f"{self.text}\0" if self.text else ""


class Lookup(Protocol):
    """May be used by several threads. Raises Unavailable where nobody answers in time."""

    def topic(self, name: str) -> Topic | None: ...
    def create(self, name: str, partitions: int, options: Mapping[str, str]) -> None: ...
    def setting(self, topic: str, name: str) -> str | None: ...  # None: it is not told to us
    def largest_message(self, topic: str) -> int: ...
    def bounds(self, topic: str, partition: int) -> tuple[int, int]: ...
    def committed(self, topic: str, partition: int) -> Committed | None: ...
    def stranger(self) -> Any: ...
    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[Record]: ...
    def close(self) -> None: ...


class Partitions(Protocol):
    """Who is told which partitions come and go, from within `poll` and `close`."""

    def on_assigned(self, partitions: Sequence[int]) -> None: ...
    def on_revoked(self, partitions: Sequence[int]) -> None: ...
    def on_lost(self, partitions: Sequence[int]) -> None: ...


class OutOfRange(Exception):
    """Some partition's position is before its first record or past its end."""


class Member(Protocol):
    """Used by one thread. A partition that is given to it is paused, without a position."""

    def poll(self, timeout_s: float, limit: int) -> dict[int, list[Record]]: ...
    def seek(self, partition: int, offset: int) -> None: ...
    def pause(self, partition: int) -> None: ...
    def resume(self, partition: int) -> None: ...
    def identity(self) -> Any: ...
    def end(self, partition: int) -> int | None: ...
    def acknowledge(self, offsets: Mapping[int, int], wait: bool) -> None: ...
    def confirm(self, topic: str, partition: int, tell: Callable[[bool], None]) -> None: ...
    def close(self) -> None: ...


class Producer(Protocol):
    """Used by one thread; at birth it fences whoever had its transactional id before."""

    def send(self, topic: str, partition: int, messages: Sequence[Message]) -> None: ...
    def flush(self, timeout_s: float) -> None: ...
    def commit(self, place: Place | None, identity: Any, timeout_s: float) -> None: ...
    def abort(self, timeout_s: float) -> None: ...
    def close(self) -> None: ...


class Client(Protocol):
    """A module that has all three."""

    def lookup(self, settings: KafkaSettings, group: str, timeout_s: float) -> Lookup: ...
    def member(
        self, settings: KafkaSettings, group: str, topic: str, partitions: Partitions, timeout_s: float
    ) -> Member: ...
    def producer(self, settings: KafkaSettings, transactional_id: str, timeout_s: float) -> Producer: ...


def client_of(name: str) -> Client:
    """The client of a config's `kafka.client`."""
    module = {"kafka-python": "_kafka_python", "confluent": "_confluent"}[name]
    try:
        return importlib.import_module(f"stream_rnn.connectors.{module}")
    except ImportError as e:
        extra = "stream-rnn" if name == "kafka-python" else "'stream-rnn[confluent]'"
        raise ConfigError(f"kafka.client = {name!r} is not installed ({e}): pip install {extra}") from None
