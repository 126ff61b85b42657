"""The compiled pass of experts.py, which says what the experts are: linear forecasts, the read-out of a network's
hidden state, and their mixing. Forecasts are z = (forecast - L) / (D √i), for i steps ahead, within ±REACH.

Tables of rows, a row a key (T targets, n the horizon, F inputs of the long regression, K experts):
    experts   float64, a part a target: the last LAGS values; P and weights (n each) of the short and of the long
              regression; for each of the last n steps what was known then (L, D, inputs and gains, usual changes); a
              mixture a step ahead
    said      float32 (T, n steps made, n ahead, K + 1): what the experts said, and their mixture
    readout   float64, (inputs, 2, n): inputs and gains of the last n steps, one input's after the other's, so that
              room for more inputs is zeros at the end
The read-out's P and weights are one for all keys. Letters: e event, j target, i step ahead from 0, a expert or input.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void
from numpy.typing import NDArray

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.gains import add, dot, gain, identity, triangle
from stream_rnn.kernels.mixing import judge, mixture_words, weights
from stream_rnn.kernels.rows import row_at, within
from stream_rnn.kernels.series import LIMIT, REACH, SHARE, TIME_INPUTS
from stream_rnn.kernels.vec import ahead, doubles_at, floats_at
from stream_rnn.kernels.weeks import INPUTS as WEEK_INPUTS

LAST, STEP, LEVEL, SHORT, LONG, NET, READOUT, K = range(8)
NAMES = ("last value", "usual step", "usual level", "short regression", "long regression", "network", "read-out")

LAGS = 16  # values; their 15 steps are inputs
SHORT_INPUTS = 5  # 1, level, the newest 3 steps
SHORT_FORGET, LONG_FORGET, READOUT_FORGET = 0.99, 0.999, 0.9995
CLOCK_INPUTS = TIME_INPUTS - 1  # sines and cosines
P_SHORT = LAGS  # where it lies in a target's part
MIXTURE = mixture_words(K)

# Places in the words of a step made.
F_SHORT = 2
K_SHORT = F_SHORT + SHORT_INPUTS
F_LONG = K_SHORT + SHORT_INPUTS


SIZES = ("T", "n", "F", "R", "H", "loss", "w_short", "P_long", "w_long", "made", "made_words", "mixtures", "part")


def layout(T: int, n: int, R: int, H: int, loss: int) -> dict[str, int]:
    """SIZES: T targets, n steps ahead, F inputs of the long regression and R of the read-out, H hidden units, the loss
    of mixing; then offsets in a target's part, words of a step made, words of the part."""
    F = 2 + LAGS - 1 + 2 * (T - 1) + CLOCK_INPUTS + WEEK_INPUTS
    step = 2 + 2 * SHORT_INPUTS + 2 * F + n  # L, D, inputs and gains of both regressions, usual changes
    w_short = P_SHORT + triangle(SHORT_INPUTS)
    P_long = w_short + n * SHORT_INPUTS
    w_long = P_long + triangle(F)
    made = w_long + n * F
    mixtures = made + n * step
    part = mixtures + n * MIXTURE
    return dict(zip(SIZES, (T, n, F, R, H, loss, w_short, P_long, w_long, made, step, mixtures, part), strict=True))


def template(sizes: dict[str, int]) -> NDArray[np.float64]:
    """A target's part at the start."""
    part = np.zeros(sizes["part"])
    part[:LAGS] = np.nan
    part[P_SHORT : sizes["w_short"]] = identity(SHORT_INPUTS)
    part[sizes["P_long"] : sizes["w_long"]] = identity(sizes["F"])
    return part


@inner
def _or_0(x):
    return 0.0 if math.isnan(x) else x


@inner
def _inputs(f, x, W, p, j, T, D):
    """Write the long regression's inputs at a step of target j; the first of them are the short one's.

    x and W are the event's inputs, p[0 … LAGS - 1] the newest values.
    """
    f[0] = 1.0
    f[1] = x[3 * j]
    at = 2
    for l in range(LAGS - 1):
        step = p[l] - p[l + 1]
        f[at] = 0.0 if math.isnan(step) else within(step / D, LIMIT)
        at += 1
    for m in range(T):
        if m != j:
            f[at], f[at + 1] = x[3 * m], x[3 * m + 1]
            at += 2
    for a in range(CLOCK_INPUTS):
        f[at] = x[3 * T + 1 + a]
        at += 1
    for a in range(WEEK_INPUTS):
        f[at] = W[WEEK_INPUTS * j + a]
        at += 1


@kernel
def mix_block(
    slots, values, X, labels, base, scale, step, usual, y, hidden, sizes, expert_bases, expert_place, said_bases,
    said_place, readout_bases, readout_place, P_, w, scratch, tight, left_out, forecast, shares,
):  # fmt: skip
    """Take n events through (n, …): learn from their values, forecast (n, outputs), tell the experts' shares.

    X (n, week's inputs, then the features'), labels, base, scale and step are Features.read's, usual is of weeks.py,
    y (n, outputs) and hidden (n, H) the network's; sizes as `layout` has them. P_ and w (outputs, R): the read-out's.
    scratch (3 R + 2 K + outputs); R is more than F. tight: the largest error, in D, that a regression learns from.
    left_out (K,): not 0 for experts that have no share. shares (n, outputs, K), or of no events: not asked.
    """
    T, n, F, R, H, loss, at_w_short, at_P_long, at_w_long, at_made, made, at_mixtures, part = sizes
    k_long = F_LONG + F
    q = k_long + F
    P = doubles_at(P_.ctypes.data)
    f = doubles_at(scratch.ctypes.data)
    k, s, z = ahead(f, R), ahead(f, 2 * R), ahead(f, 3 * R)
    share, of_readout = ahead(z, K), ahead(z, 2 * K)
    weeks = WEEK_INPUTS * T
    reduced = 1.0 if n == 1 else SHARE
    for e in range(slots.shape[0]):
        row = doubles_at(row_at(slots[e], expert_bases, expert_place))
        told = floats_at(row_at(slots[e], said_bases, said_place))
        ring = doubles_at(row_at(slots[e], readout_bases, readout_place))
        W, x = X[e, :weeks], X[e, weeks:]
        done = step[e] - 1
        here = done % n
        moving = False

        # What the values say of earlier forecasts.
        for j in range(T):
            p = ahead(row, j * part)
            actual = values[e, j]
            for i in range(min(n, done)):
                back = (done - 1 - i) % n
                o = j * n + i
                if not math.isnan(labels[e, o]):  # the read-out learns what the network learns
                    error = np.float64(labels[e, o])
                    for a in range(R):
                        error -= w[o, a] * ring[2 * n * a + back]
                    error = within(error, tight)
                    for a in range(R):
                        w[o, a] += ring[2 * n * a + n + back] * error
                m = ahead(p, at_made + back * made)
                unit = m[1] * math.sqrt(i + 1.0)
                if math.isnan(actual) or not unit > 0.0:
                    continue
                goal = within((actual - m[0]) / unit, REACH)
                v = ahead(p, at_w_short + i * SHORT_INPUTS)
                add(goal - dot(v, ahead(m, F_SHORT), SHORT_INPUTS), ahead(m, K_SHORT), v, SHORT_INPUTS)
                v = ahead(p, at_w_long + i * F)
                add(within(goal - m[q + i] - dot(v, ahead(m, F_LONG), F), tight), ahead(m, k_long), v, F)
                said = ahead(told, ((j * n + back) * n + i) * (K + 1))
                for a in range(K):
                    z[a] = said[a]
                judge(ahead(p, at_mixtures + i * MIXTURE), z, np.float64(said[K]), goal, K, loss)
            if not math.isnan(actual):
                for l in range(LAGS - 1, 0, -1):
                    p[l] = p[l - 1]
                p[0] = actual

            # What is known at the step to be made.
            D = scale[e, j * n] / reduced
            m = ahead(p, at_made + here * made)
            m[0], m[1] = p[0], D
            if not D > 0.0:
                continue
            moving = True
            _inputs(ahead(m, F_LONG), x, W, p, j, T, D)
            for a in range(SHORT_INPUTS):
                m[F_SHORT + a] = m[F_LONG + a]
            gain(ahead(p, P_SHORT), ahead(m, F_SHORT), SHORT_INPUTS, SHORT_FORGET, ahead(m, K_SHORT), s)
            gain(ahead(p, at_P_long), ahead(m, F_LONG), F, LONG_FORGET, ahead(m, k_long), s)
            m[q] = 0.0
            for i in range(1, n):
                change = (usual[e, j, i + 1] - usual[e, j, 1]) / (D * math.sqrt(i + 1.0))
                m[q + i] = within(_or_0(change), REACH)

        # The read-out's.
        for a in range(R):
            f[a] = k[a] = 0.0
        if moving:
            f[0] = 1.0
            for a in range(H):
                f[1 + a] = _or_0(hidden[e, a])
            for a in range(R - 1 - H):
                f[1 + H + a] = X[e, a]
            gain(P, f, R, READOUT_FORGET, k, s)
        for a in range(R):
            ring[2 * n * a + here] = f[a]
            ring[2 * n * a + n + here] = k[a]
        for o in range(T * n):
            total = 0.0
            for a in range(R):
                total += w[o, a] * f[a]
            of_readout[o] = within(total, REACH)

        # Forecasts.
        for j in range(T):
            p = ahead(row, j * part)
            m = ahead(p, at_made + here * made)
            L, D = m[0], m[1]
            for i in range(n):
                o = j * n + i
                unit = D * math.sqrt(i + 1.0)
                if not unit > 0.0:
                    forecast[e, o] = L
                    if shares.shape[0] > 0:
                        for a in range(K):
                            shares[e, o, a] = 1.0 if a == LAST else 0.0
                    continue
                z[LAST] = 0.0
                if i == 0:
                    z[STEP], z[LEVEL] = x[3 * T + TIME_INPUTS + 3 * j], x[3 * T + TIME_INPUTS + 3 * j + 1]
                else:
                    z[STEP] = within(_or_0((usual[e, j, i + 1] - usual[e, j, 0]) / unit), REACH)
                    z[LEVEL] = within(_or_0((usual[e, j, i + 1] - L) / unit), REACH)
                z[SHORT] = within(dot(ahead(p, at_w_short + i * SHORT_INPUTS), ahead(m, F_SHORT), SHORT_INPUTS), REACH)
                z[LONG] = within(m[q + i] + dot(ahead(p, at_w_long + i * F), ahead(m, F_LONG), F), REACH)
                from_base, per_y = (base[e, o] - L) / unit, scale[e, o] / unit
                z[NET] = within(from_base + per_y * within(_or_0(np.float64(y[e, o])), REACH), REACH)
                z[READOUT] = within(from_base + per_y * of_readout[o], REACH)
                weights(ahead(p, at_mixtures + i * MIXTURE), K, left_out, share)
                mixed = 0.0
                said = ahead(told, ((j * n + here) * n + i) * (K + 1))
                for a in range(K):
                    said[a] = z[a]
                    mixed += share[a] * z[a]
                said[K] = mixed
                forecast[e, o] = L + unit * mixed
                if shares.shape[0] > 0:
                    for a in range(K):
                        shares[e, o, a] = share[a]


_I, _F, _FF, _FFF, _f = int64[::1], float64[::1], float64[:, ::1], float64[:, :, ::1], float32[:, ::1]
MIX_BLOCK = void(_I, _FF, _f, _f, _FF, _FF, _I, _FFF, _f, _f, _I, _I, _I, _I, _I, _I, _I, _F, _FF, _F, float64, _I,
                 _FF, _FFF)  # fmt: skip
