"""The configuration of a job: one struct a section, its fields' types, bounds, defaults and meaning.

`load` reads TOML, puts in the environment's ${NAME}s and --set's values, and refuses what cannot be, naming
the file, line, setting and the nearest valid name. `python -m stream_rnn.config` prints the table of all
settings for the docs. How a file is read and checked: configfile.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream_rnn import configfile, listen, registry, units
from stream_rnn.configfile import DURATION, LIVE, NAMES, SIZE, Section
from stream_rnn.errors import ConfigError
from stream_rnn.units import Secret

Names = Annotated[tuple[str, ...], NAMES]
CELLS = ("gru", "lstm", "elman")
Options = dict[str, str | int | float | bool | Secret]


class Event(Section, frozen=True):
    """What the records say, and what is wanted of them."""

    format: Annotated[
        Literal["json", "csv", "msgpack", "text"] | None,
        "of the records; unset: by a file's suffix, else json; text: each is a text by itself (task = \"text\")",
    ] = None
    key: Annotated[Names, 'field or fields that tell series apart; "@key": the record\'s key; unset: one series'] = ()
    time: Annotated[
        str | None, "field with the event's time; \"@timestamp\" or unset: the record's own, where it has one"
    ] = None
    features: Annotated[Names | None, "fields to learn from; unset: every numeric field"] = None
    target: Annotated[
        Names, "field or fields to forecast; regress, classify: as label; text: the field with it"
    ] = ()
    task: Annotated[Literal["forecast", "regress", "classify", "text"], "what to learn"] = "forecast"
    horizon: Annotated[int, Meta(ge=1), "how many coming events of a key to forecast"] = 1
    label: Annotated[str | None, "regress, classify: field with the label, in the event or in a later record"] = None
    id: Annotated[str | None, "field by which a later label finds its event"] = None
    transform: Annotated[str | None, 'function dict → dict or None (skip), as "module:function"'] = None
    on_error: Annotated[Literal["dead_letter", "skip", "stop"], "what becomes of an event that cannot be used"] = (
        "dead_letter"
    )
    max_bytes: Annotated[int, SIZE, Meta(ge=1), "a larger record is a bad event"] = 1 << 20
    columns: Annotated[Names, "CSV without a header line: its columns' names"] = ()
    delimiter: Annotated[
        str | None, Meta(min_length=1, max_length=1), "CSV; unset: , ; tab or |, as the header shows"
    ] = None


class Model(Section, frozen=True):
    """The model and how it learns."""

    kind: Annotated[Literal["mixture", "rnn"], "experts around a network, or the network alone"] = "mixture"
    cell: Annotated[
        str | None,
        'recurrent cell: gru, lstm, elman, or "module:Class", an nn.Module (x, state) → (output, state) that is made '
        "as Class(inputs, hidden); unset: lstm in a mixture, else gru",
    ] = None
    backend: Annotated[
        Literal["auto", "fused", "torch"],
        "what computes the cell: our kernels (fused), torch (any nn.Module), or kernels where there is one for it",
    ] = "auto"
    device: Annotated[
        str, Meta(pattern=r"^(cpu|cuda(:[0-9]+)?)$"), 'cpu, or cuda with backend = "torch": many keys at a time'
    ] = "cpu"
    hidden: Annotated[int, Meta(ge=1, le=4096), "recurrent units; the time an event takes grows with its square"] = 32
    k1: Annotated[int, Meta(ge=1), "events of a key between updates; fewer learn faster and cost more"] = 1
    k2: Annotated[int, Meta(ge=1), "events that an update looks back; time and memory grow with it"] = 16
    lr: Annotated[float, LIVE, Meta(gt=0), "learning rate"] = 1e-3
    loss: Annotated[
        Literal["huber", "mae", "mse", "squared"],
        "what is minimised; mae cares least about rare large errors, mse most",
    ] = "huber"
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], "how"] = "adam"
    clip: Annotated[float, LIVE, Meta(gt=0), "largest norm of a gradient"] = 1.0
    seed: Annotated[int, Meta(ge=0), "of the first weights"] = 0
    max_features: Annotated[int, Meta(ge=0), "unnamed features learnt from; further ones are counted"] = 32
    intervals: Annotated[
        tuple[float, ...] | None, LIVE, "levels of intervals; unset: 0.5 and 0.9 in a mixture"
    ] = None
    show_experts: Annotated[bool, LIVE, "experts' shares with every prediction"] = False
    max_delay: Annotated[
        int, Meta(ge=0), "regress, classify: events of a key that wait for labels by their event.id; it takes memory"
    ] = 64
    max_classes: Annotated[
        int, Meta(ge=2, le=256), "classify: room for classes; the label of a further one is refused"
    ] = 16


class Text(Section, frozen=True):
    """The model of texts (event.task = "text") and how it learns."""

    kind: Annotated[Literal["mixture", "rnn"], "a network mixed with counts of contexts, or the network alone"] = (
        "mixture"
    )
    unit: Annotated[Literal["bytes", "chars"], "what is guessed one by one; at most 255 different characters"] = "bytes"
    contexts: Annotated[int, Meta(ge=2), "slots for counts of contexts, a power of two; 6 bytes each"] = 1 << 22
    cell: Annotated[Literal["gru", "lstm", "elman"], "recurrent cell"] = "lstm"
    hidden: Annotated[int, Meta(ge=1, le=4096), "recurrent units; the time a symbol takes grows with their square"] = (
        128
    )
    k1: Annotated[int, Meta(ge=1), "symbols of a key between updates"] = 32
    k2: Annotated[int, Meta(ge=1), "symbols that an update looks back; k1 or more"] = 32
    lr: Annotated[float, LIVE, Meta(gt=0), "learning rate"] = 8e-3
    optimizer: Annotated[Literal["adam", "adamw", "sgd"], "how"] = "adam"
    clip: Annotated[float, LIVE, Meta(gt=0), "largest norm of a gradient"] = 1.0
    seed: Annotated[int, Meta(ge=0), "of the first weights"] = 0
    max_updates: Annotated[Annotated[int, Meta(ge=0)] | None, "after so many it guesses on and learns no more"] = None


class Anomaly(Section, frozen=True):
    """What becomes of strange events, and of errors that grow."""

    learn: Annotated[
        Literal["always", "down-weight"],
        "down-weight: the network learns a tenth from an anomalous event; one event at a time, ten times slower",
    ] = "always"
    drift: Annotated[Literal["none", "page-hinkley", "adwin"], "what looks for errors that have grown, a key"] = "none"
    on_drift: Annotated[
        Names, "what is done then: `alert`, `boost_lr` (3 × lr for the model's next 1,024 events), or both"
    ] = ("alert",)


class Alerting(Section, frozen=True):
    """Besides a sink's `type` and its settings (below). Without a type, alerts are in the predictions only."""

    budget: Annotated[
        str, LIVE, 'anomaly alerts of a key in the long run, "1/week" (hour, day, week, month, year), or "none"'
    ] = "1/week"
    silent: Annotated[bool, LIVE, "alert also where a key has not been heard of for much longer than usual"] = True


class State(Section, frozen=True):
    """Where the job keeps what it knows, and what it does when that is gone."""

    path: Annotated[str, Meta(min_length=1), "folder; one database a shard"] = "state"
    commit_interval: Annotated[
        float, DURATION, LIVE, Meta(ge=0), "time between commits of outputs: the latency of what is durable"
    ] = 0.1
    checkpoint_interval: Annotated[
        float, DURATION, LIVE, Meta(gt=0), "time between checkpoints: what a restart replays at most"
    ] = 30.0
    retain: Annotated[int, Meta(ge=1, le=100), "whole snapshots kept, to fall back on"] = 3
    on_missing: Annotated[
        Literal["replay", "fresh", "fail"],
        "no usable state: learn again from the start, begin at the outputs' end, or stop",
    ] = "replay"
    on_gap: Annotated[Literal["stop", "skip"], "events that were not read yet are gone from the source"] = "stop"
    share: Annotated[Literal["topic", "none"], "Kafka: keep snapshots also in the compacted topic <name>-state"] = (
        "topic"
    )
    share_interval: Annotated[float, DURATION, LIVE, Meta(gt=0), "least time between shared snapshots"] = 60.0


class Limits(Section, frozen=True):
    """What the process may take."""

    memory: Annotated[
        int, SIZE, LIVE, Meta(ge=1 << 20), "memory of key states; keys not seen for longest wait on disk"
    ] = 4 << 30
    idle_key_ttl: Annotated[
        Annotated[float, Meta(gt=0)] | None, DURATION, 'a key silent for longer (by event time) starts afresh; "never"'
    ] = None


class Http(Section, frozen=True):
    """The daemon's own pages: /metrics /healthz /readyz /status."""

    listen: Annotated[str | None, 'address and port, "127.0.0.1:8080"; unset: none'] = None
    token: Annotated[Secret | None, "wanted of every caller (Authorization: Bearer …); a must beyond the loopback"] = (
        None
    )


class Logging(Section, frozen=True):
    """What is told on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], LIVE, "least severity shown"] = "info"
    format: Annotated[Literal["text", "json"], "key=value lines, or JSON lines"] = "text"


class FileSourceSettings(Section, frozen=True):
    """type = "file"."""

    path: Annotated[str, Meta(min_length=1), "CSV, JSON lines (also .gz) or Parquet"]
    follow: Annotated[bool, "wait for more, across rotation by rename"] = False
    start: Annotated[Literal["earliest", "latest"], "where no position is known"] = "earliest"


class KafkaSourceSettings(Section, frozen=True):
    """type = "kafka"."""

    topic: Annotated[str, Meta(min_length=1), "one learner a partition"]
    start: Annotated[Literal["earliest", "latest"], "where no position is known"] = "earliest"


class StdinSettings(Section, frozen=True):
    """type = "stdin"."""


class MemorySettings(Section, frozen=True):
    """type = "memory" (from Python only)."""


class FileSinkSettings(Section, frozen=True):
    """type = "file"."""

    path: Annotated[str, Meta(min_length=1), "JSON lines; with several shards one file each: name-<shard>.jsonl"]


class KafkaSinkSettings(Section, frozen=True):
    """type = "kafka"."""

    topic: Annotated[str, Meta(min_length=1), "needs as many partitions as the source"]


class StdoutSettings(Section, frozen=True):
    """type = "stdout": at least once."""


SOURCES: dict[str, type[Section]] = {
    "kafka": KafkaSourceSettings,
    "file": FileSourceSettings,
    "stdin": StdinSettings,
    "memory": MemorySettings,
}
SINKS: dict[str, type[Section]] = {
    "kafka": KafkaSinkSettings,
    "file": FileSinkSettings,
    "stdout": StdoutSettings,
    "memory": MemorySettings,
}


class End(msgspec.Struct, frozen=True):
    """A source or a sink: its type and that type's own settings."""

    type: str
    settings: Any


class Kafka(msgspec.Struct, frozen=True):
    """Shared by every Kafka source and sink: librdkafka's dotted names, for both clients."""

    client: Literal["kafka-python", "confluent"] = "kafka-python"
    options: Options = {}


KAFKA_OPTIONS = (
    "bootstrap.servers", "client.id", "group.id", "group.instance.id", "transactional.id",
    "security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password",
    "sasl.oauthbearer.config", "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.method", "sasl.oauthbearer.scope",
    "sasl.kerberos.service.name", "sasl.kerberos.principal", "sasl.kerberos.keytab",
    "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.certificate.pem", "ssl.key.location",
    "ssl.key.pem", "ssl.key.password", "ssl.keystore.location", "ssl.keystore.password", "ssl.crl.location",
    "ssl.cipher.suites", "ssl.endpoint.identification.algorithm", "enable.ssl.certificate.verification",
    "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "request.timeout.ms",
    "socket.timeout.ms", "metadata.max.age.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms", "retry.backoff.ms",
    "partition.assignment.strategy", "fetch.min.bytes", "fetch.max.bytes", "fetch.wait.max.ms",
    "max.partition.fetch.bytes", "compression.type", "linger.ms", "batch.size", "message.max.bytes",
    "transaction.timeout.ms",
)  # fmt: skip


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole job. `alerts` and `dead_letter` may be unset: no alerts; dead letters go into the state folder."""

    name: str = "stream-rnn"
    kafka: Kafka = Kafka()
    source: End
    event: Event
    model: Model | Text = Model()
    sink: End
    dead_letter: End | None = None
    alerts: End | None = None
    alerting: Alerting = Alerting()
    anomaly: Anomaly = Anomaly()
    state: State = State()
    limits: Limits = Limits()
    http: Http = Http()
    log: Logging = Logging()


SECTIONS: dict[str, type[Section]] = {
    "event": Event,
    "model": Model,
    "anomaly": Anomaly,
    "state": State,
    "limits": Limits,
    "http": Http,
    "log": Logging,
}
ENDS = {"source": SOURCES, "sink": SINKS, "dead_letter": SINKS, "alerts": SINKS}


def load(
    path: str | os.PathLike[str] | None, sets: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> Config:
    """The config file's job, with `--set` texts ("model.k1=4") put over it."""
    return parse(configfile.read(path, sets, environ))


def parse(document: configfile.Document) -> Config:
    """A document as a checked Config."""
    sections = ["name", "kafka", *ENDS, *SECTIONS]
    document.check_names((), document.tree, sections)
    values: dict[str, Any] = {}
    if "name" in document.tree:
        values["name"] = document.convert(
            ("name",), document.tree["name"], Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")]
        )
    if "kafka" in document.tree:
        values["kafka"] = _kafka(document)
    for name, struct in SECTIONS.items():
        of_text = name == "model" and values["event"].task == "text"
        if name in document.tree or name == "event" or of_text:
            values[name] = document.section((name,), Text if of_text else struct)
    values["event"] = text_event(values["event"])
    for name, types in ENDS.items():
        if name not in document.tree:
            continue
        if name == "alerts":
            values["alerting"] = alerting(document)
            if "type" not in document.table(("alerts",)):
                document.section(("alerts",), Alerting)  # nothing else may be there
                continue
        values[name] = _end(document, name, types)
    for name in ("source", "sink"):
        if name not in values:
            example = 'type = "file", path = "in.jsonl"' if name == "source" else 'type = "file", path = "out.jsonl"'
            raise ConfigError(f"{document.where((name,))}: there is no [{name}] section; for example {example}")
    config = Config(**values)
    _check(document, config)
    return config


def _end(document: configfile.Document, name: str, types: dict[str, type[Section]]) -> End:
    """A [source] or a sink's section, by its type."""
    table = document.table((name,))
    kind = table.get("type")
    kinds = [*types, *registry.third_parties("sources" if name == "source" else "sinks")]
    if not isinstance(kind, str) or kind not in kinds:
        found = "there is no type" if kind is None else f"type = {kind!r} is not known"
        hint = configfile.nearest(kind, kinds) if isinstance(kind, str) else ""
        raise ConfigError(f"{document.where((name, 'type'))}: {name}: {found}; it is one of {', '.join(kinds)}{hint}")
    struct = types.get(kind)
    if struct is None:
        struct = registry.settings_of("sources" if name == "source" else "sinks", kind)
    besides = ("type", *(Alerting.__struct_fields__ if name == "alerts" else ()))
    return End(kind, document.section((name,), struct, besides=besides))


def alerting(document: configfile.Document) -> Alerting:
    """What [alerts] says besides its sink."""
    if "alerts" not in document.tree:
        return Alerting()
    found: Alerting = document.section(("alerts",), Alerting, besides=tuple(document.table(("alerts",))))
    try:
        if found.budget != "none":
            units.per(found.budget)
    except ValueError as e:
        where = document.where(("alerts", "budget"))
        raise ConfigError(f'{where}: alerts.budget = {found.budget!r}: {e}, or "none"') from None
    return found


def _kafka(document: configfile.Document) -> Kafka:
    """Dotted names, written with quotes or without; passwords are hidden at once."""
    flat = configfile.dotted(document.table(("kafka",)))
    client = document.convert(
        ("kafka", "client"), flat.pop("client", "kafka-python"), Literal["kafka-python", "confluent"]
    )
    document.check_names(("kafka",), flat, ["client", *KAFKA_OPTIONS])
    options: Options = {}
    for name, value in flat.items():
        if not isinstance(value, str | int | float | bool):
            raise ConfigError(
                f"{document.where(('kafka', name))}: kafka.{name}: text, a number or true/false is wanted"
            )
        options[name] = Secret(str(value)) if configfile.is_secret(name) else value
    return Kafka(client, options)


def _check(document: configfile.Document, config: Config) -> None:
    """What no field can tell by itself."""

    def refuse(path: tuple[str, ...], text: str) -> None:
        raise ConfigError(f"{document.where(path)}: {text}")

    from stream_rnn import tasks

    event, model = config.event, config.model
    if event.task == "text":
        _check_text(event, refuse)
        for name in ("alerts", "anomaly"):
            if name in document.tree:
                refuse((name,), f'there is [{name}], and event.task = "text" tells no anomalies: each text\'s '
                       "bits_per_byte says how odd it is; leave the section out")  # fmt: skip
    if event.format == "text" and event.task != "text":
        refuse(("event", "format"), 'event.format = "text": only event.task = "text" learns from plain texts')
    if event.task == "forecast" and not event.target:
        refuse(
            ("event", "target"),
            'event.target is not set: name the field to forecast, for example target = "temperature"',
        )
    if event.task not in ("forecast", "text") and not (event.label or event.target):
        refuse(("event", "label"), f"event.label is not set: task = {event.task!r} needs the field with the label")
    given = list(document.tree.get("model", {}))
    try:
        tasks.check(event, given)
    except ConfigError as e:
        refuse(("model", *[name for name in given if f"model.{name} " in str(e)]), str(e))
    for name in ("alerts", "anomaly"):
        if event.task != "forecast" and name in document.tree:
            refuse((name,), f'[{name}] watches forecasts, and event.task is "{event.task}"; leave it out')
    if event.task != "forecast" and model.cell is not None and ":" in model.cell:
        refuse(("model", "cell"), f"model.cell = {model.cell!r}: a cell of your own is for forecasts; here it is one "
               f"of {', '.join(CELLS)}")  # fmt: skip
    if event.task != "forecast" and event.horizon != 1:
        refuse(("event", "horizon"), f"event.horizon = {event.horizon}: only forecast has a horizon")
    for action in config.anomaly.on_drift:
        if action not in ("alert", "boost_lr"):
            refuse(
                ("anomaly", "on_drift"),
                f"anomaly.on_drift = {list(config.anomaly.on_drift)}: it holds alert, boost_lr, or both"
                + configfile.nearest(action, ["alert", "boost_lr"]),
            )
    if model.k2 < model.k1:
        refuse(
            ("model", "k2"),
            f"model.k2 = {model.k2} is less than k1 = {model.k1}; an update must see all events since the last",
        )
    if model.cell is not None and ":" not in model.cell and model.cell not in CELLS:
        refuse(
            ("model", "cell"),
            f'model.cell = {model.cell!r}: it is one of {", ".join(CELLS)}{configfile.nearest(model.cell, CELLS)} (or '
            '"module:Class", an nn.Module of your own)',
        )
    if event.transform is not None and event.transform.count(":") != 1:
        refuse(("event", "transform"), f'event.transform = {event.transform!r}: write "module:function"')
    kafka_used = [n for n in ENDS if (end := getattr(config, n)) is not None and end.type == "kafka"]
    if kafka_used and "bootstrap.servers" not in config.kafka.options:
        refuse(("kafka", "bootstrap.servers"), f'[{kafka_used[0]}] is Kafka: [kafka] needs "bootstrap.servers"')
    if (
        config.source.type == "file"
        and config.sink.type == "file"
        and config.source.settings.path == config.sink.settings.path
    ):
        refuse(("sink", "path"), "sink.path is the source's own file")
    if config.http.listen is not None:
        try:
            listen.check(config.http.listen, config.http.token)
        except ConfigError as e:
            refuse(("http", "listen"), str(e))


_ALERTING = ("alert_budget", "silent_alerts")


def watching(alerts: Alerting, anomaly: Anomaly) -> dict[str, Any]:
    """A Forecaster's settings of what is alerted, from [alerts] and [anomaly]."""
    return {
        "alert_budget": None if alerts.budget == "none" else alerts.budget,
        "silent_alerts": alerts.silent,
        "learn_anomalies": anomaly.learn,
        "drift": anomaly.drift,
        "on_drift": list(anomaly.on_drift),
    }


def text_event(event: Event) -> Event:
    """Where no field is named, the records themselves are the texts."""
    if event.task != "text" or event.target or event.format is not None:
        return event
    return msgspec.structs.replace(event, format="text")


def _check_text(event: Event, refuse: Callable[[tuple[str, ...], str], None]) -> None:
    """What a stream of texts can have."""
    for name in ("features", "label", "id"):
        if getattr(event, name) is not None:
            refuse(("event", name), f'event.{name} is set: task = "text" has no use for it; leave it out')
    if event.format == "text":
        for name in ("target", "time", "columns"):
            if getattr(event, name) and getattr(event, name) != "@timestamp":
                refuse(("event", name), f'event.{name} is set, and the records are texts without fields; '
                       f'leave it out, or set event.format to what they are in')  # fmt: skip
        if any(name != "@key" for name in event.key):
            refuse(("event", "key"), f"event.key = {list(event.key)}: the records are texts without fields; "
                   'only "@key" can be')  # fmt: skip
    elif len(event.target) != 1:
        refuse(("event", "target"), 'event.target: name the one field with the text, or let event.format be "text"')


def live_changes(old: Config, new: Config) -> tuple[dict[str, Any], list[str]]:
    """What differs: the settings that may change while running ({"model.lr": 1e-4}), and those that may not."""
    changes: dict[str, Any] = {}
    refused: list[str] = []
    for name in Config.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if name == "alerting":
            changes |= {f"model.{n}": value for n, value in watching(after, new.anomaly).items() if n in _ALERTING}
            continue
        if name not in SECTIONS:
            refused.append(name)
            continue
        live = configfile.live_fields(type(before))
        for field in before.__struct_fields__:
            if type(before) is not type(after):  # of another task: event.task is refused
                continue
            if getattr(before, field) != getattr(after, field):
                if field in live:
                    changes[f"{name}.{field}"] = getattr(after, field)
                else:
                    refused.append(f"{name}.{field}")
    return changes, refused


def markdown() -> str:
    """The table of all settings, for docs/configuration.md."""
    lines = [
        "Made from the code by `python -m stream_rnn.config`; do not edit.",
        "",
        "`name`: the job's name (letters, digits, `.`, `_`, `-`): consumer group and transactional id unless given.",
        "Default `stream-rnn`.",
        "",
    ]
    for name, struct in SECTIONS.items():
        lines += configfile.table_of(f"[{name}]", struct)
        if name == "model":
            lines += configfile.table_of('[model], with event.task = "text"', Text)
    lines += configfile.table_of("[alerts]", Alerting)
    for title, types in (("[source]", SOURCES), ("[sink], [dead_letter], [alerts]", SINKS)):
        for kind, struct in types.items():
            lines += configfile.table_of(f'{title}, type = "{kind}"', struct)
    lines += ["### [kafka]", "", str(Kafka.__doc__), "", "`client`: `kafka-python` (default) or `confluent`.", ""]
    lines += [", ".join(f"`{o}`" for o in KAFKA_OPTIONS) + ".", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
