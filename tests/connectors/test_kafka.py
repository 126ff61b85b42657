"""Kafka as a source and a sink, on a real broker, by both clients."""

from __future__ import annotations

import contextlib
import itertools
import time

import confluent_kafka
import pytest
from kafka_help import CLIENTS, Logs, abort, content, expect, fill, fresh, join, take, until

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka import KafkaJob
from stream_rnn.connectors.kafka_client import FencedProducer, OutcomeUnknown
from stream_rnn.connectors.memory import MemorySource
from stream_rnn.errors import SinkError, SinkFenced, SourceError, SourceGap, Unavailable
from stream_rnn.records import Record

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def make_job(kafka, client):
    """Makes jobs, and closes what they have open."""
    jobs = []

    def make(name=None, **options):
        options = {k.replace("_", "."): v for k, v in options.items()}
        job = KafkaJob({"bootstrap.servers": kafka.address, **options}, name or fresh("job"), client=client)
        jobs.append(job)
        return job

    yield make
    for job in jobs:
        if job.reader is not None:
            job.reader.close()
        for transaction in list(job._transactions.values()):
            transaction._end()  # else its client goes on looking for its broker, in vain, to the end of the process
        job.close()


def messages(log_name, first, last):
    return [
        Message(b"v%d" % i, f"{log_name}{i}", Record(b"", (i,), (i + 1,), b"key", 5000 + i)) for i in range(first, last)
    ]


# Reading


def test_gives_every_record_once_in_order_at_any_cut(kafka, make_job):
    topic = kafka.create(fresh())
    fill(kafka.address, topic, [b"%d" % i for i in range(5000)])
    log = join(make_job(), topic).held[0]
    log.seek(log.first("earliest"))
    records = []
    while len(records) < 5000:
        log.wait(1)
        block = log.read(77)
        assert len(block) <= 77
        records += block
    assert [r.value for r in records] == [b"%d" % i for i in range(5000)]
    assert all(a.at < a.resume_at <= b.at for a, b in itertools.pairwise(records))
    assert log.read(10) == []
    assert log.name + str(records[3].at[0]) == f"{topic}/0/3"


def test_seeks_to_any_record_also_while_reading(kafka, make_job):
    topic = kafka.create(fresh())
    fill(kafka.address, topic, [b"%d" % i for i in range(300)])
    log = join(make_job(), topic).held[0]
    for n in (250, 0, 299, 17):
        log.seek((n,), log.notes((n,)))
        assert [r.value for r in take(log, min(5, 300 - n))] == [b"%d" % i for i in range(n, min(n + 5, 300))]


def test_latest_is_the_end(kafka, make_job):
    topic = kafka.create(fresh())
    fill(kafka.address, topic, [b"old"] * 3)
    log = join(make_job(), topic).held[0]
    assert log.first("latest") == (3,)
    log.seek(log.first("latest"))
    fill(kafka.address, topic, [b"new"])
    assert [r.value for r in take(log, 1)] == [b"new"]
    until(lambda: log.lag == 0)


def test_poison(kafka, make_job):
    """Tombstones, odd keys and headers, records of 2 MB, every codec, aborted and open transactions."""
    topic = kafka.create(fresh(), max_message_bytes=8 << 20)
    big = bytes(range(256)) * 8192
    odd = [
        (None, b"tombstone", 1, []),
        (b"", None, 2, []),
        (b"\xff\x00{", b"", 3, [("h", b"1"), ("h", b"2"), ("null", None)]),
        (big, b"big", 4, []),
    ]
    expected = []
    for codec in CODECS:
        fill(kafka.address, topic, odd, **{"compression.type": codec})
        fill(kafka.address, topic, [b"text"] * 50, **{"compression.type": codec, "transactional.id": fresh()})
        abort(kafka.address, topic, [b"aborted"] * 20, **{"compression.type": codec})
        expected += [*odd, *[(b"text", b"k", 1000, [])] * 50]
    log = join(make_job(), topic).held[0]
    log.seek(log.first("earliest"))
    records = take(log, len(expected), 30)
    for record, (value, key, timestamp, headers) in zip(records, expected, strict=True):
        assert (record.value, record.key, record.timestamp_ms) == (value, key, timestamp)
        assert record.headers == tuple((name, text or b"") for name, text in headers)
    log.seek(records[-1].resume_at)  # past the end's abort marker
    fill(kafka.address, topic, [b"last"])
    assert [r.value for r in take(log, 1)] == [b"last"]


def test_a_full_buffer_stops_fetching_and_loses_nothing(kafka, make_job, monkeypatch):
    monkeypatch.setattr("stream_rnn.connectors.kafka_source._BUFFER_BYTES", 100_000)
    topic = kafka.create(fresh())
    fill(kafka.address, topic, [b"%06d" % i + b"x" * 3000 for i in range(2000)])
    job = make_job(max_partition_fetch_bytes=100_000)
    log = join(job, topic).held[0]
    log.seek((0,))
    until(lambda: log._paused and log._bytes > 100_000)
    polls = job.reader.polls
    until(lambda: job.reader.polls > polls + 5)
    held = log._bytes
    assert held < 5_000_000  # far from everything
    assert [r.value[:6] for r in take(log, 2000)] == [b"%06d" % i for i in range(2000)]


def test_says_that_retention_passed_its_position(kafka, make_job):
    topic = kafka.create(fresh(), 2)
    for partition in (0, 1):
        fill(kafka.address, topic, [b"%d" % i for i in range(10)], partition)
    delete_before(kafka, topic, 4)
    logs = join(make_job(), topic, 2).held
    assert logs[0].first("earliest") == (4,)
    with pytest.raises(SourceGap, match=r"/0/3 should come next.*begins at 4.*on_gap") as gap:
        logs[0].seek((3,))
    logs[0].seek(gap.value.resume_at)
    assert take(logs[0], 1)[0].value == b"4"


def test_a_gap_while_reading_stops_one_partition_and_not_the_other(kafka, make_job, monkeypatch):
    monkeypatch.setattr("stream_rnn.connectors.kafka_source._BUFFER_BYTES", 1000)
    topic = kafka.create(fresh(), 2)
    for partition in (0, 1):
        fill(kafka.address, topic, [b"%04d" % i + b"x" * 500 for i in range(50)], partition)
    logs = join(make_job(max_partition_fetch_bytes=2000), topic, 2).held
    for log in logs.values():
        log.seek((0,))
        until(lambda log=log: log._bytes > 1000)
    fill(kafka.address, topic, [b"later"] * 10, 0)
    delete_before(kafka, topic, 55)
    with pytest.raises(SourceGap) as gap:
        take(logs[0], 60)
    assert gap.value.resume_at == (55,)
    assert len(take(logs[1], 50)) == 50
    logs[0].seek(gap.value.resume_at)
    assert len(take(logs[0], 5)) == 5


def delete_before(kafka, topic, offset):
    from kafka import TopicPartition

    kafka.admin.delete_records({TopicPartition(topic, 0): offset})


def test_a_position_past_the_end_is_refused(kafka, client):
    topic = kafka.create(fresh())
    job = KafkaJob({"bootstrap.servers": kafka.address}, fresh(), client=client)
    log = join(job, topic).held[0]
    job.deadline_s = 0.5  # for a broker that has just come back to show the end
    with pytest.raises(SourceError, match="ends at 0"):
        log.seek((7,))
    job.reader.close()
    job.close()


def test_a_topic_made_again_is_noticed(kafka, make_job):
    topic = kafka.create(fresh())
    job = make_job()
    log = join(job, topic).held[0]
    notes = log.notes((0,))
    job.reader.close()
    kafka.admin.delete_topics([topic])
    until(lambda: topic not in kafka.admin.list_topics())
    kafka.create(topic)
    again = join(make_job(), topic).held[0]
    with pytest.raises(SourceError, match="deleted and made again"):
        again.seek((0,), notes)


def test_topics_that_are_not_there(kafka, make_job):
    job = make_job()
    with pytest.raises(SourceError, match=r"no topic nowhere.*--create"):
        job.source("nowhere").join(Logs())
    with pytest.raises(SinkError, match=r"no topic nowhere.*--create"):
        job.sink("nowhere").open("3")


# Writing


def test_outputs_and_position_are_out_together_or_not_at_all(kafka, make_job):
    topic, out, dead = kafka.create(fresh(), 2), kafka.create(fresh(), 2), kafka.create(fresh(), 2)
    fill(kafka.address, topic, [b"%d" % i for i in range(9)], 1)
    job = make_job()
    logs = join(job, topic, 2)
    sink, dead_sink = job.sink(out), job.sink(dead)
    output, letters = sink.open("1"), dead_sink.open("1")
    assert output.unit is letters.unit
    assert output.mark() is None
    log = logs.held[1]
    output.write(messages(log.name, 0, 3))
    letters.write([Message(b"bad", log.name + "3", Record(b"bad", (3,), (4,), None, 77), (("reason", b"no"),))])
    output.unit.commit(log.name + "3", (4,), log)
    assert output.mark() == letters.mark() == f"{topic}/1/3"
    output.write(messages(log.name, 4, 6))
    letters.write([Message(None, log.name + "6", Record(None, (6,), (7,), None), (("reason", b"empty"),))])
    for o in (output, letters):
        o.close()  # not committed
    again = sink.open("1")
    assert again.mark() == f"{topic}/1/3"
    again.write(messages(log.name, 4, 6))
    again.unit.commit(log.name + "5", (6,), log)
    again.close()
    expect(kafka.address, out, [b"v0", b"v1", b"v2", b"v4", b"v5"], 1)
    found = content(kafka.address, out, 1)
    assert [(m.key(), m.timestamp()[1]) for m in found] == [(b"key", 5000 + i) for i in (0, 1, 2, 4, 5)]
    (letter,) = content(kafka.address, dead, 1)
    assert (letter.value(), letter.key(), letter.headers()) == (b"bad", None, [("reason", b"no")])
    expect(kafka.address, out, [], 0)


def test_a_commit_without_outputs_moves_the_mark(kafka, make_job):
    topic, out = kafka.create(fresh()), kafka.create(fresh())
    job = make_job()
    log = join(job, topic).held[0]
    output = job.sink(out).open("0")
    output.unit.commit(log.name + "41", (42,), log)
    output.close()
    assert job.sink(out).open("0").mark() == f"{topic}/0/41"


def test_a_replay_does_not_move_the_mark_back(kafka, make_job):
    """An engine that learns again what is out commits behind the mark, and has nothing to write there."""
    topic, out = kafka.create(fresh()), kafka.create(fresh(), 3)
    job = make_job()
    log = join(job, topic).held[0]
    output = job.sink(out).open("0")
    output.unit.commit(log.name + "41", (42,), log)
    for last in (9, 41):
        output.unit.commit(f"{log.name}{last}", (last + 1,), log)
        assert output.mark() == log.name + "41"
        assert make_job(job.name).lookup.committed(topic, 0).offset == 42
    output.unit.commit(log.name + "100", (101,), log)
    assert output.mark() == log.name + "100"
    output.close()
    other, file = make_job(), MemorySource([])
    output = other.sink(out).open("1")
    for position in ((1, 5), (0, 99)):
        output.unit.commit("memory:" + "/".join(map(str, position)), position, file)
    assert output.mark() == "memory:1/5"
    output.close()


def test_a_position_set_by_another_tool_is_a_mark(kafka, make_job):
    topic, out = kafka.create(fresh()), kafka.create(fresh())
    fill(kafka.address, topic, [b"x"] * 9)
    job = make_job()
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka.address, "group.id": job.group})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 0, 5)], asynchronous=False)
    consumer.close()
    join(job, topic)
    assert job.sink(out).open("0").mark() == f"{topic}/0/4"


def test_the_position_of_another_source_is_kept_with_the_output(kafka, make_job):
    """A file's mark is the metadata of an offset on the first output's partition; any text up to 4095 bytes."""
    out, dead = kafka.create(fresh()), kafka.create(fresh())
    job, log = make_job(), MemorySource([])
    sink, dead_sink = job.sink(out), job.sink(dead)
    output, letters = sink.open(""), dead_sink.open("")
    assert output.mark() is None
    for n, last in enumerate(["file:0/17", "file:é/" + "9" * 4000, "file:1/3"]):
        output.write([Message(b"v%d" % n, last)])
        letters.write([Message(b"bad%d" % n, last, None, (("reason", b"no"),))])
        output.unit.commit(last, (0, n), log)
        other = make_job(job.name)
        assert other.lookup.committed(out, 0).text == last
    output.close(), letters.close()
    assert make_job(job.name).sink(out).open("").mark() == "file:1/3"
    expect(kafka.address, out, [b"v0", b"v1", b"v2"])
    expect(kafka.address, dead, [b"bad0", b"bad1", b"bad2"])
    third = sink.open("")
    with pytest.raises(SinkError, match="4095"):
        third.unit.commit("x" * 4096, (0, 9), log)


def test_the_other_client_takes_over(kafka, make_job, client):
    """State and marks do not depend on the client."""
    (other,) = set(CLIENTS) - {client}
    topic, out = kafka.create(fresh()), kafka.create(fresh())
    fill(kafka.address, topic, [b"x"] * 9)
    job = make_job()
    log = join(job, topic).held[0]
    output = job.sink(out).open("0")
    output.write(messages(log.name, 0, 4))
    output.unit.commit(log.name + "3", (4,), log)
    notes = log.notes((4,))
    output.close()
    job.reader.close()
    successor = KafkaJob({"bootstrap.servers": kafka.address}, job.name, client=other)
    log = join(successor, topic).held[0]
    output = successor.sink(out).open("0")
    assert output.mark() == log.name + "3"
    log.seek((4,), notes)
    assert take(log, 1)[0].at == (4,)
    output.close()
    successor.reader.close()
    successor.close()


def test_the_sink_needs_as_many_partitions(kafka, make_job):
    out = kafka.create(fresh(), 2)
    with pytest.raises(SinkError, match=r"has 2 partitions.*--alter --topic t-\d+ --partitions 4"):
        make_job().sink(out).open("3")


def test_who_opens_a_shard_fences_who_had_it(kafka, make_job):
    out = kafka.create(fresh())
    job, log = make_job(), MemorySource([])
    first = job.sink(out).open("")
    first.write(messages("file:0/", 0, 3))
    first.unit.commit("file:0/2", (0, 3), log)
    first.write(messages("file:0/", 3, 5))
    second = make_job(job.name).sink(out).open("")
    assert second.mark() == "file:0/2"
    with pytest.raises(SinkFenced, match=f"writes as {job.name}-0"):
        first.unit.commit("file:0/4", (0, 5), log)
    with pytest.raises((SinkFenced, Unavailable)):
        first.write(messages("file:0/", 5, 6))
    first.close()
    second.write(messages("file:0/", 3, 4))
    second.unit.commit("file:0/3", (0, 4), log)
    second.close()
    expect(kafka.address, out, [b"v0", b"v1", b"v2", b"v3"])


def test_what_a_fenced_producer_does_takes_no_record_from_its_successor(kafka, make_job):
    """It tries to get its name back, which ends the successor's transaction: that commits with its records or fails.

    kafka-python would commit it without those that were on their way.
    """
    out, job = kafka.create(fresh()), make_job()

    def sent(count):
        until(lambda: len(content(kafka.address, out, isolation="read_uncommitted")) == count)

    zombie = job.producer("0")
    zombie.send(out, 0, messages("", 0, 3))
    sent(3)
    successor = job.producer("0")
    successor.send(out, 0, messages("", 10, 13))
    sent(6)

    def commits(producer, first):
        with contextlib.suppress(FencedProducer, OutcomeUnknown):
            producer.send(out, 0, messages("", first, first + 3))
            producer.commit(None, None, 5.0)
            return True
        return False

    assert not commits(zombie, 3)
    count = 6 if commits(successor, 13) else 0
    zombie.close(), successor.close()
    job.producer("0").close()  # settles what was open
    expect(kafka.address, out, [b"v%d" % i for i in range(10, 10 + count)])


def test_either_client_reads_the_mark_whole(kafka, make_job):
    """And nothing behind it: confluent-kafka goes on reading to the next zero byte."""
    out = kafka.create(fresh())
    job, log = make_job(linger_ms=1), MemorySource([])
    output = job.sink(out).open("")
    readers = [KafkaJob({"bootstrap.servers": kafka.address}, job.name, client=name).lookup for name in CLIENTS]
    for n in range(1, 18):
        output.write(messages("memory:", n, n + 1))
        output.unit.commit(f"memory:{10**n}", (10**n,), log)
        assert [reader.committed(out, 0).text for reader in readers for _ in range(3)] == [f"memory:{10**n}"] * 6
    output.close()


def test_a_partition_that_is_not_ours_is_not_opened(kafka, make_job):
    topic, out = kafka.create(fresh(), 1), kafka.create(fresh(), 3)
    job = make_job()
    join(job, topic)
    with pytest.raises(SinkFenced, match="no longer ours"):
        job.sink(out).open("2")


def test_a_dead_letter_that_is_too_large_is_cut_and_says_so(kafka, make_job):
    dead = kafka.create(fresh(), max_message_bytes=400_000)
    output = make_job().sink(dead).open("")
    value = bytes(1_000_000)
    record = Record(value, (0,), (1,), b"key", 5)
    output.write([Message(value, "file:0/1", record, (("reason", b"too large"),))])
    output.unit.commit("file:0/1", (0, 1), MemorySource([]))
    output.close()
    until(lambda: content(kafka.address, dead))
    (letter,) = content(kafka.address, dead)
    assert 390_000 < len(letter.value()) < 400_000
    assert dict(letter.headers()) == {"reason": b"too large", "cut_from_bytes": b"1000000"}


def test_a_prediction_that_is_too_large_stops_with_the_remedy(kafka, make_job):
    out = kafka.create(fresh(), max_message_bytes=100_000)
    output = make_job().sink(out).open("")
    output.write([Message(bytes(1_000_000), "file:0/1")])
    with pytest.raises(SinkError, match=r"max\.message\.bytes"):
        output.unit.commit("file:0/1", (0, 1), MemorySource([]))
    output.close()
    expect(kafka.address, out, [])


def test_positions_are_shown_where_nothing_is_written_to_kafka(kafka, make_job):
    topic = kafka.create(fresh())
    fill(kafka.address, topic, [b"x"] * 9)
    job = make_job()
    log = join(job, topic).held[0]
    log.seek((0,))
    take(log, 9)
    log.acknowledge((6,))
    until(lambda: (found := job.lookup.committed(topic, 0)) is not None and found.offset == 6)
    log.acknowledge((9,))
    job.reader.close()
    assert make_job(job.name).lookup.committed(topic, 0).offset == 9


def test_a_broker_that_is_not_there(client):
    job = KafkaJob({"bootstrap.servers": "127.0.0.1:1"}, client=client, deadline_s=1.0)
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        job.source("in").join(Logs())
    assert time.monotonic() - start < 20
    job.close()
