"""Streams that nothing here was tuned on: what river and bokeh-sampledata carry with them, and made ones with one
difficulty each (a random walk, changes of regime, spikes in a quiet series, counts, a driver from outside)."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_runs import Stream

from stream_rnn.records import Event

Floats = NDArray[np.float64]

START, STEP_S, DAY = 1_600_000_000, 300, 288  # of made streams
EVENTS = 8000


def streams() -> Iterator[tuple[Stream, list[Event]]]:
    """Each stream with its events."""
    from river import datasets

    yield _of_river("AirlinePassengers", datasets.AirlinePassengers(), "month", 12)
    yield _of_river("WaterFlow", datasets.WaterFlow(), "Time", 24)
    yield _of_river("TrumpApproval", datasets.TrumpApproval(), "ordinal_date", 0)
    folder = _bokeh()
    if folder is not None:
        yield Stream("glucose", "glucose", time="datetime", season=DAY), _table(folder / "CGM.csv.gz", 20_000)
        name = "temperature (celsius)"
        sea = Stream("sea_temperature", name, time="time (UTC)", season=48)
        yield sea, _table(folder / "sea_surface_temperature.csv.gz", 20_000)
    for make in (walks, regimes, spikes, counts, season, driven):
        yield make()


def _of_river(name: str, rows: object, time: str, season: int) -> tuple[Stream, list[Event]]:
    events: list[Event] = []
    for x, y in rows:  # type: ignore[attr-defined]
        moment = x.pop(time)
        at = (moment - 719_163) * 86_400 if isinstance(moment, int) else moment
        events.append({"time": at, "value": y} | x)
    return Stream(name, "value", season=season), events


def _bokeh() -> Path | None:
    spec = importlib.util.find_spec("bokeh_sampledata")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "_data"


def _table(path: Path, limit: int) -> list[Event]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(limit), strict=False)]
    return [{name: text if "time" in name else float(text) for name, text in row.items()} for row in rows]


def _made(name: str, values: Floats, season: int = 0, **others: Floats) -> tuple[Stream, list[Event]]:
    columns = {"value": values} | others
    events: list[Event] = [{"time": START + STEP_S * i} | {n: float(c[i]) for n, c in columns.items()}
                           for i in range(len(values))]  # fmt: skip
    return Stream(name, "value", season=season), events


def walks() -> tuple[Stream, list[Event]]:
    """Fifty short random walks: nothing is better than the last value."""
    rng = np.random.default_rng(1)
    values = 100 + np.cumsum(rng.normal(size=(100, 50)), axis=0) * np.exp(rng.normal(size=50))
    events: list[Event] = [{"time": START + STEP_S * t, "key": k, "value": float(v)}
                           for t, row in enumerate(values) for k, v in enumerate(row)]  # fmt: skip
    return Stream("short_walks", "value", key="key"), events


def regimes() -> tuple[Stream, list[Event]]:
    """An autoregression whose coefficients change every 700 events."""
    rng, y = np.random.default_rng(2), np.zeros(EVENTS)
    for t in range(2, EVENTS):
        a, b = (1.6, -0.8) if t // 700 % 2 else (-0.5, 0.2)
        y[t] = a * y[t - 1] + b * y[t - 2] + rng.normal()
    return _made("regimes", y)


def spikes() -> tuple[Stream, list[Event]]:
    """A quiet series with a large spike every hundred events."""
    rng = np.random.default_rng(3)
    y = 10 + 0.02 * rng.normal(size=EVENTS)
    at = rng.random(EVENTS) < 0.01
    y[at] += rng.exponential(20, at.sum())
    return _made("spikes", y)


def counts() -> tuple[Stream, list[Event]]:
    """Small counts with a daily season, mostly zeros at night."""
    rng = np.random.default_rng(4)
    rate = np.exp(-1 + 1.2 * np.sin(2 * np.pi * np.arange(EVENTS) / DAY))
    return _made("counts", rng.poisson(rate).astype(float), DAY)


def season() -> tuple[Stream, list[Event]]:
    """A trend, a daily season whose size drifts, and noise."""
    rng, t = np.random.default_rng(5), np.arange(EVENTS)
    day = 2 * np.pi * t / DAY
    y = 100 + 0.01 * t + (5 + np.sin(t / 3000)) * np.sin(day) + 2 * np.sin(2 * day + 1) + 0.5 * rng.normal(size=EVENTS)
    return _made("season", y, DAY)


def driven() -> tuple[Stream, list[Event]]:
    """A series that another one drives, beside one that has nothing to do with it."""
    rng = np.random.default_rng(6)
    x = np.sin(np.cumsum(rng.normal(size=EVENTS)) * 0.3)
    y = np.append(0, 3 * x[:-1]) + 0.5 * rng.normal(size=EVENTS)
    return _made("driven", y, driver=x, other=rng.normal(size=EVENTS))

