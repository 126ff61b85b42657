"""Clipping and optimizers, as torch has them: clip_grad_norm_, SGD with momentum, Adam (Kingma & Ba 2015),
AdamW (Loshchilov & Hutter 2019). All work in whole vectors on padded arrays; padding has gradient 0 and stays 0."""

import math

import numpy as np

from stream_rnn.kernels.cache import inner
from stream_rnn.kernels.vec import vflush_gradient, vflush_moment, vfma, vload, vset, vsqrt, vstore, vsum

SGD, ADAM, ADAMW = range(3)
OPTIMIZERS = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW}


@inner
def squared_norm(GR, n):
    """Σ g², over four interleaved sums."""
    a = vset(np.float32(0))
    b = a
    c = a
    d = a
    i = 0
    while i + 64 <= n:
        g = vload(GR, i)
        a = vfma(g, g, a)
        g = vload(GR, i + 16)
        b = vfma(g, g, b)
        g = vload(GR, i + 32)
        c = vfma(g, g, c)
        g = vload(GR, i + 48)
        d = vfma(g, g, d)
        i += 64
    while i < n:
        g = vload(GR, i)
        a = vfma(g, g, a)
        i += 16
    return vsum((a + b) + (c + d))


@inner
def clip_scale(norm_squared, clip):
    """What clip_grad_norm_(…, clip) multiplies gradients by; clip ≤ 0 means no clipping."""
    if clip <= 0:
        return np.float32(1)
    return np.float32(min(1.0, clip / (math.sqrt(norm_squared) + 1e-6)))


@inner
def sgd(W, M, GR, n, scale, lr, momentum):
    """buf = momentum · buf + g; w -= lr · buf."""
    vs, vm, step = vset(scale), vset(np.float32(momentum)), vset(np.float32(-lr))
    for i in range(0, n, 16):
        m = vflush_moment(vfma(vm, vload(M, i), vload(GR, i) * vs))
        vstore(M, i, m)
        vstore(W, i, vfma(step, m, vload(W, i)))


@inner
def adam(W, M, V, GR, n, scale, lr, beta1, beta2, correction1, correction2, eps, decay):
    """w -= lr · decay · w; w -= lr / (1 - β1ᵗ) · m / (√(v / (1 - β2ᵗ)) + ε). correction = 1 - βᵗ."""
    vs = vset(scale)
    b1, o1 = vset(np.float32(beta1)), vset(np.float32(1.0 - beta1))
    b2, o2 = vset(np.float32(beta2)), vset(np.float32(1.0 - beta2))
    keep, step = vset(np.float32(1.0 - lr * decay)), vset(np.float32(-lr / correction1))
    spread, floor = vset(np.float32(1.0 / correction2)), vset(np.float32(eps))
    for i in range(0, n, 16):
        g = vflush_gradient(vload(GR, i) * vs)
        m = vflush_moment(vfma(b1, vload(M, i), o1 * g))
        v = vflush_moment(vfma(b2, vload(V, i), o2 * (g * g)))
        vstore(M, i, m)
        vstore(V, i, v)
        vstore(W, i, vfma(step, m / (vsqrt(spread * v) + floor), vload(W, i) * keep))
