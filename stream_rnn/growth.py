"""Room for more features while a model learns: what it knows stays, bit for bit; new inputs begin at zero weights.

Three things have the number of units of features in their shape: the rows of the table "features"; a learner's W
(I, gates · H), in the arena of weights and its moments; a key's ring of inputs (window, I) in a learner's row; see
kernels/layout.py. States that lie elsewhere (in a store, spilled) keep their old shape until they come back, and
their length tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels.cells import CELLS
from stream_rnn.kernels.layout import arena_layout, row_layout, up16
from stream_rnn.kernels.series import FEATURE_WORDS
from stream_rnn.keys import KeySpace, Rows
from stream_rnn.learner import Learner

Array = NDArray[Any]

UNITS = 4  # room is made in multiples of


def capacity(units: int, needed: int) -> int:
    """Units to make room for: at least twice those of before, so that few models grow often.

    >>> capacity(0, 3), capacity(4, 5), capacity(4, 9)
    (4, 8, 12)
    """
    return max(-(-needed // UNITS) * UNITS, 2 * units)


def replace_tables(keyspace: KeySpace, build: Callable[[], None]) -> None:
    """Let `build` make a key space's tables anew; keys stay in their slots, and all count as changed.

    keyspace.adapt turns their states into what the new tables take.
    """
    states = [(key, keyspace.get(key)) for key in keyspace.slots]
    keys, slots = keyspace.keys, keyspace.slots
    keyspace.tables, keyspace.keys, keyspace.slots = {}, [], {}  # as `build` wants it: before the first key
    build()
    keyspace.keys, keyspace.slots = keys, slots
    for table in keyspace.tables.values():
        table.reserve(len(keys))
    keyspace.load(states)


def wider_shared(old: Learner, new: Learner) -> dict[str, Array]:
    """The shared arrays of `old` in the shapes of `new`."""
    shared = old.shared_arrays()
    a, b = (arena_layout(CELLS[x.cell], x.inputs, up16(x.hidden), x.outputs)["U"] for x in (old, new))  # where W ends
    for name in ("weights", "moment1", "moment2"):
        shared[name] = np.concatenate([shared[name][:a], np.zeros(b - a, np.float32), shared[name][a:]])
    return shared


def wider_state(
    state: bytes, keyspace: KeySpace, learners: Sequence[Learner], units: int, tails: Mapping[str, int] | None = None
) -> bytes | None:
    """A key's state from when there was room for fewer units, as today's tables take it; None: it is no such state.

    `learners` in the order of their tables, whose names begin with "learner". `tails`: words a unit of other tables,
    whose rows get zeros at their end.
    """
    owners = dict(zip([name for name in keyspace.tables if name.startswith("learner")], learners, strict=True))
    for before in range(0, units, UNITS):
        words = {name: table.words for name, table in keyspace.tables.items()}
        words["features"] -= FEATURE_WORDS * (max(1, units) - max(1, before))
        for name, learner in owners.items():
            words[name] -= learner.window * 2 * (units - before)
        for name, each in (tails or {}).items():
            words[name] -= each * (units - before)
        if sum(words[name] * table.dtype.itemsize for name, table in keyspace.tables.items()) == len(state):
            inputs = {name: (learner, learner.inputs - 2 * (units - before)) for name, learner in owners.items()}
            return wider_rows(state, keyspace.tables, words, inputs)
    return None


def wider_rows(
    state: bytes, tables: Mapping[str, Rows], words: Mapping[str, int], rings: Mapping[str, tuple[Learner, int]]
) -> bytes:
    """A key's state, whose rows have so many words, in the rows of today's tables: zeros at their ends.

    `rings`: the learners by their tables' names, and the inputs that each had.
    """
    rows, start = [], 0
    for name, table in tables.items():
        row = np.frombuffer(state, table.dtype, words[name], start)
        start += row.nbytes
        if name in rings:
            row = _wider_ring(row, *rings[name])
        rows.append(np.pad(row, (0, table.words - len(row))).tobytes())
    return b"".join(rows)


def wider_regression(P: Array, w: Array, P_before: Array, w_before: Array) -> None:
    """Go on, in P (upper triangle by rows) and w (…, inputs), from a regression that had fewer inputs."""
    before, now = w_before.shape[-1], w.shape[-1]
    w[..., :before] = w_before
    here = there = 0
    for a in range(before):
        P[here : here + before - a] = P_before[there : there + before - a]
        here, there = here + now - a, there + before - a


def learner_words(learner: Learner, inputs: int) -> int:
    """Words of a key's row if the learner had so many inputs."""
    return _row_of(learner, inputs)["end"]


def _row_of(learner: Learner, inputs: int) -> dict[str, int]:
    cell, H = CELLS[learner.cell], up16(learner.hidden)
    return row_layout(cell, inputs, H, learner.label_width, learner.k1, learner.window)


def _wider_ring(row: Array, learner: Learner, inputs: int) -> Array:
    """A learner's row with a ring of so many inputs, as one of the learner's."""
    at = _row_of(learner, inputs)
    ring = row[at["x"] : at["y"]].reshape(learner.window, inputs)
    wider = np.pad(ring, [(0, 0), (0, learner.inputs - inputs)])
    return np.concatenate([row[: at["x"]], wider.ravel(), row[at["y"] :]])
