"""The figures of docs/guide.md that no other benchmark prints: streams whose best forecast is known, what the time,
features and shared keys are worth, what the settings cost.

    python benchmarks/guide.py [FOLDER]

FOLDER holds quality.py's streams, else as there; without it the second part is left out. Error / the last value's
error as in quality.py; times are least CPU times of eight passes, as ratios to the default's in the same run.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import EIGHT
from quality_runs import Score, Stream, cold, geometric, intervals, read, run, series

from stream_rnn.model import Forecaster
from stream_rnn.records import Event

N = 20_000  # events of a stream that is made here

SETTINGS: tuple[dict[str, Any], ...] = (
    {}, {"k1": 4}, {"k1": 8}, {"k2": 4}, {"k2": 64}, {"hidden": 16}, {"hidden": 64}, {"hidden": 128}, {"cell": "gru"},
    {"kind": "rnn"}, {"intervals": []}, {"show_experts": True}, {"horizon": 12}, {"horizon": 24},
)  # fmt: skip


def known() -> Iterator[tuple[str, list[float], float]]:
    """Streams without time or features: name, values, and the ratio of who knows the law that made them."""
    rng = np.random.default_rng(0)
    e = rng.normal(size=N)
    yield "random walk", np.cumsum(e).tolist(), 1.0
    yield "random walk, heavy-tailed (t, 2 degrees)", np.cumsum(rng.standard_t(2, size=N)).tolist(), 1.0
    yield "noise around a level", e.tolist(), 1 / math.sqrt(2)
    for phi in (0.99, 0.9, 0.5):
        y = [0.0]
        for i in range(1, N):
            y.append(phi * y[-1] + float(e[i]))
        yield f"AR(1), {phi}", y, float(np.abs(e[1:]).mean() / np.abs(np.diff(y)).mean())
    wave = np.sin(np.arange(N) / 7)
    y = wave + 0.1 * e
    best = float(np.abs(0.1 * e[1:]).mean() / np.abs(np.diff(y)).mean())
    yield "wave of 44 events, noise a tenth of it", y.tolist(), best


def worth(stream: Stream, events: list[Event]) -> None:
    """A stream's line: as it is; without time; without features; a network for each key."""
    whole = run(stream, events)
    late = run(replace(stream, time=None, ignore=(*stream.ignore, "time")), events)
    alone = run(stream, events, features=())
    cells = [geometric(series(whole)), geometric(series(late)), geometric(series(alone))]
    line = f"{stream.name:24s}" + "".join(f"{show(c):>14s}" for c in cells)
    if stream.key is not None:
        own, early = [], []
        for key in dict.fromkeys(e[stream.key] for e in events):
            one = run(stream, [e for e in events if e[stream.key] == key])
            own += series(one)
            early += cold(one)
        line += f"{show(geometric(own)):>14s}   first 300: {show(geometric(cold(whole)))} and {show(geometric(early))}"
    print(line, flush=True)


def show(score: Score) -> str:
    return "/".join(f"{v:.3f}" for v in score)


def cost() -> None:
    """CPU time of an event and bytes of a key, for one target with a time, beside the default's."""
    rng = np.random.default_rng(1)
    values = 20 + 5 * np.sin(np.arange(4096) / 48 * 2 * math.pi) + rng.normal(size=4096)
    events: list[Event] = [{"at": 1.7e9 + 1800 * i, "y": float(v)} for i, v in enumerate(values)]
    least: dict[int, float] = {}
    size = {}
    for _ in range(8):
        for i, settings in enumerate(SETTINGS):
            model = Forecaster("y", time="at", **settings)
            model.step_many(events[:1024])
            start = time.process_time()
            for first in range(1024, len(events), 1024):
                model.step_many(events[first : first + 1024])
            least[i] = min(least.get(i, math.inf), time.process_time() - start)
            size[i] = model.keyspace.row_bytes
    for i, settings in enumerate(SETTINGS):
        name = ", ".join(f"{k} = {v}" for k, v in settings.items()) or "default"
        us = least[i] / (len(events) - 1024) * 1e6
        print(f"{name:24s} {us:6.1f} µs   × {least[i] / least[0]:4.2f}   {size[i] / 1000:6.1f} KB a key")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("STREAM_RNN_DATA") or default))
    folder = parser.parse_args().folder
    print(f"{'a stream like this':42s} {'error / last value':>18s} {'who knows its law':>18s} {'90 % covers':>12s}")
    for name, values, best in known():
        one = run(Stream("made here", "y", time=None), [{"y": v} for v in values])
        print(f"{name:42s} {series(one)[0][0]:18.3f} {best:18.3f} {intervals(one)[0]:12.3f}", flush=True)
    print(f"\n{'stream, MAE/RMSE':24s}{'as it is':>14s}{'without time':>14s}{'no features':>14s}{'own networks':>14s}")
    for stream in EIGHT:
        if (folder / stream.file).is_file():
            worth(stream, read(folder / stream.file, stream, None))
    print()
    cost()


if __name__ == "__main__":
    main()
