"""Warm start: learn the history that is there, keep what was learnt, and go on live as if it had never stopped.

For a daemon, `stream-rnn train history.csv --config job.toml` does the same before the first `run`.

Run it: python examples/warm_start.py
"""

import csv
import math
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stream_rnn import Forecaster


def readings(first_day: int, days: int) -> Iterator[dict[str, float]]:
    """A load curve, every half-hour: busy days and quiet weekends, and noise."""
    rng = random.Random(first_day)
    for n in range(48 * first_day, 48 * (first_day + days)):
        hour, weekend = n / 2 % 24, n // 48 % 7 >= 5
        busy = math.exp(-(((hour - 13) / 4) ** 2)) * (0.4 if weekend else 1.0)
        yield {"at": 1_704_067_200 + 1800 * n, "load": round(100 + 80 * busy + rng.gauss(0, 3), 2)}


def mean_error(model: Forecaster, events: list[dict[str, float]]) -> float:
    errors = [p.error for p in model.step_many(events) if p.error is not None]
    return sum(map(abs, errors)) / len(errors)


with tempfile.TemporaryDirectory() as folder:
    history, saved = Path(folder, "history.csv"), Path(folder, "model.bin")
    with history.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["at", "load"])
        writer.writeheader()
        writer.writerows(readings(0, 56))

    model = Forecaster("load", time="at")
    with history.open(newline="") as file:
        model.step_many([{"at": float(row["at"]), "load": float(row["load"])} for row in csv.DictReader(file)])
    model.save(saved)

    live = list(readings(56, 3))  # the next three days
    warm, cold = Forecaster.load(saved), Forecaster("load", time="at")
    errors = {"warm": mean_error(warm, live), "cold": mean_error(cold, live)}
    on = mean_error(model, live)  # the one that was never saved

print("mean error of the first three days live: " + ", ".join(f"{name} {e:.2f}" for name, e in errors.items()))
print(f"saved and loaded or not, the error is the same to the last bit: {errors['warm'] == on}")
assert errors["warm"] < 0.8 * errors["cold"]
assert errors["warm"] == on
