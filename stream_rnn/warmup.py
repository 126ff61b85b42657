"""`stream-rnn warmup`: compiles every kernel into the disk cache, and drops what older versions left there."""

from __future__ import annotations

import argparse
import time

import numpy as np

from stream_rnn.classifier import Classifier
from stream_rnn.frequency import Frequencies
from stream_rnn.kernels import cache
from stream_rnn.learner import Learner
from stream_rnn.model import Forecaster
from stream_rnn.regressor import Regressor
from stream_rnn.textmodel import TextModel

CELLS = ("gru", "lstm", "elman")


def run(args: argparse.Namespace) -> int:
    """The command; its exit code."""
    print(
        f"cache: {cache.folder() or 'no folder can be written (set STREAM_RNN_CACHE_DIR); nothing is kept'}", flush=True
    )
    for cell in args.cell or CELLS:
        start = time.perf_counter()
        touch(cell)
        print(f"{cell:<6} ready, {time.perf_counter() - start:.1f} s", flush=True)
    dropped = cache.drop_stale()
    if dropped:
        print(f"dropped: {dropped} older version{'s' if dropped > 1 else ''}")
    return 0


def touch(cell: str) -> None:
    """Run every kernel of a cell once, with a few events."""
    model = Forecaster("y", key="k", cell=cell, hidden=16, k1=1, k2=2, drift="adwin")
    model.step_many([{"k": "a", "y": 1.0, "x": 2.0}] * 4)
    for labelled in (Classifier("y", cell=cell, hidden=16, k2=2), Regressor("y", cell=cell, hidden=16, k2=2)):
        labelled.step_many([{"y": 1, "x": 2.0}] * 4)
    TextModel(cell=cell, hidden=16).learn("a text")
    Frequencies().step(np.zeros(1, np.uint8))
    for kind, x in (("real", np.ones((4, 2), np.float32)), ("classes", np.zeros(4, np.int64))):
        learner = Learner(2, 1, cell=cell, hidden=16, k1=1, k2=2, input_kind=kind)
        learner.step_many(x, np.ones((4, 1), np.float32))
        learner.step(x[0], 1.0)
        learner.predict(x[0])
