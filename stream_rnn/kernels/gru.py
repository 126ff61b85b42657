"""GRU (Cho et al. 2014, with torch's reset gate after the product):

r = σ(W_r x + b_r + U_r h + c_r)    z = σ(W_z x + b_z + U_z h + c_z)
n = tanh(W_n x + b_n + r ⊙ (U_n h + c_n))    h' = n + z ⊙ (h - n)

Columns of W are ordered n, r, z and those of U and c are r, z, n, so that a row of activations
[n, r, z, U_n h + c_n] takes W x in its first 3H numbers and U h in its last 3H, and one row of
gradients [dn, dr, dz, dn ⊙ r] serves both products of the backward pass.
`oh`, `oc`: offsets of U (H, 3H) and c (3H,) in the weights. Rows of S hold h; `la` is the stride of ACT and D.
"""

import numpy as np

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.tiles import add_row, add_to, column_sum, copy, fill, product
from stream_rnn.kernels.vec import ahead, vfma, vload, vset, vsigmoid, vstore, vtanh

GATES = 3
STATES = 1
ACTIVATIONS = 4


@inner
def gru_forward(W, oh, oc, S, ACT, la, H, K, turn):
    """K steps from state S[0] to S[1 … K]; ACT[K] holds W x, b, c_r and c_z on entry, activations on return.

    turn 1: the first step walks U backwards, the second forwards, and so on; 0: the other way round.
    """
    G = 3 * H
    for s in range(K):
        a = s * la
        h = s * H
        copy(W, oc + 2 * H, ACT, a + 3 * H, H)
        add_row(S, h, H, W, oh, G, ACT, a + H, G // 16, 1 - 2 * ((s + turn) & 1))
        for j in range(0, H, 16):
            r = vsigmoid(vload(ACT, a + H + j))
            z = vsigmoid(vload(ACT, a + 2 * H + j))
            n = vtanh(vfma(r, vload(ACT, a + 3 * H + j), vload(ACT, a + j)))
            vstore(ACT, a + j, n)
            vstore(ACT, a + H + j, r)
            vstore(ACT, a + 2 * H + j, z)
            vstore(S, h + H + j, vfma(z, vload(S, h + j) - n, n))


@inner
def gru_backward(UT, S, ACT, D, la, dh, DH, labelled, H, K):
    """Gradients of the pre-activations, D[K] = [dn, dr, dz, dn ⊙ r]; DH[K] are those of h that labels make."""
    G = 3 * H
    one = vset(np.float32(1))
    fill(dh, 0, H, np.float32(0))
    for s in range(K - 1, -1, -1):
        a = s * la
        h = s * H
        if labelled[s] != 0:
            add_to(DH, h, dh, H)
        for j in range(0, H, 16):
            v = vload(dh, j)
            n = vload(ACT, a + j)
            r = vload(ACT, a + H + j)
            z = vload(ACT, a + 2 * H + j)
            rest = one - z
            through = v * z
            dn = v * rest * (one - n * n)
            dnr = dn * r
            vstore(D, a + j, dn)
            vstore(D, a + H + j, dnr * vload(ACT, a + 3 * H + j) * (one - r))
            vstore(D, a + 2 * H + j, through * (vload(S, h + j) - n) * rest)
            vstore(D, a + 3 * H + j, dnr)
            vstore(dh, j, through)
        add_row(D, a + H, G, UT, 0, H, dh, 0, H // 16, 1 - 2 * (s & 1))


@inner
def gru_recurrent_gradient(S, D, la, GR, oh, oc, H, K):
    """Gradients of b, U and c."""
    product(S, 0, H, 1, H, D, H, la, 3 * H // 16, GR, oh, 3 * H, K)
    column_sum(D, 0, la, 3 * H, K, GR, 0)
    copy(GR, H, GR, oc, 2 * H)
    column_sum(D, 3 * H, la, H, K, GR, oc + 2 * H)


@inner
def gru_bias(W, oc, BIAS, H):
    """What W x + … starts from: b, and the parts of c that stand beside it."""
    copy(W, 0, BIAS, 0, 3 * H)
    add_to(W, oc, ahead(BIAS, H), 2 * H)
