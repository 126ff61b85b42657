"""The compiled passes behind labelled.py: which earlier event a late label belongs to; events → a network's inputs.

A block is a sequence of events and of late labels, in the order of the log. Whatever an event is predicted from was
known before it, but for its features and its time: the labels among its inputs are those that had come by then.

Tables of rows, a row a key:
    events   float64: a head; what was known of the labels' scale at the last `kept` events (MEAN, S, and the first
             scale: 4 each); the key's vector
    ids      int64 (kept, 2): hash of the event's id (0: none), and whether it has its label
    inputs   float64, UNIT_WORDS a unit of features: running moments as in series.py, the recent mean, the first scale
Letters: e event or label, s feature. `back`: how many events of its key ago the event of a late label was; -1: this is
an event; UNKNOWN and TWICE: the label has none.
"""

from __future__ import annotations

import math

from numba import float32, float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at, within
from stream_rnn.kernels.series import HISTORY, LIMIT, RATE, REACH, SMALLEST, least_scale, level_of, step_scale
from stream_rnn.kernels.series import MEAN as LEVEL_MEAN
from stream_rnn.kernels.series import VARIANCE as LEVEL_VARIANCE
from stream_rnn.kernels.series import moments as take_moments
from stream_rnn.kernels.vec import doubles_at, ints_at

UNKNOWN, TWICE = -2, -3

EVENTS, LAST_TIME, MEAN_INTERVAL, N_INTERVALS = range(4)
LABELS, MEAN, VARIANCE, RECENT, LAST, LAST_EVENT, FIRST_MEAN, FIRST_SCALE = range(4, 12)  # of the labels
HEAD = 12
NORM_WORDS = 4

UNIT_WORDS = HISTORY + 4  # moments, then:
UNIT_RECENT, UNIT_FIRST_MEAN, UNIT_FIRST_SCALE = HISTORY + 1, HISTORY + 2, HISTORY + 3

CLOCK_INPUTS = 11
NUMBER_INPUTS = 3  # of a label that is a number: last, recent mean, whether there is one
EACH = 3  # inputs of a unit of features: level, step, level less the recent mean
RECENT_RATE = 1.0 - 0.5 ** (1.0 / 32.0)
LEAST_STEP = 0.05  # deviations: of a slow trend, a scaler's moves before us would be all that is seen
SETTLED = 5.0  # values before a first scale is taken
FARTHEST = 1e6  # first scales that a value counts at most
JUMP = 30.0  # standard deviations that one label counts at most


@kernel
def find_events(slots, late, ids, labelled, kept, event_bases, event_place, id_bases, id_place, back, step):
    """Count n events and find those of late labels: write back and step, the event's number of its key from 1.

    late (n,): not 0 for a late label; ids (n,): hashes; labelled (n,): not 0 where an event brings its label.
    """
    for e in range(slots.shape[0]):
        p = doubles_at(row_at(slots[e], event_bases, event_place))
        ring = ints_at(row_at(slots[e], id_bases, id_place))
        done = int(p[EVENTS])
        if late[e] == 0:
            here = 2 * (done % kept)
            ring[here], ring[here + 1] = ids[e], 1 if labelled[e] != 0 else 0
            p[EVENTS] = done + 1.0
            back[e], step[e] = -1, done + 1
            continue
        back[e], step[e] = UNKNOWN, 0
        for b in range(min(done, kept)):
            there = 2 * ((done - 1 - b) % kept)
            if ring[there] == ids[e]:
                back[e], step[e] = b if ring[there + 1] == 0 else TWICE, done - b
                ring[there + 1] = 1
                break


@inner
def _deviation(p):
    """S of the labels; 0 while there are not two."""
    if p[LABELS] < 2.0:
        return 0.0
    return max(math.sqrt(p[VARIANCE]), 1e-9 * abs(p[MEAN]), SMALLEST)


@inner
def _take_label(p, y, step, classes):
    """Take in a label of the event `step`."""
    if step > p[LAST_EVENT]:
        p[LAST], p[LAST_EVENT] = y, step
    p[LABELS] += 1.0
    if classes > 0:
        return
    rate = max(1.0 / p[LABELS], RATE)
    off = y - p[MEAN]
    if p[LABELS] > 20.0 and p[VARIANCE] > 0.0:
        off = within(off, JUMP * math.sqrt(p[VARIANCE]))
    p[MEAN] += rate * off
    p[VARIANCE] = (1.0 - rate) * (p[VARIANCE] + rate * off * off)
    p[RECENT] += max(1.0 / p[LABELS], RECENT_RATE) * (y - p[RECENT])
    if p[FIRST_SCALE] == 0.0 and p[LABELS] >= SETTLED and p[VARIANCE] > 0.0:
        p[FIRST_MEAN], p[FIRST_SCALE] = p[MEAN], _deviation(p)


@inner
def _goal(y, mean, deviation):
    """What a network is to say for a number; NaN: nothing, there was no scale when the event came."""
    return within((y - mean) / deviation, REACH) if deviation > 0.0 else math.nan


@inner
def _read_clock(p, t, x):
    """Take in an event's time; a clock that goes back counts as standing still."""
    if math.isnan(t):
        return
    interval = 0.0
    if not math.isnan(p[LAST_TIME]):
        interval = max(t - p[LAST_TIME], 0.0)
        capped = min(interval, 5.0 * p[MEAN_INTERVAL]) if p[N_INTERVALS] > 5.0 else interval
        p[N_INTERVALS] += 1.0
        p[MEAN_INTERVAL] += max(1.0 / p[N_INTERVALS], 0.01) * (capped - p[MEAN_INTERVAL])
    p[LAST_TIME] = t
    mean = p[MEAN_INTERVAL]
    if mean > 0.0:
        x[0] = within(math.log((interval + 0.05 * mean) / (1.05 * mean)), LIMIT)
    day = 2.0 * math.pi * ((t % 86400.0) / 86400.0)
    s, c = math.sin(day), math.cos(day)
    s2, c2 = 2.0 * s * c, c * c - s * s
    x[1], x[2], x[3], x[4], x[5], x[6] = s, c, s2, c2, s * c2 + c * s2, c * c2 - s * s2
    week = 2.0 * math.pi * (((t / 86400.0 + 3.0) % 7.0) / 7.0)
    s, c = math.sin(week), math.cos(week)
    x[7], x[8], x[9], x[10] = s, c, 2.0 * s * c, c * c - s * s


@inner
def _read_number(k, o, y, x, at):
    """Take in a feature's value: write its inputs; its value in first scales comes back."""
    move, recent = y - k[o + HISTORY], k[o + UNIT_RECENT]
    take_moments(k, o, y)
    k[o + HISTORY] = y
    k[o + UNIT_RECENT] += max(1.0 / k[o], RECENT_RATE) * (y - recent)
    D = step_scale(k, o)
    S = max(math.sqrt(k[o + LEVEL_VARIANCE]), least_scale(k, o))
    if D > 0.0:
        x[at] = level_of(k, o)
        x[at + 1] = within(move / max(D, LEAST_STEP * S), LIMIT)
        x[at + 2] = within((y - recent) / S, LIMIT)
    if k[o + UNIT_FIRST_SCALE] == 0.0 and k[o] >= SETTLED and k[o + LEVEL_VARIANCE] > 0.0:
        k[o + UNIT_FIRST_MEAN] = k[o + LEVEL_MEAN]
        k[o + UNIT_FIRST_SCALE] = S
    if k[o + UNIT_FIRST_SCALE] == 0.0:
        return 0.0
    return within((y - k[o + UNIT_FIRST_MEAN]) / k[o + UNIT_FIRST_SCALE], FARTHEST)


@kernel
def read_events(
    slots, back, step, time, values, labels, units, texts, sizes, event_bases, event_place, input_bases, input_place,
    X, line, goal, last, norm,
):  # fmt: skip
    """Take in n events and labels (n, …); back and step as `find_events` wrote them.

    labels (n,): numbers, or classes from 0; NaN: none. sizes: classes (0: labels are numbers), kept, words of the key's
    vector. Writes an event's X; line (n, units), features in first scales; for both: goal (n,), what a network is to
    learn, NaN: nothing; last (n,), the label known last before; norm (n, 4): the labels' mean and deviation when the
    event came, and their first ones. X and line are zeros before.
    """
    classes, kept, key_words = sizes
    at_key = CLOCK_INPUTS + (classes if classes > 0 else NUMBER_INPUTS)
    at_features = at_key + key_words
    at_vector = HEAD + NORM_WORDS * kept
    for e in range(slots.shape[0]):
        goal[e] = last[e] = math.nan
        for a in range(NORM_WORDS):
            norm[e, a] = math.nan
        if back[e] < -1:
            continue
        p = doubles_at(row_at(slots[e], event_bases, event_place))
        here = HEAD + NORM_WORDS * ((step[e] - 1) % kept)
        y = labels[e]
        if back[e] >= 0:
            for a in range(NORM_WORDS):
                norm[e, a] = p[here + a]
            goal[e] = y if classes > 0 else _goal(y, p[here], p[here + 1])
            _take_label(p, y, step[e], classes)
            continue
        x = X[e]
        _read_clock(p, time[e], x)
        last[e] = p[LAST]
        p[here] = p[MEAN] if p[LABELS] > 0.0 else math.nan
        p[here + 1], p[here + 2], p[here + 3] = _deviation(p), p[FIRST_MEAN], p[FIRST_SCALE]
        for a in range(NORM_WORDS):
            norm[e, a] = p[here + a]
        if classes > 0:
            if not math.isnan(p[LAST]):
                x[CLOCK_INPUTS + int(p[LAST])] = 1.0
        elif p[here + 1] > 0.0:
            x[CLOCK_INPUTS] = within((p[LAST] - p[MEAN]) / p[here + 1], LIMIT)
            x[CLOCK_INPUTS + 1] = within((p[RECENT] - p[MEAN]) / p[here + 1], LIMIT)
            x[CLOCK_INPUTS + 2] = 1.0
        for a in range(key_words):
            x[at_key + a] = p[at_vector + a]
        k = doubles_at(row_at(slots[e], input_bases, input_place))
        for s in range(units.shape[0]):
            v = values[e, s]
            if math.isnan(v):
                continue
            at = at_features + EACH * units[s]
            if texts[s] != 0:
                x[at + int(v)] = 1.0
            else:
                line[e, units[s]] = _read_number(k, UNIT_WORDS * units[s], v, x, at)
        if not math.isnan(y):
            goal[e] = y if classes > 0 else _goal(y, p[here], p[here + 1])
            _take_label(p, y, step[e], classes)


_I, _F, _FF, _f, _ff = int64[::1], float64[::1], float64[:, ::1], float32[::1], float32[:, ::1]
FIND_EVENTS = void(_I, _I, _I, _I, int64, _I, _I, _I, _I, _I, _I)
READ_EVENTS = void(_I, _I, _I, _F, _FF, _F, _I, _I, _I, _I, _I, _I, _I, _ff, _ff, _f, _F, _FF)
