"""`eval --report` of labels: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from stream_rnn import evallabels
from stream_rnn.report_page import STYLE, Section
from stream_rnn.report_tables import table


def write(path: Path, done: evallabels.Done, told: dict[str, Any]) -> None:
    """Write the page."""
    path.write_text(page(done, told), encoding="utf-8")


def page(done: evallabels.Done, told: dict[str, Any]) -> str:
    """The page's HTML."""
    name = escape(done.name)
    cards = "".join(f"<div><b>{v}</b><span>{k}</span></div>" for k, v in evallabels.cards(done, told))
    late = f" · {told['late']:,} labels came later" if told["late"] else ""
    sub = f"{told['keys']:,} key{'s' * (told['keys'] != 1)} · {escape(done.label)}, each event before its label{late}"
    sections = "".join(f"<section><h2>{escape(s.title)}</h2><p>{s.lead}</p>{s.body}</section>"
                       for s in _sections(done, told))  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} – stream-rnn</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>
<body><main><h1>{name}</h1><p class="sub">{sub}</p><div class="cards">{cards}</div>
{sections}</main></body></html>
"""


def _sections(done: evallabels.Done, told: dict[str, Any]) -> list[Section]:
    head, *lines = evallabels.scores_table(done, told)
    lead = "Over all labels, beside what the labels known then say by themselves."
    out = [Section("Scores", lead, table(head, lines))]
    if done.task == "classify":
        head, *lines = evallabels.reliability_table(told)
        lead = "Of predictions with such a probability, the share that was right: the last two columns should agree."
        out.append(Section("Reliability", lead, table(head, lines)))
        head, *lines = evallabels.classes_table(told)
        out.append(Section("Classes", "How many of its labels were predicted, and how often that was right.",
                           table(head, lines)))  # fmt: skip
    elif told["intervals"]:
        shares = {f"{100 * float(level):g} %": s["coverage"] for level, s in told["intervals"].items()}
        lines = [[level, f"{100 * share:.1f} %"] for level, share in shares.items()]
        out.append(Section("Intervals", "The share of the labels inside.", table(["level", "inside"], lines)))
    settings = escape(json.dumps(told["config"], indent=2, ensure_ascii=False, default=str))
    return [*out, Section("Settings", "What the model was made with.", f"<pre>{settings}</pre>")]
