"""The daemon: signals, reloading, systemd, the log. Real processes."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from stream_help import events

from stream_rnn import daemon, logs

STREAM = events(400)
CONFIG = """\
[source]
type = "file"
path = "in.jsonl"
follow = {follow}
[event]
key = "key"
time = "t"
target = "x"
[model]
kind = "rnn"
hidden = 4
k1 = 2
k2 = 4
lr = {lr}
[sink]
type = "file"
path = "out.jsonl"
[dead_letter]
type = "file"
path = "dead.jsonl"
[state]
checkpoint_interval = "{interval}"
commit_interval = "1ms"
[log]
level = "{level}"
"""


def write(folder, follow="true", lr="0.01", interval="30s", level="info", stream=STREAM):
    folder.mkdir(exist_ok=True)
    (folder / "job.toml").write_text(CONFIG.format(follow=follow, lr=lr, interval=interval, level=level))
    if not (folder / "in.jsonl").exists():
        append(folder, stream)


def append(folder, stream):
    with (folder / "in.jsonl").open("ab") as f:
        f.writelines((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in stream)


def start(folder, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "stream_rnn.cli", "run", "job.toml", *arguments], cwd=folder, stderr=subprocess.PIPE,
        env=os.environ | environment, text=True,
    )  # fmt: skip


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def count(folder):
    return sum((folder / name).read_bytes().count(b"\n") for name in ("out.jsonl", "dead.jsonl")
               if (folder / name).exists())  # fmt: skip


def outputs(folder):
    return [(folder / name).read_bytes() for name in ("out.jsonl", "dead.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run over STREAM writes."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder, follow="false")
    job = start(folder)
    assert job.wait(120) == 0, job.stderr.read()
    return outputs(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_it_goes_on_from_a_checkpoint(whole, tmp_path, number):
    write(tmp_path, stream=STREAM[:250])
    job = start(tmp_path)
    wait_for(lambda: count(tmp_path) == 250)
    job.send_signal(number)
    assert job.wait(30) == 0
    assert "stopping" in job.stderr.read()
    append(tmp_path, STREAM[250:])
    job = start(tmp_path)
    wait_for(lambda: count(tmp_path) == 400)
    job.send_signal(number)
    assert job.wait(30) == 0
    said = job.stderr.read()
    assert "msg=begin" in said
    assert "keys=4" in said  # nothing was learnt twice
    assert outputs(tmp_path) == whole


def test_a_second_signal_ends_it_at_once_and_nothing_is_lost(whole, tmp_path):
    write(tmp_path)
    job = start(tmp_path, STREAM_RNN_PHASES=str(tmp_path / "phases"), STREAM_RNN_STALL="stop:1")
    wait_for(lambda: count(tmp_path) == 400)
    job.send_signal(signal.SIGTERM)
    wait_for(lambda: "stop\n" in (tmp_path / "phases").read_text())
    job.send_signal(signal.SIGTERM)
    assert job.wait(10) == 128 + signal.SIGTERM
    write(tmp_path, follow="false")
    assert start(tmp_path).wait(60) == 0
    assert outputs(tmp_path) == whole


def test_kill_9_leaves_no_trace(whole, tmp_path):
    write(tmp_path, interval="5ms")
    for phase in ("write:1", "rows:1"):
        phases = tmp_path / f"phases-{phase.replace(':', '-')}"
        job = start(tmp_path, STREAM_RNN_PHASES=str(phases), STREAM_RNN_STALL=phase)
        wait_for(lambda p=phases, name=phase[:-2]: p.exists() and name in p.read_text().split())
        job.kill()
        job.wait(10)
    write(tmp_path, follow="false")
    assert start(tmp_path).wait(60) == 0
    assert outputs(tmp_path) == whole


def test_hang_up_takes_over_what_may_change_and_refuses_the_rest(tmp_path):
    write(tmp_path, stream=STREAM[:200])
    job = start(tmp_path)
    wait_for(lambda: count(tmp_path) == 200)
    write(tmp_path, lr="0.05", interval="20s", level="debug")
    job.send_signal(signal.SIGHUP)
    wait_for(lambda: "0.05" in inspected(tmp_path))
    append(tmp_path, STREAM[200:300])
    wait_for(lambda: count(tmp_path) == 300)
    job.kill()  # the change is only in the log of settings
    job.wait(10)
    assert "msg=reloaded model.lr=0.05" in job.stderr.read()
    emitted = outputs(tmp_path)
    write(tmp_path, lr="0.05")
    job = start(tmp_path)
    append(tmp_path, STREAM[300:])
    wait_for(lambda: count(tmp_path) == 400)
    (tmp_path / "job.toml").write_text((tmp_path / "job.toml").read_text().replace("k2 = 4", "k2 = 5"))
    job.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    (tmp_path / "job.toml").write_text("this is no TOML")
    job.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    job.terminate()
    assert job.wait(30) == 0
    said = job.stderr.read()
    assert "model.k2 cannot change while the job runs" in said
    assert "this is no TOML" in said
    after = outputs(tmp_path)
    assert [a[: len(e)] for a, e in zip(after, emitted, strict=True)] == emitted
    last = {}
    for p in map(json.loads, after[0].splitlines()):
        assert p["predicted"] == last.get(p["key"])
        last[p["key"]] = p["forecast"]


def inspected(folder):
    from stream_rnn.store import Store

    with Store(folder / "state" / "state.db", write=False) as store:
        return str([(c.name, c.value) for c in store.settings_log()])


def test_systemd_is_told(tmp_path):
    write(tmp_path)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(address)
        s.settimeout(60)
        job = start(tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC="600000")
        told = ""
        while not ("READY=1" in told and told.count("WATCHDOG=1") >= 3):
            told += s.recv(4096).decode() + "\n"
        job.send_signal(signal.SIGHUP)
        while "RELOADING=1\nMONOTONIC_USEC=" not in told:
            told += s.recv(4096).decode() + "\n"
        job.terminate()
        while "STOPPING=1" not in told:
            told += s.recv(4096).decode() + "\n"
        assert job.wait(30) == 0
    assert "STATUS=1 shards, 400 events" in told


def forget(s):
    """Take all that has come."""
    s.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            s.recv(4096)
    s.settimeout(60)


def test_the_watchdog_hears_nothing_of_a_shard_that_stands_still(tmp_path):
    write(tmp_path)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(address)
        s.settimeout(60)
        job = start(tmp_path, NOTIFY_SOCKET=address, WATCHDOG_USEC="300000",
                    STREAM_RNN_PHASES=str(tmp_path / "phases"), STREAM_RNN_STALL="read:2")  # fmt: skip
        while s.recv(4096) != b"READY=1":
            pass
        time.sleep(1.0)
        forget(s)
        heard = [s.recv(4096) for _ in range(4)]
        job.kill()
        job.wait(10)
    assert b"WATCHDOG=1" not in heard


def test_two_jobs_on_one_output_are_refused(tmp_path):
    write(tmp_path)
    first = start(tmp_path)
    wait_for(lambda: count(tmp_path) == 400)
    second = start(tmp_path)
    assert second.wait(30) == 1
    assert "written by another process" in second.stderr.read()
    first.terminate()
    assert first.wait(30) == 0


def test_python_collects_seldom_while_an_engine_runs_and_as_before_afterwards():
    before = gc.get_threshold(), gc.get_freeze_count()

    class Engine(daemon.Engine):
        def __init__(self):
            self.joined, self.seen = False, None

        def run(self):
            self.seen = gc.get_threshold()

        def status(self):
            return []

    engine = Engine()
    daemon.Daemon(engine).run()
    assert engine.seen[0] > 10 * before[0][0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


# The log


@pytest.fixture
def log(capsys):
    """The package's logger, set back afterwards."""
    logger = logging.getLogger("stream_rnn")
    before = logger.handlers[:], logger.propagate, logger.level
    yield logging.getLogger("stream_rnn.test")
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def test_lines_of_names_and_values(log, capsys):
    logs.configure("info", "text", sys.stderr)
    log.info("a thing", extra={"fields": {"shard": "3", "seconds": 0.123456789, "said": 'x "y"\nz', "none": None}})
    log.debug("too little")
    line = capsys.readouterr().err
    assert line.split(" ", 1)[1] == (
        'level=info logger=stream_rnn.test msg="a thing" shard=3 seconds=0.123457 said="x \\"y\\"\\nz"\n'
    )


def test_lines_of_json_and_no_secrets(log, capsys):
    logs.configure("debug", "json", sys.stderr)
    log.error("cannot log in: %s", "sasl.password=hunter2 at kafka://me:hunter2@host:9092")
    found = json.loads(capsys.readouterr().err)
    assert found["msg"] == "cannot log in: sasl.password=*** at kafka://***@host:9092"
    assert found["level"] == "error"


def test_a_flood_is_held_back_and_counted(log, capsys, monkeypatch):
    logs.configure("info", "text", sys.stderr)
    now = [0.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    for i in range(50):
        log.warning("no answer from %d", i)
    log.warning("another message")
    now[0] = 11.0
    log.warning("no answer from %d", 50)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[-1].endswith("not_told=40")
