"""Kafka to Kafka by the command, both clients: whatever is killed, outputs, dead letters, weights and key states are,
bit for bit, those of one undisturbed run. In short form; `-m soak` runs many more."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import random
import shutil
import threading
import time

import pytest
from kafka_help import CLIENTS, until
from recovery.crew import LONGER_THAN_EVERY_TIMEOUT_S, TIMEOUTS, Crew
from recovery.job import Kill
from recovery.kafka_job import PARTITIONS, FileToTopic, TopicJob
from recovery.scenarios import job as make_job

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
both_clients = pytest.mark.parametrize("client", CLIENTS)

PHASES = [
    "open", "restore", "read", "learn", "write", "between", "commit", "committed", "copy", "checkpoint", "rows",
    "checkpointed", "stop",
]  # fmt: skip


@pytest.fixture
def make(own, mortal, client, nursery, tmp_path):
    count = 0

    def make(**settings):
        nonlocal count
        count += 1
        job = TopicJob(tmp_path / str(count), own, client, nursery=nursery, **settings)
        job.tamper = [["blocks_of", 70]]
        return job

    return make


def check(job, undisturbed):
    """The same; a broker marks the last transaction as committed a little later."""
    until(lambda: not job.outcome().differences(undisturbed), 30, fail=False)
    assert not job.outcome().differences(undisturbed)


@both_clients
def test_an_undisturbed_run_is_the_same_with_both(make, undisturbed, client):
    job = make()
    job.finish()
    check(job, undisturbed)
    assert all(undisturbed.outputs[f"{what}/{p}"] for what in ("out", "dead") for p in range(PARTITIONS))


# The proof. Its long form prints what it has done


@both_clients
def test_a_kill_leaves_no_trace(make, undisturbed, client):
    kill_in(PHASES, make, undisturbed, random.Random(1))


@both_clients
@pytest.mark.soak
def test_nor_do_many(make, undisturbed, client, record_property):
    rng = random.Random(2)
    phases = PHASES * 5
    rng.shuffle(phases)
    jobs = kill_in(phases, make, undisturbed, rng)
    record_property("proof", f"{len(phases)} kills in {len(PHASES)} phases, {jobs} times the stream; 0 differences")


def kill_in(phases, make, undisturbed, rng):
    """One kill in each of these phases, half of them while the process stands still there."""
    left = list(phases)
    for jobs in itertools.count(1):
        job = make()
        while left:
            n = 1 if left[0] in ("open", "restore", "stop") else rng.randint(1, 5)
            life = job.run(Kill(left[0], n, rng.random() < 0.5, rng.choice([0.0, 0.002, 0.01])))
            if not life.killed:  # it came to the end of the stream before
                assert life.code == 0, life.said
                break
            left.pop(0)
        job.finish()
        check(job, undisturbed)
        if not left:
            return jobs


@both_clients
def test_nor_does_a_broker_that_is_killed(make, undisturbed, client, own):
    """Twice, and once for longer than every time-out."""
    outages(make, undisturbed, own, [0.0, LONGER_THAN_EVERY_TIMEOUT_S])


@both_clients
@pytest.mark.soak
def test_nor_does_one_that_is_killed_often(make, undisturbed, client, own, record_property):
    pauses = [0.0, 0.3, 0.0, LONGER_THAN_EVERY_TIMEOUT_S, 0.0, 1.0, 3.0, 0.0]
    outages(make, undisturbed, own, pauses)
    record_property("proof", f"{len(pauses)} broker restarts; 0 differences")


def outages(make, undisturbed, broker, pauses):
    """The broker is killed every 25 instants, in whatever phase that is, and started again after these pauses."""
    job = make(**TIMEOUTS)
    job.tamper = [["blocks_of", 1000 // len(pauses) // 8]]
    left, instants, restart = list(pauses), 0, None

    def start_again(pause_s):
        time.sleep(pause_s)
        broker.start()

    def watch(process, phase, n):
        nonlocal instants, restart
        if restart is None or not restart.is_alive():
            instants += 1
        if left and instants > 25:
            instants = 0
            broker.kill()
            restart = threading.Thread(target=start_again, args=(left.pop(0),))
            restart.start()

    life = job.run(watch=watch, longest_s=120.0 * len(pauses))
    restart.join()
    assert not left, "the stream was too short"
    assert life.code == 0, life.said
    check(job, undisturbed)


@both_clients
def test_workers_share_the_partitions_and_take_them_over(own, mortal, nursery, client, tmp_path):
    """Up to three processes of one group: they come, leave, are killed, and sleep until they are given up."""
    crew = Crew(tmp_path, own, client, nursery, random.Random(4))
    with crew:
        for step in (crew.join, crew.join, crew.kill_in_a_rebalance, crew.sleep, crew.leave, crew.kill):
            step()
        assert not crew.finish()


@both_clients
@pytest.mark.soak
def test_nor_does_everything_at_once(own, mortal, nursery, client, tmp_path, record_property):
    """All of that at random, with broker restarts in between."""
    crew = Crew(tmp_path, own, client, nursery, random.Random(5))
    with crew:
        crew.join()
        for step in crew.steps(4):
            step()
        differences = crew.finish()
    record_property("proof", crew.report(differences))
    assert not differences
    assert crew.rebalances >= 20


TO_FILES = {
    "sink.type": "file", "sink.path": "out.jsonl", "dead_letter.type": "file", "dead_letter.path": "dead.jsonl",
}  # fmt: skip


@both_clients
def test_nor_does_a_kill_from_a_topic_to_files(make, client):
    """Positions are in the checkpoints alone; the group is shown them."""
    whole = make(**TO_FILES)
    whole.finish()
    job = make(**TO_FILES)
    rng = random.Random(2)
    for phase in ("write", "committed", "checkpoint", "checkpointed"):
        job.run(Kill(phase, rng.randint(1, 3), stalls=True))
    job.finish()
    assert not job.outcome().differences(whole.outcome())


@both_clients
def test_nor_does_a_kill_from_a_file_to_topics(own, whole, nursery, client, tmp_path):
    """The mark is kept as an offset's metadata, in the transaction of the outputs."""
    records = make_job("file", tmp_path / "names", None).records
    job = FileToTopic(tmp_path / "job", own, client, records, nursery)
    job.tamper = [["blocks_of", 200]]
    rng = random.Random(3)
    kills = 0
    for phase in ("write", "between", "commit", "committed", "copy", "rows", "checkpointed", "committed"):
        kills += job.run(Kill(phase, rng.randint(1, 4), rng.random() < 0.5, rng.choice([0.0, 0.005]))).killed
    assert kills >= 5
    job.finish()
    wanted = copy.copy(whole("file"))
    letters = [json.loads(line) for line in wanted.outputs["dead.jsonl"].splitlines()]
    wanted.outputs = {"out.jsonl": wanted.outputs["out.jsonl"]}
    until(lambda: not job.outcome().differences(wanted), 30, fail=False)
    assert not job.outcome().differences(wanted)
    assert job.letters() == [(base64.b64decode(x["base64"]), x["source"]) for x in letters]


@both_clients
def test_a_state_folder_that_is_gone_is_learnt_again(make, undisturbed, client):
    job = make()
    assert job.run(Kill("committed", 6)).killed
    shutil.rmtree(job.folder / "state")
    job.finish()
    check(job, undisturbed)


@both_clients
def test_an_answer_that_gets_lost_leaves_no_trace(make, undisturbed, client):
    job = make()
    job.tamper += [["answer_lost", 5]]
    life = job.finish()
    assert "outcome of a commit is unknown" in life.said
    check(job, undisturbed)


# Controls: engines that are wrong in one place leave a trace


@both_clients
@pytest.mark.parametrize(
    "wrong, kill",
    [
        (["mark_filter_off"], Kill("learn", 9, stalls=True)),
        (["unanswered_commits_are_made_again", 4], None),
        (["positions_go_ahead"], Kill("apart", 3, stalls=True)),
    ],
    ids=["mark-filter-off", "sent-again-from-memory", "position-apart"],
)
def test_a_wrong_engine_leaves_a_trace(make, undisturbed, client, wrong, kill):
    job = make(**{"state.checkpoint_interval": "1h"})
    job.tamper += [wrong]
    if kill is not None:
        assert job.run(kill).killed
    job.finish()
    assert job.outcome().differences(undisturbed)
