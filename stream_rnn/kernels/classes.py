"""The compiled pass of classifier.py: experts' probabilities and their mixing; all is learnt when a label comes.

Mixing is a Bayesian mixture with fixed shares (Herbster & Warmuth 1998, doi:10.1023/A:1007424614876): with p_a(y) what
expert a gave the class that came, w_a ← (1 - α) w_a p_a(y) / Σ_b w_b p_b(y) + α / K. Its log loss exceeds that of the
best expert by ln(1/π_a) once, and of the best sequence of experts by little a change. How often the best one changes is
not known, so there is a mixture for each of RATES, and a mixture of those by the same rule (Learn-α: Monteleoni &
Jaakkola 2003). π is 10 for the first expert, "as the last label", and 1 for the others.

The logistic experts are softmax regressions learnt by an extended Kalman filter, Newton's method online (Fahrmeir 1992,
doi:10.1080/01621459.1992.10475232): with inputs f, probabilities p and r = 1 - Σ p_c², at a label c
    k = P f / (1/r + f·P f),  w_j ← w_j + k (1[j = c] - p_j) / r,  P ← P - k (P f)ᵀ, forgetting as in gains.py
One P serves all classes; for two classes it is exactly the filter of the logistic regression.

Tables of rows, a row a key (C room for classes, K experts, H hidden units, I inputs):
    mixture  float64: weights of RATES; those of the experts at each rate; counts of classes; how often the label was as
             the last one, of how many; transitions (C, C): from the last label known to the one that came
    told     float64 (kept, C + 2): what was said of the last `kept` events, the label known last then, classes known
    kept     float32 (K C + H + I, kept): what the experts said, hidden state and inputs of those events
`common`: counts of classes, of labels as the last, of labels after one; over all keys.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float32, float64, int64, void
from numpy.typing import NDArray

from stream_rnn.kernels.cache import inner, kernel
from stream_rnn.kernels.gains import add, dot, gain
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import ahead, doubles_at, floats_at

SAME, USUAL, AFTER, LOGISTIC, NETWORK, READOUT, K = range(7)
NAMES = ("as the last label", "how often", "after the last label", "logistic", "network", "read-out")

RATES = (0.00003, 0.001, 0.03)  # how often the best expert changes, an event
RATE_SHARE = 0.001
N_RATES = len(RATES)
PRIOR = 10.0  # of the first expert, as against 1
LEAST = 1e-5  # of an expert's probabilities that is spread over all classes
FEW = 2.0  # labels' worth of what all keys know, for a key that is new
MEMORY, LONG_MEMORY = 500.0, 5000.0  # labels that counts reach back: of transitions; of all others
FORGET = 0.9995  # of the regressions
FIRST_P = 0.1
LEAST_R = 0.02

EXPERTS = N_RATES
COUNTS = EXPERTS + N_RATES * K
TOLD_LAST, TOLD_SEEN = 0, 1  # behind the probabilities


def mixture_words(C: int) -> int:
    """Words of a key's row of the table "mixture"."""
    return COUNTS + C + 2 + C * C


def mixture_template(C: int) -> NDArray[np.float64]:
    """The row at the start."""
    row = np.zeros(mixture_words(C))
    row[:N_RATES] = 1.0 / N_RATES
    prior = np.ones(K)
    prior[SAME] = PRIOR
    row[EXPERTS:COUNTS] = np.tile(prior / prior.sum(), N_RATES)
    return row


@inner
def _softmax(z, n):
    """Turn n numbers into probabilities; a number that is none counts as 0."""
    top = -math.inf
    for c in range(n):
        if math.isnan(z[c]):
            z[c] = 0.0
        top = max(top, z[c])
    total = 0.0
    for c in range(n):
        z[c] = math.exp(z[c] - top)
        total += z[c]
    for c in range(n):
        z[c] /= total


@inner
def _simple(m, common, last, seen, C, p):
    """The three experts that count: probabilities into p[SAME], p[USUAL], p[AFTER], C apart."""
    counts, stays = ahead(m, COUNTS), ahead(m, COUNTS + C)
    moves = ahead(m, COUNTS + C + 2)
    same, usual, after = p, ahead(p, USUAL * C), ahead(p, AFTER * C)
    all_labels, labels = 0.0, 0.0
    for c in range(seen):
        all_labels += common[c] + 0.5
        labels += counts[c]
    for c in range(seen):
        usual[c] = (counts[c] + FEW * (common[c] + 0.5) / all_labels) / (labels + FEW)
    if last < 0 or seen == 1:
        for c in range(seen):
            same[c] = after[c] = usual[c]
        return
    rate = (common[C] + 0.5) / (common[C + 1] + 1.0)
    rate = (stays[0] + FEW * rate) / (stays[1] + FEW)
    for c in range(seen):
        same[c] = rate if c == last else (1.0 - rate) * usual[c] / (1.0 - usual[last])
    row = ahead(moves, last * C)
    total = 0.0
    for c in range(seen):
        total += row[c]
    for c in range(seen):
        after[c] = (row[c] + FEW * same[c]) / (total + FEW)


@inner
def _logits(w, f, F, seen, z):
    """w (C, F) times f for the classes seen."""
    for c in range(seen):
        z[c] = dot(ahead(w, c * F), f, F)


@inner
def _learn_logistic(P, w, f, F, label, seen, z, k, s):
    """One step of the filter; z (C), k and s (F) are scratch, and f is left scaled."""
    _logits(w, f, F, seen, z)
    _softmax(z, seen)
    r = 1.0
    for c in range(seen):
        r -= z[c] * z[c]
    root = math.sqrt(max(r, LEAST_R))
    for a in range(F):
        f[a] *= root
    gain(P, f, F, FORGET, k, s)
    for c in range(seen):
        add(((1.0 if c == label else 0.0) - z[c]) / root, k, ahead(w, c * F), F)


@inner
def _count(counts, n, at, memory):
    """Add one to counts[at], of n that reach back about so many."""
    total = 0.0
    for c in range(n):
        total += counts[c]
    if total >= memory:
        for c in range(n):
            counts[c] *= 1.0 - 1.0 / memory
    counts[at] += 1.0


@inner
def _learn_counts(m, common, last, label, C):
    """Take a label into the counts of its key and of all."""
    _count(ahead(m, COUNTS), C, label, LONG_MEMORY)
    _count(common, C, label, LONG_MEMORY)
    if last < 0:
        return
    stay = 1.0 if label == last else 0.0
    stays, moves, all_stays = ahead(m, COUNTS + C), ahead(m, COUNTS + C + 2), ahead(common, C)
    keep = 1.0 - 1.0 / LONG_MEMORY if stays[1] >= LONG_MEMORY else 1.0
    stays[0], stays[1] = keep * stays[0] + stay, keep * stays[1] + 1.0
    keep = 1.0 - 1.0 / LONG_MEMORY if all_stays[1] >= LONG_MEMORY else 1.0
    all_stays[0], all_stays[1] = keep * all_stays[0] + stay, keep * all_stays[1] + 1.0
    _count(ahead(moves, last * C), C, label, MEMORY)


@inner
def _weigh(m, said, label, C, kept, rates):
    """Give the experts their new weights, from what they said of the class that came."""
    total = 0.0
    for r in range(N_RATES):
        w = ahead(m, EXPERTS + r * K)
        mixed = 0.0
        for a in range(K):
            w[a] *= said[(a * C + label) * kept]
            mixed += w[a]
        for a in range(K):
            w[a] = (1.0 - rates[r]) * w[a] / mixed + rates[r] / K
        m[r] *= mixed
        total += m[r]
    for r in range(N_RATES):
        m[r] = (1.0 - RATE_SHARE) * m[r] / total + RATE_SHARE / N_RATES


@kernel
def mix_classes(
    slots, back, step, X, goal, last, seen, y, hidden, sizes, mixture_bases, mixture_place, told_bases, told_place,
    kept_bases, kept_place, common_, P1, w1, P2, w2, rates, scratch, p, known,
):  # fmt: skip
    """Take n events and labels (n, …) in order: write p (n, C), what was said of each, and known (n,), of how many.

    X (n, I), goal and last are read_events'; seen (n,): classes that are known; y (n, C) and hidden (n, H) the
    network's. sizes: C, H, kept. w1 (C, 1 + I) and w2 (C, 1 + H + I): the regressions'. scratch (3 (1 + H + I)
    + (1 + K) C).
    """
    C, H, kept = sizes
    I = X.shape[1]
    F1, F2 = 1 + I, 1 + H + I
    common = doubles_at(common_.ctypes.data)
    P1_, w1_, P2_, w2_ = (doubles_at(P1.ctypes.data), doubles_at(w1.ctypes.data), doubles_at(P2.ctypes.data),
                          doubles_at(w2.ctypes.data))  # fmt: skip
    f = doubles_at(scratch.ctypes.data)
    k, s = ahead(f, F2), ahead(f, 2 * F2)
    z = ahead(f, 3 * F2)
    says = ahead(z, C)
    for e in range(slots.shape[0]):
        known[e] = 0
        if back[e] < -1:
            continue
        m = doubles_at(row_at(slots[e], mixture_bases, mixture_place))
        at = (step[e] - 1) % kept
        told = ahead(doubles_at(row_at(slots[e], told_bases, told_place)), at * (C + 2))
        ring = ahead(floats_at(row_at(slots[e], kept_bases, kept_place)), at)
        at_hidden, at_inputs = K * C * kept, (K * C + H) * kept
        if back[e] == -1:
            n = seen[e]
            code = -1 if math.isnan(last[e]) else int(last[e])
            told[C + TOLD_LAST], told[C + TOLD_SEEN] = code, n
            for a in range(H):
                ring[at_hidden + a * kept] = 0.0 if math.isnan(hidden[e, a]) else hidden[e, a]
            for a in range(I):
                ring[at_inputs + a * kept] = X[e, a]
            if n > 0:
                _simple(m, common, code, n, C, says)
                f[0] = 1.0
                for a in range(I):
                    f[1 + a] = X[e, a]
                _logits(w1_, f, F1, n, ahead(says, LOGISTIC * C))
                for a in range(H):
                    f[1 + a] = ring[at_hidden + a * kept]
                for a in range(I):
                    f[1 + H + a] = X[e, a]
                _logits(w2_, f, F2, n, ahead(says, READOUT * C))
                for c in range(n):
                    says[NETWORK * C + c] = y[e, c]
                for a in range(LOGISTIC, K):
                    _softmax(ahead(says, a * C), n)
            for c in range(C):
                told[c] = 0.0
            for a in range(K):
                share = 0.0
                for r in range(N_RATES):
                    share += m[r] * m[EXPERTS + r * K + a]
                for c in range(C):
                    q = (1.0 - LEAST) * says[a * C + c] + LEAST / n if c < n else 0.0
                    ring[(a * C + c) * kept] = q
                    told[c] += share * q
        known[e] = int(told[C + TOLD_SEEN])
        total = 0.0
        for c in range(known[e]):
            total += told[c]
        for c in range(C):
            p[e, c] = told[c] / total if c < known[e] else 0.0
        if math.isnan(goal[e]):
            continue
        label = int(goal[e])
        if label < known[e]:
            _weigh(m, ring, label, C, kept, rates)
        _learn_counts(m, common, int(told[C + TOLD_LAST]), label, C)
        n = max(seen[e], label + 1)
        f[0] = 1.0
        for a in range(I):
            f[1 + a] = ring[at_inputs + a * kept]
        _learn_logistic(P1_, w1_, f, F1, label, n, z, k, s)
        f[0] = 1.0
        for a in range(H + I):
            f[1 + a] = ring[at_hidden + a * kept]
        _learn_logistic(P2_, w2_, f, F2, label, n, z, k, s)


_I, _F, _FF, _ff = int64[::1], float64[::1], float64[:, ::1], float32[:, ::1]
MIX_CLASSES = void(_I, _I, _I, _ff, float32[::1], _F, _I, _ff, _ff, _I, _I, _I, _I, _I, _I, _I, _F, _F, _FF, _F, _FF,
                   _F, _F, _FF, _I)  # fmt: skip
