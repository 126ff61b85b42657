"""The bare Learner: numbers in, numbers out. A GRU learns to recall what it was told six steps before.

Run it: python examples/recall.py
"""

import numpy as np

from stream_rnn import Learner

LAG = 6
rng = np.random.default_rng(0)
X = rng.normal(size=(40_000, 1))
Y = np.concatenate([np.full(LAG, np.nan), X[:-LAG, 0]])  # NaN: no label yet

for k2 in (2, 12):  # the gradient has to reach back as far as the memory that is wanted
    learner = Learner(inputs=1, hidden=32, k1=1, k2=k2, lr=3e-3)
    y_hat = learner.step_many(X, Y)[:, 0]
    error = np.mean((y_hat[-5000:] - Y[-5000:]) ** 2)
    print(f"k2 = {k2:2}: mean squared error {error:.3f} (guessing 0 gives 1)")

assert error < 0.5
