"""The compiled pass of intervals.py: quantile tracking, the P of conformal PID control (Angelopoulos, Candès &
Tibshirani 2023, arXiv:2307.16895), on a scale of recent errors.

Per key, target and step ahead, with D the unit of that step and s = A + D / 10 the scale when a forecast was made:
    half the width of level c's interval:   q_c s
    at the value, a = |value - forecast|, r = a / s:
        q_c ← max(q_c + 0.1 B (1[r > q_c] - (1 - c)), 0.01)
        B ← mean of min(r, 20), half-life 200 values
        A ← mean of min(a, 20 (A + D / 10)), half-life 50, D the smaller of the one then and today's
In the long run c of the values are inside, whatever the stream does; a spike moves the scale by a bounded factor, be
it of 1e30, and a stretch without errors leaves a width of D / 1000.

Words of a key's row, float64, a part a target: for each of the last n steps the forecasts and scales (n each) and D;
A and count a step ahead; LEVELS times (level, q, B) a step ahead; LEVELS times low and high of the newest one-step
intervals.
Letters: e event, j target, i step ahead from 0, n horizon, c level.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import ahead, doubles_at

LEVELS = 4  # at most
RATE = 0.1
ERROR_RATE = 1.0 - 0.5 ** (1.0 / 50.0)
STEP_RATE = 1.0 - 0.5 ** (1.0 / 200.0)
FLOOR = 0.1  # of the scale, in D
CAP = 20.0  # of what an error counts, in scales
LEAST = 0.01  # of q


def part_words(n: int) -> int:
    """Words of a target's part."""
    return n * (2 * n + 1) + 2 * n + 3 * LEVELS * n + 2 * LEVELS


@inner
def take_error(errors, tracks, a, s, D, levels):
    """Take in an error a of a forecast whose scale was s."""
    r = min(a / s, CAP)
    errors[1] += 1.0
    rate = 1.0 / (errors[1] + 1.0)
    for c in range(levels.shape[0]):
        track = ahead(tracks, 3 * c)
        miss = 1.0 if a > track[1] * s else 0.0
        track[1] = max(track[1] + RATE * track[2] * (miss - (1.0 - track[0])), LEAST)
        track[2] += max(rate, STEP_RATE) * (r - track[2])
    before = errors[0] if errors[1] > 1.0 else D
    errors[0] = before + max(rate, ERROR_RATE) * (min(a, CAP * (before + FLOOR * D)) - before)


@kernel
def track_block(slots, values, forecast, unit, step, levels, starts, T, n, bases, place, half, told):
    """Take n events through (n, …): write half the widths of forecasts' intervals and what had been told of each event.

    forecast (n, outputs); unit (n, T): D, 0 where there is none; levels ascending and their first q; half (n, outputs,
    levels); told (n, T, levels, 2). NaN: none.
    """
    step_words = 2 * n + 1
    at_errors = n * step_words
    at_tracks = at_errors + 2 * n
    at_newest = at_tracks + 3 * LEVELS * n
    part = at_newest + 2 * LEVELS
    for e in range(slots.shape[0]):
        done = step[e] - 1
        here = done % n
        for j in range(T):
            p = ahead(doubles_at(row_at(slots[e], bases, place)), j * part)
            D = unit[e, j]
            for i in range(n):  # a level that is new begins afresh
                for c in range(levels.shape[0]):
                    track = ahead(p, at_tracks + 3 * (LEVELS * i + c))
                    if track[0] != levels[c]:
                        track[0], track[1], track[2] = levels[c], starts[c], 1.0
                        if i == 0:
                            p[at_newest + 2 * c] = p[at_newest + 2 * c + 1] = np.nan
            if not math.isnan(values[e, j]):
                for i in range(min(n, done)):
                    made = ahead(p, step_words * ((done - 1 - i) % n))
                    s = made[n + i]
                    if s > 0.0 and not math.isnan(made[i]):
                        a = abs(values[e, j] - made[i])
                        d = math.sqrt(i + 1.0) * (min(made[2 * n], D) if D > 0.0 else made[2 * n])
                        take_error(ahead(p, at_errors + 2 * i), ahead(p, at_tracks + 3 * LEVELS * i), a, s, d, levels)
            made = ahead(p, step_words * here)
            made[2 * n] = D
            for i in range(n):
                o = j * n + i
                errors = ahead(p, at_errors + 2 * i)
                d = D * math.sqrt(i + 1.0)
                s = (errors[0] if errors[1] > 0.0 else d) + FLOOR * d
                made[i], made[n + i] = forecast[e, o], s if D > 0.0 else 0.0
                widest = 0.0
                for c in range(levels.shape[0]):
                    widest = max(widest, p[at_tracks + 3 * (LEVELS * i + c) + 1] * s)
                    half[e, o, c] = widest if D > 0.0 else np.nan
            for c in range(levels.shape[0]):
                at = at_newest + 2 * c
                told[e, j, c, 0], told[e, j, c, 1] = p[at], p[at + 1]
                p[at], p[at + 1] = forecast[e, j * n] - half[e, j * n, c], forecast[e, j * n] + half[e, j * n, c]


_I, _F, _FF = int64[::1], float64[::1], float64[:, ::1]
TRACK_BLOCK = void(_I, _FF, _FF, _FF, _I, _F, _F, int64, int64, _I, _I, float64[:, :, ::1], float64[:, :, :, ::1])
