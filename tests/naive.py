"""The learner's formulas as printed, in plain NumPy float64. Imports numpy and nothing of ours, so it cannot
share a mistake with a kernel.

Cells in torch's layout: W = weight_ih (G·H, I), U = weight_hh (G·H, H), b = bias_ih, c = bias_hh (G·H,),
gates stacked r, z, n (GRU) or i, f, g, o (LSTM). ŷ is written p, for "prediction".
"""

from __future__ import annotations

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


# cells: (x, state) → next state; the state is (H,), LSTM's (2, H): h, c


def elman_step(x, h, W, U, b, c):
    """Elman 1990, doi:10.1207/s15516709cog1402_1."""
    return np.tanh(W @ x + b + U @ h + c)


def gru_step(x, h, W, U, b, c):
    """Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as in torch and cuDNN."""
    xr, xz, xn = np.split(W @ x + b, 3)
    hr, hz, hn = np.split(U @ h + c, 3)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = np.tanh(xn + r * hn)
    return (1 - z) * n + z * h


def lstm_step(x, hc, W, U, b, c):
    """Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000), no peepholes."""
    h, cell = hc
    i, f, g, o = np.split(W @ x + b + U @ h + c, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return np.stack([sigmoid(o) * np.tanh(cell), cell])


STEP = {"elman": elman_step, "gru": gru_step, "lstm": lstm_step}


def hidden(state):
    """h of a state: an LSTM's has c besides."""
    return state[0] if np.ndim(state) == 2 else state


# losses: one number per label entry (quantile: one per target and level)


def squared(p, y):
    return (p - y) ** 2


def huber(p, y, delta=1.0):
    """Pseudo-Huber: e²/2 near 0, δ|e| far away (Charbonnier et al. 1994)."""
    return delta**2 * (np.sqrt(1 + ((p - y) / delta) ** 2) - 1)


def quantile(p, y, levels):
    """Pinball loss of p (targets · levels,), target-major, against y (targets,); shape (targets, levels)."""
    e = y[:, None] - p.reshape(len(y), len(levels))
    return np.maximum(levels * e, (np.asarray(levels) - 1) * e)


def cross_entropy(p, k):
    """-log softmax(p)[k]."""
    return np.log(np.exp(p - p.max()).sum()) + p.max() - p[k]


# their slopes, d loss / d p


def squared_slope(p, y):
    return 2 * (p - y)


def huber_slope(p, y, delta=1.0):
    return (p - y) / np.sqrt(1 + ((p - y) / delta) ** 2)


def quantile_slope(p, y, levels):
    e = y[:, None] - p.reshape(len(y), len(levels))
    return np.where(e > 0, -np.asarray(levels), np.where(e < 0, 1 - np.asarray(levels), 0)).reshape(-1)


def cross_entropy_slope(p, k):
    q = np.exp(p - p.max())
    return q / q.sum() - np.eye(len(p))[k]


# clip and optimizers, over a list of arrays


def clip(gradients, limit):
    """torch's clip_grad_norm_: one norm over everything, both biases included."""
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1.0, limit / (norm + 1e-6)) for g in gradients]


def sgd(w, g, buffer, lr, momentum=0.0, weight_decay=0.0):
    """(w, buffer) after one step; buffer is None at first."""
    g = g + weight_decay * w
    buffer = g if buffer is None else momentum * buffer + g
    return w - lr * buffer, buffer


def adam(w, g, m, v, u, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    """(w, m, v) after update u = 1, 2, … (Kingma & Ba 2015); decoupled: AdamW (Loshchilov & Hutter 2019)."""
    if decoupled:
        w = w * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * w
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** u), v / (1 - betas[1] ** u)
    return w - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


class ContextMixing:
    """kernels/contexts.py's formulas with a dict in the place of its hash table."""

    def __init__(self, orders, limit, rate, least, sure, floor, start):
        self.orders, self.limit, self.rate, self.least, self.sure, self.floor = orders, limit, rate, least, sure, floor
        n = 2 * len(orders)
        self.w = np.zeros((len(orders) + 1, n + 2))
        self.w[:, :n:2] = self.w[:, -1] = 0.3
        self.seen = {}  # (order, context, bits so far) -> (chance, count)
        self.past = [start] * max(orders)

    def cost(self, symbol, network):
        """Bits of a symbol; network (256,): the network's probabilities."""
        bits = f"{symbol:08b}"
        total, learnt = 0.0, []
        for i, bit in enumerate(map(int, bits)):
            x, known, places = [], 0, []
            for k, order in enumerate(self.orders):
                places.append((order, tuple(self.past[len(self.past) - order :]), bits[:i]))
                if places[-1] in self.seen:
                    p = self.seen[places[-1]][0]
                    x += [np.log(p / (1 - p)), 4 * (p - 0.5)]
                    known = k + 1
                else:
                    x += [0.0, 0.0]
            left = np.array([f"{s:08b}".startswith(bits[:i]) for s in range(256)])
            one = np.array([f"{s:08b}"[i] == "1" for s in range(256)])
            ones, zeros = network[left & one].sum() + self.floor, network[left & ~one].sum() + self.floor
            x = np.array([*x, 1.0, np.log(ones / zeros)])
            p = np.clip(1 / (1 + np.exp(-self.w[known] @ x)), self.sure, 1 - self.sure)
            total -= np.log2(p if bit else 1 - p)
            learnt.append((known, bit, p, x, places))
        for known, bit, p, x, places in learnt:
            self.w[known] += self.rate * (bit - p) * x
            for place in places:
                chance, count = self.seen.get(place, (0.5, 0))
                chance = np.clip(chance + (bit - chance) / (count + 1.5), self.least, 1 - self.least)
                self.seen[place] = (chance, min(count + 1, self.limit))
        self.past = [*self.past[1:], symbol]
        return total


def frequency_costs(symbols):
    """Bits of each symbol by interpolated frequencies (Witten & Bell, method C) of orders 0 and 2, (n, 2)."""
    seen, past, out = {}, (0, 0), []
    for symbol in symbols:
        p, costs = 1 / 256, []
        for order in range(3):
            counts = seen.setdefault((order, past[2 - order :]), {})
            total, kinds = sum(counts.values()), len(counts)
            p = (counts.get(symbol, 0) + kinds * p) / (total + kinds) if total else p
            costs.append(-np.log2(p))
            counts[symbol] = counts.get(symbol, 0) + 1
        out.append((costs[0], costs[2]))
        past = (past[1], symbol)
    return np.array(out)
