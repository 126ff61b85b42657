"""Kafka to Kafka, and the shards move to machines that have never seen them, or saw them long ago: what comes out, and
what is learnt, is bit for bit that of one undisturbed run."""

from __future__ import annotations

import random
import re
import shutil

import pytest
from kafka_help import CLIENTS, until
from recovery.job import Kill
from recovery.kafka_job import PARTITIONS, TopicJob

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
both_clients = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def make(own, client, nursery, tmp_path):
    def make(**settings):
        settings = {"state.share_interval": "1ms", **settings}
        job = TopicJob(tmp_path / "job", own, client, nursery=nursery, **settings)
        job.tamper = [["blocks_of", 70]]
        return job

    return make


def check(job, undisturbed):
    """The same; a broker marks the last transaction as committed a little later."""
    until(lambda: not job.outcome().differences(undisturbed), 30, fail=False)
    assert not job.outcome().differences(undisturbed)


def move(job):
    """To a machine without any state."""
    shutil.rmtree(job.state.parent)


@both_clients
def test_a_shard_that_moves_goes_on_from_the_topic(make, undisturbed, client):
    """Killed at once or asked to stop, before, in and after a snapshot was sent: all that the next one has is there."""
    job, rng = make(), random.Random(4)
    job.tamper.append(["slowly", 0.02])
    assert job.run(Kill("shared", 3)).killed
    move(job)
    for phase, n in (("share", 3), ("shared", 4), ("checkpointed", 3), ("learn", 6)):
        life = job.run(Kill(phase, n, rng.random() < 0.5))
        assert "taken over from topic" in life.said
        if not life.killed:
            assert life.code == 0, life.said
        move(job)
    life = job.finish()
    assert life.said.count("taken over from topic") == PARTITIONS, life.said
    assert "learning again" not in life.said
    check(job, undisturbed)


@both_clients
def test_an_orderly_end_leaves_nothing_to_replay(make, undisturbed, client):
    """Nothing but what was shared at the end: no interval is as short as that."""
    job = make(**{"state.checkpoint_interval": "1h", "state.share_interval": "1h"})
    for n in (5, 6):
        job.tamper = [["blocks_of", 70], ["wait_to_be_stopped", n]]

        def stop(process, phase, count, n=n):
            if (phase, count) == ("learn", n):
                process.send_signal(15)

        life = job.run(watch=stop)
        assert life.code == 0, life.said
        assert "replay" not in life.phases
        move(job)
    job.tamper = [["blocks_of", 70]]
    life = job.finish()
    assert "replay" not in life.phases
    assert life.said.count("taken over from topic") == PARTITIONS
    check(job, undisturbed)


@both_clients
def test_of_two_states_the_further_one_is_taken(make, undisturbed, client):
    """A machine that has the shard again after others had it; and one that is further than what was shared."""
    job = make()
    job.tamper.append(["slowly", 0.1])
    assert job.run(Kill("shared", 3)).killed
    old = job.folder / "old"
    shutil.copytree(job.state.parent, old)
    life = job.run(Kill("shared", 2))
    assert life.killed
    assert "taken over" not in life.said
    move(job)
    old.rename(job.state.parent)
    job.tamper.pop()
    life = job.finish()
    assert re.search("taken over from topic .*; here it was at", life.said), life.said
    check(job, undisturbed)


@pytest.mark.parametrize("client", ["kafka-python"])
def test_without_sharing_it_learns_again_from_the_start(make, undisturbed, client):
    job = make(**{"state.share": "none"})
    assert job.run(Kill("committed", 8)).killed
    move(job)
    life = job.finish()
    assert life.said.count("learning again from sensors/") == PARTITIONS, life.said
    assert "taken over" not in life.said
    check(job, undisturbed)
