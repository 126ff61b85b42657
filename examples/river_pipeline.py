"""Our Forecaster among river's: the same loop, its metrics, and one of its own models beside it.

Run it: python examples/river_pipeline.py
"""

import math
import random

from river import metrics, stats, time_series

from stream_rnn.river import Forecaster


def readings():
    """A tide of 12.4 hours over a daily swing, every half an hour for a month, with noise."""
    rng = random.Random(1)
    for step in range(48 * 30):
        hours = step / 2
        tide, day = 2 * math.sin(2 * math.pi * hours / 12.4), math.cos(2 * math.pi * hours / 24)
        yield {"at": 1.7e9 + 1800 * step}, 5 + tide + day + rng.gauss(0, 0.1)


models = {
    "stream_rnn": Forecaster(horizon=6, time="at"),
    "river's Holt-Winters": time_series.HoltWinters(alpha=0.5, beta=0.1),
}
errors = {name: metrics.MAE() for name in ("last value", *models)}
last = stats.Shift(0)
told = {name: [] for name in errors}  # forecasts of three hours ahead
for x, y in readings():
    for name, forecasts in told.items():
        if len(forecasts) > 100 and forecasts[-6] is not None:
            errors[name].update(y, forecasts[-6])
    last.update(y)
    told["last value"].append(last.get())
    for name, model in models.items():
        if isinstance(model, Forecaster):
            model.learn_one(y, x)
        else:
            model.learn_one(y)
        told[name].append(model.forecast(6)[-1] if len(told[name]) > 20 else None)

for name, error in errors.items():
    print(f"three hours ahead, {name:20} mean error {error.get():.3f}")
assert errors["stream_rnn"].get() < 0.5 * min(errors["last value"].get(), errors["river's Holt-Winters"].get())
