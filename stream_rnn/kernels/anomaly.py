"""The compiled pass of anomaly.py: how strange each value is, and when that is worth an alert.

Two judges, per key and target, from what came before alone.

Novelty (the design that scores best on the Numenta benchmark): by how much the value, or the mean of the last 16, is
beyond the range so far, in that range; a fifth of it if one of the last 200 to 400 was at least as large.

Surprise: how rarely something is seen in any of several series made of the stream (STATISTICS): one error; means of
errors, signed and absolute, over a sixteenth and a quarter of a day; the same of steps and of second differences,
where it is the small ones that count (a sensor that stands still); how long a value has stayed the same. Errors, steps
and second differences are in units of what is usual at the hour of the day. Each series v has its tail:
    q     its 95 % quantile, tracked: q ← q + η m (1[v > q] - 0.05)
    m     the mean of the peaks by which excursions exceed q
    λ     excursions an event
so that a peak of v is exceeded λ exp(-(v - q) / m) times an event (peaks over threshold; v are logarithms, so this is a
power law); the surprise is the largest -log10 of that, less what the series has to pay for alerts it gave (`bias`).

An alert is given where the surprise reaches the key's θ, and then the key rests for a fifth of its budget's period;
only what is suddenly 10^AGAIN times rarer than all in that rest is told all the same. θ begins where the tails
themselves keep the budget. An alert raises it by CHARGE, and each event lowers it by CHARGE times its share of the
budget, b = (time since the key's last event) / (period of an alert): in the long run alerts come at the budget's rate,
whatever the stream does.

p_value: the share of earlier errors that were at least as large (a histogram of log2 |r|, half-life 1,000 events).
Letters: e event, j target, k statistic, r error in its usual size.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import ahead, doubles_at

STATISTICS = (
    "spike", "error (hours)", "error (quarter day)", "loud (hours)", "loud (quarter day)", "quiet errors (hours)",
    "quiet errors (quarter day)", "small steps (hours)", "small steps (quarter day)", "smooth (hours)",
    "smooth (quarter day)", "stuck",
)  # fmt: skip
K = len(STATISTICS)
STUCK = K - 1
SIGNED, LOUD, QUIET, STEPS, SMOOTH = range(5)  # kinds of those between: each over hours, and over a quarter day

WARM = 150  # errors of a target before it is judged
MEAN_OF = 16  # values of the novelty's mean
RANGE_FROM = 37  # values before the range counts
BLOCK = 200  # values of a block of the novelty's rest
NO_TIME_S = 300.0  # what an event counts as, where events have no time
REST = 0.2  # of an alert's period
AGAIN = 6.0  # decades of surprise by which an event must be rarer to be told in a rest
CHARGE = 0.15  # of an alert, in decades of surprise
BIAS = 0.5  # the same of the statistic that gave it
HOURS = 24
BINS = 48  # of the histogram: three an octave
LOWEST = -12.0  # octave

# Words of a key's row, then K_PART a target.
THETA, LEFT, TOP, LAST_TIME, GAP, GAPS, HEAD = range(7)  # LEFT: of the rest, in alerts; TOP: largest surprise in it

Z, UNIT, PREV, BEFORE, ERROR, STEP, CURVE, RUN, SEEN = range(9)  # ERROR, STEP, CURVE: their overall scales
LOW, HIGH, LOW_MEAN, HIGH_MEAN, PEAK_NOW, PEAK_BEFORE, NOVELTY = range(9, 16)
RING = 16
MEANS = RING + MEAN_OF  # signed, absolute, steps, second differences: two each
PROFILE = MEANS + 8  # counts, errors, steps, second differences: HOURS each
TAILS = PROFILE + 4 * HOURS
TAIL = 5  # q, m, λ, peak of the excursion that goes on (0: none), bias
HISTOGRAM = TAILS + TAIL * K
PART = HISTOGRAM + BINS + 2  # total, weight of the next


@inner
def _usual(p, which, hour, x):
    """How large x is among the usual ones of that hour, learnt with it; both in the series' overall scale."""
    n, mean = p[PROFILE + hour], p[PROFILE + which * HOURS + hour]
    p[PROFILE + which * HOURS + hour] = mean + (min(x, 8.0) - mean) / min(n + 1.0, 30.0)
    return x / max((n * mean + 5.0) / (n + 5.0), 0.05)


@inner
def _scaled(p, scale, x, D, rate):
    """x in the running mean of its like, which takes it in."""
    unit = p[scale] + 0.05 * D
    if p[Z] == 1.0:
        p[scale] = max(x, 0.1 * D)
        unit = p[scale] + 0.05 * D
    p[scale] += rate * (min(x, 10.0 * unit) - p[scale])
    return x / unit


@inner
def _surprise(tail, v, z, least):
    """-log10 of how often an event has such a v, 0 if it is none of the largest; the tail takes v in."""
    if z == 1.0:
        tail[0], tail[1], tail[2] = v, 0.3, 0.02
    over = v - tail[0]
    surprise = 0.0
    if over > 0.0:
        surprise = max(0.0, -math.log10(tail[2]) + over / tail[1] * 0.4342944819 - tail[4])
        if tail[3] == 0.0:
            tail[2] += max(1.0 / (z + 1.0), 0.0002)
        tail[3] = max(tail[3], over)
    elif tail[3] > 0.0:  # an excursion ended
        tail[1] += max(1.0 / (z * tail[2] + 2.0), 0.05) * (min(tail[3], 6.0 * tail[1]) - tail[1])
        tail[1] = max(tail[1], least)
        tail[3] = 0.0
    eta = max(1.0 / z, 0.001) * (10.0 if z <= 200.0 else 1.0)
    tail[0] += eta * tail[1] * ((1.0 if over > 0.0 else 0.0) - 0.05)
    tail[2] -= max(1.0 / (z + 1.0), 0.0002) * tail[2]
    return surprise


@inner
def _novelty(p, x):
    """By how much x and the mean of the last 16 are beyond the range so far, less in a rest."""
    seen = p[SEEN]
    p[RING + int(seen) % MEAN_OF] = x
    p[SEEN] = seen + 1.0
    total = 0.0
    count = min(int(seen) + 1, MEAN_OF)
    for i in range(count):
        total += p[RING + i]
    mean = total / count
    s = 0.0
    if seen >= RANGE_FROM:
        for at, v in ((LOW, x), (LOW_MEAN, mean)):
            beyond = max(v - p[at + 1], p[at] - v)
            if beyond > 0.0:
                width = p[at + 1] - p[at]
                s = max(s, beyond / width if width > 0.0 else 1.0)
    if seen == 0.0:
        p[LOW] = p[HIGH] = p[LOW_MEAN] = p[HIGH_MEAN] = x
    p[LOW], p[HIGH] = min(p[LOW], x), max(p[HIGH], x)
    p[LOW_MEAN], p[HIGH_MEAN] = min(p[LOW_MEAN], mean), max(p[HIGH_MEAN], mean)
    if seen < WARM:
        return 0.0
    if seen % BLOCK == 0.0:
        p[PEAK_BEFORE], p[PEAK_NOW] = p[PEAK_NOW], 0.0
    before = max(p[PEAK_NOW], p[PEAK_BEFORE])
    p[PEAK_NOW] = max(p[PEAK_NOW], s)
    return 0.2 * s if s <= before else s


@inner
def _p_value(h, r):
    """The share of the histogram at or above r, counting r; it takes r in."""
    at = (math.log2(r + 1e-9) - LOWEST) * 3.0
    at = min(max(at, 0.0), BINS - 1e-6)
    bin = int(at)
    above = h[bin] * (1.0 - (at - bin))
    for i in range(bin + 1, BINS):
        above += h[i]
    weight = h[BINS + 1]
    p = (above + weight) / (h[BINS] + weight)
    h[bin] += weight
    h[BINS] += weight
    h[BINS + 1] = weight * 1.000693387  # half-life 1,000
    if h[BINS + 1] > 1e6:
        for i in range(BINS + 1):
            h[i] *= 1e-6
        h[BINS + 1] *= 1e-6
    return min(p, 1.0)


@inner
def _judge(p, x, predicted, hour, day):
    """One value of a target: surprise, its statistic, the error's size, its p-value; the last two NaN: not judged."""
    D = p[UNIT]
    fresh = math.isnan(p[PREV])
    step = 0.0 if fresh else abs(x - p[PREV])
    curve = 0.0 if fresh or math.isnan(p[BEFORE]) else abs(x - 2.0 * p[PREV] + p[BEFORE])
    p[RUN] = p[RUN] + 1.0 if x == p[PREV] else 0.0
    p[BEFORE], p[PREV] = p[PREV], x
    if math.isnan(predicted) or not D > 0.0:
        return 0.0, -1, np.nan, np.nan
    p[Z] += 1.0
    z = p[Z]
    rate = max(1.0 / (z + 1.0), 0.0007)
    error = x - predicted
    size = _scaled(p, ERROR, abs(error), D, rate)
    r = _usual(p, 1, hour, size)
    capped = min(r, 8.0)
    w = min(_usual(p, 2, hour, _scaled(p, STEP, step, D, rate)), 8.0)
    c = min(_usual(p, 3, hour, _scaled(p, CURVE, curve, D, rate)), 8.0)
    p[PROFILE + hour] = min(p[PROFILE + hour] + 1.0, 30.0)

    best, which = 0.0, -1
    for k in range(K):
        if k == 0:
            v = math.log(r + 0.05)
        elif k == STUCK:
            v = math.log(1.0 + p[RUN])
        else:
            kind, scale = (k - 1) // 2, (k - 1) % 2
            n = min(max(day / 16.0, 3.0), 64.0) if scale == 0 else min(max(day / 4.0, 6.0), 256.0)
            at = MEANS + 2 * (kind if kind < QUIET else kind - 1) + scale
            if kind != QUIET:  # whose mean is LOUD's
                u = w
                if kind == SIGNED:
                    u = capped if error > 0.0 else -capped
                elif kind == LOUD:
                    u = capped
                elif kind == SMOOTH:
                    u = c
                p[at] += max(1.0 / (z + 1.0), 1.0 - 0.5 ** (1.0 / n)) * (u - p[at])
            if kind == SIGNED:
                v = math.log(abs(p[at]) * math.sqrt(2.885 * n) + 0.5)
            elif kind == LOUD:
                v = math.log(p[at] + 0.05)
            else:
                v = -math.log(p[at] + 0.003)
        surprise = _surprise(ahead(p, TAILS + TAIL * k), v, z, 0.35 if k == STUCK else 0.1)
        if surprise > best:
            best, which = surprise, k
    return best, which, min(size, 8.0), _p_value(ahead(p, HISTOGRAM), r)


@kernel
def judge_block(slots, time, values, predicted, unit, period, T, bases, place, anomaly, p_value, size, hit):
    """Judge n events, (n, …): write anomaly, p_value and the errors' sizes (n, T), NaN where there is none, and for
    each event the target and the statistic of an alert, (n, 2), or -1.

    values and predicted (n, ≥ T): what came and what had been forecast; unit (n, T): the targets' D after the event.
    period: seconds of an alert.
    """
    for e in range(slots.shape[0]):
        row = doubles_at(row_at(slots[e], bases, place))
        t = time[e]
        dt = 0.0
        if math.isnan(t):
            dt = NO_TIME_S if math.isnan(row[LAST_TIME]) else 0.0
        else:
            if not math.isnan(row[LAST_TIME]):
                dt = max(0.0, t - row[LAST_TIME])
                if row[GAPS] > 20.0:
                    dt = min(dt, 10.0 * row[GAP])
                row[GAPS] = min(row[GAPS] + 1.0, 1000.0)
                row[GAP] += (dt - row[GAP]) / row[GAPS]
            row[LAST_TIME] = t
        gap = row[GAP] if row[GAP] > 0.0 else NO_TIME_S
        b = min(dt / period, 0.1)
        hour = 0 if math.isnan(t) else int(t // 3600.0) % HOURS
        row[LEFT] = max(0.0, row[LEFT] - b)

        best, which, target, warm = 0.0, -1, -1, False
        for j in range(T):
            p = ahead(row, HEAD + j * PART)
            anomaly[e, j] = p_value[e, j] = size[e, j] = np.nan
            if not math.isnan(values[e, j]):
                surprise, k, size[e, j], p_value[e, j] = _judge(p, values[e, j], predicted[e, j], hour, 86400.0 / gap)
                p[NOVELTY] = _novelty(p, values[e, j])
                if not math.isnan(size[e, j]):
                    anomaly[e, j] = surprise if p[Z] > WARM else 0.0
                    warm = warm or p[Z] > WARM
                    if anomaly[e, j] > best:
                        best, which, target = surprise, k, j
            p[UNIT] = unit[e, j]

        if warm and row[THETA] == 0.0:
            row[THETA] = 0.3 - math.log10(min(gap / period, 0.1))
        theta = row[THETA]
        least = theta if row[LEFT] == 0.0 else max(theta, row[TOP] + AGAIN)
        for j in range(T):
            if not math.isnan(anomaly[e, j]):
                surprise, s = anomaly[e, j], row[HEAD + j * PART + NOVELTY]
                strange = 0.1 * min(1.0, surprise / theta) if warm else 0.0
                if warm and surprise >= least:
                    strange = 1.0 - 0.5 * 10.0 ** (theta - surprise)
                anomaly[e, j] = max(strange, s / (s + 0.1))
        hit[e, 0] = hit[e, 1] = -1
        if not warm:
            continue
        row[TOP] = max(row[TOP], best) if row[LEFT] > 0.0 else best  # an anomaly may grow while it is told once
        if best >= least:
            hit[e, 0], hit[e, 1] = target, which
            row[LEFT] = REST
            row[THETA] += CHARGE
            row[HEAD + target * PART + TAILS + TAIL * which + 4] += BIAS
        row[THETA] = max(1.0, row[THETA] - CHARGE * b)
        for j in range(T):
            for k in range(K):
                at = HEAD + j * PART + TAILS + TAIL * k + 4
                row[at] = max(0.0, row[at] - 0.5 * BIAS * b)


_I, _F, _FF = int64[::1], float64[::1], float64[:, ::1]
JUDGE_BLOCK = void(_I, _F, _FF, _FF, _FF, float64, int64, _I, _I, _FF, _FF, _FF, int64[:, ::1])
