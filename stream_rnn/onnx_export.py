"""One step of a learner's network as an ONNX model, for whatever runs those: a phone, a browser, a PLC, C++, Rust.

Inputs: x (batch, inputs) float32, or (batch,) int64 class indices; then the state's tensors, batch in front (h; an
LSTM's h, c; a cell of the user's own: state0, state1, …), zeros at a series' start. Outputs: y (batch, outputs), then
the new state in the same order: output i is input i of the next step. Our own cells are written down as the formulas
that they are, which needs the package onnx alone; torch exports a cell of the user's own. Metadata: the settings.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_rnn.errors import ConfigError
from stream_rnn.kernels.cells import CELLS
from stream_rnn.safetensors import write_whole

if TYPE_CHECKING:
    from stream_rnn.learner import Learner

_OPSET, _IR = 17, 8  # of 2022: what runtimes of today all read


def write(learner: Learner, path: str | os.PathLike[str], about: Mapping[str, str] | None = None) -> None:
    """Write the model to a file, whole or not at all; `about`: more metadata."""
    onnx = _onnx()
    model = _written_down(onnx, learner) if learner.cell in CELLS else _exported(learner)
    metadata = {"made by": "stream_rnn", "learner": json.dumps(learner.settings), **(about or {})}
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    write_whole(Path(path), model.SerializeToString())


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise ConfigError("an ONNX file needs the package onnx; pip install 'stream-rnn[onnx]'") from None
    return onnx


class _Graph:
    """Nodes as they are called for; a call gives the name of what comes out."""

    def __init__(self, onnx: Any) -> None:
        self._helper, self._numpy = onnx.helper, onnx.numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        name = to or f"v{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """A weight."""
        self.constants.append(self._numpy.from_array(np.ascontiguousarray(value), name))
        return name

    def linear(self, x: str, weights: Mapping[str, Any], weight: str, bias: str, to: str | None = None) -> str:
        """weight x + bias."""
        return self("Gemm", x, *(self.constant(n, weights[n]) for n in (weight, bias)), transB=1, to=to)

    def split(self, x: str, parts: int) -> list[str]:
        """Equal parts along the columns."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(parts)]
        self.nodes.append(self._helper.make_node("Split", [x], names, axis=1))
        return names


def _written_down(onnx: Any, learner: Learner) -> Any:
    """GRU, LSTM or Elman, then the head: torch's formulas in elementary operations."""
    g, helper, kinds = _Graph(onnx), onnx.helper, onnx.TensorProto
    weights = learner.parameters
    classes = learner.input_kind == "classes"
    if classes:
        table = g.constant("weight_ih", weights["weight_ih"].T)
        from_x = g("Add", g("Gather", table, "x"), g.constant("bias_ih", weights["bias_ih"]))
    else:
        from_x = g.linear("x", weights, "weight_ih", "bias_ih")
    from_h = g.linear("h", weights, "weight_hh", "bias_hh")
    states = ["h"]
    if learner.cell == "elman":
        g("Tanh", g("Add", from_x, from_h), to="h_next")
    elif learner.cell == "gru":
        (xr, xz, xn), (hr, hz, hn) = g.split(from_x, 3), g.split(from_h, 3)
        r, z = g("Sigmoid", g("Add", xr, hr)), g("Sigmoid", g("Add", xz, hz))
        n = g("Tanh", g("Add", xn, g("Mul", r, hn)))
        g("Add", n, g("Mul", z, g("Sub", "h", n)), to="h_next")
    else:
        states.append("c")
        i, f, c, o = g.split(g("Add", from_x, from_h), 4)
        kept, new = g("Mul", g("Sigmoid", f), "c"), g("Mul", g("Sigmoid", i), g("Tanh", c))
        g("Add", kept, new, to="c_next")
        g("Mul", g("Sigmoid", o), g("Tanh", "c_next"), to="h_next")
    g.linear("h_next", weights, "head.weight", "head.bias", to="y")

    def value(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", width])

    x = helper.make_tensor_value_info("x", kinds.INT64, ["batch"]) if classes else value("x", learner.inputs)
    inputs = [x, *(value(s, learner.hidden) for s in states)]
    outputs = [value("y", learner.outputs), *(value(f"{s}_next", learner.hidden) for s in states)]
    graph = helper.make_graph(g.nodes, f"one step of {learner.cell}", inputs, outputs, g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def _exported(learner: Any) -> Any:
    """A cell of the user's own, as torch exports it; of any batch if the cell can, else of one."""
    import torch

    network = learner.to_torch()
    states = [s.cpu() for s in learner.start_state()]
    step, names = network.one_step(), [f"state{i}" for i in range(len(states))]
    x = torch.zeros(1, dtype=torch.int64) if learner.input_kind == "classes" else torch.zeros(1, learner.inputs)
    how: Any = {"input_names": ["x", *names], "output_names": ["y", *(f"{s}_next" for s in names)], "dynamo": True,
           "verbose": False}  # fmt: skip
    batch = torch.export.Dim("batch")
    shapes = ({0: batch}, tuple({0: batch} for _ in states))
    two = tuple(torch.cat([t, t]) for t in (x, *states))

    def attempt(arguments: Any, **more: Any) -> Any:
        """What the exporter itself has to say about other packages helps nobody here."""
        talk = logging.getLogger("torch.onnx")
        level = talk.level
        talk.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.onnx.export(step, arguments, **how, **more).model_proto  # type: ignore[union-attr]
        finally:
            talk.setLevel(level)

    try:
        try:
            return attempt(two, dynamic_shapes=shapes)
        except ImportError:
            raise
        except Exception:  # a cell that is made for a batch of one
            return attempt((x, *states))
    except ImportError as e:
        raise ConfigError(f"torch's ONNX export needs more packages ({e}); pip install 'stream-rnn[onnx]'") from None
    except Exception as e:
        raise ConfigError(f"cell = {learner.cell} cannot be exported to ONNX: {type(e).__name__}: {e}") from e
