"""deep-river's RollingRegressor(GRU, window 32) on Adam, by its own API: predict_one, then learn_one.

It keeps no state between events: each prediction and each update runs the window from the zero state. deep-river pins
versions of river and torch that other packages here have outgrown (and imports pytest without saying so), so it lives
in an environment of its own and this file is its worker: it reads a number of events from standard input, takes them
through, and answers with the seconds. The client, `DeepRiver`, drives the worker and imports nothing from deep-river.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time


class DeepRiver:
    """A worker under another Python interpreter; `run(n)` gives the seconds that n events took."""

    def __init__(self, python: str, inputs: int, hidden: int, window: int = 32) -> None:
        command = [python, __file__, str(inputs), str(hidden), str(window)]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    def _answer(self) -> str:
        assert self._worker.stdout is not None
        line = self._worker.stdout.readline()
        if not line:
            raise RuntimeError(f"the deep-river worker ended with exit code {self._worker.wait()}: see above")
        return line.strip()

    def run(self, n: int) -> float:
        """Seconds for n further events."""
        assert self._worker.stdin is not None
        self._worker.stdin.write(f"{n}\n")
        self._worker.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the worker."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()


def has_deep_river(python: str) -> bool:
    """Whether that interpreter exists and finds deep_river."""
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('deep_river') is None)"
    return os.path.exists(python) and subprocess.run([python, "-c", code], check=False).returncode == 0


def serve(inputs: int, hidden: int, window: int) -> None:
    """The worker's loop."""
    import importlib.metadata

    import numpy as np
    import torch
    from deep_river.regression import RollingRegressor

    torch.set_num_threads(1)

    class Network(torch.nn.Module):
        def __init__(self, n_features: int) -> None:
            super().__init__()
            self.rnn = torch.nn.GRU(n_features, hidden)
            self.head = torch.nn.Linear(hidden, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x)[0][-1])

    model = RollingRegressor(module=Network(inputs), loss_fn="mse", optimizer_fn="adam", lr=1e-3, window_size=window,
                             gradient_clip_value=1.0)  # fmt: skip
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(inputs)]
    stream = [(dict(zip(names, map(float, row), strict=True)), float(y))
              for row, y in zip(rng.normal(size=(1024, inputs)), rng.normal(size=1024), strict=True)]  # fmt: skip
    at = 0

    def take(n: int) -> None:
        nonlocal at
        for _ in range(n):
            x, y = stream[at]
            at = (at + 1) % len(stream)
            model.predict_one(x)
            model.learn_one(x, y)

    take(window)
    print(" ".join(f"{p} {importlib.metadata.version(p)}" for p in ("deep-river", "river", "torch")), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        take(int(line))
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:4]))
