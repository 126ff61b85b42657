"""Alerts: silent keys by the events of the others, one alert an event, an output of their own that says each once."""

import json

import msgspec
import numpy as np
import pytest
from stream_help import Crash, Killer

from stream_rnn import config, configfile, job
from stream_rnn.cli import main
from stream_rnn.config import live_changes
from stream_rnn.connectors.file import FileSink, FileSource
from stream_rnn.connectors.memory import MemorySink, MemorySource
from stream_rnn.engine import Engine
from stream_rnn.errors import ConfigError, RecoveryError
from stream_rnn.model import Forecaster

START = 1_700_000_000


def model(**settings):
    return Forecaster(**({"target": "x", "key": "k", "time": "t", "kind": "rnn", "hidden": 4, "k2": 2} | settings))


def quiet(**settings):
    """One that tells of silence alone."""
    return model(alert_budget=None, **settings)


def fleet(rounds, gone, keys=4, step_s=60.0, seed=0):
    """`rounds` events of each key; `gone`: {key: (from, to)}, rounds that it does not send."""
    rng = np.random.default_rng(seed)
    events = []
    for i in range(rounds):
        for k in range(keys):
            a, b = gone.get(k, (rounds, rounds))
            if not a <= i < b:
                events.append({"k": f"k{k}", "t": START + i * step_s + k, "x": float(rng.normal())})
    return events


def told(out):
    return [p.alert for p in out if p.alert]


# Silence ---------------------------------------------------------------------------------------------


def test_a_silent_key_is_told_of_once_and_again_when_it_is_back():
    out = quiet().step_many(fleet(200, {2: (100, 150)}))
    silent, back = told(out)
    assert (silent.kind, silent.key, back.kind, back.key) == ("silent", "k2", "back", "k2")
    last = START + 99 * 60 + 2
    assert silent.last_time == back.last_time == last
    assert 3 * 60 < silent.time - last < 6 * 60
    assert back.time == START + 150 * 60 + 2


def test_it_comes_with_the_event_of_another():
    out = quiet().step_many(fleet(120, {2: (60, 200)}))
    (p,) = [p for p in out if p.alert]
    assert p.key != p.alert.key == "k2"
    assert p.alert.time == p.time


def test_all_keys_silent_together_is_nobody_else_speaking():
    events = fleet(100, {}, keys=50)
    for e in events[50 * 60 :]:
        e["t"] += 12 * 3600  # the source stood still for a night
    assert not told(quiet().step_many(events))


@pytest.mark.parametrize("wrong", [START + 9e8, 0.0])
def test_one_wrong_time_makes_nobody_silent(wrong):
    events = fleet(100, {})
    events[200]["t"] = wrong
    assert not told(quiet().step_many(events))


def test_a_key_that_is_slow_is_not_silent_while_others_are_quick():
    rng = np.random.default_rng(1)
    events = fleet(3000, {}, keys=2, step_s=1.0)
    slow = [{"k": "slow", "t": START + 60.0 * i, "x": float(rng.normal())} for i in range(50)]
    assert not told(quiet().step_many(sorted(events + slow, key=lambda e: e["t"])))


def test_a_key_with_irregular_gaps_is_given_more_time():
    rng = np.random.default_rng(2)
    at = np.cumsum(rng.exponential(600.0, 400))
    irregular = [{"k": "r", "t": START + float(a), "x": float(rng.normal())} for a in at if not 1.4e5 < a < 2.0e5]
    events = sorted(fleet(4200, {}, keys=2) + irregular, key=lambda e: e["t"])
    alerts = told(quiet().step_many(events))
    assert [a.kind for a in alerts if 1.4e5 < a.last_time - START + 2e4 < 2.1e5][:2] == ["silent", "back"]
    assert len(alerts) <= 4


def test_without_times_the_others_events_are_counted():
    events = [{"k": e["k"], "x": e["x"]} for e in fleet(120, {1: (60, 90)})]
    assert [(a.kind, a.key, a.time) for a in told(quiet(time=None).step_many(events))] == [
        ("silent", "k1", None), ("back", "k1", None)]  # fmt: skip


def test_keys_that_came_a_few_times_are_not_waited_for():
    events = fleet(200, {0: (10, 300), 1: (15, 300)})
    assert not told(quiet().step_many(events))


def test_a_hundred_keys_that_fall_silent_at_once_are_all_told_of():
    events = fleet(140, dict.fromkeys(range(100), (60, 120)), keys=104)
    alerts = told(quiet().step_many(events))
    for kind in ("silent", "back"):
        assert sorted(a.key for a in alerts if a.kind == kind) == sorted(f"k{k}" for k in range(100))


def test_a_flapping_key_is_told_of_less_and_less():
    gone = [e for e in fleet(2000, {}) if not (e["k"] == "k1" and (e["t"] - START) // 60 % 40 >= 20)]
    silent = [a for a in told(quiet().step_many(gone)) if a.kind == "silent"]
    assert 1 <= len(silent) <= 8


def test_silent_alerts_can_be_turned_off_and_on():
    events = fleet(300, {2: (60, 100), 3: (160, 200)})
    m = quiet(silent_alerts=False)
    assert not told(m.step_many(events[: 4 * 150]))
    m.set_live("silent_alerts", True)
    assert {a.key for a in told(m.step_many(events[4 * 150 :]))} == {"k3"}


def test_one_series_is_never_silent():
    events = [{"t": START + 60.0 * i + (1e6 if i > 500 else 0), "x": 1.0} for i in range(600)]
    assert not told(quiet(key=None).step_many(events))


def test_a_dropped_key_is_forgotten_here_too():
    events = fleet(200, {1: (60, 300)})
    m = quiet()
    cut = next(i for i, e in enumerate(events) if e["t"] >= START + 60 * 60)
    m.step_many(events[:cut])
    m.keyspace.forget("k1")
    m.forget(["k1"])
    assert not told(m.step_many(events[cut:]))


@pytest.mark.parametrize("seed", range(2))
def test_the_same_bits_in_any_cut_and_after_a_save(seed):
    events = fleet(300, {k: (140 + 3 * k, 180 + 5 * k) for k in range(4)}, keys=7, seed=seed)
    whole, cut = model(alert_budget="1/hour"), model(alert_budget="1/hour")
    want = whole.step_many(events)
    rng = np.random.default_rng(seed)
    got, at = [], 0
    while at < len(events):
        n = int(rng.integers(1, 90))
        got += cut.step_many(events[at : at + n])
        cut = Forecaster.from_bytes(cut.to_bytes())
        at += n
    assert {a.kind for a in told(want)} == {"silent", "back", "anomaly"}
    assert msgspec.json.encode(got) == msgspec.json.encode(want)
    assert cut.to_bytes() == whole.to_bytes()


def test_keys_of_every_kind_are_named():
    for key in ("ü", 7, ("plant", 3)):
        names = ["a", "b"] if isinstance(key, tuple) else "a"
        events = []
        for i in range(120):
            for k in (key, ("other", 1) if isinstance(key, tuple) else "other"):
                if k != key or i < 60:
                    parts = dict(zip("ab", k, strict=False)) if isinstance(k, tuple) else {"a": k}
                    events.append({**parts, "x": float(i % 7)})
        m = quiet(key=names, time=None)
        alerts = told(m.step_many(events[:122]))
        m = Forecaster.from_bytes(m.to_bytes())
        assert [a.key for a in alerts + told(m.step_many(events[122:]))] == [key]


# One an event ----------------------------------------------------------------------------------------


def test_what_waits_comes_with_the_next_event_that_has_no_alert_of_its_own():
    events = fleet(300, dict.fromkeys(range(10), (200, 400)), keys=14)
    for e in events:
        if e["t"] >= START + 203 * 60 and e["k"] == "k12":
            e["x"] = 80.0
    out = model(alert_budget="1/hour").step_many(events)
    kinds = [p.alert.kind for p in out if p.alert and p.time > START + 200 * 60]
    assert kinds.count("silent") == 10
    assert "anomaly" in kinds


# The output ------------------------------------------------------------------------------------------


def lines(sink):
    return [json.loads(line) for line in sink.lines]


def run(events, folder, sinks=None, **policy):
    predictions, alerts = sinks or (MemorySink(), MemorySink())
    Engine(MemorySource(events), model(alert_budget="1/hour"), predictions, None, folder, alerts=alerts, **policy).run()
    return predictions, alerts


EVENTS = fleet(250, {2: (100, 150)})


def test_alerts_have_an_output_of_their_own(tmp_path):
    predictions, alerts = run(EVENTS, tmp_path)
    found = lines(alerts)
    assert {a["kind"] for a in found} == {"anomaly", "silent", "back"}
    assert found == [p["alert"] for p in lines(predictions) if "alert" in p]
    for a in found:
        assert set(a) == {"key", "time", "kind", "source", "target", "score", "p_value", "actual", "predicted",
                          "interval", "why", "last_time"}  # fmt: skip
        assert a["source"].startswith("memory:")
    places = [int(a["source"].split("/")[-1].split(":")[-1]) for a in found]
    assert places == sorted(set(places))


def test_counts_by_kind_are_in_the_status(tmp_path):
    engine = Engine(MemorySource(EVENTS), quiet(), None, None, tmp_path)
    engine.run()
    assert engine.status()[0]["alerts"] == {"silent": 1, "back": 1}


@pytest.mark.parametrize("phase", ["learn", "write", "between", "commit", "committed", "checkpointed"])
def test_after_crashes_each_is_out_once(phase, tmp_path, monkeypatch):
    want = [sink.lines for sink in run(EVENTS, tmp_path / "whole")]
    killer, sinks = Killer(monkeypatch), (MemorySink(), MemorySink())
    for n in (1, 1, 1) if phase == "checkpointed" else (2, 3, 5):
        killer(phase, n)
        with pytest.raises(Crash):
            run(EVENTS, tmp_path / "cut", sinks, block=40, commit_interval=0.0, checkpoint_interval=0.001)
    killer("none", 0)
    run(EVENTS, tmp_path / "cut", sinks)
    assert [sink.lines for sink in sinks] == want


def test_a_shortened_file_of_alerts_stops_the_job(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(e) + "\n" for e in EVENTS))

    def go():
        Engine(FileSource(source), model(alert_budget="1/hour"), FileSink(tmp_path / "out.jsonl"), None, tmp_path / "s",
               alerts=FileSink(tmp_path / "alerts.jsonl")).run()  # fmt: skip

    go()
    whole = (tmp_path / "alerts.jsonl").read_bytes()
    assert whole.count(b"\n") > 3
    (tmp_path / "alerts.jsonl").write_bytes(whole[: whole.index(b"\n") + 1])
    with pytest.raises(RecoveryError, match="alerts"):
        go()
    (tmp_path / "alerts.jsonl").write_bytes(whole)
    go()
    assert (tmp_path / "alerts.jsonl").read_bytes() == whole


def test_eval_counts_the_alerts_there_would_have_been(tmp_path, capsys):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(e) + "\n" for e in EVENTS))
    command = ["eval", str(file), "--target", "x", "--key", "k", "--time", "t", "--set", "model.kind=rnn", "--quiet"]
    assert main([*command, "--set", "alerts.budget=none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"] == {"silent": 1, "back": 1}
    assert main([*command, "--set", "alerts.budget=none", "--set", "alerts.silent=false"]) == 0
    assert "alerts: none" in capsys.readouterr().out


# The config ------------------------------------------------------------------------------------------

JOB = """
[source]
type = "memory"
[event]
target = "x"
key = "k"
[sink]
type = "memory"
"""


def parse(text, *sets):
    return config.parse(configfile.parse_text(JOB + text, "job.toml", sets))


def test_the_config_says_where_alerts_go_and_how_many():
    found = parse('[alerts]\ntype = "file"\npath = "alerts.jsonl"\nbudget = "3/day"\nsilent = false\n'
                  '[anomaly]\nlearn = "down-weight"\ndrift = "adwin"\non_drift = ["alert", "boost_lr"]\n')  # fmt: skip
    assert found.alerts.type == "file"
    settings = job.model_of(found).settings
    assert (settings["alert_budget"], settings["silent_alerts"]) == ("3/day", False)
    assert (settings["learn_anomalies"], settings["drift"]) == ("down-weight", "adwin")
    assert settings["on_drift"] == ["alert", "boost_lr"]


def test_a_budget_needs_no_output():
    found = parse('[alerts]\nbudget = "none"\n')
    assert found.alerts is None
    assert job.model_of(found).settings["alert_budget"] is None


@pytest.mark.parametrize(("text", "says"), [
    ('[alerts]\nbudget = "1/fortnight"\n', 'line 10: alerts.budget = .*1/week'),
    ('[alerts]\nbugdet = "1/week"\n', "alerts.bugdet .*budget"),
    ('[alerts]\ntype = "file"\npath = "a"\nsilnet = true\n', "alerts.silnet .*silent"),
    ('[alerts]\ntype = "carrier pigeon"\n', "type = 'carrier pigeon'"),
    ('[anomaly]\non_drift = ["alert", "boost"]\n', "anomaly.on_drift.*boost_lr"),
    ('[anomaly]\ndrift = "adwim"\n', "anomaly.drift = 'adwim'"),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_its_name(text, says):
    with pytest.raises(ConfigError, match=says):
        parse(text)


def test_a_budget_may_change_on_sighup():
    changes, refused = live_changes(parse(""), parse('[alerts]\nbudget = "1/day"\n'))
    assert changes["model.alert_budget"] == "1/day"
    assert not refused
    assert live_changes(parse(""), parse('[anomaly]\nlearn = "down-weight"\n'))[1] == ["anomaly.learn"]
