"""Are strange stretches found, and how often is there a false alarm? Anomalies planted in streams, at one budget.

    python benchmarks/anomalies.py [FOLDER]                    # real streams, where there are any, and made ones
    python benchmarks/anomalies.py --made                      # made ones alone
    python benchmarks/anomalies.py [FOLDER] --nab LABELS.json  # NAB's score on those of its files that FOLDER holds

FOLDER: else $STREAM_RNN_DATA, else ../shared/data beside this repository (see quality.py). Every key and target is a
stream of its own here, and goes through Forecaster.step_many with its default settings: nothing is set for a stream.

Planted, each within the range of the four weeks before it, one in two weeks after the first quarter of a stream (in a
stream with a daily rhythm five kinds in turn, else the first three):
    flat    the value stays as it is for two days
    loud    noise of twice a usual step is added for two days
    calm    swings around the day's mean are a fifth as large for two days
    shift   two days are those of eight hours before
    peak    the day's highest two fifths are missing: cut to a low value of that day
Found: an alert within the first day of it (for a peak, of its end). False: any alert that is not within one, or a day
after it. Clean: alerts a week in the stream as it is, which in a real one has anomalies of its own. Bars: 80 % found,
false alarms at most twice the budget in streams with trend or season, on each half of the streams (every other one):
the rule's constants were chosen by the sum over both, so neither half owns them.

NAB (Lavin & Ahmad 2015, arXiv:1510.03336): the standard profile, one threshold of `anomaly` for all files. LABELS.json
is its labels/combined_windows.json. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality import EIGHT
from quality_runs import read

from stream_rnn.fields import moment, number
from stream_rnn.model import Forecaster

Floats = NDArray[np.float64]
Series = tuple[str, Floats, Floats]  # name, times, values
Planted = tuple[str, int, int]  # kind, first row, row after the last

DAY = 86_400.0
BUDGET, WEEK = "1/week", 7.0
FOUND, FALSE = 0.8, 2.0
BLOCK = 4096

NAB_FILES = {  # ours → NAB's folder
    "nab_nyc_taxi": "realKnownCause/nyc_taxi",
    "nab_machine_temperature": "realKnownCause/machine_temperature_system_failure",
    "nab_aws_cpu_keys": "realAWSCloudwatch/", "nab_traffic_keys": "realTraffic/",
}  # fmt: skip
PROFILES = {"standard": (0.11, 1.0), "low FP": (0.22, 1.0), "low FN": (0.11, 2.0)}


# Streams ---------------------------------------------------------------------------------------------


def real(folder: Path) -> Iterator[Series]:
    """Each key and target of quality.py's streams that are there."""
    for stream in EIGHT:
        if not (folder / stream.file).exists():
            continue
        events = read(folder / stream.file, stream, None)
        by_key: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for event in events:
            by_key[event[stream.key] if stream.key else ""].append(event)
        targets = (stream.target,) if isinstance(stream.target, str) else stream.target
        for key, mine in by_key.items():
            time = np.array([moment(e[stream.time]) for e in mine])
            for target in targets:
                name = "/".join(filter(None, (stream.name, str(key), target if len(targets) > 1 else "")))
                yield name, time, np.array([number(e.get(target)) for e in mine])


def made(seed: int = 0) -> Iterator[Series]:
    """A season, a trend with one, a random walk, noise and counts, every hour to every five minutes."""
    for i, (step, n) in enumerate([(3600.0, 8760), (1800.0, 12_000), (600.0, 15_000), (300.0, 20_000)]):
        rng = np.random.default_rng(100 * seed + i)
        time = 1.6e9 + step * np.arange(n)
        days = time / DAY
        day = np.sin(2 * np.pi * days) + 0.4 * np.sin(4 * np.pi * days + 1)
        memory, z = np.zeros(n), rng.normal(size=n)
        for k in range(1, n):
            memory[k] = 0.9 * memory[k - 1] + z[k]
        week = 0.7 * (np.floor(days) % 7 < 5)
        name = f"made, {step / 60:g} min"
        yield f"{name}, season", time, 10 + 3 * day + week + 0.3 * memory
        yield f"{name}, trend", time, 0.02 * np.arange(n) * step / 3600 + 2 * day + 0.5 * rng.normal(size=n)
        yield f"{name}, walk", time, np.cumsum(rng.normal(size=n))
        yield f"{name}, noise", time, 5 + rng.normal(size=n)
        yield f"{name}, counts", time, rng.poisson(np.exp(2 + day)).astype(float)


def a_day(time: Floats) -> int:
    """Events in one."""
    return round(DAY / float(np.median(np.diff(time))))


def smooth(x: Floats, n: int) -> Floats:
    """The mean of the n values around each, those that are missing left out."""
    known = ~np.isnan(x)
    total, count = (np.concatenate([[0.0], np.cumsum(v)]) for v in (np.where(known, x, 0.0), known))
    at = np.arange(len(x))
    a, b = np.maximum(at - n // 2, 0), np.minimum(at - n // 2 + n, len(x))
    return (total[b] - total[a]) / np.maximum(count[b] - count[a], 1)


def rhythm(time: Floats, x: Floats) -> float:
    """How much of the variance around three days' mean is the hour of the day's."""
    y = x - smooth(x, 3 * a_day(time))
    hour = (time % DAY // 3600).astype(int)
    mean = np.array([np.nanmean(y[hour == h]) if (hour == h).any() else 0.0 for h in range(24)])
    return float(np.nanvar(mean[hour]) / np.nanvar(y))


def plant(time: Floats, x: Floats, seed: int = 0) -> tuple[Floats, list[Planted]]:
    """The stream with anomalies in it."""
    rng = np.random.default_rng(seed)
    x, n, day = x.copy(), len(x), a_day(time)
    kinds = ["flat", "loud", "calm", *(["shift", "peak"] if rhythm(time, x) > 0.3 else [])]
    plan: list[Planted] = []
    at = max(n // 4, 14 * day)
    while at + 4 * day < n:
        kind = kinds[(len(plan) + seed) % len(kinds)]
        a = at + int(rng.integers(0, 2 * day))
        b = a + 2 * day
        if b >= n:
            break
        if np.isnan(x[a - day : b]).mean() > 0.2 or math.isnan(x[a]):
            at += 2 * day
            continue
        month = x[max(0, a - 28 * day) : a]
        low, high = np.nanmin(month), np.nanmax(month)
        if kind == "flat":
            x[a:b] = x[a]
        elif kind == "loud":
            noise = 2 * np.nanmean(np.abs(np.diff(month))) * rng.normal(size=b - a)
            x[a:b] = np.clip(x[a:b] + noise, low, high)
        elif kind == "calm":
            middle = smooth(x, day)[a:b]
            x[a:b] = middle + 0.2 * (x[a:b] - middle)
        elif kind == "shift":
            x[a:b] = x[a - day // 3 : b - day // 3].copy()
        else:
            today = x[a : a + day]
            top = a + int(np.nanargmax(today))
            a, b = max(top - day // 5, 1), min(top + day // 5, n - 1)
            base = np.nanquantile(today, 0.3)
            x[a:b] = np.minimum(x[a:b], base + 0.1 * (x[a:b] - base))
        plan.append((kind, a, b))
        at += 14 * day
    return x, plan


# Judging ---------------------------------------------------------------------------------------------


def judge(time: Floats, x: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """(alerts, anomaly) of the default model."""
    model = Forecaster("x", time="t", alert_budget=BUDGET)
    events = [{"t": t, "x": None if math.isnan(v) else v} for t, v in zip(time.tolist(), x.tolist(), strict=True)]
    out: list[Any] = []
    for start in range(0, len(events), BLOCK):
        out += model.step_many(events[start : start + BLOCK])
    return np.array([bool(p.alert) for p in out]), np.array([p.anomaly or 0.0 for p in out])


def planted(series: list[Series]) -> bool:
    """The table; whether the bars hold."""
    rows: list[tuple[str, int, int, float, float]] = []
    kinds: dict[str, list[bool]] = defaultdict(list)
    print(f"{'stream':<44} {'clean':>6} {'false':>6} {'found':>9}    alerts a week at a budget of {BUDGET}")
    for name, time, x in series:
        day = a_day(time)
        y, plan = plant(time, x)
        if not plan:
            continue
        alerts, _ = judge(time, x)
        clean = alerts.sum() / (len(x) / day / WEEK)
        alerts, _ = judge(time, y)
        within = np.zeros(len(x), bool)
        hits = 0
        for kind, a, b in plan:
            found = bool(alerts[a : a + day + (b - a if kind == "peak" else 0)].any())
            kinds[kind].append(found)
            hits += found
            within[a : b + day] = True
        false = alerts[~within].sum() / ((~within).sum() / day / WEEK)
        rows.append((name, hits, len(plan), float(false), float(clean)))
        print(f"{name:<44} {clean:6.2f} {false:6.2f} {hits:4d}/{len(plan):<4d}", flush=True)
    print("found by kind:", ", ".join(f"{k} {sum(v)}/{len(v)}" for k, v in kinds.items()))
    good = True
    for title, some in (("all", rows), ("one half", rows[::2]), ("the other", rows[1::2])):
        share = sum(r[1] for r in some) / sum(r[2] for r in some)
        by_stream = float(np.mean([r[1] / r[2] for r in some]))
        false, worst = float(np.mean([r[3] for r in some])), max(max(r[3], r[4]) for r in some)
        ok = share >= FOUND and worst <= FALSE
        good &= ok
        print(f"{title:<10} found {share:.1%} (mean of streams {by_stream:.1%}), false alarms {false:.2f} a week, "
              f"most in any stream {worst:.2f}: {'ok' if ok else 'MISS'}")  # fmt: skip
    return good


# NAB -------------------------------------------------------------------------------------------------


def nab(folder: Path, labels: Path) -> bool:
    """NAB's score over the files there are, at the best threshold for all; and at one half's threshold on the other."""
    windows = json.loads(labels.read_text())
    files: list[list[tuple[float, float, Any]]] = []
    for name, time, x in real(folder):
        stream, _, key = name.partition("/")
        if stream not in NAB_FILES or key.count("/"):
            continue
        file = f"{NAB_FILES[stream]}{key}.csv"
        _, anomaly = judge(time, x)
        files.append(points(file, time, anomaly, windows[file]))
    if not files:
        print(f"NAB: {folder} holds none of its files")
        return True
    for profile, (fp, fn) in PROFILES.items():
        best, threshold = score([p for f in files for p in f], fp, fn)
        print(f"NAB, {profile}: {best:.1f} on {len(files)} of 58 files, threshold {threshold:.3f}")
    for title, here, there in (("one half", files[::2], files[1::2]), ("the other", files[1::2], files[::2])):
        _, threshold = score([p for f in here for p in f], *PROFILES["standard"])
        other, _ = score([p for f in there for p in f], *PROFILES["standard"], threshold)
        print(f"NAB, standard, threshold of {title} on the rest: {other:.1f}")
    return True


def points(file: str, time: Floats, anomaly: Floats, windows: list[list[str]]) -> list[tuple[float, float, Any]]:
    """(score, what it is worth, window or None) of the rows after NAB's probation."""
    ends = [tuple(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp() for t in w) for w in windows]
    places = [(int(np.searchsorted(time, a)), int(np.searchsorted(time, b, side="right")) - 1) for a, b in ends]
    out = []
    for i in range(int(min(0.15 * len(time), 750)), len(time)):
        inside = next((w for w, (a, b) in enumerate(places) if a <= i <= b), None)
        if inside is not None:
            a, b = places[inside]
            out.append((float(anomaly[i]), sigmoid(-(b - i + 1) / (b - a + 1)) / sigmoid(-1.0), (file, inside)))
            continue
        before = [place for place in places if place[1] < i]
        past = (i - before[-1][1]) / max(before[-1][1] - before[-1][0], 1) if before else 3.0
        out.append((float(anomaly[i]), sigmoid(past) if past < 3.0 else -1.0, None))
    return out


def sigmoid(x: float) -> float:
    """NAB's, from 1 through 0 to -1."""
    return 2.0 / (1.0 + math.exp(5.0 * x)) - 1.0


def score(
    rows: list[tuple[float, float, Any]], fp: float, fn: float, fixed: float | None = None
) -> tuple[float, float]:
    """(0 for silence … 100, threshold): at the best threshold, or at a fixed one."""
    found = {window: -fn for _, _, window in rows if window is not None}
    total = null = sum(found.values())
    best, threshold, last = null, 1.1, math.inf
    for s, worth, window in sorted(rows, key=lambda r: -r[0]):
        if fixed is not None and s < fixed:
            break
        if s != last and fixed is None and total > best:
            best, threshold = total, last
        last = s
        if window is None:
            total += fp * worth
        elif worth > found[window]:
            total += worth - found[window]
            found[window] = worth
    if fixed is not None:
        best = total
    return 100.0 * (best - null) / (len(found) - null), threshold if fixed is None else fixed


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(os.environ.get("STREAM_RNN_DATA") or default))
    parser.add_argument("--made", action="store_true", help="made streams alone")
    parser.add_argument("--only", default="", help="streams whose name holds this text")
    parser.add_argument("--nab", type=Path, metavar="LABELS.json", help="NAB's score instead")
    args = parser.parse_args()
    if args.nab:
        return 0 if nab(args.folder, args.nab) else 1
    series = [s for s in [*([] if args.made else real(args.folder)), *made()] if args.only in s[0]]
    return 0 if planted(series) else 1


if __name__ == "__main__":
    sys.exit(main())
