"""Kafka to Kafka by the command, both clients: whatever is killed, outputs, dead letters, weights and key states are,
bit for bit, those of one undisturbed run. In short form; `-m soak` runs many more."""

from __future__ import annotations

import base64
import copy
import json
import random
import shutil
import signal
import threading
import time

import pytest
from broker import Broker
from kafka_help import CLIENTS, until
from recovery.job import Kill
from recovery.kafka_job import PARTITIONS, FileToTopic, TopicJob, make_input
from recovery.scenarios import job as make_job

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
both_clients = pytest.mark.parametrize("client", CLIENTS)

PHASES = [
    "open", "restore", "read", "learn", "write", "between", "commit", "committed", "copy", "checkpoint", "rows",
    "checkpointed", "stop",
]  # fmt: skip


@pytest.fixture(scope="module")
def own():
    """A broker with the input, which tests here may kill."""
    with Broker() as broker:
        make_input(broker)
        yield broker


@pytest.fixture(scope="module")
def undisturbed(own, nursery, tmp_path_factory):
    job = TopicJob(tmp_path_factory.mktemp("undisturbed"), own, "kafka-python", nursery=nursery)
    job.finish()
    return job.outcome()


@pytest.fixture
def make(own, client, nursery, tmp_path):
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
    until(lambda: not job.outcome().differences(undisturbed), 5, fail=False)
    assert not job.outcome().differences(undisturbed)


@both_clients
def test_an_undisturbed_run_is_the_same_with_both(make, undisturbed, client):
    job = make()
    job.finish()
    check(job, undisturbed)
    assert all(undisturbed.outputs[f"{what}/{p}"] for what in ("out", "dead") for p in range(PARTITIONS))


@both_clients
def test_a_kill_leaves_no_trace(make, undisturbed, client):
    kill_in(PHASES, make, undisturbed, random.Random(1))


@both_clients
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_nor_do_many(make, undisturbed, client, seed):
    rng = random.Random(seed)
    phases = PHASES * 2
    rng.shuffle(phases)
    kill_in(phases, make, undisturbed, rng)


def kill_in(phases, make, undisturbed, rng):
    """One kill in each of these phases, half of them while the process stands still there."""
    left = list(phases)
    while left:
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


@both_clients
def test_nor_does_a_broker_that_is_killed(make, undisturbed, client, own):
    """Twice, and once for longer than a commit may take."""
    job = make(**{"kafka.socket.timeout.ms": 3000})
    stops = {("committed", 3): 0.0, ("learn", 12): 0.5}

    def watch(process, phase, n):
        pause = stops.get((phase, n))
        if pause is not None:
            own.kill()
            threading.Timer(pause, own.start).start()

    life = job.run(watch=watch)
    until(lambda: own.running)
    assert life.code == 0, life.said
    check(job, undisturbed)


@both_clients
def test_workers_share_the_partitions_and_take_them_over(make, undisturbed, client):
    """Three processes of one group and one folder: they join, leave, are killed, and sleep until they are given up."""
    job = make(**{"kafka.group.instance.id": None, "kafka.session.timeout.ms": 1500})
    job.tamper = [["blocks_of", 20], ["slowly", 0.05]]
    workers = [job.start(), job.start()]
    try:
        time.sleep(2.0)
        workers[0].send_signal(signal.SIGKILL)
        workers.append(job.start())
        time.sleep(1.0)
        workers[2].send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        workers[2].send_signal(signal.SIGCONT)
        time.sleep(1.0)
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(30) == 0
        until(job.done, 60)
        workers[2].send_signal(signal.SIGTERM)
        assert workers[2].wait(30) == 0
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
    check(job, undisturbed)


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
    until(lambda: not job.outcome().differences(wanted), 5, fail=False)
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


@pytest.mark.parametrize("client", ["kafka-python"])
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
