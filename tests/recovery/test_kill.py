"""kill -9 at any instant of any phase leaves no trace: outputs, dead letters, weights, key states and counts of the
lives together are, bit for bit, those of one undisturbed run."""

from __future__ import annotations

import json
import random
import signal
from itertools import pairwise

import msgspec
import pytest
from recovery.job import Job, Kill
from recovery.scenarios import job as make_job

from stream_rnn import phases
from stream_rnn.model import Forecaster
from stream_rnn.store import Store

KILLS, SOAK_KILLS = 5, 60  # in each phase

# Which job comes to that phase, and how many times it is entered, at most, before the kill.
WHERE = {
    "open": ("file", 1), "restore": ("file", 1), "read": ("file", 8), "learn": ("file", 8), "write": ("file", 8),
    "between": ("file", 8), "commit": ("file", 8), "committed": ("file", 8), "copy": ("file", 5),
    "checkpoint": ("file", 5), "rows": ("file", 5), "checkpointed": ("file", 5), "stop": ("file", 1),
    "replay": ("replay", 3), "journal": ("stdin", 6), "rotation": ("follow", 3), "spill": ("spill", 3),
    "recall": ("spill", 9),
}  # fmt: skip


def test_every_phase_is_killed_in():
    assert set(WHERE) | {"setting", "share", "shared"} == set(phases.PHASES)  # those two: test_kafka_moved.py


def test_an_undisturbed_run_gives_each_record_one_line_in_order(nursery, whole, tmp_path):
    for name in ("file", "stdin"):
        records = make_job(name, tmp_path / name, nursery).records
        lines = [json.loads(line) for output in whole(name).outputs.values() for line in output.splitlines()]
        places = [tuple(map(int, line["source"].split(":")[1].split("/"))) for line in lines]
        assert len(set(places)) == len(lines) == len(records)
        for output in whole(name).outputs.values():
            places = [tuple(map(int, json.loads(x)["source"].split(":")[1].split("/"))) for x in output.splitlines()]
            assert all(a < b for a, b in pairwise(places))
            assert len(places) > 50


@pytest.mark.parametrize("phase", WHERE)
def test_a_kill_leaves_no_trace(phase, nursery, whole, tmp_path):
    name, n = WHERE[phase]
    kill_in(phase, n, name, KILLS, nursery, whole, tmp_path)


@pytest.mark.parametrize("phase", ["learn", "checkpointed"])
def test_nor_in_a_stream_of_texts(phase, nursery, whole, tmp_path):
    kill_in(phase, 8, "text", 3, nursery, whole, tmp_path)


@pytest.mark.parametrize("name", ["mixture", "idle", "csv"])
@pytest.mark.parametrize("phase", ["learn", "committed", "copy", "rows", "checkpointed"])
def test_nor_in_the_default_model_nor_with_silent_keys_nor_from_csv(name, phase, nursery, whole, tmp_path):
    kill_in(phase, 8, name, 3, nursery, whole, tmp_path)


@pytest.mark.parametrize("phase", ["write", "between", "commit", "copy", "checkpointed", "replay"])
def test_alerts_are_out_once_each(phase, nursery, whole, tmp_path):
    alerts = [json.loads(line) for line in whole("alerts").outputs["alerts.jsonl"].splitlines()]
    assert {a["kind"] for a in alerts} >= {"anomaly", "silent"}
    kill_in(phase, 2 if phase == "replay" else 8, "alerts", 2, nursery, whole, tmp_path)


def test_silent_keys_are_deleted_and_start_afresh(whole):
    found = whole("idle")
    steps = [(line["key"], line["step"]) for line in map(json.loads, found.outputs["out.jsonl"].splitlines())]
    assert len([1 for _, step in steps if step == 1]) > len({key for key, _ in steps})
    assert len(found.states) < len({key for key, _ in steps}) - 200


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("phase", WHERE)
def test_nor_do_many(phase, seed, nursery, whole, tmp_path):
    name, n = WHERE[phase]
    kill_in(phase, n, name, SOAK_KILLS, nursery, whole, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("name", ["mixture", "idle"])
@pytest.mark.parametrize("phase", ["learn", "committed", "copy", "rows", "checkpointed", "spill", "recall"])
def test_nor_do_many_in_other_jobs(phase, name, nursery, whole, tmp_path):
    kill_in(phase, 4, name, SOAK_KILLS, nursery, whole, tmp_path)


def kill_in(phase, n, name, kills, nursery, whole, folder, seed=0):
    """Kill in a phase `kills` times: half of them while it stands still there, half of them in full flight."""
    rng = random.Random(f"{phase} {name} {seed}")
    done = jobs = 0
    while done < kills:
        jobs += 1
        assert jobs <= 3 * kills, f"only {done} kills in {phase}"
        job = make_job(name, folder / str(jobs), nursery)
        job.tamper += [["blocks_of", rng.randint(40, 160)]]
        if phase == "replay":
            assert job.run(Kill("learn", 12, stalls=True)).killed
        done += kill_until_done(job, phase, n, kills - done, rng)
        job.finish()
        assert not job.outcome().differences(whole(name))


def kill_until_done(job: Job, phase: str, n: int, kills: int, rng: random.Random) -> int:
    """Lives of one job until it has been killed that often, or has come to the end of its stream."""
    for done in range(kills):
        stalls = rng.random() < 0.5
        after_s = rng.choice([0.0, rng.random() * 0.003, rng.random() * 0.02])
        life = job.run(Kill(phase, rng.randint(1, n), stalls, after_s))
        if not life.killed:
            assert life.code == 0, life.said
            return done
        assert phase in life.phases
    return kills


@pytest.mark.parametrize("phase", ["learn", "write", "between", "committed", "checkpoint", "rows", "checkpointed"])
def test_nor_does_a_power_failure(phase, nursery, whole, tmp_path):
    rng = random.Random(phase)
    for seed in range(3):
        job = make_job("file", tmp_path / str(seed), nursery, **{"state.commit_interval": f"{2 * seed}ms"})
        job.tamper = [["blocks_of", 60], ["disk_that_forgets", seed]]
        kill_until_done(job, phase, 8, 3, rng)
        job.finish()
        assert not job.outcome().differences(whole("file"))


def test_a_kill_while_a_setting_changes_leaves_no_trace(nursery, tmp_path):
    """Each event is learnt with the lr that it was first learnt with, whoever was killed meanwhile."""
    rng = random.Random(0)
    for n in range(KILLS):
        job = make_job("clean", tmp_path / str(n), nursery, **{"state.checkpoint_interval": rng.choice(["1ms", "1h"])})
        job.tamper = [["blocks_of", 80], ["wait_for_a_change", 2 + n]]

        def change(process, phase, count, job=job, n=n):
            if (phase, count) == ("learn", 2 + n):
                job.configure(**job.settings | {"model.lr": 0.05})
                process.send_signal(signal.SIGHUP)

        assert job.run(Kill("setting", 1, n % 2 == 0, rng.random() * 0.003), watch=change).killed
        job.tamper.pop()
        job.run(Kill("learn", 2))  # on a slow machine all may have been learnt before the first kill
        job.finish()
        with Store(job.state, write=False) as store:
            changes = [(c.position, c.value) for c in store.settings_log() if c.name == "model.lr"]
        assert [value for _, value in changes] == [0.01, 0.05]
        assert job.outcome().outputs["out.jsonl"] == learnt_by_hand(job, dict(changes))


def learnt_by_hand(job, lrs):
    """What the output must be: one event after the other, each lr set right before the event at its position."""
    model = Forecaster(
        "v",
        key="id",
        time="at",
        **{name.removeprefix("model."): value for name, value in job.settings.items() if name.startswith("model.")},
    )
    lines, at = [], 0
    for line in job.input.read_bytes().splitlines(keepends=True):
        if (0, at) in lrs:
            model.set_live("lr", lrs[0, at])
        if line.strip():
            prediction = model.step(json.loads(line))
            prediction.source = f"file:0/{at}"
            lines.append(msgspec.json.encode(prediction) + b"\n")
        at += len(line)
    return b"".join(lines)


def test_an_end_in_order_leaves_no_trace(nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery, **{"state.checkpoint_interval": "1h"})
    job.tamper = [["blocks_of", 80], ["wait_to_be_stopped", 9]]
    for number in (signal.SIGTERM, signal.SIGINT):
        life = job.run(watch=lambda process, phase, n, s=number: n == 9 and phase == "learn" and process.send_signal(s))
        assert (life.code, life.phases[-1]) == (0, "checkpointed"), life.said
    job.tamper.pop()
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_the_command_itself(whole, tmp_path):
    job = make_job("file", tmp_path, None)
    for phase in ("write", "rows", "checkpointed", "replay"):
        life = job.run(Kill(phase, 1, stalls=True))
        assert life.killed or phase == "replay"
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_standard_output_says_everything_at_least_once(nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.configure(**{n: v for n, v in job.settings.items() if n != "sink.path"} | {"sink.type": "stdout"})
    job.tamper = [["blocks_of", 100]]
    for phase in ("write", "committed", "rows", "checkpointed", "learn"):
        job.run(Kill(phase, 4, stalls=True))
    job.finish()
    lines = (tmp_path / "stdout").read_bytes().splitlines()
    wanted = whole("file").outputs["out.jsonl"].splitlines()
    assert len(lines) > len(wanted)
    text = (tmp_path / "stdout").read_bytes()
    assert all(line + b"\n" in text for line in wanted)
    assert len(set(lines) - set(wanted)) <= 5  # a kill in a write tears a line, five at most five
    found = job.outcome()
    assert (found.arrays, found.states) == (whole("file").arrays, whole("file").states)
