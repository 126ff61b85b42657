"""A cell of your own: any torch module (x, state) → (output, state), learnt online by the rule that ours are learnt by.

This one is the minimal gated unit (Zhou et al. 2016, arXiv:1603.09420), which has one gate where a GRU has two. It
learns to recall what it was told four steps before; then it is saved, loaded and exported.

Run it: python examples/custom_cell.py
"""

import numpy as np
import torch

from stream_rnn import Learner

LAG = 4


class MinimalGatedUnit(torch.nn.Module):
    """h' = h + f (tanh(U x + V (f h)) - h), f = σ(W x + R h)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate = torch.nn.Linear(inputs + hidden, hidden)
        self.new = torch.nn.Linear(inputs + hidden, hidden)

    def forward(self, x, state):
        if state is None:  # asked once, to see what a state looks like; a series begins with zeros of that shape
            state = x.new_zeros(len(x), self.hidden)
        f = torch.sigmoid(self.gate(torch.cat([x, state], 1)))
        new = torch.tanh(self.new(torch.cat([x, f * state], 1)))
        state = state + f * (new - state)
        return state, state


rng = np.random.default_rng(0)
X = rng.normal(size=(2500, 1))
Y = np.concatenate([np.full(LAG, np.nan), X[:-LAG, 0]])  # NaN: no label yet

learner = Learner(1, cell=MinimalGatedUnit, hidden=16, k1=4, k2=12, lr=1e-2)
y_hat = learner.step_many(X, Y)[:, 0]
error = np.mean((y_hat[-500:] - Y[-500:]) ** 2)
print(f"{learner}: mean squared error {error:.3f} (guessing 0 gives 1)")
assert error < 0.5

again = Learner.from_bytes(learner.to_bytes(), cell=MinimalGatedUnit)  # the cell is code, and never saved
assert again.step_many(X[:50]).tobytes() == learner.step_many(X[:50]).tobytes()
print("saved and loaded, it goes on bit for bit")

network = learner.to_torch()  # a plain module, with the weights of now
y, state = network(torch.tensor(X[:3], dtype=torch.float32))
print(f"in torch: {type(network).__name__}, ŷ {tuple(y.shape)}, state {tuple(state.shape)}")
assert y.shape == (3, 1)
