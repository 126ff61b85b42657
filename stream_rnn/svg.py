"""Charts as inline SVG, lines and shades over a common x: no script, font or style from elsewhere; colours are the
page's CSS variables.

A chart carries its points once more as JSON (`data-points`), for the page's hover read-out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.ticks import nice_ticks, number, time_ticks

Floats = NDArray[np.float64]

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 26  # margins, px


class Line(NamedTuple):
    """A line of a chart; NaN in `y` breaks it. `kind`, a class of the page's style: actual, ours, naive or other."""

    name: str
    y: Floats
    kind: str


class Band(NamedTuple):
    """A shade from low to high; NaN breaks it. With a name it has a place in the read-out, by its height."""

    low: Floats
    high: Floats
    kind: str = "band"
    name: str = ""


def chart(
    x: Floats,
    lines: Sequence[Line],
    *,
    times: bool,
    bands: Sequence[Band] = (),
    levels: Sequence[float] = (),
    from_zero: bool = False,
    y_span: tuple[float, float] | None = None,
    width: int = 920,
    height: int = 250,
    x_title: str = "",
) -> str:
    """Lines over a common x (epoch seconds if `times`), with axes, and behind them shades and lines across at `levels`.

    The y axis holds all of it, if `y_span` doesn't say another.
    """
    inside_w, inside_h = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    x0, x1 = (float(x[0]), float(x[-1])) if len(x) else (0.0, 1.0)
    if not x1 > x0:
        x0, x1 = x0 - 0.5, x0 + 0.5
    edges = [edge for band in bands for edge in (band.low, band.high)]
    y0, y1 = y_span or _span([*(line.y for line in lines), *edges, np.array(levels)], from_zero)

    px = _LEFT + (x - x0) / (x1 - x0) * inside_w

    def py(y: Floats) -> Floats:
        return np.asarray(_TOP + (y1 - y) / (y1 - y0) * inside_h)

    parts = []
    for tick in nice_ticks(y0, y1, max(2, height // 40)):
        at = float(py(np.array([tick]))[0])
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" text-anchor="end" x="{_LEFT - 7}" y="{at + 4:.1f}">{number(tick)}</text>'
        )
    ticks = time_ticks(x0, x1, width // 110) if times else [(t, f"{t:,.0f}") for t in nice_ticks(x0, x1, width // 110)]
    for tick, label in ticks:
        at = _LEFT + (tick - x0) / (x1 - x0) * inside_w
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{height - _BOTTOM}" y2="{height - _BOTTOM + 4}"/>'
            f'<text class="tick" text-anchor="middle" x="{at:.1f}" y="{height - 7}">{label}</text>'
        )
    if x_title:
        place = f'x="{width - _RIGHT}" y="{height - _BOTTOM - 6}"'
        parts.append(f'<text class="tick" text-anchor="end" {place}>{escape(x_title)}</text>')
    parts += [_shade(px, py(np.clip(b.low, y0, y1)), py(np.clip(b.high, y0, y1)), b.kind) for b in bands]
    for y in py(np.array(levels)):
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts += [f'<path class="line {line.kind}" d="{_path(px, py(np.clip(line.y, y0, y1)))}"/>' for line in lines]
    told = [(line.name, line.kind, line.y) for line in lines] + [
        (b.name, b.kind, b.high - b.low) for b in reversed(bands) if b.name
    ]
    points = {
        "x": [round(float(v), 1) for v in px],
        "at": [int(v) if math.isfinite(v) else None for v in x],
        "times": times,
        "lines": [{"name": name, "kind": kind, "y": [_short(v) for v in y]} for name, kind, y in told],
    }
    parts.append(f'<line class="cursor" y1="{_TOP}" y2="{height - _BOTTOM}" x1="0" x2="0"/>')
    data = escape(json.dumps(points))
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" data-points="{data}">{"".join(parts)}</svg>'


def spark(actual: Floats, said: Floats, at: int) -> str:
    """A small picture of a few values and their forecasts, a ring around number `at`."""
    width, height = 150, 34
    px = 3 + np.arange(len(actual)) * (width - 6) / max(len(actual) - 1, 1)
    low, high = _span([actual, said], from_zero=False)

    def py(y: Floats) -> Floats:
        return np.asarray(2 + (high - y) / (high - low) * (height - 4))

    each = (("ours", said), ("actual", actual))
    lines = "".join(f'<path class="line {kind}" d="{_path(px, py(y))}"/>' for kind, y in each)
    ring = f'<circle cx="{px[at]:.1f}" cy="{float(py(actual)[at]):.1f}" r="3"/>'
    return f'<svg class="spark" viewBox="0 0 {width} {height}" role="img">{lines}{ring}</svg>'


def legend(lines: Sequence[tuple[str, str]]) -> str:
    """Names beside their lines' looks, as HTML; (name, kind) each."""
    items = (
        f'<span><svg width="26" height="10"><path class="{_key_of(kind)}" d="M1 5H25"/></svg>{escape(name)}</span>'
        for name, kind in lines
    )
    return f'<div class="legend">{"".join(items)}</div>'


def _key_of(kind: str) -> str:
    """How a legend shows a kind: a shade as a broad stroke of its colour."""
    return f"{kind}-key" if kind.startswith(("band", "area")) else f"line {kind}"


def _span(ys: list[Floats], from_zero: bool) -> tuple[float, float]:
    """The y axis' ends, a little beyond the values."""
    known = np.concatenate(ys)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if from_zero and low == 0.0 else low - pad), high + pad


def _path(px: Floats, py: Floats) -> str:
    """A path through the points, broken where one is missing; a lone point becomes a dot."""
    there = np.isfinite(py)
    out = []
    for i in np.flatnonzero(there):
        new = i == 0 or not there[i - 1]
        lone = new and (i + 1 == len(py) or not there[i + 1])
        out.append(f"{'M' if new else 'L'}{px[i]:.1f} {py[i]:.1f}{'h.1' if lone else ''}")
    return "".join(out)


def _shade(px: Floats, low: Floats, high: Floats, kind: str) -> str:
    there = np.isfinite(low) & np.isfinite(high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(int)))
    shapes = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        top = [f"{px[i]:.1f} {high[i]:.1f}" for i in range(start, stop)]
        bottom = [f"{px[i]:.1f} {low[i]:.1f}" for i in range(stop - 1, start - 1, -1)]
        shapes.append("M" + "L".join(top + bottom) + "Z")
    return f'<path class="{kind}" d="{"".join(shapes)}"/>'


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
