"""Recursive least squares with forgetting (Haykin, Adaptive Filter Theory, chapter 10), on raw float64 words.

It predicts y from f (F,) as w·f and, told y, does
    g = P f,  k = g / (λ + f·g),  w ← w + k (y - w·f),  P ← (P - k gᵀ) / λ
P begins as the identity, which is a ridge towards w = 0. What is not excited must not be forgotten, or P grows
without end: only inputs that are not 0 are (P ← s P s with s_a = 1/√λ for those and 1 for the others, which keeps P
positive), and none while the trace of P is above twice its start.

Words: w (F), then the upper triangle of P by rows (F (F + 1) / 2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels.cache import kernel


def rls_words(F: int) -> int:
    """How many words one regression of F inputs takes."""
    return F + F * (F + 1) // 2


def rls_template(F: int) -> NDArray[np.float64]:
    """Its words at the start."""
    words = np.zeros(rls_words(F))
    words[F + np.cumsum([0, *range(F, 1, -1)])] = 1.0
    return words


@kernel
def rls_predict(p, at, f, F):
    """w·f; the words begin at p[at], f is an array of at least F."""
    y = 0.0
    for a in range(F):
        y += p[at + a] * f[a]
    return y


@kernel
def rls_learn(p, at, f, F, error, forget, g):
    """Take in error = y - w·f; g (F,) is scratch."""
    for a in range(F):
        g[a] = 0.0
    i = at + F
    trace = 0.0
    for a in range(F):  # g = P f, each stored number used for both triangles
        trace += p[i]
        s = p[i] * f[a]
        i += 1
        for b in range(a + 1, F):
            s += p[i] * f[b]
            g[b] += p[i] * f[a]
            i += 1
        g[a] += s
    below = forget
    for a in range(F):
        below += g[a] * f[a]
    grow = 1.0 if trace > 2.0 * F else 1.0 / math.sqrt(forget)
    i = at + F
    for a in range(F):
        k = g[a] / below
        p[at + a] += k * error
        grow_a = grow if f[a] != 0.0 else 1.0
        for b in range(a, F):
            p[i] = (p[i] - k * g[b]) * grow_a * (grow if f[b] != 0.0 else 1.0)
            i += 1
