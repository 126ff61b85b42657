"""`stream-rnn eval --task regress|classify`: how well would labels have been predicted? Each event is predicted, then
its label is scored and learnt when it comes: with the event, or in a later record {key, id, label}.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stream_rnn import evaluate, rows
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.eval_request import Ready, prepare
from stream_rnn.label_scores import Chances, Labels, Numbers
from stream_rnn.progress import Progress
from stream_rnn.records import Prediction
from stream_rnn.summary import percent, short

_COLUMNS = {
    "regress": ("time", "key", "step", "late", "actual", "predicted"),
    "classify": ("time", "key", "step", "late", "actual", "predicted", "p_actual", "p_predicted"),
}


class Done(NamedTuple):
    """An evaluation's facts."""

    name: str
    task: str
    label: str
    scores: Any  # Numbers or Chances
    events: int
    skipped: int
    causes: dict[str, int]
    seconds: float
    updates: int
    config: dict[str, Any]
    stopped: bool


def refuse(args: argparse.Namespace) -> None:
    """ConfigError for options that are for forecasts."""
    for option in ("horizon", "plot"):
        if getattr(args, option, None):
            raise ConfigError(f"--{option} is for forecasts; of labels, --report and --json tell what there is")


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    refuse(args)
    ready = prepare(args)
    name = "standard input" if args.file == "-" else Path(args.file).name
    done = take(ready, name, args.limit, args.quiet)
    told = result(done)
    if ready.report is not None:
        from stream_rnn import label_report

        label_report.write(ready.report, done, told)
    print(json.dumps(told, default=str) if args.json else "\n".join(table(done, told)))
    for path in (ready.out, ready.report):
        if path is not None and not args.json:
            print(f"written: {path}")
    return 130 if done.stopped else 0


def take(ready: Ready, name: str, limit: int | None, quiet: bool) -> Done:
    """The stream through the model, and score kept; Ctrl-C ends it with what there is so far."""
    model: Any = ready.model
    waits = model.settings["max_delay"] if model.settings["id"] is not None else 0
    scores: Labels = (Numbers if model.task == "regress" else Chances)(waits, ready.rivals)
    writer = None if ready.out is None else Writer(ready.out, model.task)
    remarks = evaluate.Remarks(ready.remarks, quiet)
    events, stopped = 0, False
    start = time.perf_counter()
    with Progress(name, quiet=quiet) as progress, evaluate.rare_collections():
        try:
            for records in evaluate.blocks(ready.stream, limit, lambda: 4096):
                good, bad, usable = evaluate.step(ready, records)
                remarks.skipped(events, bad)
                events += len(records)
                if writer is not None:
                    writer.write(good, scores.steps)
                scores.take(good, usable)
                remarks.tell(progress, scores.scored > 0)
                progress.advance(len(records), evaluate.fraction(ready.stream, records, events, limit))
        except KeyboardInterrupt:
            stopped = True
        finally:
            if writer is not None:
                writer.close()
    seconds = time.perf_counter() - start
    label, counted = model.settings["label"], model.counters
    if not stopped and remarks.bad == events:
        raise InputError(f"{name}: none of its {events:,} records can be learnt from; {remarks.first}")
    if not stopped and not scores.scored:
        raise InputError(f"{name}: fewer than two of its {events:,} records bring the label {label}: nothing to score")
    remarks.end()
    causes = {n: counted[n] for n in ("expired", "twice", "over_classes") if counted[n]}
    return Done(name, model.task, label, scores, events, remarks.bad, causes, seconds, counted["updates"],
                model.settings, stopped)  # fmt: skip


class Writer:
    """`--out`: a row an event with a label, when that comes, and an event without one; by suffix CSV, JSON lines or
    Parquet. Columns: time (epoch seconds), key, step (of the key), late (1: the label came later; such a row follows
    the event's own), actual, predicted; of classes the probabilities given to the two, p_actual and p_predicted."""

    def __init__(self, path: Path, task: str) -> None:
        self.names, self._kind, self._text = _COLUMNS[task], path.suffix.lower(), task == "classify"
        self._parquet: Any = None
        self._file: Any = None
        if self._kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            number, what = pa.float64(), pa.string() if self._text else pa.float64()
            types = {"key": pa.string(), "step": pa.int64(), "late": pa.int8(), "actual": what, "predicted": what}
            self._schema = pa.schema([(n, types.get(n, number)) for n in self.names])
            self._parquet = pq.ParquetWriter(path, self._schema)
        else:
            self._file = path.open("w", encoding="utf-8", newline="")
            if self._kind == ".csv":
                csv.writer(self._file, lineterminator="\n").writerow(self.names)

    def write(self, predictions: Sequence[Prediction], steps: dict[Any, int]) -> None:
        """Append a block; steps: the newest event of each key before it."""
        newest: dict[Any, int] = {}
        lines = []
        for p in predictions:
            before = newest.get(p.key, steps.get(p.key, 0))
            newest[p.key] = max(before, p.step)
            when = int(p.time) if p.time is not None and p.time.is_integer() else p.time
            line = [when, p.key, p.step, int(p.step <= before), p.actual, p.predicted]
            if self._text:
                chances = p.probabilities or {}
                line += [None if p.actual is None else chances.get(p.actual, 0.0), chances.get(p.predicted)]
            lines.append(line)
        if self._kind == ".csv":
            shown = [[when, rows.key_text(key), *rest] for when, key, *rest in lines]
            csv.writer(self._file, lineterminator="\n").writerows(shown)
        elif self._parquet is None:
            self._file.writelines(json.dumps(dict(zip(self.names, x, strict=True)), default=str) + "\n" for x in lines)
        elif lines:
            import pyarrow as pa

            columns: list[Any] = [list(column) for column in zip(*lines, strict=True)]
            columns[1] = [None if k is None else rows.key_text(k) for k in columns[1]]
            if self._text:
                columns[4:6] = [[None if v is None else str(v) for v in column] for column in columns[4:6]]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)]
            self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """End the file."""
        (self._file or self._parquet).close()


def result(done: Done) -> dict[str, Any]:
    """The object that `eval --json` prints."""
    rate = round(done.events / done.seconds, 1) if done.seconds > 0 else None
    out = {"task": done.task, "label": done.label, "records": done.events, "events": done.scores.events,
           "skipped": done.skipped, **done.causes, "keys": len(done.scores.steps), **done.scores.summary(),
           "seconds": round(done.seconds, 3), "events_per_s": rate, "updates": done.updates}  # fmt: skip
    if (rivals := done.scores.rivals) is not None:
        if rivals.metrics:
            out["metrics"] = rivals.values()
        out["baselines"] = out["baselines"] | rivals.told()
    return out | ({"stopped": True} if done.stopped else {}) | {"config": done.config}


def table(done: Done, told: dict[str, Any]) -> list[str]:
    """The same for people."""
    facts = [f"{done.events:,} records", f"{told['scored']:,} labels scored", f"{told['late']:,} of them late",
             f"{told['keys']:,} key{'s' * (told['keys'] != 1)}", "stopped by Ctrl-C" * done.stopped]  # fmt: skip
    if not told["late"]:
        facts.pop(2)
    out = [f"{done.name}: {done.label}, {', '.join(filter(None, facts))}", ""]
    out += _aligned(scores_table(done, told))
    if done.task == "classify":
        more = {"balanced accuracy": told["balanced_accuracy"], "Cohen's kappa": told["kappa"],
                "calibration error": told["calibration_error"]}  # fmt: skip
        out += ["", ", ".join(f"{name} {value:.3f}" for name, value in more.items() if value is not None)]
        out += ["", "when it says …, it is right …:", *_aligned(reliability_table(told))]
    else:
        inside = [f"{percent(s['coverage'])} inside the {100 * float(level):g} % intervals"
                  for level, s in told["intervals"].items()]  # fmt: skip
        r2 = [] if told["r2"] is None else [f"R² {told['r2']:.3f}"]
        out += ["", ", ".join([*r2, *inside])]
    causes = "".join(f", {n:,} labels {cause.replace('_', ' ')}" for cause, n in done.causes.items())
    rate = "" if told["events_per_s"] is None else f"{told['events_per_s']:,.0f} records/s, "
    return [*out, "", f"{done.seconds:.1f} s, {rate}{done.updates:,} updates, {done.skipped:,} skipped{causes}"]


def scores_table(done: Done, told: dict[str, Any]) -> list[list[str]]:
    """Ours beside the baselines: a head, then a row each."""
    if done.task == "regress":
        names = {"mean": "mean label", "last_label": "last label"}
        head, fields = ["", "MAE", "RMSE"], ("mae", "rmse")
    else:
        names = {"no_change": "as the last label", "majority": "most frequent"}
        head, fields = ["", "log loss", "accuracy"], ("log_loss", "accuracy")
    names |= {name: name for name in told["baselines"] if name not in names}
    more = list(told.get("metrics", ()))
    lines = [("stream-rnn", told), *((shown, told["baselines"][n]) for n, shown in names.items())]
    cells = [[name, *(_cell(f, values[f]) for f in fields), *(_cell("accuracy", values.get("metrics", {}).get(m))
             for m in more)] for name, values in lines]  # fmt: skip
    return [[*head, *more], *cells]


def _cell(field: str, value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if field in ("log_loss", "accuracy") else short(value)


def reliability_table(told: dict[str, Any]) -> list[list[str]]:
    """A head, then a row a bin of the probability of what was predicted."""
    lines = [[f"{100 * b['from']:.0f}–{100 * b['to']:.0f} %", f"{b['count']:,}", percent(b["probability"]),
              percent(b["right"])] for b in told["reliability"]]  # fmt: skip
    return [["probability", "events", "mean", "right"], *lines]


def classes_table(told: dict[str, Any]) -> list[list[str]]:
    """A head, then a row a class."""
    lines = [[name, f"{c['labels']:,}", f"{c['predicted']:,}", percent(c["recall"]), percent(c["precision"])]
             for name, c in told["classes"].items()]  # fmt: skip
    return [["class", "labels", "predicted", "found (recall)", "right (precision)"], *lines]


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def cards(done: Done, told: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that a report begins with: (what, figure)."""
    if done.task == "regress":
        first = [("mean absolute error", short(told["mae"])), ("root mean square error", short(told["rmse"]))]
    else:
        first = [("log loss", _cell("log_loss", told["log_loss"])), ("accuracy", percent(told["accuracy"]))]
    better = told["better_than_best"]
    against = "–" if better is None or math.isnan(better) else percent(abs(better))
    word = "better" if better is None or better >= 0 else "worse"
    return [*first, (f"{word} than the best baseline", against), ("labels", f"{told['scored']:,}"),
            ("records", f"{done.events:,}"), ("skipped", f"{done.skipped:,}")]  # fmt: skip
