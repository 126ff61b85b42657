"""A learner's weights in torch's clothing, and back. torch is imported only on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from stream_rnn.learner import Learner

_CELLS = {"gru": "GRU", "lstm": "LSTM", "elman": "RNN"}
_LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


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


def parameters_of(module: torch.nn.Module, cell: str) -> dict[str, NDArray[Any]]:
    """The weights of the one recurrent layer and the one linear layer in a module, under our names."""
    import torch

    wanted = getattr(torch.nn, _CELLS[cell])
    layers = [m for m in module.modules() if isinstance(m, wanted)]
    heads = [m for m in module.modules() if isinstance(m, torch.nn.Linear)]
    if len(layers) != 1 or len(heads) != 1:
        raise ConfigError(f"{type(module).__name__} holds {len(layers)} nn.{_CELLS[cell]} and {len(heads)} nn.Linear; "
                          "one of each is needed")
    layer, head = layers[0], heads[0]
    plain = layer.num_layers == 1 and not layer.bidirectional and layer.bias and not getattr(layer, "proj_size", 0)
    if not plain or getattr(layer, "nonlinearity", "tanh") != "tanh" or head.bias is None:
        raise ConfigError(f"nn.{_CELLS[cell]} must be one tanh layer, in one direction, with biases and no projection, "
                          "and nn.Linear must have a bias")
    weights = {name: getattr(layer, f"{name}_l0") for name in _LAYER}
    weights |= {"head.weight": head.weight, "head.bias": head.bias}
    return {name: np.asarray(w.detach().cpu().numpy(), np.float32) for name, w in weights.items()}
