"""Recursive least squares in two halves, for labels that come later: the gain k when inputs f are seen, the weights
when the labels are there. The maths is that of rls.py, where both come at once; since k depends on the inputs alone,
any number of outputs (targets, steps ahead) share one P.

    at the inputs:  k = P f / (λ + f·P f),  P ← s (P - k (P f)ᵀ) s,  P = I at the start
    at a label:     w ← w + k (y - w·f)

with s_a = 1/√λ where f_a is not 0, else 1: what is not excited is not forgotten. No forgetting while the trace of P is
above twice its start. P's upper triangle lies by rows (F (F + 1) / 2 words of float64).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.vec import ahead


def triangle(F: int) -> int:
    """Words of the upper triangle of P."""
    return F * (F + 1) // 2


def identity(F: int) -> NDArray[np.float64]:
    """P at the start."""
    words = np.zeros(triangle(F))
    words[np.cumsum([0, *range(F, 1, -1)])] = 1.0
    return words


@inner
def dot(x, y, n):
    """x·y over n numbers, in eight partial sums."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    b = 0
    while b + 8 <= n:
        s0 += x[b] * y[b]
        s1 += x[b + 1] * y[b + 1]
        s2 += x[b + 2] * y[b + 2]
        s3 += x[b + 3] * y[b + 3]
        s4 += x[b + 4] * y[b + 4]
        s5 += x[b + 5] * y[b + 5]
        s6 += x[b + 6] * y[b + 6]
        s7 += x[b + 7] * y[b + 7]
        b += 8
    while b < n:
        s0 += x[b] * y[b]
        b += 1
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@inner
def add(a, x, y, n):
    """y ← y + a x."""
    for b in range(n):
        y[b] += a * x[b]


@inner
def gain(P, f, F, forget, k, s):
    """Write the gain k (F,) of inputs f (F,) and move P; s (F,) is scratch. All are pointers."""
    for a in range(F):
        k[a] = 0.0
    row, trace = P, 0.0
    for a in range(F):  # k = P f, each stored number used for both triangles
        n = F - a
        trace += row[0]
        k[a] += dot(row, ahead(f, a), n)
        add(f[a], ahead(row, 1), ahead(k, a + 1), n - 1)
        row = ahead(row, n)
    below = forget
    for a in range(F):
        below += k[a] * f[a]
    grow = 1.0 if trace > 2.0 * F else 1.0 / math.sqrt(forget)
    for a in range(F):
        s[a] = grow if f[a] != 0.0 else 1.0
    row = P
    for a in range(F):
        k_a, s_a, k_row, s_row = k[a] / below, s[a], ahead(k, a), ahead(s, a)
        for b in range(F - a):
            row[b] = (row[b] - k_a * k_row[b]) * (s_a * s_row[b])
        row = ahead(row, F - a)
    for a in range(F):
        k[a] /= below
