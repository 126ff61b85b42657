"""Kafka as a source and a sink: a topic's partitions as logs, a group that shares them out, transactions.

    KafkaJob ── source(topic) ──▶ KafkaSource ── join ──▶ KafkaLog, one a partition that is ours
             ── sink(topic)   ──▶ KafkaSink ── open ──▶ KafkaOutput ──▶ Transaction, one a shard

Everything of a shard goes out in one transaction: predictions, dead letters, alerts and the position: the
group's offset of the input partition, or, for a source that is not Kafka, of the first output's partition. The
`source` text of the last event is committed with it, as the offset's metadata: that is the mark. An output
keeps its input's partition, key and timestamp. kafka_source.py reads, kafka_sink.py writes, kafka_client.py says
what they ask of a client library.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from stream_rnn.connectors import Snapshot
from stream_rnn.connectors.kafka_client import Lookup, Member, Producer, client_of
from stream_rnn.connectors.kafka_settings import KafkaSettings
from stream_rnn.connectors.kafka_sink import KafkaOutput, KafkaSink, Transaction
from stream_rnn.connectors.kafka_source import KafkaLog, KafkaSource
from stream_rnn.connectors.kafka_state import SharedState


class KafkaJob:
    """What source and sinks of one job share. `options`: librdkafka's dotted names (kafka_settings.py)."""

    def __init__(
        self,
        options: Mapping[str, Any],
        name: str = "stream-rnn",
        *,
        client: str = "kafka-python",
        deadline_s: float | None = None,  # for one commit or question; unset: socket.timeout.ms, else 10 s
    ) -> None:
        self.settings = KafkaSettings(options, client)
        self.name = name
        self.group: str = self.settings.get("group.id") or name
        self.transactional_id: str = self.settings.get("transactional.id") or self.group
        self.deadline_s: float = deadline_s or self.settings.get("socket.timeout.ms") / 1000
        self.has_sink = False
        self.reader: KafkaSource | None = None
        self.doubted: set[str] = set()  # shards whose last commit ended badly: who owns them is to be made sure of
        self._client = client_of(client)
        self._lookup: Lookup | None = None
        self._transactions: dict[str, Transaction] = {}
        self.making = threading.Lock()  # of a topic
        self._lock = threading.RLock()

    def source(self, topic: str) -> KafkaSource:
        """A topic to read."""
        self.reader = KafkaSource(self, topic)
        return self.reader

    def sink(self, topic: str) -> KafkaSink:
        """A topic to write."""
        self.has_sink = True
        return KafkaSink(self, topic)

    def shared_state(self, shard: str) -> SharedState:
        """Where a shard's snapshots go, so that any machine can take it over."""
        return SharedState(self, f"{self.name}-state", shard)

    @property
    def lookup(self) -> Lookup:
        """For questions to the broker."""
        with self._lock:
            if self._lookup is None:
                self._lookup = self._client.lookup(self.settings, self.group, self.deadline_s)
            return self._lookup

    def member(self, source: KafkaSource) -> Member:
        """Join the group."""
        return self._client.member(self.settings, self.group, source.topic, source, self.deadline_s)

    def producer(self, name: str) -> Producer:
        """A transactional producer; whoever had that name before is fenced."""
        return self._client.producer(self.settings, f"{self.transactional_id}-{name}", self.deadline_s)

    def transaction(self, shard: str) -> Transaction:
        """The one that all outputs of a shard share."""
        with self._lock:
            if shard not in self._transactions:
                self._transactions[shard] = Transaction(self, shard)
            return self._transactions[shard]

    def forget(self, transaction: Transaction) -> None:
        """It is done for; the next output of its shard begins another."""
        with self._lock:
            if self._transactions.get(transaction.shard) is transaction:
                del self._transactions[transaction.shard]

    def close(self) -> None:
        """Hang up. Sources and outputs are closed by who opened them."""
        with self._lock:
            if self._lookup is not None:
                self._lookup.close()
                self._lookup = None


def source(settings: Any, context: Any) -> KafkaSource:
    """For the registry: settings are a config's [source]."""
    return _job(context).source(settings.topic)


def sink(settings: Any, context: Any) -> KafkaSink:
    """For the registry: settings are a config's [sink], [dead_letter] or [alerts]."""
    return _job(context).sink(settings.topic)


def _job(context: Any) -> KafkaJob:
    """One job, whose source and sinks meet in `context.shared`."""
    if "kafka" not in context.shared:
        kafka = context.kafka
        context.shared["kafka"] = KafkaJob(kafka.options, context.name, client=kafka.client)
    return context.shared["kafka"]  # type: ignore[no-any-return]


__all__ = ["KafkaJob", "KafkaLog", "KafkaOutput", "KafkaSink", "KafkaSource", "SharedState", "Snapshot", "Transaction"]
