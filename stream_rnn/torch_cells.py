"""Cells that torch computes: what an nn.Module must be to serve as one, and how it is called.

The protocol: `module(x, state) → (output, state)` with x (batch, inputs) float32, or (batch,) int64 class indices;
output (batch, width) float32; state one float32 tensor with the batch in front, or a tuple or list of those. Asked
with state None the module says what its state looks like; every series then starts from zeros of that shape. A module
that also has `sequence(x (steps, batch, inputs), state) → (outputs (steps, batch, width), state)` is handed whole
windows. torch's own nn.GRUCell, LSTMCell, RNNCell and nn.GRU, LSTM, RNN are taken as they are.

A module runs in eval mode and must be a function of its input: what draws random numbers or changes its buffers as it
goes is refused, for a replay would not give the same. torch is imported when a cell needs it.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.importing import named

Module: TypeAlias = Any  # torch's; torch is imported on use
Tensor: TypeAlias = Any
CellLike: TypeAlias = Any  # one of our names, "module:Class", a class or function (inputs, hidden) → module, a module
_LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_OURS = {"gru": "GRUCell", "lstm": "LSTMCell", "elman": "RNNCell"}


def need_torch(why: str) -> Any:
    """torch, or how to get it."""
    try:
        import torch
    except ImportError:
        raise ConfigError(f"{why} needs torch, which is not installed; pip install 'stream-rnn[torch]'") from None
    return torch


def is_custom(cell: CellLike) -> bool:
    """Whether it is anything but the name of one of our cells.

    >>> is_custom("gru"), is_custom("my_pkg:MyCell")
    (False, True)
    """
    return not isinstance(cell, str) or ":" in cell


def is_ours(cell: CellLike) -> bool:
    """Whether a cell that `is_custom` is one of ours all the same, in torch's clothing."""
    torch = need_torch(f"cell = {label(cell)}")
    if isinstance(cell, str):
        cell = named("cell", cell)
    if isinstance(cell, torch.nn.Module):
        return bool(kind_of(cell))
    return cell in [getattr(torch.nn, name) for name in (*_OURS.values(), "GRU", "LSTM", "RNN")]


def label(cell: CellLike) -> str:
    """How settings and messages name a cell: its import path, as far as it has one."""
    if isinstance(cell, str):
        return cell
    kind = cell if isinstance(cell, type) or hasattr(cell, "__qualname__") else type(cell)
    return f"{kind.__module__}:{kind.__qualname__}"


def only_ours(cell: CellLike, model: str) -> None:
    """ConfigError for a cell of the user's own where there is no room for one."""
    if is_custom(cell):
        raise ConfigError(f"cell = {label(cell)}: a {model} has our cells ({', '.join(_OURS)}); one of your own goes "
                          "with a Learner or a Forecaster")  # fmt: skip


def cell_again(saved: str, given: CellLike | None, how: str) -> CellLike:
    """The cell of a saved model: one of ours by its name; another only as the caller gives it, for it is code, and a
    state must not choose what code runs."""
    if given is not None:
        return given
    if is_custom(saved):
        raise ConfigError(f"the saved network has the cell {saved}, which is code and not saved with it; give it "
                          f"again: {how}")  # fmt: skip
    return saved


def module_of(cell: CellLike, inputs: int, hidden: int, seed: int) -> Module:
    """A module of our own to learn in: made by a class or function, or a copy of the one that was given."""
    torch = need_torch(f"cell = {label(cell)}")
    if isinstance(cell, str):
        cell = named("cell", cell) if ":" in cell else getattr(torch.nn, _OURS[cell])
    if isinstance(cell, torch.nn.Module):
        return copy.deepcopy(cell)
    if not callable(cell):
        raise ConfigError(f"cell = {cell!r}: it must be one of {', '.join(map(repr, _OURS))}, an nn.Module, or a class "
                          'or function (inputs, hidden) → nn.Module, itself or as "module:name"')  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # the same weights for the same seed, and the user's generator as it was
        torch.manual_seed(seed)
        try:
            module = cell(inputs, hidden)
        except Exception as e:  # the user's code may fail in any way
            raise ConfigError(f"cell = {label(cell)}: {label(cell)}(inputs={inputs}, hidden={hidden}) failed: "
                              f"{type(e).__name__}: {e}") from e  # fmt: skip
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"cell = {label(cell)} made a {type(module).__name__}; an nn.Module is needed")
    return module


def kind_of(module: Module) -> str:
    """Which of our cells a module is, "gru", "lstm" or "elman", if it is one exactly; else ""."""
    torch = need_torch("a cell")
    nn = torch.nn
    kinds = {nn.GRUCell: "gru", nn.LSTMCell: "lstm", nn.RNNCell: "elman", nn.GRU: "gru", nn.LSTM: "lstm",
             nn.RNN: "elman"}  # fmt: skip
    kind: str = kinds.get(type(module), "")
    m: Any = module
    plain = kind and m.bias and getattr(m, "nonlinearity", "tanh") == "tanh"
    one_layer = getattr(m, "num_layers", 1) == 1 and not getattr(m, "bidirectional", False)
    plain = plain and one_layer and not getattr(m, "proj_size", 0)
    return kind if plain and all(p.dtype == torch.float32 and p.requires_grad for p in m.parameters()) else ""


def weights_of(module: Module) -> dict[str, NDArray[np.float32]]:
    """The four weights of a module that `kind_of` knows, under our names."""
    suffix = "" if hasattr(module, "weight_ih") else "_l0"
    return {name: getattr(module, name + suffix).detach().cpu().numpy() for name in _LAYER}


def ours(cell: CellLike, inputs: int, hidden: int, seed: int) -> tuple[str, int, dict[str, NDArray[np.float32]]] | None:
    """(name, hidden, weights) of one of our cells in torch's clothing; None if it is anything else."""
    module = module_of(cell, inputs, hidden, seed)
    kind = kind_of(module)
    if not kind:
        return None
    m: Any = module
    if m.input_size != inputs:
        raise ConfigError(f"cell = {label(cell)} takes {m.input_size} inputs, and inputs = {inputs}")
    return kind, m.hidden_size, weights_of(module)


class Cell:
    """A module as the learner calls it: states are lists of tensors, batch in front.

    shapes: of the state's tensors, without the batch. width: of the output.
    """

    def __init__(self, module: Module, inputs: int, name: str, classes: bool = False) -> None:
        self.torch = need_torch(f"cell = {name}")
        self.module: Any = module.eval()
        self.inputs, self.name, self.classes = inputs, name, classes
        self._kind: Any = None  # tuple or list, if the state is one
        self._sequence = getattr(module, "sequence", None)
        self._probe()

    # What the learner calls

    def step(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One step of a batch: output (batch, width), new states."""
        output, state = self.module(x, self.joined(states))
        return output, self.parts(state)

    def outputs(self, X: Tensor, states: list[Tensor], wanted: list[int]) -> Tensor:
        """The steps X (steps, …) of one series, one after the other; outputs (len(wanted), width) of those wanted."""
        state = self.joined(states)
        if self._sequence is not None:
            every = self._sequence(X[:, None], state)[0][:, 0]
            return every if len(wanted) == len(every) else every[wanted]
        found = []
        for x in X.split(1):
            output, state = self.module(x, state)
            found.append(output)
        return self.torch.cat([found[s] for s in wanted])

    def zeros(self, batch: int) -> list[Tensor]:
        """The state that every series starts from."""
        return [self.torch.zeros(batch, *shape) for shape in self.shapes]

    def joined(self, states: list[Tensor]) -> Any:
        """The state as the module wants it."""
        return states[0] if self._kind is None else self._kind(states)

    def parts(self, state: Any) -> list[Tensor]:
        """The other way round."""
        return [state] if self._kind is None else list(state)

    def _real(self, x: Tensor) -> Tensor:
        """Class indices as torch's own modules take them: one hot."""
        return self.torch.nn.functional.one_hot(x, self.inputs).float() if self.classes else x

    # What it is

    def _probe(self) -> None:
        """Find the sizes by a first call, and refuse what cannot be replayed."""
        before = [b.clone() for b in self.module.buffers()]
        state = self._called(None)[1]
        self._kind = next((kind for kind in (tuple, list) if isinstance(state, kind)), None)
        if self._kind is not None and type(state) is not self._kind:
            self._kind = type(state)._make if hasattr(state, "_make") else self._kind  # a named tuple
        parts = self.parts(state)
        for part in parts:
            self._check("state", part, 1)
        self.shapes = [tuple(part.shape[1:]) for part in parts]
        first, second = (self._called(self.zeros(1)) for _ in range(2))
        self._check("output", first[0], 1)
        if first[0].dim() != 2:
            self._refuse(f"its output has shape {tuple(first[0].shape)} for a batch of 1; it must be (batch, width)")
        self.width: int = first[0].shape[1]
        new = self.parts(first[1])
        if [tuple(part.shape) for part in new] != [(1, *shape) for shape in self.shapes]:
            self._refuse("its state has another shape after a second step than after the first")
        for a, b in zip([first[0], *new], [second[0], *self.parts(second[1])], strict=True):
            if not self.torch.equal(a, b):
                self._refuse("it gives something else for the same input each time (random numbers?), so nothing "
                             "could be replayed")  # fmt: skip
        if not all(map(self.torch.equal, before, self.module.buffers())):
            self._refuse("it changes its buffers as it goes; what a cell remembers must be in its state")

    def check_batch(self) -> None:
        """ConfigError unless two series get in a batch what each gets alone."""
        torch = self.torch
        x = torch.tensor([0, self.inputs - 1]) if self.classes else torch.linspace(-1, 1, 2 * self.inputs).view(2, -1)
        states = [torch.linspace(-1, 1, z.numel()).view(z.shape) for z in self.zeros(2)]
        try:
            with torch.no_grad():
                together, new = self.step(x, states)
                alone = [self.step(x[i : i + 1], [s[i : i + 1] for s in states]) for i in range(2)]
            both = [together, *new]
            each = [torch.cat(rows) for rows in zip(*([output, *state] for output, state in alone), strict=True)]
            same = all(torch.allclose(a, b, atol=1e-5) for a, b in zip(both, each, strict=True))
        except Exception as e:  # the user's code may fail in any way
            self._refuse(f"it cannot take a batch of 2 (batch > 1, or a GPU): {type(e).__name__}: {e}")
        if not same:
            self._refuse("in a batch of 2 (batch > 1, or a GPU) it gives something else than for each row alone")

    def _called(self, states: list[Tensor] | None) -> tuple[Tensor, Any]:
        """One call with an input of zeros; a ConfigError for what may go wrong."""
        torch = self.torch
        x = torch.zeros(1, dtype=torch.int64) if self.classes else torch.zeros(1, self.inputs)
        try:
            with torch.no_grad():
                found = self._first(x) if states is None else self.module(x, self.joined(states))
        except Exception as e:  # the user's code may fail in any way
            told = "None" if states is None else "as it gave it"
            self._refuse(f"called with x of shape {tuple(x.shape)} ({self._shape_of_x()}) and state {told} it failed: "
                         f"{type(e).__name__}: {e}")  # fmt: skip
        if not isinstance(found, tuple) or len(found) != 2:
            self._refuse(f"it gives a {type(found).__name__}; (output, state) is needed")
        return found

    def _first(self, x: Tensor) -> Any:
        return self.module(x, None)

    def _shape_of_x(self) -> str:
        return "(batch,), class indices" if self.classes else f"(batch, inputs = {self.inputs})"

    def _check(self, what: str, tensor: Any, batch: int) -> None:
        torch = self.torch
        if not isinstance(tensor, torch.Tensor):
            self._refuse(f"its {what} holds a {type(tensor).__name__}; it must be a tensor"
                         + (", or a tuple or list of tensors" if what == "state" else ""))  # fmt: skip
        if tensor.dtype != torch.float32 or tensor.dim() < 1 or tensor.shape[0] != batch:
            self._refuse(f"its {what} is {tensor.dtype} of shape {tuple(tensor.shape)} for a batch of {batch}; it must "
                         "be float32 with the batch in front")  # fmt: skip

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigError(f"cell = {self.name}: {why}. A cell takes (x, state) and gives (output, state)")


class OneStep(Cell):
    """nn.GRUCell, nn.LSTMCell, nn.RNNCell: the new state is all they give, and h of it is the output."""

    def step(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See Cell."""
        new = self.parts(self.module(self._real(x), self.joined(states)))
        return new[0], new

    def outputs(self, X: Tensor, states: list[Tensor], wanted: list[int]) -> Tensor:
        """See Cell."""
        state = self.joined(states)
        found = []
        for x in self._real(X).split(1):
            state = self.module(x, state)
            found.append(state if self._kind is None else state[0])
        return self.torch.cat([found[s] for s in wanted])

    def _called(self, states: list[Tensor] | None) -> tuple[Tensor, Any]:
        torch = self.torch
        if self.module.input_size != self.inputs:
            self._refuse(f"it takes {self.module.input_size} inputs, and inputs = {self.inputs}")
        state = self.module(torch.zeros(1, self.inputs))
        return (state[0] if isinstance(state, tuple) else state), state


class Layers(Cell):
    """nn.GRU, nn.LSTM, nn.RNN, of any number of layers: they take whole windows, and the batch is second."""

    def step(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See Cell."""
        found, state = self._run(self._real(x)[None], states)
        return found[0], self.parts(state)

    def outputs(self, X: Tensor, states: list[Tensor], wanted: list[int]) -> Tensor:
        """See Cell."""
        every = self._run(self._real(X)[:, None], states)[0][:, 0]
        return every if len(wanted) == len(every) else every[wanted]

    def _run(self, X: Tensor, states: list[Tensor] | None) -> tuple[Tensor, Any]:
        """X (steps, batch, inputs) through all layers: (outputs (steps, batch, width), state)."""
        first = self.module.batch_first
        swapped = None if states is None else self.joined([s.transpose(0, 1).contiguous() for s in states])
        found, state = self.module(X.transpose(0, 1) if first else X, swapped)
        back = tuple(s.transpose(0, 1) for s in (state if isinstance(state, tuple) else (state,)))
        return (found.transpose(0, 1) if first else found), back if isinstance(state, tuple) else back[0]

    def _called(self, states: list[Tensor] | None) -> tuple[Tensor, Any]:
        if self.module.bidirectional:
            self._refuse("it reads in both directions, and what comes later is not known yet")
        if self.module.input_size != self.inputs:
            self._refuse(f"it takes {self.module.input_size} inputs, and inputs = {self.inputs}")
        with self.torch.no_grad():
            found, state = self._run(self.torch.zeros(1, 1, self.inputs), states)
        return found[0], state


def cell_of(module: Module, inputs: int, name: str, classes: bool = False) -> Cell:
    """The module as a cell."""
    nn = need_torch(f"cell = {name}").nn
    forward = type(module).forward  # a class that only adds to torch's is still called as torch's
    if forward in (nn.GRUCell.forward, nn.LSTMCell.forward, nn.RNNCell.forward):
        return OneStep(module, inputs, name, classes)
    if forward in (nn.GRU.forward, nn.LSTM.forward, nn.RNN.forward):
        return Layers(module, inputs, name, classes)
    return Cell(module, inputs, name, classes)


def width_of(cell: CellLike, inputs: int, hidden: int, seed: int) -> int:
    """How wide a cell's output is."""
    if not is_custom(cell):
        return hidden
    return cell_of(module_of(cell, inputs, hidden, seed), inputs, label(cell)).width

