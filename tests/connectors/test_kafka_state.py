"""Snapshots in the compacted topic: whole or not there, the newest first, fenced, and what compaction leaves."""

from __future__ import annotations

import os

import pytest
from kafka_help import CLIENTS, content, fill, fresh, join, until

from stream_rnn.connectors.kafka import KafkaJob, Snapshot
from stream_rnn.connectors.kafka_state import SLOT_BYTES
from stream_rnn.errors import SinkFenced, Unavailable

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]


@pytest.fixture
def make_job(kafka, client):
    jobs = []

    def make(name=None):
        jobs.append(KafkaJob({"bootstrap.servers": kafka.address}, name or fresh("job"), client=client))
        return jobs[-1]

    yield make
    for job in jobs:
        if job.reader is not None:
            job.reader.close()
        for transaction in list(job._transactions.values()):
            transaction._end()  # else its client goes on looking for its broker, in vain, to the end of the process
        job.close()


def test_another_machine_finds_the_newest(make_job):
    job = make_job()
    state = job.shared_state("0")
    assert state.newest() is None
    for n, size in enumerate([0, SLOT_BYTES, 3 * SLOT_BYTES + 1, 700]):
        snapshot = Snapshot(os.urandom(size), (n, 7), b"notes")
        state.put(snapshot)
        assert state.newest() == snapshot
        state.close()
        state = make_job(job.name).shared_state("0")
        assert state.newest() == snapshot
    state.close()


def test_each_shard_has_its_own_and_the_topic_grows_with_them(kafka, make_job):
    topic = kafka.create(fresh(), 3)
    job = make_job()
    join(job, topic, 3)
    states = {shard: job.shared_state(shard) for shard in ("0", "2")}
    assert job.lookup.topic(f"{job.name}-state").partitions == 3
    for shard, state in states.items():
        state.put(Snapshot(shard.encode() * 10, (int(shard),)))
    later = job.shared_state("5")
    assert job.lookup.topic(f"{job.name}-state").partitions == 6
    later.put(Snapshot(b"5", (5,)))
    for shard, state in {**states, "5": later}.items():
        assert state.newest().position == (int(shard),)
        state.close()


def test_who_puts_one_fences_who_did_before(make_job):
    job = make_job()
    first = job.shared_state("0")
    assert first.put(Snapshot(b"old", (1,)))
    second = make_job(job.name).shared_state("0")
    assert second.newest().data == b"old"
    assert second.put(Snapshot(b"new", (4,)))
    with pytest.raises(SinkFenced, match="another process keeps the state of shard 0"):
        first.put(Snapshot(b"zombie", (5,)))
    with pytest.raises(Unavailable):
        first.put(Snapshot(b"zombie", (6,)))
    assert second.newest().data == b"new"
    first.close(), second.close()


def test_one_that_is_further_is_left_alone(make_job):
    """A process that was away for a while and still counts itself the owner: what it knows is old."""
    job = make_job()
    new, old = job.shared_state("0"), make_job(job.name).shared_state("0")
    assert new.put(Snapshot(b"new", (9,)))
    assert not old.put(Snapshot(b"old", (8,)))
    assert old.position == (9,)
    assert old.newest().data == b"new"
    new.close(), old.close()


def test_one_that_was_not_committed_is_not_there(make_job):
    job = make_job()
    state = job.shared_state("0")
    state.put(Snapshot(b"good" * 300_000, (1,)))
    state._producer.send(state._topic, 0, [])
    from stream_rnn.connectors import Message

    state._producer.send(state._topic, 0, [Message(b"half", "", state._key(0))])
    state.close()
    again = make_job(job.name).shared_state("0")
    assert again.newest().data == b"good" * 300_000
    again.close()


def test_compaction_leaves_the_newest(kafka, make_job):
    """The broker's cleaner runs; old generations and tombstoned slots go, and the newest is still whole."""
    job = make_job()
    topic = f"{job.name}-state"
    kafka.create(
        topic, cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.001, delete_retention_ms=1
    )
    state = job.shared_state("0")
    for n in range(4):
        state.put(Snapshot(bytes([n]) * (3 * SLOT_BYTES - n * SLOT_BYTES // 2), (n,)))
    newest = Snapshot(os.urandom(SLOT_BYTES + 5), (9,), b"notes")
    state.put(newest)
    fill(kafka.address, topic, [(b"stranger", b"s", 0, [])])  # closes the segment, and is none of ours
    before = len(content(kafka.address, topic))

    def cleaned():
        fill(kafka.address, topic, [(b"stranger", b"s", 0, [])])
        return len([m for m in content(kafka.address, topic) if m.key() != b"s"]) <= 3 < before

    until(cleaned)
    assert state.newest() == newest
    state.close()
    again = make_job(job.name).shared_state("0")
    assert again.newest() == newest
    again.close()


def test_a_damaged_one_is_not_used(kafka, make_job):
    """A slot is overwritten by hand: the checksum tells, and an older snapshot that is still whole is taken."""
    job = make_job()
    topic = f"{job.name}-state"
    state = job.shared_state("0")
    state.put(Snapshot(b"older", (1,)))
    state.put(Snapshot(b"newer", (2,)))
    state.close()
    last = content(kafka.address, topic)[-1]
    fill(kafka.address, topic, [(b"damage", last.key(), 0, last.headers())])
    again = make_job(job.name).shared_state("0")
    assert again.newest().data in (b"older", b"newer")
    again.close()
