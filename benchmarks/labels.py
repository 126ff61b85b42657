"""Classification on a file, prequential: ours beside river's, all in one run. Each event is predicted, then learnt.

    python benchmarks/labels.py elec2.csv --target class

river's models get the numeric columns and, as ours does by itself, the clock and the last label; their settings are
their documented defaults. The adaptive random forest takes milliseconds an event: the first --forest-rows only, where
the others are shown besides.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_rnn import Classifier
from stream_rnn.codec import number_or_text
from stream_rnn.fields import moment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--target", default="class")
    parser.add_argument("--time", default="time")
    parser.add_argument("--forest-rows", type=int, default=12_000)
    args = parser.parse_args()
    with args.file.open(newline="") as file:
        rows = [{n: number_or_text(v) for n, v in row.items()} for row in csv.DictReader(file)]
    scores = {"stream-rnn": ours(rows, args)}
    xs, ys = features(rows, args)
    for name, (make, n) in rivals(len(rows), args.forest_rows).items():
        scores[name] = theirs(xs[:n], ys[:n], make())
    few = args.forest_rows
    print(f"{'':36s} {'rows':>7s} {'log loss':>9s} {'accuracy':>9s} {'µs/event':>9s}")
    for name, (chances, us) in scores.items():
        for n in dict.fromkeys((len(chances), min(few, len(chances)))):
            loss, right = score(chances[:n], ys[:n])
            print(f"{name:36s} {n:7,d} {loss:9.4f} {right:9.4f} {us:9.1f}")


def ours(rows: list[dict[str, Any]], args: argparse.Namespace) -> tuple[list[dict[Any, float]], float]:
    """Chances before each event, and CPU microseconds an event."""
    model = Classifier(args.target, time=args.time)
    Classifier(args.target, time=args.time).step_many(rows[:10])  # compile
    start = time.process_time()
    said = [p for i in range(0, len(rows), 1024) for p in model.step_many(rows[i : i + 1024])]
    used = time.process_time() - start
    return [p.probabilities or {} for p in said], 1e6 * used / len(rows)


def theirs(xs: list[dict[str, float]], ys: list[Any], model: Any) -> tuple[list[dict[Any, float]], float]:
    """The same of a river model."""
    chances = []
    start = time.process_time()
    for x, y in zip(xs, ys, strict=True):
        chances.append(model.predict_proba_one(x))
        model.learn_one(x, y)
    return chances, 1e6 * (time.process_time() - start) / len(xs)


def features(rows: list[dict[str, Any]], args: argparse.Namespace) -> tuple[list[dict[str, float]], list[Any]]:
    """What river's models get: numbers, time of day and week, the last label."""
    xs, ys, last = [], [], 0.0
    classes: dict[Any, int] = {}
    for row in rows:
        x = {n: float(v) for n, v in row.items() if n not in (args.target, args.time) and isinstance(v, (int, float))}
        t = moment(row.get(args.time))
        if not math.isnan(t):
            day, week = 2 * math.pi * (t % 86400) / 86400, 2 * math.pi * (t % 604800) / 604800
            x |= {"sin": math.sin(day), "cos": math.cos(day), "sin7": math.sin(week), "cos7": math.cos(week)}
        xs.append(x | {"last": last})
        ys.append(row[args.target])
        last = 2.0 * classes.setdefault(row[args.target], len(classes)) - 1.0
    return xs, ys


def rivals(n: int, few: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Name → what makes it, rows."""
    from river import forest, linear_model, preprocessing, tree

    return {
        "river LogisticRegression": (lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), n),
        "river HoeffdingAdaptiveTree": (lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=1), n),
        "river ARFClassifier, 10 trees": (lambda: forest.ARFClassifier(n_models=10, seed=1), few),
    }


def score(chances: list[dict[Any, float]], ys: list[Any]) -> tuple[float, float]:
    """Log loss (probabilities of at least 0.001, which helps river's) and accuracy, from the second event on."""
    loss = right = 0.0
    for p, y in zip(chances[1:], ys[1:], strict=True):
        loss -= math.log(min(max(p.get(y, 0.0), 1e-3), 1 - 1e-3))
        right += bool(p) and max(p, key=p.__getitem__) == y
    return loss / (len(ys) - 1), right / (len(ys) - 1)


if __name__ == "__main__":
    main()
