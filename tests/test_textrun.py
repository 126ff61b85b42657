"""event.task = "text": a stream of texts through the engine, from lines, from fields, and from Python."""

import json

import pytest
from stream_help import Sinks, engine, parsed, weights

from stream_rnn import cli, config, configfile, job
from stream_rnn.connectors.file import FileSource
from stream_rnn.errors import ConfigError
from stream_rnn.textmodel import TextModel

SMALL = {"hidden": 8, "k1": 8, "k2": 8, "contexts": 4096}
LINES = [f"{'pump' if i % 3 else 'valve'} {i % 7} is {'open' if i % 2 else 'shut'} – line {i}" for i in range(200)]
JOB = """
[source]
type = "file"
path = "in.log"
[event]
task = "text"
[model]
hidden = 8
k1 = 8
k2 = 8
contexts = 4096
[sink]
type = "file"
path = "out.jsonl"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.log").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def lines(folder):
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_a_line_a_record_and_all_of_them_what_the_whole_text_costs(folder):
    assert cli.main(["run", "job.toml"]) == 0
    found = lines(folder)
    costs = TextModel(**SMALL).learn("\n".join(LINES) + "\n")
    assert [line["step"] for line in found] == list(range(1, len(LINES) + 1))
    assert sum(line["bytes"] for line in found) == len(costs)
    assert sum(line["bytes"] * line["bits_per_byte"] for line in found) == pytest.approx(costs.sum())
    at = 0
    for line, text in zip(found, LINES, strict=True):
        assert line["source"] == f"file:0/{at}"
        at += len(text.encode()) + 1
        assert set(line) == {"key", "time", "source", "step", "bytes", "bits_per_byte"}


def test_it_goes_on_where_it_stopped(folder):
    assert cli.main(["run", "job.toml"]) == 0
    whole = lines(folder)
    (folder / "out.jsonl").unlink()
    part = "\n".join(LINES[:80]) + "\n"
    (folder / "in.log").write_text(part, encoding="utf-8")
    assert cli.main(["run", "job.toml", "--set", "state.path=again"]) == 0
    (folder / "in.log").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    assert cli.main(["run", "job.toml", "--set", "state.path=again"]) == 0
    assert lines(folder) == whole


def test_fields_of_events_keys_and_times(tmp_path):
    events = [{"host": f"h{i % 3}", "at": 1e9 + i, "log": {"line": text}} for i, text in enumerate(LINES)]
    events[5]["log"] = {"line": 7}
    events[9] = b"no json"
    sinks = Sinks()
    model = TextModel("log.line", key="host", time="at", **SMALL)
    engine(events, sinks, tmp_path, model, checkpoint_interval=0.0, block=7).run()
    found, letters = map(parsed, sinks.lines)
    assert len(found) == len(LINES) - 2
    assert [letter["cause"] for letter in letters] == ["target", "parse"]
    assert "'log.line'" in letters[0]["reason"]
    twin = TextModel(key="host", time="at", **SMALL)
    for line, event in zip(found, (e for i, e in enumerate(events) if i not in (5, 9)), strict=True):
        said = twin.step({"host": event["host"], "at": event["at"], "text": event["log"]["line"]})
        assert (line["key"], line["time"], line["step"]) == (said.key, said.time, said.step)
        assert line["bits_per_byte"] == said.bits_per_byte


def test_text_that_looks_like_a_number_is_text_in_csv(tmp_path):
    (tmp_path / "in.csv").write_text("at,said\n1,007\n2,x\n")
    sinks = Sinks()
    whole = engine(FileSource(tmp_path / "in.csv"), sinks, tmp_path / "state", TextModel("said", time="at", **SMALL))
    whole.run()
    found, letters = map(parsed, sinks.lines)
    assert [line["bytes"] for line in found] == [4, 2]
    assert not letters
    assert weights(whole)[1]


def test_a_silent_key_starts_afresh(tmp_path):
    events = [{"id": "a", "t": t, "text": "again and again"} for t in (1e9, 1e9 + 1, 1e9 + 100)]
    sinks = Sinks()
    model = TextModel(key="id", time="t", **SMALL)
    engine(events, sinks, tmp_path, model, idle_key_ttl=50.0).run()
    assert [line["step"] for line in parsed(sinks.lines[0])] == [1, 2, 1]


def test_check_status_inspect_and_export_know_texts(folder, capsys):
    assert cli.main(["check", "job.toml"]) == 0
    assert LINES[0] in capsys.readouterr().out
    assert cli.main(["run", "job.toml"]) == 0
    assert cli.main(["status", "job.toml"]) == 0
    assert cli.main(["inspect", "job.toml", "--key", "null", "--json"]) == 0
    assert cli.main(["export", "job.toml", "--safetensors", "net.safetensors"]) == 0
    assert (folder / "net.safetensors").stat().st_size > 256 * 8 * 4


def test_history_is_learnt_and_then_gone_on_from(folder):
    assert cli.main(["train", "in.log", "--config", "job.toml"]) == 0
    (folder / "new.log").write_text("pump 3 is open – line 200\n", encoding="utf-8")
    assert cli.main(["run", "job.toml", "--set", "source.path=new.log"]) == 0
    (line,) = lines(folder)
    assert line["step"] == len(LINES) + 1
    assert line["bits_per_byte"] < 5


@pytest.mark.parametrize("setting, hint", [
    ("event.horizon=2", "event.horizon"), ("event.features=a", "event.features"), ("event.label=a", "event.label"),
    ("event.key=host", '"@key"'), ("event.time=at", "event.time"), ("event.format=json", "the one field"),
    ("model.loss=mae", "model.loss"), ("model.unit=words", "bytes, chars"), ("model.k2=4", "model.k2"),
    ("event.task=forecast", "model.contexts"), ("event.task=texts", "did you mean text"),
    ("model.contexts=1000", "power of"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_name(setting, hint, folder):
    with pytest.raises(ConfigError, match=hint):
        job.model_of(config.load("job.toml", [setting]))


def test_plain_texts_are_for_the_task_of_texts(folder):
    text = JOB.replace('task = "text"', 'target = "x"\nformat = "text"').replace("contexts", "#")
    (folder / "job.toml").write_text(text)
    with pytest.raises(ConfigError, match="only event"):
        config.load("job.toml")


def test_lr_changes_live_and_the_task_does_not(folder):
    old, new = config.load("job.toml"), config.load("job.toml", ["model.lr=0.001"])
    assert config.live_changes(old, new) == ({"model.lr": 0.001}, [])
    text = JOB.replace('task = "text"', 'target = "x"').replace("contexts = 4096", "")
    other = config.parse(configfile.parse_text(text, "job.toml"))
    assert "event.task" in config.live_changes(old, other)[1]
