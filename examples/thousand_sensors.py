"""A thousand sensors, one network: every sensor has a state and a scale of its own, and all share what is learnt.

Run it: python examples/thousand_sensors.py
"""

import math
import random
import time

from stream_rnn import Forecaster

SENSORS, READINGS = 1000, 60
rng = random.Random(0)
level = [rng.uniform(-50, 50) for _ in range(SENSORS)]  # each its own height, size, rhythm and phase
size = [10 ** rng.uniform(-1, 2) for _ in range(SENSORS)]
phase = [rng.uniform(0, 2 * math.pi) for _ in range(SENSORS)]


def reading(i: int, n: int) -> dict[str, float]:
    value = math.sin(2 * math.pi * n / 12 + phase[i]) + rng.gauss(0, 0.1)
    return {"sensor": i, "at": 1.7e9 + 300 * n + i / 10, "value": level[i] + size[i] * value}


model = Forecaster("value", key="sensor", time="at")
Forecaster("value", key="sensor", time="at").step(reading(0, 0))  # compiles or loads the kernels: not to be counted
ours, naive, last, seconds = 0.0, 0.0, {}, 0.0
for n in range(READINGS):
    block = [reading(i, n) for i in range(SENSORS)]
    start = time.perf_counter()
    predictions = model.step_many(block)  # in blocks it is quicker, and gives the same bits
    seconds += time.perf_counter() - start
    for p in predictions:
        if n >= 40:  # each sensor has told 40 values until then: far too few to learn its rhythm from them alone
            ours += abs(p.error) / size[p.key]
            naive += abs(p.actual - last[p.key]) / size[p.key]
        last[p.key] = p.actual

kilobytes = model.keyspace.row_bytes / 1000
rate = SENSORS * READINGS / seconds
print(f"{len(model.keyspace):,} sensors, {kilobytes:.1f} KB each, {rate:,.0f} readings a second")
print(f"error of the readings from the 40th on: {ours / naive:.2f} of that of 'same as last time'")
assert len(model.keyspace) == SENSORS
assert kilobytes < 30
assert ours < 0.6 * naive
