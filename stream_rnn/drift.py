"""Drift: has a key's error become larger, and what then? The detectors are in kernels/drift.py.

Both look at the size of an error among the usual ones (a running mean of about a thousand), so their thresholds hold
in any unit. `boost_lr` multiplies the learning rate by BOOST for the next EVENTS events of the model; it begins with
the next cell, the events being numbered and cut into cells of CELL: so it begins at the same event whatever the
blocks, and in a replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.hints import nearest
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.drift import ADWIN, AW_WORDS, DRIFT_BLOCK, PAGE_HINKLEY, PH_WORDS, drift_block
from stream_rnn.keys import KeySpace

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

DETECTORS = {"none": 0, "page-hinkley": PAGE_HINKLEY, "adwin": ADWIN}
ACTIONS = ("alert", "boost_lr")

BOOST = 3.0
EVENTS = 1024
CELL = 64


class Drifts:
    """A detector a key and target, and the boost of the learning rate."""

    def __init__(self, targets: int, detector: str, actions: tuple[str, ...], keyspace: KeySpace) -> None:
        if detector not in DETECTORS:
            raise ConfigError(f"drift = {detector!r}: it must be one of {', '.join(DETECTORS)}"
                              f"{nearest(str(detector), list(DETECTORS))}")  # fmt: skip
        if not set(actions) <= set(ACTIONS) or len(set(actions)) < len(actions):
            raise ConfigError(f"on_drift = {list(actions)}: it may hold {' and '.join(map(repr, ACTIONS))}, each once")
        self._kind = DETECTORS[detector]
        self.alerts, self.boosts = "alert" in actions and self._kind > 0, "boost_lr" in actions and self._kind > 0
        self.state = np.zeros(3, np.int64)  # events so far, the one at which a boost ends, a drift in this cell
        if self._kind:
            words = targets * (PH_WORDS if self._kind == PAGE_HINKLEY else AW_WORDS)
            self._table = keyspace.table("drift", np.float64, words)
            self._place = np.array([self._table.shift, self._table.mask, self._table.stride], np.int64)
            self._find = compiled(drift_block, DRIFT_BLOCK, "the drift detectors' kernel")

    def find(self, slots: Int64s, size: Floats) -> Int64s | None:
        """Take in sizes of errors (n, T): the target that has drifted at each event, or -1; None: nothing is looked
        for."""
        n = len(slots)
        self.state[0] += n
        if not self._kind:
            return None
        drifted = np.empty(n, np.int64)
        self._find(slots, size, self._kind, self._table.bases, self._place, drifted)
        if (drifted >= 0).any():
            self.state[2] = 1
        return drifted

    def cells(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Rows start … stop - 1 of a block in pieces in each of which the learning rate stays."""
        while self.boosts and start < stop:
            end = min(stop, start + CELL - int(self.state[0]) % CELL)
            yield start, end
            start = end
        if start < stop:
            yield start, stop

    def factor(self) -> float:
        """What the learning rate is multiplied by for the events to come."""
        events, until, found = self.state.tolist()
        if events % CELL == 0 and found:
            until = events + EVENTS
            self.state[1:] = until, 0
        return BOOST if events < until else 1.0

    def take_over(self, old: Drifts) -> None:
        """Go on from another."""
        self.state[:] = old.state


def actions_of(given: Any) -> tuple[str, ...]:
    """One action or several.

    >>> actions_of("alert"), actions_of(["alert", "boost_lr"])
    (('alert',), ('alert', 'boost_lr'))
    """
    return (given,) if isinstance(given, str) else tuple(given)
