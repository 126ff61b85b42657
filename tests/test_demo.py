"""`stream-rnn demo`: the race is fair, the screen fits and is given back."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn import demo, demo_view
from stream_rnn.cli import main
from stream_rnn.demo_race import AHEAD, DAY, Race
from stream_rnn.model import Forecaster
from stream_rnn.terminal import length

needs_readings = pytest.mark.skipif(
    not __import__("importlib").util.find_spec("bokeh_sampledata"),
    reason="the readings are in the extra: stream-rnn[demo]",
)


def readings(n, start=1_270_000_000):
    rng = np.random.default_rng(4)
    values = 120 + 40 * np.sin(np.arange(n) / 40) + rng.normal(size=n)
    return [{"datetime": start + 300 * i, "glucose": float(v)} for i, v in enumerate(values)]


@pytest.fixture(scope="module")
def race():
    events = readings(700)
    model = Forecaster("glucose", time="datetime", horizon=AHEAD[-1], hidden=8)
    race = Race(events, model)
    race.advance(1)
    race.advance(650)
    return race


def test_everybody_forecasts_before_the_event(race):
    """What is said of an event was made 1 and 6 events before it; of the last value we know what that is."""
    values = race.value[: race.count]
    assert race.count == 651
    for j, i in enumerate(AHEAD):
        npt.assert_array_equal(race.said["last"][i : race.count, j], values[:-i])
        assert np.isnan(race.said["last"][:i, j]).all()
    again = Forecaster("glucose", time="datetime", horizon=AHEAD[-1], hidden=8)
    forecasts = np.array([p.forecast for p in again.step_many(readings(700)[:651])])
    for j, i in enumerate(AHEAD):
        npt.assert_array_equal(race.said["ours"][i : race.count, j], forecasts[:-i, i - 1])


def test_errors_are_over_what_all_have_forecast(race):
    for name in demo_view.NAMES:
        for j in range(len(AHEAD)):
            error = race.said[name][: race.count, j] - race.value[: race.count]
            known = error[AHEAD[j] :]
            mae, rmse = race.error(name, j)
            npt.assert_allclose([mae, rmse], [np.abs(known).mean(), np.sqrt((known**2).mean())])
    far = np.abs(race.said["ours"][: race.count, 1] - race.value[: race.count])
    npt.assert_allclose(race.recent("ours", 100), far[-100:].mean())
    npt.assert_allclose(race.daily("ours"), [np.nanmean(far[a : a + DAY]) for a in range(0, race.count, DAY)])
    npt.assert_allclose(race.daily("ours", 3)[-1], np.nanmean(far))


@pytest.mark.parametrize("size", [(80, 24), (140, 50), (60, 20)])
@pytest.mark.parametrize("window", [144, 2880])
def test_a_frame_fits_its_screen(race, size, window):
    columns, rows = size
    lines = demo_view.frame(race, window, columns, rows)
    assert len(lines) <= max(rows, 20)
    assert max(map(length, lines)) <= columns
    text = "\n".join(lines)
    for word in ("measured", "forecast, made 30 min before", "last value", "stream-rnn", "mg/dL", "events/s"):
        assert word in text or columns < 80


def test_a_frame_of_the_first_event_has_no_numbers_to_show():
    race = Race(readings(10), Forecaster("glucose", time="datetime", horizon=AHEAD[-1], hidden=8))
    race.advance(1)
    assert "no forecast to judge yet" in "\n".join(demo_view.frame(race, 144, 80, 24))


def test_the_plan_is_slow_at_both_ends_and_ends_in_time():
    plan = demo.schedule(52281, 45.0)
    per_frame = np.diff(plan)
    assert plan[-1] == 52281
    assert (per_frame >= 0).all()
    assert per_frame[:50].max() <= 6
    assert per_frame[-50:-1].max() <= 6
    assert demo.schedule(5, 45.0)[-1] == 5


@needs_readings
def test_the_readings_are_all_there():
    events = demo.glucose()
    assert len(events) == 52281
    assert events[0] == {"isig": 22.59, "datetime": "2010-03-24 09:51:00", "glucose": 258}


@needs_readings
def test_without_a_terminal_it_tells_in_plain_lines(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "demo.png"
    assert main(["demo", "--events", "900", "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert len(re.findall(r"^20\d\d-\d\d-\d\d \d\d:\d\d  event ", out, re.MULTILINE)) == 24
    for name in ("last value", "same time yesterday", "linear AR(8)", "stream-rnn"):
        assert re.search(rf"^{re.escape(name)} +[\d.]+ +[\d.]+", out, re.MULTILINE)
    assert f"Picture: {picture}" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "900 events learnt one by one at" in out


@needs_readings
def test_without_matplotlib_all_but_the_picture(capsys, tmp_path, monkeypatch):
    real = demo.importlib.util.find_spec
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    assert main(["demo", "--events", "50", "--out", str(tmp_path / "x.png")]) == 0
    assert "No picture: matplotlib is not installed (pip install 'stream-rnn[demo]')" in capsys.readouterr().out
    assert not (tmp_path / "x.png").exists()


def test_without_the_readings_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert "pip install 'stream-rnn[demo]'" in capsys.readouterr().err


def in_a_terminal(args, ctrl_c_after=None):
    """Everything that the demo writes to a terminal of 100 × 30, and its exit code."""
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "stream_rnn.cli", "demo", *args]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, close_fds=True)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1.0)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not data:
                break
            seen += data
        if ctrl_c_after is not None and ctrl_c_after in seen:
            process.send_signal(signal.SIGINT)
            ctrl_c_after = None
    os.close(ours)
    return seen.decode(), process.wait(timeout=30)


@needs_readings
def test_a_terminal_is_given_back_after_the_show(tmp_path):
    seen, code = in_a_terminal(["--fast", "--events", "1200", "--out", str(tmp_path / "d.png")])
    assert code == 0
    assert "\x1b[?1049h\x1b[?25l" in seen
    assert "\x1b[?25h\x1b[?1049l" in seen
    after = seen.split("\x1b[?1049l")[1]
    assert "1,200 events learnt one by one" in after
    assert any("⠀" < c <= "⣿" for c in seen)  # a curve was drawn


@needs_readings
def test_ctrl_c_gives_the_terminal_back_and_shows_what_there_is(tmp_path):
    seen, code = in_a_terminal(["--seconds", "600", "--out", str(tmp_path / "d.png")], ctrl_c_after=b"event 1")
    assert code == 130
    assert "Traceback" not in seen
    after = seen.split("\x1b[?25h\x1b[?1049l")[1]
    assert "same time yesterday" in after
