"""The report's pictures: forecasts with their intervals, and what was good and bad over time."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from stream_rnn import svg
from stream_rnn.report_page import Section
from stream_rnn.rows import key_text
from stream_rnn.summary import Run, percent, short
from stream_rnn.trace import Album, Floats, Series, axis, rolling_events, spread_of, typical_span

_CURVE_BINS = 460


def newest(series: Series, album: Album) -> Section | None:
    """The newest events of a series, each with the forecast and the intervals that were told before it."""
    tail = series.trace.tail()
    if len(tail["event"]) < 2:
        return None
    lines = [
        svg.Line("last value", tail["last"], "naive"),
        svg.Line("actual", tail["actual"], "actual"),
        svg.Line("forecast", tail["said"], "ours"),
    ]
    bands, legend = [], [("actual", "actual"), ("forecast, one step ahead", "ours"), ("last value", "naive")]
    for i, level in enumerate(reversed(album.levels)):  # the widest behind the others
        low, high = tail[f"low {level:g}"], tail[f"high {level:g}"]
        if np.isfinite(low).any():
            kind = "area-inner" if i else "area-interval"
            bands.append(svg.Band(low, high, kind))
            legend.append((f"{100 * level:g} % interval", kind))
    span = spread_of([line.y for line in lines], [edge for b in bands for edge in (b.low, b.high)])
    title = f"{_called(series)}: the newest {len(tail['event']):,} events"
    lead = "Every event with the forecast that was made before it" + (", and its intervals." if bands else ".")
    return Section(title, lead, svg.legend(legend) + _chart(tail, lines, bands=bands, y_span=span))


def course(series: Series) -> Section | None:
    """All of a long series, as means."""
    if series.trace.count <= series.trace.tail_rows:
        return None
    bins = series.trace.bins(_CURVE_BINS)
    lines = [svg.Line("actual", bins["actual"], "actual"), svg.Line("forecast", bins["said"], "ours")]
    legend = svg.legend([("actual, mean", "actual"), ("forecast, mean", "ours"), ("actual, all of it", "band")])
    lead = f"Means of {series.trace.count / len(bins['event']):,.0f} events each; the shade is from lowest to highest."
    span = typical_span([bins["low"], bins["high"]])
    lead += _cut(span, [bins["low"], bins["high"]])
    drawn = _chart(bins, lines, bands=[svg.Band(bins["low"], bins["high"])], y_span=span)
    return Section(f"{_called(series)}: the whole stream", lead, legend + drawn)


def errors(target: str, album: Album) -> Section | None:
    """Running error beside the last value's."""
    whole = album.whole[target]
    window = rolling_events(whole.count)
    points = whole.rolling(window, window // 10)
    both = np.isfinite(points["error"]) & np.isfinite(points["naive"])
    if both.sum() < 2:
        return None
    lines = [svg.Line("last value", points["naive"], "naive"), svg.Line("stream-rnn", points["error"], "ours")]
    legend = svg.legend([("stream-rnn", "ours"), ("last value", "naive")])
    below = float((points["error"][both] < points["naive"][both]).mean())
    lead = f"Running mean absolute error of the newest {window:,} events, all keys together: below the last value's "
    moved = points["naive"][both].any()
    lead += f"in {below:.0%} of the stream." if moved else "can be nowhere, for nothing moved."
    values = [line.y for line in lines]
    span = typical_span(values, from_zero=True)
    lead += _cut(span, values)
    return Section(f"{target}: error over time", lead, legend + _chart(points, lines, from_zero=True, y_span=span))


def coverage(target: str, run: Run, album: Album) -> Section | None:
    """Running share of values inside their intervals, per level."""
    whole = album.whole[target]
    window = rolling_events(whole.count, 100)
    points = whole.rolling(window, window // 5)
    told = run.coverage.summary(album.targets.index(target))
    lines, legend, facts = [], [], []
    for i, level in enumerate(reversed(album.levels)):
        inside, s = points[f"inside {level:g}"], told[f"{level:g}"]
        if np.isfinite(inside).sum() < 2 or s["coverage"] is None:
            continue
        name = f"{100 * level:g} % interval"
        lines.append(svg.Line(name, inside, f"level{i}"))
        legend.append((name, f"level{i}"))
        facts.append(f"<b>{percent(s['coverage'])}</b> inside the {100 * level:g} % intervals, mean width "
                     f"{short(s['width'])}, Winkler score {short(s['winkler'])}")  # fmt: skip
    if not lines:
        return None
    lead = f"Running share of the newest {window:,} values inside the intervals told before them; dashed: the share "
    lead += f"that was promised. Over the whole stream {'; '.join(facts)}."
    drawn = _chart(points, lines, levels=album.levels, y_span=(0.0, 1.02))
    return Section(f"{target}: interval coverage over time", lead, svg.legend(legend) + drawn)


def experts(target: str, album: Album) -> Section | None:
    """Who carries the forecasts, stacked."""
    if not album.experts:
        return None
    bins = album.whole[target].bins(_CURVE_BINS)
    if len(bins["event"]) < 2:
        return None
    top = np.zeros(len(bins["event"]))
    bands = []
    for i, name in enumerate(album.experts):
        top, below = top + bins[name], top
        bands.append(svg.Band(below, top, f"area{i}", name))
    legend = svg.legend([(b.name, b.kind) for b in reversed(bands)])
    lead = "Shares in the forecast of the next value, mean over the keys: each expert earns them by its errors, in "
    lead += "every series for itself. Where the last value carries it, nothing that the model knows of can be forecast."
    return Section(f"{target}: who carries the forecast", lead, legend + _chart(bins, [], bands=bands, y_span=(0, 1)))


def ahead(run: Run) -> Section | None:
    """Error by how many events ahead."""
    if run.horizon == 1:
        return None
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
    lead = "Mean absolute error of the forecasts made so many events before."
    return Section("Error by how far ahead", lead, legend + "".join(drawn) + _covered_ahead(run, steps))


def _covered_ahead(run: Run, steps: Floats) -> str:
    """A chart of the share of all targets' values inside their intervals, by how far ahead those were told."""
    if not run.ahead.steps:
        return ""
    told = [coverage.summary() for coverage in (run.coverage, *run.ahead.steps)]
    lines, names = [], []
    for i, level in enumerate(reversed(run.coverage.levels)):
        inside = np.array([t[f"{level:g}"]["coverage"] for t in told], dtype=float)
        lines.append(svg.Line(f"{100 * level:g} % interval", inside, f"level{i}"))
        names.append((lines[-1].name, lines[-1].kind))
    lead = "<p>Share of the values inside the intervals told so many events before; dashed: the share promised.</p>"
    look: dict[str, Any] = {"times": False, "levels": run.coverage.levels, "y_span": (0.0, 1.02), "height": 170}
    return lead + svg.legend(names) + svg.chart(steps, lines, x_title="events ahead", **look)


def reach(run: Run) -> Section | None:
    """How far back the gradient reaches."""
    if run.reach is None:
        return None
    title, lead = "How far back the gradient reaches", f"<b>{escape(run.reach.said())}.</b>"
    norms = run.reach.norms
    if norms is None:
        return Section(title, lead, "")
    lead += " Norm of the loss's gradient with respect to the network's state, by how many events before the newest; "
    lead += f"mean of {run.reach.result()['updates_sampled']} updates, relative to the largest."
    relative = norms / norms.max()
    lags = np.arange(float(len(norms)))
    shade = svg.Band(np.zeros(len(lags)), relative, "area-interval")
    drawn = svg.chart(lags, [svg.Line("gradient", relative, "ours")], bands=[shade], times=False, from_zero=True,
                      height=180, x_title="events back")  # fmt: skip
    return Section(title, lead, drawn)


def _cut(span: tuple[float, float] | None, values: list[Floats]) -> str:
    """What a reader must know about an axis that doesn't hold everything."""
    if span is None:
        return ""
    known = np.concatenate(values)
    return f" The axis is cut: values go from {short(float(np.nanmin(known)))} to {short(float(np.nanmax(known)))}."


def _called(series: Series) -> str:
    key = key_text(series.key)
    return f"{series.target} · {key}" if key else series.target


def _chart(points: dict[str, Floats], lines: list[svg.Line], **look: Any) -> str:
    x, times = axis(points)
    return svg.chart(x, lines, times=times, x_title="" if times else "event", **look)
