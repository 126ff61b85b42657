"""`stream-rnn demo`: learns a real sensor stream from nothing, before your eyes.

The stream is bokeh_sampledata's glucose monitor (52,281 readings of one person, every 5 minutes, public
domain), read from that package's folder: nothing is downloaded. The show goes slowly at both ends, so that
the first and the last forecasts can be watched, and fast over the half year between.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_rnn.demo_race import AHEAD, DAY, Race
from stream_rnn.errors import InputError
from stream_rnn.records import BadEvent, Event
from stream_rnn.terminal import bare

_FRAMES_PER_S = 12.0
_SLOW_EVENTS_PER_S = 36.0  # three hours of the person's life a second
_BLOCK = 2000  # events between two looks at the clock
_PLAIN_LINES = 24


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    from stream_rnn import demo_view
    from stream_rnn.model import Forecaster

    live = sys.stdout.isatty() and not args.plain
    print(f"stream-rnn demo: {demo_view.TITLE} (bokeh-sampledata, public domain).", flush=True)
    model = Forecaster(target="glucose", time="datetime", horizon=AHEAD[-1])
    race = Race(glucose(args.events), model)
    race.advance(1)  # whatever must be compiled is compiled before the clock starts
    race.learning_s = 0.0
    interrupted = False
    try:
        if live:
            _show(race, None if args.fast else args.seconds)
        else:
            _tell(race)
    except KeyboardInterrupt:
        interrupted = True
    result = demo_view.table(race)
    if live:
        columns = shutil.get_terminal_size().columns
        result = [*demo_view.frame(race, DAY // 2, columns, 24), "", *result]
    print("\n".join(result if live else map(bare, result)))
    print(f"\n{race.count:,} events learnt one by one at {race.rate:,.0f} events/s.")
    print(_draw(race, Path(args.out)))
    return 130 if interrupted else 0


def _draw(race: Race, path: Path) -> str:
    """Draws the picture; a line that says where it is, or why it isn't."""
    from stream_rnn import demo_view

    if importlib.util.find_spec("matplotlib") is None:
        return "No picture: matplotlib is not installed (pip install 'stream-rnn[demo]')."
    demo_view.picture(race, path)
    return f"Picture: {path.resolve()}"


def glucose(most: int | None = None) -> list[Event]:
    """The readings, oldest first, as events; InputError if the package that ships them is not installed."""
    from stream_rnn.codec import Codec
    from stream_rnn.connectors.file import FileSource

    spec = importlib.util.find_spec("bokeh_sampledata")  # found, not imported: importing it would need pandas
    path = Path(spec.origin).parent / "_data" / "CGM.csv.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        raise InputError(
            "the demo's readings are in the package bokeh-sampledata, which is not installed; "
            "pip install 'stream-rnn[demo]'"
        )
    log, codec = FileSource(path), Codec("csv")
    events: list[Event] = []
    while not log.finished:
        events += [e for e in codec.decode(log.read(8192)) if not isinstance(e, BadEvent)]
    return events[:most]


def _tell(race: Race) -> None:
    """Plain lines, evenly spread over the stream."""
    from stream_rnn import demo_view

    print(demo_view.PLAIN_HEAD)
    for line in range(1, _PLAIN_LINES + 1):
        since, until = race.count, race.total * line // _PLAIN_LINES
        while race.count < until:
            race.advance(min(_BLOCK, until - race.count))
        print(demo_view.plain(race, race.count - since), flush=True)


def _show(race: Race, seconds: float | None) -> None:
    """The live screen; `seconds` None: no waiting."""
    from stream_rnn import demo_view
    from stream_rnn.terminal import Screen

    with Screen(sys.stdout) as screen:
        if seconds is None:
            while race.count < race.total:
                race.advance(min(_BLOCK // 4, race.total - race.count))
                screen.show(demo_view.frame(race, 2 * DAY, *screen.size()))
            return
        plan = schedule(race.total, seconds)
        start = time.monotonic()
        while race.count < race.total:
            tick = min(int((time.monotonic() - start) * _FRAMES_PER_S), len(plan) - 1)
            due = max(int(plan[tick]), race.count + 1)
            race.advance(min(_BLOCK, due - race.count))
            speed = (plan[tick] - plan[max(tick - 1, 0)]) * _FRAMES_PER_S
            screen.show(demo_view.frame(race, window(speed), *screen.size()))
            if race.count >= plan[tick]:
                time.sleep(max(0.0, (tick + 1) / _FRAMES_PER_S - (time.monotonic() - start)))


def schedule(total: int, seconds: float, frames_per_s: float = _FRAMES_PER_S) -> NDArray[np.int64]:
    """Events that should be through at the end of each frame: slowly at both ends, `total` at the last.

    >>> plan = schedule(52281, 45.0)
    >>> int(plan[0]), int(plan[-1]), bool((np.diff(plan) >= 0).all())
    (3, 52281, True)
    """
    frames = max(2, round(seconds * frames_per_s))
    slow = min(_SLOW_EVENTS_PER_S / frames_per_s, total / frames)
    at = (np.arange(frames) + 0.5) / frames
    hump = np.clip(np.sin(np.pi * at) * 1.6 - 0.6, 0.0, 1.0)  # flat for a fifth of the time at each end
    low, high = 0.0, 40.0
    for _ in range(60):  # the height of the hump by bisection
        middle = (low + high) / 2
        low, high = (middle, high) if slow * np.exp(middle * hump).sum() < total else (low, middle)
    plan = np.cumsum(slow * np.exp(low * hump))
    plan[-1] = total
    return np.round(plan).astype(np.int64)


def window(speed: float) -> int:
    """Events that the curve shows at so many events a second: half a day when slow, ten days at most.

    >>> window(36.0), window(1e5)
    (144, 2880)
    """
    return int(min(max(DAY / 2, 2.5 * speed), 10 * DAY))
