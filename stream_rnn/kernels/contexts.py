"""Mixing a network's guess of the next symbol with counts of what followed the same contexts before.

A symbol, one of 256, is guessed as eight yes-or-no decisions, its bits from the highest; a decision's node is the bits
before it with a 1 in front. An expert is an order: how many symbols before it make its context. For each context and
node it keeps the chance p of a 1, an average over the last LIMIT times and over all at first. The network's
chance is the sum of its probabilities over the symbols that go on with a 1, of those that are left. Mixed is in the
logistic domain (Mattern 2012, arXiv:1212.3023; Mahoney's PAQ):
    x = st(p_k), 4 (p_k - ½) for each order k (0 where its context is new), 1, st(p of the network)
    st(p) = ln p / (1 - p)
    P(1) = 1 / (1 + exp(-w · x)),  w ← w + RATE (bit - P(1)) x
with weights of its own for each length of the longest context that was met before. A symbol's probability is the
product over its bits, and its cost in bits -log₂ of that; learnt from is a whole symbol, after that.

Contexts lie in one hash table of 2ⁿ slots: `chance` float32, and `tag` uint16, ten bits to tell contexts apart and a
count up to LIMIT. A context may lie in either of two neighbouring slots; a new one takes the place of the one that
was met less often, and the other loses a count, so that what is not met any more goes in the end.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32, float64, int64, uint8, uint16, uint64, void
from numpy.typing import NDArray

from stream_rnn.kernels.cache import compiled, inner, kernel
from stream_rnn.kernels.rows import row_at
from stream_rnn.kernels.vec import ahead, floats_at, ints_at, vexp, vload, vset, vstore

ORDERS = (0, 1, 2, 3, 4, 6, 8)
SYMBOLS, LEVELS = 256, 8
INPUTS = 2 * len(ORDERS) + 2
SETS = len(ORDERS) + 1  # of weights
HISTORY = max(ORDERS)
RECORDS, COUNT, RECENT = range(3)  # int64 words of a key's row: records, symbols, the last HISTORY symbols
WORDS = RECENT + HISTORY

LIMIT = 30
RATE = 0.004
LEAST = 1.0 / 4096.0  # of a chance; 1 less it is the most
SURE = 1.0 / 16384.0  # of what is mixed
FLOOR = 1e-5  # of the network's sums: it is never quite sure
_COUNT = 63  # the bits of a tag that count

_ODD1, _ODD2, _BITS29, _BITS32 = (np.uint64(v) for v in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 29, 32))
_ONE, _BITS54 = np.uint64(1), np.uint64(54)


def weights() -> NDArray[np.float64]:
    """Where mixing begins: every expert has a say."""
    w = np.zeros((SETS, INPUTS))
    w[:, : 2 * len(ORDERS) : 2] = 0.3
    w[:, -1] = 0.3
    return w


@inner
def _stretch(p):
    return math.log(p / (1.0 - p))


@inner
def _context(recent, order):
    """A hash of the last `order` symbols."""
    h = np.uint64(order + 1) * _ODD1
    for j in range(order):
        h = (h ^ np.uint64(recent[j] + 1)) * _ODD2
        h ^= h >> _BITS32
    return h


@inner
def _find(context, node, tag, claim):
    """The slot of a context's node; -1 where it has none, unless a slot is to be claimed for it."""
    h = (context ^ np.uint64(node)) * _ODD2
    h ^= h >> _BITS29
    mine = np.int64(h >> _BITS54) << 6  # ten bits above the count
    a = np.int64(h & np.uint64(tag.shape[0] - 1))
    b = a ^ 1
    here, there = np.int64(tag[a]), np.int64(tag[b])
    if here - (here & _COUNT) == mine and here & _COUNT:
        return a
    if there - (there & _COUNT) == mine and there & _COUNT:
        return b
    if not claim:
        return -1
    if here & _COUNT > there & _COUNT:
        a, b = b, a
    if tag[b] & _COUNT > 1:
        tag[b] -= np.uint16(1)
    tag[a] = np.uint16(mine)
    return a


@inner
def _mixed(contexts, slots, node, low, middle, high, chance, tag, w, x, sums, claim):
    """P(1) at a node, whose symbols are low … high - 1; writes x and the slots used."""
    known = 0
    K = slots.shape[0]
    for k in range(K):
        slot = _find(contexts[k], node, tag, claim)
        slots[k] = slot
        x[2 * k] = x[2 * k + 1] = 0.0
        if slot >= 0 and tag[slot] & _COUNT:
            p = np.float64(chance[slot])
            x[2 * k], x[2 * k + 1] = _stretch(p), 4.0 * (p - 0.5)
            known = k + 1
    x[2 * K] = 1.0
    ones, zeros = sums[high] - sums[middle] + FLOOR, sums[middle] - sums[low] + FLOOR
    x[2 * K + 1] = math.log(ones / zeros)
    z = 0.0
    for i in range(INPUTS):
        z += w[known, i] * x[i]
    x[INPUTS] = known
    return min(max(1.0 / (1.0 + math.exp(-z)), SURE), 1.0 - SURE)


@inner
def _network(logits, sums, chances):
    """Write the sums of the network's probabilities below each symbol, of sum 1."""
    top = logits[0]
    for j in range(1, SYMBOLS):
        top = max(top, logits[j])
    shift = vset(top)
    for j in range(0, SYMBOLS, 16):
        vstore(chances, j, vexp(vload(logits, j) - shift))
    total = 0.0
    for j in range(SYMBOLS):
        sums[j] = total
        total += chances[j]
    sums[SYMBOLS] = total
    for j in range(SYMBOLS + 1):
        sums[j] /= total


@inner
def _learn(bit, slots, chance, tag, w, x):
    """Take in what a bit was; x as `_mixed` left it, with the error at its end."""
    known, step = np.int64(x[INPUTS]), RATE * x[INPUTS + 1]
    for i in range(INPUTS):
        w[known, i] += step * x[i]
    for k in range(slots.shape[0]):
        slot = slots[k]
        count = np.int64(tag[slot]) & _COUNT
        before = np.float64(chance[slot]) if count else 0.5
        after = before + (bit - before) / (count + 1.5)
        chance[slot] = np.float32(min(max(after, LEAST), 1.0 - LEAST))
        if count < LIMIT:
            tag[slot] += np.uint16(1)


@kernel
def mix_text(
    symbols, slots, logits, bases, place, orders, chance, tag, w, x, sums, chances, contexts, found, learn, bits
):  # fmt: skip
    """Take n symbols through: write their costs (n, 2) in bits, the mixture's and the network's alone.

    symbols uint8 (n,), slots int64 (n,): of their keys; logits float32 (n, 256): the network's, made before each.
    bases, place: the keys' rows. Scratch: x (8, INPUTS + 2), of each bit with the set of weights and the error; sums
    (257,), chances float32 (256,), contexts (orders,), found (8, orders). No orders: only the network. learn: not 0
    where counts and weights learn, when the whole symbol is known.
    """
    K = orders.shape[0]
    for t in range(symbols.shape[0]):
        symbol = np.int64(symbols[t])
        row = ints_at(row_at(slots[t], bases, place))
        raw = floats_at(logits.ctypes.data + 4 * SYMBOLS * t)
        _network(raw, sums, floats_at(chances.ctypes.data))
        bits[t, 1] = -math.log2(max(sums[symbol + 1] - sums[symbol], 1e-12))
        bits[t, 0] = bits[t, 1]
        if K:
            recent = ahead(row, RECENT)
            for k in range(K):
                contexts[k] = _context(recent, orders[k])
            low, high, node, cost = 0, SYMBOLS, 1, 0.0
            for level in range(LEVELS):
                middle = (low + high) // 2
                p = _mixed(contexts, found[level], node, low, middle, high, chance, tag, w, x[level], sums, learn != 0)
                bit = 1 if symbol >= middle else 0
                cost -= math.log2(p if bit else 1.0 - p)
                x[level, -1] = bit - p
                node = 2 * node + bit
                if bit:
                    low = middle
                else:
                    high = middle
            bits[t, 0] = cost
            if learn:
                for level in range(LEVELS):
                    _learn(symbol >> (LEVELS - 1 - level) & 1, found[level], chance, tag, w, x[level])
        for j in range(HISTORY - 1, 0, -1):
            row[RECENT + j] = row[RECENT + j - 1]
        row[RECENT] = symbol
        row[COUNT] += 1


@kernel
def next_symbol(slot, logits, bases, place, orders, chance, tag, w, x, sums, chances, contexts, found, out):
    """Write the probability of each symbol to come, out (256,), and change nothing; logits (1, 256)."""
    K = orders.shape[0]
    recent = ahead(ints_at(row_at(slot, bases, place)), RECENT)
    _network(floats_at(logits.ctypes.data), sums, floats_at(chances.ctypes.data))
    for k in range(K):
        contexts[k] = _context(recent, orders[k])
    for symbol in range(SYMBOLS):
        out[symbol] = sums[symbol + 1] - sums[symbol] if K == 0 else 1.0
    width = SYMBOLS if K else 1
    while width > 1:
        for low in range(0, SYMBOLS, width):
            middle, high = low + width // 2, low + width
            node = SYMBOLS // width + low // width
            p = _mixed(contexts, found[0], node, low, middle, high, chance, tag, w, x[0], sums, False)
            for symbol in range(low, middle):
                out[symbol] *= 1.0 - p
            for symbol in range(middle, high):
                out[symbol] *= p
        width //= 2


_I, _F, _S = int64[::1], float64[::1], uint8[::1]
_FF = float64[:, ::1]
_STATE = (_I, _I, _I, float32[::1], uint16[::1], _FF, _FF, _F, float32[::1], uint64[::1], int64[:, ::1])
_MIX_TEXT = void(_S, _I, float32[:, ::1], *_STATE, int64, _FF)
_NEXT_SYMBOL = void(int64, float32[:, ::1], *_STATE, _F)


def ready() -> tuple[Any, Any]:
    """`mix_text` and `next_symbol`, compiled."""
    what = "the text kernel"
    return compiled(mix_text, _MIX_TEXT, what), compiled(next_symbol, _NEXT_SYMBOL, what)
