"""Several members of one group: partitions move, and every record is still copied once, in order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kafka_help import CLIENTS, Copier, Feed, Logs, assert_copied, expect, fill, fresh, join, until

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka import KafkaJob
from stream_rnn.errors import SinkFenced, SourceError
from stream_rnn.records import Record

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]
PARTITIONS = 4


@pytest.fixture
def topics(kafka):
    return [kafka.create(fresh(), PARTITIONS) for _ in range(3)]


@pytest.fixture
def copier(kafka, client, topics):
    """Makes members of one group."""
    name = fresh("job")

    def make(**options):
        options = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200, **options}
        job = KafkaJob({"bootstrap.servers": kafka.address, **options}, name, client=client, deadline_s=5.0)
        return Copier(job, *topics)

    return make


def caught_up(kafka, topics, copiers):
    """All that is in the topic is committed."""
    lookup = copiers[0].job.lookup

    def done():
        for partition in range(PARTITIONS):
            _, end = lookup.bounds(topics[0], partition)
            found = lookup.committed(topics[0], partition)
            if end and (found is None or found.offset < end):
                return False
        return True

    until(done, 40)


def test_members_come_and_go_and_nothing_is_lost_or_doubled(kafka, topics, copier):
    seed = random.Random(5)
    members = [copier().start()]
    with Feed(kafka.address, topics[0], PARTITIONS):
        for _ in range(5):
            if len(members) < 3 and (len(members) == 1 or seed.random() < 0.6):
                members.append(copier().start())
                until(lambda: members[-1].threads)
            else:
                leaver = members.pop(seed.randrange(len(members)))
                seed.choice([leaver.stop, leaver.die])()
            before = [m.commits for m in members]
            until(lambda: all(m.commits > n for m, n in zip(members, before, strict=True)))  # noqa: B023
    caught_up(kafka, topics, members)
    until(lambda: sum(len(m.threads) for m in members) == PARTITIONS)
    for member in members:
        assert not member.ends
        member.stop()
    assert_copied(kafka.address, *topics, PARTITIONS)


def test_a_newcomer_takes_some_partitions_and_the_others_stay(kafka, topics, copier):
    """Cooperative: what stays with its owner is not revoked."""
    first = copier().start()
    until(lambda: len(first.threads) == PARTITIONS)
    with Feed(kafka.address, topics[0], PARTITIONS):
        second = copier().start()
        until(lambda: len(second.threads) == 2 and len(first.threads) == 2)
    revoked = [p for what, partitions in first.told if what == "revoked" for p in partitions]
    given = [p for what, partitions in second.told if what == "assigned" for p in partitions]
    assert sorted(revoked) == sorted(given)
    assert len(given) == 2
    caught_up(kafka, topics, [first, second])
    first.stop(), second.stop()
    assert_copied(kafka.address, *topics, PARTITIONS)


def test_a_commit_in_a_rebalance_is_made_again_while_the_partition_stays(kafka, client, topics):
    """The group's generation moves on between two commits; what was sent is not lost and not sent twice."""
    name = fresh("job")

    def job():
        options = {"bootstrap.servers": kafka.address, "session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
        return KafkaJob(options, name, client=client, deadline_s=5.0)

    mine, other = job(), job()
    logs = join(mine, topics[0], PARTITIONS)
    mine_once = dict(logs.held)
    outputs = {p: mine.sink(topics[1]).open(str(p)) for p in range(PARTITIONS)}
    stale = mine.reader.identity
    their_logs = Logs()
    other.source(topics[0]).join(their_logs)
    until(lambda: len(their_logs.held) == 2 and len(logs.held) == 2)
    identify, mine.reader._identify = mine.reader._identify, lambda: None  # as if no poll had come back yet
    mine.reader.identity = stale
    threading.Timer(0.3, lambda: setattr(mine.reader, "_identify", identify)).start()
    kept = next(iter(logs.held))
    log = logs.held[kept]
    record = Record(b"", (0,), (1,), b"k")
    outputs[kept].write([Message(b"once", log.name + "0", record)])
    outputs[kept].unit.commit(log.name + "0", (1,), log)
    gone = next(iter(their_logs.held))
    outputs[gone].write([Message(b"never", "", record)])
    with pytest.raises(SinkFenced, match="no longer ours"):
        outputs[gone].unit.commit(f"{topics[0]}/{gone}/0", (1,), mine_once[gone])
    for output in outputs.values():
        output.close()
    for each in (mine, other):
        each.reader.close()
        each.close()
    expect(kafka.address, topics[1], [b"once"], kept)
    expect(kafka.address, topics[1], [], gone)


def test_a_static_member_that_restarts_moves_nothing(kafka, topics, copier):
    other = copier(**{"group.instance.id": "a"}).start()
    until(lambda: len(other.threads) == PARTITIONS)
    member = copier(**{"group.instance.id": "b"}).start()
    until(lambda: len(member.threads) == 2)
    told = len(other.told)
    held = sorted(log.partition for log in member.threads)
    member.stop()
    again = copier(**{"group.instance.id": "b"}).start()
    until(lambda: len(again.threads) == 2)
    assert sorted(log.partition for log in again.threads) == held
    assert len(other.told) == told
    again.stop(), other.stop()


def test_two_processes_of_one_instance_id(kafka, topics, copier):
    """Who joined last has it; the other says so as soon as it commits, and stops."""
    members = [copier(**{"group.instance.id": "same"}).start()]
    until(lambda: len(members[0].threads) == PARTITIONS)
    members.append(copier(**{"group.instance.id": "same"}).start())
    with Feed(kafka.address, topics[0], PARTITIONS):
        until(lambda: any(m.source.failure for m in members))
    loser, winner = sorted(members, key=lambda m: m.source.failure is None)
    assert "another process runs with" in str(loser.source.failure)
    until(lambda: len(loser.ends) == PARTITIONS)
    assert all(isinstance(e, SinkFenced | SourceError) for e in loser.ends)
    caught_up(kafka, topics, [winner])
    assert not winner.ends
    loser.die(), winner.stop()
    assert_copied(kafka.address, *topics, PARTITIONS)


def test_partitions_that_are_added_are_read(kafka, client):
    topic = kafka.create(fresh(), 1)
    options = {"bootstrap.servers": kafka.address, "metadata.max.age.ms": 500, "heartbeat.interval.ms": 200}
    job = KafkaJob(options, fresh(), client=client)
    logs = join(job, topic)
    kafka.admin.create_partitions({topic: 3})
    until(lambda: len(logs.held) == 3)
    assert ("revoked", [0]) not in logs.told
    fill(kafka.address, topic, [b"x"], 2)
    logs.held[2].seek(logs.held[2].first("earliest"))
    until(lambda: logs.held[2].read(1))
    job.reader.close()
    job.close()


def test_a_join_that_the_client_forgot_is_made_again(kafka, client, topics):
    """kafka-python can lose its place in the group; the sign is that records come while it counts as rebalancing."""
    if client != "kafka-python":
        return
    from kafka.structs import MemberState

    job = KafkaJob({"bootstrap.servers": kafka.address}, fresh(), client=client)
    logs = join(job, topics[0], PARTITIONS)
    log = logs.held[0]
    log.seek((0,))
    member = job.reader._member
    asked = member._consumer.group_metadata
    member._consumer.group_metadata = lambda: asked()._replace(state=MemberState.REBALANCING)
    fill(kafka.address, topics[0], [b"x"])
    until(lambda: ("lost", [0, 1, 2, 3]) in logs.told)
    member._consumer.group_metadata = asked
    until(lambda: len(logs.held) == PARTITIONS)
    assert not log.ours
    assert logs.held[0] is not log
    logs.held[0].seek((0,))
    until(lambda: logs.held[0].read(1))
    job.reader.close()
    job.close()


WORKER = """
import sys, time
from kafka_help import Copier
from stream_rnn.connectors.kafka import KafkaJob
servers, client, name, *topics = sys.argv[1:]
options = {"bootstrap.servers": servers, "session.timeout.ms": 1500, "heartbeat.interval.ms": 200}
copier = Copier(KafkaJob(options, name, client=client, deadline_s=5.0), *topics).start()
while True:
    time.sleep(0.1)
    print(len(copier.threads), copier.commits, flush=True)
"""


def test_a_process_that_sleeps_past_its_session_writes_nothing_when_it_wakes(kafka, client, topics, copier):
    """SIGSTOP, the partitions go to another, SIGCONT: the sleeper is fenced; then kill -9 of it, too."""
    path = [str(Path(__file__).parents[1]), *sys.path]
    name = fresh("sleeper")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, kafka.address, client, name, *topics],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        text=True,
    )
    try:
        with Feed(kafka.address, topics[0], PARTITIONS):
            while int(worker.stdout.readline().split()[1]) < 20:
                pass
            os.kill(worker.pid, signal.SIGSTOP)
            options = {"bootstrap.servers": kafka.address, "session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
            other = Copier(KafkaJob(options, name, client=client, deadline_s=5.0), *topics).start()
            until(lambda: len(other.threads) == PARTITIONS)
            before = other.commits
            until(lambda: other.commits > before + 10)
            os.kill(worker.pid, signal.SIGCONT)
            until(lambda: len(other.threads) == 2)  # it joins again, as any newcomer
            before = other.commits
            until(lambda: other.commits > before + 10)
            worker.kill()
            until(lambda: len(other.threads) == PARTITIONS)
        caught_up(kafka, topics, [other])
        other.stop()
    finally:
        worker.kill()
        worker.wait()
    assert_copied(kafka.address, *topics, PARTITIONS)


def test_waits_do_not_spin(kafka, client):
    """An idle source costs little: a wait ends when something comes, not before."""
    topic = kafka.create(fresh())
    job = KafkaJob({"bootstrap.servers": kafka.address}, fresh(), client=client)
    log = join(job, topic).held[0]
    log.seek((0,))
    start = time.monotonic()
    log.wait(0.3)
    assert log.read(1) == []
    assert time.monotonic() - start >= 0.25
    job.reader.close()
    job.close()
