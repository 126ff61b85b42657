"""What `eval` was asked for, checked and opened: whatever can be wrong is found here, before the run begins."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stream_rnn import config, configfile, rows, tasks
from stream_rnn.codec import Codec
from stream_rnn.config import Event
from stream_rnn.connectors import Log
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.fields import moment
from stream_rnn.hints import nearest
from stream_rnn.label_rivals import LabelRivals
from stream_rnn.records import BadEvent, Record
from stream_rnn.rivals import Rivals

TIME_NAMES = ("timestamp", "datetime", "time", "date", "ts")
_PEEK = 1000  # events looked at before a model is made


class Input(NamedTuple):
    """An opened stream, its first records already read."""

    log: Log
    codec: Codec
    head: list[Record]
    size: int | None  # what a position's last number grows to, as far as known; for the progress bar only


class Ready(NamedTuple):
    """Checked and opened."""

    stream: Input
    model: Any  # a Forecaster; of another task its model
    out: Path | None
    plot: Path | None
    report: Path | None
    remarks: list[str]  # to be told once the run goes well
    rivals: Any = None  # Rivals or LabelRivals: what else is to be scored
    task: str = "forecast"


def prepare(args: argparse.Namespace) -> Ready:
    """Check the request, open the stream and make the model."""
    out, plot_path, report_path = (None if p is None else Path(p) for p in (args.out, args.plot, args.report))
    if out is not None:
        rows.check(out)
    if plot_path is not None:
        from stream_rnn import plot

        plot.require()
    for option, path in (("--out", out), ("--plot", plot_path), ("--report", report_path)):
        if path is not None and (not path.parent.is_dir() or path.is_dir()):
            raise ConfigError(
                f"{option} {path}: "
                + ("is a folder; name a file" if path.is_dir() else f"there is no folder {path.parent}")
            )
        if path is not None and path.exists() and args.file != "-" and path.samefile(args.file):
            raise ConfigError(f"{option} {path}: is the file to be read; give it another name")
    event, model = settings_of(args)
    stream = open_input(args.file, event)
    decoded = stream.codec.decode(stream.head)
    events = [e for e in decoded if not isinstance(e, BadEvent)]
    where = "standard input" if args.file == "-" else args.file
    if not stream.head:
        columns = getattr(stream.log, "columns", None)
        raise InputError(
            f"{where} holds " + (f"a header ({', '.join(columns)}) but no rows" if columns else "no events")
        )
    if not events:
        reason = next(e.reason for e in decoded if isinstance(e, BadEvent))
        raise InputError(f"{where}: none of the first {len(decoded):,} records can be read; the first: {reason}")
    columns = sorted(set().union(*events))
    labelled = (event.label, event.id) if event.task in tasks.LABELLED else ()
    fields = {"target": event.target, "label": filter(None, labelled), "key": event.key, "features": event.features}
    for field, names in fields.items():
        for name in names or ():
            check_column(field, name, columns)
    remarks: list[str] = []
    time = event.time
    if time is not None:
        check_column("time", time, columns)
    else:
        time = find_time(events, {*event.target, *event.key, event.label or "", event.id or ""})
        if time is not None:
            remarks.append(f"time is taken from the column {time!r} (--time names another)")
    rivals = rivals_of(args, event, time)
    made = tasks.make(event, model, time)
    return Ready(stream, made, out, plot_path, report_path, remarks, rivals, event.task)


def rivals_of(args: argparse.Namespace, event: Event, time: str | None) -> Rivals | LabelRivals | None:
    """What --metric and --baseline ask for; None where they don't."""
    if not args.metric and not args.baseline:
        return None
    from stream_rnn import label_rivals, rivals

    left_out = {*event.key, time or "", event.id or "", event.label or "", "@timestamp", "@key"}
    if event.task in tasks.LABELLED:
        return label_rivals.LabelRivals(event.task, args.metric or (), args.baseline or (), left_out, event.features)
    metrics = {name: rivals.metric_maker(name) for name in args.metric or ()}
    specs = [rivals.Spec(text) for text in dict.fromkeys(args.baseline or ())]
    found = [rivals.Rival(spec, event.target, event.horizon, left_out, event.features) for spec in specs]
    return rivals.Rivals(found, metrics, len(event.target))


def task_of(args: argparse.Namespace) -> str:
    """What --task says, else the config file's event.task, else forecast."""
    if args.task is not None:
        return str(args.task)
    event = configfile.read(args.config, args.set or [], os.environ).tree.get("event", {})
    return str(event.get("task", "forecast")) if isinstance(event, dict) else "forecast"


def settings_of(args: argparse.Namespace) -> tuple[Event, dict[str, Any]]:
    """What [event] and [model] say, from the config file, then --set, then the options; the latter as a dict."""
    document = configfile.read(args.config, args.set or [], os.environ)
    document.check_names((), document.tree, ["name", "kafka", *config.ENDS, *config.SECTIONS])
    event: Event = document.section(("event",), Event)
    if event.task == "text":
        return config.text_event(event), msgspec.structs.asdict(document.section(("model",), config.Text))
    model = msgspec.structs.asdict(document.section(("model",), config.Model))
    model |= config.watching(config.alerting(document), document.section(("anomaly",), config.Anomaly))
    options = {
        "target": args.target and tuple(args.target),
        "key": args.key and tuple(args.key),
        "time": args.time,
        "features": args.features and tuple(name.strip() for name in args.features.split(",") if name.strip()),
        "horizon": args.horizon,
        "format": args.format,
        "task": getattr(args, "task", None),
    }
    event = msgspec.structs.replace(event, **{name: value for name, value in options.items() if value is not None})
    if not event.target and (event.task not in tasks.LABELLED or event.label is None):
        what = "predicted" if event.task in tasks.LABELLED else "forecast"
        raise ConfigError(f"what shall be {what}? name the column: --target NAME")
    tasks.check(event, document.tree.get("model", {}))
    if event.transform is not None:
        raise ConfigError(f"event.transform = {event.transform!r}: eval has no use for it yet; leave it out")
    return event, model


def open_input(file: str, event: Event) -> Input:
    """Open a file or standard input ("-") and read its first records."""
    from stream_rnn.connectors.file import FileSource, format_of
    from stream_rnn.connectors.stdio import StdinSource

    log: Log
    kind: str
    if file == "-":
        kind, size = event.format or "json", None
        log = StdinSource(format=kind, delimiter=event.delimiter)
    else:
        kind = event.format or format_of(file)
        log = FileSource(file, format=kind, delimiter=event.delimiter)
        size = log.first("latest")[-1] if kind == "parquet" else text_bytes(Path(file))
    head: list[Record] = []
    while len(head) < _PEEK and not log.finished:
        head += (more := log.read(_PEEK - len(head)))
        if not more:
            log.wait(1.0)
    codec = Codec(
        "json" if kind == "parquet" else kind,
        text=[*event.key, *([event.id] if event.id is not None else [])],
        columns=event.columns or None,
        delimiter=event.delimiter,
        max_bytes=event.max_bytes,
    )
    return Input(log, codec, head, size)


def text_bytes(path: Path) -> int:
    """Bytes of text in a file; of a gzipped one what its trailer says (right up to 4 GiB, one member)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if path.suffix.lower() != ".gz" or size < 18:
            return size
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def check_column(field: str, name: str, columns: Sequence[str]) -> None:
    """InputError, with the nearest name and the columns there are, if `name` is none of them."""
    if name in columns or name in ("@key", "@timestamp"):
        return
    shown = ", ".join(columns[:20]) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")
    raise InputError(f"--{field} {name}: there is no such column{nearest(name, columns)} (columns: {shown})")


def find_time(events: Sequence[dict[str, Any]], taken: set[str]) -> str | None:
    """The column with one of the usual names for a time, if all its values are times."""
    by_name = {name.lower(): name for event in reversed(events) for name in event if name not in taken}
    for usual in TIME_NAMES:
        name = by_name.get(usual)
        values = [] if name is None else [v for e in events if (v := e.get(name)) is not None]
        if values and all(math.isfinite(moment(v)) for v in values):
            return name
    return None


def tell(text: str) -> None:
    """A remark on standard error."""
    print(f"stream-rnn: {text}", file=sys.stderr)
