"""What counting alone says of a text: frequencies of symbols after none, one and two of the last symbols.

Order n's probability of a symbol is mixed with that of order n - 1 as Witten and Bell have it (1991, method C):
    P_n = (count + kinds · P_{n-1}) / (total + kinds)
where a context was met `total` times, followed by `kinds` different symbols; below order 0 all are alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float64, int64, uint8, uint32, void

from stream_rnn.kernels.cache import compiled, kernel

SYMBOLS = 256


@kernel
def count_text(symbols, counts, totals, kinds, recent, bits):
    """Take n symbols through: write their costs (n, 2) in bits, by orders 0 and 2, then count them.

    counts uint32 (1 + 256 + 256², 256), totals and kinds its rows'; recent (2,): the last symbol and the one before.
    """
    for t in range(symbols.shape[0]):
        symbol = np.int64(symbols[t])
        p = 1.0 / SYMBOLS
        for order in range(3):
            row = 0
            if order == 1:
                row = 1 + recent[0]
            elif order == 2:
                row = 1 + SYMBOLS + SYMBOLS * recent[1] + recent[0]
            count, total, kind = counts[row, symbol], totals[row], kinds[row]
            if total:
                p = (count + kind * p) / (total + kind)
            if order != 1:
                bits[t, order // 2] = -math.log2(p)
            counts[row, symbol] += 1
            totals[row] += 1
            kinds[row] += count == 0
        recent[1], recent[0] = recent[0], symbol


_COUNT_TEXT = void(uint8[::1], uint32[:, ::1], int64[::1], int64[::1], int64[::1], float64[:, ::1])


def ready() -> Any:
    """`count_text`, compiled."""
    return compiled(count_text, _COUNT_TEXT, "the frequency kernel")
