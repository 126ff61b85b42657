"""A character-level LSTM in PyTorch, learnt segment by segment with the state carried across, as an expert writes it.

What was measured fastest on one core: nn.LSTM over the whole segment, given one-hot rows by looking its first weight
matrix up (an embedding as wide as the gates, which spares the product with one-hot rows), the logits of a segment in
one product, cross_entropy, fused Adam, the state detached. A segment's forward pass makes both the predictions and
the loss, so each byte is predicted before it is learnt.
"""

from __future__ import annotations

import math

import numpy as np
import torch

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "head.weight", "head.bias")


class TorchText:
    """Bytes in, what each cost in bits out; k1 = k2 = the length of the segments that it is fed with."""

    def __init__(self, hidden: int, lr: float, clip: float = 1.0, seed: int = 0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.rnn = torch.nn.LSTM(256, hidden)
        self.head = torch.nn.Linear(hidden, 256)
        self.weights = [*self.rnn.parameters(), *self.head.parameters()]
        self.clip = clip
        self._optimizer = torch.optim.Adam(self.weights, lr=lr, fused=True)
        self._state = (torch.zeros(1, hidden), torch.zeros(1, hidden))
        self._one_hot = torch.eye(256)

    def load(self, parameters: dict[str, np.ndarray]) -> None:
        """Take weights by torch's names."""
        with torch.no_grad():
            for name, weight in zip(NAMES, self.weights, strict=True):
                weight.copy_(torch.as_tensor(parameters[name]))

    def learn(self, before: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """One segment, uint8 (k,) each: bits (k,)."""
        x, y = torch.from_numpy(before).long(), torch.from_numpy(symbols).long()
        h, state = self.rnn(self._one_hot[x], self._state)
        costs = torch.nn.functional.cross_entropy(self.head(h), y, reduction="none")
        self._state = (state[0].detach(), state[1].detach())
        self._optimizer.zero_grad(set_to_none=True)
        costs.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        self._optimizer.step()
        return costs.detach().numpy() / math.log(2)
