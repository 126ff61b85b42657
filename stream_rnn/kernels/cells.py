"""The three cells behind one set of names, chosen when a kernel is compiled, not while it runs.

GRU, LSTM and ELMAN are singletons whose Numba types differ, so `cell_forward(cell, …)` compiles to the
one cell's code and each entry point holds one cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import types
from numba.core.imputils import lower_constant
from numba.extending import models, overload, register_model, typeof_impl

from stream_rnn.kernels import elman, gru, lstm


@dataclass(frozen=True)
class Cell:
    """What a cell is made of; sizes in units of H."""

    name: str
    gates: int  # rows of W and U in torch's layout
    states: int  # numbers of a state
    activations: int  # numbers of a row of activations
    order: tuple[int, ...]  # which of torch's gates stand in the columns of b and W, from the left
    recurrent_order: tuple[int, ...]  # the same for U and c


GRU = Cell("gru", gru.GATES, gru.STATES, gru.ACTIVATIONS, (2, 0, 1), (0, 1, 2))
LSTM = Cell("lstm", lstm.GATES, lstm.STATES, lstm.ACTIVATIONS, (0, 1, 2, 3), (0, 1, 2, 3))
ELMAN = Cell("elman", elman.GATES, elman.STATES, elman.ACTIVATIONS, (0,), (0,))
CELLS = {cell.name: cell for cell in (GRU, LSTM, ELMAN)}


class _CellType(types.Type):
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        super().__init__(name=f"cell({cell.name})")


register_model(_CellType)(models.OpaqueModel)


@typeof_impl.register(Cell)
def _type_of(value: Cell, context: Any) -> _CellType:
    return _CellType(value)


@lower_constant(_CellType)  # type: ignore[untyped-decorator]
def _lower(context: Any, builder: Any, ty: Any, value: Any) -> Any:
    return context.get_dummy_value()


def cell_forward(cell, W, oh, oc, S, ACT, la, H, K, turn):
    """K steps: see gru.gru_forward."""


def cell_backward(cell, UT, S, ACT, D, la, dh, DH, labelled, H, K):
    """Gradients of the pre-activations: see gru.gru_backward."""


def cell_recurrent_gradient(cell, S, D, la, GR, oh, oc, H, K):
    """Gradients of b, U and c: see gru.gru_recurrent_gradient."""


def cell_bias(cell, W, oc, BIAS, H):
    """What W x + … starts from: see gru.gru_bias."""


def gates(cell):
    """Columns of W, in units of H."""


def states(cell):
    """Numbers of a state, in units of H."""


@overload(cell_forward)
def _forward(cell, W, oh, oc, S, ACT, la, H, K, turn):
    f = {"gru": gru.gru_forward, "lstm": lstm.lstm_forward, "elman": elman.elman_forward}[cell.cell.name]
    return lambda cell, W, oh, oc, S, ACT, la, H, K, turn: f(W, oh, oc, S, ACT, la, H, K, turn)


@overload(cell_backward)
def _backward(cell, UT, S, ACT, D, la, dh, DH, labelled, H, K):
    f = {"gru": gru.gru_backward, "lstm": lstm.lstm_backward, "elman": elman.elman_backward}[cell.cell.name]
    return lambda cell, UT, S, ACT, D, la, dh, DH, labelled, H, K: f(
        UT, S, ACT, D, la, dh, DH, labelled, H, K
    )


@overload(cell_recurrent_gradient)
def _recurrent_gradient(cell, S, D, la, GR, oh, oc, H, K):
    f = {"gru": gru.gru_recurrent_gradient, "lstm": lstm.lstm_recurrent_gradient,
         "elman": elman.elman_recurrent_gradient}[cell.cell.name]  # fmt: skip
    return lambda cell, S, D, la, GR, oh, oc, H, K: f(S, D, la, GR, oh, oc, H, K)


@overload(cell_bias)
def _bias(cell, W, oc, BIAS, H):
    f = {"gru": gru.gru_bias, "lstm": lstm.lstm_bias, "elman": elman.elman_bias}[cell.cell.name]
    return lambda cell, W, oc, BIAS, H: f(W, oc, BIAS, H)


@overload(gates)
def _gates(cell):
    n = cell.cell.gates
    return lambda cell: n


@overload(states)
def _states(cell):
    n = cell.cell.states
    return lambda cell: n
