"""A config as an engine: the source, the model and the sinks that it names, connected."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn import registry, tasks
from stream_rnn.codec import Codec
from stream_rnn.config import Config, End, Event, watching
from stream_rnn.engine import Engine
from stream_rnn.errors import ConfigError
from stream_rnn.importing import named


def engine_of(config: Config, *, new_outputs: bool = False) -> Engine:
    """The job, ready to run."""
    context = context_of(config)
    source = source_of(config, context)
    letters = config.dead_letter
    dead_letter = None if letters is None else sink_of(config, "dead_letter", letters, context)
    alerts = None if config.alerts is None else sink_of(config, "alerts", config.alerts, context)
    return Engine(
        source, model_of(config), sink_of(config, "sink", config.sink, context), dead_letter, config.state.path,
        codec=lambda: codec_of(config.event, source), transform=transform_of(config.event),
        alerts=alerts, new_outputs=new_outputs, name=config.name, listen=config.http.listen, token=config.http.token,
        **policy_of(config),
    )  # fmt: skip


def context_of(config: Config) -> registry.Context:
    """What its connectors may want to know."""
    event = config.event
    return registry.Context(name=config.name, format=event.format, delimiter=event.delimiter, kafka=config.kafka)


def source_of(config: Config, context: registry.Context) -> Any:
    """Its source."""
    return registry.source(config.source.type, config.source.settings, context)


def sink_of(config: Config, role: str, end: End, context: registry.Context) -> Any:
    """One of its sinks."""
    return registry.sink(end.type, end.settings, msgspec.structs.replace(context, role=role))


def policy_of(config: Config) -> dict[str, Any]:
    """Settings of the engine."""
    state, limits = config.state, config.limits
    return {
        "start": getattr(config.source.settings, "start", "earliest"),
        "commit_interval": state.commit_interval, "checkpoint_interval": state.checkpoint_interval,
        "retain": state.retain, "on_missing": state.on_missing, "on_gap": state.on_gap,
        "share": state.share, "share_interval": state.share_interval,
        "on_error": config.event.on_error, "memory": limits.memory, "idle_key_ttl": limits.idle_key_ttl,
    }  # fmt: skip


def model_of(config: Config) -> Any:
    """A model that has learnt nothing yet."""
    model = msgspec.structs.asdict(config.model)
    if config.event.task == "forecast":
        model |= watching(config.alerting, config.anomaly)
    return tasks.make(config.event, model)


def codec_of(event: Event, source: Any) -> Codec:
    """What decodes the source's records."""
    format: Any = event.format or getattr(source, "format", "json")
    wanted = None
    if event.features is not None and event.transform is None:  # then nothing else matters
        wanted = [*event.target, *event.key, *event.features, *filter(None, (event.time, event.label, event.id))]
    if event.task == "text" and event.target and event.transform is None:
        wanted = [*event.target, *event.key, *([event.time] if event.time else [])]
    return Codec(
        "json" if format == "parquet" else format, fields=wanted, key="@key" in event.key, timestamp=True,
        text=texts_of(event), columns=event.columns or None, delimiter=event.delimiter, max_bytes=event.max_bytes,
    )  # fmt: skip


def texts_of(event: Event) -> list[str]:
    """CSV columns that stay text: "007" is no 7."""
    texts = event.target if event.task == "text" else ()
    return [*event.key, *texts, *([event.id] if event.id is not None else [])]


def transform_of(event: Event) -> Any:
    """The function that event.transform names; see importing.py."""
    if event.transform is None:
        return None
    function = named("event.transform", event.transform)
    if not callable(function):
        raise ConfigError(f"event.transform = {event.transform!r} is no function")
    return function


def databases(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The shards' databases in a state folder, by shard; a file's own is given as such."""
    path = Path(folder)
    if path.is_file():
        return {path.stem.removeprefix("state").removeprefix("-"): path}
    found = sorted(path.glob("state.db")) + sorted(path.glob("state-*.db"))
    return {p.stem.removeprefix("state").removeprefix("-"): p for p in found}
