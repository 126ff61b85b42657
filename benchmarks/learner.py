"""The Learner's speed beside torch, JAX, deep-river and C: µs and ratios from one run on one pinned core.

    python benchmarks/learner.py            # about ten minutes
    python benchmarks/learner.py --quick    # about two: short timings, fewer rows, no torch.compile

Every contestant does the same job on 8 inputs and one output: a live forward pass an event, and after every k1-th
event the window of k2 = 32 again from its stored start state, clip_grad_norm_ and Adam (deep-river: its own job,
the window from zeros, at k1 = 1). How time is taken: timing.py. Opponents that aren't installed are left out, by name.
"""

from __future__ import annotations

import timing  # first: it sets what the libraries below read at import

import argparse  # isort: skip
import importlib.metadata
import itertools
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from opponents import c_yardstick, deep_river_rolling

from stream_rnn import Learner
from stream_rnn.kernels.probe import Probe

INPUTS, K2, BLOCK = 8, 32, 64
DISPATCH = ("Ratios at small H are mostly the opponents' dispatch: hundreds of small calls an event, whose cost hardly "
            "grows with H.\nSo they shrink as H grows. They are ratios of the least times.")  # fmt: skip
CELLS = ("gru", "lstm", "elman")
# The least that ours must be ahead: by contestant, then H; for the GRU at k1 = 1.
AHEAD = {"torch nn.GRU, Adam": {32: 400, 64: 120, 128: 25}, "JAX, a call an event": {32: 20, 64: 8, 128: 4},
         "deep-river": {32: 400, 128: 25}}  # fmt: skip
BEHIND_C, STEP_OVERHEAD_US, PREDICT_US, LEARNS_S, IMPORT_S = 1.15, 2.0, 3.0, 1.5, 0.6
HERE = pathlib.Path(__file__).resolve().parent
_verdicts: list[bool] = []


def verdict(holds: bool) -> str:
    """ok or MISS, counted."""
    _verdicts.append(holds)
    return "ok" if holds else "MISS"


def stream(events: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (events, INPUTS) and labels (events, 1), a moving average of the inputs with noise; float32."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(events, INPUTS))
    y = np.convolve(X[:, 0], [0.5, 0.3, 0.2])[:events] + 0.1 * rng.normal(size=events)
    return X.astype(np.float32), y[:, None].astype(np.float32)


def feed(step_many: Callable[[np.ndarray, np.ndarray], Any], block: int) -> tuple[timing.Run, int]:
    """A contestant that gets an endless stream in blocks of `block` events, its window filled by 32 already."""
    X, Y = stream()
    blocks = itertools.cycle([(X[i : i + block], Y[i : i + block]) for i in range(0, len(X) - block + 1, block)])
    step_many(X[:K2], np.full((K2, 1), np.nan, np.float32))

    def run(n: int) -> None:
        for _ in range(n // block):
            step_many(*next(blocks))

    return run, block


# The whole step, in blocks ---------------------------------------------------------------------------------


def contestants(cell: str, H: int, k1: int, args: argparse.Namespace) -> dict[str, tuple[timing.Run, int]]:
    """Ours first, then those that are here."""
    found = {"ours, blocks of 64": feed(Learner(INPUTS, cell=cell, hidden=H, k1=k1, k2=K2).step_many, BLOCK)}
    if find_spec("torch"):
        from opponents import torch_loop

        module = torch_loop.MODULES[cell].__name__
        found[f"torch nn.{module}, Adam"] = feed(torch_loop.TorchLoop(cell, INPUTS, H, k1).step_many, k1)
        if cell == "gru" and k1 == 1 and not (args.quick or args.no_compile):
            found["torch.compile, one graph"] = feed(torch_loop.CompiledTorchLoop(cell, INPUTS, H, k1).step_many, 4)
    if find_spec("jax") and find_spec("optax") and not (args.quick and (cell != "gru" or k1 != 1)):
        from opponents import jax_scan

        found["JAX, a call an event"] = feed(jax_scan.JaxScan(cell, INPUTS, H, k1).step_many, max(8, k1))
        found["JAX, a call a block"] = feed(jax_scan.JaxBlocks(cell, INPUTS, H, k1).step_many, BLOCK)
    return found


def whole_steps(args: argparse.Namespace) -> None:
    """The table of the learner's whole step against every opponent."""
    print("Whole step in µs an event: the least (median … 90th percentile), and how many times ours")
    print(DISPATCH)
    rows = [(cell, k1, H) for cell in CELLS for k1 in (1, 8, 32) for H in (32, 64, 128)]
    if args.quick:
        rows = [("gru", 1, 32), ("gru", 1, 64), ("gru", 1, 128), ("gru", 8, 32), ("lstm", 1, 32), ("elman", 1, 32)]
    rows = args.rows or rows
    for cell, k1, H in rows:
        field = contestants(cell, H, k1, args)
        river = None
        if cell == "gru" and k1 == 1 and H != 64 and deep_river_rolling.has_deep_river(args.deep_river):
            river = deep_river_rolling.DeepRiver(args.deep_river, INPUTS, H, K2)
            field["deep-river"] = (river.run, 1)
        times = timing.take_turns(field, budget_s=args.budget)
        if river:
            river.close()
        ours = next(iter(times.values())).least
        print(f"\n{cell} H = {H}, k1 = {k1}")
        for name, t in times.items():
            bar = AHEAD.get(name, {}).get(H) if (cell, k1) == ("gru", 1) else None
            ratio = t.least / ours
            text = "" if name.startswith("ours") else f"{ratio:6.1f} ×"
            judged = f"  ≥ {bar}  {verdict(ratio >= bar)}" if bar else ""
            print(f"  {name:26}{t!s:>32}  {text:9}{judged}", flush=True)


def agreement() -> None:
    """Print how far the contestants' predictions lie apart after 96 updates from the same weights."""
    X, Y = stream(K2 + 96)
    Y[:K2] = np.nan  # the opponents' windows fill before they learn
    print("Do they do the same job? Largest difference of a prediction over 96 updates, GRU, H = 32:")
    for k1 in (1, 8):
        ours = Learner(INPUTS, hidden=32, k1=k1, k2=K2)
        weights = ours.parameters
        expected = ours.step_many(X, Y)[:, 0]
        others = {}
        if find_spec("torch"):
            from opponents import torch_loop

            others["torch"] = torch_loop.TorchLoop("gru", INPUTS, 32, k1)
        if find_spec("jax") and find_spec("optax"):
            from opponents import jax_scan

            others["JAX"] = jax_scan.JaxScan("gru", INPUTS, 32, k1)
        differences = []
        for name, other in others.items():
            other.load(weights)
            differences.append(f"{name} {np.abs(other.step_many(X, Y) - expected).max():.1e}")
        print(f"  k1 = {k1}: ours against {', '.join(differences)}")
    print()


# The kernels alone, against C ------------------------------------------------------------------------------


def our_parts(H: int) -> Probe:
    """The GRU kernel's parts, with a window run forward and gradients of all its outputs in place."""
    probe = Probe(Learner(INPUTS, hidden=H, k1=1, k2=K2))
    X, Y = stream(K2)
    probe.X[:, :INPUTS], probe.DY[:, :1] = X, Y
    probe.forward()
    return probe


def against_c(args: argparse.Namespace) -> None:
    """Backward of the window against the same algorithm in C."""
    if c_yardstick.compiler() is None:
        print("C yardstick left out: gcc is not here\n")
        return
    print("Kernels alone: the window of 32, every step labelled, in µs, beside C (gcc -O3 -march=native), once with a")
    print("constant H and once with an H known only at run time, as it is to ours")
    for H in (32, 64, 128):
        ours = our_parts(H)
        constant = c_yardstick.CYardstick(INPUTS, H, K2, K2, constant=True)
        general = c_yardstick.CYardstick(INPUTS, H, K2, K2)
        for c in (constant, general):
            c.update()  # so that nothing is zero
        for part in ("backward", "forward"):
            runs = {
                "ours": getattr(ours, part),
                "C": getattr(constant, part),
                "C, H at run time": getattr(general, part),
            }
            times = timing.take_turns({k: (run, 1) for k, run in runs.items()}, budget_s=args.budget / 2, chunks=400)
            strict, loose = (times["ours"].least / times[c].least for c in ("C", "C, H at run time"))
            judged = f"  ≤ {BEHIND_C}  {verdict(strict <= BEHIND_C)}" if part == "backward" else ""
            print(f"  gru {part:8} H = {H:3}: ours {times['ours']}  C {times['C']}  ours / C {strict:.2f} "
                  f"(H at run time {loose:.2f}){judged}", flush=True)  # fmt: skip
    print()


# One event at a time from Python ---------------------------------------------------------------------------


def per_event(args: argparse.Namespace) -> None:
    """What a call from Python adds to the kernel."""
    print("One call an event, GRU, arrays in (µs)")
    X, Y = stream()
    for H, k1 in ((32, 1), (32, 8), (128, 8)):

        def fresh(H: int = H, k1: int = k1) -> Learner:
            return Learner(INPUTS, hidden=H, k1=k1, k2=K2)

        def one_by_one(call: Callable[..., Any], *columns: Any) -> tuple[timing.Run, int]:
            events = itertools.cycle(list(zip(*columns, strict=True)))

            def run(n: int) -> None:
                for _ in range(n):
                    call(*next(events))

            return run, 8

        stepped, floats, predicted = fresh(), fresh(), fresh()
        predicted.step_many(X[:64], Y[:64])
        runs = {
            "kernel": feed(fresh().step_many, 256),
            "step": one_by_one(stepped.step, X, Y),
            "step, y a float": one_by_one(floats.step, X, Y[:, 0].tolist()),
            "predict": one_by_one(predicted.predict, X),
            "the loop itself": one_by_one(lambda x: None, X),
        }
        times = timing.take_turns(runs, budget_s=args.budget / 2)
        loop, kernel = times["the loop itself"].least, times["kernel"].least
        for name in ("step", "step, y a float"):
            over = times[name].least - loop - kernel
            print(
                f"  H = {H:3}, k1 = {k1}: {name:16}{times[name]}, over the kernel's {kernel:.3g} by {over:.2f}  "
                f"≤ {STEP_OVERHEAD_US:g}  {verdict(over <= STEP_OVERHEAD_US)}"
            )
        predict = times["predict"].least - loop
        judged = f"  < {PREDICT_US:g}  {verdict(predict < PREDICT_US)}" if H == 32 else ""
        print(f"  H = {H:3}, k1 = {k1}: {'predict':16}{times['predict']}{judged}", flush=True)
    print()


# Starting ---------------------------------------------------------------------------------------------------

_STARTING = """
import time; began = time.perf_counter()
import stream_rnn
imported = time.perf_counter()
Learner = stream_rnn.Learner
usable = time.perf_counter()
learner = Learner(8, cell={cell!r}, hidden=32, k1=1, k2=32)
learner.step([0.0] * 8, 1.0)
assert learner.counters["updates"] == 1
print(imported - began, usable - began)
"""


def starting(args: argparse.Namespace) -> None:
    """Import, first compile, and a later process, each in a process of its own with a new cache folder."""
    print("Starting, in seconds, on the pinned core")
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"STREAM_RNN_CACHE_DIR": cache}

        def process(cell: str) -> tuple[float, ...]:
            """Seconds of the whole process, of its import, and of that with the Learner's own (numpy, numba)."""
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", _STARTING.format(cell=cell)], env=environment, check=True,
                                  capture_output=True, text=True)  # fmt: skip
            return time.perf_counter() - start, *map(float, done.stdout.split())

        for cell in ("gru",) if args.quick else CELLS:
            print(f"  {cell:6} first process, which compiles: {process(cell)[0]:.1f}", flush=True)
        later = [process("gru") for _ in range(5)]
        learns, imports, usable = (min(column) for column in zip(*later, strict=True))
        print(
            f"  gru    a later process until it has learnt, start and exit counted: {learns:.2f}  ≤ {LEARNS_S:g}  "
            f"{verdict(learns <= LEARNS_S)}"
        )
        print(f"  import stream_rnn: {imports:.2f}  ≤ {IMPORT_S:g}  {verdict(imports <= IMPORT_S)}")
        print(f"  from stream_rnn import Learner, which imports numba: {usable:.2f}\n")


# -------------------------------------------------------------------------------------------------------------


def row(text: str) -> tuple[str, int, int]:
    """A row of the table of whole steps.

    >>> row("gru/1/32")
    ('gru', 1, 32)
    """
    cell, k1, H = (*text.split("/"), "", "")[:3]
    if cell in CELLS and k1 in ("1", "8", "32") and H.isdecimal() and int(H) > 0:
        return cell, int(k1), int(H)
    raise argparse.ArgumentTypeError(f"{text!r}: it must be CELL/K1/H with CELL {', '.join(CELLS)} and K1 1, 8 or 32")


def conditions(core: int) -> str:
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = []
    for package in ("numpy", "numba", "torch", "jax", "optax"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    commit = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()  # fmt: skip
    return ", ".join([commit or "no commit", cpu, f"core {core}", timing.load(), f"Python {platform.python_version()}",
                      *versions])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short timings, fewer rows, no torch.compile")
    parser.add_argument("--budget", type=float, default=None, metavar="S",
                        help="seconds of timing a contestant and row (default 2, with --quick 0.3)")  # fmt: skip
    parser.add_argument("--core", type=int, default=None, help="the core to run on (default: the last one)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile (half a minute a row)")
    parser.add_argument("--deep-river", metavar="PYTHON", default=str(HERE.parent / ".venv-deep-river/bin/python"),
                        help="an interpreter that has deep-river (default: %(default)s)")  # fmt: skip
    parser.add_argument("--rows", type=row, nargs="+", metavar="CELL/K1/H", help="only these whole steps: gru/1/32 …")
    parser.add_argument("--only", choices=("steps", "c", "events", "start"), help="one part alone")
    args = parser.parse_args()
    args.budget = args.budget or (0.3 if args.quick else 2.0)
    core = timing.pin(args.core)
    print(conditions(core))
    if not deep_river_rolling.has_deep_river(args.deep_river):
        print(f"deep-river left out: {args.deep_river} doesn't have it (benchmarks/README.md says how)")
    print()
    parts = {"c": against_c, "events": per_event, "start": starting, "steps": whole_steps}
    if args.only in (None, "steps"):
        agreement()
    for name, part in parts.items():
        if args.only in (None, name) and (not args.rows or name == "steps"):
            part(args)
    print(f"\n{sum(_verdicts)} of {len(_verdicts)} bars hold; at the end {timing.load()}")


if __name__ == "__main__":
    main()
