"""Scores of predictions of labels, beside what anybody could have said from the labels known when the event came.

An event is scored when its label comes, by what had been told of it; so are the baselines: the key's mean label and
last label; its last class, as often as that stayed so far ("no change", calibrated), and its most frequent class. The
log losses leave out labels of a class that was not known when their event came; `new_classes` counts them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from stream_rnn.label_rivals import LabelRivals
from stream_rnn.records import Event, Key, Prediction

BINS = 10  # of the reliability table
_LEAST = 1e-15  # of a probability


class Labels(ABC):
    """Brings each label together with its event and what was known then; base of the two scores."""

    def __init__(self, waits: int, rivals: LabelRivals | None = None) -> None:
        self.waits = waits  # events of a key whose label may still come
        self.rivals = rivals
        self.events = self.late = self.scored = 0
        self.steps: dict[Key, int] = {}
        self._waiting: dict[Key, OrderedDict[int, Any]] = {}

    def take(self, predictions: list[Prediction], events: Sequence[Event] = ()) -> None:
        """Score a block; events: theirs, which rivals want to see."""
        rivals = self.rivals
        for i, p in enumerate(predictions):
            if p.step > self.steps.get(p.key, 0):  # an event
                self.steps[p.key] = p.step
                self.events += 1
                known: Any = self.known(p.key)
                told = rivals.ask(events[i], p.key) if rivals is not None else {}
                if p.actual is None and self.waits:
                    waiting = self._waiting.setdefault(p.key, OrderedDict())
                    waiting[p.step] = known, told
                    while len(waiting) > self.waits:
                        waiting.popitem(last=False)
            else:
                self.late += 1
                known, told = self._waiting[p.key].pop(p.step, (None, {}))
            if p.actual is not None:
                before = self.scored
                self.score(p, known)
                if rivals is not None:
                    rivals.learn(p, told, self.scored > before)
                self.learn(p, known)

    @abstractmethod
    def known(self, key: Key) -> Any:
        """What is known when an event of the key comes."""

    @abstractmethod
    def score(self, p: Prediction, known: Any) -> None:
        """Take in a label."""

    @abstractmethod
    def learn(self, p: Prediction, known: Any) -> None:
        """Let the baselines learn it."""


class Numbers(Labels):
    """Of a Regressor: MAE, RMSE, R², and how often intervals had the label inside."""

    def __init__(self, waits: int, rivals: LabelRivals | None = None) -> None:
        super().__init__(waits, rivals)
        self._labels: dict[Key, tuple[int, float, float, int]] = {}  # count, mean, last, its step
        self._sums = {name: [0, 0.0, 0.0] for name in ("ours", "mean", "last_label")}  # count, |error|, error²
        self._count, self._mean, self._squares = 0, 0.0, 0.0  # of the labels scored
        self._inside: dict[float, list[int]] = {}

    def known(self, key: Key) -> Any:
        """The key's mean and last label."""
        return self._labels.get(key)

    def score(self, p: Prediction, known: Any) -> None:
        """Take in a label."""
        if p.predicted is None or known is None:
            return
        self.scored += 1
        for name, said in (("ours", p.predicted), ("mean", known[1]), ("last_label", known[2])):
            sums, error = self._sums[name], p.actual - said
            sums[0] += 1
            sums[1] += abs(error)
            sums[2] += error * error
        self._count += 1
        off = p.actual - self._mean
        self._mean += off / self._count
        self._squares += off * (p.actual - self._mean)
        for level, (low, high) in (p.predicted_interval or {}).items():
            inside = self._inside.setdefault(level, [0, 0])
            inside[0] += low <= p.actual <= high
            inside[1] += 1

    def learn(self, p: Prediction, known: Any) -> None:
        """Let the baselines learn it."""
        n, mean, last, step = self._labels.get(p.key, (0, 0.0, 0.0, 0))
        newer = p.step > step
        mean += (p.actual - mean) / (n + 1)
        self._labels[p.key] = (n + 1, mean, p.actual if newer else last, max(step, p.step))

    def summary(self) -> dict[str, Any]:
        """The numbers that `eval --json` prints."""
        means: dict[str, dict[str, Any]] = {}
        for name, (n, size, square) in self._sums.items():
            means[name] = {"mae": size / n, "rmse": math.sqrt(square / n)} if n else {"mae": None, "rmse": None}
        ours, last = means.pop("ours"), means["last_label"]["mae"]
        best = min((m["mae"] for m in means.values() if m["mae"] is not None), default=None)
        r2 = 1 - self._sums["ours"][2] / self._squares if self._squares else None
        return {
            "scored": self.scored, "late": self.late, **ours, "r2": r2,
            "skill_mae": 1 - ours["mae"] / last if last else None, "better_than_best": _better(ours["mae"], best),
            "baselines": means,
            "intervals": {str(level): {"coverage": a / n} for level, (a, n) in sorted(self._inside.items())},
        }  # fmt: skip


class Chances(Labels):
    """Of a Classifier: log loss (nats), accuracy, balanced accuracy, Cohen's kappa, classes, reliability."""

    def __init__(self, waits: int, rivals: LabelRivals | None = None) -> None:
        super().__init__(waits, rivals)
        self.counts: dict[tuple[Any, Any], int] = {}  # (actual, predicted)
        self.new_classes = 0
        self._losses = {"ours": 0.0, "no_change": 0.0, "majority": 0.0}
        self._right = dict.fromkeys(self._losses, 0)
        self._judged = 0  # labels in the log losses
        self._bins = [[0, 0.0, 0] for _ in range(BINS)]  # count, sum of probabilities, right
        self._classes: dict[Any, int] = {}  # labels of all keys
        # of each key: counts, last class, its step, how often it stayed and of how many
        self._keys: dict[Key, tuple[dict[Any, int], Any, int, list[float]]] = {}

    def known(self, key: Key) -> Any:
        """(last class, {class: p} of no change, {class: p} by frequency), or None."""
        if not self._classes:
            return None
        counts, last, _, stays = self._keys.get(key, ({}, None, 0, [0.0, 0.0]))
        n, C = sum(counts.values()), len(self._classes)
        usual = {c: (counts.get(c, 0) + 0.5) / (n + 0.5 * C) for c in self._classes}
        if last is None or C == 1:
            return last, usual, usual
        stay = (stays[0] + 0.5) / (stays[1] + 1.0)
        others = 1.0 - usual[last]
        return last, {c: stay if c == last else (1 - stay) * p / others for c, p in usual.items()}, usual

    def score(self, p: Prediction, known: Any) -> None:
        """Take in a label."""
        if p.predicted is None or known is None:
            self.new_classes += p.actual not in self._classes
            return
        _, no_change, usual = known
        self.scored += 1
        pair = (p.actual, p.predicted)
        self.counts[pair] = self.counts.get(pair, 0) + 1
        chances = {"ours": p.probabilities, "no_change": no_change, "majority": usual}
        for name, chance in chances.items():
            said = p.predicted if name == "ours" else max(chance, key=chance.get)
            self._right[name] += said == p.actual
        bin = self._bins[min(BINS - 1, int(BINS * p.probabilities[p.predicted]))]
        bin[0] += 1
        bin[1] += p.probabilities[p.predicted]
        bin[2] += p.actual == p.predicted
        if p.actual in p.probabilities and p.actual in usual:
            self._judged += 1
            for name, chance in chances.items():
                self._losses[name] -= math.log(max(chance[p.actual], _LEAST))
        else:
            self.new_classes += 1

    def learn(self, p: Prediction, known: Any) -> None:
        """Let the baselines learn it."""
        counts, last, step, stays = self._keys.setdefault(p.key, ({}, None, 0, [0.0, 0.0]))
        self._classes.setdefault(p.actual, len(self._classes))
        counts[p.actual] = counts.get(p.actual, 0) + 1
        if known is not None and known[0] is not None:
            stays[0] += known[0] == p.actual
            stays[1] += 1
        if p.step > step:
            last, step = p.actual, p.step
        self._keys[p.key] = (counts, last, step, stays)

    def summary(self) -> dict[str, Any]:
        """The numbers that `eval --json` prints."""
        n, judged = self.scored, self._judged
        means: dict[str, dict[str, Any]] = {
            name: {"log_loss": self._losses[name] / judged if judged else None,
                   "accuracy": self._right[name] / n if n else None}
            for name in self._losses
        }  # fmt: skip
        ours = means.pop("ours")
        classes = self.by_class()
        recalls = [c["recall"] for c in classes.values() if c["recall"] is not None]
        chance = sum(c["labels"] * c["predicted"] for c in classes.values()) / (n * n) if n else 1.0
        kappa = (ours["accuracy"] - chance) / (1 - chance) if n and chance < 1 else None
        losses = [m["log_loss"] for m in means.values() if m["log_loss"] is not None]
        return {
            "scored": n, "late": self.late, **ours,
            "balanced_accuracy": sum(recalls) / len(recalls) if recalls else None,
            "kappa": kappa, "new_classes": self.new_classes,
            "better_than_best": _better(ours["log_loss"], min(losses, default=None)), "baselines": means,
            "classes": {str(name): value for name, value in classes.items()}, "reliability": self.reliability(),
            "calibration_error": sum(abs(b[1] - b[2]) for b in self._bins) / n if n else None,
        }  # fmt: skip

    def by_class(self) -> dict[Any, dict[str, Any]]:
        """Of each class: labels, times that it was predicted, recall, precision."""
        out = {}
        for c in self._classes:
            right = self.counts.get((c, c), 0)
            labels = sum(n for (actual, _), n in self.counts.items() if actual == c)
            said = sum(n for (_, predicted), n in self.counts.items() if predicted == c)
            out[c] = {"labels": labels, "predicted": said, "recall": right / labels if labels else None,
                      "precision": right / said if said else None}  # fmt: skip
        return out

    def reliability(self) -> list[dict[str, Any]]:
        """Of predictions with a probability from … to …: how many, the mean probability, the share that was right."""
        return [
            {"from": i / BINS, "to": (i + 1) / BINS, "count": n, "probability": said / n, "right": right / n}
            for i, (n, said, right) in enumerate(self._bins)
            if n
        ]


def _better(ours: float | None, best: float | None) -> float | None:
    """1 - ours / the best baseline's."""
    return None if ours is None or not best else 1 - ours / best
