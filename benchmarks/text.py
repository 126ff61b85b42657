"""Text: bits per byte and bytes a second, beside counting and beside the same LSTM in torch, on one core.

    python benchmarks/text.py            # about two minutes
    python benchmarks/text.py --quick    # about half a minute: the first 100,000 bytes

The text is that of Python's own pydoc_data.topics, values joined by line ends in the order of their keys (466,195 bytes
in Python 3.11.7). Every byte is guessed before it is learnt from, once through, from nothing. lstm-compress (C++,
3 × 90 cells, horizon 10) takes 2.15 bits a byte at 13.7 kB/s on one core of the machine that the bars were set on.
"""

from __future__ import annotations

import timing  # first: it sets what the libraries below read at import

import argparse  # isort: skip
import itertools
import pydoc_data.topics
import sys
import time
from importlib.util import find_spec

import numpy as np

from stream_rnn import Learner
from stream_rnn.alphabet import SYMBOLS
from stream_rnn.frequency import Frequencies
from stream_rnn.textmodel import TextModel

SEGMENT, HIDDEN = 32, 128
BITS, RATE, AHEAD = 2.4, 2 * 13.7e3, 4.0  # at most bits a byte; at least bytes a second; at least times torch
_verdicts: list[bool] = []


def verdict(holds: bool) -> str:
    """ok or MISS, counted."""
    _verdicts.append(holds)
    return "ok" if holds else "MISS"


def topics() -> np.ndarray:
    """The text as bytes, uint8 (n,)."""
    texts = pydoc_data.topics.topics
    return np.frombuffer("\n".join(texts[key] for key in sorted(texts)).encode(), np.uint8)


def quality(text: np.ndarray, units: list[str]) -> None:
    """Bits and rates of the whole way through."""
    print(f"{len(text):,} bytes, each guessed before it is learnt       bits/byte   bytes/s of CPU")
    counted = Frequencies().step(text).mean(axis=0)
    print(f"  frequencies, order 0                              {counted[0]:.3f}")
    print(f"  frequencies, order 2, interpolated                {counted[1]:.3f}")
    runs = [("mixture (default)", {}), ("network alone", {"kind": "rnn"}),
            ("network alone, GRU", {"kind": "rnn", "cell": "gru", "lr": 4e-3})]  # fmt: skip
    runs += [(f"mixture, unit = {unit}", {"unit": unit}) for unit in units]
    for name, settings in runs:
        TextModel(**settings).learn("it compiles here")  # type: ignore[arg-type]
        model = TextModel(**settings)  # type: ignore[arg-type]
        start = time.process_time()
        raw = text.tobytes().decode() if "unit" in settings else text.tobytes()
        bits = sum(model.learn(raw[i : i + 4096]).sum() for i in range(0, len(raw), 4096)) / len(text)
        rate = len(text) / (time.process_time() - start)
        judged = f"  ≤ {BITS}, ≥ {RATE:,.0f}: {verdict(bits <= BITS and rate >= RATE)}" if len(text) > 4e5 else ""
        print(f"  {name:50}{bits:.3f}  {rate:10,.0f}{judged}", flush=True)


def against_torch(text: np.ndarray, budget_s: float) -> None:
    """The rate of the same network, learnt by the same segments."""
    if not find_spec("torch"):
        print("torch is not here: left out")
        return
    from opponents.torch_text import TorchText

    ours = Learner(SYMBOLS, SYMBOLS, cell="lstm", hidden=HIDDEN, k1=SEGMENT, k2=SEGMENT, loss="cross_entropy",
                   input_kind="classes", lr=8e-3)  # fmt: skip
    theirs = TorchText(HIDDEN, 8e-3)
    theirs.load(ours.parameters)
    before = np.append(np.uint8(10), text[:-1])
    segments = [(before[i : i + SEGMENT].copy(), text[i : i + SEGMENT].copy()) for i in range(0, 64_000, SEGMENT)]
    apart = 0.0
    for x, y in segments[:50]:
        logits = ours.step_many(x, y).astype(np.float64)
        bits = (np.log(np.exp(logits).sum(1)) - logits[np.arange(SEGMENT), y]) / np.log(2)
        apart = max(apart, np.abs(bits - theirs.learn(x, y)).max())
    print(f"LSTM H = {HIDDEN}, k1 = k2 = {SEGMENT}, Adam, from the same weights; over 50 updates a byte's cost lies at "
          f"most {apart:.0e} bits apart")  # fmt: skip

    def feed(learn):  # type: ignore[no-untyped-def]
        endless = itertools.cycle(segments)

        def run(n: int) -> None:
            for _ in range(n // SEGMENT):
                learn(*next(endless))

        return run, SEGMENT

    contestants = {"ours": feed(ours.step_many), "torch": feed(theirs.learn)}
    times = timing.take_turns(contestants, chunk_s=5e-3, budget_s=budget_s)
    ratio = times["torch"].least / times["ours"].least
    for name, t in times.items():
        print(f"  {name:6}{t!s:>32} µs a byte, {1e6 / t.least:,.0f} bytes/s")
    print(f"  torch / ours {ratio:.1f}  ≥ {AHEAD}  {verdict(ratio >= AHEAD)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first 100,000 bytes, short timings")
    parser.add_argument("--core", type=int, default=None, help="the core to run on (default: the last one)")
    args = parser.parse_args()
    core = timing.pin(args.core)
    print(f"core {core}, {timing.load()}, Python {sys.version.split()[0]}")
    text = topics()
    quality(text[:100_000] if args.quick else text, [] if args.quick else ["chars"])
    against_torch(text, 1.0 if args.quick else 3.0)
    sys.exit(0 if all(_verdicts) else 1)


if __name__ == "__main__":
    main()
