"""`eval --report`: one HTML file that needs nothing else, for light and dark screens and for paper.

A page is a list of sections, each a heading, a sentence that says how to read it, and its pictures or its table;
what later models tell about themselves goes in as further sections. Where there are several targets, each has its
sections in a part of the page that opens and closes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from stream_rnn import report_charts as charts
from stream_rnn import report_tables as tables
from stream_rnn.report_page import SCRIPT, STYLE, Section
from stream_rnn.summary import Run, percent, short, verdict
from stream_rnn.ticks import clock
from stream_rnn.trace import Album

_OPEN = 2  # targets whose part of the page is open at first


def write(path: Path, run: Run, result: dict[str, Any], album: Album) -> None:
    """Write the page."""
    path.write_text(page(run, result, album), encoding="utf-8")


def page(run: Run, result: dict[str, Any], album: Album) -> str:
    """The page's HTML."""
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
{_body(run, result, album)}
</main><div id="tip"></div><script>{SCRIPT}</script></body></html>
"""


def _body(run: Run, result: dict[str, Any], album: Album) -> str:
    parts = [_drawn([tables.scores(run), charts.ahead(run)])]
    for j, target in enumerate(run.targets):
        inner = _drawn(_of_target(target, run, album))
        if len(run.targets) > 1:
            skill = run.scores.summary(j)["skill_mae"]
            against = "" if skill is None else f"{percent(abs(skill))} {'better' if skill >= 0 else 'worse'}"
            head = f"<summary>{escape(target)} <span>{against}</span></summary>"
            inner = f"<details{' open' * (j < _OPEN)}>{head}{inner}</details>"
        parts.append(inner)
    parts.append(_drawn([tables.keys(run), charts.reach(run), _settings(result)]))
    return "".join(parts)


def _of_target(target: str, run: Run, album: Album) -> list[Section | None]:
    mine = [s for s in album.series if s.target == target]
    return [
        *(charts.newest(s, album) for s in mine),
        charts.errors(target, album),
        charts.coverage(target, run, album),
        charts.experts(target, album),
        *(charts.course(s) for s in mine),
        tables.misses(target, run, album),
    ]


def _drawn(sections: Iterable[Section | None]) -> str:
    return "".join(
        f"<section><h2>{escape(s.title)}</h2><p>{s.lead}</p>{s.body}</section>" for s in sections if s is not None
    )


def _cards(run: Run, result: dict[str, Any]) -> str:
    rate = result["events_per_s"]
    what = "mean absolute error, than the last value" + (", geometric mean" if result["score"]["series"] > 1 else "")
    cards = [(what, verdict(run, ("better", "worse")))]
    if len(run.targets) == 1:
        cards += [("mean absolute error", short(result["mae"])), ("root mean square error", short(result["rmse"]))]
    for level, s in list(result.get("intervals", {}).items())[-1:]:
        if s["coverage"] is not None:
            cards.append((f"inside the {100 * float(level):g} % intervals", percent(s["coverage"])))
    cards += [
        ("events", f"{run.events:,}"),
        ("events a second", "–" if rate is None else f"{rate:,.0f}"),
        ("updates", f"{run.updates:,}"),
        ("skipped", f"{run.skipped:,}"),
    ]
    return '<div class="cards">' + "".join(f"<div><b>{v}</b><span>{k}</span></div>" for k, v in cards) + "</div>"


def _settings(result: dict[str, Any]) -> Section:
    text = json.dumps(result["config"], indent=2, ensure_ascii=False, default=str)
    return Section("Settings", "What the model was made with.", f"<pre>{escape(text)}</pre>")
