"""Sources and sinks by the name that a config gives them: ours, and third parties' by entry points.

A third party's entry point (group `stream_rnn.sources` or `stream_rnn.sinks`) is a callable
`factory(settings, context)` that gives a Source or a Sink (connectors/__init__.py). Its attribute
`Settings`, a `stream_rnn.configfile.Section`, says which settings its section may have.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from stream_rnn.configfile import Section
from stream_rnn.errors import ConfigError


class Context(msgspec.Struct):
    """What a connector may want to know besides its own section."""

    name: str = "stream-rnn"  # the job's
    role: str = "source"  # source | sink | dead_letter | alerts
    format: str | None = None  # event.format
    delimiter: str | None = None
    kafka: Any = None  # config.Kafka
    shared: dict[Any, Any] = {}  # for connectors of one kind to meet in: one Kafka producer a shard


def third_parties(kind: str) -> dict[str, EntryPoint]:
    """Installed entry points by name; `kind` is "sources" or "sinks"."""
    return {e.name: e for e in entry_points(group=f"stream_rnn.{kind}")}


def settings_of(kind: str, name: str) -> type[Section]:
    """The struct of a third party's section."""
    return getattr(_load(kind, name), "Settings", Section)


def source(name: str, settings: Any, context: Context) -> Any:
    """A Source of that type."""
    if name == "file":
        from stream_rnn.connectors.file import FileSource

        return FileSource(settings.path, format=context.format, follow=settings.follow, delimiter=context.delimiter)
    if name == "stdin":
        from stream_rnn.connectors.stdio import StdinSource

        return StdinSource(format=context.format or "json", delimiter=context.delimiter)
    if name == "kafka":
        from stream_rnn.connectors import kafka

        return kafka.source(settings, context)
    if name == "memory":
        raise ConfigError('source.type = "memory" is for Python: Engine(MemorySource(events), …)')
    return _load("sources", name)(settings, context)


def sink(name: str, settings: Any, context: Context) -> Any:
    """A Sink of that type."""
    if name == "file":
        from stream_rnn.connectors.file import FileSink

        return FileSink(settings.path)
    if name == "stdout":
        from stream_rnn.connectors.stdio import StdoutSink

        return StdoutSink()
    if name == "kafka":
        from stream_rnn.connectors import kafka

        return kafka.sink(settings, context)
    if name == "memory":
        raise ConfigError(f'{context.role}.type = "memory" is for Python: Engine(…, sink=MemorySink())')
    return _load("sinks", name)(settings, context)


def _load(kind: str, name: str) -> Callable[[Any, Context], Any]:
    found = third_parties(kind).get(name)
    if found is None:
        raise ConfigError(f"no {kind[:-1]} of type {name!r} is installed")
    try:
        return found.load()  # type: ignore[no-any-return]
    except Exception as e:  # a third party's module may fail in any way
        raise ConfigError(f"the {kind[:-1]} {name!r} ({found.value}) cannot be loaded: {e}") from e
