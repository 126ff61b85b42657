"""What a picture needs to remember of a stream that has no end: bounded, whatever the length.

A `Trace` follows one series: its whole course in at most `limit` bins of equal width in events (when they
are full, neighbours merge and the width doubles), and its newest `tail` rows as they were; besides the value and
its forecast it averages columns that are named when it is made. A `Misses` list keeps the largest errors, each with
the events around it. Arrays are float64, NaN for "none".
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.coverage import contained
from stream_rnn.records import Key

Floats = NDArray[np.float64]

BEFORE, AFTER = 24, 8  # events of its key that are kept with a large error


class Trace:
    """One series, thinned: `bins()` is the whole course, `tail()` its end in full."""

    def __init__(self, limit: int = 800, tail: int = 240, columns: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self.limit = limit + limit % 2  # even, so that bins merge in pairs
        self.tail_rows = tail
        self.width = 1  # events in a bin
        self.count = 0  # events so far
        self._sums = np.zeros((self.limit, 7 + 2 * len(self.columns)))
        self._low = np.full(self.limit, np.inf)
        self._high = np.full(self.limit, -np.inf)
        self._time = np.full(self.limit, np.nan)
        self._tail = np.empty((0, 4 + len(self.columns)))

    def add(self, time: Floats, actual: Floats, said: Floats, last: Floats, more: Floats | None = None) -> None:
        """Take in n rows: epoch seconds (or NaN), actual, forecast for it, last value then, each (n,); the columns
        (n, columns)."""
        n = len(actual)
        if n == 0:
            return
        more = np.empty((n, 0)) if more is None else more
        rows = np.column_stack([time, actual, said, last, more])
        self._tail = np.concatenate([self._tail, rows[-self.tail_rows :]])[-self.tail_rows :]
        while self.count + n > self.limit * self.width:
            self._halve()
        at = (self.count + np.arange(n)) // self.width
        self.count += n
        there, told = ~np.isnan(actual), ~np.isnan(said)
        both = there & told & ~np.isnan(last)
        known = ~np.isnan(more)
        terms = np.column_stack(
            [
                there,
                np.where(there, actual, 0.0),
                told,
                np.where(told, said, 0.0),
                both,
                np.abs(np.where(both, said - actual, 0.0)),
                np.abs(np.where(both, last - actual, 0.0)),
                known,
                np.where(known, more, 0.0),
            ]
        )
        starts = np.flatnonzero(np.diff(at, prepend=-1))  # `at` only rises
        self._sums[at[starts]] += np.add.reduceat(terms, starts)
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
        """The whole course in at most `most` bins: event, time, actual (mean, low, high), said, error, naive, and the
        columns' means.

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
        means = self._means(sums)
        there = sums[:, 0] > 0
        return {
            "event": starts * float(self.width),
            "time": self._time[:used][starts],
            "low": np.where(there, low, np.nan),
            "high": np.where(there, high, np.nan),
            **means,
        }

    def rolling(self, events: int, least: int = 1) -> dict[str, Floats]:
        """The whole course as running means over the newest `events` events or so: as `bins`, without low and high.

        Fewer count where the stream begins and where values are missing; less than `least` make a gap. `event` and
        `time` are a mean's newest ones.
        """
        used = -(-self.count // self.width)
        reach = min(max(1, round(events / self.width)), max(used, 1))
        padded = np.concatenate([np.zeros((reach - 1, self._sums.shape[1])), self._sums[:used]])
        total = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=0).sum(axis=-1)
        ends = np.minimum((np.arange(used) + 1) * self.width, self.count) - 1.0
        return {"event": ends, "time": self._time[:used], **self._means(total, least)}

    def _means(self, sums: Floats, least: int = 1) -> dict[str, Floats]:
        there, actual, told, said, both, error, naive = sums[:, :7].T
        counts, totals = np.split(sums[:, 7:], 2, axis=1)
        there, told, both, counts = (np.where(n < least, np.nan, n) for n in (there, told, both, counts))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {"actual": actual / there, "said": said / told, "error": error / both, "naive": naive / both}
            columns = totals / counts
        return means | dict(zip(self.columns, columns.T, strict=True))

    def tail(self, most: int | None = None) -> dict[str, Floats]:
        """The newest rows as they were: event, time, actual, said, last, and the columns."""
        rows = self._tail if most is None else self._tail[-most:]
        event = np.arange(self.count - len(rows), self.count, dtype=float)
        return {"event": event, **dict(zip(("time", "actual", "said", "last", *self.columns), rows.T, strict=True))}


@dataclass
class Miss:
    """One large error."""

    size: float
    event: int  # number in the stream, from 0
    time: float  # epoch seconds or NaN
    key: Key
    actual: float
    said: float
    before: Floats = field(default_factory=lambda: np.empty((0, 2)))  # actual and said of the key's events until then
    after: Floats = field(default_factory=lambda: np.empty((0, 2)))


class Misses:
    """The `most` largest absolute errors of a target."""

    def __init__(self, most: int = 10) -> None:
        self.most = most
        self._heap: list[tuple[float, int, Miss]] = []

    def add(
        self, event: NDArray[np.int64], time: Floats, keys: list[Key], actual: Floats, said: Floats
    ) -> list[tuple[int, Miss]]:
        """Take in n rows; the new ones among the largest, and their row."""
        new = []
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
            new.append((int(i), miss))
        return new

    def largest(self) -> list[Miss]:
        """Largest first."""
        return [m for _, _, m in sorted(self._heap, key=lambda e: (-e[0], -e[1]))]


class Recent:
    """The newest `depth` rows of each of the first `most` keys: what came before a large error."""

    def __init__(self, words: int, depth: int = BEFORE, most: int = 2000) -> None:
        self.depth, self.most = depth, most
        self._rows = np.full((1, depth, words), np.nan)

    def of(self, slot: int) -> Floats:
        """The newest rows of a slot (depth, words), oldest first; NaN where there were none."""
        return self._rows[slot] if slot < len(self._rows) else np.full(self._rows.shape[1:], np.nan)

    def add(self, slots: NDArray[np.int64], rows: Floats) -> None:
        """Take in a block: slots (n,), rows (n, words)."""
        kept = np.flatnonzero(slots < self.most)
        order = kept[np.argsort(slots[kept], kind="stable")]
        if not len(order):
            return
        if (top := int(slots[order[-1]])) >= len(self._rows):
            more = np.full((max(top + 1, 2 * len(self._rows)) - len(self._rows), *self._rows.shape[1:]), np.nan)
            self._rows = np.concatenate([self._rows, more])
        for part in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1):
            mine, new = self._rows[slots[part[0]]], rows[part[-self.depth :]]
            mine[: self.depth - len(new)] = mine[len(new) :].copy()
            mine[self.depth - len(new) :] = new


class Series(NamedTuple):
    """One series of a picture."""

    target: str
    key: Key
    trace: Trace


class Album:
    """Everything that a plot or a report shows: a few series in full, and every target's errors as a whole.

    levels: of the intervals; experts: the names of those that are mixed.
    """

    def __init__(
        self, targets: list[str], most_series: int = 4, levels: Sequence[float] = (), experts: Sequence[str] = ()
    ) -> None:
        self.targets, self.levels, self.experts = targets, tuple(levels), tuple(experts)
        self.most_keys = max(1, most_series // len(targets))
        # low, high and inside of each level, then shares
        self.columns = [f"{what} {level:g}" for level in levels for what in ("low", "high", "inside")] + [*experts]
        self.series: list[Series] = []
        self.whole = {t: Trace(columns=self.columns) for t in targets}
        self.misses = {t: Misses() for t in targets}
        self.events = 0
        self._recent = Recent(2 * len(targets))
        self._waiting: list[tuple[int, int, Miss]] = []  # slot, target, miss: whose later events are to come

    def add(
        self,
        slots: NDArray[np.int64],
        keys: list[Key],
        time: Floats,
        actual: Floats,
        said: Floats,
        last: Floats,
        bounds: Floats | None = None,
        shares: Floats | None = None,
    ) -> None:
        """Take in a block: slots and time (n,), the others (n, T), one step ahead; bounds (n, T, levels, 2), shares
        (n, T, experts)."""
        numbers = self.events + np.arange(len(slots))
        self.events += len(slots)
        shown = min(self.most_keys, int(slots.max(initial=-1)) + 1)
        for slot in range(len(self.series) // len(self.targets), shown):
            key = keys[int(np.flatnonzero(slots == slot)[0])]
            self.series += [Series(t, key, Trace(columns=self.columns)) for t in self.targets]
        more = self._more(actual, bounds, shares)
        for j, target in enumerate(self.targets):
            self.whole[target].add(time, actual[:, j], said[:, j], last[:, j], more[:, j])
        for i, series in enumerate(self.series):
            slot, j = divmod(i, len(self.targets))
            mine = slots == slot
            series.trace.add(time[mine], actual[mine, j], said[mine, j], last[mine, j], more[mine, j])
        self._note_misses(slots, numbers, time, keys, actual, said)

    def _more(self, actual: Floats, bounds: Floats | None, shares: Floats | None) -> Floats:
        """The columns (n, T, columns)."""
        n, T = actual.shape
        parts = []
        if bounds is not None:
            inside = contained(actual, bounds)[..., None]
            parts.append(np.concatenate([bounds, inside], axis=-1).reshape(n, T, -1))
        if shares is not None:
            parts.append(shares)
        return np.concatenate(parts, axis=-1) if parts else np.empty((n, T, 0))

    def _note_misses(
        self, slots: NDArray[np.int64], numbers: Any, time: Floats, keys: list[Key], actual: Floats, said: Floats
    ) -> None:
        """The largest errors so far, with the events of their key before and after."""
        for slot, j, miss in self._waiting:
            _follow(miss, actual[slots == slot, j], said[slots == slot, j])
        for j, target in enumerate(self.targets):
            for row, miss in self.misses[target].add(numbers, time, keys, actual[:, j], said[:, j]):
                slot = int(slots[row])
                mine = np.flatnonzero(slots == slot)
                here = mine[mine <= row][-BEFORE:]
                past = self._recent.of(slot)[:, 2 * j : 2 * j + 2]
                rows = np.concatenate([past, np.stack([actual[here, j], said[here, j]], axis=1)])[-BEFORE:]
                miss.before = rows[~np.isnan(rows).all(axis=1).cumprod().astype(bool)]
                later = mine[mine > row]
                _follow(miss, actual[later, j], said[later, j])
                self._waiting.append((slot, j, miss))
        among = {id(m) for t in self.targets for m in self.misses[t].largest()}
        self._waiting = [w for w in self._waiting if id(w[2]) in among and len(w[2].after) < AFTER]
        self._recent.add(slots, np.stack([actual, said], axis=2).reshape(len(slots), -1))


def _follow(miss: Miss, actual: Floats, said: Floats) -> None:
    """More of the events after it."""
    miss.after = np.concatenate([miss.after, np.stack([actual, said], axis=1)])[:AFTER]


def axis(points: dict[str, Floats]) -> tuple[Floats, bool]:
    """x of bins or a tail, and whether it is times: event numbers where a time is missing or steps back."""
    time = points["time"]
    if len(time) > 1 and np.isfinite(time).all() and (np.diff(time) >= 0).all() and time[-1] > time[0]:
        return time, True
    return points["event"] + 1, False


def rolling_events(count: int, least: int = 20) -> int:
    """Events of a running mean that shows a trend in so many."""
    return max(least, round(count / 30))


def typical_span(lines: Sequence[Floats], from_zero: bool = False) -> tuple[float, float] | None:
    """A y axis for what is usual, where a few values lie so far away that nothing else would be seen; else None."""
    known = np.concatenate(lines)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low, high = (float(v) for v in np.quantile(known, (0.05, 0.95)))
    low = min(low, 0.0) if from_zero else low
    room = high - low
    if not room > 0 or (known.max() <= high + 4 * room and known.min() >= low - 4 * room):
        return None
    bottom = max(float(known.min()), low - 0.8 * room)
    return (0.0 if from_zero and bottom >= 0 else bottom), min(float(known.max()), high + 0.8 * room)


def spread_of(lines: Sequence[Floats], edges: Sequence[Floats]) -> tuple[float, float] | None:
    """A y axis that holds all lines, and of the edges of shades what lies near them; None: nothing is known."""
    values = np.concatenate(lines)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    room = 0.6 * (high - low)
    known = np.concatenate([*edges, np.array([low, high])])
    known = known[np.isfinite(known)]
    low, high = max(float(known.min()), low - room), min(float(known.max()), high + room)
    pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad
