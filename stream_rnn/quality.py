"""How well a running model forecasts, beside the last value: a moving look at a few events of each block, for people.

It costs next to nothing and no result depends on it; `stream-rnn eval` has exact scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from stream_rnn.outputs import Result
from stream_rnn.records import Prediction

_LOOK = 32  # events of a block
_KEYS = 10_000  # whose last values are kept
_FORGET = 0.999  # a sample: about the newest thousand count


class Quality:
    """Mean absolute error of `predicted`, and of the key's last value on the same events, and how often intervals had
    the value in them; the first target's."""

    def __init__(self) -> None:
        self._ours = self._naive = self._n = 0.0
        self._bits = self._texts = 0.0  # of texts: bits a byte
        self._last: dict[Any, float] = {}
        self._classes: dict[Any, Any] = {}  # the keys' last labels, where they are classes
        self._inside: dict[float, list[float]] = {}  # by level: (inside, looked at), older ones forgotten as above

    def look(self, results: Sequence[Result]) -> None:
        """Take in a block."""
        seen = set()
        for p in results[:_LOOK]:
            if (bits := getattr(p, "bits_per_byte", None)) is not None:
                self._bits, self._texts = self._bits * _FORGET + bits, self._texts * _FORGET + 1.0
            if p.__class__ is not Prediction or p.key in seen:
                continue  # of a key only the first: its last value is from before the block
            seen.add(p.key)
            actual, predicted, last = _first(p.actual), _first(p.predicted), self._last.get(p.key)
            if actual is not None and p.predicted_interval is not UNSET:
                self._look_inside(actual, p.predicted_interval)
            if p.probabilities is not UNSET:  # classes: shares of errors, and of "as the last label"
                actual, predicted, last = p.actual, p.predicted, self._classes.get(p.key)
                if actual is not None and predicted is not None and last is not None:
                    actual, predicted, last = 0.0, float(actual != predicted), float(actual != last)
            if actual is None or predicted is None or last is None:
                continue
            self._ours = self._ours * _FORGET + abs(actual - predicted)
            self._naive = self._naive * _FORGET + abs(actual - last)
            self._n = self._n * _FORGET + 1.0
        newest = {p.key: p.actual for p in results if p.__class__ is Prediction and p.actual is not None}
        if any(p.probabilities is not UNSET for p in results[:1] if p.__class__ is Prediction):
            if len(self._classes) < _KEYS or newest.keys() <= self._classes.keys():
                self._classes |= newest
            return
        if len(self._last) < _KEYS or newest.keys() <= self._last.keys():
            for key, value in newest.items():
                number = _first(value)
                if number is not None:
                    self._last[key] = number

    def _look_inside(self, actual: float, bounds: Any) -> None:
        """Count a value as inside the bounds of each level, or not."""
        if bounds.__class__ is dict and bounds and next(iter(bounds)).__class__ is str:
            bounds = next(iter(bounds.values()))  # by target: the first one's
        for level, (low, high) in (bounds or {}).items():
            seen = self._inside.setdefault(level, [0.0, 0.0])
            seen[:] = seen[0] * _FORGET + (low <= actual <= high), seen[1] * _FORGET + 1.0

    def told(self) -> dict[str, Any]:
        """mae, last_value_mae and their ratio (None: nothing to compare yet), and coverage: {level: share inside}."""
        if self._texts:
            return {"mae": None, "last_value_mae": None, "ratio": None, "coverage": {},
                    "bits_per_byte": self._bits / self._texts}  # fmt: skip
        coverage = {level: inside / n for level, (inside, n) in list(self._inside.items())}
        if not self._n:
            return {"mae": None, "last_value_mae": None, "ratio": None, "coverage": coverage}
        ratio = self._ours / self._naive if self._naive else None
        return {"mae": self._ours / self._n, "last_value_mae": self._naive / self._n, "ratio": ratio,
                "coverage": coverage}  # fmt: skip


def _first(value: Any) -> float | None:
    """The number of the first target, for one step ahead; None where that is no number (a class, a text)."""
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, (int, float)) else None
