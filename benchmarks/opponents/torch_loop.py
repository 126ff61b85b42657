"""TBPTT(k1, k2) in PyTorch: nn.GRU, nn.LSTM or nn.RNN, a linear head, Adam.

Two forms. `TorchLoop` keeps to torch's modules, with what was measured fastest around them: one thread, the live step
by the functional cell under no_grad (half the time of the module on a sequence of one), windows as views of the
block, only the labelled steps through the head, fused Adam. `CompiledTorchLoop` gives up nn.GRU: the cell is written
out and forward, backward, clipping and Adam are one graph for torch.compile (half a minute to compile), which spares
autograd's and the dispatcher's hundreds of small calls. Letting torch.compile trace nn.GRU itself came out between.

Both: the first k2 events only fill the window; then, after every k1-th event, the window runs again from the
detached state stored when its first step was entered, and the last k1 labels make the loss.
"""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
import torch

MODULES = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "elman": torch.nn.RNN}
CELLS = {"gru": torch.gru_cell, "lstm": torch.lstm_cell, "elman": torch.rnn_tanh_cell}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "head.weight", "head.bias")


class TorchLoop:
    """One stream, one output, squared loss."""

    def __init__(self, cell: str, inputs: int, hidden: int, k1: int, k2: int = 32, lr: float = 1e-3,
                 clip: float = 1.0, seed: int = 0) -> None:  # fmt: skip
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.cell, self.k1, self.k2, self.lr, self.clip, self.hidden = cell, k1, k2, lr, clip, hidden
        self._lstm = cell == "lstm"
        self.rnn = MODULES[cell](inputs, hidden)
        self.head = torch.nn.Linear(hidden, 1)
        self.weights = [*self.rnn.parameters(), *self.head.parameters()]  # in the order of NAMES
        self._window = torch.zeros(k2, inputs)
        self._live: Any = torch.zeros(1, hidden)
        if self._lstm:
            self._live = (self._live, self._live)
        self._starts: collections.deque[Any] = collections.deque(maxlen=k2)
        self._events = 0
        self._prepare()

    def _prepare(self) -> None:
        self._optimizer = torch.optim.Adam(self.weights, lr=self.lr, fused=True)

    def load(self, parameters: dict[str, np.ndarray]) -> None:
        """Take weights by torch's names."""
        with torch.no_grad():
            for name, weight in zip(NAMES, self.weights, strict=True):
                weight.copy_(torch.as_tensor(parameters[name]))

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of the weights by torch's names."""
        return {name: weight.detach().numpy().copy() for name, weight in zip(NAMES, self.weights, strict=True)}

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """ŷ (n,) for X (n, inputs), each before its label in Y (n, 1) is learnt; n a multiple of k1."""
        block = torch.cat((self._window, torch.from_numpy(X)))
        labels = torch.from_numpy(Y)
        cell, rnn, head = CELLS[self.cell], self.weights[:4], self.weights[4:]
        predictions = []
        with torch.no_grad():
            for i, x in enumerate(block[self.k2 :].split(1), 1):
                self._starts.append(self._live)
                self._live = cell(x, self._live, *rnn)
                h = self._live[0] if self._lstm else self._live
                predictions.append(torch.nn.functional.linear(h, *head))
                self._events += 1
                if self._events % self.k1 == 0 and self._events > self.k2:
                    self._update(block[i : i + self.k2], self._starts[0], labels[i - self.k1 : i])
            self._window = block[-self.k2 :]
            return torch.cat(predictions)[:, 0].numpy()

    def _update(self, X: torch.Tensor, start: Any, labels: torch.Tensor) -> None:
        with torch.enable_grad():
            states, _ = self.rnn(X, start)
            loss = torch.nn.functional.mse_loss(self.head(states[-self.k1 :]), labels)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        self._optimizer.step()


class CompiledTorchLoop(TorchLoop):
    """The same job as one compiled graph an update."""

    def _prepare(self) -> None:
        import torch._inductor.config

        torch._inductor.config.cpp_wrapper = True  # a fifth faster than the Python wrapper
        self.weights = [w.detach().clone() for w in self.weights]
        self._moments = [torch.zeros_like(w) for w in self.weights]
        self._squares = [torch.zeros_like(w) for w in self.weights]
        self._updates = torch.zeros(())
        self._compiled = torch.compile(self._whole_update, fullgraph=True, dynamic=False)
        self._step = {"gru": self._gru_step, "lstm": self._lstm_step, "elman": self._elman_step}[self.cell]

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return super().step_many(X, Y)

    def _update(self, X: torch.Tensor, start: Any, labels: torch.Tensor) -> None:
        self._compiled(self.weights, self._moments, self._squares, self._updates, X, start, labels)

    def _gru_step(self, from_x: torch.Tensor, from_h: torch.Tensor, state: torch.Tensor) -> Any:
        H = self.hidden
        gates = torch.sigmoid(from_x[:, : 2 * H] + from_h[:, : 2 * H])
        r, z = gates.chunk(2, 1)
        n = torch.tanh(from_x[:, 2 * H :] + r * from_h[:, 2 * H :])
        h = n + z * (state - n)
        return h, h

    def _lstm_step(self, from_x: torch.Tensor, from_h: torch.Tensor, state: Any) -> Any:
        i, f, g, o = (from_x + from_h).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def _elman_step(self, from_x: torch.Tensor, from_h: torch.Tensor, state: torch.Tensor) -> Any:
        h = torch.tanh(from_x + from_h)
        return h, h

    def _loss(self, weights: list[torch.Tensor], X: torch.Tensor, start: Any, labels: torch.Tensor) -> torch.Tensor:
        W, U, b, c, V, d = weights
        from_x = torch.addmm(b, X, W.t())
        state = start
        h = start[0] if self._lstm else start
        states = []
        for s in range(self.k2):
            h, state = self._step(from_x[s : s + 1], torch.addmm(c, h, U.t()), state)
            if s >= self.k2 - self.k1:
                states.append(h)
        return torch.nn.functional.mse_loss(torch.addmm(d, torch.cat(states), V.t()), labels)

    def _whole_update(self, weights: Any, moments: Any, squares: Any, updates: Any, X: Any, start: Any,
                      labels: Any) -> None:  # fmt: skip
        gradients = torch.func.grad(self._loss)(weights, X, start, labels)
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        scale = torch.clamp(self.clip / (norm + 1e-6), max=1.0)
        updates += 1
        correction1, correction2 = 1 - 0.9**updates, 1 - torch.exp(updates * math.log(0.999))
        for weight, moment, square, gradient in zip(weights, moments, squares, gradients, strict=True):
            g = gradient * scale
            moment.mul_(0.9).add_(g, alpha=0.1)
            square.mul_(0.999).addcmul_(g, g, value=0.001)
            weight.sub_(self.lr * (moment / correction1) / (torch.sqrt(square / correction2) + 1e-8))
