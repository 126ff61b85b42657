"""The plain types that pass between the stages: Record → event (a dict) → Prediction or BadEvent.

A stage knows these and nothing of its neighbours. An event is a flat dict of field name → value; a
nested field is named by its dotted path ("payload.temperature"). Two names are reserved: "@key" (the
record's key as text) and "@timestamp" (the record's own time, epoch seconds), put in by the codec.
"""

from __future__ import annotations

from typing import Any

import msgspec

Key = str | int | bytes | None | tuple["Key", ...]
"""What tells one series from another. A compound key is a tuple."""

Position = tuple[int, ...]
"""Where a source can resume; positions of one shard compare in stream order. Kafka: (offset,);
file: (generation, byte)."""

Event = dict[str, Any]


class Record(msgspec.Struct, gc=False):
    """One message as a source delivered it."""

    value: bytes | Event | None  # raw bytes; a dict where the source has typed rows (Parquet, memory)
    at: Position  # where this record starts: its identity and order within the shard
    resume_at: Position  # where to read on after it
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class BadEvent(msgspec.Struct, gc=False):
    """An event that could not be learnt from, in the place of its prediction."""

    reason: str  # a full sentence for the dead letter
    cause: str = "value"  # short and countable: parse | key | target | time | transform | too_large | …


class Prediction(msgspec.Struct, gc=False, omit_defaults=False):
    """What the model said about one event, in the user's units.

    One target and horizon 1: floats; horizon n: lists of n; several targets: dicts of those.
    `predicted` is the forecast for this event that was made before it came (None for a key's first).
    """

    key: Any
    time: float | None  # epoch seconds of the event
    source: str | None  # "topic/partition/offset" or "file:generation/byte"; the engine fills it in
    step: int  # events of this key so far, from 1
    predicted: Any = None
    actual: Any = None
    error: Any = None  # actual - predicted
    forecast: Any = None  # for the coming event(s) of this key
    forecast_time: float | None = None  # expected epoch seconds of the next event
    interval: Any = msgspec.UNSET  # {level: [lo, hi]} of `forecast`
    predicted_interval: Any = msgspec.UNSET  # the same of `predicted`
    anomaly: Any = msgspec.UNSET  # 0 … 1, of this event
    p_value: Any = msgspec.UNSET  # the share of earlier errors that were as large
    experts: Any = msgspec.UNSET
    alert: Any = msgspec.UNSET  # an Alert, where there is one
    id: Any = msgspec.UNSET  # of the event, where events have ids
    probabilities: Any = msgspec.UNSET  # of classes: {class: p}, of `predicted` and the others


class Alert(msgspec.Struct, gc=False, omit_defaults=False):
    """Something to be told; at most one an event, in its Prediction's `alert` and in a job's [alerts].

    Of an anomaly, score to interval are what was said of the event. A key that is silent, or back, is told of with
    another's event: `key` is whose alert it is, `time` when it was noticed, `source` which event it came with.
    """

    key: Any
    time: float | None  # epoch seconds
    kind: str  # anomaly | drift | silent | back
    source: str | None = None  # the engine fills it in
    target: str | None = None  # anomaly, drift
    score: float | None = None  # its `anomaly`, 0.5 … 1
    p_value: float | None = None
    actual: float | None = None
    predicted: float | None = None
    interval: Any = None  # the `predicted_interval`
    why: str | None = None  # which statistic it was: kernels/anomaly.py
    last_time: float | None = None  # silent, back: of the key's newest event before


def flatten(event: dict[Any, Any]) -> Event:
    """A new dict with nested dicts as dotted names; a literal name wins over a path.

    >>> flatten({"a": {"b": 1, "c": {"d": 2}}, "a.b": 3})
    {'a.b': 3, 'a.c.d': 2}
    """
    flat: Event = {}
    deep: Event = {}
    todo: list[tuple[str, dict[Any, Any]]] = [("", event)]
    while todo:
        prefix, level = todo.pop()
        for name, value in level.items():
            if name.__class__ is not str:
                raise ValueError(f"the name {name!r} is no text")
            if value.__class__ is dict:
                todo.append((f"{prefix}{name}.", value))
            elif prefix:
                deep.setdefault(prefix + name, value)
            else:
                flat[name] = value
    return {**deep, **flat} if deep else flat
