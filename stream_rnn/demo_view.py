"""What the demo shows of its race: a frame for the terminal, a plain line, the closing table, the picture."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from stream_rnn.demo_race import AHEAD, DAY, Race
from stream_rnn.progress import bar
from stream_rnn.terminal import BLUE, BOLD, FAINT, INK, ORANGE, Curve, chart, paint, spread
from stream_rnn.ticks import nice_ticks, time_ticks

TITLE = "blood glucose of one person, measured every 5 minutes"
UNIT = "mg/dL"
NEAR_MIN, FAR_MIN = 5 * AHEAD[0], 5 * AHEAD[-1]
NAMES = {"last": "last value", "season": "same time yesterday", "linear": "linear AR(8)", "ours": "stream-rnn"}
WEEK = 7
_STYLES = {"last": ORANGE, "linear": FAINT, "ours": BLUE}


def frame(race: Race, window: int, columns: int, rows: int) -> list[str]:
    """One screenful: the curve with its forecasts, the error so far, and the last day's errors as bars."""
    spare = rows - 12
    top, low = max(spare * 2 // 3, 3), max(spare - spare * 2 // 3, 2)
    now = datetime.fromtimestamp(race.time[race.count - 1], UTC)
    done = f"event {race.count:,} of {race.total:,} {bar(race.count / race.total, 12)}"
    return [
        spread(paint("stream-rnn demo", BOLD) + f"  {TITLE}", paint("Ctrl-C ends", FAINT), columns),
        spread(f"{now:%a %d %b %Y %H:%M}  {done}", f"{race.rate:,.0f} events/s", columns),
        "",
        spread(f"{UNIT}   ━ measured   " + paint(f"━ forecast, made {FAR_MIN} min before", BLUE), "", columns),
        *_curve(race, window, columns, top),
        "",
        spread(
            f"{FAR_MIN} min ahead, mean error of a week   "
            + paint("━ last value", ORANGE)
            + "   "
            + paint("━ stream-rnn", BLUE),
            "",
            columns,
        ),
        *_errors(race, columns, low),
        "",
        *_bars(race, columns),
    ]


def _curve(race: Race, window: int, columns: int, rows: int) -> list[str]:
    start = max(0, race.count - window)
    x = np.arange(start, race.count, dtype=float)
    value, said = race.value[start : race.count], race.said["ours"][start : race.count, -1]
    future = np.arange(race.count - 1, race.count + len(race.forecast), dtype=float)
    fan = np.append(race.value[race.count - 1], race.forecast)
    low, high = np.nanmin(value), np.nanmax(value)
    pad = max(high - low, 40.0) * 0.12
    ahead = len(race.forecast) if window < DAY else 0
    lines = [Curve(x, said, BLUE), Curve(x, value, INK)]
    if ahead:
        lines.append(Curve(future, fan, BLUE))
    span = (race.count - window, race.count - 1 + ahead * 1.5)
    time = race.time[start : race.count]
    ticks = [
        (start + float(np.searchsorted(time, at)), label) for at, label in time_ticks(time[0], time[-1], columns // 12)
    ]
    return chart(lines, columns, rows, span, (low - pad, high + pad), ticks, mark=race.count - 1 if ahead else None)


def _errors(race: Race, columns: int, rows: int) -> list[str]:
    daily = {name: race.daily(name, WEEK) for name in ("last", "ours")}
    days = len(daily["last"])
    x = np.arange(1.0, days + 1.0)
    known = np.concatenate(list(daily.values()))
    known = known[np.isfinite(known)]
    low, top = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    lines = [Curve(x, daily["last"], ORANGE), Curve(x, daily["ours"], BLUE)]
    span = (1.0, max(days, 8.0))
    ticks = [(day, f"day {day:.0f}") for day in nice_ticks(*span, columns // 14) if day.is_integer()]
    return chart(lines, columns, rows, span, (0.85 * low, 1.08 * top), ticks)


def _bars(race: Race, columns: int) -> list[str]:
    errors = {name: race.recent(name) for name in ("last", "linear", "ours")}
    top = max((e for e in errors.values() if np.isfinite(e)), default=1.0)
    room = max(columns - 62, 8)
    lines = []
    for name, error in errors.items():
        if not np.isfinite(error):
            lines.append(f"{NAMES[name]:>13}  no forecast to judge yet")
            continue
        against = "" if name == "last" else f"  {_percent(error / errors['last'])}"
        filled = paint(bar(error / top, room).strip(" ▕▏").ljust(room), _STYLES[name])
        tail = f"{error:5.1f} {UNIT}{against}"
        lines.append(f"{NAMES[name]:>13}  {filled} {tail}")
    lines[0] = spread(lines[0], paint(f"the last 24 hours, {FAR_MIN} min ahead", FAINT), columns)
    return lines


PLAIN_HEAD = f"error: mean absolute error {FAR_MIN} min ahead since the line above, in {UNIT}"


def plain(race: Race, events: int) -> str:
    """The race in one line without any drawing; errors over the newest so many events."""
    now = datetime.fromtimestamp(race.time[race.count - 1], UTC)
    last, ours = race.recent("last", events), race.recent("ours", events)
    errors = (
        f"last value {last:5.2f}  stream-rnn {ours:5.2f}  {_percent(ours / last):>6}" if last > 0 else "none to judge"
    )
    return f"{now:%Y-%m-%d %H:%M}  event {race.count:6,}  {errors}  {race.rate:8,.0f} events/s"


def table(race: Race) -> list[str]:
    """Every contestant's errors over all events so far."""
    head = f"{'':20}" + "".join(f"{'MAE':>9}{'RMSE':>9}{'':10}" for _ in AHEAD)
    lines = [
        f"Errors in {UNIT}, {race.count:,} events, each forecast before it was learnt",
        "(in brackets: mean error against the last value's)",
        "",
        f"{'':20}" + "".join(f"{f'{minutes} min ahead':>18}{'':10}" for minutes in (NEAR_MIN, FAR_MIN)),
        head,
    ]
    for name, title in NAMES.items():
        line = f"{title:<20}"
        for j in range(len(AHEAD)):
            mae, rmse = race.error(name, j)
            against = "" if name == "last" else f" ({_percent(mae / race.error('last', j)[0])})"
            line += f"{mae:9.2f}{rmse:9.2f}{against:<10}"
        lines.append(paint(line.rstrip(), BOLD) if name == "ours" else line.rstrip())
    return [line.rstrip() for line in lines]


def _percent(ratio: float) -> str:
    """A ratio of errors as a change.

    >>> _percent(0.756), _percent(13.06), _percent(float("nan"))
    ('-24 %', '+1206 %', '')
    """
    return f"{ratio - 1:+.0%}".replace("%", " %") if np.isfinite(ratio) else ""


def picture(race: Race, path: Path) -> None:
    """A PNG: the first day, the last day, and the error of every day. Needs matplotlib."""
    from stream_rnn import plot

    figure, (first, last, course) = plot.sheet(f"stream-rnn demo: {TITLE}", 3, heights=(3, 3, 2.4))
    for axes, start, title in (
        (first, 0, "The first day: it knows nothing"),
        (last, max(race.count - DAY, 0), f"The last day, after {race.count:,} events"),
    ):
        part = slice(start, min(start + DAY, race.count))
        at = plot.dates(race.time[part])
        axes.plot(at, race.value[part], **plot.ACTUAL, label="measured")
        axes.plot(at, race.said["last"][part, -1], **plot.NAIVE, label=f"last value, {FAR_MIN} min before")
        axes.plot(at, race.said["ours"][part, -1], **plot.OURS, label=f"stream-rnn, forecast {FAR_MIN} min before")
        plot.name(axes, title, f"glucose, {UNIT}")
        plot.time_axis(axes)
    first.legend(**plot.LEGEND)
    days = np.arange(len(race.daily("last"))) + 1
    for key, style in (("last", plot.NAIVE), ("linear", plot.OTHER), ("ours", plot.OURS)):
        smooth = race.daily(key, WEEK)
        course.plot(days[: len(smooth)], smooth, **style, label=NAMES[key])
    plot.name(course, f"Error {FAR_MIN} min ahead, running mean of a week", f"MAE, {UNIT}")
    course.set_xlabel("day")
    course.set_ylim(bottom=0)
    course.legend(**plot.LEGEND)
    plot.save(figure, path)
