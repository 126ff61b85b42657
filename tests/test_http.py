"""The daemon's own pages: what they say of a real engine, and that nobody who asks for them can disturb it."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy.testing as npt
import pytest
from kafka_help import fill, fresh, until
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from stream_help import Sinks, engine, events, model

from stream_rnn import config, exposition, listen, phases, server
from stream_rnn import engine as engine_module
from stream_rnn.cli import main
from stream_rnn.connectors.kafka import KafkaJob
from stream_rnn.connectors.memory import MemorySource
from stream_rnn.engine import Engine
from stream_rnn.errors import ConfigError, ListenError, Unavailable
from stream_rnn.meter import Meter
from stream_rnn.model import Forecaster
from stream_rnn.quality import Quality
from stream_rnn.records import Prediction

STREAM = events(300)
TOKEN = "correct-horse-battery"


@contextlib.contextmanager
def running(folder, stream=STREAM, made=None, sinks=None, **settings):
    """An engine in a thread, with pages; (engine, sinks, ask)."""
    stream, sinks = list(stream), sinks or Sinks()
    source = MemorySource(stream, open_ended=True)
    e = engine(source, sinks, folder, made, **{"listen": "127.0.0.1:0", "commit_interval": 0.01} | settings)
    e.append = stream.extend
    thread = threading.Thread(target=e.run)
    thread.start()
    try:
        until(lambda: e.server is not None)
        yield e, sinks, lambda path, **more: ask(e.server.port, path, **more)
    finally:
        e.stop()
        thread.join(30)
        assert not thread.is_alive()


def ask(port, path, method="GET", **headers):
    """(status, headers, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={n.replace("_", "-"): v for n, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()
    finally:
        connection.close()


def samples(text):
    """{name: {labels beside shard, topic and partition: value}}."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for s in family.samples:
            own = tuple(v for n, v in sorted(s.labels.items()) if n not in ("shard", "topic", "partition"))
            found.setdefault(s.name, {})[own] = s.value
    return found


def through(e, n=300):
    """All has been learnt, and is durable."""
    until(lambda: e.shards and e.status()[0]["events"] == n and not e.shards[0]._outputs.dirty, 300)


# What they say


def test_metrics_agree_with_what_was_run(tmp_path):
    with running(tmp_path, block=50, checkpoint_interval=0.01) as (e, sinks, get):
        through(e)
        until(lambda: e.status()[0]["since_checkpoint"] == 0)
        until(lambda: e.shards[0].meter.checkpoints.read()[1] > 0)
        found = samples(get("/metrics")[2])
        counters = e.shards[0].model.counters
        (shard,) = e.status()
    predictions, letters = sinks.lines
    value = {name.removeprefix("stream_rnn_"): values.get(()) for name, values in found.items()}
    assert value["events_total"] == len(STREAM) == len(predictions) + len(letters)
    assert value["predictions_total"] == len(predictions)
    causes = [json.loads(line)["cause"] for line in letters]
    bad = found["stream_rnn_bad_events_total"]
    assert {c: n for (c,), n in bad.items() if n} == {c: causes.count(c) for c in set(causes)}
    assert bad["too_large",] == 0  # known before it happens, so that a rate sees the first one
    assert found["stream_rnn_alerts_total"] == {(kind,): 0 for kind in ("anomaly", "drift", "silent", "back")}
    assert value["updates_total"] == counters["updates"] > 0
    assert value["labels_total"] == counters["labels"]
    assert value["keys"] == 4
    assert (value["up"], value["engine_up"], value["engine_ready"], value["shards"]) == (1, 1, 1, 1)
    assert found["stream_rnn_shard_state"]["running",] == 1 == sum(found["stream_rnn_shard_state"].values())
    npt.assert_allclose(value["skill_ratio"], 1 - value["absolute_error"] / value["last_value_absolute_error"])
    assert value["uncheckpointed_events"] == 0
    assert 0 <= value["checkpoint_age_seconds"] < 60
    assert value["checkpoint_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    assert value["state_bytes"] == shard["state_bytes"] > 4096
    assert value["commit_duration_seconds_count"] >= 1 <= value["checkpoint_duration_seconds_count"]
    assert found["stream_rnn_commit_duration_seconds_bucket"]["+Inf",] == value["commit_duration_seconds_count"]
    assert value["last_event_timestamp_seconds"] == json.loads(predictions[-1])["time"]
    assert value["learning_rate"] == 0.01
    assert value["lag_seconds"] == 0
    stages = found["stream_rnn_stage_seconds_total"]
    network = found["stream_rnn_network_seconds_total"]
    assert 0 < network["predict",] < network["predict",] + network["update",] < stages["learn",]
    assert all(stages[s,] > 0 for s in ("read", "decode", "learn", "encode", "send", "commit", "checkpoint", "wait"))


def test_coverage_is_the_share_of_values_inside_their_intervals(tmp_path):
    made = Forecaster("x", key="key", time="t", hidden=8, k2=4)
    with running(tmp_path, made=made, block=1) as (e, sinks, get):
        through(e)
        found = samples(get("/metrics")[2])["stream_rnn_interval_coverage_ratio"]
    seen = {0.5: (0.0, 0.0), 0.9: (0.0, 0.0)}
    for p in sinks.predictions.predictions:
        for level, (low, high) in (p["predicted_interval"] or {}).items():
            inside, n = seen[float(level)]
            seen[float(level)] = inside * 0.999 + (low <= p["actual"] <= high), n * 0.999 + 1
    assert {float(level): share for (level,), share in found.items()} == pytest.approx(
        {level: inside / n for level, (inside, n) in seen.items()}
    )


def test_a_counter_never_goes_back_when_a_shard_is_opened_again(tmp_path):
    class Away(Sinks):
        """Does not answer to the third commit."""

    sinks = Away()
    commits = []
    opened = sinks.predictions.open

    def open_(shard):
        output = opened(shard)
        commit = output.commit

        def fail(*arguments):
            commits.append(1)
            if len(commits) == 3:
                raise Unavailable("it is away")
            commit(*arguments)

        output.commit = fail
        return output

    sinks.predictions.open = open_
    with running(tmp_path, sinks=sinks, block=50, commit_interval=0.0, checkpoint_interval=0.001) as (e, _, get):
        until(lambda: len(commits) > 3)
        through(e)
        value = {name: v.get(()) for name, v in samples(get("/metrics")[2]).items()}
        status = json.loads(get("/status")[2])["shards"][0]
    assert value["stream_rnn_shard_restarts_total"] == 1
    assert value["stream_rnn_events_total"] - value["stream_rnn_replayed_events_total"] == status["events"] == 300


def test_every_metric_is_in_the_docs_and_follows_the_conventions(tmp_path):
    with open(os.path.join(os.path.dirname(__file__), "..", "docs", "running.md")) as f:
        assert exposition.markdown() in f.read(), "python -m stream_rnn.exposition prints the table"
    with running(tmp_path) as (e, _, get):
        through(e)
        plain = get("/metrics")
        exact = get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert plain[1]["Content-Type"].startswith("text/plain; version=0.0.4")
    assert exact[1]["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    for text, families in ((plain[2], parser.text_string_to_metric_families), (exact[2], openmetrics_families)):
        found = [f for f in families(text) if f.name.startswith("stream_rnn_")]
        assert len({f.name for f in found}) == len(found) == len(exposition.METRICS) + len(exposition.PROCESS)
        for family in found:
            assert family.type in ("counter", "gauge", "histogram")
            assert family.documentation
            assert not family.name.endswith(("_milliseconds", "_ms", "_total" if family.type == "gauge" else "_info_"))
            for s in family.samples:
                assert family.type != "counter" or s.name.endswith("_total")
    assert openmetrics.exposition.CONTENT_TYPE_LATEST


def test_lag_is_the_age_of_what_was_learnt_last_while_more_waits():
    meter = Meter()
    meter.record_s = time.time() - 100
    look = exposition.Look(SimpleNamespace(meter=meter), {"lag": 7}, {})
    assert look.lag_s == pytest.approx(100, abs=5)
    meter.read(False)
    assert look.lag_s == pytest.approx(100, abs=5)  # it may only be slow
    look.status["lag"] = 0
    assert look.lag_s == 0
    look.status["lag"] = None  # a file
    assert look.lag_s == 0
    meter.read(True)
    assert look.lag_s == pytest.approx(100, abs=5)


def test_of_answers_that_are_no_numbers_no_error_is_told():
    quality = Quality()
    for i in range(3):
        quality.look([Prediction("k", None, None, i + 1, predicted="a", actual="ab"[i % 2])])
    assert quality.told() == {"mae": None, "last_value_mae": None, "ratio": None, "coverage": {}}


def test_status_is_json_and_knows_no_nan(tmp_path):
    with running(tmp_path) as (e, _, get):
        through(e)
        code, headers, text = get("/status?pretty")
    found = json.loads(text, parse_constant=pytest.fail)
    assert (code, headers["Content-Type"], found["live"], found["ready"]) == (200, "application/json", True, True)
    assert found["shards"][0]["events"] == 300
    assert found["shards"][0]["marks"]["predictions"].startswith("memory:")


def hold(monkeypatch, phase):
    """Let whoever enters a phase wait there; what lets go."""
    go = threading.Event()
    monkeypatch.setattr(phases, "enter", lambda name: name != phase or go.wait(60))
    return go


def test_it_is_ready_when_the_replay_is_over(tmp_path, monkeypatch):
    sinks = Sinks()
    with running(tmp_path, sinks=sinks) as (e, _, _get):
        through(e)
    for f in tmp_path.glob("state.db*"):
        f.unlink()
    go = hold(monkeypatch, "restore")
    with running(tmp_path, sinks=sinks) as (e, _, get):
        until(lambda: e.joined)
        assert get("/readyz")[::2] == (503, "shard 0: starting\n")
        assert get("/healthz")[::2] == (200, "ok\n")
        replay = hold(monkeypatch, "replay")
        go.set()
        until(lambda: get("/readyz")[2] == "shard 0: replaying\n")
        assert samples(get("/metrics")[2])["stream_rnn_replaying"][()] == 1
        replay.set()
        until(lambda: get("/readyz")[0] == 200)
        assert samples(get("/metrics")[2])["stream_rnn_replayed_events_total"][()] == 300
    assert len(sinks.predictions.lines) + len(sinks.letters.lines) == 300


def test_it_is_not_healthy_when_a_loop_stands_still(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "STALLED_S", 0.3)
    with running(tmp_path) as (e, _, get):
        through(e)
        assert get("/healthz")[0] == 200
        go = hold(monkeypatch, "read")
        until(lambda: get("/healthz")[0] == 503)
        assert samples(get("/metrics")[2])["stream_rnn_engine_up"][()] == 0
        go.set()
        until(lambda: get("/healthz")[0] == 200)


# Who may ask


def test_only_get_and_head_of_pages_that_there_are(tmp_path):
    with running(tmp_path) as (e, _, get):
        through(e)
        code, headers, text = get("/")
        assert code == 404
        assert "/metrics" in text
        assert get("/metrics/../status")[0] == 404
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            code, headers, _ = get("/status", method=method)
            assert (code, headers["Allow"]) == (405, "GET, HEAD")
        code, headers, text = get("/status", method="HEAD")
        assert (code, text) == (200, "")
        assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/metrics", "/nothing"])
def test_a_token_is_wanted_of_everybody(tmp_path, caplog, path):
    caplog.set_level(logging.DEBUG, "stream_rnn")
    with running(tmp_path, token=TOKEN, listen="0.0.0.0:0") as (e, _, get):
        until(lambda: e.shards)
        said = []
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
                      {"Authorization": TOKEN},
                      {"Authorization": "Bearer "}, {"Authorization": "Bearer ÿ"},
                      {"Authorization": f"Bearer {TOKEN}x"}):  # fmt: skip
            code, headers, text = get(path, **given)
            assert (code, headers["WWW-Authenticate"]) == (401, 'Bearer realm="stream-rnn"')
            said.append(str(headers) + text)
        for scheme in ("Bearer", "bearer"):
            code, headers, text = get(path, Authorization=f"{scheme} {TOKEN}")
            assert code in ({404} if path == "/nothing" else {200, 503})
            said.append(str(headers) + text)
        said.append(repr(e.status()))
    assert TOKEN not in "".join(said) + caplog.text


@pytest.mark.parametrize("where", ["0.0.0.0:0", "[::]:0", "example.org:80", "192.168.0.1:80"])
def test_no_address_is_open_to_others_without_a_token(tmp_path, where):
    with pytest.raises(ConfigError, match=r"open to others.*STREAM_RNN_TOKEN"):
        engine(STREAM, Sinks(), tmp_path, listen=where).run()
    assert not (tmp_path / "state.db").exists()


@pytest.mark.parametrize("where", ["127.0.0.1:0", "127.0.0.2:1", "localhost:80", "[::1]:80"])
def test_the_loopback_may_be_listened_on_without(where):
    listen.check(where, None)


@pytest.mark.parametrize("token", ["", " ", "two words", "line\n"])
def test_an_empty_token_is_none(token):
    with pytest.raises(ConfigError, match=r"http\.token"):
        listen.check("127.0.0.1:0", token)


NOWHERE = ["8080", ":8080", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:-1", "::1:80", "[::1]", "h:٣"]


@pytest.mark.parametrize("where", NOWHERE)
def test_an_address_that_is_none_is_refused(where):
    with pytest.raises(ConfigError, match=r"http\.listen = .*address:port"):
        listen.address_of(where)


def test_a_port_in_use_is_said_before_anything_is_opened(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}.*another process listens there"):
            engine(STREAM, Sinks(), tmp_path, listen=f"127.0.0.1:{port}").run()
    assert not (tmp_path / "state.db").exists()
    with pytest.raises(ListenError, match="no such address"):
        engine(STREAM, Sinks(), tmp_path, listen="192.0.2.1:0", token=TOKEN).run()


def test_http_cannot_change_while_the_job_runs(tmp_path):
    path, token = tmp_path / "job.toml", {"TOKEN_OF_TEST": TOKEN}
    path.write_text(CONFIG)
    first, other = (config.load(path, [f"http.listen=127.0.0.1:{port}"], token) for port in (1, 2))
    assert config.live_changes(first, other) == ({}, ["http.listen"])


# Odd requests

ODD = [
    b"", b"\r\n", b"GET", b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET /status HTTP/9.9\r\n\r\n",
    b"BREW /pot HTTP/1.1\r\n\r\n", b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /status HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n", b"GET /status HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET http://other/status HTTP/1.1\r\n\r\n", b"POST /status HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nx",
    b"GET /\xff\xfe%00 HTTP/1.1\r\n\r\n", "GET /status HTTP/1.1\r\nAuthorization: Bearer \u2603\r\n\r\n".encode(),
]  # fmt: skip


def test_no_request_disturbs_the_engine(tmp_path, capfd):
    with running(tmp_path, STREAM[:100]) as (e, _, get):
        through(e, 100)
        for request in ODD:
            with socket.create_connection(("127.0.0.1", e.server.port), timeout=10) as s, contextlib.suppress(OSError):
                s.sendall(request)
                s.shutdown(socket.SHUT_WR)
                while s.recv(4096):
                    pass
        for _ in range(20):  # goes away without listening
            with socket.create_connection(("127.0.0.1", e.server.port)) as s:
                s.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert get("/status")[0] == 200
        e.append(STREAM[100:])
        through(e)
    assert "Traceback" not in capfd.readouterr().err


def test_slow_clients_are_cut_off_and_many_are_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_OPEN_S", 0.5)
    with running(tmp_path, STREAM[:100]) as (e, _, get), contextlib.ExitStack() as held:
        slow = []
        for _ in range(server._CONNECTIONS):
            s = held.enter_context(socket.create_connection(("127.0.0.1", e.server.port), timeout=10))
            s.sendall(b"GET /status HTTP/1.1\r\n")
            slow.append(s)
        until(lambda: len(e.server._server._open) == server._CONNECTIONS)
        with pytest.raises((OSError, http.client.HTTPException)):
            get("/healthz")
        e.append(STREAM[100:])
        through(e)  # whoever hangs on
        for s in slow:
            assert s.recv(100) == b""  # each is cut off, though it is never silent for long
        assert get("/healthz")[0] == 200


# As a process

CONFIG = """\
[source]
type = "file"
path = "in.jsonl"
follow = true
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
[http]
listen = "127.0.0.1:0"
token = "${TOKEN_OF_TEST}"
[log]
level = "debug"
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job that runs; (process, port)."""
    monkeypatch.setenv("TOKEN_OF_TEST", TOKEN)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "job.toml").write_text(CONFIG.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    (tmp_path / "in.jsonl").write_bytes(
        b"".join((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in STREAM)
    )
    process = subprocess.Popen([sys.executable, "-m", "stream_rnn.cli", "run", "job.toml"], cwd=tmp_path,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip

    def ready():
        with contextlib.suppress(OSError):
            found = json.loads(ask(port, "/status", Authorization=f"Bearer {TOKEN}")[2])
            return found["ready"] and found["shards"][0]["events"] == 300

    try:
        until(ready, 300)  # it may have to compile
        yield process, port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_sigterm_while_requests_are_open(job, tmp_path):
    process, port = job
    with socket.create_connection(("127.0.0.1", port)) as half, socket.create_connection(("127.0.0.1", port)):
        half.sendall(b"GET /metrics HTTP/1.1\r\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    said = process.stderr.read()
    assert "msg=listening at=http://127.0.0.1:" in said
    assert TOKEN not in said
    assert "Traceback" not in said
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == sum(
        isinstance(e, dict) and e["x"] != "no number" for e in STREAM
    )


def test_status_asks_the_job_that_runs_and_else_looks_at_its_state(job, capsys, monkeypatch):
    process, _ = job
    assert main(["status", "job.toml"]) == 0
    said = capsys.readouterr().out
    assert "ready" in said
    assert "300 events, " in said
    assert main(["status", "job.toml", "--json"]) == 0
    (shard,) = json.loads(capsys.readouterr().out)
    assert (shard["live"], shard["state"], shard["events"]) == (True, "running", 300)
    for probe in ("live", "ready"):
        assert main(["status", "job.toml", "--probe", probe]) == 0
        assert capsys.readouterr().out == "ok\n"
    monkeypatch.setenv("TOKEN_OF_TEST", "another")
    assert main(["status", "job.toml"]) == 1
    assert "another http.token" in capsys.readouterr().err
    process.terminate()
    assert process.wait(30) == 0
    assert main(["status", "job.toml"]) == 0
    out, err = capsys.readouterr()
    assert "no job listens" in err
    assert "checkpoint 1" in out
    assert main(["status", "job.toml", "--probe", "live"]) == 1
    assert main(["status", "state", "--probe", "live"]) == 2
    out, err = (now + before for now, before in zip(capsys.readouterr(), (out, err), strict=True))
    assert "has no http.listen" in err
    assert TOKEN not in out + err


@pytest.mark.kafka
def test_a_partition_has_its_topic_and_lag(kafka, tmp_path, monkeypatch):
    topic, out = kafka.create(fresh()), kafka.create(fresh())
    records = [json.dumps({"x": float(i)}).encode() for i in range(50)]
    fill(kafka.address, topic, records, **{"transactional.id": fresh()})  # its end has a marker behind the records
    monkeypatch.setattr(exposition, "_IDLE_S", 0.2)
    kafka_job = KafkaJob({"bootstrap.servers": kafka.address}, fresh("job"))
    e = Engine(kafka_job.source(topic), model(key=None, time=None), kafka_job.sink(out), state=tmp_path,
               listen="127.0.0.1:0", on_error="skip")  # fmt: skip
    thread = threading.Thread(target=e.run)
    thread.start()
    try:
        until(lambda: e.shards and e.status()[0]["events"] == 50)
        until(lambda: e.status()[0]["lag"] == 1)
        until(lambda: (e.shards[0].meter.idle_s or 0) > 0.2)
        text = ask(e.server.port, "/metrics")[2]
        assert f'stream_rnn_events_total{{partition="0",shard="0",topic="{topic}"}} 50.0' in text
        assert f'stream_rnn_lag_offsets{{partition="0",shard="0",topic="{topic}"}} 1.0' in text
        assert f'stream_rnn_lag_seconds{{partition="0",shard="0",topic="{topic}"}} 0.0' in text
        assert "stream_rnn_rebalances_total 1.0" in text
    finally:
        e.stop()
        thread.join(30)
        kafka_job.close()
