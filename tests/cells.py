"""Cells of a user's own, for tests of the torch backend; batches and single vectors alike."""

from __future__ import annotations

import torch
from torch import nn


class Gated(nn.Module):
    """h' = h + σ(gate) (tanh(new) - h), both of (x, h); no library has it."""

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate, self.new = (nn.Linear(inputs + hidden, hidden, dtype=dtype) for _ in range(2))

    def forward(self, x, state):
        if state is None:
            state = x.new_zeros(*x.shape[:-1], self.hidden)
        both = torch.cat([x, state], -1)
        state = state + torch.sigmoid(self.gate(both)) * (torch.tanh(self.new(both)) - state)
        return state, state


class GatedAlone(Gated):
    """The same as the oracle calls its cells: the state comes back alone."""

    def forward(self, x, state):
        return super().forward(x, state)[1]


class Delay(nn.Module):
    """An LSTM with a read-out narrower than its state, and the last two inputs beside: a state of two shapes."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTMCell(2 * inputs, hidden), nn.Linear(hidden, 3)

    def forward(self, x, state):
        if state is None:
            state = [x.new_zeros(len(x), self.lstm.hidden_size), x.new_zeros(len(x), self.lstm.hidden_size), x[:, None]]
        h, c = self.lstm(torch.cat([x, state[2][:, 0]], 1), (state[0], state[1]))
        return torch.relu(self.out(h)), [h, c, x[:, None]]


class Embedded(nn.Module):
    """For class inputs: x is (batch,) int64."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.table, self.cell = nn.Embedding(inputs, 5), nn.GRUCell(5, hidden)

    def forward(self, x, state):
        state = self.cell(self.table(x), state)
        return state, state


class Reservoir(nn.Module):
    """An echo state: frozen random recurrence in a buffer and a frozen parameter; only the read-out learns."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("W", 0.1 * torch.randn(hidden, hidden))
        self.V = nn.Parameter(torch.randn(hidden, inputs), requires_grad=False)

    def forward(self, x, state):
        state = x.new_zeros(len(x), len(self.W)) if state is None else state
        state = torch.tanh(x @ self.V.T + state @ self.W.T)
        return state, state
