"""How well the Forecaster forecasts real streams, beside the last value, the value a season ago and other libraries.

    python benchmarks/quality.py [FOLDER]                      # the eight streams, one step ahead, with the bars
    python benchmarks/quality.py [FOLDER] --set kind=rnn       # the network alone
    python benchmarks/quality.py --held-out                    # streams that the default was not made with
    python benchmarks/quality.py [FOLDER] --ablation           # what each expert is for
    python benchmarks/quality.py [FOLDER] --horizon 12         # ETTh1 and nyc_taxi, 1 to 12 steps ahead
    python benchmarks/quality.py FOLDER --target load [--key meter] [--time at]    # your own CSV files

FOLDER: else $STREAM_RNN_DATA, else ../shared/data beside this repository. The streams are public (facts and licences
in the guide) but some must not be passed on, so none is in the repository: where there are none, this says so and ends.

Prequential: each event is forecast, scored, then learnt from, the cold start included; events go through
Forecaster.step_many, in blocks, as everywhere else. Score: error / the last value's error for each key × target with
30 pairs or more, their geometric mean in a stream, then over streams, written MAE/RMSE; below 1 is better than the
last value. µs: of the quickest block, one core, all of Forecaster.step_many. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import quality_held_out
import quality_rivals
from quality_runs import COLD, Floats, Run, Score, Stream, cold, geometric, intervals, read, run, series

from stream_rnn.connectors.file import FileSource
from stream_rnn.experts import NAMES
from stream_rnn.model import Forecaster
from stream_rnn.records import Event

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

RNN_BARS = {"geometric mean": (0.69, 0.70), "worst stream": (0.93, 0.94)}
# what must hold, and what to reach for
BARS: dict[str, tuple[Score, Score]] = {
    "geometric mean": ((0.610, 0.633), (0.595, 0.62)),
    "worst stream against its best baseline": ((1.0, 1.0), (0.98, 0.98)),
    "worst series, MAE": ((1.02, math.inf), (1.0, math.inf)),
    f"first {COLD} events of a key": ((0.84, 0.84), (0.80, 0.80)),
    "µs an event, one target": ((25.0, math.inf), (12.0, math.inf)),
    "state a key, KB": ((24.0, math.inf), (12.0, math.inf)),
    "mean Winkler score": ((4.7, math.inf), (4.7, math.inf)),
}
COVERAGE, LEAST_COVERAGE = (0.89, 0.91), 0.83  # of 90 % intervals: of every stream, and of any 250 events on average

LINEAR = tuple(name for name in NAMES if name not in ("network", "read-out"))
Runs = dict[Stream, Callable[..., Run]]


def middle(values: Sequence[Score]) -> Score:
    """Median over seeds, of MAE and of RMSE."""
    return median(v[0] for v in values), median(v[1] for v in values)


def show(value: Score) -> str:
    return "/".join(f"{v:.3f}" if v < 100 else "> 99" for v in value)


def below(value: Score, bar: Score) -> bool:
    return value[0] <= bar[0] and value[1] <= bar[1]


def baselines(stream: Stream, one: Run, runs: Callable[..., Run], rivals: bool) -> dict[str, list[Score]]:
    """Scores of a stream's series by the others, and by the mixture without its network."""
    others: dict[str, Callable[[], quality_rivals.Rival]] = {}
    if stream.season:
        others["season"] = lambda: quality_rivals.Season(stream.season)
    if rivals:
        others |= quality_rivals.RIVALS
    scores = {name: series(one, quality_rivals.said(one, make)) for name, make in others.items()}
    scores["no network"] = series(runs(0, without=("network", "read-out")))
    return scores


def deep_river(runs: Runs) -> None:
    """Its table, where it is installed: the first events of the first series of each stream."""
    if not quality_rivals.has_deep_river():
        print("deep-river cannot be imported here: no figures of it")
        return
    theirs, ours = [], []
    for make in runs.values():
        one = make(0)
        rows = (one.slots == one.slots[0]) & (one.step <= quality_rivals.DEEP_EVENTS)
        part = Run(one.slots[rows], one.step[rows], one.time[rows], one.actual[rows, :1], one.said[rows, :1],
                   one.last[rows, :1], one.told[rows, :1])  # fmt: skip
        theirs += series(part, quality_rivals.said(part, quality_rivals.deep_river))
        ours += series(part)
    print(f"deep-river's RollingRegressor, first {quality_rivals.DEEP_EVENTS} events of each stream's first series: "
          f"mean {show(geometric(theirs))}, median {show(middle(theirs))}; ours {show(geometric(ours))}")  # fmt: skip


def one_step(runs: Runs, seeds: int, rivals: bool, alone: bool) -> dict[str, Any]:
    """Table of the streams one step ahead; the figures that have bars. alone: the network without a mixture."""
    names = ["season", *(quality_rivals.RIVALS if rivals else ()), *(() if alone else ("no network",))]
    heads = " ".join(f"{name:>12s}" for name in names)
    print(f"{'stream':24s} {'series':>6s} {'ours':>12s} {heads} {'/ best':>12s} {'worst':>6s} {'first 300':>12s} "
          f"{'covered':>8s} {'Winkler':>7s} {'least':>6s} {'µs':>6s}")  # fmt: skip
    scores, colds, ratios, worst = [], [], [], []
    tracked, times, state = [], {}, 0
    for stream, make in runs.items():
        each = [make(seed) for seed in range(seeds)]
        by_seed = [series(r) for r in each]
        scores.append([geometric(s) for s in by_seed])
        mine = middle(scores[-1])
        others = {} if alone else baselines(stream, each[0], make, rivals)
        best = tuple(min(1.0, *(geometric(s)[i] for s in others.values())) if others else 1.0 for i in (0, 1))
        ratios.append((mine[0] / best[0], mine[1] / best[1]))
        worst.append([max(s[0] for s in seed) for seed in by_seed])
        colds.append([geometric(c) for r in each if (c := cold(r))])
        covered, winkler, least = intervals(each[0]) if not alone else (math.nan,) * 3
        tracked.append((covered, winkler, least))
        us = min(u for r in each for u in r.us)
        if isinstance(stream.target, str):
            times[stream.name], state = us, max(state, each[0].state)
        shown = " ".join(f"{show(geometric(others[n])) if n in others else '-':>12s}" for n in names)
        first = show(middle(colds[-1])) if colds[-1] else "-"
        more = f"{median(worst[-1]):6.3f} {first:>12s} {covered:8.3f} {winkler:7.2f} {least:6.2f} {us:6.1f}"
        head = f"{stream.name:24s} {len(by_seed[0]):6d} {show(mine):>12s}"
        print(f"{head} {shown} {show(ratios[-1]):>12s} {more}", flush=True)
    total = [geometric(seed) for seed in zip(*scores, strict=True)]
    print(f"{'geometric mean':24s} {'':6s} {middle(total)[0]:.4f}/{middle(total)[1]:.4f}, over {seeds} seeds MAE "
          f"{min(t[0] for t in total):.4f} … {max(t[0] for t in total):.4f}")  # fmt: skip
    return {
        "geometric mean": middle(total),
        "worst stream": (max(middle(s)[0] for s in scores), max(middle(s)[1] for s in scores)),
        "worst stream against its best baseline": (max(r[0] for r in ratios), max(r[1] for r in ratios)),
        "worst series, MAE": (median(map(max, zip(*worst, strict=True))), 0.0),
        f"first {COLD} events of a key": geometric([middle(c) for c in colds if c]),
        "µs an event, one target": (min(times.values(), default=math.nan), 0.0),
        "state a key, KB": (state / 1000, 0.0),
        "mean Winkler score": (float(np.exp(np.log([t[1] for t in tracked]).mean())), 0.0),
        "coverage": (min(t[0] for t in tracked), max(t[0] for t in tracked)),
        "least coverage": fmean(t[2] for t in tracked if not math.isnan(t[2])) if not alone else math.nan,
    }


def judged(figures: dict[str, Any]) -> bool:
    """Print the bars; whether all that must hold does."""
    holds = True
    print(f"\n{'':40s} {'measured':>14s} {'must be below':>14s} {'reach for':>14s}")
    for name, (must, reach) in BARS.items():
        value = figures[name]
        both = math.isfinite(must[1])
        word = "ok, reached" if below(value, reach) else "ok" if below(value, must) else "MISS"
        holds &= word != "MISS"
        texts = [f"{v[0]:.3f}" + (f"/{v[1]:.3f}" if both else "") for v in (value, must, reach)]
        print(f"{name:40s} " + " ".join(f"{t:>14s}" for t in texts) + f"  {word}")
    low, high = figures["coverage"]
    inside = COVERAGE[0] <= low and high <= COVERAGE[1]
    print(f"coverage of 90 % intervals by stream: {low:.3f} … {high:.3f}, bar {COVERAGE[0]} … {COVERAGE[1]} "
          f"{'ok' if inside else 'MISS'}")  # fmt: skip
    enough = figures["least coverage"] >= LEAST_COVERAGE
    print(f"lowest coverage of any {250} events, mean: {figures['least coverage']:.3f}, bar {LEAST_COVERAGE} or more "
          f"{'ok' if enough else 'MISS'}")  # fmt: skip
    return holds and inside and enough


def ablation(sets: dict[str, Runs]) -> bool:
    """What is lost without each expert, in per cent of the geometric means, and in the worst series; does each earn 1 %
    of a mean or 0.02 of the worst series somewhere?"""

    def figures(runs: Runs, without: Sequence[str]) -> tuple[Score, Score, float]:
        passes = [make(0, without=without) for make in runs.values()]
        colds = [geometric(c) for r in passes if (c := cold(r))]
        each = [series(r) for r in passes]
        return geometric([geometric(s) for s in each]), geometric(colds), max(s[0] for scores in each for s in scores)

    whole = {name: figures(runs, ()) for name, runs in sets.items()}
    print("lost without …, % of the geometric mean MAE/RMSE, all and first 300 events; worst series' MAE")
    print(f"{'':24s} " + " ".join(f"{name:>38s}" for name in sets))
    print(f"{'nothing':24s} " + " ".join(f"{show(a):>14s} {show(c):>14s} {w:8.3f}" for a, c, w in whole.values()))
    good = True
    for without in [(name,) for name in NAMES] + [("network", "read-out"), ("usual step", "usual level")]:
        cells, most = [], 0.0
        for name, runs in sets.items():
            everything, early, worst = figures(runs, without)
            lost = [100 * (a / b - 1) for now, before in zip((everything, early), whole[name], strict=False)
                    for a, b in zip(now, before, strict=True)]  # fmt: skip
            higher = worst - whole[name][2]
            most = max(most, *lost, higher / 0.02)
            cells.append(f"{lost[0]:+6.2f}/{lost[1]:+6.2f} {lost[2]:+7.2f}/{lost[3]:+6.2f} {higher:+8.3f}")
        earns = most >= 1
        # what the network finds reaches the forecast by the read-out too, which cannot stay without it
        good &= earns or without == ("network",)
        text = " ".join(f"{c:>38s}" for c in cells) + ("  earns its place" if earns else "")
        print(f"{' and '.join(without):24s} {text}", flush=True)
    return good


def ahead(runs: Runs, seeds: int, horizon: int) -> bool:
    """Table by step ahead; whether ours is below both naive ones at every step."""
    holds = True
    for stream, make in runs.items():
        each = [make(seed) for seed in range(seeds)]
        print(f"{stream.name}, {min(u for r in each for u in r.us):.1f} µs/event: error / the last value's and / the "
              "season's, MAE/RMSE")  # fmt: skip
        theirs = _season_ahead(stream, each[0], horizon) if stream.season else None
        for i in range(1, horizon + 1):
            mine = middle([geometric(series(r, step=i)) for r in each])
            line, against = f"  {i:3d} ahead   last value {show(mine)}", [mine]
            if theirs is not None:
                season = geometric(series(each[0], theirs[:, :, i - 1], step=i))
                against.append((mine[0] / season[0], mine[1] / season[1]))
                line += f"   season {show(against[1])}"
            good = all(max(b) < 1 for b in against)
            holds &= good
            print(line, "ok" if good else "MISS", flush=True)
    return holds


def _season_ahead(stream: Stream, one: Run, horizon: int) -> Floats:
    """The value one season before each event, (N, T, H); until there is one, the last value then."""
    if horizon > stream.season:
        raise SystemExit(f"quality: a horizon of {horizon} is longer than the season of {stream.season}")
    out = one.last.copy()
    past: dict[int, list[Floats]] = {}
    for e, slot in enumerate(one.slots.tolist()):
        mine = past.setdefault(slot, [])  # mine[m]: the last value before the key's event m
        mine.append(one.last[e, :, 0])
        if len(mine) > stream.season:
            out[e] = np.where(np.isnan(mine[-stream.season]), one.last[e].T, mine[-stream.season]).T
    return out


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("STREAM_RNN_DATA") or default))
    parser.add_argument("--target", action="append", help="of every CSV file in FOLDER that has it (repeatable)")
    parser.add_argument("--key")
    parser.add_argument("--time", default=None)
    parser.add_argument("--season", type=int, default=0, help="events in a season, for the seasonal naive")
    parser.add_argument("--horizon", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="the median of so many")
    parser.add_argument("--only", help="streams whose name holds this text; several with commas")
    parser.add_argument("--limit", type=int, help="only so many events of each stream")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the Forecaster: k1=8")
    parser.add_argument("--held-out", action="store_true", help="streams that the default was not made with")
    parser.add_argument("--ablation", action="store_true", help="what each expert is for, on both sets of streams")
    parser.add_argument("--quick", action="store_true", help="without other libraries")
    args = parser.parse_args()
    settings = {name: _value(text) for name, _, text in (pair.partition("=") for pair in args.set)}
    Forecaster("x", horizon=args.horizon, **settings).step_many([{"x": 1.0}, {"x": 2.0}])  # compiled before it is timed

    def runner(stream: Stream, events: list[Event]) -> Callable[..., Run]:
        return lambda seed, without=(): run(stream, events, args.horizon, without, **({"seed": seed} | settings))

    def chosen(pairs: Any) -> Runs:
        parts = args.only.split(",") if args.only else list(AHEAD) if args.horizon > 1 and not args.target else [""]
        return {s: runner(s, load()) for s, load in pairs if any(part in s.name for part in parts)}

    held_out = chosen((s, lambda e=e: e[: args.limit]) for s, e in quality_held_out.streams()) \
        if args.held_out or args.ablation else {}  # fmt: skip
    runs = chosen((s, lambda s=s: read(args.folder / s.file, s, args.limit)) for s in _files(args))
    if args.held_out:
        runs = held_out
    if not runs and not args.ablation:
        print(f"quality: skipped, {args.folder} holds none of the streams; name a folder, or set STREAM_RNN_DATA")
        return 0
    if args.ablation:
        sets = {"the eight streams": runs, "streams held out": held_out}
        return 0 if ablation({name: r for name, r in sets.items() if r}) else 1
    if args.horizon > 1:
        return 0 if ahead(runs, args.seeds, args.horizon) else 1
    alone = settings.get("kind") == "rnn"
    barred = len(runs) == len(EIGHT) and not (args.target or args.limit or args.held_out)
    figures = one_step(runs, args.seeds, not (args.quick or alone), alone)
    if not (args.quick or alone):
        deep_river(runs)
    if not barred:
        return 0
    if not alone:
        return 0 if judged(figures) else 1
    missed = [name for name, bar in RNN_BARS.items() if not below(figures[name], bar)]
    for name, bar in RNN_BARS.items():
        print(f"the network alone, {name}: bar {show(bar)} {'MISS' if name in missed else 'ok'}")
    return 1 if missed else 0


def _files(args: argparse.Namespace) -> list[Stream]:
    """The streams that the folder holds."""
    files = sorted(args.folder.glob("*.csv")) if args.folder.is_dir() else []
    if not args.target:
        return [s for s in EIGHT if s.file in {f.name for f in files}]
    wanted = {*args.target, *filter(None, (args.key, args.time))}
    with_it = [f for f in files if wanted <= set(FileSource(f).columns or ())]
    return [Stream(f.name, tuple(args.target), args.key, args.time, args.season) for f in with_it]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    sys.exit(main())
