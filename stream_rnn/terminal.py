"""Drawing in a terminal: a canvas of Braille dots, a chart with axes, and a screen that is always given back.

Only what every modern terminal has: Unicode, 256 colours, cursor addressing. The three colours are told
apart by colour-blind readers and stand on dark and on light ground. `NO_COLOR` (no-color.org) is obeyed.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Sequence
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from stream_rnn.ticks import nice_ticks, number

Floats = NDArray[np.float64]

INK, BLUE, ORANGE = "", "38;5;33", "38;5;208"  # the terminal's own colour first
BOLD, FAINT = "1", "38;5;244"  # a mid grey reads on both grounds, where SGR 2 often does not

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a Braille cell
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def paint(text: str, style: str) -> str:
    """`text` in an SGR style, or as it is under NO_COLOR."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and text and "NO_COLOR" not in os.environ else text


def bare(text: str) -> str:
    """The text without its escapes."""
    return _ESCAPE.sub("", text)


def length(text: str) -> int:
    """Cells that a text takes, escapes not counted.

    >>> length(paint("ab", BLUE))
    2
    """
    return len(bare(text))


def spread(left: str, right: str, width: int) -> str:
    """Two texts at the two ends of a line; the right one goes where both don't fit.

    >>> spread("a", "b", 5), spread("abc", "def", 5)
    ('a   b', 'abc')
    """
    gap = width - length(left) - length(right)
    return left + " " * gap + right if gap > 0 else cut(left, width)


def cut(text: str, width: int) -> str:
    """The first `width` cells of a text, its styles closed.

    >>> cut("abcdef", 4)
    'abcd'
    """
    if length(text) <= width:
        return text
    out, room, at = [], width, 0
    for escape in _ESCAPE.finditer(text):
        plain = text[at : escape.start()][:room]
        out += [plain, escape.group()]
        room -= len(plain)
        at = escape.end()
    return "".join([*out, text[at:][:room]])


class Canvas:
    """Dots in character cells, 2 across and 4 down; a cell has the colour of what was drawn last in it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._bits = [[0] * columns for _ in range(rows)]
        self._style = [[""] * columns for _ in range(rows)]

    def dot(self, x: int, y: int, style: str) -> None:
        """Set one dot, x from the left and y from the top; outside is left out."""
        if 0 <= x < 2 * self.columns and 0 <= y < 4 * self.rows:
            self._bits[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            self._style[y // 4][x // 2] = style

    def line(self, x0: int, y0: int, x1: int, y1: int, style: str) -> None:
        """A straight line of dots."""
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for i in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * i / steps), round(y0 + (y1 - y0) * i / steps), style)

    def text(self) -> list[str]:
        """The rows, top first, as printable text."""
        return [
            "".join(paint(chr(0x2800 + bits) if bits else " ", style) for bits, style in zip(*row, strict=True))
            for row in zip(self._bits, self._style, strict=True)
        ]


class Curve(NamedTuple):
    """A line of a chart; NaN in `y` breaks it."""

    x: Floats
    y: Floats
    style: str


def chart(
    curves: Sequence[Curve],
    columns: int,
    rows: int,
    x_span: tuple[float, float],
    y_span: tuple[float, float],
    x_ticks: Sequence[tuple[float, str]],
    mark: float | None = None,
) -> list[str]:
    """`rows` + 1 lines of text: curves with labels on the left and below; `mark` draws an upright at an x."""
    gutter = 6
    canvas = Canvas(max(columns - gutter, 1), rows)
    width, height = 2 * canvas.columns - 1, 4 * rows - 1
    (x0, x1), (y0, y1) = x_span, y_span
    across, down = width / max(x1 - x0, 1e-12), height / max(y1 - y0, 1e-12)
    if mark is not None:
        for y in range(0, height + 1, 2):
            canvas.dot(round((mark - x0) * across), y, FAINT)
    for curve in curves:
        before: tuple[int, int] | None = None
        for x, y in zip(*thinned(curve.x, curve.y, x_span, 2 * canvas.columns), strict=True):
            here = (
                None
                if math.isnan(y)
                else (round((x - x0) * across), round((min(max(y, y0), y1) - y0) * -down) + height)
            )
            if here is not None:
                x_from, y_from = before or here
                canvas.line(x_from, y_from, *here, curve.style)
            before = here
    ticks = {round((y1 - v) * down) // 4: number(v) for v in nice_ticks(y0, y1, max(2, rows // 3))}
    lines = []
    for row, drawn in enumerate(canvas.text()):
        label = ticks.get(row, "")
        lines.append(paint(f"{label:>{gutter - 2}} {'┤' if label else '│'}", FAINT) + drawn)
    axis = [" "] * canvas.columns
    free = 0
    for x, label in x_ticks:
        start = round((x - x0) * across / 2) - len(label) // 2
        if start >= free and start + len(label) <= canvas.columns:
            axis[start : start + len(label)] = label
            free = start + len(label) + 2
    return [*lines, paint(" " * gutter + "".join(axis), FAINT)]


def thinned(x: Floats, y: Floats, span: tuple[float, float], columns: int) -> tuple[Floats, Floats]:
    """At most four points a column, extremes kept: a long curve keeps its spikes."""
    inside = (x >= span[0]) & (x <= span[1])
    x, y = x[inside], y[inside]
    per = len(x) // columns
    if per <= 4:
        return x, y
    keep: list[int] = []
    for start in range(0, len(x), per):
        part = y[start : start + per]
        if np.isnan(part).all():
            keep.append(start)
        else:
            keep += sorted({start + int(np.nanargmin(part)), start + int(np.nanargmax(part))})
    return x[keep], y[keep]


class Screen:
    """The alternate screen with the cursor off, both given back on leaving, however that happens."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._size = (0, 0)

    def __enter__(self) -> Screen:
        self.stream.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        self.stream.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.write("\x1b[0m\x1b[?25h\x1b[?1049l")
        self.stream.flush()

    def size(self) -> tuple[int, int]:
        """Columns and rows now."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def show(self, lines: Sequence[str]) -> None:
        """Put up a frame; what doesn't fit is cut, what was there before is wiped."""
        columns, rows = self.size()
        wipe = "\x1b[2J" if (columns, rows) != self._size else ""
        self._size = (columns, rows)
        body = "\x1b[K\r\n".join(cut(line, columns) for line in lines[:rows])
        self.stream.write(f"{wipe}\x1b[H{body}\x1b[K\x1b[J")
        self.stream.flush()
