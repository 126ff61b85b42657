"""The river side of Regressor and Classifier: one event as a dict of features, its label apart."""

from __future__ import annotations

from typing import Any

from stream_rnn.errors import InputError
from stream_rnn.records import BadEvent, Prediction


class RiverFace:
    """learn_one, and what predict_one looks at. Names of features that are no text become their text."""

    def learn_one(self: Any, x: dict[Any, Any], y: Any) -> None:
        """Take the event x, and learn its label. A label that cannot be one raises InputError, a ValueError."""
        (result,) = self._take([_named(x)], [y])
        if isinstance(result, BadEvent):
            raise InputError(result.reason)

    def _look_at(self: Any, x: dict[Any, Any]) -> Prediction:
        result = self.look(_named(x))
        if isinstance(result, BadEvent):
            raise InputError(result.reason)
        return result  # type: ignore[no-any-return]


def _named(x: dict[Any, Any]) -> dict[str, Any]:
    return x if all(name.__class__ is str for name in x) else {str(name): value for name, value in x.items()}


