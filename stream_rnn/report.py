"""`eval --report`: one HTML file that needs nothing else, for light and dark screens and for paper.

A page is a list of sections, each a heading, a sentence that says how to read it, and its pictures; what
later models tell about themselves goes in as further sections.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_rnn import svg
from stream_rnn.report_page import SCRIPT, STYLE
from stream_rnn.rows import key_text
from stream_rnn.summary import Run, percent, short, verdict
from stream_rnn.ticks import clock
from stream_rnn.trace import Album, Floats, Series, axis

_COURSE_BINS = 120  # of the error curve: few enough to see a trend
_CURVE_BINS = 460


class Section(NamedTuple):
    """A part of the page."""

    title: str
    lead: str  # how to read it
    body: str  # HTML


def write(path: Path, run: Run, result: dict[str, Any], album: Album) -> None:
    """Write the page."""
    path.write_text(page(run, result, album), encoding="utf-8")


def page(run: Run, result: dict[str, Any], album: Album) -> str:
    """The page's HTML."""
    sections = [
        _scores(run),
        *([_ahead(run)] if run.horizon > 1 else []),
        *(_newest(s) for s in album.series),
        *(_errors(t, album) for t in album.targets),
        *(_course(s) for s in album.series),
        *(_misses(t, run, album) for t in album.targets),
        _settings(result),
    ]
    body = "".join(
        f"<section><h2>{escape(s.title)}</h2><p>{s.lead}</p>{s.body}</section>" for s in sections if s is not None
    )
    first, last = (clock(t) for t in run.span)
    span = f"{first} to {last} UTC · " if first else ""
    stopped = " · stopped by Ctrl-C" if run.stopped else ""
    name = escape(run.name)
    sub = (
        f"{span}{run.keys:,} key{'s' * (run.keys != 1)} · forecast of {escape(', '.join(run.targets))}, "
        f"each event before it was learnt{stopped}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} – stream-rnn</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><main><h1>{name}</h1><p class="sub">{sub}</p>
{_cards(run, result)}
{body}
</main><div id="tip"></div><script>{SCRIPT}</script></body></html>
"""


def _cards(run: Run, result: dict[str, Any]) -> str:
    rate = result["events_per_s"]
    what = "mean absolute error, than the last value" + (", geometric mean" if result["score"]["series"] > 1 else "")
    cards = [(what, verdict(run, ("better", "worse")))]
    if len(run.targets) == 1:
        cards += [("mean absolute error", short(result["mae"])), ("root mean square error", short(result["rmse"]))]
    cards += [
        ("events", f"{run.events:,}"),
        ("events a second", "–" if rate is None else f"{rate:,.0f}"),
        ("updates", f"{run.updates:,}"),
        ("skipped", f"{run.skipped:,}"),
    ]
    return '<div class="cards">' + "".join(f"<div><b>{v}</b><span>{k}</span></div>" for k, v in cards) + "</div>"


def _scores(run: Run) -> Section | None:
    score = run.scores.score()
    if len(run.targets) == 1 and score["series"] < 2:
        return None
    rows = []
    for j, name in enumerate(run.targets):
        s, g = run.scores.summary(j), run.scores.score(j)
        naive = s["baselines"]["persistence"]
        mae = [short(s["mae"]), short(naive["mae"]), percent(s["skill_mae"])]
        rmse = [short(s["rmse"]), short(naive["rmse"]), percent(s["skill_rmse"])]
        rows.append([name, f"{s['scored']:,}", *mae, *rmse, f"{g['better']} of {g['series']}"])
    head = ["target", "pairs", "MAE", "last value's", "better by", "RMSE", "last value's", "better by", "series better"]
    lead = "Each target over all keys, beside the last value of the key."
    if score["series"] > 1:
        lead += f" Error / last value's error, geometric mean of {score['series']:,} series: "
        lead += f"<b>MAE {score['mae']:.3f}, RMSE {score['rmse']:.3f}</b>; MAE below 1 in {score['better']:,} of them."
    return Section("Scores", lead, _table(head, rows))


def _called(series: Series) -> str:
    key = key_text(series.key)
    return f"{series.target} · {key}" if key else series.target


def _newest(series: Series) -> Section | None:
    tail = series.trace.tail()
    if len(tail["event"]) < 2:
        return None
    lines = [
        svg.Line("last value", tail["last"], "naive"),
        svg.Line("actual", tail["actual"], "actual"),
        svg.Line("forecast", tail["said"], "ours"),
    ]
    legend = svg.legend([("actual", "actual"), ("forecast, one step ahead", "ours"), ("last value", "naive")])
    title = f"{_called(series)}: the newest {len(tail['event']):,} events"
    return Section(title, "Every event with the forecast that was made before it.", legend + _chart(tail, lines))


def _course(series: Series) -> Section | None:
    if series.trace.count <= series.trace.tail_rows:
        return None
    bins = series.trace.bins(_CURVE_BINS)
    lines = [svg.Line("actual", bins["actual"], "actual"), svg.Line("forecast", bins["said"], "ours")]
    legend = svg.legend([("actual, mean", "actual"), ("forecast, mean", "ours"), ("actual, all of it", "band-key")])
    lead = f"Means of {series.trace.count / len(bins['event']):,.0f} events each; the shade is from lowest to highest."
    drawn = _chart(bins, lines, band=(bins["low"], bins["high"]))
    return Section(f"{_called(series)}: the whole stream", lead, legend + drawn)


def _errors(target: str, album: Album) -> Section | None:
    bins = album.whole[target].bins(_COURSE_BINS)
    parts = len(bins["event"])
    if parts < 2:
        return None
    lines = [svg.Line("last value", bins["naive"], "naive"), svg.Line("stream-rnn", bins["error"], "ours")]
    legend = svg.legend([("stream-rnn", "ours"), ("last value", "naive")])
    both = np.isfinite(bins["error"]) & np.isfinite(bins["naive"])
    below = int((bins["error"][both] < bins["naive"][both]).sum())
    lead = f"Mean absolute error of each {album.whole[target].count / parts:,.0f} events, all keys together: "
    lead += f"below the last value's in {below} of {int(both.sum())} such parts."
    return Section(f"{target}: error over time", lead, legend + _chart(bins, lines, from_zero=True))


def _chart(points: dict[str, Floats], lines: list[svg.Line], **look: Any) -> str:
    x, times = axis(points)
    return svg.chart(x, lines, times=times, x_title="" if times else "event", **look)


def _ahead(run: Run) -> Section:
    steps = np.arange(1.0, run.horizon + 1)
    drawn = []
    for j, name in enumerate(run.targets):
        scores = [run.scores.summary(j, int(i)) for i in steps]
        ours = np.array([s["mae"] for s in scores], dtype=float)
        naive = np.array([s["baselines"]["persistence"]["mae"] for s in scores], dtype=float)
        lines = [svg.Line("last value", naive, "naive"), svg.Line("stream-rnn", ours, "ours")]
        title = f"<h3>{escape(name)}</h3>" if len(run.targets) > 1 else ""
        drawn.append(title + svg.chart(steps, lines, times=False, from_zero=True, height=200, x_title="events ahead"))
    legend = svg.legend([("stream-rnn", "ours"), ("last value at that distance", "naive")])
    return Section(
        "Error by how far ahead",
        "Mean absolute error of the forecasts made so many events before.",
        legend + "".join(drawn),
    )


def _misses(target: str, run: Run, album: Album) -> Section | None:
    misses = album.misses[target].largest()
    mean = run.scores.summary(album.targets.index(target), 1)["mae"]
    if not misses or not mean:
        return None
    columns = {
        "event": [f"{m.event + 1:,}" for m in misses],
        "time (UTC)": [clock(m.time) for m in misses],
        "key": [key_text(m.key) for m in misses],
        "actual": [short(m.actual) for m in misses],
        "forecast": [short(m.said) for m in misses],
        "miss": [short(m.said - m.actual) for m in misses],
        "in mean misses": [f"{m.size / mean:.1f}" for m in misses],
    }
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    table = _table(list(columns), list(zip(*columns.values(), strict=True)))
    return Section(f"{target}: worst misses", "The largest errors one step ahead, over the whole stream.", table)


def _settings(result: dict[str, Any]) -> Section:
    text = json.dumps(result["config"], indent=2, ensure_ascii=False, default=str)
    return Section("Settings", "What the model was made with.", f"<pre>{escape(text)}</pre>")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
