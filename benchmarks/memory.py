"""How far back does it remember, and what does k2 buy? Error against k2 where a value is to be recalled.

A cue comes with a number in -1 … 1, distracting numbers follow, and after a gap the number is asked for.

    python benchmarks/memory.py [--quick] [--reach]

Prints mean absolute error over the last fifth of the stream, relative to guessing the labels' mean, for each k2; a
gradient that does not reach the cue cannot learn to keep it. --reach: below that, how much of the gradient is left at
the edge of the window, as `stream-rnn eval --report` measures it.
Bar: at a gap of 40, k2 = 64 at least 30 % below k2 = 8.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from stream_rnn import Learner
from stream_rnn.gradient_reach import Reach

GAPS = (10, 40, 100, 200)
WINDOWS = (8, 16, 32, 64, 128, 256)
Floats = NDArray[np.float32]


def recall(gap: int, episodes: int, seed: int) -> tuple[Floats, Floats]:
    """Inputs (number, cue, question) and labels, NaN but at the question; X (n, 3), Y (n,)."""
    rng = np.random.default_rng(seed)
    length = gap + 1
    X = np.zeros((episodes, length, 3), np.float32)
    X[:, :, 0] = rng.uniform(-1, 1, (episodes, length))
    X[:, 0, 1] = 1
    X[:, gap, 2] = 1
    Y = np.full((episodes, length), np.nan, np.float32)
    Y[:, gap] = X[:, 0, 0]
    return X.reshape(-1, 3), Y.ravel()


def patient(learner: Learner, longest: int, seed: int) -> None:
    """Start the update gates half open for 1 … `longest` steps (chrono initialisation, Tallec & Ollivier 2018)."""
    H = learner.hidden
    bias = learner.parameters["bias_ih"]
    bias[H : 2 * H] = np.log(np.random.default_rng(seed).uniform(1, longest, H))
    learner.load_parameters({"bias_ih": bias})


def relative_error(gap: int, k2: int, episodes: int, seed: int) -> tuple[float, float]:
    """Mean absolute error of the last fifth over that of guessing 0; what is left of the gradient at the edge."""
    X, Y = recall(gap, episodes, seed)
    learner = Learner(3, hidden=32, cell="gru", k1=1, k2=k2, lr=3e-3, loss="huber", seed=seed)
    patient(learner, 2 * gap, seed)
    reach = Reach()
    reach.watch(learner)  # it looks at a block's first event: let those be questions
    blocks = np.split(np.arange(len(Y)), np.arange(gap, len(Y), 20 * (gap + 1)))
    y_hat = np.concatenate([learner.step_many(X[part], Y[part])[:, 0] for part in blocks])
    asked = np.flatnonzero(~np.isnan(Y))[-episodes // 5 :]
    norms = reach.norms
    edge = np.nan if norms is None else norms[-1] / norms.max()
    return float(np.abs(y_hat[asked] - Y[asked]).mean() / np.abs(Y[asked]).mean()), float(edge)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="gaps of 10 and 40, one seed")
    parser.add_argument("--episodes", type=int, default=12_000)
    parser.add_argument("--reach", action="store_true", help="and the gradient at the edge of the window")
    args = parser.parse_args()
    gaps, seeds = (GAPS[:2], 1) if args.quick else (GAPS, 3)
    print("recall after a gap: error / that of guessing, median of seeds (1 = nothing learnt)")
    print("  gap  " + "".join(f"k2 = {k2:<5}" for k2 in WINDOWS))
    for gap in gaps:
        start = time.perf_counter()
        each = [[relative_error(gap, k2, args.episodes, s) for s in range(seeds)] for k2 in WINDOWS]
        row, edges = np.median(each, axis=1).T.tolist()
        print(f"{gap:5}  " + "".join(f"{r:<10.3f}" for r in row) + f"{time.perf_counter() - start:5.1f} s", flush=True)
        if args.reach:
            print("  edge " + "".join(f"{f'{e:.0%}':<10}" for e in edges))
        if gap == 40:
            gain = 1 - row[WINDOWS.index(64)] / row[WINDOWS.index(8)]
            verdict = "ok" if gain >= 0.3 else "MISS"
            print(f"       at a gap of 40, k2 = 64 is {gain:.0%} below k2 = 8   ≥ 30 % {verdict}")


if __name__ == "__main__":
    main()
