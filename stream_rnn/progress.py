"""How far a long run has come, on standard error: a bar on a terminal, else a plain line every few seconds.

The clock decides only when something is drawn, never what is computed.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_DRAW_EVERY_S = 0.1
_LINE_EVERY_S = 5.0
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Progress:
    """Counts events; use as a context manager, so that a bar never stays behind."""

    def __init__(self, label: str, stream: TextIO | None = None, quiet: bool = False, unit: str = "events") -> None:
        self.label = label
        self.unit = unit
        self.note = ""  # is told with the count
        self.events = 0
        self.stream = sys.stderr if stream is None else stream
        self.live = not quiet and self.stream.isatty()
        self._quiet = quiet
        self._start = self._drawn = time.monotonic()
        self._drawn_length = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    @property
    def rate(self) -> float:
        """Events a second since the start."""
        return self.events / max(time.monotonic() - self._start, 1e-9)

    def advance(self, events: int, fraction: float | None = None) -> None:
        """Count events; `fraction` of the whole that is done, where the whole is known."""
        self.events += events
        now = time.monotonic()
        if self._quiet or now - self._drawn < (_DRAW_EVERY_S if self.live else _LINE_EVERY_S):
            return
        self._drawn = now
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            text = bar_line(self.label, self.events, self.rate, fraction, self._left_s(fraction, now), width,
                            self.unit, self.note)  # fmt: skip
            self.stream.write("\r" + text + " " * (self._drawn_length - len(text)))
            self._drawn_length = len(text)
        else:
            done = "" if fraction is None else f" ({fraction:.0%})"
            note = f", {self.note}" if self.note else ""
            self.stream.write(
                f"{self.label}: {self.events:,} {self.unit}{done}, {self.rate:,.0f} {self.unit}/s{note}\n"
            )
        self.stream.flush()

    def clear(self) -> None:
        """Take the bar off the screen, so that other text can be written."""
        if self._drawn_length:
            self.stream.write("\r" + " " * self._drawn_length + "\r")
            self.stream.flush()
            self._drawn_length = 0

    def _left_s(self, fraction: float | None, now: float) -> float | None:
        return (now - self._start) * (1 - fraction) / fraction if fraction else None


def bar_line(
    label: str,
    events: int,
    rate: float,
    fraction: float | None,
    left_s: float | None,
    width: int,
    unit: str = "events",
    note: str = "",
) -> str:
    """One line of at most `width` characters.

    >>> bar_line("taxi.csv", 5000, 21000.4, 0.5, 61, 60)
    'taxi.csv  50% ▕█████     ▏ 5,000 events  21,000/s  1:01 left'
    >>> bar_line("-", 5000, 21000.4, None, None, 60)
    '-  5,000 events  21,000/s'
    """
    left = "" if left_s is None else f"  {int(left_s) // 60}:{int(left_s) % 60:02d} left"
    tail = f"{events:,} {unit}  {rate:,.0f}/s{f'  {note}' if note else ''}{left}"
    if fraction is None:
        return f"{label}  {tail}"[:width]
    head = f"{label}  {fraction:.0%} "
    return f"{head}{bar(fraction, width - len(head) - len(tail) - 3)}{tail}"[:width]


def bar(fraction: float, cells: int) -> str:
    """A bar of so many character cells, exact to an eighth of one; empty where there is no room.

    >>> bar(0.5, 3), bar(1.0, 2), bar(0.5, 0)
    ('▕█▌ ▏ ', '▕██▏ ', '')
    """
    if cells < 1:
        return ""
    eighths = round(max(0.0, min(1.0, fraction)) * cells * 8)
    full, rest = divmod(eighths, 8)
    inner = "█" * full + (_EIGHTHS[rest] if rest else "")
    return f"▕{inner:<{cells}}▏ "
