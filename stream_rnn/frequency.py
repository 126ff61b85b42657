"""What counting alone says of a text, to be better than: kernels/frequency.py has the formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels import frequency
from stream_rnn.kernels.frequency import SYMBOLS

Floats = NDArray[np.float64]
ROWS = 1 + SYMBOLS + SYMBOLS**2


class Frequencies:
    """Counts of symbols after each context of none, one and two.

    >>> Frequencies().step(np.frombuffer(b"abababab", np.uint8))[0]
    array([8., 8.])
    """

    def __init__(self) -> None:
        self._counts = np.zeros((ROWS, SYMBOLS), np.uint32)  # pages that are not met are never touched
        self._totals, self._kinds = np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64)
        self._recent = np.zeros(2, np.int64)
        self._count = frequency.ready()

    def step(self, symbols: NDArray[np.uint8]) -> Floats:
        """Take in symbols: what each cost before it was counted, in bits, by orders 0 and 2, (n, 2)."""
        bits = np.empty((len(symbols), 2))
        self._count(symbols, self._counts, self._totals, self._kinds, self._recent, bits)
        return bits
