"""Timing on one core that other processes use too. Import this before numpy, numba, torch or jax.

A process that takes our core for one time slice adds milliseconds to whatever is being timed. So time is taken in
chunks of about a millisecond, many of them: the least is the machine's own figure, the median is how the run went,
and the spread says how far to trust both. Contestants take turns chunk by chunk, so that a ratio compares
the same moments. Ratios here are of the least times: a disturbance makes the slower contestant's median worse than
the faster one's, so a ratio of medians would flatter the faster.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
for _name in ONE_THREAD:  # libraries read these when they are imported
    os.environ[_name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"


@dataclass(frozen=True)
class Timing:
    """µs an event: least, median, and the 90th percentile of the chunks."""

    least: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.least:.4g} ({self.median:.4g} … {self.high:.4g})"


def pin(core: int | None = None) -> int:
    """Keep this process and its children on one core (the last one allowed, unless named); that core."""
    if not hasattr(os, "sched_setaffinity"):
        return -1
    core = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {core})
    return core


def summary(samples_us: list[float]) -> Timing:
    """Of the chunks of one contestant."""
    ordered = sorted(samples_us)
    return Timing(ordered[0], statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))])


Run = Callable[[int], float | None]


def timed(run: Run, n: int) -> float:
    """Seconds of run(n); a run that measures itself (in another process) returns its own."""
    start = time.perf_counter()
    own = run(n)
    return time.perf_counter() - start if own is None else own


def take_turns(
    contestants: dict[str, tuple[Run, int]], *, chunk_s: float = 1e-3, budget_s: float = 2.0, chunks: int = 300
) -> dict[str, Timing]:
    """µs an event of each contestant, from interleaved chunks.

    A contestant is a function that takes n further events through and what n must be a multiple of (so that every
    chunk holds its share of updates). Each is timed for `budget_s`, at most `chunks` chunks and at least eight.
    """
    sizes = {}
    for name, (run, granule) in contestants.items():
        run(granule)  # compiles, fills caches
        n = granule
        for _ in range(2):  # twice: the first estimate counts the call itself
            one = min(timed(run, n) for _ in range(3)) / n
            n = granule * max(1, round(chunk_s / one / granule))
        sizes[name] = n
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    spent = dict.fromkeys(contestants, 0.0)
    for turn in range(chunks):
        for name, (run, _) in contestants.items():
            if turn < 8 or spent[name] < budget_s:
                seconds = timed(run, sizes[name])
                spent[name] += seconds
                samples[name].append(seconds / sizes[name] * 1e6)
    return {name: summary(s) for name, s in samples.items()}


def load() -> str:
    """The machine's load, for the head of a table."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
