"""A stream of events whose labels come at once, later, twice or never, for the tests of Regressor and Classifier."""

from __future__ import annotations

import random
from typing import Any

from stream_rnn.records import BadEvent, Prediction


def stream(
    n: int, seed: int = 0, *, classes: tuple[Any, ...] | None = ("up", "down", 3), longest: int = 9
) -> list[dict]:  # fmt: skip
    """n events of three keys, {key, at, id, x, y, label}, and behind them {key, id, label} records in their order.

    A feature turns up late; some labels are late by more than `longest`, some are wrong, some come twice.
    """
    rng = random.Random(seed)
    due: list[tuple[int, dict]] = []
    records = []
    for i in range(n):
        records += [late for at, late in due if at == i]
        key = rng.choice("abc")
        x = rng.gauss(0, 1)
        label: Any = 3 * x + rng.gauss(0, 0.1) if classes is None else classes[(x > 0) + (i > n // 2 and x > 1)]
        event = {"key": key, "at": 1.7e9 + 60 * i, "id": f"e{i}", "x": x}
        if i > n // 3:
            event["y"] = rng.gauss(0, 1)
        how = rng.random()
        if how < 0.4:
            event["label"] = label
        elif how < 0.9:
            delay = rng.randrange(1, longest) if how < 0.85 else 8 * longest
            late = {"key": key, "id": f"e{i}", "label": label}
            due += [(i + delay, late)] + ([(i + delay + 2, late)] if rng.random() < 0.1 else [])
        if rng.random() < 0.02:
            event["label"] = [label]
        records.append(event)
    return records


def plain(results: list[Prediction | BadEvent]) -> list[Any]:
    """Something that can be compared, bit for bit."""
    return [repr(r) for r in results]
