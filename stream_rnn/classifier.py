"""Classifier: events in, probabilities of classes out; it learns from labels whenever they come.

The pipeline is labelled.py's; experts and their mixing are described in kernels/classes.py. As a river classifier it
has learn_one, predict_one and predict_proba_one besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from river import base

from stream_rnn.classes import Class
from stream_rnn.errors import StateMismatch
from stream_rnn.fields import Floats
from stream_rnn.kernels.cache import compiled
from stream_rnn.kernels.classes import (
    FIRST_P,
    MIX_CLASSES,
    NAMES,
    RATES,
    K,
    mix_classes,
    mixture_template,
    mixture_words,
)
from stream_rnn.labelled import Batch, Floats32, Labelled, Seen, Table, _whole
from stream_rnn.records import BadEvent, Key
from stream_rnn.riverface import RiverFace

_UNSEEN_BIAS = -20.0  # of the network's output for a class that has had no label


class Classifier(RiverFace, Labelled, base.Classifier):
    """Predicts the class of each event of a stream, for each key with a state of its own, and learns from the labels.

    label: the field with the class: text, a whole number or a truth value. id: the field by which a later record
    {key, id, label} finds its event, one of the newest `max_delay` of its key. key: the field(s) that tell series
    apart. time: the field with the event's time. features: fields to learn from (None: every numeric one but `ignore`,
    up to max_features). max_classes: room for classes; the label of a further one is refused.

    The network learns at every k1-th event of a key from the newest k2, and the experts at each label.

    >>> model = Classifier("class", key="room")
    >>> p = model.step({"room": "hall", "noise": 0.5, "class": "busy"})
    >>> p.predicted, p.actual, p.error  # nothing was known yet
    (None, 'busy', None)
    >>> p = model.step({"room": "hall", "noise": 0.4})
    >>> p.predicted, p.probabilities, p.actual
    ('busy', {'busy': 1.0}, None)
    """

    task: ClassVar[str] = "classify"
    _format: ClassVar[str] = "classifier/1"

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
        optimizer: str = "adam",
        clip: float | None = 1.0,
        seed: int = 0,
        max_classes: int = 16,
        max_delay: int = 64,
        max_features: int = 32,
        ignore: Sequence[str] = (),
    ) -> None:
        _whole("max_classes", max_classes, 2)
        self._classes, self._first_P, self._weight_shape = max_classes, FIRST_P, (max_classes,)
        self._common = np.zeros(max_classes + 2)
        self._rates = np.array(RATES)
        self._mixing = compiled(mix_classes, MIX_CLASSES, "the classes' kernel")
        self._begin({
            "label": label, "key": key, "time": time, "id": id, "features": features, "cell": cell, "hidden": hidden,
            "k1": k1, "k2": k2, "lr": lr, "optimizer": optimizer, "clip": clip, "seed": seed,
            "max_classes": max_classes, "max_delay": max_delay, "max_features": max_features, "ignore": ignore,
        })  # fmt: skip

    def _build(self, units: int) -> None:
        super()._build(units)
        self._scratch = np.zeros(3 * self.w2.shape[1] + (1 + K) * self._classes)
        self.learner.load_parameters({"head.bias": np.full(self._classes, _UNSEEN_BIAS, np.float32)})

    def _network_loss(self) -> dict[str, Any]:
        return {"loss": "cross_entropy"}

    def _more_tables(self, units: int) -> dict[str, Table]:
        C, kept = self._classes, self._kept
        row = K * C + self.settings["hidden"] + self._inputs(units)
        return {"mixture": (np.float64, mixture_words(C), mixture_template(C)),
                "told": (np.float64, (C + 2) * kept, None), "kept": (np.float32, row * kept, None)}  # fmt: skip

    def _read_labels(self, column: Sequence[Any]) -> tuple[Floats, list[Any], dict[int, str]]:
        return self.classes.read(column)

    def _enter_class(self, batch: Batch) -> BadEvent | None:
        batch.labels[:] = self.classes.read(batch.told)[0]
        if np.isfinite(batch.labels[0]):  # a record of this block before it brought the class
            return None
        if len(self.classes) >= self._classes:
            known = ", ".join(repr(c) for c in self.classes.values[:8]) + (" …" if self._classes > 8 else "")
            return self._refuse("classes", f"the label {batch.told[0]!r} is of a further class; there is room for "
                                f"{self._classes} ({known}): begin anew with a larger max_classes")  # fmt: skip
        bias = self.learner.parameters["head.bias"]
        code = self.classes.add(batch.told[0])
        bias[code] = 0.0
        self.learner.load_parameters({"head.bias": bias})
        batch.labels[0] = code
        return None

    def _mix(self, batch: Batch, seen: Seen, y: Floats32, hidden: Floats32) -> tuple[Any, ...]:
        n, C = y.shape
        before = np.full(n, self._known, np.int64)
        p, known = np.zeros((n, C)), np.zeros(n, np.int64)
        sizes = np.array([C, self.settings["hidden"], self._kept], np.int64)
        self._mixing(seen.slots, seen.back, seen.step, seen.X, seen.goal, seen.last, before, y, hidden, sizes,
                     *self._address("mixture", "told", "kept"), self._common, self.P1, self.w1, self.P2, self.w2,
                     self._rates, self._scratch, p, known)  # fmt: skip
        classes = self.classes.values
        best = [classes[c] if classes else None for c in p.argmax(axis=1).tolist()]
        rows = p.tolist()
        counts = known.tolist()
        if n and min(counts) == max(counts) > 0:
            named = classes[: counts[0]]
            probabilities: list[Any] = [dict(zip(named, row, strict=False)) for row in rows]
        else:
            best = [b if k else None for b, k in zip(best, counts, strict=True)]
            probabilities = [dict(zip(classes[:k], row, strict=False)) if k else None
                             for k, row in zip(counts, rows, strict=True)]  # fmt: skip
        error = [None if b is None or a is None else int(a != b) for a, b in zip(batch.told, best, strict=True)]
        return best, error, [msgspec.UNSET] * n, probabilities

    def experts_of(self, key: Key) -> dict[str, float] | None:
        """Who carries a key's predictions now; None of a key that is not here."""
        slot = self.keyspace.find(key)
        if slot < 0:
            return None
        row, R = self._tables["mixture"].row(slot), len(RATES)
        share = row[:R] @ row[R : R + R * K].reshape(R, K)
        return dict(zip(NAMES, share.tolist(), strict=True))

    def shared_arrays(self) -> dict[str, Any]:
        """All state that is not per key."""
        return super().shared_arrays() | {"classes": self.classes.pack(), "common": self._common}

    def _fixed(self) -> tuple[str, ...]:
        return (*super()._fixed(), "common")

    def load_shared(self, arrays: dict[str, Any]) -> None:
        """Take up what `shared_arrays` gave, before any key's rows."""
        super().load_shared(arrays)
        self.classes.unpack(arrays["classes"])
        if len(self.classes) > self._classes:
            raise StateMismatch(f"the saved state has {len(self.classes)} classes and max_classes is {self._classes}")

    # As river has it ----------------------------------------------------------------------------------

    @property
    def _multiclass(self) -> bool:
        return True

    def predict_proba_one(self, x: dict[Any, Any], **_: Any) -> dict[Class, float]:
        """The probability of each class that has had a label, were x the next event; nothing changes."""
        return dict(self._look_at(x).probabilities or {})

    def predict_one(self, x: dict[Any, Any], **_: Any) -> Class | None:
        """The most probable class, were x the next event; None before the first label."""
        return self._look_at(x).predicted  # type: ignore[no-any-return]
