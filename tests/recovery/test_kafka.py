"""Kafka to Kafka by the command, both clients: whatever is killed, outputs, dead letters, weights and key states are,
bit for bit, those of one undisturbed run. In short form; `-m soak` runs many more."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time

import pytest
from broker import Broker
from kafka_help import CLIENTS, until
from recovery.job import Kill
from recovery.kafka_job import PARTITIONS, TopicJob, make_input

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
    """Three processes of one group and one folder: they join, leave and are killed."""
    job = make(**{"kafka.group.instance.id": None, "kafka.session.timeout.ms": 1500})
    job.tamper = [["blocks_of", 20], ["slowly", 0.02]]
    workers = [job.start(), job.start()]
    try:
        time.sleep(2.0)
        workers[0].send_signal(signal.SIGKILL)
        workers.append(job.start())
        time.sleep(2.0)
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(30) == 0
        until(job.done, 60)
        workers[2].send_signal(signal.SIGTERM)
        assert workers[2].wait(30) == 0
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
    check(job, undisturbed)


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
        (["positions_go_ahead"], Kill("between", 8, stalls=True)),
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
