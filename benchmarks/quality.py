"""How well the Forecaster forecasts real streams, next to the last value and the value a season ago.

    python benchmarks/quality.py [FOLDER]                      # the eight streams, one step ahead
    python benchmarks/quality.py [FOLDER] --horizon 12         # ETTh1 and nyc_taxi, 1 to 12 steps ahead
    python benchmarks/quality.py FOLDER --target load [--key meter] [--time at]    # your own CSV files

FOLDER: else $STREAM_RNN_DATA, else ../shared/data beside this repository. The streams are public (facts and licences
in the guide) but some must not be passed on, so none is in the repository: where there are none, this says so and ends.

Prequential: each event is forecast, scored, then learnt from, the cold start included; events go through
Forecaster.step_many, in blocks, as everywhere else. Score: error / the last value's error for each key × target with
30 pairs or more, their geometric mean in a stream, then over streams, written MAE/RMSE; below 1 is better than the
last value. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.codec import Codec
from stream_rnn.connectors.file import FileSource
from stream_rnn.evaluate import columns_of
from stream_rnn.fields import names_of
from stream_rnn.metrics import Pairs, Scores
from stream_rnn.model import Forecaster
from stream_rnn.records import BadEvent, Event, Prediction

Floats = NDArray[np.float64]

BLOCK = 1024
GM_BAR = (0.69, 0.70)
STREAM_BAR = (0.93, 0.94)


@dataclass(frozen=True)
class Stream:
    """A CSV file and what is forecast in it."""

    file: str
    target: str | tuple[str, ...]
    key: str | None = None
    time: str | None = "time"
    season: int = 0  # events of a key; 0: no seasonal naive
    ignore: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file).stem


EIGHT = (
    Stream("nab_machine_temperature.csv", "value", season=288),
    Stream("nab_nyc_taxi.csv", "value", season=48),
    Stream("nab_traffic_keys.csv", "value", key="key"),
    Stream("nab_aws_cpu_keys.csv", "value", key="key", season=288),
    Stream("ETTh1.csv", ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"), time="date", season=24),
    Stream("bike_sharing_hourly.csv", "cnt", season=24),
    Stream("beijing_air_keys.csv", ("PM25", "NO2", "O3", "TEMP", "WSPM"), key="key", season=24),
    Stream("elec2.csv", ("nswprice", "nswdemand"), season=48, ignore=("class",)),
)
AHEAD = ("ETTh1", "nab_nyc_taxi")


@dataclass
class Outcome:
    """Scores (MAE, RMSE) by step ahead, of the model and of the season before; errors in the target's units."""

    ours: list[tuple[float, float]]
    seasonal: list[tuple[float, float]]
    errors: list[tuple[str, float, float]]  # target, MAE, RMSE one step ahead
    series: int
    us: float


def read(path: Path, stream: Stream, limit: int | None) -> list[Event]:
    """The events of a file."""
    source, codec = FileSource(path), Codec("csv", text=names_of("key", stream.key))
    events: list[Event] = []
    while not source.finished and (limit is None or len(events) < limit):
        records = source.read(BLOCK if limit is None else min(BLOCK, limit - len(events)))
        events += [e for e in codec.decode(records) if not isinstance(e, BadEvent)]
    return events


def evaluate(stream: Stream, events: list[Event], horizon: int, **settings: Any) -> Outcome:
    """One pass over a stream."""
    fields = {"key": stream.key, "time": stream.time, "ignore": stream.ignore}
    model = Forecaster(stream.target, horizon=horizon, **fields, **settings)
    T = len(model.targets)
    pairs, ours, seasonal = Pairs(T, horizon), Scores(T, horizon), Scores(T, horizon)
    season = Season(stream.season, horizon) if stream.season else None
    seconds = 0.0
    for start in range(0, len(events), BLOCK):
        began = time.perf_counter()
        answers = model.step_many(events[start : start + BLOCK])
        seconds += time.perf_counter() - began
        good = [a for a in answers if isinstance(a, Prediction)]
        if not good:
            continue
        keys, _, actual, predicted, forecast = columns_of(good, model.targets, horizon)
        slots = pairs.slots_of(keys)
        said, last = pairs.pair(slots, actual, predicted, forecast)
        if np.isnan(said[~np.isnan(last)]).any():
            raise AssertionError(f"{stream.name}: a forecast is missing where the last value is known")
        ours.add(slots, actual, said, last)
        if season:
            seasonal.add(slots, actual, season.said(slots, last), last)

    def by_step(scores: Scores) -> list[tuple[float, float]]:
        each = [scores.score(step=i + 1) for i in range(horizon)]
        return [(s["mae"], s["rmse"]) for s in each if s["mae"] is not None]

    errors = []
    for j, target in enumerate(model.targets):
        s = ours.summary(target=j, step=1)
        errors.append((target, s["mae"], s["rmse"]))
    us = seconds / max(1, len(events)) * 1e6
    return Outcome(by_step(ours), by_step(seasonal), errors, ours.score()["series"], us)


class Season:
    """The value one season before the event that is forecast, in events of its key; until there is one, the last."""

    def __init__(self, season: int, horizon: int) -> None:
        if horizon > season:
            raise SystemExit(f"quality: a horizon of {horizon} is longer than the season of {season}")
        self.season = season
        self._past: dict[int, list[Floats]] = {}

    def said(self, slots: NDArray[np.int64], last: Floats) -> Floats:
        """For each event (n, T, H), from the last values before it (n, T, H)."""
        out = last.copy()
        for e, slot in enumerate(slots.tolist()):
            past = self._past.setdefault(slot, [])  # past[m]: the last value before the key's event m
            past.append(last[e, :, 0])
            if len(past) > self.season:  # the season before event m is what was last before event m - season + 1
                out[e] = np.where(np.isnan(past[-self.season]), last[e].T, past[-self.season]).T
        return out


def verdict(value: tuple[float, float], bar: tuple[float, float]) -> str:
    """ok or MISS."""
    return "ok" if value[0] <= bar[0] and value[1] <= bar[1] else "MISS"


def middle(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median over seeds, of MAE and of RMSE."""
    return median(v[0] for v in values), median(v[1] for v in values)


def geometric(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    mae, rmse = np.exp(np.log(values).mean(axis=0))
    return float(mae), float(rmse)


def show(value: tuple[float, float]) -> str:
    return f"{value[0]:.3f}/{value[1]:.3f}"


def one_step(runs: dict[Stream, Callable[[int], Outcome]], seeds: int, barred: bool) -> bool:
    """Table of the streams one step ahead; whether every bar holds."""
    print(f"{'stream':26s} {'series':>6s} {'score':>12s} {'seasonal':>12s} {'µs/event':>9s}  each target's MAE, RMSE")
    scores: list[list[tuple[float, float]]] = []
    holds = True
    for stream, run in runs.items():
        outcomes = [run(seed) for seed in range(seeds)]
        mine = [o.ours[0] for o in outcomes]
        scores.append(mine)
        seasonal = show(outcomes[0].seasonal[0]) if outcomes[0].seasonal else "-"
        errors = ", ".join(f"{t} {mae:.4g} {rmse:.4g}" for t, mae, rmse in outcomes[0].errors[:3])
        word = verdict(middle(mine), STREAM_BAR) if barred else ""
        holds &= word != "MISS"
        more = " …" if len(outcomes[0].errors) > 3 else ""
        print(f"{stream.name:26s} {outcomes[0].series:6d} {show(middle(mine)):>12s} {seasonal:>12s} "
              f"{min(o.us for o in outcomes):9.1f}  {errors}{more} {word}", flush=True)  # fmt: skip
    each = [geometric(seed) for seed in zip(*scores, strict=True)]
    total = middle(each)
    word = verdict(total, GM_BAR) if barred else ""
    spread = f", over {seeds} seeds {min(each)[0]:.4f} … {max(each)[0]:.4f}" if seeds > 1 else ""
    print(f"{'geometric mean':26s} {'':6s} {total[0]:.4f}/{total[1]:.4f}{spread}")
    if barred:
        print(f"bars: geometric mean {show(GM_BAR)} {word}; streams {show(STREAM_BAR)} {'ok' if holds else 'MISS'}")
    return holds and word != "MISS"


def ahead(runs: dict[Stream, Callable[[int], Outcome]], seeds: int, horizon: int) -> bool:
    """Table by step ahead; whether ours is below both naive ones at every step."""
    holds = True
    for stream, run in runs.items():
        outcomes = [run(seed) for seed in range(seeds)]
        print(f"{stream.name}, {outcomes[0].us:.1f} µs/event: error / the last value's and / the season's, MAE/RMSE")
        for i in range(horizon):
            mine = middle([o.ours[i] for o in outcomes])
            line, below = f"  {i + 1:3d} ahead   last value {show(mine)}", [mine]
            if outcomes[0].seasonal:
                theirs = outcomes[0].seasonal[i]
                below.append((mine[0] / theirs[0], mine[1] / theirs[1]))
                line += f"   season {show(below[1])}"
            good = all(max(b) < 1 for b in below)
            holds &= good
            print(line, "ok" if good else "MISS", flush=True)
    return holds


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("STREAM_RNN_DATA") or default))
    parser.add_argument("--target", action="append", help="of each CSV file that has these columns (repeatable)")
    parser.add_argument("--key")
    parser.add_argument("--time", default=None)
    parser.add_argument("--season", type=int, default=0, help="events in a season, for the seasonal naive")
    parser.add_argument("--horizon", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="the median of so many")
    parser.add_argument("--only", help="streams whose name holds this text; several with commas")
    parser.add_argument("--limit", type=int, help="only so many events of each stream")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the Forecaster: k1=8")
    args = parser.parse_args()

    files = sorted(args.folder.glob("*.csv")) if args.folder.is_dir() else []
    if args.target:
        wanted = {*args.target, *filter(None, (args.key, args.time))}
        with_it = [f for f in files if wanted <= set(FileSource(f).columns or ())]
        streams = [Stream(f.name, tuple(args.target), args.key, args.time, args.season) for f in with_it]
    else:
        streams = [s for s in EIGHT if s.file in {f.name for f in files}]
    parts = args.only.split(",") if args.only else list(AHEAD) if args.horizon > 1 and not args.target else [""]
    streams = [s for s in streams if any(part in s.name for part in parts)]
    if not streams:
        print(f"quality: skipped, {args.folder} holds none of the streams; name a folder, or set STREAM_RNN_DATA")
        return 0
    settings = {name: _value(text) for name, _, text in (pair.partition("=") for pair in args.set)}

    def runner(stream: Stream) -> Callable[[int], Outcome]:
        events = read(args.folder / stream.file, stream, args.limit)
        return lambda seed: evaluate(stream, events, args.horizon, **({"seed": seed} | settings))

    Forecaster("x", horizon=args.horizon, **settings).step({"x": 1.0})  # compiled before anything is timed
    runs = {s: runner(s) for s in streams}
    if args.horizon > 1:
        holds = ahead(runs, args.seeds, args.horizon)
    else:
        holds = one_step(runs, args.seeds, barred=len(streams) == len(EIGHT) and not args.target and args.limit is None)
    return 0 if holds else 1


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    sys.exit(main())
