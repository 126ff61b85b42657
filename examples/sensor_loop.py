"""Embed the model in a sensor loop: every reading is forecast before it comes, then learnt from.

Run it: python examples/sensor_loop.py
"""

import math
import random
from collections.abc import Iterator

from stream_rnn import Forecaster


def readings() -> Iterator[dict[str, float | str]]:
    """Two weeks of two rooms, every ten minutes: a daily swing and noise."""
    rng = random.Random(1)
    for minute in range(0, 14 * 24 * 60, 10):
        for room, warmest in (("cellar", 15), ("attic", 14)):
            swing = 5 * math.cos(2 * math.pi * (minute / 60 - warmest) / 24)
            yield {"room": room, "at": 1.7e9 + 60 * minute, "temperature": 20 + swing + rng.gauss(0, 0.2)}


model = Forecaster("temperature", key="room", time="at")
last: dict[str, float] = {}
errors, naive = [], []
for reading in readings():
    p = model.step(reading)  # p.predicted was made before this reading, p.forecast is for the next
    if p.step > 1000:  # the second week
        errors.append(abs(p.error))
        naive.append(abs(p.actual - last[p.key]))
    last[p.key] = p.actual

mean, mean_naive = sum(errors) / len(errors), sum(naive) / len(naive)
print(f"second week: mean error {mean:.2f} °C; of 'same as last time' {mean_naive:.2f} °C")
assert mean < 0.8 * mean_naive
