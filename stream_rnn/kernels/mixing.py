"""Mixing forecasts online: Bernstein online aggregation, BOA (Wintenberger 2017, doi:10.1007/s10994-016-5592-6; the
second-order rates are those of Gaillard, Stoltz & van Erven 2014, arXiv:1402.2044).

Its regret to the best fixed mixture of the experts after t steps is O(√(V log K)), V the sum of the squares of the
regrets themselves, whatever the data. With z_a the K experts' forecasts, ŷ = Σ w_a z_a and ℓ' the slope of a loss:
    r_a = ℓ'(ŷ - y) (ŷ - z_a),  V_a ← μ V_a + r_a²,  B_a ← max(B_a, |r_a|)
    η_a = min(1 / 2B_a, √(log(K + 1) / V_a)),  R_a ← μ R_a + r_a - η_a r_a²,  w_a ∝ π_a η_a exp(η_a R_a)
π, the weights at the start, is 3 for the first expert and 1 for the others: the last value is right until another is
known to be better (50 random walks of 100 values: error 1.031 of the last value's without it among the experts, 1.019
with π = 1, 1.011 with π = 3). μ = 0.999 forgets, so that weights follow a stream that changes. The loss: Huber's with
its corner at half a recent error (HUBER), absolute (MAE) or squared (MSE). Huber's keeps quiet series with rare spikes
from being ruined by the spikes and costs little elsewhere.

Words a mixture: recent error, count, then V, B and R (K each); float64.
"""

from __future__ import annotations

import math

from stream_rnn.kernels.cache import inner

HUBER, MAE, MSE = range(3)
CORNER = 0.5  # of Huber's loss, in recent errors
FORGET = 0.999
PRIOR = math.log(3.0)  # of the first expert
ERROR_RATE = 0.02  # of the recent error
LEAST_ERROR = 1e-3
ERROR, COUNT, V = range(3)


def mixture_words(K: int) -> int:
    """How many words one mixture of K experts takes; all 0 at the start."""
    return V + 3 * K


@inner
def _rate(v, b, K):
    return min(math.sqrt(math.log(K + 1.0) / (v + 1e-12)), 1.0 / (2.0 * b + 1e-12))


@inner
def weights(m, K, left_out, w):
    """Write w (K,), of sum 1; an expert that is left out (not 0) has none."""
    top = -math.inf
    for a in range(K):
        eta = _rate(m[V + a], m[V + K + a], K)
        w[a] = math.log(eta) + eta * m[V + 2 * K + a] + (PRIOR if a == 0 else 0.0)
        if left_out[a] == 0:
            top = max(top, w[a])
    total = 0.0
    for a in range(K):
        w[a] = math.exp(w[a] - top) if left_out[a] == 0 else 0.0
        total += w[a]
    for a in range(K):
        w[a] /= total


@inner
def judge(m, z, mixed, y, K, loss):
    """Take in y: z (K,) are the forecasts that were made of it and `mixed` their mixture."""
    error = mixed - y
    if loss == HUBER:
        corner = CORNER * (m[ERROR] if m[COUNT] > 0.0 else 1.0)
        slope = min(max(error / corner, -1.0), 1.0)
    elif loss == MAE:
        slope = 1.0 if error > 0.0 else -1.0 if error < 0.0 else 0.0
    else:
        slope = 2.0 * error
    m[COUNT] += 1.0
    m[ERROR] = max(m[ERROR] + max(1.0 / m[COUNT], ERROR_RATE) * (abs(error) - m[ERROR]), LEAST_ERROR)
    for a in range(K):
        r = slope * (mixed - z[a])
        m[V + a] = FORGET * m[V + a] + r * r
        m[V + K + a] = max(m[V + K + a], abs(r))
        eta = _rate(m[V + a], m[V + K + a], K)
        m[V + 2 * K + a] = FORGET * m[V + 2 * K + a] + r - eta * r * r
