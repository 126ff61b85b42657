"""The compiled pass behind features.py, which has the formulas: running moments, time, profiles, regressions.

Rows of keys are words of float64 (series, levels, features) or float32 (steps); see the offsets below.
Letters: e event, j target, i step ahead from 0, n horizon, b half-hour of the profile.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void

from stream_rnn.kernels.cache import kernel
from stream_rnn.kernels.rls import rls_learn, rls_predict, rls_words
from stream_rnn.kernels.vec import ahead, doubles_at, floats_at

LIMIT = 6.0  # of an input
SHARE = 0.5  # of a network's correction, more than one step ahead
REACH = 10.0  # of a label and of a forecast, in D
RATE = 1.0 - 0.5 ** (1.0 / 500.0)  # of running means, once they are warm
FAST_RATE = 1.0 - 0.5 ** (1.0 / 60.0)  # of the typical step
JUMP, SETTLED = 8.0, 20.0  # of what one step counts, in typical ones of √|step|, once so many values are there
CAP = 5.0  # of D, in typical steps
SMALLEST = 1e-150  # of a scale; a value of 1e30 over it is still finite
FORGET = 0.999  # of the regressions
LAGS = 8
REGRESSORS = LAGS + 4  # one step ahead; one less from there on
FIRST, OTHERS = rls_words(REGRESSORS), rls_words(REGRESSORS - 1)
BINS = 96  # half-hours of a weekday, then of a weekend day
DAY_BINS = BINS // 2
BIN_S, BIN_SHIFT_S = 1800.0, 450.0  # shifted, so that usual clock times are away from the edges
PROFILE_RATE = 0.1
INTERVALS = 5

# Words of a key's row of series: a head, a part a target, the key's vector.
EVENTS, LAST_TIME, MEAN_INTERVAL, N_INTERVALS, RECENT = range(5)
HEAD = RECENT + INTERVALS
COUNT, MEAN, VARIANCE, STEPS, TYPICAL, HISTORY = range(6)  # STEPS: D²; TYPICAL: mean of √|step|, zeros left out
FORECAST = HISTORY + LAGS  # the newest one-step forecast
AT, PENDING = FORECAST + 1, FORECAST + 2  # half-hour of the newest value (-1: none), and it, to enter the profile
MADE = FORECAST + 3  # n times, what was known when a step was made: L, D and the regressors up to the lags
MADE_WORDS = 2 + LAGS
LEVELS = BINS + DAY_BINS  # words of a target's levels: usual ones, then the newest ones
FEATURE_WORDS = HISTORY + 1  # a unit, the same without a past

TIME_INPUTS = 11


@kernel
def _at(slot, bases, place):
    return bases[slot >> place[0]] + (slot & place[1]) * place[2]


@kernel
def _within(x, limit):
    return min(max(x, -limit), limit)


@kernel
def _bin(t):
    """Half-hour of a weekday (0 … 47) or weekend day (48 … 95)."""
    day = math.floor((t + BIN_SHIFT_S) / 86400.0)
    b = int((t + BIN_SHIFT_S - day * 86400.0) / BIN_S)
    b = min(max(b, 0), BINS // 2 - 1)
    return b + BINS // 2 if (day + 3.0) % 7.0 >= 5.0 else b


@kernel
def _typical(p, count):
    """Median (the lower of two) of the last `count` ≤ 5 intervals, by rank."""
    for a in range(count):
        below = 0
        for b in range(count):
            if p[RECENT + b] < p[RECENT + a] or (p[RECENT + b] == p[RECENT + a] and b < a):
                below += 1
        if below == (count - 1) // 2:
            return p[RECENT + a]
    return 0.0


@kernel
def moments(p, o, y):
    """Take a value of the series at p[o] into its running moments; its history is the caller's."""
    p[o + COUNT] += 1.0
    count = p[o + COUNT]
    if count > 1.0:
        move = y - p[o + HISTORY]
        p[o + STEPS] += max(1.0 / (count - 1.0), RATE) * (move * move - p[o + STEPS])
        if move != 0.0:
            root = math.sqrt(abs(move))
            if count > SETTLED and p[o + TYPICAL] > 0.0:
                root = min(root, JUMP * p[o + TYPICAL])
            p[o + TYPICAL] += max(1.0 / (count - 1.0), FAST_RATE) * (root - p[o + TYPICAL])
        p[o + STEPS] = min(p[o + STEPS], (CAP * p[o + TYPICAL] * p[o + TYPICAL]) ** 2)
    rate = max(1.0 / count, RATE)
    off = y - p[o + MEAN]
    p[o + MEAN] += rate * off
    p[o + VARIANCE] = (1.0 - rate) * (p[o + VARIANCE] + rate * off * off)


@kernel
def least_scale(p, o):
    """The smallest scale that the size of the newest value leaves room for."""
    return max(1e-9 * abs(p[o + HISTORY]), SMALLEST)


@kernel
def level_of(p, o):
    """(L - M) / S."""
    return _within((p[o + HISTORY] - p[o + MEAN]) / max(math.sqrt(p[o + VARIANCE]), least_scale(p, o)), LIMIT)


@kernel
def step_scale(p, o):
    """D; 0 while no step has been seen."""
    return max(math.sqrt(p[o + STEPS]), least_scale(p, o)) if p[o + COUNT] > 1.0 else 0.0


@kernel
def _profiled(f, levels, steps, b, L, unit):
    """Write the regressors that depend on the time of day into f: bin b's, less L, in `unit`; 0 where unseen."""
    usual, newest = levels[b], levels[BINS + b % DAY_BINS]
    f[LAGS + 1] = 0.0 if math.isnan(usual) else _within((usual - L) / unit, LIMIT)
    f[LAGS + 2] = 0.0 if math.isnan(newest) else _within((newest - L) / unit, LIMIT)
    f[LAGS + 3] = _within(steps[2 * b] / unit, LIMIT)


@kernel
def read_block(
    slots, time, values, units, texts, sizes, series_bases, series_place, level_bases, level_place,
    step_bases, step_place, feature_bases, feature_place, X, labels, base, scale, expected, step,
):  # fmt: skip
    """Take in n events, (n, …): write inputs X, labels, base and scale of the forecasts, expected times and steps.

    sizes: targets, horizon, words a target, words of a key's vector. A table is its slabs' addresses and
    [shift, mask, stride]: keys.Rows.
    """
    T, n, part, key_words = sizes
    at_time = 3 * T
    at_profile = at_time + TIME_INPUTS
    at_key = at_profile + 3 * T
    at_features = at_key + key_words
    at_regressions = MADE + MADE_WORDS * n
    f = np.zeros(REGRESSORS)
    g = np.empty(REGRESSORS)
    for e in range(slots.shape[0]):
        p = doubles_at(_at(slots[e], series_bases, series_place))
        all_levels = doubles_at(_at(slots[e], level_bases, level_place))
        all_steps = floats_at(_at(slots[e], step_bases, step_place))
        t = time[e]
        timed = not math.isnan(t)
        done = int(p[EVENTS])

        # Time: a clock that goes back counts as standing still.
        interval = 0.0
        if timed:
            if not math.isnan(p[LAST_TIME]):
                interval = max(t - p[LAST_TIME], 0.0)
                capped = min(interval, 5.0 * p[MEAN_INTERVAL]) if p[N_INTERVALS] > 5.0 else interval
                p[RECENT + int(p[N_INTERVALS]) % INTERVALS] = interval
                p[N_INTERVALS] += 1.0
                p[MEAN_INTERVAL] += max(1.0 / p[N_INTERVALS], 0.01) * (capped - p[MEAN_INTERVAL])
            p[LAST_TIME] = t
        typical = _typical(p, min(int(p[N_INTERVALS]), INTERVALS))
        mean = p[MEAN_INTERVAL]
        if timed and mean > 0.0:
            X[e, at_time] = _within(math.log((interval + 0.05 * mean) / (1.05 * mean)), LIMIT)
        coming = t + typical
        expected[e] = coming if p[N_INTERVALS] > 0.0 else np.nan
        if timed:
            day = 2.0 * math.pi * ((coming % 86400.0) / 86400.0)
            s, c = math.sin(day), math.cos(day)
            s2, c2 = 2.0 * s * c, c * c - s * s
            X[e, at_time + 1], X[e, at_time + 2] = s, c
            X[e, at_time + 3], X[e, at_time + 4] = s2, c2
            X[e, at_time + 5], X[e, at_time + 6] = s * c2 + c * s2, c * c2 - s * s2
            week = 2.0 * math.pi * (((coming / 86400.0 + 3.0) % 7.0) / 7.0)
            s, c = math.sin(week), math.cos(week)
            X[e, at_time + 7], X[e, at_time + 8] = s, c
            X[e, at_time + 9], X[e, at_time + 10] = 2.0 * s * c, c * c - s * s

        for j in range(T):
            o = HEAD + j * part
            levels = ahead(all_levels, j * LEVELS)
            steps = ahead(all_steps, j * BINS * 2)
            y = values[e, j]
            missing = math.isnan(y)
            b = _bin(t) if timed else 0

            # Labels for the steps that this value was to be, and their regressions.
            for i in range(n):
                labels[e, j * n + i] = np.nan
                if missing or done <= i:
                    continue
                made = o + MADE + MADE_WORDS * ((done - 1 - i) % n)
                unit = p[made + 1] * math.sqrt(i + 1.0)
                if not unit > 0.0:  # no scale yet
                    continue
                for a in range(LAGS):
                    f[1 + a] = p[made + 2 + a]
                f[0] = 1.0
                if timed:
                    _profiled(f, levels, steps, b, p[made], unit)
                else:
                    f[LAGS + 1], f[LAGS + 2], f[LAGS + 3] = 0.0, 0.0, 0.0
                F = REGRESSORS if i == 0 else REGRESSORS - 1
                regression = o + at_regressions + (0 if i == 0 else FIRST + (i - 1) * OTHERS)
                y_unit = _within((y - p[made]) / unit, REACH)
                linear = rls_predict(p, regression, f, F)
                rls_learn(p, regression, f, F, y_unit - linear, FORGET, g)
                labels[e, j * n + i] = y_unit if n == 1 else _within(y_unit - _within(linear, REACH), REACH)

            if not missing:
                last = p[o + HISTORY]
                if timed and p[o + COUNT] > 0.0:
                    steps[2 * b + 1] += np.float32(1)
                    rate = max(1.0 / steps[2 * b + 1], PROFILE_RATE)
                    steps[2 * b] += np.float32(rate * ((y - last) - steps[2 * b]))
                    q, level = b, y
                    if n > 1:  # a label must not find in the profile what came after its step was made
                        q, level = int(p[o + AT]), p[o + PENDING]
                        p[o + AT], p[o + PENDING] = b, y
                    if n == 1 or (q >= 0 and q != b):
                        rate = max(1.0 / max(steps[2 * q + 1], 1.0), PROFILE_RATE)
                        levels[q] = level if math.isnan(levels[q]) else levels[q] + rate * (level - levels[q])
                        levels[BINS + q % DAY_BINS] = level
                moments(p, o, y)
                for l in range(LAGS - 1, 0, -1):
                    p[o + HISTORY + l] = p[o + HISTORY + l - 1]
                p[o + HISTORY] = y

            # What is known now: the step to be made.
            L = p[o + HISTORY]
            D = step_scale(p, o)
            made = o + MADE + MADE_WORDS * (done % n)
            p[made] = L
            p[made + 1] = D
            if missing:
                X[e, 3 * j + 2] = 1.0
            if not D > 0.0:
                for i in range(n):
                    base[e, j * n + i] = L
                    scale[e, j * n + i] = 0.0
                continue
            f[0] = 1.0
            f[1] = level_of(p, o)
            for l in range(1, LAGS):
                known = p[o + COUNT] > l
                f[1 + l] = _within((p[o + HISTORY + l - 1] - p[o + HISTORY + l]) / D, LIMIT) if known else 0.0
            for a in range(LAGS):
                p[made + 2 + a] = f[1 + a]
            for i in range(n):
                unit = D * math.sqrt(i + 1.0)
                if timed:
                    _profiled(f, levels, steps, _bin(t + (i + 1.0) * typical), L, unit)
                else:
                    f[LAGS + 1], f[LAGS + 2], f[LAGS + 3] = 0.0, 0.0, 0.0
                if i == 0:
                    linear = rls_predict(p, o + at_regressions, f, REGRESSORS)
                    X[e, 3 * j] = f[1]
                    X[e, 3 * j + 1] = f[2]
                    X[e, at_profile + 3 * j] = f[LAGS + 3]
                    X[e, at_profile + 3 * j + 1] = f[LAGS + 1]
                    X[e, at_profile + 3 * j + 2] = _within(linear, LIMIT)
                else:
                    linear = rls_predict(p, o + at_regressions + FIRST + (i - 1) * OTHERS, f, REGRESSORS - 1)
                base[e, j * n + i] = L if n == 1 else L + unit * _within(linear, REACH)
                scale[e, j * n + i] = unit if n == 1 else SHARE * unit

        for d in range(key_words):
            X[e, at_key + d] = p[HEAD + T * part + d]
        k = doubles_at(_at(slots[e], feature_bases, feature_place))
        for s in range(units.shape[0]):
            y = values[e, T + s]
            if math.isnan(y):
                continue
            x = at_features + 2 * units[s]
            if texts[s] != 0:
                X[e, x + int(y)] = 1.0
                continue
            o = FEATURE_WORDS * units[s]
            move = y - k[o + HISTORY]
            moments(k, o, y)
            k[o + HISTORY] = y
            D = step_scale(k, o)
            if D > 0.0:
                X[e, x] = level_of(k, o)
                X[e, x + 1] = _within(move / D, LIMIT)
        p[EVENTS] += 1.0
        step[e] = done + 1


@kernel
def settle_block(slots, forecast, sizes, bases, place, predicted):
    """Put each event's one-step forecasts into its key's row; `predicted` (n, T): what was there before."""
    T, n, part, _ = sizes
    for e in range(slots.shape[0]):
        p = doubles_at(_at(slots[e], bases, place))
        for j in range(T):
            at = HEAD + j * part + FORECAST
            predicted[e, j] = p[at]
            p[at] = forecast[e, j * n]


_I, _F, _FF, _f = int64[::1], float64[::1], float64[:, ::1], float32[:, ::1]
READ_BLOCK = void(_I, _F, _FF, _I, _I, _I, _I, _I, _I, _I, _I, _I, _I, _I, _f, _f, _FF, _FF, _F, _I)
SETTLE_BLOCK = void(_I, _FF, _I, _I, _I, _FF)
