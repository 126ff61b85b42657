"""How long a network takes, and how much of that is predicting: one compiled pass does both, so now and then the live
forward pass is run alone first, which changes nothing, and its time an event is taken for that of the blocks after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_EACH = 64  # blocks a sample; a forward pass is a small part of a block, so it costs less than a hundredth


class Stopwatch:
    """Seconds of all blocks so far. A learner that has one (`learner.stopwatch`) runs its blocks through it."""

    def __init__(self) -> None:
        self.predict_s = self.update_s = 0.0
        self._blocks = 0
        self._event_s = 0.0  # of predicting one event, at the last sample

    def run(self, kernel: Callable[[int], int], n: int, mode: int, predict: int) -> int:
        """The kernel in `mode`, over n events; `predict` is the mode that changes nothing."""
        if self._blocks % _EACH == 0:
            start = time.perf_counter()
            kernel(predict)
            self._event_s = (time.perf_counter() - start) / max(1, n)
        self._blocks += 1
        start = time.perf_counter()
        result = kernel(mode)
        took_s = time.perf_counter() - start
        predicting_s = min(took_s, n * self._event_s)
        self.predict_s += predicting_s
        self.update_s += took_s - predicting_s
        return result
