"""config.py: what a file says comes out typed; what cannot be is refused with file, line and remedy."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_rnn import config, configfile, registry
from stream_rnn.config import load
from stream_rnn.errors import ConfigError
from stream_rnn.units import Secret, nbytes, seconds, show_bytes, show_seconds

SMALL = """
[source]
type = "file"
path = "in.jsonl"
[event]
target = "t"
[sink]
type = "file"
path = "out.jsonl"
"""

WHOLE = """
name = "pump-forecasts"
[kafka]
"bootstrap.servers" = "127.0.0.1:9092"
security.protocol = "SASL_SSL"     # without quotes it means the same
"sasl.username" = "pump"
"sasl.password" = "${PUMP_PASSWORD}"
client = "confluent"
[source]
type = "kafka"
topic = "sensors"
start = "latest"
[event]
format = "json"
key = ["payload.sensor", "site"]
time = "payload.ts"
features = ["payload.temperature", "payload.vibration"]
target = "payload.temperature"
horizon = 3
transform = "my_pkg:clean"
on_error = "skip"
max_bytes = "2MiB"
[model]
hidden = 64
k1 = 4
lr = 1
[sink]
type = "kafka"
topic = "forecasts"
[dead_letter]
type = "file"
path = "dead.jsonl"
[state]
path = "st"
commit_interval = "250ms"
checkpoint_interval = "1min"
retain = 5
on_missing = "fail"
on_gap = "skip"
share = "none"
[limits]
memory = "1.5GiB"
idle_key_ttl = "30d"
[http]
listen = "0.0.0.0:8080"
token = "t0p"
[log]
level = "debug"
"""


def write(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text)
    return path


def test_every_section(tmp_path):
    c = load(write(tmp_path, WHOLE), environ={"PUMP_PASSWORD": "hush"})
    assert c.name == "pump-forecasts"
    assert c.kafka.client == "confluent"
    assert c.kafka.options == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "SASL_SSL",
        "sasl.username": "pump",
        "sasl.password": Secret("hush"),
    }
    assert (c.source.type, c.source.settings.topic, c.source.settings.start) == ("kafka", "sensors", "latest")
    assert c.event.key == ("payload.sensor", "site")
    assert c.event.target == ("payload.temperature",)
    assert c.event.max_bytes == 2 << 20
    assert (c.model.hidden, c.model.k1, c.model.lr) == (64, 4, 1.0)
    assert isinstance(c.model.lr, float)
    assert (c.state.commit_interval, c.state.checkpoint_interval) == (0.25, 60.0)
    assert (c.limits.memory, c.limits.idle_key_ttl) == (3 << 29, 30 * 86400.0)
    assert c.http.token == Secret("t0p")
    assert c.dead_letter.settings.path == "dead.jsonl"


def test_defaults(tmp_path):
    c = load(write(tmp_path, SMALL))
    assert c.state == config.State()
    assert (c.state.commit_interval, c.state.checkpoint_interval, c.state.retain) == (0.1, 30.0, 3)
    assert (c.state.on_missing, c.state.on_gap, c.event.on_error) == ("replay", "stop", "dead_letter")
    assert (c.model.kind, c.model.k1, c.model.k2, c.model.hidden) == ("mixture", 1, 16, 32)
    assert c.event.features is None
    assert c.dead_letter is None


def test_a_secret_is_never_shown(tmp_path):
    c = load(write(tmp_path, WHOLE), environ={"PUMP_PASSWORD": "hush"})
    for shown in (repr(c), str(c), repr(c.kafka), f"{c.http}", f"{c.http.token!s} {c.http.token!r}"):
        assert "hush" not in shown
        assert "t0p" not in shown
    assert c.kafka.options["sasl.password"].reveal() == "hush"
    with pytest.raises(ConfigError) as e:
        load(
            write(tmp_path, WHOLE + "tokn = 1\n"),
            sets=["http.token=7", "kafka.sasl.password=[1]"],
            environ={"PUMP_PASSWORD": "h"},
        )
    assert "7" not in str(e.value).replace("17", "")


def changed(old, new, text=SMALL):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (changed("target = ", "taget = "), 6, "event.taget is no setting; did you mean target?"),
        (changed("[event]", "[evnt]"), 5, "evnt is no section or setting; did you mean event?"),
        (SMALL + "[model]\nhidden = 0\n", 11, "model.hidden = 0: Expected int >= 1"),
        (SMALL + "[model]\nhidden = 1.5\n", 11, "model.hidden = 1.5: Expected int, got float"),
        (SMALL + "[model]\nhidden = true\n", 11, "model.hidden = True"),
        (SMALL + "[model]\nlr = -1\n", 11, "model.lr = -1: Expected float > 0"),
        (SMALL + "[model]\nlr = nan\n", 11, "finite"),
        (SMALL + "[model]\ncell = 'gruu'\n", 11, "one of gru, lstm, elman; did you mean gru?"),
        (SMALL + "[model]\nk1 = 32\nk2 = 8\n", 12, "model.k2 = 8 is less than k1 = 32"),
        (SMALL + "[state]\ncommit_interval = 100\n", 11, 'a unit is wanted, in quotes: "100s"'),
        (SMALL + "[state]\ncommit_interval = '100 parsecs'\n", 11, "100ms"),
        (SMALL + "[state]\nretain = 0\n", 11, "state.retain"),
        (SMALL + "[limits]\nmemory = '1 potato'\n", 11, "64MiB"),
        (SMALL + "[limits]\nmemory = '1B'\n", 11, "limits.memory"),
        (SMALL + "[http]\nlisten = '0.0.0.0:80'\n", 11, "http.token"),
        (SMALL + "[http]\nlisten = '8080'\n", 11, "address:port"),
        (SMALL + "[kafka]\n'bootstrap.serves' = 'x'\n", 11, "did you mean bootstrap.servers?"),
        (SMALL + "[kafka]\n'sasl.password' = '${NOT_THERE}'\n", 11, "export it"),
        (SMALL + "[kafka]\nclient = 'kafka'\n", 11, "kafka-python"),
        (changed('type = "file"\npath = "in.jsonl"', 'type = "fille"'), 3, "did you mean file?"),
        (changed('type = "file"\npath = "in.jsonl"', 'path = "in.jsonl"'), 2, "source: there is no type"),
        (changed('path = "in.jsonl"\n', ""), 2, "source.path is not set"),
        (changed('path = "out.jsonl"', 'path = "in.jsonl"'), 9, "the source's own file"),
        (changed('type = "file"\npath = "out.jsonl"', 'type = "kafka"\ntopic = "o"'), None, "bootstrap.servers"),
        (changed('target = "t"', 'target = 3'), 6, "event.target = 3"),
        (changed('target = "t"', 'target = ["t", 3]'), 6, "names, in quotes"),
        (changed('target = "t"', "horizon = 2"), 5, "event.target is not set"),
        (changed('target = "t"', 'task = "classify"'), 5, "event.label is not set"),
        (changed('target = "t"', 'target = "t"\ntransform = "f"'), 7, "module:function"),
        (changed('[sink]\ntype = "file"\npath = "out.jsonl"', ""), None, "there is no [sink] section"),
        ("model = 3\n" + SMALL, 1, "write [model]"),
        ("name = 'a b'\n" + SMALL, 1, "name = 'a b'"),
        ("x = = 1", None, "line 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_line(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as e:
        load(path, environ={})
    assert message in str(e.value)
    assert str(e.value).startswith(f"{path}, line {line}:" if line else str(path))
    assert isinstance(e.value, ValueError)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: there is no such file"):
        load(tmp_path / "absent.toml")


def test_set_wins_over_the_file(tmp_path):
    sets = ["model.k1=4", "model.lr=2e-3", "model.cell=lstm", "event.features=a,b", "event.key=007",
            "limits.memory=1GiB", "name=7", "kafka.bootstrap.servers=h:1", "limits.idle_key_ttl=never"]  # fmt: skip
    c = load(write(tmp_path, SMALL + "[model]\nk1 = 2\n[kafka]\nbootstrap.servers = 'x'\n"), sets)
    assert (c.model.k1, c.model.lr, c.model.cell) == (4, 2e-3, "lstm")
    assert (c.event.features, c.event.key) == (("a", "b"), ("007",))
    assert (c.limits.memory, c.limits.idle_key_ttl, c.name) == (1 << 30, None, "7")
    assert c.kafka.options == {"bootstrap.servers": "h:1"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("model.k1=x", "--set model.k1=x: model.k1 = 'x'"),
        ("model.kk=1", "--set model.kk=1: model.kk is no setting; did you mean k1?"),
        ("model.k1", "section.name=value"),
        ("name.x=1", "no section"),
    ],
)
def test_a_wrong_set_is_named(tmp_path, item, message):
    text = "name = 'n'\n" + SMALL
    with pytest.raises(ConfigError) as e:
        load(write(tmp_path, text), [item])
    assert message.split(";")[0] in str(e.value)


def test_the_environment_comes_in_typed(tmp_path):
    text = SMALL + "[model]\nlr = '${LR}'\n[state]\npath = '$$${DIR}/s'\n"
    c = load(write(tmp_path, text), environ={"LR": "0.5", "DIR": "12"})
    assert (c.model.lr, c.state.path) == (0.5, "$12/s")


@pytest.mark.parametrize("text", ["100ms", "30s", "1.5s", "5min", "12h", "30d", "0ms"])
def test_durations_round_trip(text):
    assert seconds(show_seconds(seconds(text))) == seconds(text)


@pytest.mark.parametrize("text", ["1MiB", "500kB", "7B", "1.5GiB", "4TB"])
def test_sizes_round_trip(text):
    assert nbytes(show_bytes(nbytes(text))) == nbytes(text)


def test_live_changes_are_told_from_the_others(tmp_path):
    old = load(write(tmp_path, SMALL))
    new = load(
        write(tmp_path, SMALL), ["model.lr=0.1", "model.k1=2", "state.commit_interval=1s", "event.target=u", "name=n"]
    )
    changes, refused = config.live_changes(old, new)
    assert changes == {"model.lr": 0.1, "state.commit_interval": 1.0}
    assert sorted(refused) == ["event.target", "model.k1", "name"]


def test_the_model_section_is_what_the_models_take():
    from stream_rnn import Classifier, Forecaster, Regressor, tasks

    left = set(config.Model.__struct_fields__)
    names = {Forecaster: left - {"max_delay", "max_classes"}, Regressor: tasks.SETTINGS["regress"],
             Classifier: tasks.SETTINGS["classify"]}  # fmt: skip
    for model, fields in names.items():
        taken = inspect.signature(model).parameters
        for field in fields:
            default = getattr(config.Model(), field)
            assert taken[field].default == default or (default is None and model is not Forecaster), field
        left -= set(fields)
    assert not left


def test_the_documented_table_is_current():
    page = Path(__file__).parents[1] / "docs" / "configuration.md"
    assert config.markdown() in page.read_text(encoding="utf-8"), "put python -m stream_rnn.config's into the page"
    for struct in (*config.SECTIONS.values(), *config.SOURCES.values(), *config.SINKS.values()):
        for field in struct.__struct_fields__:
            hints = configfile.typing.get_type_hints(struct, include_extras=True)
            assert configfile.describe(hints[field]), f"{struct.__name__}.{field} has no meaning"


TOY = '''
"""A third party's connectors."""
from typing import Annotated
from stream_rnn.configfile import Section
from stream_rnn.connectors.memory import MemorySink, MemorySource


class Settings(Section, frozen=True):
    count: Annotated[int, "how many events"] = 3


def toy(settings, context):
    return MemorySource([{"t": float(i), "job": context.name} for i in range(settings.count)])


toy.Settings = Settings


def bin(settings, context):
    return MemorySink()
'''


def test_a_third_partys_connectors_are_found_by_name(tmp_path):
    (tmp_path / "toy_streams.py").write_text(TOY)
    info = tmp_path / "toy_streams-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-streams\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[stream_rnn.sources]\ntoy = toy_streams:toy\nbroken = toy_streams:absent\n"
        "[stream_rnn.sinks]\nbin = toy_streams:bin\n"
    )
    job = 'source.type = "toy"\nsource.count = 2\nevent.target = "t"\nsink.type = "bin"\n'
    (tmp_path / "job.toml").write_text(job)
    (tmp_path / "wrong.toml").write_text(job.replace("count", "cuont"))
    (tmp_path / "broken.toml").write_text(job.replace('"toy"', '"broken"'))
    code = """
import sys
from stream_rnn import config, registry
c = config.load(sys.argv[1])
source = registry.source(c.source.type, c.source.settings, registry.Context(name=c.name))
sink = registry.sink(c.sink.type, c.sink.settings, registry.Context(role="sink"))
print([r.value["t"] for r in source.read(9)], type(sink).__name__)
"""
    root = Path(__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}

    def run(name):
        return subprocess.run(
            [sys.executable, "-c", code, tmp_path / name], env=environ, capture_output=True, text=True, check=False
        )

    assert run("job.toml").stdout == "[0.0, 1.0] MemorySink\n"
    assert "did you mean count?" in run("wrong.toml").stderr
    assert "cannot be loaded" in run("broken.toml").stderr


def test_built_in_connectors_are_made_by_name(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"t": 1}\n')
    c = load(write(tmp_path, SMALL), [f"source.path={tmp_path}/in.jsonl", f"sink.path={tmp_path}/out.jsonl"])
    source = registry.source(c.source.type, c.source.settings, registry.Context())
    assert source.read(2)[0].value == b'{"t": 1}'
    output = registry.sink(c.sink.type, c.sink.settings, registry.Context()).open("")
    assert output.mark() is None
    output.close()
    with pytest.raises(ConfigError, match="is for Python"):
        registry.source("memory", None, registry.Context())
    with pytest.raises(ConfigError, match="no source of type 'mqtt'"):
        registry.source("mqtt", None, registry.Context())
