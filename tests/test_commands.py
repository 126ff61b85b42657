"""The commands around a job, through the command line, in this process."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from stream_help import events

from stream_rnn import safetensors
from stream_rnn.cli import main
from stream_rnn.model import Forecaster
from stream_rnn.shard import ENGINE_ARRAYS
from stream_rnn.store import Store

STREAM = events(300)
JOB = """\
[source]
type = "file"
path = "in.jsonl"
[event]
key = "key"
time = "t"
target = "x"
[model]
kind = "rnn"
hidden = 4
k1 = 2
k2 = 4
[sink]
type = "file"
path = "out.jsonl"
[state]
commit_interval = "0ms"
checkpoint_interval = "30s"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a job and its input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    lines(tmp_path / "in.jsonl", STREAM)
    return tmp_path


def lines(path, stream):
    path.write_bytes(b"".join((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in stream))


def said(capsys, *arguments, code=0):
    """Standard output (0) or error (else) of a command."""
    assert main(list(map(str, arguments))) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_run_learns_and_writes(here, capsys):
    said(capsys, "run", "job.toml")
    assert (here / "out.jsonl").read_bytes().count(b"\n") == 285
    assert (here / "state" / "dead_letters.jsonl").read_bytes().count(b"\n") == 15
    said(capsys, "run", "job.toml")
    assert (here / "out.jsonl").read_bytes().count(b"\n") == 285


def test_errors_have_codes_of_their_own(here, capsys):
    assert "no such file" in said(capsys, "run", "nowhere.toml", code=2)
    assert "did you mean hidden" in said(capsys, "run", "job.toml", "--set", "model.hiden=4", code=2)
    said(capsys, "run", "job.toml")
    assert "cannot change on a state" in said(capsys, "run", "job.toml", "--set", "model.hidden=5", code=1)
    (here / "out.jsonl").write_bytes(b"")
    told = said(capsys, "run", "job.toml", code=3)
    assert "Put it back as it was" in told
    assert told.count("\n") == 1 + told.count("level=")
    said(capsys, "run", "job.toml", "--new-outputs")
    for command in ("run", "train", "check"):
        assert "exit codes:" in said(capsys, command, "--help")


def test_train_learns_history_and_run_goes_live_from_there(here, capsys):
    with (here / "history.csv").open("w", newline="") as f:
        rows = csv.DictWriter(f, ["key", "t", "x", "y"])
        rows.writeheader()
        rows.writerows(e for e in STREAM[:150] if isinstance(e, dict))
    lines(here / "in.jsonl", STREAM[150:])
    told = said(capsys, "train", "history.csv", "--config", "job.toml")
    assert "146 events so far" in told
    assert "not usable: 4 (target)" in told
    said(capsys, "train", "history.csv", "--config", "job.toml")  # nothing is learnt twice
    assert not (here / "out.jsonl").exists()
    said(capsys, "run", "job.toml")
    first = json.loads((here / "out.jsonl").read_bytes().split(b"\n")[0])
    assert first["step"] > 30
    by_hand = Forecaster(**restored(here).settings)
    by_hand.step_many([e for e in STREAM if isinstance(e, dict)])
    for name, array in by_hand.learner.parameters.items():
        np.testing.assert_array_equal(array, restored(here).learner.parameters[name])


def restored(folder, generation=None):
    """The model in a state."""
    with Store(folder / "state" / "state.db", write=False) as store:
        snapshot = store.newest() if generation is None else store.past(generation)
        m = Forecaster(**snapshot.settings)
        m.load_shared({n: a for n, a in snapshot.arrays.items() if n not in ENGINE_ARRAYS})
        return m


def test_train_without_a_config(here, capsys):
    said(capsys, "train", "in.jsonl", "--target", "x", "--key", "key", "--time", "t", "--state", "s",
         "--set", "model.hidden=4", "--set", "model.kind=rnn")  # fmt: skip
    assert (here / "s" / "state.db").exists()
    assert "holds no events" in said(capsys, "train", empty(here), "--target", "x", "--state", "t", code=2)
    assert "name the column" in said(capsys, "train", "in.jsonl", code=2)


def empty(folder):
    (folder / "empty.jsonl").touch()
    return "empty.jsonl"


def test_check_shows_what_would_be_learnt_and_writes_nothing(here, capsys):
    before = sorted(p.name for p in here.iterdir())
    found = json.loads(said(capsys, "check", "job.toml", "--json"))
    assert found["key"] == "k0"
    assert found["target"] == {"x": 0.0}
    assert found["features"] == {"y": 0.0}
    assert found["time"] == "2001-09-09T01:46:40Z"
    text = said(capsys, "check", "job.toml")
    assert "target    x = 0.0" in text
    assert sorted(p.name for p in here.iterdir()) == before
    told = said(capsys, "check", "job.toml", "--set", "event.target=z", code=2)
    assert "event.target = 'z': the first event has no such field" in told
    assert "did you mean key" in said(capsys, "check", "job.toml", "--set", "event.key=kez", code=2)
    empty(here)
    assert "no event" in said(capsys, "check", "job.toml", "--set", "source.path=empty.jsonl")


def test_status_and_inspect(here, capsys):
    said(capsys, "run", "job.toml")
    for given in ("job.toml", "state", "state/state.db"):
        (shard,) = json.loads(said(capsys, "status", given, "--json"))
        assert shard["events"] == 300
        assert shard["keys"] == 4
    text = said(capsys, "status", "job.toml")
    assert "300 events" in text
    assert "file:0/" in text
    whole = json.loads(said(capsys, "inspect", "state", "--json"))
    assert whole["settings"]["hidden"] == 4
    key = json.loads(said(capsys, "inspect", "state", "--key", "k1", "--json"))
    assert key["key"] == "k1"
    assert len(key["hidden"]) == 4
    assert "no key 'k9'" in said(capsys, "inspect", "state", "--key", "k9", code=2)
    assert "no such state" in said(capsys, "status", "nowhere", code=2)


def test_invariant_8_rollback_puts_old_weights_at_todays_position(here, capsys):
    lines(here / "in.jsonl", STREAM[:100])
    said(capsys, "run", "job.toml")
    old, old_generation = restored(here), json.loads(said(capsys, "status", "state", "--json"))[0]["generation"]
    lines(here / "in.jsonl", STREAM[:200])
    said(capsys, "run", "job.toml")
    today = restored(here)
    assert f"\n  {old_generation}  " in said(capsys, "rollback", "state", "--list")
    assert "--list shows" in said(capsys, "rollback", "state", "--to", "99", code=2)
    said(capsys, "rollback", "state", "--to", old_generation)
    now = restored(here)
    for name in now.weights():
        assert now.shared_arrays()[name].tobytes() == old.shared_arrays()[name].tobytes()
    assert now.shared_arrays()["learner.weights"].tobytes() != today.shared_arrays()["learner.weights"].tobytes()
    assert "weights of" in said(capsys, "rollback", "state")
    lines(here / "in.jsonl", STREAM)
    said(capsys, "run", "job.toml")
    out = [json.loads(line) for line in (here / "out.jsonl").read_bytes().splitlines()]
    assert len(out) == 285
    steps = {}
    for p in out:  # key states stayed
        assert p["step"] == steps.get(p["key"], 0) + 1
        steps[p["key"]] = p["step"]


def test_rollback_to_weights_of_a_smaller_model_is_refused(here, capsys):
    lines(here / "in.jsonl", STREAM[:100])
    said(capsys, "run", "job.toml")
    grown = [{**e, **{f"f{j}": float(i % (j + 2)) for j in range(9)}} if isinstance(e, dict) else e
             for i, e in enumerate(STREAM)]  # fmt: skip
    lines(here / "in.jsonl", [*STREAM[:100], *grown[100:]])
    said(capsys, "run", "job.toml")
    assert "features have been added since" in said(capsys, "rollback", "state", "--to", "1", code=1)


def test_export_writes_what_safetensors_reads(here, capsys):
    said(capsys, "run", "job.toml")
    said(capsys, "export", "state", "--safetensors", "w.safetensors")
    expected = restored(here).learner.parameters
    raw = (here / "w.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["settings"])["hidden"] == 4
    assert list(header) == list(expected)
    for name, about in header.items():
        start, stop = about["data_offsets"]
        array = np.frombuffer(raw[8 + length + start : 8 + length + stop], "<f4").reshape(about["shape"])
        np.testing.assert_array_equal(array, expected[name])


def test_the_safetensors_library_agrees(tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="pip install safetensors to compare with it")
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False]), "c": np.zeros((0, 4))}
    safetensors.write(tmp_path / "w", arrays, {"x": "y"})
    found = library.load_file(tmp_path / "w")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
