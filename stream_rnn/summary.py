"""What `eval` says in the end: one dict for machines, one table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.coverage import Ahead, Coverage
from stream_rnn.gradient_reach import Reach
from stream_rnn.metrics import Scores
from stream_rnn.records import Key
from stream_rnn.rivals import Rivals
from stream_rnn.ticks import clock


class Run(NamedTuple):
    """The bare facts of an evaluation."""

    name: str  # of the file
    targets: Sequence[str]
    horizon: int
    scores: Scores
    keys: int
    events: int  # records read
    predicted: int  # of them, those that had been predicted before they came
    skipped: int  # of them, those that could not be used
    seconds: float
    updates: int
    span: tuple[float, float]  # first and last event time, epoch seconds or NaN
    config: dict[str, Any]
    stopped: bool  # by Ctrl-C
    series: Mapping[Key, int]  # each key's place in the scores
    coverage: Coverage
    ahead: Ahead  # its coverage further ahead
    experts: Mapping[str, NDArray[np.float64]]  # who carries the forecasts in the end: name → share (targets,)
    alerts: Mapping[str, int] = {}  # by kind
    rivals: Rivals | None = None  # baselines and metrics besides, where they were asked for
    reach: Reach | None = None  # how far back the gradient reaches, where a report asks for it


def result(run: Run) -> dict[str, Any]:
    """The object that `eval --json` prints.

    `mae`, `rmse` and so on are over all rows of `--out` that have both an actual and a predicted value. Several
    targets and several steps ahead have the same numbers each for itself in `targets` and `ahead`.
    """
    out: dict[str, Any] = {"events": run.events, "predicted": run.predicted, "skipped": run.skipped}
    out |= run.scores.summary()
    out["score"] = run.scores.score()
    out |= _more(run, None)
    _add_rivals(run, None, out)
    out |= {
        "alerts": dict(run.alerts),
        "keys": run.keys,
        "seconds": round(run.seconds, 3),
        "events_per_s": round(run.events / run.seconds, 1) if run.seconds > 0 else None,
        "updates": run.updates,
    }
    if len(run.targets) > 1:
        out["targets"] = {
            name: {**run.scores.summary(j), "score": run.scores.score(j), **_more(run, j), **_ahead(run, j)}
            for j, name in enumerate(run.targets)
        }
        for j, name in enumerate(run.targets):
            _add_rivals(run, j, out["targets"][name])
    out |= _ahead(run, None)
    if run.reach is not None:
        out["gradient_reach"] = run.reach.result()
    if run.stopped:
        out["stopped"] = True
    out["config"] = run.config
    return out


def _more(run: Run, target: int | None) -> dict[str, Any]:
    """Coverage of the intervals told one step ahead, and the experts' shares in the end, where there are any."""
    out: dict[str, Any] = {}
    if run.coverage.levels:
        out["intervals"] = run.coverage.summary(target)
    if run.experts:
        out["experts"] = {
            name: round(float(share.mean() if target is None else share[target]), 4)
            for name, share in run.experts.items()
        }
    return out


def _add_rivals(run: Run, target: int | None, out: dict[str, Any]) -> None:
    """Put what --baseline and --metric asked for into the object with the other scores."""
    if run.rivals is None:
        return
    if run.rivals.metrics:
        out["metrics"] = run.rivals.values("ours", target)
    for name, told in run.rivals.told(target).items():
        out["baselines"][name] = out["baselines"].get(name, {}) | told


def _ahead(run: Run, target: int | None) -> dict[str, Any]:
    if run.horizon == 1:
        return {}
    steps = {str(i): run.scores.summary(target, i) for i in range(1, run.horizon + 1)}
    covered = [run.coverage, *run.ahead.steps] if run.ahead.steps else []
    for step, coverage in zip(steps.values(), covered, strict=False):
        step["intervals"] = coverage.summary(target)
    return {"ahead": steps}


def table(run: Run) -> list[str]:
    """The same for people: a line a target (and step ahead), ours beside the last value's."""
    span = " to ".join(clock(t) for t in run.span if math.isfinite(t))
    events, keys = (f"{n:,} {what}{'s' * (n != 1)}" for n, what in ((run.events, "event"), (run.keys, "key")))
    facts = [events, span, keys, "stopped by Ctrl-C" * run.stopped]
    lines = _columns(
        [_line(run, j, i) for j in range(len(run.targets)) for i in range(1, run.horizon + 1)], run.horizon > 1
    )
    rule = "─" * len(lines[1])
    out = [f"{run.name}: {', '.join(filter(None, facts))}", "", *lines[:2], rule, *lines[2:], rule]
    score = run.scores.score()
    if score["series"] > 1:
        ratios = f"MAE {score['mae']:.3f}, RMSE {score['rmse']:.3f}"
        out.append(f"error / last value's, geometric mean of {score['series']:,} series: {ratios}")
        out[-1] += f" (MAE better in {score['better']:,})"
    out += carried(run)
    if run.rivals is not None:
        out += _beside(run, run.rivals)
    out.append(alerted(run))
    if run.reach is not None:
        out.append(f"gradient: {run.reach.said()}")
    rate = f"{run.events / run.seconds:,.0f} events/s, " if run.seconds > 0 else ""
    return [*out, f"{run.seconds:.1f} s, {rate}{run.updates:,} updates, {run.skipped:,} skipped"]


def alerted(run: Run) -> str:
    """A line about the alerts there would have been."""
    if not run.alerts:
        return f"alerts: none (budget {run.config.get('alert_budget') or 'none'} a key)"
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(run.alerts.items()))
    return f"alerts: {kinds} (budget {run.config.get('alert_budget') or 'none'} a key)"


def _beside(run: Run, rivals: Rivals) -> list[str]:
    """A table a target: ours, the last value and the baselines, on the pairs for which all have something to say."""
    lines = []
    for j, target in enumerate(run.targets):
        rows = [[target if len(run.targets) > 1 else "on the same pairs", "MAE", "RMSE", *rivals.metrics]]
        for name in ("ours", "persistence", *(r.name for r in rivals.rivals)):
            shown = {"ours": "stream-rnn", "persistence": "last value"}.get(name, name)
            values = [*rivals.errors(name, j).values(), *rivals.values(name, j).values()]
            rows.append([shown, *map(short, values)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["", *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)]
    return [*lines, ""]


def carried(run: Run) -> list[str]:
    """A line about the intervals and one about the experts, where there are any."""
    lines = []
    inside = []
    for level, s in run.coverage.summary().items():
        if s["coverage"] is not None:
            width = f" (mean width {short(s['width'])})" if len(run.targets) == 1 else ""
            inside.append(f"{percent(s['coverage'])} inside the {100 * float(level):g} % ones{width}")
    if inside:
        lines.append(f"intervals: {', '.join(inside)}")
    shares = sorted(((float(share.mean()), name) for name, share in run.experts.items()), reverse=True)
    if shares:
        lines.append("carried in the end by: " + ", ".join(f"{name} {s:.0%}" for s, name in shares if s >= 0.01))
    return lines


def _line(run: Run, target: int, step: int) -> list[str]:
    s = run.scores.summary(target, step)
    naive = s["baselines"]["persistence"]
    errors = [short(v) for v in (s["mae"], s["rmse"], naive["mae"], naive["rmse"])]
    name = run.targets[target] if step == 1 else ""
    return [name, str(step), f"{s['scored']:,}", *errors, percent(s["skill_mae"]), percent(s["skill_rmse"])]


def _columns(rows: list[list[str]], ahead: bool) -> list[str]:
    """Two lines of headings, then the rows, in columns."""
    rows = [["target", "ahead", "pairs", *["MAE", "RMSE"] * 3], *rows]
    if not ahead:
        rows = [[row[0], *row[2:]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    pairs = [a + 2 + b for a, b in zip(widths[-6::2], widths[-5::2], strict=True)]
    groups = "  ".join(map(str.rjust, ("stream-rnn", "last value", "better by"), pairs))
    return [groups.rjust(len(lines[0])), *lines]


def verdict(run: Run, words: tuple[str, str]) -> str:
    """How much better (first word) or worse (second) than the last value in MAE; many series: geometric mean."""
    score = run.scores.score()
    skill = 1 - score["mae"] if score["series"] > 1 else run.scores.summary()["skill_mae"]
    return "–" if skill is None else f"{percent(abs(skill))} {words[0] if skill >= 0 else words[1]}"


def short(value: float | None) -> str:
    """A number with four significant digits.

    >>> short(12.34567), short(0.000123456), short(123456.7), short(None)
    ('12.35', '0.0001235', '123,457', '–')
    """
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3e}"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """A share of 1 as percent.

    >>> percent(0.1234), percent(-12.0), percent(None)
    ('12.3 %', '-1200 %', '–')
    """
    if share is None:
        return "–"
    return f"{100 * share:.1f} %" if abs(share) < 1 else f"{100 * share:.0f} %"
