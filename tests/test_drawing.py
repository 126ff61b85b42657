"""Charts in the terminal and in SVG, ticks, the progress bar."""

from __future__ import annotations

import io
import json
import math
import re
from html import unescape

import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn import svg
from stream_rnn.progress import Progress
from stream_rnn.terminal import BLUE, Canvas, Curve, Screen, bare, chart, cut, length, paint, thinned
from stream_rnn.ticks import nice_ticks, time_ticks


def test_a_line_on_the_canvas_goes_from_corner_to_corner():
    canvas = Canvas(2, 1)
    canvas.line(0, 0, 3, 3, "")
    assert canvas.text() == ["⠑⢄"]
    canvas.dot(99, 99, "")  # outside: left out
    canvas.dot(0, 3, BLUE)
    assert canvas.text()[0].startswith("\x1b[38;5;33m⡑")


def test_a_chart_has_a_line_a_row_and_breaks_where_a_value_is_missing():
    x = np.arange(100.0)
    y = np.where((x > 40) & (x < 60), np.nan, 5.0)
    lines = chart([Curve(x, y, "")], 56, 4, (0, 99), (0, 10), [(50.0, "noon")])
    assert len(lines) == 5
    drawn = [bare(line)[6:] for line in lines[:-1]]
    row = next(line for line in drawn if line.strip())
    assert row[:19].strip("⠤⠒⣀⠉") == ""
    assert row[21:29] == " " * 8
    assert "noon" in bare(lines[-1])


def test_thinning_keeps_the_extremes():
    y = np.zeros(10_000)
    y[1234], y[7777] = 9.0, -9.0
    x, thin = thinned(np.arange(10_000.0), y, (0, 9999), 80)
    assert len(x) <= 4 * 80
    assert (thin.max(), thin.min()) == (9.0, -9.0)
    assert (np.diff(x) > 0).all()


def test_cutting_counts_no_escapes():
    text = paint("abc", BLUE) + paint("def", BLUE)
    assert length(cut(text, 4)) == 4
    assert cut(text, 4).endswith("\x1b[0m")


def test_no_color_is_obeyed(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("abc", BLUE) == "abc"


def test_a_screen_wipes_when_its_size_changes(monkeypatch):
    sizes = iter([(80, 24), (80, 24), (60, 20)])
    monkeypatch.setattr("stream_rnn.terminal.Screen.size", lambda self: next(sizes))
    stream = io.StringIO()

    def show() -> None:
        with Screen(stream) as screen:
            for _ in range(3):
                screen.show(["x" * 100] * 30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show()
    frames = stream.getvalue().split("\x1b[H")
    assert [f.count("\x1b[2J") for f in frames] == [2, 0, 1, 0]  # on entering and at first; then only on a change
    assert frames[-1].count("\n") == 19
    assert stream.getvalue().endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 7), (1e-9, 3e-9), (1e12, 1.1e12), (99.99, 100.01)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 8
    assert min(ticks) >= low - 1e-9 * (high - low)
    assert max(ticks) <= high + 1e-9 * (high - low)
    npt.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)


@pytest.mark.parametrize("span", [30.0, 3600.0, 86400.0, 9e5, 1e7, 4e8, 3e9])
def test_time_ticks_are_few_and_inside(span):
    ticks = time_ticks(1.4e9, 1.4e9 + span, 7)
    assert 2 <= len(ticks) <= 9
    assert all(1.4e9 <= t <= 1.4e9 + span for t, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_times_beyond_all_calendars_have_no_ticks():
    assert time_ticks(-1e15, 1e15, 5) == []
    assert time_ticks(math.nan, 5.0, 5) == []


def test_an_svg_chart_draws_what_it_is_given():
    x = np.arange(5.0)
    y = np.array([1.0, 2.0, np.nan, 3.0, np.nan])
    lines, bands = [svg.Line("<actual>", y, "actual")], [svg.Band(y - 1, y + 1)]
    drawn = svg.chart(x, lines, times=False, bands=bands, x_title="event")
    path = re.search(r'class="line actual" d="([^"]*)"', drawn)[1]
    assert path.count("M") == 2  # broken at the missing value
    assert path.endswith("h.1")  # a value alone is a dot
    band = re.search(r'class="band" d="([^"]*)"', drawn)[1]
    assert band.count("Z") == 2
    points = json.loads(unescape(re.search(r'data-points="([^"]*)"', drawn)[1]))
    assert points["lines"] == [{"name": "<actual>", "kind": "actual", "y": [1.0, 2.0, None, 3.0, None]}]
    heights = [float(v) for v in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    assert heights[0] > heights[1] > heights[2]  # larger is higher


@pytest.mark.parametrize("y", [np.array([]), np.array([np.nan]), np.array([3.0]), np.array([0.0, 0.0])])
def test_an_svg_chart_of_next_to_nothing(y):
    drawn = svg.chart(np.arange(float(len(y))), [svg.Line("a", y, "ours")], times=False, from_zero=True)
    assert "nan" not in drawn
    assert "inf" not in drawn


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_drawn_over_itself_and_taken_away(monkeypatch):
    monkeypatch.setattr("stream_rnn.progress._DRAW_EVERY_S", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    with Progress("taxi.csv", stream) as progress:
        progress.advance(500, 0.25)
        progress.advance(500, 0.5)
    drawn = stream.getvalue().split("\r")
    assert drawn[1].startswith("taxi.csv  25% ▕")
    assert drawn[2].startswith("taxi.csv  50% ▕")
    assert "1,000 events" in drawn[2]
    assert max(map(len, drawn)) <= 60
    assert drawn[3].strip() == drawn[4] == ""


def test_quiet_is_quiet(monkeypatch):
    monkeypatch.setattr("stream_rnn.progress._DRAW_EVERY_S", 0.0)
    stream = Terminal()
    with Progress("x", stream, quiet=True) as progress:
        progress.advance(5, 1.0)
    assert stream.getvalue() == ""
    assert progress.events == 5
