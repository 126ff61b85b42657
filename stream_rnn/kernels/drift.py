"""The compiled pass of drift.py: has the size of errors changed? Two detectors, per key and target.

Page-Hinkley (Page 1954, as river has it, mode "up"), over x_1 … x_t since its start, M_t their mean:
    s ← 0.9999 s + x_t - M_t - δ;  drift where s is more than λ above its smallest so far, after LEAST values

ADWIN (Bifet & Gavaldà 2007, doi:10.1137/1.9781611972771.42; the exponential histogram of river's): a window of all
values that still look alike, in buckets of 2^i values (total, variance), at most 5 of each size; every CLOCK values
all its cuts in two are tried, and while the means of a cut differ by more than
    ε = √(2 m σ² ln(2 ln W / δ)) + 2/3 m ln(2 ln W / δ),  m = 1/(n0 - 4) + 1/(n1 - 4)
the oldest bucket goes: that is drift. Either detector begins anew after a drift.

Words of a key's row, float64, a part a target; see the offsets.
"""

from __future__ import annotations

import math

from numba import float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import ahead, doubles_at

PAGE_HINKLEY, ADWIN = 1, 2

PH_WORDS = 4  # n, mean, s, its smallest
PH_LEAST, PH_DELTA, PH_LAMBDA, PH_ALPHA = 30, 0.25, 100.0, 0.9999

WIDTH, TOTAL, VARIANCE, TICK, SIZES, AW_HEAD = range(6)  # SIZES: kinds of buckets in use
BUCKETS = 5  # of a size
DEPTH = 24  # sizes: 80 million values
SIZE_WORDS = 1 + 2 * (BUCKETS + 1)  # how many, then (total, variance) each, the oldest first
AW_WORDS = AW_HEAD + DEPTH * SIZE_WORDS
AW_CLOCK, AW_GRACE, AW_LEAST, AW_DELTA = 32, 10, 5, 0.002


@inner
def page_hinkley(p, x, delta, threshold):
    """Take x in; whether there is a drift."""
    if p[0] == 0.0:
        p[1] = p[2] = 0.0
        p[3] = math.inf
    p[0] += 1.0
    p[1] += (x - p[1]) / p[0]
    p[2] = PH_ALPHA * p[2] + x - p[1] - delta
    p[3] = min(p[3], p[2])
    if p[0] >= PH_LEAST and p[2] - p[3] > threshold:
        p[0] = 0.0
        return True
    return False


@inner
def _shorten(size):
    """Forget the oldest bucket of a size."""
    for i in range(2 * (int(size[0]) - 1)):
        size[1 + i] = size[3 + i]
    size[0] -= 1.0


@inner
def _drop_oldest(p):
    """Forget the oldest bucket of all; how many values it held."""
    last = int(p[SIZES]) - 1
    size = ahead(p, AW_HEAD + last * SIZE_WORDS)
    n = 2.0**last
    total, variance = size[1], size[2]
    p[WIDTH] -= n
    p[TOTAL] -= total
    if p[WIDTH] > 0.0:
        apart = total / n - p[TOTAL] / p[WIDTH]
        p[VARIANCE] -= variance + n * p[WIDTH] * apart * apart / (n + p[WIDTH])
    else:
        p[VARIANCE] = 0.0
    _shorten(size)
    while p[SIZES] > 0.0 and p[AW_HEAD + (int(p[SIZES]) - 1) * SIZE_WORDS] == 0.0:
        p[SIZES] -= 1.0
    return n


@inner
def _insert(p, x):
    """Take x into the window."""
    size = ahead(p, AW_HEAD)
    at = int(size[0])
    size[1 + 2 * at], size[2 + 2 * at] = x, 0.0
    size[0] += 1.0
    p[SIZES] = max(p[SIZES], 1.0)
    p[WIDTH] += 1.0
    W = p[WIDTH]
    if W > 1.0:
        apart = x - p[TOTAL] / (W - 1.0)
        p[VARIANCE] += (W - 1.0) * apart * apart / W
    p[TOTAL] += x
    for i in range(DEPTH):  # merge two of a size that has too many
        size = ahead(p, AW_HEAD + i * SIZE_WORDS)
        if size[0] <= BUCKETS:
            break
        if i == DEPTH - 1:
            _drop_oldest(p)
            break
        n = 2.0**i
        apart = size[1] / n - size[3] / n
        total, variance = size[1] + size[3], size[2] + size[4] + n * apart * apart / 2.0
        above = ahead(p, AW_HEAD + (i + 1) * SIZE_WORDS)
        at = int(above[0])
        above[1 + 2 * at], above[2 + 2 * at] = total, variance
        above[0] += 1.0
        p[SIZES] = max(p[SIZES], i + 2.0)
        _shorten(size)
        _shorten(size)


@inner
def _cut(p, delta):
    """Whether some cut of the window in two has means too far apart; then its oldest bucket is forgotten."""
    n0, n1 = 0.0, p[WIDTH]
    u0, u1 = 0.0, p[TOTAL]
    spread = p[VARIANCE] / p[WIDTH]
    log = math.log(2.0 * math.log(p[WIDTH]) / delta)
    for i in range(int(p[SIZES]) - 1, -1, -1):
        size = ahead(p, AW_HEAD + i * SIZE_WORDS)
        n = 2.0**i
        for k in range(int(size[0]) - (1 if i == 0 else 0)):
            n0 += n
            n1 -= n
            u0 += size[1 + 2 * k]
            u1 -= size[1 + 2 * k]
            if n0 >= AW_LEAST and n1 >= AW_LEAST:
                m = 1.0 / (n0 - AW_LEAST + 1.0) + 1.0 / (n1 - AW_LEAST + 1.0)
                if abs(u0 / n0 - u1 / n1) > math.sqrt(2.0 * m * spread * log) + 2.0 / 3.0 * log * m:
                    _drop_oldest(p)
                    return True
    return False


@inner
def adwin(p, x, delta):
    """Take x in; whether there is a drift."""
    _insert(p, x)
    p[TICK] += 1.0
    drift = False
    if p[TICK] % AW_CLOCK == 0.0 and p[WIDTH] > AW_GRACE:
        while p[WIDTH] > AW_GRACE and _cut(p, delta):
            drift = True
    if drift:
        for i in range(AW_WORDS):
            p[i] = 0.0
    return drift


@kernel
def drift_block(slots, x, kind, bases, place, drifted):
    """Take in x (n, T), NaN for none; write for each event the first target that has drifted, or -1, (n,)."""
    words = PH_WORDS if kind == PAGE_HINKLEY else AW_WORDS
    for e in range(slots.shape[0]):
        row = doubles_at(row_at(slots[e], bases, place))
        drifted[e] = -1
        for j in range(x.shape[1]):
            if math.isnan(x[e, j]):
                continue
            p = ahead(row, j * words)
            if kind == PAGE_HINKLEY:
                drift = page_hinkley(p, x[e, j], PH_DELTA, PH_LAMBDA)
            else:
                drift = adwin(p, x[e, j], AW_DELTA)
            if drift and drifted[e] < 0:
                drifted[e] = j


DRIFT_BLOCK = void(int64[::1], float64[:, ::1], int64, int64[::1], int64[::1], int64[::1])
