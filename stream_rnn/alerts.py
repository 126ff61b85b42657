"""Alerts: what a user is to be told of, at most one an event, so that an event's `source` says which are out.

    anomaly   this event: surprise reached what the budget leaves (anomaly.py)
    drift     this key's errors have become larger (drift.py)
    silent    a key has not been heard of for much longer than usual, by the others' events (silence.py)
    back      that key again

An anomaly is told with its own event. The others wait in line for the next event, of any key, that has no alert of
its own; a key that is back before its silence was told is not told of at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.anomaly import ODD, STATISTICS, Anomalies, Judged
from stream_rnn.blob import pack_key, unpack_key
from stream_rnn.drift import Drifts
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.keys import KeySpace
from stream_rnn.records import Alert, Key, Prediction
from stream_rnn.silence import Silence

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

LEARN = {"always": 1.0, "down-weight": 0.1}  # what an anomalous event's label weighs

_Waiting = tuple[bytes, str, str | None, float | None, float | None]  # key, kind, target, time, last time


class Watched(NamedTuple):
    """What is said of a block."""

    judged: Judged
    alerts: dict[int, Alert]  # by row


class Watch:
    """All that watches a model's stream. `budget` and `silent` may change while it runs."""

    def __init__(
        self,
        targets: Sequence[str],
        keyspace: KeySpace,
        *,
        budget: str | None,
        silent: bool,
        keyed: bool,
        drift: str,
        on_drift: tuple[str, ...],
        learn: str,
    ) -> None:
        if learn not in LEARN:
            raise ConfigError(f"learn_anomalies = {learn!r}: it must be one of {', '.join(map(repr, LEARN))}")
        self.targets, self.silent = tuple(targets), silent
        self.anomalies = Anomalies(len(targets), budget, keyspace)
        self.drifts = Drifts(len(targets), drift, on_drift, keyspace)
        self.silence = Silence(keyspace) if keyed else None
        self._weight = LEARN[learn]
        self._waiting: list[_Waiting] = []

    def look(
        self, keys: Sequence[Key], slots: Int64s, time: Floats, values: Floats, predicted: Floats, unit: Floats
    ) -> Watched:
        """Take a block: values and predicted (n, ≥ T) in the user's units, unit (n, T): their D after each event."""
        judged = self.anomalies.judge(slots, time, values, predicted, unit)
        news: dict[int, list[_Waiting]] = {}
        drifted = self.drifts.find(slots, judged.size)
        if drifted is not None and self.drifts.alerts:
            for row in np.flatnonzero(drifted >= 0).tolist():
                target = self.targets[int(drifted[row])]
                news.setdefault(row, []).append((pack_key(keys[row]), "drift", target, _or_none(time[row]), None))
        if self.silence is not None:
            for note in self.silence.look(slots, keys, time):
                if self.silent:
                    kind = "back" if note.back else "silent"
                    at = _or_none(time[note.row])
                    news.setdefault(note.row, []).append((pack_key(note.key), kind, None, at, _or_none(note.last_time)))
        hits = np.flatnonzero(judged.hit[:, 0] >= 0).tolist()
        if not hits and not news and not self._waiting:
            return Watched(judged, {})
        return Watched(judged, self._alerts(keys, time, judged.hit, set(hits), news))

    def _alerts(
        self, keys: Sequence[Key], time: Floats, hit: Int64s, hits: set[int], news: dict[int, list[_Waiting]]
    ) -> dict[int, Alert]:
        """One an event at most: its own, else the one that has waited for longest."""
        alerts: dict[int, Alert] = {}
        rows = range(len(keys)) if self._waiting else sorted(hits | news.keys())
        last = max(rows, default=-1)
        row = rows[0] if rows else len(keys)
        while row < len(keys) and (self._waiting or row <= last):
            for item in news.get(row, ()):
                self._wait(item)
            if row in hits:
                target, statistic = hit[row].tolist()
                alerts[row] = Alert(keys[row], _or_none(time[row]), "anomaly", target=self.targets[target],
                                    why=STATISTICS[statistic])  # fmt: skip
            elif self._waiting:
                key, kind, name, at, seen = self._waiting.pop(0)
                alerts[row] = Alert(unpack_key(key), at, kind, target=name, last_time=seen)
            row += 1
        return alerts

    def _wait(self, item: _Waiting) -> None:
        """Put into line; what is over before it was told is not told."""
        if item[1] == "back":
            for i, other in enumerate(self._waiting):
                if other[:2] == (item[0], "silent"):
                    del self._waiting[i]
                    return
        self._waiting.append(item)

    @property
    def weighs(self) -> bool:
        """Whether an event's label weighs less where the event is strange."""
        return self._weight != 1.0

    def weights(self, watched: Watched) -> NDArray[np.float32]:
        """What events' labels weigh (n,)."""
        odd = np.nan_to_num(watched.judged.anomaly).max(axis=1) >= ODD
        return np.where(odd, np.float32(self._weight), np.float32(1.0))

    def forget(self, keys: Sequence[Key]) -> None:
        """These keys are dropped: they begin afresh if they come again."""
        if self.silence is not None:
            self.silence.forget(keys)

    # State

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that is not per key."""
        waiting = msgspec.msgpack.encode(self._waiting)
        arrays: dict[str, NDArray[Any]] = {"drift": self.drifts.state,
                                           "waiting": np.frombuffer(waiting, np.uint8).copy()}  # fmt: skip
        if self.silence is not None:
            arrays |= {f"silence.{name}": array for name, array in self.silence.arrays().items()}
        return arrays

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what `arrays` gave."""
        if missing := self.arrays().keys() - arrays.keys():
            raise StateMismatch(f"state array 'watch.{missing.pop()}' is missing: it is of an older version")
        self.drifts.state[:] = arrays["drift"]
        self._waiting = msgspec.msgpack.decode(arrays["waiting"].tobytes(), type=list[_Waiting])
        if self.silence is not None:
            self.silence.load({n.removeprefix("silence."): a for n, a in arrays.items() if n.startswith("silence.")})

    def take_over(self, old: Watch) -> None:
        """Go on from another, whose keys' rows are here already."""
        self.load({name: array.copy() for name, array in old.arrays().items()})


def tell(alert: Alert, prediction: Prediction) -> None:
    """Give an event's prediction its alert; an anomaly's says what of the prediction it is about."""
    prediction.alert = alert
    if alert.kind == "anomaly":
        alert.score, alert.p_value = _of(prediction.anomaly, alert.target), _of(prediction.p_value, alert.target)
        alert.actual, alert.predicted = _of(prediction.actual, alert.target), _of(prediction.predicted, alert.target)
        interval = prediction.predicted_interval
        alert.interval = None if interval is msgspec.UNSET else _of(interval, alert.target, deep=True)


def _of(value: Any, target: str | None, deep: bool = False) -> Any:
    """A target's own; `deep`: values are dicts themselves."""
    several = isinstance(value, dict) and (not deep or target in value)
    return value[target] if several else value


def _or_none(x: float) -> float | None:
    return None if math.isnan(x) else float(x)
