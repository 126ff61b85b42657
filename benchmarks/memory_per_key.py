"""Memory of a key, run and not computed: a million keys drawn by Zipf's law, and whether memory then stands still.

    python benchmarks/memory_per_key.py            # about a minute; needs 7 GB
    python benchmarks/memory_per_key.py --quick    # 100,000 keys, 10⁶ events

Each case runs in a process of its own. Resident memory is what /proc/self/statm says (so Linux only).
GRU, H = 32, k2 = 32, 8 inputs. Every key comes at least once and the rest of the events go to keys by
p ∝ 1 / rank^1.1, all shuffled together. A key's share includes its name, a str, and its place in the dictionary.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np

from stream_rnn import Learner

INPUTS = 8
BLOCK = 4096
BARS = {1: 6.0, 8: 2.5}  # KB a key, by k1
MOVES_PERCENT = 1.0


def resident_bytes() -> int:
    """Of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def zipf(rng: np.random.Generator, keys: int, events: int) -> np.ndarray:
    """Key numbers, int64 (events,), each of `keys` at least once."""
    shares = np.cumsum(np.arange(1, keys + 1) ** -1.1)
    drawn = np.searchsorted(shares, rng.random(events - keys) * shares[-1])
    return rng.permutation(np.concatenate([np.arange(keys), drawn]))


def learner(k1: int) -> Learner:
    """A new one; kernels are compiled and have run."""
    made = Learner(INPUTS, hidden=32, k1=k1, k2=32)
    warm = Learner(INPUTS, hidden=32, k1=k1, k2=32)
    warm.step_many(np.zeros((BLOCK, INPUTS), np.float32), np.zeros((BLOCK, 1), np.float32), ["warm"] * BLOCK)
    return made


def verdict(holds: bool) -> str:
    return "ok" if holds else "MISS"


def per_key(k1: int, keys: int) -> None:
    """Print the growth of resident memory, over keys."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(BLOCK, INPUTS)).astype(np.float32), rng.normal(size=(BLOCK, 1)).astype(np.float32)
    numbers = zipf(rng, keys, 2 * keys)
    model = learner(k1)
    before, start = resident_bytes(), time.perf_counter()
    for at in range(0, len(numbers), BLOCK):
        names = [f"sensor-{k}" for k in numbers[at : at + BLOCK].tolist()]
        model.step_many(X[: len(names)], Y[: len(names)], names)
    seconds = time.perf_counter() - start
    kb = (resident_bytes() - before) / keys / 1000
    assert len(model.keyspace) == keys
    bar = BARS[k1]
    print(f"k1 = {k1}: {kb:.2f} KB a key, of it {model.keyspace.row_bytes / 1000:.2f} the row "
          f"({keys:,} keys, {len(numbers):,} events in {seconds:.0f} s; bar ≤ {bar:g} KB)  {verdict(kb <= bar)}",
          flush=True)  # fmt: skip


def standing_still(first: int, last: int) -> None:
    """Print by how much resident memory moves between two event counts with the keys fixed."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(BLOCK, INPUTS)).astype(np.float32), rng.normal(size=(BLOCK, 1)).astype(np.float32)
    names = [f"sensor-{k}" for k in zipf(rng, 1000, 64 * BLOCK).tolist()]
    model = learner(8)
    events, then = 0, 0
    while events < last:
        at = events % len(names)
        model.step_many(X, Y, names[at : at + BLOCK])
        events += BLOCK
        if not then and events >= first:
            then = resident_bytes()
    now = resident_bytes()
    percent = 100 * (now - then) / then
    print(f"1,000 keys, k1 = 8: {then / 1e6:.1f} MB at event {first:,}, {now / 1e6:.1f} MB at {last:,}: "
          f"{percent:+.2f} % (bar ± {MOVES_PERCENT:g} %)  {verdict(abs(percent) <= MOVES_PERCENT)}",
          flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the keys and events")
    parser.add_argument("--case", choices=("k1=1", "k1=8", "still"), help="one case alone, in this process")
    args = parser.parse_args()
    if not os.path.exists("/proc/self/statm"):
        sys.exit("memory_per_key.py reads /proc/self/statm, which this system doesn't have; run it on Linux")
    scale = 10 if args.quick else 1
    if args.case is None:
        for case in ("k1=1", "k1=8", "still"):
            subprocess.run([sys.executable, __file__, "--case", case, *["--quick"] * args.quick], check=True)
    elif args.case == "still":
        standing_still(10**6 // scale, 10**7 // scale)
    else:
        per_key(int(args.case[3:]), 10**6 // scale)


if __name__ == "__main__":
    main()
