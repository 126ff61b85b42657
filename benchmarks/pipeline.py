"""The engine, file to file and exactly once: CPU an event, what a checkpoint does to a block, restoring, replaying.

    python benchmarks/pipeline.py            # two minutes
    python benchmarks/pipeline.py --quick    # half a minute

Events are JSON lines of about 130 bytes with a key, a time and three features, of 100 keys. CPU is that of all
threads of the process (time.process_time), over the events: reading, decoding, learning, encoding, writing, commits
every 100 ms and checkpoints every 30 s. Each row takes fresh input; kernels are compiled before.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stream_rnn.codec import Codec
from stream_rnn.connectors.file import FileSink, FileSource
from stream_rnn.engine import Engine
from stream_rnn.model import Forecaster

FEATURES = ["temperature", "vibration", "load"]
ALONE = {"kind": "rnn", "cell": "gru", "hidden": 32, "k1": 8, "k2": 32}
BAR_CPU_US, BAR_P99_MS, BAR_RESTORE_S = 6.5, 50.0, 5.0
QUIX_US = 10.7  # Quix Streams 3 copying such events Kafka to Kafka exactly once, on the machine of our figures


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer events")
    args = options.parse_args()
    n = 100_000 if args.quick else 400_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder)
        write_events(folder / "in.jsonl", n, 100)
        size = (folder / "in.jsonl").stat().st_size / n
        print(f"file → file, exactly once; {n:,} JSON events of {size:.0f} bytes, 100 keys, 3 features")
        for title, model in (("network alone, GRU H=32, k1=8, k2=32", ALONE), ("default model", {})):
            cpu, wall = zip(*[rate(folder, f"{title[:3]}{i}", model) for i in range(3)], strict=True)
            bar = f"bar {BAR_CPU_US}  {verdict(min(cpu) <= BAR_CPU_US)}; {QUIX_US / min(cpu):.1f} × Quix's copying"
            print(f"  {title:<40} {spread(cpu)} µs of CPU an event, {spread(wall)} µs wall   {bar if model else ''}")
        live = min(rate(folder, f"live{i}", ALONE)[1] for i in range(2))
        again = replay(folder, "live0")
        print(f"  replay of what is out already             {again:.2f} µs wall an event, live {live:.2f}   "
              f"bar: as fast  {verdict(again <= live)}")  # fmt: skip
        checkpoints(folder, 100_000 if args.quick else 400_000)
        restore(folder, 20_000 if args.quick else 100_000)


def verdict(holds: bool) -> str:
    """For a bar."""
    return "ok" if holds else "MISS"


def spread(values: tuple[float, ...]) -> str:
    """Median with the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def write_events(path: Path, n: int, keys: int, seed: int = 0) -> None:
    """Lines of about 130 bytes."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for i in range(n):
            key = f"plant-7/sensor-{i if i < keys else rng.randrange(keys):06d}"
            file.write(json.dumps({"sensor": key, "ts": 1.7e9 + i * 0.01, "status": "ok", **{
                name: round(20 + math.sin(i / 1000 + j) + rng.random(), 4) for j, name in enumerate(FEATURES)
            }}) + "\n")  # fmt: skip


def engine(folder: Path, run: str, model: dict, source: str = "in.jsonl", **policy: float) -> Engine:
    """A job of its own outputs and state over the input."""
    home = folder / run
    home.mkdir(exist_ok=True)
    fields = ["sensor", "ts", *FEATURES]
    forecaster = Forecaster("temperature", key="sensor", time="ts", features=FEATURES, **model)
    return Engine(FileSource(folder / source), forecaster, FileSink(home / "out.jsonl"), None, home / "state",
                  codec=lambda: Codec("json", fields=fields, timestamp=True, max_bytes=1 << 20), **policy)  # fmt: skip


def warm_up(folder: Path) -> None:
    """Compile."""
    write_events(folder / "warm.jsonl", 2000, 10)
    for i, model in enumerate((ALONE, {})):
        engine(folder, f"warm{i}", model, "warm.jsonl").run()


def rate(folder: Path, run: str, model: dict) -> tuple[float, float]:
    """µs of CPU, and of time, an event."""
    e = engine(folder, run, model)
    cpu, wall = time.process_time(), time.perf_counter()
    e.run()
    events = e.status()[0]["events"]
    return (time.process_time() - cpu) / events * 1e6, (time.perf_counter() - wall) / events * 1e6


def replay(folder: Path, run: str) -> float:
    """µs an event when all outputs are there and the state is not."""
    for path in (folder / run / "state").glob("state.db*"):
        path.unlink()
    return rate(folder, run, ALONE)[1]


class Watched(FileSource):
    """Says of each block when it was asked for, whether a checkpoint was being written, how many had been begun."""

    def watch(self, writing: Callable[[], tuple[bool, int]]) -> None:
        """Begin."""
        self.turns: list[tuple[float, tuple[bool, int]]] = []
        self._writing = writing

    def read(self, limit: int) -> list:
        """A block."""
        self.turns.append((time.perf_counter(), self._writing()))
        return super().read(limit)


def checkpoints(folder: Path, n: int) -> None:
    """What a checkpoint of 10,000 changed keys adds to the slowest blocks."""
    keys = 10_000
    write_events(folder / "many.jsonl", n, keys)
    e = engine(folder, "many", ALONE, "many.jsonl", checkpoint_interval=0.3, block=256)
    e.source = source = Watched(folder / "many.jsonl")
    source.watch(lambda: (c.pending, c.begun) if e.shards and (c := e.shards[0].checkpoints) else (False, 0))
    e.run()
    with_one, without, begun = [], [], []
    for (start, before), (stop, after) in zip(source.turns, source.turns[1:], strict=False):
        took_ms = (stop - start) * 1e3
        (with_one if before[0] or after[0] else without).append(took_ms)
        if after[1] > before[1]:
            begun.append(took_ms)
    done = e.status()[0]["checkpoint"]
    a, b = p99(with_one), p99(without)
    print(f"blocks of 256 events, {keys:,} keys; {done['keys']:,} changed ones in a checkpoint, written in "
          f"{done['seconds']:.2f} s beside the loop")  # fmt: skip
    print(f"  the {len(begun)} blocks in which one was begun (its states are copied): {spread(tuple(begun))} ms")
    print(f"  p99 of {len(with_one):,} blocks with a checkpoint {a:.1f} ms, of {len(without):,} without {b:.1f} ms: "
          f"{a - b:+.1f} ms   bar {BAR_P99_MS:.0f}  {verdict(a - b < BAR_P99_MS)}")  # fmt: skip


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(0.99 * (len(values) - 1))] if values else math.nan


def restore(folder: Path, keys: int) -> None:
    """How long until a job with so many keys reads on."""
    write_events(folder / "keys.jsonl", keys, keys)
    engine(folder, "keys", ALONE, "keys.jsonl").run()
    e = engine(folder, "keys", ALONE, "keys.jsonl")
    e.source = source = Watched(folder / "keys.jsonl")
    source.watch(lambda: (False, 0))
    start = time.perf_counter()
    e.run()
    took = source.turns[0][0] - start
    print(f"restoring {keys:,} keys: {took:.2f} s   bar {BAR_RESTORE_S:g} for 100,000  {verdict(took < BAR_RESTORE_S)}")


if __name__ == "__main__":
    sys.exit(main())
