"""PNG pictures by matplotlib: one look for all of them, and the sheet of `stream-rnn eval --plot`.

Colours are Okabe and Ito's, told apart by colour-blind readers; lines differ in weight and dashes as well.
Drawn without a display (the Agg canvas, no pyplot).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.rows import key_text
from stream_rnn.summary import Run, short, verdict
from stream_rnn.trace import Album, Series, axis, rolling_events, spread_of, typical_span

Floats = NDArray[np.float64]

ACTUAL: dict[str, Any] = {"color": "#333333", "lw": 1.3, "zorder": 3}
OURS: dict[str, Any] = {"color": "#0072B2", "lw": 1.4, "zorder": 4}
NAIVE: dict[str, Any] = {"color": "#E69F00", "lw": 1.1, "ls": (0, (4, 1.5)), "zorder": 2}
OTHER: dict[str, Any] = {"color": "#8A8A8A", "lw": 1.1, "ls": (0, (1, 1)), "zorder": 1}
_NEWEST = 150  # events that a panel has room for
EXPERTS = ("#b8bec6", "#f0c35e", "#e69f00", "#8fd0b8", "#009e73", "#0072b2", "#56b4e9", "#cc79a7")
LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "loc": "upper right",
    "ncols": 3,
    "bbox_to_anchor": (1, 1.17),
    "borderaxespad": 0,
}


def require() -> None:
    """Refuse early and clearly where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("a PNG needs matplotlib; pip install 'stream-rnn[plot]'") from None


def sheet(title: str, panels: int, heights: Sequence[float] | None = None) -> tuple[Any, list[Any]]:
    """A figure of panels one above the other."""
    from matplotlib.figure import Figure

    heights = heights or [2.4] * panels
    figure: Any = Figure(figsize=(9.6, sum(heights) + 0.9), dpi=110, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(hspace=0.06, h_pad=0.09)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12.5, fontweight="bold", color="#222222")
    axes = figure.subplots(panels, 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#999999")
        ax.tick_params(colors="#555555", labelsize=8.5)
        ax.grid(axis="y", color="#e6e6e6", lw=0.7)
        ax.set_axisbelow(True)
    return figure, list(axes)


def name(axes: Any, title: str, y_label: str) -> None:
    """Title and y label of a panel."""
    axes.set_title(title, loc="left", fontsize=10, color="#222222")
    axes.set_ylabel(y_label, fontsize=8.5, color="#555555")


def dates(time: Floats) -> list[datetime]:
    """Epoch seconds as what matplotlib's date axis takes."""
    return [datetime.fromtimestamp(t, UTC).replace(tzinfo=None) for t in time]


def time_axis(axes: Any) -> None:
    """Short date labels that say the year once."""
    from matplotlib import dates as matplotlib_dates

    d: Any = matplotlib_dates
    locator = d.AutoDateLocator(minticks=3, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(d.ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8.5)
    axes.margins(x=0.01)


def save(figure: Any, path: Path) -> None:
    """Write the PNG, in 256 colours: a third of the bytes, and no eye sees it. The folder must exist."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # comes with matplotlib

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    whole = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    whole.quantize(256, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)


def evaluation(path: Path, run: Run, album: Album) -> None:
    """`eval --plot`: the newest forecasts with their intervals, the whole stream, and over time the error against
    naive, who carries the forecast and what the intervals cover. The report has all targets and keys."""
    first = album.whole[album.targets[0]]
    panels: list[tuple[float, Callable[[Any], None]]] = []
    for i, series in enumerate(album.series[:3]):
        panels.append((2.6, partial(_newest, series=series, album=album, legend=i == 0)))
    if album.series and album.series[0].trace.count > album.series[0].trace.tail_rows:
        panels.append((2.0, partial(_whole, series=album.series[0])))
    panels += [(2.0, partial(_error, target=target, run=run, album=album)) for target in album.targets[:3]]
    if album.experts and first.count > 1:
        panels.append((2.0, partial(_experts, album=album)))
    if np.isfinite(run.coverage.sums).any() and run.coverage.sums[:, 0].sum() > 1:
        panels.append((1.6, partial(_coverage, album=album)))
    title = f"{run.name}   MAE {verdict(run, ('below', 'above'))} the last value's"
    figure, axes = sheet(title, len(panels), [height for height, _ in panels])
    for ax, (_, draw) in zip(axes, panels, strict=True):
        draw(ax)
    save(figure, path)


def _newest(axes: Any, series: Series, album: Album, legend: bool) -> None:
    tail = series.trace.tail(_NEWEST)
    x = _x(axes, tail)
    edges = []
    for i, level in enumerate(reversed(album.levels)):
        low, high = tail[f"low {level:g}"], tail[f"high {level:g}"]
        edges += [low, high]
        if np.isfinite(low).any():
            label = f"{100 * level:g} % interval"
            axes.fill_between(x, low, high, color=OURS["color"], alpha=0.12 + 0.1 * (i > 0), lw=0, label=label)
    axes.plot(x, tail["actual"], **ACTUAL, label="actual")
    axes.plot(x, tail["last"], **NAIVE, label="last value")
    axes.plot(x, tail["said"], **OURS, label="forecast")
    name(axes, f"The newest {len(tail['event']):,} events{_key(series)}", series.target)
    if (span := spread_of([tail["actual"], tail["said"], tail["last"]], edges)) is not None:
        axes.set_ylim(*span)
    if legend:
        axes.legend(**LEGEND | {"ncols": 5})


def _whole(axes: Any, series: Series) -> None:
    bins = series.trace.bins(460)
    x = _x(axes, bins)
    axes.fill_between(
        x, bins["low"], bins["high"], color="#333333", alpha=0.15, lw=0, label="actual, lowest to highest"
    )
    axes.plot(x, bins["actual"], **ACTUAL, label="actual, mean")
    axes.plot(x, bins["said"], **OURS, label="forecast, mean")
    if (span := typical_span([bins["low"], bins["high"]])) is not None:
        axes.set_ylim(*span)
    name(axes, f"The whole stream, means of {series.trace.count / len(x):,.0f} events{_key(series)}", series.target)
    axes.legend(**LEGEND)


def _error(axes: Any, target: str, run: Run, album: Album) -> None:
    whole = album.whole[target]
    window = rolling_events(whole.count)
    points = whole.rolling(window, window // 10)
    x = _x(axes, points)
    axes.plot(x, points["naive"], **NAIVE, label="last value")
    axes.plot(x, points["error"], **OURS, label="stream-rnn")
    scores = run.scores.summary(album.targets.index(target), 1)
    mean = f"{short(scores['mae'])}, last value {short(scores['baselines']['persistence']['mae'])}"
    name(axes, f"Error one step ahead, mean of the newest {window:,} events (overall {mean})", f"MAE of {target}")
    span = typical_span([points["naive"], points["error"]], from_zero=True)
    axes.set_ylim(0, None if span is None else span[1])
    axes.legend(**LEGEND)


def _experts(axes: Any, album: Album) -> None:
    target = album.targets[0]
    bins = album.whole[target].bins(460)
    x = _x(axes, bins)
    shares = [np.nan_to_num(bins[expert]) for expert in album.experts]
    axes.stackplot(x, shares, colors=EXPERTS[: len(shares)], labels=album.experts, lw=0)
    which = f" of {target}" if len(album.targets) > 1 else ""
    name(axes, f"Who carries the forecast{which}, shares", "")
    axes.set_ylim(0, 1)
    axes.legend(**LEGEND | {"ncols": 4, "bbox_to_anchor": (1, 1.3), "fontsize": 8})


def _coverage(axes: Any, album: Album) -> None:
    target = album.targets[0]
    whole = album.whole[target]
    window = rolling_events(whole.count, 100)
    points = whole.rolling(window, window // 5)
    x = _x(axes, points)
    for style, level in zip((OURS, NAIVE | {"ls": "-"}, ACTUAL, OTHER), reversed(album.levels), strict=False):
        axes.axhline(level, color="#999999", lw=0.9, ls=(0, (3, 3)))
        axes.plot(x, points[f"inside {level:g}"], **style, label=f"{100 * level:g} % interval")
    which = f" of {target}" if len(album.targets) > 1 else ""
    name(axes, f"Inside their interval{which}, of the newest {window:,} values", "share")
    axes.set_ylim(0, 1.03)
    axes.legend(**LEGEND)


def _key(series: Series) -> str:
    key = key_text(series.key)
    return f" of {key}" if key else ""


def _x(axes: Any, points: dict[str, Floats]) -> Any:
    """x values for a panel, and its axis set up for them."""
    x, times = axis(points)
    if times:
        time_axis(axes)
        return dates(x)
    axes.set_xlabel("event", fontsize=8.5, color="#555555")
    axes.margins(x=0.01)
    return x
