"""`run`, `train` and `check`: the commands that read a stream."""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn import config, eval_request, job, logs, tasks
from stream_rnn.config import Config, Event
from stream_rnn.connectors import Log
from stream_rnn.daemon import Daemon
from stream_rnn.engine import Engine
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.hints import nearest
from stream_rnn.records import BadEvent, Prediction, Record
from stream_rnn.textmodel import TextPrediction

OK = 0


def run(args: argparse.Namespace) -> int:
    """Follow a stream."""
    settings = config.load(args.config, args.set or [])
    logs.configure(settings.log.level, settings.log.format)
    engine = job.engine_of(settings, new_outputs=args.new_outputs)
    Daemon(engine, Reloader(args, settings)).run()
    return OK


class Reloader:
    """Reads the config again; says what has changed of what may."""

    def __init__(self, args: argparse.Namespace, settings: Config) -> None:
        self._args, self._settings = args, settings

    def __call__(self) -> dict[str, Any]:
        """{setting: its new value}; ConfigError if something has changed that may not."""
        new = config.load(self._args.config, self._args.set or [], os.environ)
        changes, refused = config.live_changes(self._settings, new)
        if refused:
            raise ConfigError(f"{', '.join(refused)} cannot change while the job runs: put it back, or start again")
        model = job.model_of(new).settings  # values as the model has them
        self._settings = new
        if "log.level" in changes:
            logs.set_level(changes["log.level"])
        return {name: model[name.removeprefix("model.")] if name.startswith("model.") else value
                for name, value in changes.items()}  # fmt: skip


def train(args: argparse.Namespace) -> int:
    """Learn files by the same loop; nothing is written but the state."""
    event, settings = eval_request.settings_of(args)
    folder = args.state or (config.load(args.config, args.set or []).state.path if args.config else "state")
    logs.configure("warning")
    for file in args.file:
        stream, make_codec = _history(file, event)
        engine = Engine(
            stream, tasks.make(event, settings), None, state=folder, codec=make_codec, on_error="skip",
            transform=job.transform_of(event),
        )  # fmt: skip
        start = time.perf_counter()
        Daemon(engine).run()
        (shard,) = engine.status()
        _tell_learnt(file, shard, time.perf_counter() - start)
        if shard["state"] == "stopped":
            return OK
        if not shard["events"]:
            raise InputError(f"{file} holds no events")
    print(f"state: {folder} (stream-rnn run goes on from it: positions are kept for each source)")
    return OK


def _history(file: str, event: Event) -> tuple[Any, Any]:
    """A file's source, and what makes its codec."""
    from stream_rnn.connectors.file import FileSource, format_of

    kind = event.format or format_of(file)
    source = FileSource(file, format=kind, delimiter=event.delimiter)
    return source, lambda: job.codec_of(msgspec.structs.replace(event, format=None), source)


def _tell_learnt(file: str, shard: dict[str, Any], seconds: float) -> None:
    quality, bad = shard["quality"], shard["bad"]
    said = f"{file}: {shard['events']:,} events so far, {shard['updates']:,} updates, {shard['keys']:,} keys"
    if bad:
        said += f"; not usable: {', '.join(f'{n:,} ({cause})' for cause, n in bad.items())}"
    if quality["ratio"] is not None:
        said += f"; lately its error is {quality['ratio']:.2f} × the last value's"
    print(f"{said}; {seconds:.1f} s")


def check(args: argparse.Namespace) -> int:
    """Connect, read one event, show what would be learnt; nothing is written."""
    settings = config.load(args.config, args.set or [])
    context = job.context_of(settings)
    source = job.source_of(settings, context)
    try:
        ends = {role: getattr(settings, role) for role in ("sink", "dead_letter", "alerts")}
        sinks = {role: job.sink_of(settings, role, end, context) for role, end in ends.items() if end is not None}
        model, codec = job.model_of(settings), job.codec_of(settings.event, source)
        transform = job.transform_of(settings.event)
        _reachable(settings, sinks)
        record = _one_record(source, args.wait)
        report = {"config": args.config, "source": settings.source.type, "sink": settings.sink.type}
        if record is None:
            print(_shown(args, report | {"event": None}, f"{args.config} is right and its source answers; it has "
                         f"no event in it{f', nor had any in {args.wait:g} s' if args.wait else ''}"))  # fmt: skip
            return OK
        (event,) = codec.decode([record])
        if transform is not None and not isinstance(event, BadEvent):
            event = transform(dict(event))
            if event is None:
                print(_shown(args, report | {"event": None}, "event.transform leaves the first event out"))
                return OK
            event = codec.event(event)
        if isinstance(event, BadEvent):
            raise InputError(f"the first event cannot be read: {event.reason}")
        _has_fields(settings.event, event)
        (prediction,) = model.step_many([event])
        if isinstance(prediction, BadEvent):
            raise InputError(f"the first event cannot be learnt from: {prediction.reason}")
        found = report | _learnt(settings.event, model, event, prediction)
        print(_shown(args, found, "\n".join(f"{n:<9} {_text(v)}" for n, v in found.items())))
    finally:
        source.close()
    return OK


def _reachable(settings: Config, sinks: dict[str, Any]) -> None:
    """SinkError or ConfigError if a sink cannot be there; nothing is opened that would disturb a running job."""
    for role, sink in sinks.items():
        folder = getattr(sink, "path", None)
        if isinstance(folder, Path):
            at = next(p for p in [folder, *folder.absolute().parents] if p.exists())
            if not os.access(at, os.W_OK):
                raise ConfigError(f"{role}.path = {str(folder)!r}: {at} cannot be written")
        if hasattr(sink, "check"):
            sink.check()


def _one_record(source: Any, wait_s: float) -> Record | None:
    """The oldest record that the source has."""
    if hasattr(source, "job"):
        return _one_of_a_topic(source)
    logs_: list[Log] = []

    class Looker:
        """Takes the logs, and leaves them alone."""

        def assigned(self, logs: Sequence[Log]) -> None:
            """Ours."""
            logs_.extend(logs)

        def revoked(self, logs: Sequence[Log]) -> None:
            """Not ours."""

        lost = revoked

    source.join(Looker())
    until = time.monotonic() + wait_s
    while True:
        for log in logs_:
            records = log.read(1)
            if records:
                return records[0]
        if time.monotonic() >= until or (logs_ and all(log.finished for log in logs_)):
            return None
        for log in logs_:
            log.wait(0.1)


def _one_of_a_topic(source: Any) -> Record | None:
    """The oldest record of a Kafka topic, without joining the group: that would disturb a running job."""
    lookup, topic = source.job.lookup, source.topic
    found = lookup.topic(topic)
    if found is None:
        raise ConfigError(f"source.topic = {topic!r}: Kafka shows us no such topic")
    for partition in range(found.partitions):
        first, end = lookup.bounds(topic, partition)
        for record in lookup.read(topic, partition, first, min(end, first + 1000)):
            return record  # type: ignore[no-any-return]
    return None


def _has_fields(event: Event, found: dict[str, Any]) -> None:
    """InputError for a named field that the event lacks, with the nearest it has."""
    fields = {"target": event.target if event.task == "forecast" else (), "key": event.key,
              "time": (event.time,) if event.time else (), "features": event.features or ()}  # fmt: skip
    names = [n for n in found if found[n] is not None]
    for setting, wanted in fields.items():
        for name in wanted:
            if found.get(name) is None and name != "@timestamp":
                raise InputError(f"event.{setting} = {name!r}: the first event has no such field{nearest(name, names)} "
                                 f"(it has {', '.join(names[:20])})")  # fmt: skip


def _learnt(event: Event, model: Any, found: dict[str, Any], prediction: Prediction) -> dict[str, Any]:
    """What an event says to the model."""
    if isinstance(prediction, TextPrediction):
        moment = prediction.time
        return {"key": prediction.key, "time": None if moment is None else _iso(moment), "text": found[model.target],
                "bytes": prediction.bytes, "bits_per_byte": prediction.bits_per_byte,
                "model": {k: model.settings[k] for k in ("kind", "unit", "cell", "hidden", "k1", "k2", "lr")},
                }  # fmt: skip
    features = {n: found.get(n) for n in model.fields.places}
    moment = prediction.time
    when = None if moment is None or not math.isfinite(moment) else _iso(moment)
    if event.task != "forecast":
        label = tasks.label_of(event)
        return {"key": prediction.key, "time": when, "label": {label: found.get(label)}, "features": features,
                "id": found.get(event.id) if event.id else None, "model": model.settings}  # fmt: skip
    return {"key": prediction.key, "time": when, "target": {t: found.get(t) for t in event.target},
            "features": features, "horizon": event.horizon, "forecast": prediction.forecast,
            "model": {k: model.settings[k] for k in ("kind", "cell", "hidden", "k1", "k2", "lr", "loss")}}  # fmt: skip


def _iso(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    except (OverflowError, ValueError):
        return f"{moment} s"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} = {_text(v)}" for k, v in value.items()) or "none"
    return "none" if value is None else str(value)


def _shown(args: argparse.Namespace, found: dict[str, Any], text: str) -> str:
    return json.dumps(found, default=str) if args.json else text
