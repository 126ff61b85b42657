"""The torch backend: any nn.Module as the cell, by the rule, with the bits and under the names of the kernels."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from typing import Any

import cells
import numpy as np
import numpy.testing as npt
import onnx
import onnxruntime
import oracle
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from test_late_labels import events as late_labels
from test_learner import arrays, assert_same, cuts, stream
from test_learner_oracle import (
    ADAM_TOLERANCE,
    MISTAKES,
    SGD_TOLERANCE,
    Stream,
    calls,
    error,
    learners,
    streams,
)
from torch import nn

from stream_rnn import Engine, Forecaster, Learner
from stream_rnn.classifier import Classifier
from stream_rnn.connectors.memory import MemorySink, MemorySource
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.regressor import Regressor
from stream_rnn.stopwatch import Stopwatch
from stream_rnn.textmodel import TextModel
from stream_rnn.torch_backend import TorchLearner

I, O, H = 3, 2, 6


def made(cell: Any = cells.Gated, **options: Any) -> Learner:
    return Learner(I, O, **{"cell": cell, "hidden": H, "k1": 3, "k2": 7, "lr": 0.02, **options})


# the rule


class InItsNames:
    """A learner with a cell of the user's own, whose parameters have the oracle's names."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        return {name.removeprefix("cell."): p for name, p in self._learner.parameters.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)


@pytest.fixture
def oracle_of_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(oracle.CELLS, "gated", cells.GatedAlone)


@pytest.mark.usefixtures("oracle_of_gated")
@pytest.mark.parametrize("loss", ["squared", "huber", "quantile", "cross_entropy"])
def test_a_cell_of_the_users_own_learns_what_the_oracle_learns(loss: str) -> None:
    @seed(7)
    @settings(max_examples=2, database=None, deadline=None, suppress_health_check=list(HealthCheck),
              phases=[Phase.generate])  # fmt: skip
    @given(some=learners(loss), stream=streams())
    def check(some: dict[str, Any], stream: Stream) -> None:
        some |= {"input_kind": "real", "hidden": min(some["hidden"], 8), "k1": min(some["k1"], 4)}
        some["k2"] = min(some["k2"], 6)
        learner = InItsNames(Learner(cell=cells.Gated, **some))
        start = learner.parameters
        right = oracle.Oracle(start, cell="gated", **some)
        for at, (name, arguments, named) in enumerate(calls(stream, some)[:90]):
            got, wanted = (getattr(model, name)(*arguments, **named) for model in (learner, right))
            where = f"call {at}: {name}"
            if name == "label":
                assert got == wanted or np.isnan(arguments[0]).all(), where
            elif name != "reset":
                npt.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4, err_msg=where)
        for name in ("steps", "updates", "refused_x", "refused_y"):
            assert learner.counters[name] == right.counters[name], name
        assert right.counters["updates"] >= 3
        far = error(learner, right, start, some)
        assert far <= (SGD_TOLERANCE if some["optimizer"] == "sgd" else ADAM_TOLERANCE)

    check()


@pytest.mark.usefixtures("oracle_of_gated")
@pytest.mark.parametrize("wrong", sorted(oracle.WRONG.keys() - {"one bias"}))
def test_a_mistake_would_be_seen(wrong: str) -> None:
    """The same comparison with an oracle that errs: at least 30 times further than rounding goes."""
    some = {"inputs": 3, "outputs": 2, "hidden": 6, "loss": "squared", "clip": 1.0, "optimizer": "sgd", "lr": 0.15}
    some |= MISTAKES[wrong]
    events = Stream(seed=3, keys=2, how="steps", missing=0.2, resets=0.06, refused=0.0, weighted=False)
    learner = InItsNames(Learner(cell=cells.Gated, **some))
    start = learner.parameters
    right, other = (oracle.Oracle(start, cell="gated", **some, wrong=w) for w in ("", wrong))
    for name, arguments, named in calls(events, some)[:80]:
        for model in (learner, right, other):
            getattr(model, name)(*arguments, **named)
    assert error(learner, right, start, some) <= SGD_TOLERANCE
    assert error(learner, other, start, some) >= 30 * SGD_TOLERANCE


# ours in torch's clothing


def fed(learner: Learner) -> np.ndarray:
    """Everything there is: dirty events, late labels, resets, weights, lags; the predictions."""
    X, Y, keys = stream(80)
    learner.step_many(X[:40], Y[:40], keys[:40], weights=np.linspace(0, 2, 40))
    learner.reset(keys[3])
    for t in range(40, 60):
        learner.advance(X[t], keys[t])
        learner.label(Y[t], keys[t], back=t % 9)
    learner.step(X[60], Y[60], keys[60])
    return learner.advance_many(X[60:], Y[60:], keys[60:], lags=[0, 2])


def assert_close(a: Learner, b: Learner, atol: float = 2e-5) -> None:
    npt.assert_allclose(fed(a), fed(b), atol=atol)
    for name, value in a.parameters.items():
        npt.assert_allclose(b.parameters[name], value, atol=atol, err_msg=name)
    assert a.counters == b.counters
    npt.assert_allclose(np.squeeze(b.state("a")), a.state("a"), atol=atol)


@pytest.mark.parametrize("k1, k2, wait", [(1, 4, 9), (3, 5, 8), (2, 2, 6)])
def test_late_labels_are_learnt_as_our_kernels_learn_them(k1: int, k2: int, wait: int) -> None:
    X, Y, back, keys = late_labels(100, wait)
    some: dict[str, Any] = {"cell": "gru", "hidden": H, "k1": k1, "k2": k2, "lr": 0.02, "seed": 3}
    fused, slow, batched, deaf = (
        Learner(2, wait=wait, **some),
        Learner(2, wait=wait, backend="torch", **some),
        Learner(2, wait=wait, backend="torch", batch=4, **some),
        Learner(2, backend="torch", **some),
    )
    wanted = fused.take_many(X, Y, back, keys)
    assert fused.counters["updates"] > 20
    for learner in (slow, batched):
        npt.assert_allclose(learner.take_many(X, Y, back, keys), wanted, atol=2e-5)
        npt.assert_allclose(learner.parameters["weight_hh"], fused.parameters["weight_hh"], atol=2e-5)
        assert learner.counters == fused.counters
    assert np.nanmax(np.abs(deaf.take_many(X, Y, back, keys) - wanted)) > 1e-3
    (a, hidden), (b, wanted_hidden) = (m.look_many(X[:2], m.keyspace.enter_many(["a", "b"])) for m in (slow, fused))
    npt.assert_allclose(a, b, atol=2e-5)
    npt.assert_allclose(hidden, wanted_hidden, atol=2e-5)


OTHERS: list[dict[str, Any]] = [
    {},
    {"loss": "huber", "optimizer": "adamw", "horizon": 3, "clip": 0.1},
    {"loss": "quantile", "quantiles": (0.3,), "optimizer": "sgd", "momentum": 0.8},
]


@pytest.mark.parametrize("more", OTHERS, ids=str)
@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
def test_torch_gives_what_our_kernels_give(cell: str, more: dict[str, Any]) -> None:
    fused, slow = made(cell, **more), made(cell, backend="torch", **more)
    assert isinstance(slow, TorchLearner)
    assert not isinstance(fused, TorchLearner)
    assert_same(fused.parameters, slow.parameters)
    other = made(cell, seed=3, backend="torch", **more)
    assert_close(fused, slow)
    assert np.abs(fed(other) - fed(made(cell, **more))).max() > 1e-2


@pytest.mark.parametrize("module", [nn.GRUCell, nn.LSTMCell, nn.RNNCell, nn.GRU, nn.LSTM, nn.RNN])
def test_a_module_of_ours_runs_on_the_kernels_from_its_weights(module: type[nn.Module]) -> None:
    torch.manual_seed(5)
    cell = module(I, H)
    before = copy.deepcopy(cell.state_dict())
    fused, slow = made(cell), made(cell, backend="torch")
    assert type(fused) is Learner
    assert fused.hidden == H
    assert isinstance(slow, TorchLearner)
    for learner in (fused, slow):
        npt.assert_array_equal(learner.parameters["weight_hh"], next(v for k, v in before.items() if "weight_hh" in k))
    assert_close(fused, slow)
    assert all(torch.equal(v, before[k]) for k, v in cell.state_dict().items()), "the user's module is left alone"
    for given_ in (module, f"torch.nn:{module.__name__}"):
        assert type(made(given_)) is Learner
        assert_same(made(given_, seed=4).parameters, made(module, seed=4).parameters)


TORCHS = [
    nn.GRUCell(I, H, bias=False),
    nn.RNNCell(I, H, nonlinearity="relu"),
    nn.GRU(I, H, 2),
    nn.LSTM(I, H, batch_first=True, num_layers=2),
]


@pytest.mark.parametrize("module", TORCHS, ids=str)
def test_torchs_other_modules_are_cells_too(module: nn.Module) -> None:
    learner = made(module, max_updates=0)
    assert isinstance(learner, TorchLearner)
    X = stream(25)[0][:, :I]
    X = np.nan_to_num(X, posinf=0)
    got = learner.step_many(X)
    with torch.no_grad():
        if isinstance(module, nn.RNNCellBase):
            state, found = None, []
            for x in torch.from_numpy(X):
                state = module(x, state)
                found.append(state)
            hidden = torch.stack(found)
        else:
            hidden = module(torch.from_numpy(X)[None] if module.batch_first else torch.from_numpy(X))[0].reshape(25, -1)
    wanted = hidden.numpy() @ learner.parameters["head.weight"].T + learner.parameters["head.bias"]
    npt.assert_allclose(got, wanted, atol=1e-5)


def test_class_inputs_are_indices_to_a_cell_of_the_users_own() -> None:
    ids, Y = np.random.default_rng(0).integers(0, 9, 60), np.random.default_rng(1).normal(size=(60, O))
    learner = Learner(9, O, cell=cells.Embedded, hidden=4, k1=2, k2=4, input_kind="classes")
    learner.step_many(ids, Y)
    assert learner.counters["updates"] == 30
    assert np.isnan(learner.step(9.0)).all()
    some: dict[str, Any] = {"cell": "gru", "hidden": 4, "k1": 2, "k2": 4, "input_kind": "classes"}
    a, b = (Learner(9, O, backend=backend, **some) for backend in ("fused", "torch"))
    npt.assert_allclose(a.step_many(ids, Y), b.step_many(ids, Y), atol=1e-5)


def test_only_what_may_learn_learns() -> None:
    learner = made(cells.Reservoir)
    before = learner.parameters
    learner.step_many(*stream(40))
    after = learner.parameters
    npt.assert_array_equal(after["cell.V"], before["cell.V"])
    assert (after["head.weight"] != before["head.weight"]).any()
    assert "buffers.cell.W" in learner.shared_arrays()


def test_a_state_may_have_several_shapes() -> None:
    learner = made(cells.Delay)
    learner.step_many(*stream(40))
    assert (learner.hidden, learner.state("a").shape) == (3, (2 * H + I,))
    _, hidden = learner.step_many(np.ones((2, I)), None, ["a", "a"], return_hidden=True)
    assert hidden.shape == (2, 3)


def test_a_cell_that_takes_whole_windows_is_given_them() -> None:
    class Windows(cells.Gated):
        calls = 0

        def sequence(self, X, state):
            Windows.calls += 1
            found = []
            for x in X:
                output, state = self(x, state)
                found.append(output)
            return torch.stack(found), state

    assert_close(made(cells.Gated, seed=2), made(Windows, seed=2))
    assert Windows.calls > 5


# the same bits


@pytest.mark.parametrize("cell", [cells.Gated, cells.Delay, "gru"])
def test_any_split_of_a_stream_gives_the_same_bits(cell: Any) -> None:
    X, Y, keys = stream(60)
    one, split = made(cell, backend="torch"), made(cell, backend="torch")
    outs = [one.step(*each) for each in zip(X, Y, keys, strict=True)]
    blocks = [split.step_many(X[c], Y[c], [keys[t] for t in c]) for c in cuts(60, 1)]
    npt.assert_array_equal(np.concatenate(blocks), outs)
    assert split.to_bytes() == one.to_bytes()
    torch.set_num_threads(2)  # what others set does not matter
    again = made(cell, backend="torch")
    torch.set_num_threads(2)
    npt.assert_array_equal(again.step_many(X, Y, keys), outs)
    assert again.to_bytes() == one.to_bytes()


def test_two_threads_give_the_bits_of_one_after_the_other() -> None:
    X, Y, keys = stream(80)
    alone, together = ([made(seed=s) for s in (1, 2)] for _ in range(2))
    for learner in alone:
        learner.step_many(X, Y, keys)

    def run(learner: Learner) -> None:
        torch.set_num_threads(2)
        for c in cuts(80, 5):
            learner.step_many(X[c], Y[c], [keys[t] for t in c])

    threads = [threading.Thread(target=run, args=[learner]) for learner in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.to_bytes() for a in together] == [a.to_bytes() for a in alone]


@pytest.mark.parametrize("optimizer", [{"optimizer": "adamw"}, {"optimizer": "sgd", "momentum": 0.9}])
@pytest.mark.parametrize("cell", [cells.Gated, cells.Reservoir])
def test_saved_and_loaded_goes_on_bit_for_bit(cell: Any, optimizer: dict[str, Any]) -> None:
    X, Y, keys = stream(50)
    whole, broken = made(cell, **optimizer), made(cell, **optimizer)
    wanted = whole.step_many(X, Y, keys)
    for t in range(50):
        npt.assert_array_equal(broken.step(X[t], Y[t], keys[t]), wanted[t])
        if t % 7 == 0:
            broken = Learner.from_bytes(broken.to_bytes(), cell=cell)
        if t % 7 == 3:
            broken = (pickle.loads(pickle.dumps(broken)), copy.deepcopy(broken))[t % 2]
    assert broken.to_bytes() == whole.to_bytes()
    assert_same(arrays(broken), arrays(whole))


def test_a_state_does_not_choose_what_code_runs() -> None:
    learner = made("cells:Gated")
    learner.step_many(*stream(20))
    raw = learner.to_bytes()
    with pytest.raises(ConfigError) as caught:
        Learner.from_bytes(raw)
    assert all(word in str(caught.value) for word in ("cells:Gated", "cell=")), caught.value
    for cell in (cells.Gated, "cells:Gated", cells.Gated(I, H)):
        assert Learner.from_bytes(raw, cell=cell).parameters.keys() == learner.parameters.keys()
    with pytest.raises(StateMismatch) as mismatch:
        Learner.from_bytes(raw, cell=cells.Delay)
    assert "cell.lstm.weight_ih" in str(mismatch.value)


def test_models_without_room_for_a_cell_of_the_users_own_say_so() -> None:
    for model in (Regressor, Classifier, TextModel):
        with pytest.raises(ConfigError) as caught:
            model(cell="cells:Gated")
        assert all(word in str(caught.value) for word in ("cells:Gated", model.__name__, "Forecaster"))


def test_a_state_of_another_torch_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    learner = made()
    learner.step_many(*stream(20))
    older = {name: array.copy() for name, array in learner.shared_arrays().items()}
    made().load_shared(older)
    assert not caplog.records
    older["torch"] = np.frombuffer(b"2.4.0".ljust(32, b"\0"), np.uint8)
    taken = made()
    taken.load_shared(older)
    assert all(word in caplog.text for word in ("2.4.0", torch.__version__, "rounding"))
    assert_same(taken.parameters, learner.parameters)


def test_keys_that_advance_together_get_what_each_gets_alone() -> None:
    """Batches of keys: the same to rounding, whatever is between the updates; and a batch does what it should."""
    X, Y, _ = stream(150)
    keys = [f"k{k}" for k in np.random.default_rng(3).integers(0, 12, 150)]
    sizes: list[int] = []

    class Counting(cells.Gated):
        def forward(self, x, state):
            sizes.append(len(x))
            return super().forward(x, state)

    for cut in ({}, {"max_updates": 4}):
        alone, together = made(cells.Gated, **cut), made(Counting, batch=8, **cut)
        a, b = (learner.step_many(X, Y, keys) for learner in (alone, together))
        npt.assert_allclose(b, a, atol=2e-5)
        a, b = (learner.advance_many(X, Y, keys, lags=[0, 1]) for learner in (alone, together))
        npt.assert_allclose(b, a, atol=2e-5)
        assert together.counters == alone.counters
        assert_close(alone, together)
        assert max(sizes) > 3


# refusals


class Wrong(nn.Module):
    """A cell with something wrong."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("count", torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float16 if how == "half" else torch.float32))

    def forward(self, x, state):
        if self.how == "needs a state" and state is None:
            raise TypeError("unsupported operand")
        state = torch.zeros(len(x), 2) if state is None else state
        if self.how == "buffer":
            self.count += 1
        out = {"random": torch.rand(len(x), 2), "double": state.double(), "flat": state[:, 0]}.get(self.how, state)
        if self.how == "alone":
            return out
        return out, {"dict": {"h": state}, "grows": torch.cat([state, x], 1)}.get(self.how, state)


@pytest.mark.parametrize(
    "cell, says",
    [
        ("gruu", ["cell", "gruu", "gru"]),
        (3, ["cell", "3"]),
        ("no_such_module:Cell", ["no_such_module"]),
        ("cells:Gatd", ["cells:Gatd", "Gatd"]),
        (lambda inputs, hidden: None, ["NoneType", "nn.Module"]),
        (lambda inputs: nn.Identity(), ["inputs=3, hidden=6", "TypeError"]),
        (nn.GRUCell(5, 4), ["5 inputs", "inputs = 3"]),
        (nn.GRU(5, 4, 2), ["5 inputs", "inputs = 3"]),
        (nn.GRU(I, 4, bidirectional=True), ["both directions"]),
        (cells.Gated(5, 4), ["(1, 3)", "inputs = 3", "failed"]),
        (Wrong("needs a state"), ["state None", "unsupported operand"]),
        (Wrong("alone"), ["Tensor", "(output, state)"]),
        (Wrong("random"), ["something else", "same input"]),
        (Wrong("buffer"), ["buffers"]),
        (Wrong("double"), ["float64", "float32"]),
        (Wrong("flat"), ["(batch, width)"]),
        (Wrong("dict"), ["dict", "tuple or list"]),
        (Wrong("grows"), ["another shape"]),
        (Wrong("half"), ["cell.weight", "float16"]),
    ],
    ids=lambda v: v if isinstance(v, str) else getattr(v, "how", None),
)
def test_a_cell_that_cannot_serve_is_refused_with_the_reason(cell: Any, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        made(cell)
    assert all(word in str(caught.value) for word in says), caught.value


class Mean(cells.Gated):
    """Its rows see one another."""

    def forward(self, x, state):
        output, state = super().forward(x, state)
        return output - output.mean(0) * (len(x) > 1), state


def test_a_cell_whose_rows_see_one_another_gets_no_batches() -> None:
    made(Mean)
    with pytest.raises(ConfigError, match="batch of 2"):
        made(Mean, batch=4)


def test_a_cell_may_work_in_place_and_be_a_subclass_of_torchs() -> None:
    class InPlace(cells.Gated):
        def forward(self, x, state):
            output, new = super().forward(x, state)
            if state is not None:
                state.fill_(7.0)
            return output.clone(), new

    class Named(nn.LSTM):
        """Adds nothing."""

    assert_close(made(cells.Gated, seed=2, k1=1), made(InPlace, seed=2, k1=1))
    torch.manual_seed(0)
    plain = nn.LSTM(I, H)
    named = Named(I, H)
    named.load_state_dict(plain.state_dict())
    wanted = fed(made(plain))
    npt.assert_allclose(fed(made(named)), wanted, atol=2e-5)
    npt.assert_allclose(fed(made(named, batch=4)), wanted, atol=2e-5)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"backend": "fused"}, ["fused", "cells:Gated", "torch"]),
        ({"backend": "jax"}, ["backend", "jax", "fused"]),
        ({"device": "tpu"}, ["device", "tpu"]),
        ({"cell": "gru", "batch": 4}, ["batch", "4", "torch"]),
        ({"batch": -1}, ["batch", "-1"]),
    ],
)
def test_a_wrong_setting_is_named(arguments: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**arguments)
    assert all(word in str(caught.value) for word in says), caught.value


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, so asking for one is right")
def test_without_a_gpu_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        made(device="cuda")


def test_a_refused_event_moves_nothing_and_a_wrong_gradient_neither() -> None:
    class Root(cells.Gated):
        """Its slope at 0 is infinite."""

        def forward(self, x, state):
            output, state = super().forward(x, state)
            return output + torch.sqrt(torch.abs(x[:, :1])), state

    learner = made(Root, k1=1)
    learner.step_many(np.ones((5, I)), np.ones((5, O)))
    before = arrays(learner)
    assert np.isnan(learner.step([1, np.inf, 1], [1, 1])).all()
    assert np.isnan(learner.step([3e38, 3e38, 3e38], [np.inf, 1])).sum() == 0
    assert learner.label([np.inf, 0]) is False
    assert_same(arrays(learner), before)
    weights = learner.parameters
    learner.load_parameters({"cell.gate.weight": np.full((H, I + H), 3e38)})
    learner.step([1, 1, 1], [1e30, 1e30])  # the loss overflows
    learner.load_parameters({"cell.gate.weight": weights["cell.gate.weight"]})
    assert_same(learner.parameters, weights)
    assert learner.counters["refused_updates"] == 1


SCRIPT = """
import sys
import numpy as np
import stream_rnn
from stream_rnn import Forecaster, Learner
from stream_rnn.errors import ConfigError
Learner(2, hidden=4).step_many(np.zeros((3, 2)), np.zeros((3, 1)))
Forecaster("y", kind="rnn", cell="gru").step({"y": 1.0})
assert "torch" not in sys.modules and "onnx" not in sys.modules
sys.modules["torch"] = sys.modules["onnx"] = None  # as if not installed
for call in (lambda: Learner(2, cell="my:Cell"), lambda: Learner(2, backend="torch"), lambda: Learner(2).to_onnx("x")):
    try:
        call()
    except ConfigError as e:
        print(e)
"""


def test_torch_and_onnx_are_imported_on_use_only_and_missed_by_name() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 3
    assert all("pip install 'stream-rnn[torch]'" in line for line in said[:2])
    assert "pip install 'stream-rnn[onnx]'" in said[2]


# out to others


@pytest.mark.parametrize("cell", [cells.Gated, cells.Delay, nn.GRU(I, H, 2), "lstm"])
def test_to_torch_and_back(cell: Any) -> None:
    learner = made(cell, backend="torch")
    learner.step_many(*stream(40))
    X = np.random.default_rng(2).normal(size=(20, I)).astype(np.float32)
    module = learner.to_torch()
    with torch.no_grad():
        first, state = module(torch.from_numpy(X[:12]))
        second, _ = module(torch.from_numpy(X[12:]), state)
    wanted = [learner.advance(x, "new") for x in X]
    npt.assert_allclose(torch.cat([first, second]).numpy(), wanted, atol=1e-6)
    assert is_named_alike(module, learner)
    other = made(cell, seed=9, backend="torch")
    other.load_torch(module)
    assert_same(other.parameters, learner.parameters)


def is_named_alike(module: nn.Module, learner: Learner) -> bool:
    """Whether a file of the parameters can be loaded into the module."""
    names = {name.replace("rnn.", "").replace("_l0", "") for name in module.state_dict()}
    return names == set(learner.parameters) or set(module.state_dict()) == set(learner.parameters)


ONE_STEP = [
    ({"cell": "gru"}, ["h"]),
    ({"cell": "lstm"}, ["h", "c"]),
    ({"cell": "elman"}, ["h"]),
    ({"cell": "gru", "input_kind": "classes"}, ["h"]),
    ({"cell": "lstm", "backend": "torch"}, ["h", "c"]),
    ({"cell": cells.Delay}, ["state0", "state1", "state2"]),
]


@pytest.mark.parametrize("some, states", ONE_STEP, ids=str)
def test_an_onnx_runtime_gives_what_advance_gives(some: dict[str, Any], states: list[str], tmp_path: Any) -> None:
    learner = Learner(I, O, hidden=H, k1=3, k2=7, lr=0.02, **some)
    rng = np.random.default_rng(0)
    classes = some.get("input_kind") == "classes"
    X = rng.integers(0, I, 90) if classes else rng.normal(size=(90, I)).astype(np.float32)
    learner.step_many(X[:40], rng.normal(size=(40, O)))
    learner.to_onnx(tmp_path / "step.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    assert [i.name for i in session.get_inputs()] == ["x", *states]
    assert [o.name for o in session.get_outputs()] == ["y", *(f"{s}_next" for s in states)]
    state = [np.zeros([1, *i.shape[1:]], np.float32) for i in session.get_inputs()[1:]]
    for x in X[40:]:
        y, *state = session.run(None, dict(zip(["x", *states], [x[None], *state], strict=True)))
        npt.assert_allclose(y[0], learner.advance(x, "new"), atol=1e-5)
    two = session.run(None, dict(zip(["x", *states], [X[:2], *(np.repeat(s, 2, 0) for s in state)], strict=True)))
    assert two[0].shape == (2, O)
    props = {p.key: p.value for p in onnx.load(tmp_path / "step.onnx").metadata_props}
    assert '"k1": 3' in props["learner"]


# in a Forecaster


def events(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"k": f"k{i % 3}", "t": 1e9 + 60 * i, "y": float(np.sin(i / 9)), "u": float(rng.normal()),
             **({"late": 1.0} if i > 30 else {})} for i in range(n)]  # fmt: skip


@pytest.mark.parametrize("kind", ["rnn", "mixture"])
def test_a_forecaster_takes_a_cell_by_class_path_and_module(kind: str, tmp_path: Any) -> None:
    some: dict[str, Any] = {"key": "k", "time": "t", "kind": kind, "hidden": 4, "k2": 3, "max_features": 4}
    model = Forecaster("y", cell="cells:Gated", backend="torch", **some)
    told = model.step_many(events(60))
    assert isinstance(model.learner, TorchLearner)
    assert model.learner.counters["updates"] > 40
    by_class = Forecaster("y", cell=cells.Gated, **some)
    assert by_class.step_many(events(60)) == told
    inputs = model.learner.inputs
    with pytest.raises(ConfigError, match=f"inputs = {inputs}"):
        Forecaster("y", cell=cells.Gated(3, 4), **some)
    by_module = Forecaster("y", cell=cells.Gated(inputs, 4), **some)
    by_module.step_many(events(40))
    model.save(tmp_path / "m")
    with pytest.raises(ConfigError, match="cells:Gated"):
        Forecaster.load(tmp_path / "m")
    again = Forecaster.load(tmp_path / "m", cell="cells:Gated")
    more = events(80)[60:]
    assert again.step_many(more) == model.step_many(more)
    assert again.to_bytes() == model.to_bytes()


def test_an_engine_makes_its_models_from_a_module_and_goes_on_from_its_state(tmp_path: Any) -> None:
    some: dict[str, Any] = {"kind": "rnn", "features": ["u"], "k2": 3}
    inputs = Forecaster("y", key="k", time="t", cell=cells.Gated, **some).learner.inputs
    module, sinks = cells.Gated(inputs, 4), {"whole": MemorySink(), "cut": MemorySink()}

    def job(n: int, folder: str) -> Any:
        model = Forecaster("y", key="k", time="t", cell=module, **some)
        return Engine(MemorySource(events(n)), model, sinks[folder], None, tmp_path / folder)

    whole = job(120, "whole")
    whole.run()
    job(70, "cut").run()
    rest = job(120, "cut")
    rest.run()
    assert rest.model.to_bytes() == whole.model.to_bytes()
    assert sinks["cut"].lines == sinks["whole"].lines
    again = whole._make_model(False)
    assert_same(again.learner.parameters, Forecaster("y", key="k", time="t", cell=module, **some).learner.parameters)


def test_a_stopwatch_tells_predicting_from_updating() -> None:
    learner = made()
    learner.stopwatch = watch = Stopwatch()
    learner.step_many(*stream(30))
    assert watch.predict_s > 0
    assert watch.update_s > 0


def test_a_forecasters_gru_from_torch_is_its_own_gru() -> None:
    some: dict[str, Any] = {"key": "k", "time": "t", "hidden": 4, "k2": 3, "max_features": 4}
    slow = Forecaster("y", cell="gru", backend="torch", **some)
    fused = Forecaster("y", cell="gru", **some)
    a, b = (np.array([p.forecast for p in m.step_many(events(60))]) for m in (slow, fused))
    assert type(Forecaster("y", cell="torch.nn:GRUCell", **some).learner) is Learner
    npt.assert_allclose(a, b, atol=1e-4)
