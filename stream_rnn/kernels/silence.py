"""The compiled pass of silence.py: which keys have not been heard of for much longer than is usual for them.

Nothing here reads a clock: time is what all keys' events say. The model's clock A goes on with each event by the time
since the event before (of any key), but by no more than L, the longest that is usual: so after a night in which the
whole source stood still nobody is silent, and a wrong time moves it hardly at all. Without times it counts events.
    a key is silent where A - (A at its last event) > 3 G, and at least LEAST events of others came since
G, the longest usual gap between two of its events, and L are maxima with a half-life (500 events of the key, 10,000 of
all); a gap counts in G as no more than would have been silence, and in L as twice L.

A key is watched from its JOIN-th event on. Watched keys lie in a heap by when to look at them next (by A; then by
number), which is put right only when its top is due: an event costs no more for a million of them.

Words of a key's row: ENTRY + 1 (0: not watched yet), SERIAL, events, A and time at the newest, G. Words of an entry,
one a watched key: LOOK (free: -1 - the next free one), SERIAL (0: free, -1: of a key that has begun afresh), A, time
and number of its newest event, DUE (a gap that is silence). head: number of events, A, L, time of the newest, serial,
entries, heap, first free one (-1: none).
"""

from __future__ import annotations

import math

from numba import float64, int64

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import doubles_at

ENTRY, SERIAL, SEEN, LAST, LAST_TIME, GAP, ROW_WORDS = range(7)
E_LOOK, E_SERIAL, E_LAST, E_TIME, E_EVENT, E_DUE, ENTRY_WORDS = range(7)
EVENTS, CLOCK, LONGEST, NEWEST, SERIALS, ENTRIES, HEAP, FREE, HEAD = range(9)

JOIN = 20
MUCH = 3.0
LEAST = 10.0
FORGET = 0.5 ** (1.0 / 500.0)
FORGET_ALL = 0.5 ** (1.0 / 10_000.0)

JOINED, SILENT, BACK = 1, 2, 3


@inner
def _before(entries, a, b):
    if entries[a, E_LOOK] != entries[b, E_LOOK]:
        return entries[a, E_LOOK] < entries[b, E_LOOK]
    return entries[a, E_SERIAL] < entries[b, E_SERIAL]


@inner
def _up(heap, entries, at):
    while at > 0 and _before(entries, heap[at], heap[(at - 1) // 2]):
        above = (at - 1) // 2
        heap[at], heap[above] = heap[above], heap[at]
        at = above


@inner
def _down(heap, n, entries, at):
    while True:
        child = 2 * at + 1
        if child >= n:
            return
        if child + 1 < n and _before(entries, heap[child + 1], heap[child]):
            child += 1
        if not _before(entries, heap[child], heap[at]):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@inner
def _advance(head, t):
    """Let the clock go on to an event at t; where it is."""
    head[EVENTS] += 1.0
    if math.isnan(t):
        if math.isnan(head[NEWEST]):  # no event has had a time
            head[CLOCK] += 1.0
    else:
        gap = max(0.0, t - head[NEWEST]) if not math.isnan(head[NEWEST]) else 0.0
        longest = FORGET_ALL * head[LONGEST]
        head[CLOCK] += min(gap, longest) if longest > 0.0 else gap
        head[LONGEST] = max(longest, min(gap, 2.0 * longest) if longest > 0.0 else gap)
        head[NEWEST] = t
    return head[CLOCK]


@kernel
def watch_block(slots, time, bases, place, head, entries, heap, notes):
    """Take n events; write notes (event, entry, what, time it was last seen), what: JOINED, SILENT or BACK; how many.

    entries and heap have room for n more keys; notes for 3 n and all the keys that are watched.
    """
    written = 0
    for e in range(slots.shape[0]):
        t = time[e]
        now = _advance(head, t)
        row = doubles_at(row_at(slots[e], bases, place))
        entry = int(row[ENTRY]) - 1
        watched = entry >= 0 and entries[entry, E_SERIAL] == row[SERIAL]
        if entry >= 0 and not watched:
            notes[written, 0], notes[written, 1], notes[written, 2], notes[written, 3] = e, entry, BACK, row[LAST_TIME]
            written += 1
        if row[SEEN] > 0.0:
            gap = now - row[LAST]
            if row[SEEN] >= JOIN and row[GAP] > 0.0:
                gap = min(gap, MUCH * row[GAP])
            row[GAP] = max(FORGET * row[GAP], gap)
        row[SEEN] += 1.0
        row[LAST], row[LAST_TIME] = now, t
        if not watched and row[SEEN] >= JOIN and row[GAP] > 0.0:
            entry = int(head[FREE])
            if entry >= 0:
                head[FREE] = -1.0 - entries[entry, E_LOOK]
            else:
                entry = int(head[ENTRIES])
                head[ENTRIES] += 1.0
            head[SERIALS] += 1.0
            row[ENTRY], row[SERIAL] = entry + 1.0, head[SERIALS]
            entries[entry, E_SERIAL] = head[SERIALS]
            entries[entry, E_LOOK] = now + MUCH * row[GAP]
            n = int(head[HEAP])
            heap[n] = entry
            head[HEAP] += 1.0
            _up(heap, entries, n)
            notes[written, 0], notes[written, 1], notes[written, 2], notes[written, 3] = e, entry, JOINED, t
            written += 1
            watched = True
        if watched:
            entries[entry, E_LAST], entries[entry, E_TIME], entries[entry, E_EVENT] = now, t, head[EVENTS]
            entries[entry, E_DUE] = MUCH * row[GAP]

        while head[HEAP] > 0.0 and entries[heap[0], E_LOOK] < now:
            top = heap[0]
            alive = entries[top, E_SERIAL] > 0.0
            due = entries[top, E_LAST] + entries[top, E_DUE]
            if due < now and head[EVENTS] - entries[top, E_EVENT] < LEAST:
                due = now + 0.25 * entries[top, E_DUE]
            if alive and due >= now:
                entries[top, E_LOOK] = due
            else:
                if alive:
                    notes[written, 0], notes[written, 1], notes[written, 2] = e, top, SILENT
                    notes[written, 3] = entries[top, E_TIME]
                    written += 1
                entries[top, E_SERIAL] = 0.0
                entries[top, E_LOOK] = -1.0 - head[FREE]
                head[FREE] = top
                head[HEAP] -= 1.0
                heap[0] = heap[int(head[HEAP])]
            _down(heap, int(head[HEAP]), entries, 0)
    return written


WATCH_BLOCK = int64(
    int64[::1], float64[::1], int64[::1], int64[::1], float64[::1], float64[:, ::1], int64[::1], float64[:, ::1]
)
