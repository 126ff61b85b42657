"""A learner's weights in torch's clothing, and back. torch is imported only on use."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.torch_cells import kind_of, weights_of

if TYPE_CHECKING:
    import torch

    from stream_rnn.learner import Learner
    from stream_rnn.torch_backend import TorchLearner

_CELLS = {"gru": "GRU", "lstm": "LSTM", "elman": "RNN"}


def to_torch(learner: Learner) -> torch.nn.Module:
    """See Learner.to_torch."""
    import torch

    classes = learner.input_kind == "classes"

    class RecurrentNetwork(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, _CELLS[learner.cell])(learner.inputs, learner.hidden)
            self.head = torch.nn.Linear(learner.hidden, learner.outputs)

        def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
            if classes:
                x = torch.nn.functional.one_hot(x, learner.inputs).to(self.head.weight.dtype)
            hidden, state = self.rnn(x, state)
            return self.head(hidden), state

    network = RecurrentNetwork()
    weights = {name if name.startswith("head") else f"rnn.{name}_l0": torch.from_numpy(value)
               for name, value in learner.parameters.items()}  # fmt: skip
    network.load_state_dict(weights)
    return network


def network_of(learner: TorchLearner) -> Any:
    """A TorchLearner's cell and head as one module: `cell`, `head`; forward as `to_torch` says."""
    import torch

    from stream_rnn.torch_cells import cell_of

    class CellNetwork(torch.nn.Module):
        """Its state_dict has the names of learner.parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = copy.deepcopy(learner._module.module).cpu(), copy.deepcopy(learner._head).cpu()
            self._steps = cell_of(self.cell, learner.inputs, learner.cell, learner.input_kind == "classes")

        def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
            """x (steps, …) → ŷ (steps, outputs), state; None: the start of a series."""
            cell = self._steps
            parts = cell.zeros(1) if state is None else cell.parts(state)
            found = []
            for one in x.split(1):
                output, parts = cell.step(one, parts)
                found.append(output)
            return self.head(torch.cat(found)), cell.joined(parts)

        def one_step(self) -> torch.nn.Module:
            """forward(x (batch, …), *state's tensors) → (ŷ, *new ones)."""
            head, cell = self.head, self._steps

            class Step(torch.nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.cell, self.head = cell.module, head

                def forward(self, x: Any, *states: Any) -> Any:
                    output, new = cell.step(x, list(states))
                    return (head(output), *new)

            return Step().eval()

    return CellNetwork()


def weights_in(module: torch.nn.Module, learner: TorchLearner) -> dict[str, NDArray[Any]]:
    """The weights of a module that `network_of` made, or that holds one cell of the learner's class and, outside of
    it, one nn.Linear."""
    import torch

    kind = type(learner._module.module)
    cells = [m for m in module.modules() if type(m) is kind]
    inside = {id(m) for c in cells for m in c.modules()}
    heads = [m for m in module.modules() if isinstance(m, torch.nn.Linear) and id(m) not in inside]
    if len(cells) != 1 or len(heads) != 1:
        raise ConfigError(f"{type(module).__name__} holds {len(cells)} {kind.__name__} and {len(heads)} nn.Linear "
                          "outside of it; one of each is needed")  # fmt: skip
    parts = {"cell": cells[0], "head": heads[0]}
    return {learner._named(part, name): p.detach().cpu().numpy() for part, m in parts.items()
            for name, p in m.named_parameters()}  # fmt: skip


def parameters_of(module: torch.nn.Module, cell: str) -> dict[str, NDArray[Any]]:
    """The weights of the one recurrent layer and the one linear layer in a module, under our names."""
    import torch

    kinds = (getattr(torch.nn, _CELLS[cell]), getattr(torch.nn, _CELLS[cell] + "Cell"))
    layers = [m for m in module.modules() if isinstance(m, kinds)]
    heads = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    if len(layers) != 1 or len(heads) != 1:
        raise ConfigError(f"{type(module).__name__} holds {len(layers)} nn.{_CELLS[cell]} and {len(heads)} nn.Linear; "
                          "one of each is needed")
    layer, head = layers[0], heads[0]
    if kind_of(layer) != cell or head.bias is None:
        raise ConfigError(f"nn.{_CELLS[cell]} must be one tanh layer, in one direction, with biases and no projection, "
                          "and nn.Linear must have a bias")
    weights = weights_of(layer)
    weights |= {"head.weight": head.weight.detach().cpu().numpy(), "head.bias": head.bias.detach().cpu().numpy()}
    return {name: np.asarray(w, np.float32) for name, w in weights.items()}
