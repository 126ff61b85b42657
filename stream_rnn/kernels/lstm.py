"""LSTM (Hochreiter & Schmidhuber 1997, with forget gate): torch's gates i, f, g, o in columns of that order.

c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)    h' = σ(o) ⊙ tanh(c')

A state is [h, c], 2H numbers a row of S. The row of activations is [i, f, g, o, tanh c'].
"""

import numpy as np

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.tiles import add_row, add_to, column_sum, copy, fill, product
from stream_rnn.kernels.vec import vfma, vload, vset, vsigmoid, vstore, vtanh

GATES = 4
STATES = 2
ACTIVATIONS = 5


@inner
def lstm_forward(W, oh, oc, S, ACT, la, H, K, turn):
    """K steps from state S[0] to S[1 … K]; ACT[K] holds W x + b + c on entry and the activations on return."""
    G = 4 * H
    for s in range(K):
        a = s * la
        h = s * 2 * H
        add_row(S, h, H, W, oh, G, ACT, a, G // 16, 1 - 2 * ((s + turn) & 1))
        for j in range(0, H, 16):
            i = vsigmoid(vload(ACT, a + j))
            f = vsigmoid(vload(ACT, a + H + j))
            g = vtanh(vload(ACT, a + 2 * H + j))
            o = vsigmoid(vload(ACT, a + 3 * H + j))
            c = vfma(f, vload(S, h + H + j), i * g)
            t = vtanh(c)
            vstore(ACT, a + j, i)
            vstore(ACT, a + H + j, f)
            vstore(ACT, a + 2 * H + j, g)
            vstore(ACT, a + 3 * H + j, o)
            vstore(ACT, a + 4 * H + j, t)
            vstore(S, h + 2 * H + j, o * t)
            vstore(S, h + 3 * H + j, c)


@inner
def lstm_backward(UT, S, ACT, D, la, dh, DH, labelled, H, K):
    """Gradients of the pre-activations, D[K] = [di, df, dg, do]; DH[K] are those of h that labels make.

    dh holds those of h and, behind them, of c.
    """
    G = 4 * H
    one = vset(np.float32(1))
    zero = vset(np.float32(0))
    fill(dh, 0, 2 * H, np.float32(0))
    for s in range(K - 1, -1, -1):
        a = s * la
        h = s * 2 * H
        if labelled[s] != 0:
            add_to(DH, s * H, dh, H)
        for j in range(0, H, 16):
            v = vload(dh, j)
            i = vload(ACT, a + j)
            f = vload(ACT, a + H + j)
            g = vload(ACT, a + 2 * H + j)
            o = vload(ACT, a + 3 * H + j)
            t = vload(ACT, a + 4 * H + j)
            vo = v * o
            dc = vfma(vo, one - t * t, vload(dh, H + j))
            dci = dc * i
            dcf = dc * f
            vstore(D, a + j, dci * g * (one - i))
            vstore(D, a + H + j, dcf * vload(S, h + H + j) * (one - f))
            vstore(D, a + 2 * H + j, dci * (one - g * g))
            vstore(D, a + 3 * H + j, vo * t * (one - o))
            vstore(dh, H + j, dcf)
            vstore(dh, j, zero)
        add_row(D, a, G, UT, 0, H, dh, 0, H // 16, 1 - 2 * (s & 1))


@inner
def lstm_recurrent_gradient(S, D, la, GR, oh, oc, H, K):
    """Gradients of b, U and c."""
    column_sum(D, 0, la, 4 * H, K, GR, 0)
    product(S, 0, 2 * H, 1, H, D, 0, la, 4 * H // 16, GR, oh, 4 * H, K)
    copy(GR, 0, GR, oc, 4 * H)


@inner
def lstm_bias(W, oc, BIAS, H):
    """What W x + … starts from: b + c."""
    copy(W, 0, BIAS, 0, 4 * H)
    add_to(W, oc, BIAS, 4 * H)
