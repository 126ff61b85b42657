"""`stream-rnn eval`: how well would it have forecast this file? Each event is forecast, scored, then learnt.

    source → codec → model → pairs → scores, rows, pictures

The same source, codec and model that run for ever elsewhere; nothing here grows with the stream.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn import rows
from stream_rnn.codec import Codec
from stream_rnn.connectors import Log
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.fields import moment, names_of
from stream_rnn.hints import nearest
from stream_rnn.metrics import Pairs, Scores
from stream_rnn.model import Forecaster
from stream_rnn.progress import Progress
from stream_rnn.records import BadEvent, Event, Prediction, Record
from stream_rnn.summary import Run, result, table
from stream_rnn.trace import Album

Floats = NDArray[np.float64]

TIME_NAMES = ("timestamp", "datetime", "time", "date", "ts")
_BLOCK = 4096  # events at a time; no result depends on it
_PEEK = 1000  # events looked at before a model is made
_SAID = 3  # skipped events that are told about one by one


class Input(NamedTuple):
    """An opened stream, its first records already read."""

    log: Log
    codec: Codec
    head: list[Record]
    size: int | None  # what a position's last number grows to, as far as known; for the progress bar only


class Ready(NamedTuple):
    """Checked and opened: nothing about the request can be wrong any more."""

    stream: Input
    model: Forecaster
    out: Path | None
    plot: Path | None
    report: Path | None


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    ready = prepare(args)
    name = "standard input" if args.file == "-" else Path(args.file).name
    done, album = evaluate(ready, name, args.limit, quiet=args.quiet)
    if math.isnan(done.span[0]) and done.events and not args.quiet:
        print(
            "stream-rnn: no event has a time, so time of day and week are not used; name the column with --time",
            file=sys.stderr,
        )
    if ready.plot is not None:
        from stream_rnn import plot

        plot.evaluation(ready.plot, done, album)
    if ready.report is not None:
        from stream_rnn import report

        report.write(ready.report, done, result(done), album)
    print(json.dumps(result(done), default=str) if args.json else "\n".join(table(done)))
    for path in (ready.out, ready.plot, ready.report):
        if path is not None and not args.json:
            print(f"written: {path}")
    return 130 if done.stopped else 0


# Before the run: everything that can be wrong is found here ------------------------------------------


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
    settings = settings_of(args)
    stream = open_input(args.file, args.format, settings)
    events = [e for e in stream.codec.decode(stream.head) if not isinstance(e, BadEvent)]
    columns = sorted(set().union(*events)) if events else list(getattr(stream.log, "columns", None) or [])
    if not stream.head:
        where = "standard input" if args.file == "-" else args.file
        raise InputError(
            f"{where} holds " + (f"a header ({', '.join(columns)}) but no rows" if columns else "no events")
        )
    if not events:
        reason = next(e.reason for e in stream.codec.decode(stream.head) if isinstance(e, BadEvent))
        raise InputError(
            f"{args.file}: none of the first {len(stream.head):,} records can be read; the first: {reason}"
        )
    for field in ("target", "key", "time", "features"):
        for name in names_of(field, settings.get(field)):
            check_column(field, name, columns)
    if settings.get("time") is None:
        settings["time"] = find_time(events, settings)
        if settings["time"] is not None and not args.quiet:
            print(
                f"stream-rnn: time is taken from the column {settings['time']!r} (--time names another)",
                file=sys.stderr,
            )
    return Ready(stream, Forecaster(**settings), out, plot_path, report_path)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The Forecaster's arguments: the config file's, then --set, then the options."""
    settings = _given(args.config, args.set or [])
    options = {
        "target": args.target if args.target and len(args.target) > 1 else (args.target or [None])[0],
        "key": args.key if args.key and len(args.key) > 1 else (args.key or [None])[0],
        "time": args.time,
        "features": None if args.features is None else [f.strip() for f in args.features.split(",") if f.strip()],
        "horizon": args.horizon,
    }
    settings |= {name: value for name, value in options.items() if value is not None}
    if not settings.get("target"):
        raise ConfigError("what shall be forecast? name the column: --target NAME")
    return settings


def _given(config: str | None, sets: Sequence[str]) -> dict[str, Any]:
    """What [event] and [model] of a config file and --set say, as the Forecaster's arguments."""
    allowed = {name for name in inspect.signature(Forecaster).parameters if name != "self"}
    event = {"target", "key", "time", "features", "horizon"}
    names = {**{f"event.{n}": n for n in event}, **{f"model.{n}": n for n in allowed - event}}
    found: dict[str, Any] = {}
    if config is not None:
        try:
            sections = tomllib.loads(Path(config).read_text(encoding="utf-8"))
        except OSError as e:
            raise ConfigError(f"--config {config}: {e.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"--config {config}: {e}") from None
        found = {f"{s}.{n}": v for s in ("event", "model") for n, v in sections.get(s, {}).items()}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write it as NAME=VALUE, for example model.k1=4")
        try:
            found[name.strip()] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()  # a bare word is text
    for name in found:
        if name not in names:
            raise ConfigError(f"{name}: there is no such setting{nearest(name, list(names))}")
    return {names[name]: value for name, value in found.items()}


def open_input(file: str, given_format: str | None, settings: dict[str, Any]) -> Input:
    """Open a file or standard input ("-") and read its first records."""
    from stream_rnn.connectors.file import FileSource, format_of
    from stream_rnn.connectors.stdio import StdinSource

    size = None
    log: Log
    if file == "-":
        kind = given_format or "json"
        log = StdinSource(format=kind)
    else:
        kind = given_format or format_of(file)
        log = FileSource(file, format=kind)
        size = log.first("latest")[-1] if kind == "parquet" else text_bytes(Path(file))
    head: list[Record] = []
    while len(head) < _PEEK and not log.finished:
        head += (more := log.read(_PEEK - len(head)))
        if not more:
            log.wait(1.0)
    codec = Codec("json" if kind == "parquet" else kind, text=names_of("key", settings.get("key")))
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


def find_time(events: Sequence[Event], settings: dict[str, Any]) -> str | None:
    """The column with one of the usual names for a time, if all its values are times."""
    taken = [n for field in ("target", "key") for n in names_of(field, settings.get(field))]
    by_name = {name.lower(): name for event in reversed(events) for name in event if name not in taken}
    for usual in TIME_NAMES:
        name = by_name.get(usual)
        values = [] if name is None else [v for e in events if (v := e.get(name)) is not None]
        if values and all(math.isfinite(moment(v)) for v in values):
            return name
    return None


# The run ------------------------------------------------------------------------------------------------


def evaluate(ready: Ready, name: str, limit: int | None = None, quiet: bool = False) -> tuple[Run, Album]:
    """Take the stream through the model and keep score; Ctrl-C ends it with what there is so far."""
    model = ready.model
    targets, horizon = model.targets, model.horizon
    pairs, scores = Pairs(len(targets), horizon), Scores(len(targets), horizon)
    album = Album(list(targets))
    pictured = ready.plot is not None or ready.report is not None
    writer = None if ready.out is None else rows.RowWriter(ready.out, targets, horizon)
    events = predicted = skipped = 0
    span = (math.nan, math.nan)
    stopped = False
    start = time.perf_counter()
    with Progress(name, quiet=quiet) as progress:
        try:
            for records in blocks(ready.stream, limit):
                good, bad = step(ready, records)
                for number, reason in bad[: max(0, _SAID - skipped)]:
                    progress.clear()
                    print(f"stream-rnn: event {events + number + 1:,} skipped: {reason}", file=sys.stderr)
                skipped += len(bad)
                events += len(records)
                if good:
                    keys, moments, actual, said_1, forecast = columns_of(good, targets, horizon)
                    slots = pairs.slots_of(keys)
                    said, last = pairs.pair(slots, actual, said_1, forecast)
                    scores.add(slots, actual, said, last)
                    predicted += int((~np.isnan(said[:, :, 0])).any(axis=1).sum())
                    span = _wider(span, moments)
                    if writer is not None:
                        writer.write(moments, keys, actual, said)
                    if pictured:
                        album.add(slots, keys, moments, actual, said[:, :, 0], last[:, :, 0])
                progress.advance(len(records), _fraction(ready.stream, records, events, limit))
        except KeyboardInterrupt:
            stopped = True
        finally:
            if writer is not None:
                writer.close()
    seconds = time.perf_counter() - start
    if skipped > _SAID and not quiet:
        print(f"stream-rnn: and {skipped - _SAID:,} more skipped", file=sys.stderr)
    if not stopped and events == skipped:
        raise InputError(f"none of the {events:,} events can be learnt from; the first reasons are above")
    if not stopped and scores.labels == 0:
        raise InputError(f"the target {', '.join(targets)} holds no number in all {events:,} events")
    done = Run(name, targets, horizon, scores, len(pairs.slots), events, predicted, skipped, seconds,
               model.counters["updates"], span, model.settings, stopped)  # fmt: skip
    return done, album


def blocks(stream: Input, limit: int | None) -> Any:
    """The records, a block at a time, up to `limit` in all."""
    left = limit if limit is not None else sys.maxsize
    records = stream.head[:left]
    while records:
        yield records
        left -= len(records)
        records = []
        while left and not records and not stream.log.finished:
            records = stream.log.read(min(_BLOCK, left))
            if not records:
                stream.log.wait(1.0)


def step(ready: Ready, records: list[Record]) -> tuple[list[Prediction], list[tuple[int, str]]]:
    """Predictions of the good events of a block, and (row, reason) of the others."""
    decoded = ready.stream.codec.decode(records)
    events: list[Event] = [e for e in decoded if e.__class__ is dict]
    outcome = ready.model.step_many(events)
    good = [p for p in outcome if p.__class__ is Prediction]
    if len(good) == len(records):
        return good, []
    told = iter(outcome)
    merged = [e if e.__class__ is BadEvent else next(told) for e in decoded]
    return good, [(i, p.reason) for i, p in enumerate(merged) if isinstance(p, BadEvent)]


def columns_of(
    predictions: list[Prediction], targets: Sequence[str], horizon: int
) -> tuple[list[Any], Floats, Floats, Floats, Floats | None]:
    """keys, time (n,), actual (n, T), predicted (n, T) and, for several steps, forecast (n, T, H)."""
    n, T = len(predictions), len(targets)
    keys = [p.key for p in predictions]
    moments = np.array([p.time for p in predictions], np.float64)
    actual = _numbers([p.actual for p in predictions], targets)
    predicted = _numbers([p.predicted for p in predictions], targets)
    if horizon == 1:
        return keys, moments, actual, predicted, None
    none = [math.nan] * horizon
    told = [p.forecast for p in predictions]
    if T == 1:
        listed = [none if f is None else f for f in told]
    else:
        listed = [none if f is None or f[t] is None else f[t] for f in told for t in targets]
    return keys, moments, actual, predicted, np.array(listed, np.float64).reshape(n, T, horizon)


def _numbers(values: list[Any], targets: Sequence[str]) -> Floats:
    """(n, T), NaN for None."""
    if len(targets) == 1:
        return np.array(values, np.float64)[:, None]
    none = dict.fromkeys(targets)
    return np.array([[(v or none)[t] for t in targets] for v in values], np.float64)


def _fraction(stream: Input, records: list[Record], events: int, limit: int | None) -> float | None:
    by_limit = events / limit if limit else 0.0
    by_size = records[-1].resume_at[-1] / stream.size if stream.size else 0.0
    return min(1.0, max(by_limit, by_size)) or None


def _wider(span: tuple[float, float], moments: Floats) -> tuple[float, float]:
    known = moments[~np.isnan(moments)]
    if not len(known):
        return span
    return float(np.nanmin([span[0], known.min()])), float(np.nanmax([span[1], known.max()]))
