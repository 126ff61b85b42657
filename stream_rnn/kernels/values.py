"""The compiled pass of regressor.py: experts' values and their mixing; all is learnt when a label comes.

Experts say z = (value - M) / S, within ±REACH, with the mean M and deviation S of the key's labels when the event came.
They are mixed by Bernstein online aggregation (mixing.py), and intervals tracked as in intervals.py, on the unit S.
Regressions are recursive least squares, as in gains.py, with gain and weights at the label. The line works on features
and labels in their key's first scales, which never move: so it finds an exact line exactly. It forgets nothing while
the trace of its P is above twice its start.

Tables of rows, a row a key (I inputs, H hidden units, U units of features, K experts):
    mixture  float64: a mixture; A and the count of intervals' errors; LEVELS times (level, q, B)
    told     float64 (kept, K + 4 + LEVELS): what the experts said, their mixture, the value told, the scale of the
             intervals and half their widths
    kept     float32 (H + I, kept): hidden state and inputs of those events
    line     float64: see LINE_HEAD, then for each unit its weight and its row of P's lower triangle
    lines    float32 (U, kept): the line's inputs
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.gains import add, dot, gain
from stream_rnn.kernels.intervals import FLOOR, LEVELS, take_error
from stream_rnn.kernels.labels import CLOCK_INPUTS
from stream_rnn.kernels.mixing import judge, mixture_words, weights
from stream_rnn.kernels.rows import row_at, within
from stream_rnn.kernels.series import REACH
from stream_rnn.kernels.vec import ahead, doubles_at, floats_at

AVERAGE, RECENTLY, LAST, LINE, REGRESSION, NETWORK, READOUT, K = range(8)
NAMES = ("mean", "recent mean", "last label", "line", "regression", "network", "read-out")

AT_ERRORS = mixture_words(K)
AT_TRACKS = AT_ERRORS + 2
MIXTURE_WORDS = AT_TRACKS + 3 * LEVELS
MIXED, VALUE, SCALE, UNIT, HALF = range(K, K + 5)
TOLD_WORDS = HALF + LEVELS

LINE_HEAD = 2  # weight and variance of the constant
LINE_START = 10.0  # of P
LINE_FORGET, FORGET = 0.9995, 0.9995
LINE_TIGHT = 6.0  # the largest error that the line learns from, in S


def line_words(units: int) -> int:
    """Words of a key's row of the table "line"."""
    return LINE_HEAD + units * (units + 1) // 2 + 2 * units


@inner
def _weight_at(u):
    """Where the weight of unit u is; behind it its row of P: with the constant, units 0 … u."""
    return LINE_HEAD + u * (u + 1) // 2 + 2 * u


@inner
def _says(row, x, U):
    """w·(1, x)."""
    total = row[0]
    for u in range(U):
        total += row[_weight_at(u)] * x[u]
    return total


@inner
def _learn_line(row, x, U, goal, tight, k):
    """Take in one label; k (1 + U) is scratch."""
    error = within(goal - _says(row, x, U), tight)
    if row[1] == 0.0:
        row[1] = LINE_START
    for u in range(U):  # a unit that is new
        at = _weight_at(u) + 2 + u
        if row[at] == 0.0:
            row[at] = LINE_START
    k[0] = row[1]
    trace = row[1]
    for u in range(U):  # k = P (1, x), each stored number used for both triangles
        P = ahead(row, _weight_at(u) + 1)
        s = P[0]
        k[0] += P[0] * x[u]
        for v in range(u):
            s += P[1 + v] * x[v]
            k[1 + v] += P[1 + v] * x[u]
        k[1 + u] = s + P[1 + u] * x[u]
        trace += P[1 + u]
    below = LINE_FORGET + k[0]
    for u in range(U):
        below += k[1 + u] * x[u]
    grow = 1.0 if trace > 2.0 * LINE_START * (1 + U) else 1.0 / math.sqrt(LINE_FORGET)
    row[0] += k[0] / below * error
    row[1] = (row[1] - k[0] / below * k[0]) * grow * grow
    for u in range(U):
        at = _weight_at(u)
        g, grow_u = k[1 + u] / below, grow if x[u] != 0.0 else 1.0
        row[at] += g * error
        P = ahead(row, at + 1)
        P[0] = (P[0] - g * k[0]) * grow_u * grow
        for v in range(u + 1):
            P[1 + v] = (P[1 + v] - g * k[1 + v]) * grow_u * (grow if x[v] != 0.0 else 1.0)


@kernel
def mix_values(
    slots, back, step, X, line, goal, labels, last, norm, y, hidden, sizes, mixture_bases, mixture_place,
    told_bases, told_place, kept_bases, kept_place, line_bases, line_place, lines_bases, lines_place, P1, w1, P2, w2,
    tight, levels, starts, left_out, scratch, predicted, half,
):  # fmt: skip
    """Take n events and labels (n, …) in order: write predicted (n,), what was said of each, and half (n, levels), half
    the widths of its intervals; NaN: nothing.

    X, line, goal, last and norm are read_events'; labels (n,) the labels; y (n, 1) and hidden (n, H)
    the network's. sizes: H, kept, loss. w1 (1 + I,) and w2 (1 + H + I,): the regressions'. tight: the largest
    error, in S, that they learn from. left_out (K,): not 0 for experts that have no share.
    scratch (3 (1 + H + I) + 2 K + 2 (1 + U)).
    """
    H, kept, loss = sizes
    I, U = X.shape[1], line.shape[1]
    F1, F2 = 1 + I, 1 + H + I
    P1_, w1_, P2_, w2_ = (doubles_at(P1.ctypes.data), doubles_at(w1.ctypes.data), doubles_at(P2.ctypes.data),
                          doubles_at(w2.ctypes.data))  # fmt: skip
    f = doubles_at(scratch.ctypes.data)
    k, s = ahead(f, F2), ahead(f, 2 * F2)
    share = ahead(f, 3 * F2)
    x, g = ahead(share, K), ahead(share, K + 1 + U)
    for e in range(slots.shape[0]):
        predicted[e] = math.nan
        for c in range(levels.shape[0]):
            half[e, c] = math.nan
        if back[e] < -1:
            continue
        m = doubles_at(row_at(slots[e], mixture_bases, mixture_place))
        at = (step[e] - 1) % kept
        told = ahead(doubles_at(row_at(slots[e], told_bases, told_place)), at * TOLD_WORDS)
        ring = ahead(floats_at(row_at(slots[e], kept_bases, kept_place)), at)
        lines = ahead(floats_at(row_at(slots[e], lines_bases, lines_place)), at)
        w = doubles_at(row_at(slots[e], line_bases, line_place))
        errors, tracks = ahead(m, AT_ERRORS), ahead(m, AT_TRACKS)
        M, S, first_mean, first_scale = norm[e, 0], norm[e, 1], norm[e, 2], norm[e, 3]
        for c in range(levels.shape[0]):  # a level that is new begins afresh
            if tracks[3 * c] != levels[c]:
                tracks[3 * c], tracks[3 * c + 1], tracks[3 * c + 2] = levels[c], starts[c], 1.0
        if back[e] == -1:
            for a in range(H):
                ring[a * kept] = 0.0 if math.isnan(hidden[e, a]) else hidden[e, a]
            for a in range(I):
                ring[(H + a) * kept] = X[e, a]
            for u in range(U):
                lines[u * kept] = line[e, u]
            told[VALUE], told[UNIT], told[SCALE] = M, S, 0.0
            if S > 0.0:
                f[0] = 1.0
                for a in range(I):
                    f[1 + a] = X[e, a]
                told[AVERAGE] = 0.0
                told[RECENTLY] = X[e, CLOCK_INPUTS + 1]
                told[LAST] = within((last[e] - M) / S, REACH)
                told[REGRESSION] = within(dot(w1_, f, F1), REACH)
                for a in range(H):
                    f[1 + a] = ring[a * kept]
                for a in range(I):
                    f[1 + H + a] = X[e, a]
                told[READOUT] = within(dot(w2_, f, F2), REACH)
                said = np.float64(y[e, 0])
                told[NETWORK] = 0.0 if math.isnan(said) else within(said, REACH)
                told[LINE] = 0.0
                if first_scale > 0.0:
                    for u in range(U):
                        x[u] = line[e, u]
                    told[LINE] = within((first_mean + first_scale * _says(w, x, U) - M) / S, REACH)
                weights(m, K, left_out, share)
                mixed = 0.0
                for a in range(K):
                    mixed += share[a] * told[a]
                told[MIXED], told[VALUE] = mixed, M + S * mixed
                told[SCALE] = (errors[0] if errors[1] > 0.0 else S) + FLOOR * S
            widest = 0.0
            for c in range(levels.shape[0]):
                widest = max(widest, tracks[3 * c + 1] * told[SCALE])
                told[HALF + c] = widest if S > 0.0 else math.nan
        predicted[e] = told[VALUE]
        for c in range(levels.shape[0]):
            half[e, c] = told[HALF + c]
        if math.isnan(labels[e]):
            continue
        if told[SCALE] > 0.0 and not math.isnan(goal[e]):
            take_error(errors, tracks, abs(labels[e] - told[VALUE]), told[SCALE], told[UNIT], levels)
            judge(m, told, told[MIXED], np.float64(goal[e]), K, loss)
        if first_scale > 0.0:
            for u in range(U):
                x[u] = lines[u * kept]
            unit = told[UNIT] if told[UNIT] > 0.0 else first_scale
            _learn_line(w, x, U, (labels[e] - first_mean) / first_scale, LINE_TIGHT * unit / first_scale, g)
        if math.isnan(goal[e]):
            continue
        f[0] = 1.0
        for a in range(I):
            f[1 + a] = ring[(H + a) * kept]
        error = within(np.float64(goal[e]) - dot(w1_, f, F1), tight)
        gain(P1_, f, F1, FORGET, k, s)
        add(error, k, w1_, F1)
        f[0] = 1.0
        for a in range(H + I):
            f[1 + a] = ring[a * kept]
        error = within(np.float64(goal[e]) - dot(w2_, f, F2), tight)
        gain(P2_, f, F2, FORGET, k, s)
        add(error, k, w2_, F2)


_I, _F, _FF, _f, _ff = int64[::1], float64[::1], float64[:, ::1], float32[::1], float32[:, ::1]
MIX_VALUES = void(_I, _I, _I, _ff, _ff, _f, _F, _F, _FF, _ff, _ff, _I, _I, _I, _I, _I, _I, _I, _I, _I, _I, _I, _F,
                  _F, _F, _F, float64, _F, _F, _I, _F, _F, _FF)  # fmt: skip
