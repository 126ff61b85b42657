"""The report's tables: scores, keys, worst misses."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from stream_rnn import svg
from stream_rnn.metrics import MIN_PAIRS
from stream_rnn.report_page import Section
from stream_rnn.rows import key_text
from stream_rnn.summary import Run, percent, short
from stream_rnn.ticks import clock
from stream_rnn.trace import Album, Miss

_MOST = 20  # rows from either end of the keys


class Html(str):
    """A cell that is HTML already."""


def scores(run: Run) -> Section | None:
    """The targets beside the last value."""
    score = run.scores.score()
    if len(run.targets) == 1 and score["series"] < 2:
        return None
    rows = []
    for j, name in enumerate(run.targets):
        s, g = run.scores.summary(j), run.scores.score(j)
        naive = s["baselines"]["persistence"]
        mae = [short(s["mae"]), short(naive["mae"]), percent(s["skill_mae"])]
        rmse = [short(s["rmse"]), short(naive["rmse"]), percent(s["skill_rmse"])]
        inside = [percent(c["coverage"]) for c in run.coverage.summary(j).values()]
        rows.append([name, f"{s['scored']:,}", *mae, *rmse, f"{g['better']} of {g['series']}", *inside])
    head = ["target", "pairs", "MAE", "last value's", "better by", "RMSE", "last value's", "better by", "series better"]
    head += [f"inside {100 * level:g} %" for level in run.coverage.levels]
    lead = "Each target over all keys, beside the last value of the key."
    if score["series"] > 1:
        lead += f" Error / last value's error, geometric mean of {score['series']:,} series: "
        lead += f"<b>MAE {score['mae']:.3f}, RMSE {score['rmse']:.3f}</b>; MAE below 1 in {score['better']:,} of them."
    return Section("Scores", lead, table(head, rows))


def keys(run: Run) -> Section | None:
    """Every key's error beside its last value's; of many keys the best and the worst, and all in one curve."""
    if run.keys < 2:
        return None
    names = list(run.series)
    rows: list[tuple[float, list[str]]] = []
    for j, target in enumerate(run.targets):
        pairs, mae, naive = run.scores.by_series(j)
        for slot, key in enumerate(names):
            ratio = mae[slot] / naive[slot] if pairs[slot] and naive[slot] else np.nan
            inside = [percent(c["coverage"]) for c in run.coverage.summary(j, slot).values()][-1:]
            few = "" if pairs[slot] >= MIN_PAIRS else " (few)"
            numbers = [f"{pairs[slot]:,.0f}{few}", short(mae[slot]), short(naive[slot]), f"{ratio:.3f}"]
            numbers = ["–" if n == "nan" else n for n in numbers]
            rows.append((ratio, [key_text(key), *([target] if len(run.targets) > 1 else []), *numbers, *inside]))
    order = sorted(rows, key=lambda r: -np.inf if np.isnan(r[0]) else r[0], reverse=True)
    ratios = np.array([r[0] for r in order if not np.isnan(r[0])])[::-1]
    head = ["key", *(["target"] if len(run.targets) > 1 else []), "pairs", "MAE", "last value's", "ratio"]
    head += [f"inside {100 * level:g} %" for level in run.coverage.levels[-1:]]
    lead = "MAE of each key and the last value's on the same events; the worst ratio first."
    body = table(head, [row for _, row in order])
    if len(order) > 2 * _MOST:
        lead = f"MAE of each key and the last value's on the same events: the {_MOST} worst ratios, the {_MOST} best, "
        lead += f"and all {len(ratios):,} in a curve. Below 1 in {int((ratios < 1).sum()):,} of them."
        last = [row for _, row in order[-_MOST:]]
        body = table(head, [*(row for _, row in order[:_MOST]), ["…"] * len(head), *last])
        rank = np.arange(1.0, len(ratios) + 1)
        top = min(float(ratios.max()), 2.0) * 1.05 if len(ratios) else 1.0
        body = svg.chart(rank, [svg.Line("MAE / last value's", ratios, "ours")], times=False, levels=(1.0,), height=170,
                         y_span=(0.0, max(top, 1.1)), x_title="keys, best first") + body  # fmt: skip
    return Section("Keys", lead, body)


def misses(target: str, run: Run, album: Album) -> Section | None:
    """The largest errors, each with the events around it."""
    worst = album.misses[target].largest()
    mean = run.scores.summary(album.targets.index(target), 1)["mae"]
    if not worst or not mean:
        return None
    columns: dict[str, list[str]] = {
        "event": [f"{m.event + 1:,}" for m in worst],
        "time (UTC)": [clock(m.time) for m in worst],
        "key": [key_text(m.key) for m in worst],
        "actual": [short(m.actual) for m in worst],
        "forecast": [short(m.said) for m in worst],
        "miss": [short(m.said - m.actual) for m in worst],
        "in mean misses": [f"{m.size / mean:.1f}" for m in worst],
        "before and after": [_around(m) for m in worst],
    }
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    body = table(list(columns), list(zip(*columns.values(), strict=True)))
    lead = "The largest errors one step ahead, over the whole stream, each among the events of its key just before and "
    lead += "after: a spike, a jump that stayed, or a turn that came early or late?"
    return Section(f"{target}: worst misses", lead, body)


def _around(miss: Miss) -> Html:
    if not len(miss.before):
        return Html()
    actual, said = np.concatenate([miss.before, miss.after]).T
    return Html(svg.spark(actual, said, len(miss.before) - 1))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As HTML; text is escaped, `Html` is not."""
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{c if isinstance(c, Html) else escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
