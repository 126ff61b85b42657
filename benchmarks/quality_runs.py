"""One pass of a Forecaster over a stream, as arrays, and what is read off them. N events, T targets, H steps ahead."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.codec import Codec
from stream_rnn.connectors.file import FileSource
from stream_rnn.evaluate import columns_of
from stream_rnn.experts import NAMES
from stream_rnn.fields import names_of
from stream_rnn.metrics import MIN_PAIRS, Pairs
from stream_rnn.model import Forecaster
from stream_rnn.records import BadEvent, Event, Prediction

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Score = tuple[float, float]  # of MAE and of RMSE, over the last value's

BLOCK = 1024
LEVEL = 0.9
COLD = 300  # first events of a key
WINDOW = 250  # events over which the lowest coverage is looked for


@dataclass(frozen=True)
class Stream:
    """A CSV file, or events made here, and what is forecast in them."""

    file: str
    target: str | tuple[str, ...]
    key: str | None = None
    time: str | None = "time"
    season: int = 0  # events of a key; 0: no seasonal naive
    ignore: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file).stem


@dataclass
class Run:
    """A pass: per event its key's number, count and time, actual (N, T), said and last (N, T, H), told (N, T, 2)."""

    slots: NDArray[np.int64]
    step: NDArray[np.int64]
    time: Floats
    actual: Floats
    said: Floats
    last: Floats
    told: Floats  # the 90 % interval of what was said one step ahead; NaN: none
    us: list[float] = field(default_factory=list)  # an event, by block
    state: int = 0  # bytes a key


def read(path: Path, stream: Stream, limit: int | None) -> list[Event]:
    """The events of a file."""
    source, codec = FileSource(path), Codec("csv", text=names_of("key", stream.key))
    events: list[Event] = []
    while not source.finished and (limit is None or len(events) < limit):
        records = source.read(BLOCK if limit is None else min(BLOCK, limit - len(events)))
        events += [e for e in codec.decode(records) if not isinstance(e, BadEvent)]
    return events


def run(stream: Stream, events: Sequence[Event], horizon: int = 1, without: Sequence[str] = (), **settings: Any) -> Run:
    """One pass, in blocks; `without`: experts that are left out of the mixture."""
    fields: dict[str, Any] = {"key": stream.key, "time": stream.time, "ignore": stream.ignore}
    model = Forecaster(stream.target, horizon=horizon, **fields, **settings)
    left_out = [NAMES.index(name) for name in without]
    pairs, parts, us = Pairs(len(model.targets), horizon), [], []
    for start in [0, *range(1, len(events), BLOCK)]:
        if model.experts is not None and start:  # the first event, alone, settles which features there are
            model.experts.left_out[left_out] = 1
        block = events[start : start + BLOCK] if start else events[:1]
        began = time.perf_counter()
        answers = model.step_many(block)
        us.append((time.perf_counter() - began) / len(block) * 1e6)
        good = [a for a in answers if isinstance(a, Prediction)]
        if not good:
            continue
        keys, when, actual, predicted, forecast = columns_of(good, model.targets, horizon)
        slots = pairs.slots_of(keys)
        said, last = pairs.pair(slots, actual, predicted, forecast)
        if np.isnan(said[~np.isnan(last)]).any():
            raise AssertionError(f"{stream.name}: a forecast is missing where the last value is known")
        step = np.array([p.step for p in good], np.int64)
        parts.append((slots, step, when, actual, said, last, _told(good, model.targets)))
    return Run(*(np.concatenate(column) for column in zip(*parts, strict=True)), us, model.keyspace.row_bytes)


def _told(good: Sequence[Prediction], targets: Sequence[str]) -> Floats:
    """The 90 % intervals (n, T, 2)."""
    none = [math.nan, math.nan]

    def bounds(interval: Any) -> list[float]:
        return interval[LEVEL] if isinstance(interval, dict) and LEVEL in interval else none

    if len(targets) == 1:
        return np.array([[bounds(p.predicted_interval)] for p in good])
    each = [p.predicted_interval if isinstance(p.predicted_interval, dict) else {} for p in good]
    return np.array([[bounds(row.get(t)) for t in targets] for row in each])


def series(run: Run, said: Floats | None = None, rows: Bools | None = None, step: int = 1) -> list[Score]:
    """Of each series with 30 pairs or more and an error of the last value: error / the last value's error."""
    said = run.said[:, :, step - 1] if said is None else said
    last = run.last[:, :, step - 1]
    scores = []
    for slot in range(int(run.slots.max()) + 1):
        mine = run.slots == slot if rows is None else (run.slots == slot) & rows
        for j in range(run.actual.shape[1]):
            e, naive = run.actual[mine, j] - said[mine, j], run.actual[mine, j] - last[mine, j]
            pair = ~np.isnan(e) & ~np.isnan(naive)
            e, naive = e[pair], naive[pair]
            if len(e) >= MIN_PAIRS and np.abs(naive).sum() > 0:
                mae = np.abs(e).mean() / np.abs(naive).mean()
                scores.append((float(mae), math.sqrt((e**2).mean() / (naive**2).mean())))
    return scores


def cold(run: Run) -> list[Score]:
    """`series` over the first 300 events of each key."""
    return series(run, rows=run.step <= COLD)


def geometric(scores: Sequence[Score]) -> Score:
    """The geometric mean of each."""
    mae, rmse = np.exp(np.log(scores).mean(axis=0))
    return float(mae), float(rmse)


def intervals(run: Run) -> tuple[float, float, float]:
    """Of the 90 % intervals, mean over series: coverage, Winkler score in MAEs of the last value (Winkler 1972,
    doi:10.1080/01621459.1972.10481224), lowest coverage of any 250 events (NaN: no series has so many)."""
    each = []
    for slot in range(int(run.slots.max()) + 1):
        mine = run.slots == slot
        for j in range(run.actual.shape[1]):
            y, last, (low, high) = run.actual[mine, j], run.last[mine, j, 0], run.told[mine, j].T
            scored = ~np.isnan(y) & ~np.isnan(low)
            y, last, low, high = y[scored], last[scored], low[scored], high[scored]
            if len(y) < 100 or not np.abs(y - last).sum() > 0:
                continue
            inside = (y >= low) & (y <= high)
            outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
            winkler = (high - low + 2 / (1 - LEVEL) * outside).mean() / np.abs(y - last).mean()
            sums = np.cumsum(np.append(0, inside))
            least = (sums[WINDOW:] - sums[:-WINDOW]).min() / WINDOW if len(y) >= WINDOW else math.nan
            each.append((inside.mean(), winkler, least))
    coverage, winkler, least = np.array(each or [[math.nan] * 3]).T
    known = least[~np.isnan(least)]
    return float(coverage.mean()), float(winkler.mean()), float(known.mean()) if len(known) else math.nan
