"""A network that gets more inputs while it learns: what it knows stays, bit for bit; new inputs have zero weights.

Only two things in a learner have the number of its inputs in their shape: W (I, gates · H) in the arena of
weights and its moments, and a key's ring of inputs (window, I); see kernels/layout.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels.cells import CELLS
from stream_rnn.kernels.layout import arena_layout, row_layout, up16
from stream_rnn.keys import KeySpace
from stream_rnn.learner import Learner

Array = NDArray[Any]


def grow(keyspace: KeySpace, old: Sequence[Learner], build: Callable[[], Sequence[Learner]]) -> None:
    """Replace the tables of a key space and the learners in it by those that `build` makes, with what was in them.

    Keys keep their slots. A learner's row gets a wider ring; any other table's row may get zeros at its end.
    """
    was, keys, slots = keyspace.tables, keyspace.keys, keyspace.slots
    keyspace.tables, keyspace.keys, keyspace.slots = {}, [], {}  # as `build` wants it: before the first key
    new = build()
    keyspace.keys, keyspace.slots = keys, slots
    learners = iter(zip(old, new, strict=True))
    for name, table in keyspace.tables.items():
        pair = next(learners) if name.startswith("learner") else None
        table.reserve(len(keys))
        for slot in slots.values():
            words = was[name].row(slot)
            if pair:
                words = _row(*pair, words)
            row = table.row(slot)
            row[: len(words)] = words
            row[len(words) :] = 0
    keyspace.changed[list(slots.values())] = 1
    for pair in zip(old, new, strict=True):
        pair[1].load_shared(_shared(*pair))


def _shared(old: Learner, new: Learner) -> dict[str, Array]:
    """The shared arrays of `old` in the shapes of `new`."""
    shared = old.shared_arrays()
    a, b = (arena_layout(CELLS[x.cell], x.inputs, up16(x.hidden), x.outputs)["U"] for x in (old, new))  # where W ends
    for name in ("weights", "moment1", "moment2"):
        shared[name] = np.concatenate([shared[name][:a], np.zeros(b - a, np.float32), shared[name][a:]])
    return shared


def _row(old: Learner, new: Learner, words: Array) -> Array:
    """A key's row of `old` as one of `new`."""
    at = row_layout(CELLS[old.cell], old.inputs, up16(old.hidden), old.label_width, old.k1, old.window)
    ring = words[at["x"] : at["y"]].reshape(old.window, old.inputs)
    wider = np.pad(ring, [(0, 0), (0, new.inputs - old.inputs)])
    return np.concatenate([words[: at["x"]], wider.ravel(), words[at["y"] :]])
