"""The inner parts of an update, alone, for benchmarks and for tests against formulas and autograd.

`Probe(learner)` works in the learner's scratch: fill `X`, `S`, `DY` and `labelled`, then run a part n times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from stream_rnn.kernels import layout as at
from stream_rnn.kernels.cache import kernel
from stream_rnn.kernels.cells import CELLS, ELMAN, GRU, LSTM
from stream_rnn.kernels.learn import window_backward, window_forward
from stream_rnn.kernels.optim import squared_norm
from stream_rnn.kernels.vec import floats_at, ints_at

if TYPE_CHECKING:
    from stream_rnn.learner import Learner


@kernel
def _gru(context, n, K, backward):
    c = ints_at(context)
    for _ in range(n):
        if backward != 0:
            window_backward(GRU, c, floats_at(c[at.C_LABELLED]), 0, floats_at(c[at.C_GR]), K)
            squared_norm(floats_at(c[at.C_GR]), c[at.C_N])
        else:
            window_forward(GRU, c, K, 0)


@kernel
def _lstm(context, n, K, backward):
    c = ints_at(context)
    for _ in range(n):
        if backward != 0:
            window_backward(LSTM, c, floats_at(c[at.C_LABELLED]), 0, floats_at(c[at.C_GR]), K)
            squared_norm(floats_at(c[at.C_GR]), c[at.C_N])
        else:
            window_forward(LSTM, c, K, 0)


@kernel
def _elman(context, n, K, backward):
    c = ints_at(context)
    for _ in range(n):
        if backward != 0:
            window_backward(ELMAN, c, floats_at(c[at.C_LABELLED]), 0, floats_at(c[at.C_GR]), K)
            squared_norm(floats_at(c[at.C_GR]), c[at.C_N])
        else:
            window_forward(ELMAN, c, K, 0)


class Probe:
    """A learner's scratch as arrays over its window, and the parts of an update as methods."""

    def __init__(self, learner: Learner) -> None:
        cell, c, K = CELLS[learner.cell], learner._context, learner.window
        H, layout = int(c[at.C_H]), learner._arena
        scratch = learner._scratch
        start = scratch.ctypes.data

        def part(word: int, rows: int, stride: int) -> NDArray[Any]:
            first = (int(c[word]) - start) // 4
            return scratch[first : first + rows * stride].reshape(rows, stride)

        self._learner = learner  # keeps what the addresses point at
        self.window = K
        self.X = part(at.C_X, K, int(c[at.C_LX]))  # inputs, then junk
        self.S = part(at.C_S, K + 1, cell.states * H)  # row 0 is the state before the window
        self.DY = part(at.C_DY, K, int(c[at.C_LY]))  # gradients of the outputs
        self.labelled = part(at.C_LABELLED, 1, K)[0]  # 1 where DY is to be looked at
        self.labelled[:] = 1
        self.gradient = part(at.C_GR, 1, layout["end"])[0]  # laid out as the arena
        self._address = learner._address
        self._run = {"gru": _gru, "lstm": _lstm, "elman": _elman}[learner.cell]

    def forward(self, n: int = 1, steps: int | None = None) -> None:
        """The window's forward pass, n times."""
        self._run(self._address, n, self.window if steps is None else steps, 0)

    def backward(self, n: int = 1) -> None:
        """The window's backward pass with all gradients and their norm, n times; `forward` comes first."""
        self._run(self._address, n, self.window, 1)
