"""Experts: the forecasts that the default model mixes, and what each needs.

    last value         the value that was last
    usual step         L plus the usual step at this half-hour of a weekday or weekend day; further ahead the usual
                       change from now
    usual level        the usual level then
    short regression   recursive least squares on the level and the newest 3 steps, forgetting 1 % an event
    long regression    on 15 steps, the level, the other targets, the clock and the week (kernels/weeks.py),
                       forgetting 0.1 %; more than one step ahead it forecasts what the week's usual change leaves
    network            the learner's own output
    read-out           recursive least squares on the network's hidden state and inputs, one for all keys; the faster,
                       second reader of what the network has found

A regression takes an error as no larger than 1 D, or a few spikes would own it. Each key, target and step ahead has
its own weights, by Bernstein online aggregation (kernels/mixing.py).

What each is for, as measured (benchmarks/quality.py --ablation): the long regression and the network carry the
forecast; the read-out is there first when the network is new; step and level win the first days; the short regression
follows changes of regime; the last value holds what nothing can forecast at 1.00 times its error.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import StateMismatch
from stream_rnn.features import Features, Floats, Inputs, Int64s
from stream_rnn.growth import wider_regression
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.experts import MIX_BLOCK, MIXTURE, NAMES, K, layout, mix_block, template
from stream_rnn.kernels.gains import identity
from stream_rnn.kernels.mixing import HUBER, MAE, MSE, PRIOR
from stream_rnn.kernels.mixing import V as MIXED
from stream_rnn.kernels.weeks import INPUTS as WEEK_INPUTS
from stream_rnn.kernels.weeks import LEVEL_WORDS, READ_WEEKS, STEP_WORDS, read_weeks
from stream_rnn.keys import KeySpace, Rows

__all__ = ["NAMES", "Experts", "Loss", "loss_of"]


class Loss(NamedTuple):
    """What one of the model's losses means for its parts."""

    network: str
    delta: float
    tight: float  # largest error, in D, that a regression learns from
    mixing: int


_LOSSES = {
    "huber": Loss("huber", 0.25, 1.0, HUBER),
    "mae": Loss("huber", 0.05, 0.5, MAE),
    "mse": Loss("squared", 1.0, 4.0, MSE),
}


def loss_of(name: str) -> Loss:
    """The parts of a loss; "squared" is another name of "mse"."""
    return _LOSSES["mse" if name == "squared" else name]


class Experts:
    """The compiled passes around a network and their tables in a KeySpace.

    The network's inputs are the week's, `lead` of them, then the features'.
    """

    def __init__(self, features: Features, hidden: int, loss: Loss, keyspace: KeySpace) -> None:
        T, n = features.targets, features.horizon
        self.features, self.loss = features, loss
        self.lead = self.lead_of(T)
        R = 1 + hidden + self.lead + features.inputs
        sizes = layout(T, n, R, hidden, loss.mixing)
        self.P = identity(R)
        self.w = np.zeros((T * n, R))
        self.left_out = np.zeros(K, np.int64)  # for an ablation: not 0 where an expert is to have no share
        self._scratch = np.zeros(3 * R + 2 * K + T * n)
        nan_levels = np.full(T * LEVEL_WORDS, np.nan)
        self._weeks = (
            keyspace.table("week levels", np.float64, T * LEVEL_WORDS, nan_levels),
            keyspace.table("week steps", np.float32, T * STEP_WORDS),
        )
        self._tables = (
            keyspace.table("experts", np.float64, T * sizes["part"], np.tile(template(sizes), T)),
            keyspace.table("said", np.float32, T * n * n * (K + 1)),
            keyspace.table("readout", np.float64, 2 * n * R),
        )
        self._sizes = np.array(list(sizes.values()), np.int64)
        self._at_mixtures = sizes["mixtures"]
        self._week_sizes = np.array([T, n], np.int64)
        self._read = compiled(read_weeks, READ_WEEKS, "the experts' kernels")
        self._mix = compiled(mix_block, MIX_BLOCK, "the experts' kernels")

    @staticmethod
    def lead_of(targets: int) -> int:
        """How many of the network's inputs are the week's."""
        return WEEK_INPUTS * targets

    def read(self, slots: Int64s, time: Floats, values: Floats, inputs: Inputs) -> tuple[NDArray[np.float32], Floats]:
        """Take in a block: the network's inputs (n, lead + features' inputs), and the usual levels, for `mix`."""
        T, n = self.features.targets, self.features.horizon
        X = np.empty((len(slots), self.lead + inputs.X.shape[1]), np.float32)
        X[:, self.lead :] = inputs.X
        usual = np.empty((len(slots), T, n + 1))
        self._read(slots, time, values, inputs.expected, self.features.unit(inputs), self._week_sizes,
                   *_where(self._weeks), X, usual)  # fmt: skip
        return X, usual

    def mix(
        self,
        slots: Int64s,
        values: Floats,
        X: NDArray[np.float32],
        usual: Floats,
        inputs: Inputs,
        y: NDArray[np.float32],
        hidden: NDArray[np.float32],
        shares: bool,
    ) -> tuple[Floats, Floats]:
        """Learn from a block and forecast after each event, (n, outputs), from the network's y and hidden states; and
        the experts' shares (n, outputs, experts) if they are asked for, else of no events."""
        forecast = np.empty(y.shape)
        share = np.empty((len(slots) if shares else 0, y.shape[1], K))
        self._mix(slots, values, X, inputs.labels, inputs.base, inputs.scale, inputs.step, usual, y, hidden,
                  self._sizes, *_where(self._tables), self.P, self.w, self._scratch, self.loss.tight, self.left_out,
                  forecast, share)  # fmt: skip
        return forecast, share

    def shares(self, slot: int) -> Floats:
        """The experts' shares in a key's forecasts as they are now, (outputs, experts)."""
        T, n = self.features.targets, self.features.horizon
        parts = self._tables[0].row(slot).reshape(T, -1)
        mixtures = parts[:, self._at_mixtures : self._at_mixtures + n * MIXTURE].reshape(T * n, MIXTURE)
        V, B, R = (mixtures[:, at : at + K] for at in (MIXED, MIXED + K, MIXED + 2 * K))
        eta = np.minimum(np.sqrt(math.log(K + 1) / (V + 1e-12)), 1 / (2 * B + 1e-12))
        score = np.log(eta) + eta * R + PRIOR * (np.arange(K) == 0)
        share = np.exp(score - score.max(axis=1, keepdims=True))
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    @property
    def tails(self) -> dict[str, int]:
        """Words that one more unit of features adds to the end of a key's row, by table."""
        return {"readout": 4 * self.features.horizon}

    def shared_arrays(self) -> dict[str, NDArray[Any]]:
        """Live views of all that is not per key: the read-out's P and weights."""
        return {"P": self.P, "w": self.w}

    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Set all of `shared_arrays`, bit for bit."""
        for name, mine in self.shared_arrays().items():
            if name not in arrays or arrays[name].shape != mine.shape:
                raise StateMismatch(f"state array 'experts.{name}' is missing or has another shape than {mine.shape}; "
                                    "it was made with other settings")  # fmt: skip
            mine[:] = arrays[name]

    def take_over(self, old: Experts) -> None:
        """Go on from experts that had fewer inputs; the new ones begin as at a start."""
        wider_regression(self.P, self.w, old.P, old.w)


def _where(tables: tuple[Rows, ...]) -> list[Int64s]:
    """The tables' rows, as the kernels take them."""
    return [a for t in tables for a in (t.bases, np.array([t.shift, t.mask, t.stride], np.int64))]
