"""Where an axis has its marks, and what they say: round numbers, round times. All times are UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime

_ROUND_S = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 1209600)
_ROUND_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200)
_MONTH_S = 2629800.0
_EARLIEST, _LATEST = -62135596800.0, 253402300799.0  # what a datetime can hold


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers within [low, high], about `count` of them.

    >>> nice_ticks(37, 413, 4)
    [100.0, 200.0, 300.0, 400.0]
    """
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low] if math.isfinite(low) else []
    raw = span / max(count, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next((m * unit for m in (1, 2, 2.5, 5) if m * unit >= raw * 0.999), 10 * unit)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def time_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round times within [low, high] (epoch seconds), at most about `count`, with their labels.

    >>> time_ticks(0.0, 86000.0, 4)
    [(0.0, '01 Jan'), (21600.0, '06:00'), (43200.0, '12:00'), (64800.0, '18:00')]
    >>> [label for _, label in time_ticks(0.0, 2e7, 4)]
    ['Jan 1970', 'Mar 1970', 'May 1970', 'Jul 1970']
    """
    span = high - low
    if not (span > 0 and low >= _EARLIEST and high <= _LATEST):
        return []
    step = next((s for s in _ROUND_S if span / s <= count), None)
    if step is None:
        return _month_ticks(low, high, count)
    ticks = []
    for i in range(math.ceil(low / step), math.floor(high / step) + 1):
        at = datetime.fromtimestamp(i * step, UTC)
        whole_day = step >= 86400 or (at.hour, at.minute, at.second) == (0, 0, 0)
        ticks.append(
            (float(i * step), f"{at:%d %b}" if whole_day else f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}")
        )
    return ticks


def _month_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    months = next((m for m in _ROUND_MONTHS if (high - low) / (m * _MONTH_S) <= count), _ROUND_MONTHS[-1])
    first = datetime.fromtimestamp(low, UTC)
    index = (first.year * 12 + first.month - 1) // months * months
    ticks = []
    while index // 12 <= 9999:
        at = datetime(max(index // 12, 1), index % 12 + 1, 1, tzinfo=UTC)
        index += months
        if at.timestamp() > high:
            break
        if at.timestamp() >= low:
            ticks.append((at.timestamp(), f"{at:%Y}" if months % 12 == 0 else f"{at:%b %Y}"))
    return ticks


def clock(time: float) -> str:
    """A time for people, to the second only where it has seconds.

    >>> clock(0.0), clock(61.0), clock(float("nan"))
    ('1970-01-01 00:00', '1970-01-01 00:01:01', '')
    """
    if not _EARLIEST <= time <= _LATEST:
        return ""
    at = datetime.fromtimestamp(time, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}" if at.second else f"{at:%Y-%m-%d %H:%M}"


def number(value: float) -> str:
    """A number in at most five characters or so.

    >>> [number(v) for v in (0, 0.25, 15, 1500, 20000, 2.5e6, 1e12, 1e-9)]
    ['0', '0.25', '15', '1500', '20k', '2.5M', '1e12', '1e-9']
    """
    size = abs(value)
    if size and not 1e-3 <= size < 1e9:
        return f"{value:.0e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
    for floor, unit, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= floor:
            return f"{value / unit:g}{suffix}"
    return f"{value:.4g}"
