"""The broker is killed with -9 and comes back: what was committed is there once, in order, and nothing else.

With a learner and under load: tests/recovery/test_kafka.py.
"""

from __future__ import annotations

import threading
import time

import pytest
from kafka_help import CLIENTS, expect, fill, join, until

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka import KafkaJob, Snapshot
from stream_rnn.connectors.memory import MemorySource
from stream_rnn.errors import Unavailable
from stream_rnn.records import Record

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]


@pytest.fixture
def job(mortal, client, request):
    job = KafkaJob(
        {"bootstrap.servers": mortal.address, "session.timeout.ms": 60000, "heartbeat.interval.ms": 500},
        f"job-{request.node.name}".replace("[", "-").rstrip("]"),
        client=client,
        deadline_s=5.0,
    )
    yield job
    if job.reader is not None:
        job.reader.close()
    job.close()


def name(client, what):
    return f"{what}-{client}"


def again(opening):
    """Open something as soon as the broker answers."""
    found = []

    def opened():
        try:
            found.append(opening())
        except Unavailable:
            return False
        return True

    until(opened)
    return found[0]


def test_commits_without_an_answer(mortal, job, client):
    """The broker dies before a commit and a snapshot, and comes back after the deadline: done, or not done at all."""
    topic, out = mortal.create(name(client, "in")), mortal.create(name(client, "out"))
    fill(mortal.address, topic, [b"%d" % i for i in range(10)])
    log = join(job, topic).held[0]
    output, state = job.sink(out).open("0"), job.shared_state("0")
    record = Record(b"", (0,), (1,), b"k")
    output.write([Message(b"first", log.name + "0", record)])
    output.unit.commit(log.name + "0", (1,), log)
    state.put(Snapshot(b"a" * 2_000_000, (1,)))
    output.write([Message(b"second", log.name + "1", record)])
    mortal.kill()
    job.deadline_s = 2.0
    with pytest.raises(Unavailable, match="outcome of a commit is unknown"):
        output.unit.commit(log.name + "1", (2,), log)
    with pytest.raises(Unavailable):  # the producer is not used again
        output.write([Message(b"third", log.name + "2", record)])
    output.close()
    with pytest.raises(Unavailable, match="unknown"):
        state.put(Snapshot(b"b" * 1_500_000, (2,)))
    state.close()
    mortal.start()
    job.deadline_s = 5.0
    output, state = again(lambda: job.sink(out).open("0")), again(lambda: job.shared_state("0"))
    mark = output.mark()
    assert mark in (log.name + "0", log.name + "1")
    if mark == log.name + "0":
        output.write([Message(b"second", log.name + "1", record)])
    output.write([Message(b"third", log.name + "2", record)])
    output.unit.commit(log.name + "2", (3,), log)
    output.close()
    expect(mortal.address, out, [b"first", b"second", b"third"])
    assert state.newest() in (Snapshot(b"a" * 2_000_000, (1,)), Snapshot(b"b" * 1_500_000, (2,)))
    state.put(Snapshot(b"c", (3,)))
    assert state.newest().data == b"c"
    state.close()


def test_a_kill_in_the_middle_of_commits(mortal, job, client):
    """Commits one after the other, and a kill among them at any moment; the mark always tells what is out."""
    out = mortal.create(name(client, "many"))
    sink, log = job.sink(out), MemorySource([])
    n, output, unknown = 0, again(lambda: sink.open("")), 0
    killer = threading.Thread(target=lambda: (time.sleep(0.4), mortal.restart()))
    killer.start()
    end = time.monotonic() + 120
    while (killer.is_alive() or n < 60) and time.monotonic() < end:
        try:
            if output is None:
                output = sink.open("")
                n = int(output.mark().rsplit("/", 1)[1]) + 1
            output.write([Message(b"%d" % n, f"memory:{n}")])
            output.unit.commit(f"memory:/{n}", (n,), log)
            n += 1
        except Unavailable:
            unknown += 1
            if output is not None:
                output.close()
            output = None
    killer.join()
    assert n >= 60
    expect(mortal.address, out, [b"%d" % i for i in range(n)])
