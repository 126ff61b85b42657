"""How well a running model forecasts, beside the last value: a moving look at a few events of each block, for people.

It costs next to nothing and no result depends on it; `stream-rnn eval` has exact scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_rnn.outputs import Result
from stream_rnn.records import Prediction

_LOOK = 32  # events of a block
_KEYS = 10_000  # whose last values are kept
_FORGET = 0.999  # a sample: about the newest thousand count


class Quality:
    """Mean absolute error of `predicted`, and of the key's last value on the same events; the first target's."""

    def __init__(self) -> None:
        self._ours = self._naive = self._n = 0.0
        self._last: dict[Any, float] = {}

    def look(self, results: Sequence[Result]) -> None:
        """Take in a block."""
        seen = set()
        for p in results[:_LOOK]:
            if p.__class__ is not Prediction or p.key in seen:
                continue  # of a key only the first: its last value is from before the block
            seen.add(p.key)
            actual, predicted, last = _first(p.actual), _first(p.predicted), self._last.get(p.key)
            if actual is None or predicted is None or last is None:
                continue
            self._ours = self._ours * _FORGET + abs(actual - predicted)
            self._naive = self._naive * _FORGET + abs(actual - last)
            self._n = self._n * _FORGET + 1.0
        newest = {p.key: p.actual for p in results if p.__class__ is Prediction}
        if len(self._last) < _KEYS or newest.keys() <= self._last.keys():
            for key, value in newest.items():
                number = _first(value)
                if number is not None:
                    self._last[key] = number

    def told(self) -> dict[str, float | None]:
        """mae, last_value_mae and their ratio (None: nothing to compare yet)."""
        if not self._n:
            return {"mae": None, "last_value_mae": None, "ratio": None}
        ratio = self._ours / self._naive if self._naive else None
        return {"mae": self._ours / self._n, "last_value_mae": self._naive / self._n, "ratio": ratio}


def _first(value: Any) -> float | None:
    """The number of the first target, for one step ahead."""
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    if isinstance(value, list):
        value = value[0] if value else None
    return value  # type: ignore[no-any-return]
