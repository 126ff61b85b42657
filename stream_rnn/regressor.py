"""Regressor: events in, a number predicted for each; it learns from labels whenever they come.

The pipeline is labelled.py's; experts and their mixing are described in kernels/values.py. As a river regressor it has
learn_one and predict_one besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, ClassVar

import msgspec
import numpy as np
from river import base

from stream_rnn.answers import listed
from stream_rnn.errors import ConfigError
from stream_rnn.experts import loss_of
from stream_rnn.fields import LARGEST, Floats, numbers
from stream_rnn.intervals import MEAN_ERROR, levels_of
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.mixing import PRIOR, V
from stream_rnn.kernels.values import MIX_VALUES, MIXTURE_WORDS, NAMES, TOLD_WORDS, K, line_words, mix_values
from stream_rnn.labelled import Batch, Floats32, Labelled, Seen, Table
from stream_rnn.records import Key
from stream_rnn.riverface import RiverFace

LOSSES = ("huber", "mae", "mse", "squared")


class Regressor(RiverFace, Labelled, base.Regressor):
    """Predicts a number of each event of a stream, for each key with a state of its own, and learns from the labels.

    label: the field with the number. id: the field by which a later record {key, id, label} finds its event, one of the
    newest `max_delay` of its key. key: the field(s) that tell series apart. time: the field with the event's time.
    features: fields to learn from (None: every numeric one but `ignore`, up to max_features).

    loss: "mae", "mse" (or "squared"), or what is between them, "huber". intervals: the levels between whose bounds
    labels are to be, up to four. The network learns at every k1-th event of a key from the newest k2, and the experts
    at each label.

    >>> model = Regressor("grams", id="egg")
    >>> model.step({"egg": 1, "length": 5.5}).predicted is None  # nothing is known yet
    True
    >>> p = model.learn(None, 1, 58.0)
    >>> p.step, p.actual, model.step({"egg": 2, "length": 5.8}).predicted
    (1, 58.0, 58.0)
    """

    task: ClassVar[str] = "regress"
    live: ClassVar[tuple[str, ...]] = ("lr", "clip", "intervals")
    _format: ClassVar[str] = "regressor/1"

    def __init__(
        self,
        label: str | None = None,
        *,
        key: str | Sequence[str] | None = None,
        time: str | None = None,
        id: str | None = None,
        features: Sequence[str] | None = None,
        cell: str = "gru",
        hidden: int = 32,
        k1: int = 1,
        k2: int = 16,
        lr: float = 1e-3,
        loss: str = "huber",
        optimizer: str = "adam",
        clip: float | None = 1.0,
        seed: int = 0,
        intervals: Sequence[float] = (0.5, 0.9),
        max_delay: int = 64,
        max_features: int = 32,
        ignore: Sequence[str] = (),
    ) -> None:
        if loss not in LOSSES:
            raise ConfigError(f"loss = {loss!r}: it must be one of {', '.join(map(repr, LOSSES))}")
        self._loss = loss_of(loss)
        self._levels = levels_of(intervals)
        self._classes, self._first_P, self._weight_shape = 0, 1.0, ()
        self._left_out = np.zeros(K, np.int64)  # for an ablation: not 0 where an expert is to have no share
        self._mixing = compiled(mix_values, MIX_VALUES, "the values' kernel")
        self._begin({
            "label": label, "key": key, "time": time, "id": id, "features": features, "cell": cell, "hidden": hidden,
            "k1": k1, "k2": k2, "lr": lr, "loss": loss, "optimizer": optimizer, "clip": clip, "seed": seed,
            "intervals": list(self._levels), "max_delay": max_delay, "max_features": max_features, "ignore": ignore,
        })  # fmt: skip

    def _build(self, units: int) -> None:
        super()._build(units)
        self._scratch = np.zeros(3 * len(self.w2) + 2 * K + 2 * (1 + units))

    def _network_loss(self) -> dict[str, Any]:
        return {"loss": self._loss.network, "delta": self._loss.delta}

    def _more_tables(self, units: int) -> dict[str, Table]:
        kept, room = self._kept, max(1, units)
        return {
            "mixture": (np.float64, MIXTURE_WORDS, None), "told": (np.float64, TOLD_WORDS * kept, None),
            "kept": (np.float32, (self.settings["hidden"] + self._inputs(units)) * kept, None),
            "line": (np.float64, line_words(room), None), "lines": (np.float32, room * kept, None),
        }  # fmt: skip

    def _read_labels(self, column: Sequence[Any]) -> tuple[Floats, list[Any], dict[int, str]]:
        labels, wrong = numbers(column)
        why = f"it must be a finite number within ±{LARGEST:g}, or null where there is none"
        return labels, listed(labels), dict.fromkeys(wrong, why)

    def _mix(self, batch: Batch, seen: Seen, y: Floats32, hidden: Floats32) -> tuple[Any, ...]:
        n, levels = len(y), np.array(self._levels)
        predicted, half = np.empty(n), np.empty((n, len(levels)))
        starts = np.array([NormalDist().inv_cdf((1 + c) / 2) / MEAN_ERROR for c in self._levels])
        sizes = np.array([self.settings["hidden"], self._kept, self._loss.mixing], np.int64)
        self._mixing(seen.slots, seen.back, seen.step, seen.X, seen.line, seen.goal, batch.labels, seen.last, seen.norm,
                     y, hidden, sizes, *self._address("mixture", "told", "kept", "line", "lines"), self.P1, self.w1,
                     self.P2, self.w2, self._loss.tight, levels, starts, self._left_out, self._scratch, predicted,
                     half)  # fmt: skip
        interval: list[Any] = [msgspec.UNSET] * n
        if self._levels:
            bounds = np.stack([predicted[:, None] - half, predicted[:, None] + half], -1)
            there = ~np.isnan(half[:, 0])
            interval = [dict(zip(self._levels, row, strict=True)) if ok else None
                        for row, ok in zip(bounds.tolist(), there.tolist(), strict=True)]  # fmt: skip
        return listed(predicted), listed(batch.labels - predicted), interval, [msgspec.UNSET] * n

    def _set(self, name: str, value: Any) -> Any:
        if name != "intervals":
            return super()._set(name, value)
        self._levels = levels_of(value)
        return list(self._levels)

    def experts_of(self, key: Key) -> dict[str, float] | None:
        """Who carries a key's predictions now; None of a key that is not here."""
        slot = self.keyspace.find(key)
        if slot < 0:
            return None
        row = self._tables["mixture"].row(slot)
        v, b, r = (row[V + i * K : V + (i + 1) * K] for i in range(3))
        eta = np.minimum(np.sqrt(math.log(K + 1) / (v + 1e-12)), 1 / (2 * b + 1e-12))
        score = np.log(eta) + eta * r + PRIOR * (np.arange(K) == 0)
        share = np.exp(score - score.max())
        return dict(zip(NAMES, (share / share.sum()).tolist(), strict=True))

    # As river has it ----------------------------------------------------------------------------------

    def predict_one(self, x: dict[Any, Any]) -> float:
        """What the label will be, were x the next event; 0 before the first label. Nothing changes."""
        return float(self._look_at(x).predicted or 0.0)
