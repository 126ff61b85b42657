"""What a shard has done since this process began, and how long each part of it took: for /metrics.

Counts of a state go back to its checkpoint when a shard is opened again (tally.py); these never go back, as Prometheus
wants it of counters. Time is told by laps: what has passed since the last one belongs to the stage that has just ended,
so that the stages together are the whole time of the loop.

>>> meter = Meter()
>>> meter.lap("read"); meter.lap("learn")
>>> sorted(stage for stage, seconds in meter.seconds.items() if seconds > 0)
['learn', 'read']
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from stream_rnn.records import Prediction, Record
from stream_rnn.stopwatch import Stopwatch
from stream_rnn.tally import Tally

if TYPE_CHECKING:
    from stream_rnn.outputs import Result

STAGES = ("wait", "read", "decode", "learn", "encode", "send", "commit", "checkpoint")
CAUSES = ("parse", "key", "target", "time", "transform", "too_large", "value")  # of bad events
ALERTS = ("anomaly", "drift", "silent", "back")  # kinds
_NUMBERS, _BY_NAME = ("events", "predictions", "skipped", "gaps", "silent"), ("bad", "alerts")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """A histogram of seconds, filled by one thread and read by others."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)  # each of its own bucket alone; the last is above all bounds
        self.total_s = 0.0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """One more."""
        with self._lock:
            self.counts[bisect_left(BOUNDS_S, seconds)] += 1
            self.total_s += seconds

    def read(self) -> tuple[list[int], float]:
        """(counts, their sum in seconds) of one instant."""
        with self._lock:
            return list(self.counts), self.total_s


class Meter:
    """One shard's, for as long as the process lives."""

    def __init__(self) -> None:
        self.counts = Tally(bad=dict.fromkeys(CAUSES, 0), alerts=dict.fromkeys(ALERTS, 0))
        self.replayed = 0  # events that had been learnt before, by an earlier opening or process
        self.opened = 0
        self.learner: dict[str, int] = {}  # the model's own counters
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.network = Stopwatch()
        self.commits = Durations()
        self.checkpoints = Durations()
        self._idle_since: float | None = None  # time.monotonic() of the first read that found nothing
        self.record_s: float | None = None  # epoch seconds of the newest record, as its source stamped it
        self.event_s: float | None = None  # of the newest event, as it says itself
        self._tally = Tally()  # of the state, as it was at the last look; so are the model's counters
        self._counters: dict[str, int] = {}
        self._at = time.perf_counter()

    def begin(self, tally: Tally, counters: Mapping[str, int]) -> None:
        """The shard is open, at a state that has counted so much."""
        self.opened += 1
        self._tally, self._counters = _copy(tally), dict(counters)
        self._at = time.perf_counter()

    def lap(self, stage: str) -> None:
        """A stage ends now."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._at
        self._at = now

    def read(self, found: bool) -> None:
        """A read is over."""
        if found:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()

    @property
    def idle_s(self) -> float | None:
        """For how long reads have found nothing; None: the last one found something, or there was none yet."""
        since = self._idle_since
        return None if since is None else time.monotonic() - since

    def took(
        self, records: Sequence[Record], results: Sequence[Result], replays: bool, tally: Tally,
        counters: Mapping[str, int],
    ) -> None:  # fmt: skip
        """A block is through, and the state and its model have counted so much."""
        self._add(tally)
        for name, n in counters.items():
            self.learner[name] = self.learner.get(name, 0) + n - self._counters.get(name, 0)
        self._counters = dict(counters)
        if replays:
            self.replayed += len(records)
        stamp = records[-1].timestamp_ms
        if stamp is not None:
            self.record_s = stamp / 1000
        last = results[-1]
        if last.__class__ is Prediction and last.time is not None:
            self.event_s = last.time

    def _add(self, tally: Tally) -> None:
        """What has been counted since the last look."""
        counts, before = self.counts, self._tally
        for name in _NUMBERS:
            setattr(counts, name, getattr(counts, name) + getattr(tally, name) - getattr(before, name))
        for name in _BY_NAME:
            ours, then = getattr(counts, name), getattr(before, name)
            for kind, n in getattr(tally, name).items():
                ours[kind] = ours.get(kind, 0) + n - then.get(kind, 0)
        self._tally = _copy(tally)


def _copy(tally: Tally) -> Tally:
    return msgspec.structs.replace(tally, bad=dict(tally.bad), alerts=dict(tally.alerts), recent=[])
