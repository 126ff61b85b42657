"""The short form of test_kill.py for a network whose cell is an nn.Module that the config names: a kill leaves no
trace, and what such a state says to the commands around a job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from recovery.nursery import Nursery
from recovery.scenarios import Whole
from recovery.test_kill import kill_in
from safetensors.numpy import load_file

from stream_rnn import cli


@pytest.fixture(scope="module")
def torch_nursery() -> Iterator[Nursery]:
    """A nursery that has torch: importing it takes longer than a life here."""
    nursery = Nursery("recovery.warm_torch")
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def torch_whole(torch_nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), torch_nursery)


@pytest.mark.parametrize("phase, n", [("learn", 4), ("checkpointed", 3)])
def test_a_kill_leaves_no_trace_with_a_cell_of_the_users_own(phase, n, torch_nursery, torch_whole, tmp_path):
    kill_in(phase, n, "torch", 2, torch_nursery, torch_whole, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("phase", ["learn", "write", "committed", "copy", "rows", "checkpointed"])
def test_nor_do_many(phase, torch_nursery, torch_whole, tmp_path):
    kill_in(phase, 4, "torch", 60, torch_nursery, torch_whole, tmp_path)


def test_the_undisturbed_run_learnt_by_torch(torch_whole):
    found = torch_whole("torch")
    assert {"learner.weights.cell.gate.weight", "learner.moment1.head.bias", "learner.torch"} <= found.arrays.keys()
    lines = [json.loads(line) for line in found.outputs["out.jsonl"].splitlines()]
    assert len(lines) > 250
    counters = np.frombuffer(found.arrays["learner.counters"][2], np.int64)
    assert counters[2] > 90  # updates


def test_the_commands_run_no_code_that_only_a_state_names(torch_nursery, torch_whole, tmp_path, monkeypatch, capsys):
    torch_whole("torch")
    shutil.copytree(torch_whole.folder / "torch", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for arguments in (["export", "state", "--onnx", "a.onnx"], ["inspect", "state", "--key", "k0"]):
        assert cli.main(arguments) == 2
        assert "--cell cells:Gated" in capsys.readouterr().err
        assert cli.main([*arguments, "--cell", "cells:Gated"]) == 0
    assert cli.main(["export", "job.toml", "--safetensors", "a.safetensors"]) == 0
    weights = load_file("a.safetensors")
    session = onnxruntime.InferenceSession("a.onnx")
    x, h = (np.ones([1, i.shape[1]], np.float32) for i in session.get_inputs())
    y, _ = session.run(None, {"x": x, "state0": h})
    gate, new = (weights[f"cell.{n}.weight"] @ np.append(x, h) + weights[f"cell.{n}.bias"] for n in ("gate", "new"))
    state = h[0] + (np.tanh(new) - h[0]) / (1 + np.exp(-gate))
    np.testing.assert_allclose(y[0], weights["head.weight"] @ state + weights["head.bias"], atol=1e-5)
    assert Path("a.onnx").stat().st_size > 1000
    assert cli.main(["rollback", "state", "--to", "1"]) == 0  # names are enough for that
