"""The linear head ŷ = V h + b, the losses and their gradients.

V is (O, H); where O ≥ 16 its rows are padded to a multiple of 16 and a transposed copy VT (H, O) makes the
forward pass one streamed product. Losses, with e = ŷ - y: squared e²; pseudo-Huber δ²(√(1 + (e/δ)²) - 1)
(Charbonnier et al. 1997); pinball max(-q e, (1 - q) e) (Koenker & Bassett 1978); cross-entropy
-log softmax(ŷ)[y]. The mean is over all label entries of an update.
"""

import math

import numpy as np

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.tiles import add_row, copy
from stream_rnn.kernels.vec import vexp, vfma, vload, vset, vstore, vsum

SQUARED, HUBER, QUANTILE, CROSS_ENTROPY = range(4)
LOSSES = {"squared": SQUARED, "huber": HUBER, "quantile": QUANTILE, "cross_entropy": CROSS_ENTROPY}


@inner
def head_forward(W, ov, ob, VT, S, h, H, O, OP, Y, y):
    """Y[y … y + OP) = V h + b."""
    if O >= 16:
        copy(W, ob, Y, y, OP)
        add_row(S, h, H, VT, 0, OP, Y, y, OP // 16, 1)
        return
    for o in range(O):
        acc = vset(np.float32(0))
        for j in range(0, H, 16):
            acc = vfma(vload(W, ov + o * H + j), vload(S, h + j), acc)
        Y[y + o] = vsum(acc) + W[ob + o]


@inner
def cross_entropy_gradient(DY, d, O, OP, label, scale):
    """Turn logits (in DY[d … d + O)) into scale · (softmax - one-hot); scale · the step's loss. Padding becomes 0."""
    top = DY[d]
    for o in range(1, O):
        top = max(top, DY[d + o])
    at = d + int(label)
    y_hat = DY[at]
    if O >= 16:
        for o in range(O, OP):
            DY[d + o] = np.float32(-1e30)
        shift, total = vset(top), vset(np.float32(0))
        for o in range(0, OP, 16):
            p = vexp(vload(DY, d + o) - shift)
            vstore(DY, d + o, p)
            total = total + p
        norm = vsum(total)
        factor = vset(scale / norm)
        for o in range(0, OP, 16):
            vstore(DY, d + o, vload(DY, d + o) * factor)
        for o in range(O, OP):
            DY[d + o] = np.float32(0)
    else:
        norm = np.float32(0)
        for o in range(O):
            p = np.float32(math.exp(DY[d + o] - top))
            DY[d + o] = p
            norm += p
        for o in range(O):
            DY[d + o] = DY[d + o] / norm * scale
    DY[at] -= scale
    return (np.float32(math.log(norm)) + top - y_hat) * scale


@inner
def loss_gradient(loss, DY, d, O, label, weights, inv_n, delta, quantiles, nq):
    """Turn ŷ (in DY[d … d + O)) into the gradient of its part of the mean loss; that part of the loss.

    `label` points at the step's label entries, NaN = none, `weights` at theirs; inv_n: 1 / the update's entries.
    """
    total = np.float32(0)
    zero = np.float32(0)
    for o in range(O):
        j = o // nq if loss == QUANTILE else o
        y = label[j]
        if math.isnan(y):
            DY[d + o] = zero
            continue
        scale = weights[j] * inv_n
        e = DY[d + o] - y
        if loss == SQUARED:
            DY[d + o] = np.float32(2) * e * scale
            total += e * e * scale
        elif loss == HUBER:
            root = np.float32(math.sqrt(np.float32(1) + (e / delta) * (e / delta)))
            DY[d + o] = e / root * scale
            total += delta * delta * (root - np.float32(1)) * scale
        else:
            q = np.float32(quantiles[o % nq])
            slope = np.float32(1) - q if e > 0 else -q
            if e == 0:
                slope = zero
            DY[d + o] = slope * scale
            total += slope * e * scale
    return total
