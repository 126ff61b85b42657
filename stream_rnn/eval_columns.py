"""What predictions say besides the forecast, as arrays of a block: intervals and the experts' shares.

n events, T targets, C levels, H steps ahead; NaN where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.model import Forecaster
from stream_rnn.records import Prediction

Floats = NDArray[np.float64]


def bounds_of(predictions: list[Prediction], targets: Sequence[str], levels: Sequence[float]) -> Floats:
    """The intervals that had been told of each event, (n, T, C, 2)."""
    out = np.full((len(predictions), len(targets), len(levels), 2), math.nan)
    if not levels:
        return out
    none: Any = dict.fromkeys(levels, (math.nan, math.nan))
    told = [p.predicted_interval or none for p in predictions]
    for j, target in enumerate(targets):
        mine = told if len(targets) == 1 else [t.get(target) or none for t in told]
        for c, level in enumerate(levels):
            out[:, j, c] = [m[level] for m in mine]
    return out


def bounds_ahead_of(
    predictions: list[Prediction], targets: Sequence[str], levels: Sequence[float], horizon: int
) -> Floats:
    """The intervals of each event's forecasts for the coming ones, (n, T, C, 2, H)."""
    out = np.empty((len(predictions), len(targets), len(levels), 2, horizon))
    none: Any = dict.fromkeys(levels, [[math.nan] * horizon] * 2)
    told = [p.interval or none for p in predictions]
    for j, target in enumerate(targets):
        mine = told if len(targets) == 1 else [t.get(target) or none for t in told]
        for c, level in enumerate(levels):
            out[:, j, c] = [m[level] for m in mine]
    return out


def shares_of(
    predictions: list[Prediction], targets: Sequence[str], experts: Sequence[str], horizon: int
) -> Floats | None:
    """The experts' shares in each event's forecast of the next one, (n, T, experts); None where none are told."""
    if not experts or not predictions or predictions[0].experts is msgspec.UNSET:
        return None
    out = np.empty((len(predictions), len(targets), len(experts)))
    for j, target in enumerate(targets):
        told = [p.experts if len(targets) == 1 else p.experts[target] for p in predictions]
        rows = [list(t.values()) for t in told]
        out[:, j] = rows if horizon == 1 else np.array(rows, np.float64)[:, :, 0]
    return out


def shares_at_the_end(model: Forecaster) -> dict[str, Floats]:
    """Each expert's share now, by name, (T,): the mean over (the first 1000) keys and all steps ahead."""
    if model.experts is None or not len(model.keyspace):
        return {}
    each = [model.experts.shares(slot) for slot in range(min(1000, len(model.keyspace)))]
    shares = np.mean(each, axis=0).reshape(len(model.targets), model.horizon, -1).mean(axis=1)
    return dict(zip(model.answers.experts, shares.T, strict=True))
