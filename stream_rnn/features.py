"""Features: columns of a block → a network's inputs and labels, in each series' own running units.

Per key and series, from what is known up to and including an event: the last value L, a running mean M and
standard deviation S (half-life 500 values), and D, the running root mean square of its steps, at most 5 times a
typical recent step (a mean of √|step| that no single step moves far), so that neither one jump, be it by 1e12, nor a
sensor in other units blinds it for thousands of events.
Times of day have a profile: for each half-hour of a weekday and of a weekend day the usual step and level there
(running means), and the newest level there on any day. With a horizon above 1 a half-hour's level enters when the
next half-hour begins, so that what a regression learns with was known when its step was made.

With a horizon of 1 a network learns (value - L) / D, so that its 0 says "as the last one". With more it learns, for i
steps ahead, what a linear regression of that step leaves, in D √i (a hidden state is too small to carry the season of
every step), and the forecast is half-way between the regression's and the network's: better than either.

A regression's inputs: 1, (L - M) / S, the newest seven steps / D, the usual and the newest level at the time that is
forecast, less L, and one step ahead the usual step then.

A network's inputs at an event, in order (T targets, U units of features), all within ±LIMIT:
    3 T    (L - M) / S, newest step / D, 1 if the target was missing
    1      log of the time since the event before over its mean
    10     sine and cosine of the expected time: day (3 harmonics) and week (2)
    3 T    usual step and usual level less L at the expected time, and the regression's forecast, in D
    8      a vector of the key's hash, where there are keys: they share the network, and may still differ
    2 U    numeric features: level and newest step, standardised; text: one hot of 8; 0 where missing
The expected time is the event's plus the median of the key's last five intervals: the coming event's own time
is never used. Labels of output j n + i (target j, i + 1 of n steps ahead) belong to the step made i + 1 events ago.

State is float64 and the pass (kernels/series.py) plain loops, so the bits stay whatever the blocks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.blob import pack_key
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.rls import rls_template
from stream_rnn.kernels.series import (
    AT,
    BINS,
    FEATURE_WORDS,
    FORECAST,
    HEAD,
    HISTORY,
    LAST_TIME,
    LEVELS,
    MADE,
    MADE_WORDS,
    REACH,
    READ_BLOCK,
    REGRESSORS,
    SETTLE_BLOCK,
    SHARE,
    TIME_INPUTS,
    read_block,
    settle_block,
)
from stream_rnn.keys import KeySpace
from stream_rnn.records import Key

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

KEY_WORDS = 8


class Inputs(NamedTuple):
    """What a block becomes: (n events, …)."""

    X: NDArray[np.float32]  # inputs of the steps to be made
    labels: NDArray[np.float32]  # for earlier steps of the keys, NaN: none
    base: Floats  # (n, outputs); NaN before a target's first value
    scale: Floats  # (n, outputs): a forecast is base + scale · ŷ
    expected: Floats  # (n,), epoch seconds of the coming event; NaN: unknown
    step: Int64s  # (n,), events of the key so far


class Features:
    """The compiled pass and its tables in a KeySpace; `keyed`: there is more than the one key None."""

    def __init__(self, targets: int, horizon: int, units: int, keyspace: KeySpace, keyed: bool = False) -> None:
        self.targets, self.horizon, self.units, self.keyspace = targets, horizon, units, keyspace
        self.key_words = KEY_WORDS if keyed else 0
        self.inputs = TIME_INPUTS + 6 * targets + self.key_words + 2 * units
        self.outputs = targets * horizon
        head = np.zeros(HEAD)
        head[LAST_TIME] = np.nan
        part = np.full(MADE + MADE_WORDS * horizon, np.nan)
        part[AT] = -1
        part[:HISTORY] = 0.0
        part = np.concatenate([part, rls_template(REGRESSORS), np.tile(rls_template(REGRESSORS - 1), horizon - 1)])
        row = np.concatenate([head, np.tile(part, targets), np.zeros(self.key_words)])
        self.tables = (
            keyspace.table("series", np.float64, len(row), row),
            keyspace.table("levels", np.float64, targets * LEVELS, np.full(targets * LEVELS, np.nan)),
            keyspace.table("steps", np.float32, targets * BINS * 2),  # usual step, and values seen
            keyspace.table("features", np.float64, max(1, units) * FEATURE_WORDS),
        )
        self._sizes = np.array([targets, horizon, len(part), self.key_words], np.int64)
        self._places = [np.array([t.shift, t.mask, t.stride], np.int64) for t in self.tables]
        self._read = compiled(read_block, READ_BLOCK, "the features' kernel")
        self._settle = compiled(settle_block, SETTLE_BLOCK, "the features' kernel")

    @property
    def lags(self) -> list[int]:
        """How many steps back each label belongs."""
        return list(range(self.horizon)) * self.targets

    def enter(self, keys: Sequence[Key]) -> Int64s:
        """The slots of a block's keys; a new key gets its vector."""
        new = [key for key in dict.fromkeys(keys) if key not in self.keyspace.slots] if self.key_words else []
        slots = self.keyspace.enter_many(keys)
        for key in new:
            self.tables[0].row(self.keyspace.slots[key])[-self.key_words :] = key_vector(key)
        return slots

    def read(self, slots: Int64s, time: Floats, values: Floats, units: Int64s, texts: Int64s) -> Inputs:
        """Take in a block: slots and time (n,), values (n, S); units and texts (S - T,) place the features."""
        n = len(slots)
        out = Inputs(
            np.zeros((n, self.inputs), np.float32),
            np.empty((n, self.outputs), np.float32),
            np.empty((n, self.outputs)),
            np.empty((n, self.outputs)),
            np.empty(n),
            np.empty(n, np.int64),
        )
        self._read(slots, time, values, units, texts, self._sizes, *self._addresses(), *out)
        return out

    def unit(self, inputs: Inputs) -> Floats:
        """The targets' D (n, T), 0 where there is none yet."""
        n = self.horizon
        return np.ascontiguousarray(inputs.scale[:, ::n]) / (1.0 if n == 1 else SHARE)

    def predicted(self, slot: int) -> Floats:
        """What a key's coming event is forecast to be (targets,), NaN: nothing yet; as `settle` has kept it."""
        parts = self.tables[0].row(slot)[HEAD:][: self.targets * int(self._sizes[2])]
        return np.array(parts.reshape(self.targets, -1)[:, FORECAST])

    def settle(self, slots: Int64s, forecast: Floats) -> Floats:
        """Keep a block's one-step forecasts; what each event had been forecast to be, (n, T)."""
        predicted = np.empty((len(slots), self.targets))
        self._settle(slots, forecast, self._sizes, *self._addresses()[:2], predicted)
        return predicted

    def _addresses(self) -> list[Int64s]:
        """Where the tables' rows are, as the kernels take it; slabs are added as keys come."""
        return [a for table, place in zip(self.tables, self._places, strict=True) for a in (table.bases, place)]


def key_vector(key: Key) -> Floats:
    """Numbers that tell a key from others, (KEY_WORDS,), of mean 0 and variance 1 over keys; the same everywhere."""
    digest = hashlib.blake2b(pack_key(key), digest_size=KEY_WORDS).digest()
    return (np.frombuffer(digest, np.uint8).astype(np.float64) - 127.5) * (math.sqrt(12.0) / 256.0)


def forecasts(base: Floats, scale: Floats, y: NDArray[np.float32]) -> Floats:
    """Networks' outputs in the user's units, (n, outputs); never beyond REACH scales of the base."""
    return base + scale * np.clip(y.astype(np.float64), -REACH, REACH)
