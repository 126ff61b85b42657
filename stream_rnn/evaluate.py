"""`stream-rnn eval`: how well would it have forecast this file? Each event is forecast, scored, then learnt.

    source → codec → model → pairs → scores, rows, pictures

The same source, codec and model that run for ever elsewhere; nothing here grows with the stream.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stream_rnn import rows
from stream_rnn.coverage import Ahead, Coverage
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.eval_columns import bounds_ahead_of, bounds_of, shares_at_the_end, shares_of
from stream_rnn.eval_request import Input, Ready, prepare, task_of, tell
from stream_rnn.gradient_reach import Reach
from stream_rnn.metrics import Pairs, Scores
from stream_rnn.progress import Progress
from stream_rnn.records import BadEvent, Prediction, Record
from stream_rnn.summary import Run, result, table
from stream_rnn.tasks import LABELLED
from stream_rnn.trace import Album

Floats = NDArray[np.float64]

_BLOCK = 4096  # events at a time; no result depends on it
_SAID = 3  # skipped events that are told about one by one


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    task = task_of(args)
    if task == "text":
        from stream_rnn import evaltext

        return evaltext.run(args)
    if args.max_updates is not None:
        raise ConfigError("--max-updates is for --task text; the other models learn on")
    if task in LABELLED:
        from stream_rnn import evallabels

        return evallabels.run(args)
    ready = prepare(args)
    name = "standard input" if args.file == "-" else Path(args.file).name
    done, album = evaluate(ready, name, args.limit, quiet=args.quiet)
    if math.isnan(done.span[0]) and done.events and not args.quiet:
        tell("no event has a time, so time of day and week are not used; --time names the column")
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


def evaluate(ready: Ready, name: str, limit: int | None = None, quiet: bool = False) -> tuple[Run, Album]:
    """Take the stream through the model and keep score; Ctrl-C ends it with what there is so far."""
    tally = Tally(ready)
    remarks = Remarks(ready.remarks, quiet)
    stopped = False
    start = time.perf_counter()
    with Progress(name, quiet=quiet) as progress, rare_collections():
        try:
            for records in blocks(ready.stream, limit, tally.look):
                good, bad, events = step(ready, records)
                remarks.skipped(tally.events, bad)
                tally.events += len(records)
                tally.take(good, events)
                remarks.tell(progress, tally.scores.labels > 0)
                progress.advance(len(records), fraction(ready.stream, records, tally.events, limit))
        except KeyboardInterrupt:
            stopped = True
        finally:
            if tally.writer is not None:
                tally.writer.close()
    seconds = time.perf_counter() - start
    if not stopped and remarks.bad == tally.events:
        raise InputError(f"{name}: none of its {tally.events:,} events can be learnt from; {remarks.first}")
    if not stopped and tally.scores.labels == 0:
        targets = ", ".join(ready.model.targets)
        raise InputError(f"{name}: the target {targets} holds no number in all {tally.events:,} events")
    remarks.end()
    return tally.run(name, remarks.bad, seconds, stopped), tally.album


class Tally:
    """What is kept of the stream: sums, counts, a few traces for pictures; rows go straight to their file."""

    def __init__(self, ready: Ready) -> None:
        self.model = ready.model
        targets, horizon = self.model.targets, self.model.horizon
        self.rivals = ready.rivals
        self.pairs, self.scores = Pairs(len(targets), horizon), Scores(len(targets), horizon)
        levels, experts = self.model.intervals.levels, self.model.answers.experts if self.model.experts else ()
        self.coverage = Coverage(len(targets), levels)
        self.ahead = Ahead(len(targets), levels, horizon)
        self.pictured = ready.plot is not None or ready.report is not None
        self.config = dict(self.model.settings)  # as asked for: what pictures need besides is no setting of the user's
        if self.pictured and experts:
            self.model.set_live("show_experts", True)
        self.reach = None if ready.report is None else Reach()
        self.album = Album(list(targets), levels=levels, experts=experts)
        self.writer = None if ready.out is None else rows.RowWriter(ready.out, targets, horizon)
        self.events = self.predicted = self._blocks = 0
        self.alerts: dict[str, int] = {}  # by kind
        self.span = (math.nan, math.nan)

    def take(self, predictions: list[Prediction], events: list[dict[str, Any]]) -> None:
        """Score a block; the events are those of the predictions."""
        if not predictions:
            return
        keys, moments, actual, predicted, forecast = columns_of(predictions, self.model.targets, self.model.horizon)
        slots = self.pairs.slots_of(keys)
        said, last = self.pairs.pair(slots, actual, predicted, forecast)
        self.scores.add(slots, actual, said, last)
        if self.rivals is not None:
            self.rivals.take(events, slots.tolist(), actual, said, last)
        bounds = bounds_of(predictions, self.model.targets, self.coverage.levels)
        self.coverage.add(slots, actual, bounds)
        if self.ahead.steps:
            further = bounds_ahead_of(predictions, self.model.targets, self.coverage.levels, self.model.horizon)
            self.ahead.add(keys, actual, bounds, further)
        for p in predictions:
            if p.alert:
                self.alerts[p.alert.kind] = self.alerts.get(p.alert.kind, 0) + 1
        self.predicted += int((~np.isnan(predicted)).any(axis=1).sum())
        self.span = _wider(self.span, moments)
        if self.writer is not None:
            self.writer.write(moments, keys, actual, said)
        if self.pictured:
            shares = shares_of(predictions, self.model.targets, self.album.experts, self.model.horizon)
            self.album.add(slots, keys, moments, actual, said[:, :, 0], last[:, :, 0], bounds, shares)

    def look(self) -> int:
        """To be called before a block: how many events it may have. A report looks at the first update of each."""
        if self.reach is None:
            return _BLOCK
        learner = self.model.learner
        self.reach.watch(learner)  # a model that makes room for features has a new one
        self._blocks += 1
        size: int = max(4, 32 // learner.k1, self.events // (64 * learner.k1))  # one in k1 begins with an update
        return min(_BLOCK, size + self._blocks % 3)  # never in step with k1 or with the keys

    def run(self, name: str, skipped: int, seconds: float, stopped: bool) -> Run:
        """The facts so far."""
        return Run(
            name=name,
            targets=self.model.targets,
            horizon=self.model.horizon,
            scores=self.scores,
            keys=len(self.pairs.slots),
            events=self.events,
            predicted=self.predicted,
            skipped=skipped,
            seconds=seconds,
            updates=self.model.counters["updates"],
            span=self.span,
            config=self.config,
            stopped=stopped,
            series=self.pairs.slots,
            coverage=self.coverage,
            ahead=self.ahead,
            experts=shares_at_the_end(self.model),
            reach=self.reach,
            alerts=self.alerts,
            rivals=self.rivals,
        )


class Remarks:
    """What standard error is told besides: held back until something is learnt, for a failure is one line."""

    def __init__(self, first: list[str], quiet: bool) -> None:
        self.bad = 0
        self.first = ""  # about the first skipped event
        self._held = list(first)
        self._quiet = quiet

    def skipped(self, before: int, bad: list[tuple[int, str]]) -> None:
        """(row, reason) of the events of a block that were skipped, and the events before that block."""
        lines = [f"event {before + row + 1:,} skipped: {why}" for row, why in bad[: max(0, _SAID - self.bad)]]
        self.first = self.first or "".join(lines[:1])
        self._held += lines
        self.bad += len(bad)

    def tell(self, progress: Progress, learning: bool) -> None:
        """Say what is held back, if something is learnt."""
        if self._held and learning and not self._quiet:
            progress.clear()
            for line in self._held:
                tell(line)
            self._held = []

    def end(self) -> None:
        """Say how many were not told about."""
        if self.bad > _SAID and not self._quiet:
            tell(f"and {self.bad - _SAID:,} more skipped")


def blocks(stream: Input, limit: int | None, most: Callable[[], int]) -> Iterator[list[Record]]:
    """The records, a block of `most()` at a time, up to `limit` in all."""
    left = limit if limit is not None else sys.maxsize
    records = stream.head
    while left:
        size = min(left, most())
        while not records and not stream.log.finished:
            records = stream.log.read(min(_BLOCK, left))
            if not records:
                stream.log.wait(1.0)
        if not records:
            return
        yield records[:size]
        left -= len(records[:size])
        records = records[size:]


def step(
    ready: Ready, records: list[Record]
) -> tuple[list[Prediction], list[tuple[int, str]], list[dict[str, Any]]]:
    """Predictions of the good events of a block, (row, reason) of the others, and the good events."""
    decoded = ready.stream.codec.decode(records)
    events = decoded if BadEvent not in set(map(type, decoded)) else [e for e in decoded if e.__class__ is not BadEvent]
    usable = cast("list[dict[str, Any]]", events)
    outcome = ready.model.step_many(usable)
    if len(outcome) == len(records) and BadEvent not in set(map(type, outcome)):
        return cast("list[Prediction]", outcome), [], usable
    kept = [event for event, p in zip(usable, outcome, strict=True) if isinstance(p, Prediction)]
    told = iter(outcome)
    merged = [e if isinstance(e, BadEvent) else next(told) for e in decoded]
    good = [p for p in merged if isinstance(p, Prediction)]
    return good, [(i, p.reason) for i, p in enumerate(merged) if isinstance(p, BadEvent)], kept


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


def fraction(stream: Input, records: list[Record], events: int, limit: int | None) -> float | None:
    by_limit = events / limit if limit else 0.0
    by_size = records[-1].resume_at[-1] / stream.size if stream.size else 0.0
    return min(1.0, max(by_limit, by_size)) or None


@contextmanager
def rare_collections() -> Iterator[None]:
    """Events are made and dropped by the million and hold no cycles: the collector need not look at them each time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _wider(span: tuple[float, float], moments: Floats) -> tuple[float, float]:
    known = moments[~np.isnan(moments)]
    if not len(known):
        return span
    return float(np.nanmin([span[0], known.min()])), float(np.nanmax([span[1], known.max()]))
