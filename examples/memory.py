"""Long memory: a number is told, forty others follow, and then it is asked for. What k2 has to do with it.

An update follows the error k2 events back. If that does not reach the moment of the telling, nothing can learn that the
number was worth keeping, however long it runs; if it does, a few thousand times of asking are enough.

Run it: python examples/memory.py
"""

import numpy as np

from stream_rnn import Learner

GAP, ASKED = 40, 3000
rng = np.random.default_rng(0)
X = np.zeros((ASKED, GAP + 1, 3))  # a number; 1 where it is to be kept; 1 where the kept one is asked for
X[:, :, 0] = rng.uniform(-1, 1, (ASKED, GAP + 1))
X[:, 0, 1] = X[:, GAP, 2] = 1
Y = np.full((ASKED, GAP + 1), np.nan)  # NaN: no label there
Y[:, GAP] = X[:, 0, 0]

errors = {}
for k2 in (8, 64):
    learner = Learner(inputs=3, hidden=32, cell="gru", k1=1, k2=k2, lr=3e-3, loss="huber")
    bias = learner.parameters["bias_ih"]  # update gates that keep for 1 to 80 steps: chrono initialisation
    bias[32:64] = np.log(rng.uniform(1, 2 * GAP, 32))  # (Tallec & Ollivier 2018, arXiv:1804.11188)
    learner.load_parameters({"bias_ih": bias})
    answers = learner.step_many(X.reshape(-1, 3), Y.ravel()).reshape(ASKED, GAP + 1)[:, GAP]
    late = slice(ASKED * 4 // 5, None)  # the last fifth
    errors[k2] = np.abs(answers - Y[:, GAP])[late].mean() / np.abs(Y[late, GAP]).mean()
    print(f"k2 = {k2:2}: error {errors[k2]:.3f} of that of guessing")

assert errors[8] > 0.9, "the gradient ends 32 events too early"
assert errors[64] < 0.1
