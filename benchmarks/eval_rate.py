"""How fast `stream-rnn eval` goes through a CSV, beside river's linear regression on the same file.

    python benchmarks/eval_rate.py [FILE --target NAME]

Ours: the command's own code, reading included, GRU H=32, k1 = 8, the other settings as they come. river:
`StandardScaler | LinearRegression` under `progressive_val_score`, `stream.iter_csv` with float converters, on
the same columns. One process, one thread, alternating runs, CPU time (a busy machine changes it less); each run
begins with a new model; compiling is left out.
Without FILE a stream of one target and three features is generated.
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5
BAR = 2.0


def generate(path: Path, rows: int) -> str:
    """A daily rhythm, noise and three inputs that matter a little, every five minutes; the target's name."""
    rng = random.Random(1)
    value = 0.0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "pressure", "flow", "load", "temperature"])
        for n in range(rows):
            inputs = [rng.gauss(0.0, 1.0) for _ in range(3)]
            value = 0.9 * value + 0.2 * inputs[0] + math.sin(n / 288 * 2 * math.pi) + rng.gauss(0.0, 0.3)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_600_000_000 + 300 * n))
            writer.writerow([stamp, *(f"{v:.4f}" for v in inputs), f"{value:.4f}"])
    return "temperature"


def ours(path: Path, target: str, k1: int) -> tuple[float, int, float]:
    """Seconds, events and MAE of one evaluation."""
    from stream_rnn.cli import parser
    from stream_rnn.eval_request import prepare
    from stream_rnn.evaluate import evaluate

    args = parser().parse_args(["eval", str(path), "--target", target, "--set", f"model.k1={k1}", "--quiet"])
    start = time.process_time()
    run, _ = evaluate(prepare(args), path.name, quiet=True)
    return time.process_time() - start, run.events, run.scores.summary()["mae"]


def rivers(path: Path, target: str) -> tuple[float, float]:
    """Seconds and MAE of river's pipeline over the file."""
    from river import evaluate, linear_model, metrics, preprocessing, stream

    columns = numeric_columns(path)
    drop = [c for c in header(path) if c not in columns]
    start = time.process_time()
    rows = stream.iter_csv(str(path), target=target, converters=dict.fromkeys(columns, float), drop=drop)
    metric = evaluate.progressive_val_score(
        rows, preprocessing.StandardScaler() | linear_model.LinearRegression(), metrics.MAE()
    )
    return time.process_time() - start, metric.get()


def header(path: Path) -> list[str]:
    """The CSV's column names."""
    with path.open(newline="") as file:
        return next(csv.reader(file))


def numeric_columns(path: Path) -> list[str]:
    """The columns whose first value is a number."""
    with path.open(newline="") as file:
        first = next(csv.DictReader(file))
    return [name for name, value in first.items() if is_number(value)]


def is_number(text: str) -> bool:
    """Whether float() takes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def main() -> int:
    """Print the table; exit 1 below the bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", nargs="?", type=Path)
    options.add_argument("--target")
    options.add_argument("--rows", type=int, default=100_000)
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "generated.csv"
        target = args.target or generate(path, args.rows)
        ours(path, target, 8)  # compiles, or loads what is compiled
        ratios, times, river_times = [], {8: [], 1: []}, []
        for _ in range(RUNS):
            river_s, river_mae = rivers(path, target)
            river_times.append(river_s)
            for k1, spent in times.items():
                seconds, events, mae = ours(path, target, k1)
                spent.append(seconds)
                if k1 == 8:
                    ratios.append(river_s / seconds)
                    our_mae = mae
    print(f"{path.name}: {events:,} events, target {target}; median of {RUNS} runs; Python {platform.python_version()}")
    each = [("stream-rnn eval, k1 = 8", times[8]), ("stream-rnn eval, k1 = 1 (default)", times[1])]
    for name, spent in [*each, ("river StandardScaler | LinearRegression", river_times)]:
        micro = sorted(1e6 * s / events for s in spent)
        rate = 1e6 / statistics.median(micro)
        print(f"{name:<42} {statistics.median(micro):6.2f} µs/event ({micro[0]:.2f} to {micro[-1]:.2f}) {rate:9,.0f}/s")
    ratio = statistics.median(ratios)
    print(f"river / stream-rnn at k1 = 8: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); bar: {BAR}")
    print(f"MAE: stream-rnn {our_mae:.4g}, river {river_mae:.4g} (a linear regression on the row's other columns)")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
