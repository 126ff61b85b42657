"""Streams, small models and ways to die, for tests of the engine."""

from __future__ import annotations

import json
import math
from concurrent import futures

import pytest

from stream_rnn import phases
from stream_rnn.checkpoints import Checkpoints
from stream_rnn.connectors.memory import MemorySink, MemorySource
from stream_rnn.engine import Engine
from stream_rnn.model import Forecaster


class Crash(BaseException):
    """The process is gone, as far as can be had without killing it."""


def events(n, keys=4, seed=0, step_s=10.0):
    """Events of several keys, some of which cannot be used."""
    made = []
    for i in range(n):
        key = f"k{(i * 7919 + seed) % keys}"
        if i % 37 == 11:
            made.append(b"no json at all %d" % i)
        elif i % 41 == 13:
            made.append({"key": key, "t": 1e9 + i * step_s, "x": "no number"})
        else:
            made.append({"key": key, "t": 1e9 + i * step_s, "x": math.sin(i / 5 + seed), "y": float(i % 3)})
    return made


def model(**settings):
    """A small network that learns quickly."""
    defaults = {"key": "key", "time": "t", "kind": "rnn", "hidden": 4, "k1": 2, "k2": 4, "lr": 1e-2}
    return Forecaster("x", **(defaults | settings))


class Sinks:
    """Two lists that outlive engines, as files do."""

    def __init__(self):
        self.predictions, self.letters = MemorySink(), MemorySink()

    @property
    def lines(self):
        return self.predictions.lines, self.letters.lines


def engine(stream, sinks, folder, made=None, **policy):
    """An engine over lists."""
    source = MemorySource(stream) if isinstance(stream, list) else stream
    return Engine(source, made or model(), sinks.predictions, sinks.letters, folder, **policy)


def undisturbed(stream, folder, made=None, **policy):
    """(sinks, engine) of a run from beginning to end."""
    sinks = Sinks()
    whole = engine(stream, sinks, folder, made, **policy)
    whole.run()
    return sinks, whole


def weights(engine):
    """Everything that the only model has learnt, keys too."""
    m = engine.model
    arrays = {name: a.tobytes() for name, a in m.shared_arrays().items()}
    return arrays, {key: m.keyspace.get(key) for key in m.keyspace.slots}


class Killer:
    """Raises Crash when a phase is entered for the n-th time; `counts` says how often each was."""

    def __init__(self, monkeypatch):
        self.counts = {}
        self.at = None
        monkeypatch.setattr(phases, "enter", self._enter)

    def __call__(self, name, n):
        """Be ready to."""
        self.counts, self.at = {}, (name, n)

    def _enter(self, name):
        assert name in phases.PHASES
        self.counts[name] = self.counts.get(name, 0) + 1
        if self.at == (name, self.counts[name]):
            self.at = None
            raise Crash(name)


def in_step(monkeypatch):
    """Let no checkpoint be written beside the loop, so that each block can have one."""
    begin = Checkpoints.begin

    def wait(self, *arguments):
        begin(self, *arguments)
        futures.wait([self._pending])

    monkeypatch.setattr(Checkpoints, "begin", wait)


def run_until_done(make, limit=60):
    """Start engines anew until one comes to the end; it, and how often they died."""
    for deaths in range(limit):
        e = make()
        try:
            e.run()
        except Crash:
            continue
        return e, deaths
    pytest.fail("it never came to the end")


def parsed(lines):
    return [json.loads(line) for line in lines]
