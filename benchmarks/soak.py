"""Does anything grow? Ten million events whose keys come and go, through standard input and its journal.

    python benchmarks/soak.py                    10⁷ events, paced: about five minutes (make soak)
    python benchmarks/soak.py --events 1000000   a shorter look

A real process of `stream-rnn run` with keys spilled to disk (limits.memory), silent keys deleted (idle_key_ttl),
checkpoints and the journal being trimmed. Measured every twentieth: resident memory, state database and journal,
with their write-ahead logs. The figure: the largest of each in the last tenth of the events over the largest up to
the first tenth. It exits with 1 if one is above 1.01.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIVE_KEYS = 1000  # at a time
EVENTS_A_KEY = 50
ALLOWED = 1.01

CONFIG = """\
[source]
type = "stdin"
[event]
key = "id"
time = "at"
target = "v"
[model]
kind = "{kind}"
hidden = 8
k2 = 4
[sink]
type = "stdout"
[state]
checkpoint_interval = "1s"
[limits]
memory = "4MiB"
idle_key_ttl = "30000s"
[log]
level = "warning"
"""


def blocks(events: int, size: int = 1000) -> Iterator[bytes]:
    """JSON lines: each key is one of the live ones for a while, and then never comes again."""
    rng = random.Random(0)
    for start in range(0, events, size):
        newest = start // EVENTS_A_KEY
        lines = [
            f'{{"id":"k{newest - rng.randrange(LIVE_KEYS)}","at":{1_700_000_000 + i},"v":{rng.gauss(20.0, 2.0):.3f},'
            f'"w":{rng.random():.3f}}}\n'
            for i in range(start, start + size)
        ]  # fmt: skip
        if start % 100_000 == 0:
            lines[0] = "not JSON\n"
        yield "".join(lines).encode()


def size_of(folder: Path, name: str) -> int:
    """Bytes of a database and its write-ahead log."""
    return sum(p.stat().st_size for p in folder.glob(f"state/{name}.db*"))


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def soak(events: int, rate: float, kind: str, folder: Path) -> dict[str, list[int]]:
    """Run it; what was measured at each twentieth."""
    (folder / "job.toml").write_text(CONFIG.format(kind=kind))
    command = [sys.executable, "-m", "stream_rnn.cli", "run", "job.toml"]
    found: dict[str, list[int]] = {"memory": [], "database": [], "journal": []}
    start = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        sent, next_look = 0, events // 20
        for block in blocks(events):
            process.stdin.write(block)
            sent += block.count(b"\n")
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
            if sent >= next_look:
                next_look += events // 20
                for name, value in (("memory", resident(process.pid)), ("database", size_of(folder, "state")),
                                    ("journal", size_of(folder, "journal"))):  # fmt: skip
                    found[name].append(value)
                latest = "  ".join(f"{name} {values[-1] / 1e6:8.2f} MB" for name, values in found.items())
                print(f"{sent:>12,} events  {latest}  {sent / (time.monotonic() - start):10,.0f} events/s", flush=True)
        process.stdin.close()
        assert process.wait() == 0, f"it ended with {process.returncode}"
    return found


def main() -> int:
    """Print the figure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--rate", type=float, default=30_000.0, help="events a second, less than it can do")
    options.add_argument("--kind", default="rnn", choices=("rnn", "mixture"))
    options.add_argument("--folder", help="where its files go (default: a temporary one)")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        found = soak(args.events, args.rate, args.kind, Path(folder))
    print(f"\nfrom {args.events // 10:,} to {args.events:,} events, {os.cpu_count()} cores, kind = {args.kind}")
    ratios = {name: max(values[-2:]) / max(values[:2]) for name, values in found.items()}
    for name, ratio in ratios.items():
        first, last = max(found[name][:2]) / 1e6, max(found[name][-2:]) / 1e6
        print(f"{name:<10} {first:8.2f} MB → {last:8.2f} MB   × {ratio:.4f}")
    return int(max(ratios.values()) > ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())
