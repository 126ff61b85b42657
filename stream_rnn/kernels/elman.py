"""Elman cell: h' = tanh(W x + b + U h + c) (Elman 1990, doi:10.1207/s15516709cog1402_1); torch's RNN with tanh."""

import numpy as np

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.tiles import add_row, add_to, column_sum, copy, fill, product
from stream_rnn.kernels.vec import vload, vset, vstore, vtanh

GATES = 1
STATES = 1
ACTIVATIONS = 1


@inner
def elman_forward(W, oh, oc, S, ACT, la, H, K, turn):
    """K steps from state S[0] to S[1 … K]; ACT[K] holds W x + b + c on entry."""
    for s in range(K):
        h = s * H
        copy(ACT, s * la, S, h + H, H)
        add_row(S, h, H, W, oh, H, S, h + H, H // 16, 1 - 2 * ((s + turn) & 1))
        for j in range(0, H, 16):
            vstore(S, h + H + j, vtanh(vload(S, h + H + j)))


@inner
def elman_backward(UT, S, ACT, D, la, dh, DH, labelled, H, K):
    """Gradients of the pre-activations, D[K]; DH[K] are those of h that labels make."""
    one = vset(np.float32(1))
    zero = vset(np.float32(0))
    fill(dh, 0, H, np.float32(0))
    for s in range(K - 1, -1, -1):
        a = s * la
        h = s * H
        if labelled[s] != 0:
            add_to(DH, h, dh, H)
        for j in range(0, H, 16):
            y = vload(S, h + H + j)
            vstore(D, a + j, vload(dh, j) * (one - y * y))
            vstore(dh, j, zero)
        add_row(D, a, H, UT, 0, H, dh, 0, H // 16, 1 - 2 * (s & 1))


@inner
def elman_recurrent_gradient(S, D, la, GR, oh, oc, H, K):
    """Gradients of b, U and c."""
    column_sum(D, 0, la, H, K, GR, 0)
    product(S, 0, H, 1, H, D, 0, la, H // 16, GR, oh, H, K)
    copy(GR, 0, GR, oc, H)


@inner
def elman_bias(W, oc, BIAS, H):
    """What W x + … starts from: b + c."""
    copy(W, 0, BIAS, 0, H)
    add_to(W, oc, BIAS, H)
