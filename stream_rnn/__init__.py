"""Streaming online learning: a recurrent network that learns from an unbounded event stream, event by event.

The public names; each is imported on its first use, so that `import stream_rnn` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stream_rnn.classifier import Classifier as Classifier
    from stream_rnn.engine import Engine as Engine
    from stream_rnn.learner import Learner as Learner
    from stream_rnn.model import Forecaster as Forecaster
    from stream_rnn.records import BadEvent as BadEvent
    from stream_rnn.records import Prediction as Prediction
    from stream_rnn.regressor import Regressor as Regressor
    from stream_rnn.textmodel import TextModel as TextModel

_HOMES = {
    "Classifier": "classifier", "Regressor": "regressor",
    "Engine": "engine", "Learner": "learner", "Forecaster": "model", "Prediction": "records", "BadEvent": "records",
    "TextModel": "textmodel",
}  # fmt: skip

__all__ = ["BadEvent", "Classifier", "Engine", "Forecaster", "Learner", "Prediction", "Regressor", "TextModel"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stream_rnn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"stream_rnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
