"""river's metrics and models beside ours in `eval --task regress|classify`: --metric, --baseline.

A baseline says something of each event when it comes, learns its label when that comes, and is scored on the same
labels as ours. There is one model for all keys; its inputs are the event's numeric fields and the newest label of the
key that is known by then, through a StandardScaler (a number's label goes through a TargetStandardScaler besides).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from stream_rnn.errors import ConfigError
from stream_rnn.records import Event, Key, Prediction
from stream_rnn.rivals import Spec, metric_maker, numbers

_LEAST = 1e-15  # of a probability
KINDS = {"regress": "RegressionMetric", "classify": "ClassificationMetric"}


class Told(NamedTuple):
    """What one baseline got of an event, and said of it."""

    x: dict[str, float]
    predicted: Any
    chances: dict[Any, float]  # of classes, where the model gives them


class LabelRivals:
    """All baselines and metrics of an evaluation."""

    def __init__(self, task: str, metrics: Sequence[str], baselines: Sequence[str], left_out: set[str],
                 features: Sequence[str] | None) -> None:  # fmt: skip
        self.task = task
        self.metrics = {name: metric_maker(name, KINDS[task]) for name in metrics}
        specs = {text: Spec(text, "classifier" if task == "classify" else "regressor") for text in baselines}
        self._models = {name: _fitted(spec, task) for name, spec in specs.items()}
        self._left_out, self._features = left_out, features
        self._values = {name: {m: make() for m, make in self.metrics.items()} for name in ("ours", *self._models)}
        self._sums = {name: [0, 0.0, 0, 0.0] for name in self._models}  # count and sum, twice: see `learn`
        self._last: dict[Key, Any] = {}

    def ask(self, event: Event, key: Key) -> dict[str, Told]:
        """What each says of an event whose label is not known yet."""
        x = numbers(event, self._features, self._left_out)
        if key in self._last:
            last = self._last[key]
            x |= {f"last label is {last}": 1.0} if self.task == "classify" else {"last label": last}
        return {name: self._ask(model, x) for name, model in self._models.items()}

    def _ask(self, model: Any, x: dict[str, float]) -> Told:
        if self.task == "regress":
            said = model.predict_one(x)
            return Told(x, said if said is not None and math.isfinite(said) else 0.0, {})
        try:
            chances = model.predict_proba_one(x)
        except RuntimeError:  # "not implemented": a model that names the class alone
            chances = {}
        return Told(x, max(chances, key=chances.get) if chances else model.predict_one(x), chances)

    def learn(self, p: Prediction, told: dict[str, Told], scored: bool) -> None:
        """A label has come: score it, where ours is, and learn it."""
        if scored:
            known = getattr(p, "probabilities", None) or {}
            self._update("ours", p.actual, p.predicted, known)
            for name, of in told.items():
                self._update(name, p.actual, of.predicted, of.chances)
                sums = self._sums[name]
                if self.task == "regress":
                    errors = [(0, abs(p.actual - of.predicted)), (2, (p.actual - of.predicted) ** 2)]
                else:  # a class that was not known yet has no log loss, as with ours
                    loss = -math.log(max(of.chances.get(p.actual, 0.0), _LEAST))
                    errors = [(0, loss)] * (p.actual in known) + [(2, float(of.predicted == p.actual))]
                for i, error in errors:
                    sums[i] += 1
                    sums[i + 1] += error
        for name, of in told.items():
            self._models[name].learn_one(of.x, p.actual)
        self._last[p.key] = p.actual

    def _update(self, name: str, actual: Any, predicted: Any, chances: dict[Any, float]) -> None:
        from river.metrics.base import BinaryMetric, ClassificationMetric

        for label, metric in self._values[name].items():
            if isinstance(metric, BinaryMetric) and actual not in (True, False):
                raise ConfigError(f"--metric {label}: is for labels that are true or false, or 1 or 0, and one is "
                                  f"{actual!r}; MacroF1, CohenKappa and others take any")  # fmt: skip
            if isinstance(metric, ClassificationMetric) and not metric.requires_labels:
                metric.update(actual, chances)
            elif predicted is not None:
                metric.update(actual, predicted)

    def values(self, name: str = "ours") -> dict[str, float | None]:
        """river's metrics, of ours or of a baseline."""
        found = {m: metric.get() for m, metric in self._values[name].items()}
        return {m: float(v) if isinstance(v, (int, float)) and math.isfinite(v) else None for m, v in found.items()}

    def told(self) -> dict[str, dict[str, Any]]:
        """Of each baseline, what is told of ours: mae and rmse, or log_loss (nats) and accuracy; and its metrics."""
        out: dict[str, dict[str, Any]] = {}
        for name, (n, first, m, second) in self._sums.items():
            one, two = first / n if n else None, second / m if m else None
            if self.task == "regress":
                out[name] = {"mae": one, "rmse": None if two is None else math.sqrt(two)}
            else:
                out[name] = {"log_loss": one, "accuracy": two}
            if self.metrics:
                out[name]["metrics"] = self.values(name)
        return out


def _fitted(spec: Spec, task: str) -> Any:
    from river import preprocessing

    model = spec.make()
    if task == "regress":
        model = preprocessing.TargetStandardScaler(regressor=model)
    return preprocessing.StandardScaler() | model
