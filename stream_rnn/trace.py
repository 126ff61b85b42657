"""What a picture needs to remember of a stream that has no end: bounded, whatever the length.

A `Trace` follows one series: its whole course in at most `limit` bins of equal width in events (when they
are full, neighbours merge and the width doubles), and its newest `tail` rows as they were. A `Misses` list
keeps the largest errors. Arrays are float64, NaN for "none".
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.records import Key

Floats = NDArray[np.float64]


class Trace:
    """One series, thinned: `bins()` is the whole course, `tail()` its end in full."""

    def __init__(self, limit: int = 800, tail: int = 240) -> None:
        self.limit = limit + limit % 2  # even, so that bins merge in pairs
        self.tail_rows = tail
        self.width = 1  # events in a bin
        self.count = 0  # events so far
        self._sums = np.zeros((self.limit, 7))
        self._low = np.full(self.limit, np.inf)
        self._high = np.full(self.limit, -np.inf)
        self._time = np.full(self.limit, np.nan)
        self._tail = np.empty((0, 4))

    def add(self, time: Floats, actual: Floats, said: Floats, last: Floats) -> None:
        """Take in n rows: epoch seconds (or NaN), actual, forecast for it, last value then; each (n,)."""
        n = len(actual)
        if n == 0:
            return
        self._tail = np.concatenate([self._tail, np.stack([time, actual, said, last], axis=1)])[-self.tail_rows :]
        while self.count + n > self.limit * self.width:
            self._halve()
        at = (self.count + np.arange(n)) // self.width
        self.count += n
        there, told = ~np.isnan(actual), ~np.isnan(said)
        both = there & told & ~np.isnan(last)
        terms = np.stack(
            [
                there,
                np.where(there, actual, 0.0),
                told,
                np.where(told, said, 0.0),
                both,
                np.abs(np.where(both, said - actual, 0.0)),
                np.abs(np.where(both, last - actual, 0.0)),
            ],
            axis=1,
        )
        np.add.at(self._sums, at, terms)
        np.minimum.at(self._low, at[there], actual[there])
        np.maximum.at(self._high, at[there], actual[there])
        first = np.flatnonzero(np.isnan(self._time[at]))[::-1]  # backwards, so that a bin's first event wins
        self._time[at[first]] = time[first]

    def _halve(self) -> None:
        half = self.limit // 2
        self._sums[:half] = self._sums[0::2] + self._sums[1::2]
        self._low[:half] = np.minimum(self._low[0::2], self._low[1::2])
        self._high[:half] = np.maximum(self._high[0::2], self._high[1::2])
        self._time[:half] = np.where(np.isnan(self._time[0::2]), self._time[1::2], self._time[0::2])
        self._sums[half:], self._low[half:], self._high[half:], self._time[half:] = 0.0, np.inf, -np.inf, np.nan
        self.width *= 2

    def bins(self, most: int | None = None) -> dict[str, Floats]:
        """The whole course in at most `most` bins: event, time, actual (mean, low, high), said, error, naive.

        `event` is the number of a bin's first event, `error` and `naive` the mean absolute errors of the
        forecast and of the last value over the same rows.
        """
        used = -(-self.count // self.width)
        group = 1 if most is None else max(1, -(-used // most))
        starts = np.arange(0, used, group)
        if not used:
            sums, low, high = self._sums[:0], self._low[:0], self._high[:0]
        else:
            sums = np.add.reduceat(self._sums[:used], starts)
            low = np.minimum.reduceat(self._low[:used], starts)
            high = np.maximum.reduceat(self._high[:used], starts)
        there, actual, told, said, both, error, naive = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: a bin without a value is a gap
            return {
                "event": starts * float(self.width),
                "time": self._time[:used][starts],
                "actual": actual / there,
                "low": np.where(there > 0, low, np.nan),
                "high": np.where(there > 0, high, np.nan),
                "said": said / told,
                "error": error / both,
                "naive": naive / both,
            }

    def tail(self, most: int | None = None) -> dict[str, Floats]:
        """The newest rows as they were: event, time, actual, said, last."""
        rows = self._tail if most is None else self._tail[-most:]
        time, actual, said, last = rows.T
        event = np.arange(self.count - len(rows), self.count, dtype=float)
        return {"event": event, "time": time, "actual": actual, "said": said, "last": last}


class Miss(NamedTuple):
    """One large error."""

    size: float
    event: int  # number in the stream, from 0
    time: float  # epoch seconds or NaN
    key: Key
    actual: float
    said: float


class Misses:
    """The `most` largest absolute errors of a target."""

    def __init__(self, most: int = 10) -> None:
        self.most = most
        self._heap: list[tuple[float, int, Miss]] = []

    def add(self, event: NDArray[np.int64], time: Floats, keys: list[Key], actual: Floats, said: Floats) -> None:
        """Take in n rows."""
        size = np.nan_to_num(np.abs(said - actual), nan=-1.0)
        floor = self._heap[0][0] if len(self._heap) == self.most else 0.0
        candidates = np.flatnonzero(size > floor)
        for i in candidates[np.argsort(-size[candidates], kind="stable")][: self.most]:
            miss = Miss(float(size[i]), int(event[i]), float(time[i]), keys[i], float(actual[i]), float(said[i]))
            entry = (miss.size, -miss.event, miss)
            if len(self._heap) < self.most:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)

    def largest(self) -> list[Miss]:
        """Largest first."""
        return [m for _, _, m in sorted(self._heap, key=lambda e: (-e[0], -e[1]))]


class Series(NamedTuple):
    """One series of a picture."""

    target: str
    key: Key
    trace: Trace


class Album:
    """Everything that a plot or a report shows: a few series in full, and every target's errors as a whole."""

    def __init__(self, targets: list[str], most_series: int = 4) -> None:
        self.targets = targets
        self.most_keys = max(1, most_series // len(targets))
        self.series: list[Series] = []
        self.whole = {t: Trace() for t in targets}
        self.misses = {t: Misses() for t in targets}
        self.events = 0

    def add(
        self, slots: NDArray[np.int64], keys: list[Key], time: Floats, actual: Floats, said: Floats, last: Floats
    ) -> None:
        """Take in a block: slots and time (n,), the others (n, T), one step ahead."""
        numbers = self.events + np.arange(len(slots))
        self.events += len(slots)
        shown = min(self.most_keys, int(slots.max(initial=-1)) + 1)
        for slot in range(len(self.series) // len(self.targets), shown):
            key = keys[int(np.flatnonzero(slots == slot)[0])]
            self.series += [Series(t, key, Trace()) for t in self.targets]
        for j, target in enumerate(self.targets):
            self.whole[target].add(time, actual[:, j], said[:, j], last[:, j])
            self.misses[target].add(numbers, time, keys, actual[:, j], said[:, j])
        for i, series in enumerate(self.series):
            slot, j = divmod(i, len(self.targets))
            mine = slots == slot
            series.trace.add(time[mine], actual[mine, j], said[mine, j], last[mine, j])


def axis(points: dict[str, Floats]) -> tuple[Floats, bool]:
    """x of bins or a tail, and whether it is times: event numbers where a time is missing or steps back."""
    time = points["time"]
    if len(time) > 1 and np.isfinite(time).all() and (np.diff(time) >= 0).all() and time[-1] > time[0]:
        return time, True
    return points["event"] + 1, False
