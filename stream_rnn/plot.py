"""PNG pictures by matplotlib: one look for all of them, and the sheet of `stream-rnn eval --plot`.

Colours are Okabe and Ito's, told apart by colour-blind readers; lines differ in weight and dashes as well.
Drawn without a display (the Agg canvas, no pyplot).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.rows import key_text
from stream_rnn.summary import Run, short, verdict
from stream_rnn.trace import Album, Series, axis

Floats = NDArray[np.float64]

ACTUAL: dict[str, Any] = {"color": "#333333", "lw": 1.3, "zorder": 3}
OURS: dict[str, Any] = {"color": "#0072B2", "lw": 1.4, "zorder": 4}
NAIVE: dict[str, Any] = {"color": "#E69F00", "lw": 1.1, "ls": (0, (4, 1.5)), "zorder": 2}
OTHER: dict[str, Any] = {"color": "#8A8A8A", "lw": 1.1, "ls": (0, (1, 1)), "zorder": 1}
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
    """Write the PNG; the folder must exist."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(str(path))


def evaluation(path: Path, run: Run, album: Album) -> None:
    """`eval --plot`: forecast against actual at the stream's end and in all of it, error against naive over time."""
    newest = album.series[:3]
    targets = album.targets[:3]
    heights = [2.4] * len(newest) + [2.2] + [2.0] * len(targets)
    figure, panels = sheet(
        f"{run.name}   MAE {verdict(run, ('below', 'above'))} the last value's", len(heights), heights
    )
    for i, (axes, series) in enumerate(zip(panels, newest, strict=False)):
        tail = series.trace.tail()
        x = _x(axes, tail)
        axes.plot(x, tail["actual"], **ACTUAL, label="actual")
        axes.plot(x, tail["last"], **NAIVE, label="last value")
        axes.plot(x, tail["said"], **OURS, label="stream-rnn, one step ahead")
        name(axes, f"The newest {len(tail['event']):,} events{_key(series)}", series.target)
        if i == 0:
            axes.legend(**LEGEND)
    _whole(panels[len(newest)], newest[0])
    for axes, target in zip(panels[len(newest) + 1 :], targets, strict=True):
        bins = album.whole[target].bins(120)
        x = _x(axes, bins)
        axes.plot(x, bins["naive"], **NAIVE, label="last value")
        axes.plot(x, bins["error"], **OURS, label="stream-rnn")
        scores = run.scores.summary(album.targets.index(target), 1)
        mean = f"{short(scores['mae'])}, last value {short(scores['baselines']['persistence']['mae'])}"
        name(
            axes,
            f"Error one step ahead, means of {album.whole[target].count / len(x):,.0f} events (overall {mean})",
            f"MAE of {target}",
        )
        axes.set_ylim(bottom=0)
        axes.legend(**LEGEND)
    save(figure, path)


def _whole(axes: Any, series: Series) -> None:
    bins = series.trace.bins(460)
    x = _x(axes, bins)
    axes.fill_between(
        x, bins["low"], bins["high"], color="#333333", alpha=0.15, lw=0, label="actual, lowest to highest"
    )
    axes.plot(x, bins["actual"], **ACTUAL, label="actual, mean")
    axes.plot(x, bins["said"], **OURS, label="stream-rnn, mean")
    name(axes, f"The whole stream, means of {series.trace.count / len(x):,.0f} events{_key(series)}", series.target)
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
