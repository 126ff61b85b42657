"""Kafka settings by librdkafka's dotted names, the same for both clients.

`confluent-kafka` takes the names as they are; for `kafka-python` each is translated here, and one that it has
no counterpart for is refused. What the engine itself decides (acks, commits, where to begin) is refused too.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from stream_rnn.errors import ConfigError
from stream_rnn.hints import nearest
from stream_rnn.units import Secret

CLIENTS = ("kafka-python", "confluent")


class _Hidden(str):
    """A secret for kafka-python, whose administrator writes all its settings into the log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


Value = str | int | float | bool | Secret


class _Name(msgspec.Struct, frozen=True):
    """One setting: who takes it ("consumer", "producer" or "all"), kafka-python's name for it, and its type."""

    taken_by: str = "all"
    python: str | None = None  # None: kafka-python has no such thing, or _tls and _sasl put it together
    kind: type = str


def _consumer(python: str | None, kind: type = int) -> _Name:
    return _Name("consumer", python, kind)


def _producer(python: str | None, kind: type = int) -> _Name:
    return _Name("producer", python, kind)


_OURS = ("group.id", "transactional.id")  # names of the job, not of a client
_TLS_AND_SASL = {
    "security.protocol": _Name(python="security_protocol"),
    "sasl.mechanism": _Name(python="sasl_mechanism"),
    "sasl.mechanisms": _Name(python="sasl_mechanism"),
    "sasl.username": _Name(python="sasl_plain_username"),
    "sasl.password": _Name(python="sasl_plain_password"),
    "sasl.kerberos.service.name": _Name(python="sasl_kerberos_service_name"),
    "sasl.kerberos.principal": _Name(),
    "sasl.kerberos.keytab": _Name(),
    "sasl.oauthbearer.config": _Name(),
    "sasl.oauthbearer.method": _Name(),
    "sasl.oauthbearer.client.id": _Name(),
    "sasl.oauthbearer.client.secret": _Name(),
    "sasl.oauthbearer.scope": _Name(),
    "sasl.oauthbearer.extensions": _Name(),
    "sasl.oauthbearer.token.endpoint.url": _Name(),
    "ssl.ca.location": _Name(python="ssl_cafile"),
    "ssl.ca.pem": _Name(),
    "ssl.certificate.location": _Name(python="ssl_certfile"),
    "ssl.certificate.pem": _Name(),
    "ssl.key.location": _Name(python="ssl_keyfile"),
    "ssl.key.pem": _Name(),
    "ssl.key.password": _Name(python="ssl_password"),
    "ssl.keystore.location": _Name(),
    "ssl.keystore.password": _Name(),
    "ssl.crl.location": _Name(python="ssl_crlfile"),
    "ssl.cipher.suites": _Name(python="ssl_ciphers"),
    "ssl.endpoint.identification.algorithm": _Name(python="ssl_check_hostname"),
    "enable.ssl.certificate.verification": _Name(python="ssl_context", kind=bool),
}
_NAMES = {
    "bootstrap.servers": _Name(python="bootstrap_servers"),
    "client.id": _Name(python="client_id"),
    "client.rack": _consumer("client_rack", str),
    **dict.fromkeys(_OURS, _Name()),
    "group.instance.id": _consumer("group_instance_id", str),
    **_TLS_AND_SASL,
    "socket.timeout.ms": _Name(python="request_timeout_ms", kind=int),
    "socket.connection.setup.timeout.ms": _Name(kind=int),
    "socket.send.buffer.bytes": _Name(python="send_buffer_bytes", kind=int),
    "socket.receive.buffer.bytes": _Name(python="receive_buffer_bytes", kind=int),
    "connections.max.idle.ms": _Name(python="connections_max_idle_ms", kind=int),
    "metadata.max.age.ms": _Name(python="metadata_max_age_ms", kind=int),
    "reconnect.backoff.ms": _Name(python="reconnect_backoff_ms", kind=int),
    "reconnect.backoff.max.ms": _Name(python="reconnect_backoff_max_ms", kind=int),
    "retry.backoff.ms": _Name(python="retry_backoff_ms", kind=int),
    "session.timeout.ms": _consumer("session_timeout_ms"),
    "heartbeat.interval.ms": _consumer("heartbeat_interval_ms"),
    "max.poll.interval.ms": _consumer("max_poll_interval_ms"),
    "isolation.level": _consumer("isolation_level", str),
    "check.crcs": _consumer("check_crcs", bool),
    "fetch.min.bytes": _consumer("fetch_min_bytes"),
    "fetch.max.bytes": _consumer("fetch_max_bytes"),
    "fetch.wait.max.ms": _consumer("fetch_max_wait_ms"),
    "max.partition.fetch.bytes": _consumer("max_partition_fetch_bytes"),
    "queued.max.messages.kbytes": _consumer(None),
    "compression.type": _producer("compression_type", str),
    "linger.ms": _producer("linger_ms"),
    "batch.size": _producer("batch_size"),
    "message.max.bytes": _producer("max_request_size"),
    "request.timeout.ms": _producer("request_timeout_ms"),
    "transaction.timeout.ms": _producer("transaction_timeout_ms"),
}
NAMES = tuple(_NAMES)
_DECIDED = {
    "enable.auto.commit": "positions are committed with the outputs",
    "enable.auto.offset.store": "positions are committed with the outputs",
    "auto.commit.interval.ms": "set state.commit_interval",
    "auto.offset.reset": "set source.start",
    "enable.idempotence": "every write is in a transaction",
    "acks": "every write is in a transaction",
    "enable.partition.eof": "it is not used",
    "partition.assignment.strategy": "partitions move one by one (cooperative-sticky)",
}
_DEFAULTS: dict[str, Value] = {
    "socket.timeout.ms": 10_000,  # after that long the outcome of a commit counts as unknown
    "isolation.level": "read_committed",
    "reconnect.backoff.max.ms": 500,  # both clients' own maximum makes a short outage a long one
    "fetch.min.bytes": 64 * 1024,  # with the next one: a hundred fetches a second, not one for every few records
    "fetch.wait.max.ms": 10,
    "linger.ms": 50,  # nothing is to be seen before a commit, and that does not linger
    "batch.size": 256 * 1024,
    "message.max.bytes": 64 << 20,  # what a message may be is the topic's to say
    "transaction.timeout.ms": 60_000,
}


class KafkaSettings:
    """Checked settings; `repr` shows no secret."""

    def __init__(self, options: Mapping[str, Any], client: str = "kafka-python") -> None:
        if client not in CLIENTS:
            raise ConfigError(f"kafka.client = {client!r}: it is one of {', '.join(CLIENTS)}{nearest(client, CLIENTS)}")
        self.client = client
        self._options: dict[str, Value] = {}
        for name, value in options.items():
            self._options[name] = _checked(name, value)
        if "fetch.wait.max.ms" in self._options:  # whoever sets that has a wait in mind that ends when records come
            self._options.setdefault("fetch.min.bytes", 1)
        if not self._options.get("bootstrap.servers"):
            raise ConfigError('[kafka] needs "bootstrap.servers", for example "127.0.0.1:9092"')
        if client == "kafka-python":
            for name in self._options:
                if _NAMES[name].python is None and name not in (*_OURS, "ssl.ca.pem"):
                    raise ConfigError(
                        f'kafka.{name}: kafka-python has no such setting; take it out, or set client = "confluent"'
                    )

    def __repr__(self) -> str:
        return f"KafkaSettings({self.servers!r}, client={self.client!r})"

    @property
    def servers(self) -> str:
        """For messages."""
        return str(self._options["bootstrap.servers"])

    def get(self, name: str) -> Any:
        """A setting of that name, ours where the user gave none; None: neither did."""
        value = self._options.get(name, _DEFAULTS.get(name))
        return value.reveal() if isinstance(value, Secret) else value

    def hide(self, text: str) -> str:
        """`text` without any secret in it."""
        for value in self._options.values():
            if isinstance(value, Secret) and value.reveal():
                text = text.replace(value.reveal(), "***")
        return text

    def confluent(self, taken_by: str) -> dict[str, Any]:
        """For confluent-kafka; `taken_by` is "consumer", "producer" or "admin"."""
        found = {name: self.get(name) for name in self._taken(taken_by)}
        if "metadata.max.age.ms" in found:  # here it says how long to believe what was asked, not when to ask
            found["topic.metadata.refresh.interval.ms"] = found["metadata.max.age.ms"]
        return found

    def kafka_python(self, taken_by: str) -> dict[str, Any]:
        """For kafka-python, whose constructors take keywords."""
        found: dict[str, Any] = {}
        for name in self._taken(taken_by):
            python = _NAMES[name].python
            if python is not None:
                value = self.get(name)
                found[python] = _Hidden(value) if isinstance(self._options.get(name), Secret) else value
        if "security_protocol" in found:
            found["security_protocol"] = found["security_protocol"].upper()
        if "ssl_check_hostname" in found:
            found["ssl_check_hostname"] = found["ssl_check_hostname"] != "none"
        if found.pop("ssl_context", True) is False or "ssl.ca.pem" in self._options:
            found = self._with_context(found)
        found["bootstrap_servers"] = found["bootstrap_servers"].replace(" ", "").split(",")
        if found.get("compression_type") == "none":
            found["compression_type"] = None
        return found

    def _taken(self, taken_by: str) -> list[str]:
        names = {**_DEFAULTS, **self._options}
        return [n for n in names if n not in _OURS and _NAMES[n].taken_by in ("all", taken_by)]

    def _with_context(self, found: dict[str, Any]) -> dict[str, Any]:
        """TLS as kafka-python has no settings for: a CA given as text, or no check of the broker's certificate."""
        try:
            context = ssl.create_default_context(cafile=found.pop("ssl_cafile", None), cadata=self.get("ssl.ca.pem"))
            check = found.pop("ssl_check_hostname", True)
            context.check_hostname = check and self.get("enable.ssl.certificate.verification") is not False
            if self.get("enable.ssl.certificate.verification") is False:
                context.verify_mode = ssl.CERT_NONE
            if "ssl_ciphers" in found:
                context.set_ciphers(found.pop("ssl_ciphers"))
            certificate = found.pop("ssl_certfile", None)
            key, password = found.pop("ssl_keyfile", None), found.pop("ssl_password", None)
            if certificate:
                context.load_cert_chain(certificate, key, password)
        except (OSError, ValueError) as e:
            raise ConfigError(self.hide(f"[kafka] ssl settings cannot be used: {e}")) from None
        return {**found, "ssl_context": context}


def _checked(name: str, value: Any) -> Any:
    """The value of its setting's type."""
    if name in _DECIDED:
        raise ConfigError(f"kafka.{name} is not yours to set: {_DECIDED[name]}")
    if name not in _NAMES:
        raise ConfigError(f"kafka.{name} is no setting{nearest(name, NAMES)}")
    kind = _NAMES[name].kind
    if name in ("sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password"):
        return value if isinstance(value, Secret) else Secret(str(value))
    if name in ("sasl.oauthbearer.client.secret", "sasl.oauthbearer.config") and not isinstance(value, Secret):
        return Secret(str(value))
    if isinstance(value, Secret) or type(value) is kind:
        return value
    if kind is int and isinstance(value, str) and value.isdecimal():
        return int(value)
    if kind is bool and value in ("true", "false"):
        return bool(value == "true")
    if kind is str:
        return str(value)
    wanted = "a whole number" if kind is int else "true or false"
    raise ConfigError(f"kafka.{name} = {value!r}: {wanted} is wanted")
