"""TBPTT(k1, k2): one compiled loop a cell over a block of events (Williams & Peng 1990, BPTT(h; h');
Sutskever 2013, section 2.8.6). layout.py says where everything lies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from stream_rnn.kernels.cache import compiled, inner, kernel
from stream_rnn.kernels.cells import (
    ELMAN,
    GRU,
    LSTM,
    cell_backward,
    cell_bias,
    cell_forward,
    cell_recurrent_gradient,
    gates,
    states,
)
from stream_rnn.kernels.head import CROSS_ENTROPY, QUANTILE, cross_entropy_gradient, head_forward, loss_gradient
from stream_rnn.kernels.layout import *
from stream_rnn.kernels.optim import ADAMW, SGD, adam, clip_scale, sgd, squared_norm
from stream_rnn.kernels.tiles import add_row, add_to, affine, copy, fill, product, transpose
from stream_rnn.kernels.vec import ahead, as_ints, doubles_at, floats_at, ints_at, vload, vset, vstore, vsum

_HUGE = 1e15  # inputs below this can't overflow a forward pass with sane weights
_NAN = np.float32(np.nan)


@inner
def _row(c, slot):
    """The row of a slot; any readable memory where there is none."""
    if slot < 0:
        return floats_at(c[C_GR])
    return floats_at(ints_at(c[C_BASES])[slot >> c[C_SHIFT]] + (slot & c[C_MASK]) * c[C_STRIDE])


@inner
def _judge_label(c, y):
    """0: nothing there; 1: usable; -1: to be refused."""
    some = 0
    for j in range(c[C_LABELS]):
        v = y[j]
        if math.isnan(v):
            continue
        if math.isinf(v) or (c[C_LOSS] == CROSS_ENTROPY and not (v >= 0 and v < c[C_O] and v == math.floor(v))):
            return -1
        some = 1
    return some


@inner
def _give_labels(c, row, y, weight, lags):
    """Put each label entry to the step lags[j] back; how many came too late to be learnt from."""
    counters = ints_at(c[C_COUNTERS])
    head = as_ints(row)
    t, k1, window = head[STEPS], c[C_K1], c[C_WINDOW]
    next_update = t if head[DUE] != 0 else (t // k1 + 1) * k1
    late = 0
    for j in range(c[C_LABELS]):
        if math.isnan(y[j]):
            continue
        step = t - 1 - lags[j]
        if step < 0 or step < next_update - window:
            late += 1
            continue
        slot = step % window
        at = slot * c[C_LABELS] + j
        if math.isnan(row[c[R_Y] + at]):
            head[PENDING] += 1
        row[c[R_Y] + at] = y[j]
        row[c[R_WEIGHT] + at] = weight
        counters[N_LABELS] += 1
    counters[N_EXPIRED] += late
    return late


@inner
def _all_finite(A, n):
    """Whether the n numbers (whole vectors) are finite."""
    zero = vset(np.float32(0))
    acc = zero
    for j in range(0, n, 16):
        acc = acc + vload(A, j) * zero
    return vsum(acc) == 0


@inner
def window_forward(cell, c, K, turn):
    """K steps from state S[0], over inputs X[K] or class ids IDS[K]. turn: see gru_forward."""
    H, la = c[C_H], c[C_LA]
    G = gates(cell) * H
    W, X, ACT, bias = floats_at(c[C_W]), floats_at(c[C_X]), floats_at(c[C_ACT]), floats_at(c[C_BIAS])
    if c[C_CLASSES] != 0:
        ids = floats_at(c[C_IDS])
        for s in range(K):
            w = (1 + int(ids[s])) * G
            for j in range(0, G, 16):
                vstore(ACT, s * la + j, vload(bias, j) + vload(W, w + j))
    elif K == 1:
        copy(bias, 0, ACT, 0, G)
        add_row(X, 0, c[C_I], W, G, G, ACT, 0, G // 16, 1)
    else:
        affine(X, 0, c[C_LX], K, W, G, G, G // 16, bias, 0, ACT, 0, la, c[C_I])
    cell_forward(cell, W, c[C_OU], c[C_OC], floats_at(c[C_S]), ACT, la, H, K, turn)


@inner
def window_backward(cell, c, labelled, first, GR, K):
    """Gradients of all weights, into GR, from those of the outputs, DY[first … K)."""
    I, H, O, OP, la, ly = c[C_I], c[C_H], c[C_O], c[C_OP], c[C_LA], c[C_LY]
    G, S_ = gates(cell) * H, states(cell) * H
    W, X, S, D, DY = floats_at(c[C_W]), floats_at(c[C_X]), floats_at(c[C_S]), floats_at(c[C_D]), floats_at(c[C_DY])
    DHS = floats_at(c[C_DHS])
    product(DY, first * ly, 1, ly, K - first, W, c[C_OV], H, H // 16, DHS, first * H, H, O)
    cell_backward(cell, floats_at(c[C_UT]), S, floats_at(c[C_ACT]), D, la, floats_at(c[C_DH]), DHS, labelled, H, K)
    cell_recurrent_gradient(cell, S, D, la, GR, c[C_OU], c[C_OC], H, K)
    if c[C_CLASSES] != 0:
        ids, seen = floats_at(c[C_IDS]), floats_at(c[C_SEEN])
        for s in range(K):
            seen[int(ids[s])] = np.float32(1)
        for i in range(I):  # the others' rows are zeros still
            if seen[i] != 0:
                fill(GR, G + i * G, G, np.float32(0))
        for s in range(K):
            add_to(D, s * la, ahead(GR, (1 + int(ids[s])) * G), G)
    else:
        product(X, 0, c[C_LX], 1, I, D, 0, la, G // 16, GR, G, G, K)
    product(DY, first * ly, ly, 1, OP, S, (first + 1) * S_, S_, H // 16, GR, c[C_OV], H, K - first)
    for o in range(OP):
        total = np.float32(0)
        for s in range(first, K):
            total += DY[s * ly + o]
        GR[c[C_OB] + o] = total


@inner
def _turn(c, step):
    """Which way step number `step` of a key walks U: where whole segments are taken at once, every second one back."""
    return step & 1 if c[C_SEGMENTS] != 0 else 0


@inner
def _find_labels(c, row, begin, end):
    """Mark in scratch which of the steps begin … end - 1 wait to be learnt from; the first and the last, or -1."""
    window, labels = c[C_WINDOW], c[C_LABELS]
    labelled = floats_at(c[C_LABELLED])
    first, last = -1, -1
    slot = begin % window
    for s in range(end - begin):
        labelled[s] = np.float32(0)
        for j in range(labels):
            if not math.isnan(row[c[R_Y] + slot * labels + j]):
                labelled[s] = np.float32(1)
        if labelled[s] != 0:
            last = s
            if first < 0:
                first = s
        slot = slot + 1 if slot + 1 < window else 0
    return first, last


@inner
def _gather(c, row, begin, K):
    """Bring the inputs of K steps from the ring into scratch, in order; whole vectors, so what lies behind is junk."""
    I, lx, window = c[C_I], c[C_LX], c[C_WINDOW]
    X, ids = floats_at(c[C_X]), floats_at(c[C_IDS])
    slot = begin % window
    for s in range(K):
        if c[C_CLASSES] != 0:
            ids[s] = row[c[R_X] + slot]
        else:
            for i in range(0, I, 16):
                vstore(X, s * lx + i, vload(row, c[R_X] + slot * I + i))
        slot = slot + 1 if slot + 1 < window else 0


@inner
def _losses(cell, c, row, begin, first, K, inv_n):
    """Outputs of steps first … K - 1, then their gradients, in DY; their part of the mean loss."""
    H, O, OP, labels, window, ly = c[C_H], c[C_O], c[C_OP], c[C_LABELS], c[C_WINDOW], c[C_LY]
    W, S, DY, labelled = floats_at(c[C_W]), floats_at(c[C_S]), floats_at(c[C_DY]), floats_at(c[C_LABELLED])
    VT = floats_at(c[C_VT])
    S_ = states(cell) * H
    reals = doubles_at(c[C_REALS])
    together = O >= 16 and K - first >= 8  # many steps with a wide head: one product reads V once for eight of them
    if together:
        affine(S, (first + 1) * S_, S_, K - first, VT, 0, OP, OP // 16, W, c[C_OB], DY, first * ly, ly, H)
    loss = np.float32(0)
    for s in range(first, K):
        d = s * ly
        if labelled[s] == 0:
            fill(DY, d, ly, np.float32(0))
            continue
        at = (begin + s) % window * labels
        if not together:
            head_forward(W, c[C_OV], c[C_OB], VT, S, (s + 1) * S_, H, O, OP, DY, d)
        y, weights = ahead(row, c[R_Y] + at), ahead(row, c[R_WEIGHT] + at)
        if c[C_LOSS] == CROSS_ENTROPY:
            loss += cross_entropy_gradient(DY, d, O, OP, y[0], weights[0] * inv_n)
        else:
            loss += loss_gradient(c[C_LOSS], DY, d, O, y, weights, inv_n, np.float32(reals[F_DELTA]),
                                  ahead(reals, F_QUANTILES), c[C_NQ])
    return loss


@inner
def _part(cell, c, row, start, begin, end, inv_n, GR):
    """Forward, loss and backward over steps begin … end - 1 of the row's key; (loss, whether it had labels).

    `start`: offset in the row of the state before `begin`, or -1 for zeros.
    """
    first, last = _find_labels(c, row, begin, end)
    if first < 0:
        return np.float32(0), False
    K = last + 1  # nothing behind the last label has a gradient
    _gather(c, row, begin, K)
    S, S_ = floats_at(c[C_S]), states(cell) * c[C_H]
    if start < 0:
        fill(S, 0, S_, np.float32(0))
    else:
        copy(row, start, S, 0, S_)
    window_forward(cell, c, K, _turn(c, begin))
    loss = _losses(cell, c, row, begin, first, K, inv_n)
    window_backward(cell, c, floats_at(c[C_LABELLED]), first, GR, K)
    return loss, True


@inner
def _window_begin(c, row):
    """The first step of an update's window: a step whose start state was stored, or 0."""
    t, k1, window, reach = as_ints(row)[STEPS], c[C_K1], c[C_WINDOW], c[C_REACH]
    oldest = t - min(t, window)
    begin = oldest
    if reach < window:
        first, last = _find_labels(c, row, oldest, t)
        begin = max(oldest, oldest + min(first, last + 1 - reach))
        begin -= (begin + window) % k1
    if begin < oldest or begin == oldest:
        begin = oldest + (-(oldest + window)) % k1 if oldest > 0 else 0
    return begin


@inner
def _update(cell, c, row):
    """One update from the labels that wait in a row; it writes weights and optimizer, never a state."""
    window, labels, n = c[C_WINDOW], c[C_LABELS], c[C_N]
    counters = ints_at(c[C_COUNTERS])
    head = as_ints(row)
    t, entries = head[STEPS], head[PENDING]
    head[DUE] = 0
    head[PENDING] = 0
    if entries == 0:
        return
    GR, GR2 = floats_at(c[C_GR]), floats_at(c[C_GR2])
    inv_n = np.float32(1.0 / (entries * c[C_NQ] if c[C_LOSS] == QUANTILE else entries))
    learning = c[C_MAX_UPDATES] < 0 or counters[N_UPDATES] < c[C_MAX_UPDATES]
    oldest = _window_begin(c, row)
    loss = np.float32(0)
    parts = 0
    begin = oldest
    while learning and begin < t:  # a reset cuts the window into parts that no gradient crosses
        end = t
        if head[CUT] > begin:
            end = begin + 1
            while row[c[R_RESETS] + end % window] == 0:
                end += 1
        start = -1
        if begin == oldest and oldest > 0:
            start = c[R_START] + (oldest + window) // c[C_K1] % c[C_STARTS] * (states(cell) * c[C_H])
        part_loss, some = _part(cell, c, row, start, begin, end, inv_n, GR if parts == 0 else GR2)
        if some:
            loss += part_loss
            if parts > 0:
                for i in range(0, n, 16):
                    vstore(GR, i, vload(GR, i) + vload(GR2, i))
            parts += 1
        begin = end
    for j in range(min(t, window) * labels):
        row[c[R_Y] + j] = _NAN
    if parts > 0:
        _apply(cell, c, loss)


@inner
def _descend(c, begin, end, scale, lr):
    """The optimizer's step for the weights begin … end - 1."""
    reals, n = doubles_at(c[C_REALS]), end - begin
    W, M, V, GR = (
        ahead(floats_at(c[C_W]), begin), ahead(floats_at(c[C_M]), begin), ahead(floats_at(c[C_V]), begin),
        ahead(floats_at(c[C_GR]), begin),
    )  # fmt: skip
    if c[C_OPTIMIZER] == SGD:
        sgd(W, M, GR, n, scale, lr, reals[F_MOMENTUM])
    else:
        adam(W, M, V, GR, n, scale, lr, reals[F_BETA1], reals[F_BETA2], 1.0 - reals[F_POWER1],
             1.0 - reals[F_POWER2], reals[F_EPS], reals[F_DECAY] if c[C_OPTIMIZER] == ADAMW else 0.0)


@inner
def _apply(cell, c, loss):
    """Clip the gradient in GR and take the optimizer's step; nothing moves if it or the loss is not finite."""
    counters, GR, n = ints_at(c[C_COUNTERS]), floats_at(c[C_GR]), c[C_N]
    norm2 = squared_norm(GR, n)
    if not (math.isfinite(norm2) and math.isfinite(loss)):
        counters[N_REFUSED_UPDATES] += 1
        return
    reals = doubles_at(c[C_REALS])
    scale = clip_scale(norm2, reals[F_CLIP])
    lr = doubles_at(c[C_LR])[counters[N_UPDATES] - c[C_LR_FROM] if c[C_LR_TABLE] != 0 else 0]
    if c[C_OPTIMIZER] != SGD:
        reals[F_POWER1] *= reals[F_BETA1]
        reals[F_POWER2] *= reals[F_BETA2]
    if c[C_CLASSES] != 0 and c[C_OPTIMIZER] != ADAMW:  # a class that never came has no gradient and no moments
        G, seen = gates(cell) * c[C_H], floats_at(c[C_SEEN])
        _descend(c, 0, G, scale, lr)
        for i in range(c[C_I]):
            if seen[i] != 0:
                _descend(c, (1 + i) * G, (2 + i) * G, scale, lr)
        _descend(c, c[C_OU], n, scale, lr)
    else:
        _descend(c, 0, n, scale, lr)
    counters[N_UPDATES] += 1
    _refresh(cell, c)


@inner
def _refresh(cell, c):
    """Make what is derived from the weights anew: the sum of biases, the transposed U and V."""
    H, W = c[C_H], floats_at(c[C_W])
    cell_bias(cell, W, c[C_OC], floats_at(c[C_BIAS]), H)
    transpose(W, c[C_OU], H, gates(cell) * H, floats_at(c[C_UT]), 0)
    if c[C_OP] >= 16:
        transpose(W, c[C_OV], c[C_OP], H, floats_at(c[C_VT]), 0)


@inner
def _forward_one(cell, c, row, slot, x):
    """One step from the key's live state (zeros for slot -1), into scratch S[1] and DY[0]; whether it is finite."""
    I, H = c[C_I], c[C_H]
    S_ = states(cell) * H
    X, S, DY = floats_at(c[C_X]), floats_at(c[C_S]), floats_at(c[C_DY])
    turn = 0
    if slot < 0:
        fill(S, 0, S_, np.float32(0))
    else:
        copy(row, c[R_LIVE], S, 0, S_)
        turn = _turn(c, as_ints(row)[STEPS])
    if c[C_CLASSES] != 0:
        floats_at(c[C_IDS])[0] = x[0]
    else:
        for i in range(I):
            X[i] = x[i]
    window_forward(cell, c, 1, turn)
    head_forward(floats_at(c[C_W]), c[C_OV], c[C_OB], floats_at(c[C_VT]), S, S_, H, c[C_O], c[C_OP], DY, 0)
    return _all_finite(ahead(S, S_), S_)


@inner
def _judge_input(cell, c, row, slot, x):
    """Whether x can be taken; inputs so huge that a forward pass might overflow are tried first."""
    if c[C_CLASSES] != 0:
        return x[0] >= 0 and x[0] < c[C_I] and x[0] == math.floor(x[0])
    largest = np.float32(0)
    for i in range(c[C_I]):
        if not math.isfinite(x[i]):
            return False
        largest = max(largest, abs(x[i]))
    return largest < _HUGE or _forward_one(cell, c, row, slot, x)


@inner
def _enter(cell, c, row, x):
    """Make the step in scratch the key's newest: live state, start state, ring."""
    head = as_ints(row)
    t, k1, window, labels = head[STEPS], c[C_K1], c[C_WINDOW], c[C_LABELS]
    S_ = states(cell) * c[C_H]
    x_words = 1 if c[C_CLASSES] != 0 else c[C_I]
    slot = t % window
    if (t + window) % k1 == 0:
        copy(row, c[R_LIVE], row, c[R_START] + (t + window) // k1 % c[C_STARTS] * S_, S_)
    for i in range(x_words):
        row[c[R_X] + slot * x_words + i] = x[i]
    for j in range(labels):
        row[c[R_Y] + slot * labels + j] = _NAN
    row[c[R_RESETS] + slot] = np.float32(head[RESET])
    if head[RESET] != 0:
        head[CUT] = t
        head[RESET] = 0
    copy(floats_at(c[C_S]), S_, row, c[R_LIVE], S_)
    head[STEPS] = t + 1
    if (t + 1) % k1 == 0:
        head[DUE] = 1
    ints_at(c[C_COUNTERS])[N_STEPS] += 1


@inner
def _is_segment(c, row, slots, e, n, x, y):
    """Whether the k1 events from e on are one key's next segment from its beginning, each with a class and a label."""
    k1 = c[C_K1]
    head = as_ints(row)
    if e + k1 > n or head[STEPS] % k1 != 0 or head[DUE] != 0 or head[PENDING] != 0 or head[RESET] != 0:
        return False
    for s in range(k1):
        if slots[e + s] != slots[e] or not (x[s] >= 0 and x[s] < c[C_I] and x[s] == math.floor(x[s])):
            return False
        if _judge_label(c, ahead(y, s)) <= 0:
            return False
    return True


@inner
def _segment(cell, c, row, x, y, weights, out):
    """Take the k1 = k2 steps of a segment, and their update, at once; False, and nothing moved, if a state overflows.

    The weights don't change within a segment, so its forward pass is the steps' own: it need not be run twice, as
    when other keys may learn in between. To give the same bits as step by step, single steps walk U alternately, too
    (`_turn`), and the head's columns and the steps are such that both ways add up a product in the same order.
    """
    H, O, K, ly = c[C_H], c[C_O], c[C_K1], c[C_LY]
    S_ = states(cell) * H
    S, DY, W = floats_at(c[C_S]), floats_at(c[C_DY]), floats_at(c[C_W])
    ids, labelled, counters = floats_at(c[C_IDS]), floats_at(c[C_LABELLED]), ints_at(c[C_COUNTERS])
    for s in range(K):
        ids[s] = x[s]
        labelled[s] = np.float32(1)
    copy(row, c[R_LIVE], S, 0, S_)
    window_forward(cell, c, K, 0)
    if not _all_finite(ahead(S, S_), K * S_):
        return False
    copy(S, 0, row, c[R_START], S_)
    copy(S, K * S_, row, c[R_LIVE], S_)
    affine(S, S_, S_, K, floats_at(c[C_VT]), 0, O, O // 16, W, c[C_OB], DY, 0, ly, H)
    loss = np.float32(0)
    inv_n = np.float32(1.0 / K)
    for s in range(K):
        row[c[R_X] + s], row[c[R_Y] + s], row[c[R_WEIGHT] + s] = x[s], _NAN, weights[s]
        row[c[R_RESETS] + s] = np.float32(0)
        for o in range(0, O, 16):
            vstore(out, s * O + o, vload(DY, s * ly + o))
        loss += cross_entropy_gradient(DY, s * ly, O, O, y[s], weights[s] * inv_n)
    as_ints(row)[STEPS] += K
    counters[N_STEPS] += K
    counters[N_LABELS] += K
    if c[C_MAX_UPDATES] < 0 or counters[N_UPDATES] < c[C_MAX_UPDATES]:
        window_backward(cell, c, labelled, 0, floats_at(c[C_GR]), K)
        _apply(cell, c, loss)
    return True


@inner
def _step_many(cell, context, n, slots_, x_, y_, weights_, out_, hidden_, mode):
    """Take n events through; how many were refused. All arguments are addresses or ints.

    slots int64 (n,), -1 for a key that is not there; x float32 (n, I), or (n, 1) class ids; y float32
    (n, labels); weights float32 (n,); out float32 (n, O); hidden float32 (n, real H), or 0. In mode LABEL
    there are no x and hidden, and out is float32 (n,): 1 accepted, 0 not. In mode TAKE an event whose back is at
    least 0 is a late label: x is not looked at, out is NaN, and an update runs when k1 label entries wait.
    """
    c = ints_at(context)
    O, labels, real_H = c[C_O], c[C_LABELS], c[C_REAL_H]
    x_words = 1 if c[C_CLASSES] != 0 else c[C_I]
    counters, lags, slots = ints_at(c[C_COUNTERS]), ints_at(c[C_LAGS]), ints_at(slots_)
    backs = ints_at(c[C_BACKS])
    weights, DY, S = floats_at(weights_), floats_at(c[C_DY]), ahead(floats_at(c[C_S]), states(cell) * c[C_H])
    refused = 0
    taken = 0  # events before this one have gone through as a segment
    for e in range(n):
        if e < taken:
            continue
        slot = slots[e]
        row = _row(c, slot)
        y = floats_at(y_ + 4 * e * labels)
        if c[C_SEGMENTS] != 0 and mode == STEP and slot >= 0 and hidden_ == 0:
            x = floats_at(x_ + 4 * e)
            out = floats_at(out_ + 4 * e * O)
            if _is_segment(c, row, slots, e, n, x, y) and _segment(cell, c, row, x, y, ahead(weights, e), out):
                taken = e + c[C_K1]
                continue
        label = 0 if mode == PREDICT else _judge_label(c, y)
        if mode == LABEL:
            floats_at(out_)[e] = np.float32(0)
            if label < 0:
                counters[N_REFUSED_Y] += 1
            elif _give_labels(c, row, y, weights[e], lags) == 0:
                floats_at(out_)[e] = np.float32(1)
            continue
        x = floats_at(x_ + 4 * e * x_words)
        out = floats_at(out_ + 4 * e * O)
        if mode == TAKE:
            for j in range(labels):
                lags[j] = max(backs[e], 0)
            if backs[e] >= 0:
                if label < 0:
                    counters[N_REFUSED_Y] += 1
                elif label > 0 and slot >= 0:
                    _give_labels(c, row, y, weights[e], lags)
                    if as_ints(row)[PENDING] >= c[C_K1]:
                        _update(cell, c, row)
                for j in range(O):
                    out[j] = _NAN
                continue
        usable = _judge_input(cell, c, row, slot, x)
        moves = usable and label >= 0 and slot >= 0 and mode != PREDICT
        if moves:
            if mode == ADVANCE and label > 0:
                _give_labels(c, row, y, weights[e], lags)
            if as_ints(row)[DUE] != 0:
                _update(cell, c, row)
        if usable:
            usable = _forward_one(cell, c, row, slot, x)
        for j in range(O):
            out[j] = DY[j] if usable else _NAN
        if hidden_ != 0:
            hidden = floats_at(hidden_ + 4 * e * real_H)
            for j in range(real_H):
                hidden[j] = S[j] if usable else _NAN
        if mode == PREDICT:
            continue
        if not (moves and usable):
            refused += 1
            counters[N_REFUSED_Y if usable else N_REFUSED_X] += 1
            continue
        _enter(cell, c, row, x)
        if mode in (STEP, TAKE):
            if label > 0:
                _give_labels(c, row, y, weights[e], lags)
            if as_ints(row)[DUE] != 0:
                _update(cell, c, row)
    return refused


@kernel
def gru_step_many(context, n, slots, x, y, weights, out, hidden, mode):
    return _step_many(GRU, context, n, slots, x, y, weights, out, hidden, mode)


@kernel
def lstm_step_many(context, n, slots, x, y, weights, out, hidden, mode):
    return _step_many(LSTM, context, n, slots, x, y, weights, out, hidden, mode)


@kernel
def elman_step_many(context, n, slots, x, y, weights, out, hidden, mode):
    return _step_many(ELMAN, context, n, slots, x, y, weights, out, hidden, mode)


_SIGNATURE = types.int64(*[types.int64] * 9)


def step_many(cell: str) -> Any:
    """The compiled loop of a cell, ready to be called with nine ints."""
    entry = {"gru": gru_step_many, "lstm": lstm_step_many, "elman": elman_step_many}[cell]
    return compiled(entry, _SIGNATURE, f"the {cell} kernel")


@kernel
def _gru_refresh(context):
    _refresh(GRU, ints_at(context))


@kernel
def _lstm_refresh(context):
    _refresh(LSTM, ints_at(context))


@kernel
def _elman_refresh(context):
    _refresh(ELMAN, ints_at(context))


def refresh(cell: str, context: int) -> None:
    """To be called when weights were set from outside."""
    {"gru": _gru_refresh, "lstm": _lstm_refresh, "elman": _elman_refresh}[cell](context)
