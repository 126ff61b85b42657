"""What our torch backend costs over a torch loop written by hand for the same job; and when batches of keys pay.

    python benchmarks/torch_backend.py            # two minutes

The job: 8 inputs, one output, squared loss; a live step an event, and after every k1-th the window of k2 = 32 again
from its detached start state, clip_grad_norm_ and fused Adam, one thread. The loop keeps no keys, rings, counts or
refusals: what it has not is what we may cost. Ratios are of the least times of contestants that take turns
(timing.py); the bar is 1.3. The second table needs no learning: many keys advance, with the cell on the device named.
"""

from __future__ import annotations

import timing  # first: it sets what the libraries below read at import

import argparse  # isort: skip
import collections
import itertools
import sys
import time
from typing import Any

import numpy as np
import torch

from stream_rnn import Learner

INPUTS, K2, BAR = 8, 32, 1.3


class Gated(torch.nn.Module):
    """A cell that no library has: a gate of its own between a linear memory and tanh."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gate, self.new = torch.nn.Linear(inputs + hidden, hidden), torch.nn.Linear(inputs + hidden, hidden)

    def forward(self, x: Any, state: Any) -> Any:
        """One step of a batch."""
        state = x.new_zeros(len(x), self.hidden) if state is None else state
        both = torch.cat([x, state], 1)
        state = state + torch.sigmoid(self.gate(both)) * (torch.tanh(self.new(both)) - state)
        return state, state


class Loop:
    """The update as an expert writes it for one stream and a cell (x, state) → (output, state)."""

    def __init__(self, cell: torch.nn.Module, hidden: int, k1: int, k2: int = K2) -> None:
        torch.set_num_threads(1)
        self.cell, self.k1, self.k2 = cell, k1, k2
        self.head = torch.nn.Linear(hidden, 1)
        self.weights = [*cell.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(self.weights, lr=1e-3, fused=True)
        self.window = torch.zeros(k2, INPUTS)
        with torch.no_grad():
            state = cell(torch.zeros(1, INPUTS), None)[1]
        self.live = torch.zeros_like(state)
        self.starts: collections.deque[Any] = collections.deque(maxlen=k2)
        self.events = 0

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """ŷ (n, 1), each before its label is learnt; n a multiple of k1."""
        block, labels = torch.cat((self.window, torch.from_numpy(X))), torch.from_numpy(Y)
        predictions = []
        with torch.no_grad():
            for i, x in enumerate(block[self.k2 :].split(1), 1):
                self.starts.append(self.live)
                output, self.live = self.cell(x, self.live)
                predictions.append(self.head(output))
                self.events += 1
                if self.events % self.k1 == 0 and self.events > self.k2:
                    self._update(block[i : i + self.k2], labels[i - self.k1 : i])
            self.window = block[-self.k2 :]
            return torch.cat(predictions).numpy()

    def _outputs(self, X: Any) -> Any:
        state, outputs = self.starts[0], []
        for x in X.split(1):
            output, state = self.cell(x, state)
            outputs.append(output)
        return torch.cat(outputs[-self.k1 :])

    def _update(self, X: Any, labels: Any) -> None:
        with torch.enable_grad():
            loss = torch.nn.functional.mse_loss(self.head(self._outputs(X)), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()


class LayersLoop(Loop):
    """The same for nn.GRU and its like, which take a window in one call."""

    def step_many(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """See Loop."""
        return super().step_many(X, Y)

    def _outputs(self, X: Any) -> Any:
        return self.cell(X, self.starts[0])[0][-self.k1 :]


def contest(k1: int, H: int, layers: bool) -> tuple[timing.Timing, timing.Timing]:
    """µs an event: ours, then the loop."""
    cell = torch.nn.GRU(INPUTS, H, 2) if layers else Gated(INPUTS, H)
    ours = Learner(INPUTS, cell=cell, k1=k1, k2=K2)
    loop = (LayersLoop if layers else Loop)(cell, H, k1)
    runs = {name: feed(c, max(k1, 8)) for name, c in (("ours", ours), ("loop", loop))}
    found = timing.take_turns(runs, budget_s=3.0)
    return found["ours"], found["loop"]


def feed(contestant: Any, block: int) -> tuple[timing.Run, int]:
    """An endless stream in blocks."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(512, INPUTS)).astype(np.float32), rng.normal(size=(512, 1)).astype(np.float32)
    blocks = itertools.cycle([(X[i : i + block], Y[i : i + block]) for i in range(0, 512, block)])
    contestant.step_many(X[:K2], np.full((K2, 1), np.nan, np.float32) if isinstance(contestant, Learner) else Y[:K2])

    def run(n: int) -> None:
        for _ in range(n // block):
            contestant.step_many(*next(blocks))

    return run, block


def batches(device: str) -> None:
    """µs an event where 4,096 keys advance without learning, by the size of a batch."""
    print(f"\n{device}: µs an event, 4,096 keys, no learning (batch: events of different keys at a time)")
    print("     H " + "".join(f"{b:>10}" for b in (1, 16, 256)))
    X, keys = np.random.default_rng(0).normal(size=(4096, INPUTS)).astype(np.float32), list(range(4096))
    for H in (32, 128, 512):
        row = []
        for batch in (1, 16, 256):
            learner = Learner(INPUTS, cell=Gated(INPUTS, H), max_updates=0, device=device, batch=batch, backend="torch")
            n = 512 * min(batch, 8)
            learner.step_many(X[:n], None, keys[:n])
            start = time.perf_counter()
            learner.step_many(X[:n], None, keys[:n])
            row.append((time.perf_counter() - start) / n * 1e6)
        print(f"{H:>6} " + "".join(f"{t:>10.1f}" for t in row))


def main() -> int:
    """Exit code 1 if a bar is missed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    timing.pin()
    print(f"torch {torch.__version__}, {timing.load()}; µs an event: least (median … 90th percentile)\n")
    print("cell                 k1    H  ours                       torch by hand               ratio")
    worst = 0.0
    for layers, k1, H in [(False, 1, 32), (False, 8, 32), (False, 32, 32), (False, 1, 128), (False, 32, 128),
                          (True, 1, 32), (True, 8, 32), (True, 32, 32)]:  # fmt: skip
        ours, loop = contest(k1, H, layers)
        ratio = ours.least / loop.least
        worst = max(worst, ratio)
        name = "nn.GRU, 2 layers" if layers else "one of the user's"
        print(f"{name:<18} {k1:>4} {H:>4}  {ours!s:<26} {loop!s:<26} {ratio:.2f}")
    print(f"worst ratio {worst:.2f}: {'ok' if worst <= BAR else 'MISS'} (at most {BAR})")
    batches("cpu")
    if torch.cuda.is_available():
        batches("cuda")
    else:
        print("\ncuda: not run (no GPU here)")
    return int(worst > BAR)


if __name__ == "__main__":
    sys.exit(main())
