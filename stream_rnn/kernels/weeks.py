"""The compiled week of experts.py: what is usual at each half-hour of the week, and how the newest days differ from it.

Per key and target two running means of the value and of its step: W over the half-hours of the week (slow: a tenth
a week), and R over the half-hours of the day of what W leaves (quick: three tenths a day). W + R follows a season that
drifts, and knows a Sunday from a Monday. A half-hour of the week that was never seen is taken as the same one a day
earlier, up to six days back.

Words of a key's row, a part a target: float64 W's levels (NaN: not seen) and the last value; float32 W's steps and
counts, R's levels, steps and counts. Letters: e event, j target, i step ahead from 0, c half-hour of the week.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at, within
from stream_rnn.kernels.series import LIMIT
from stream_rnn.kernels.vec import ahead, doubles_at, floats_at

DAY = 48  # half-hours
WEEK = 7 * DAY
BIN_S, BIN_SHIFT_S = 1800.0, 450.0  # shifted, so that usual clock times are away from the edges
WEEK_RATE, DAY_RATE = 0.1, 0.3

LAST = WEEK
LEVEL_WORDS = WEEK + 1
STEP, SEEN, DAY_LEVEL = 0, WEEK, 2 * WEEK
DAY_STEP, DAY_SEEN = DAY_LEVEL + DAY, DAY_LEVEL + 2 * DAY
STEP_WORDS = DAY_LEVEL + 3 * DAY

INPUTS = 3  # a target: W's step, W + R's step and W + R's level less the last value, in D


@inner
def _bin(t):
    """Half-hour of the week, Monday first."""
    day = math.floor((t + BIN_SHIFT_S) / 86400.0)
    b = min(max(int((t + BIN_SHIFT_S - day * 86400.0) / BIN_S), 0), DAY - 1)
    return b + DAY * int((day + 3.0) % 7.0)


@inner
def _seen(W, c):
    """The half-hour of the week to look at for c; where none was seen, c."""
    for d in range(7):
        near = (c - DAY * d) % WEEK
        if not math.isnan(W[near]):
            return near
    return c


@inner
def _take(W, Q, t, y):
    """Take in a value y at time t."""
    step = y - W[LAST]
    if not math.isnan(step):
        c = _bin(t)
        near, b = _seen(W, c), c % DAY
        if not math.isnan(W[near]):
            Q[DAY_SEEN + b] += np.float32(1)
            rate = max(1.0 / Q[DAY_SEEN + b], DAY_RATE)
            Q[DAY_LEVEL + b] += np.float32(rate * (y - W[near] - Q[DAY_LEVEL + b]))
            Q[DAY_STEP + b] += np.float32(rate * (step - Q[STEP + near] - Q[DAY_STEP + b]))
        Q[SEEN + c] += np.float32(1)
        rate = max(1.0 / Q[SEEN + c], WEEK_RATE)
        W[c] = y if math.isnan(W[c]) else W[c] + rate * (y - W[c])
        Q[STEP + c] += np.float32(rate * (step - Q[STEP + c]))
    W[LAST] = y


@kernel
def read_weeks(slots, time, values, expected, scale, sizes, level_bases, level_place, step_bases, step_place, X, usual):
    """Take in n events: write inputs into X[:, :INPUTS T] and usual levels (n, T, horizon + 1), NaN: unknown.

    usual[e, j, 0] is of the event's own time, the others of the expected ones; expected is the first of these.
    scale (n, T): D, 0 where there is none. sizes: targets, horizon.
    """
    T, horizon = sizes
    for e in range(slots.shape[0]):
        all_levels = doubles_at(row_at(slots[e], level_bases, level_place))
        all_steps = floats_at(row_at(slots[e], step_bases, step_place))
        t = time[e]
        interval = expected[e] - t
        for j in range(T):
            W, Q = ahead(all_levels, j * LEVEL_WORDS), ahead(all_steps, j * STEP_WORDS)
            y = values[e, j]
            if math.isnan(t):
                if not math.isnan(y):
                    W[LAST] = y
            elif not math.isnan(y):
                _take(W, Q, t, y)
            for a in range(INPUTS):
                X[e, INPUTS * j + a] = np.float32(0)
            for i in range(horizon + 1):
                usual[e, j, i] = np.nan
                at = t + i * interval if i > 0 else t
                if math.isnan(at) or (horizon == 1 and i == 0):
                    continue
                c = _seen(W, _bin(at))
                if math.isnan(W[c]):
                    continue
                b = c % DAY
                usual[e, j, i] = W[c] + Q[DAY_LEVEL + b]
                if i == 1 and scale[e, j] > 0.0:
                    D = scale[e, j]
                    X[e, INPUTS * j] = within(Q[STEP + c] / D, LIMIT)
                    X[e, INPUTS * j + 1] = within((Q[STEP + c] + Q[DAY_STEP + b]) / D, LIMIT)
                    X[e, INPUTS * j + 2] = within((usual[e, j, i] - W[LAST]) / D, LIMIT)


_I, _F, _FF = int64[::1], float64[::1], float64[:, ::1]
READ_WEEKS = void(_I, _F, _FF, _F, _FF, _I, _I, _I, _I, _I, float32[:, ::1], float64[:, :, ::1])
