"""A topic that nobody would wish for, through the whole engine: each record is one prediction or one dead letter."""

from __future__ import annotations

import json
import random
import threading

import kafka as kafka_python
import pytest
from kafka_help import CLIENTS, abort, content, fill, fresh, until

from stream_rnn import config, job
from stream_rnn.connectors.kafka import KafkaJob

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
BIG = 2_000_000
LARGEST = 8 << 20
NO_TIMESTAMP = -1
NOW = 1_700_000_000_000


def good(n):
    return json.dumps({"id": f"s{n % 3}", "v": n % 7 + 0.5}).encode()


def poison(rng):
    """Values of every bad kind."""
    event = good(1)
    return [
        b"", b" ", b"null", b"[]", b"7", b'"text"', b"{}", b"\x00", bytes(range(32)), b"\xff\xfe\x00", b"\xef\xbb\xbf",
        *[rng.randbytes(n) for n in (1, 2, 3, 10, 100, 1000, 10_000)],
        *[event[:n] for n in range(1, len(event))],
        event.decode().encode("utf-16"), b"\xef\xbb\xbf" + event, event + event, event + b"\x00", b"\x1e" + event,
        b'{"id": "a\x00b", "v": 1}', b'{"id": "\\u0000", "v": 1}', b'{"id": "\\ud800", "v": 1}',
        b'{"id": "\xed\xa0\x80", "v": 1}', b'{"id": "s", "\\ud800": 1, "v": 2}', b'{"id": "s", "v": "\\udfff"}',
        b'{"id": ["s"], "v": 1}', b'{"id": {"s": 1}, "v": 1}', b'{"id": null, "v": 1}', b'{"v": 1}', b'{"id": "s"}',
        b'{"id": "s", "v": "warm"}', b'{"id": "s", "v": 1e999}', b'{"id": "s", "v": -Infinity}',
        b'{"id": "s", "v": NaN}', b'{"id": "s", "v": 1' + b"0" * 5000 + b"}", b'{"id": "s", "v": [1, 2]}',
        b'{"id": 1e400, "v": 1}', b'{"id": NaN, "v": 1}', b'{"id": "s", "v": true}', b'{"id": "s", "v": 1, "v": "x"}',
        b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"id": "' + b"k" * 100_000 + b'", "v": 1}',
        b'{"id": "s", "v": 1, "note": "' + b"n" * BIG + b'"}', bytes(BIG), rng.randbytes(BIG),
    ]  # fmt: skip


def write_all(kafka, topic, partition):
    """Good and bad, with all kinds of keys, headers and timestamps, in batches of every codec, and aborted ones."""
    rng = random.Random(partition)
    keys = [None, b"", b"k", b"\xff\x00", b"\x00", "schlüssel".encode(), b"k" * 10_000]
    headers = [
        [], [("h", b"1"), ("h", b"2")], [("empty", b""), ("null", None)], [("\x00ü", b"\xff\x00")],
        [("source", b"elsewhere/0/1"), ("reason", b"an older one"), ("cut_from_bytes", b"1")],
    ]  # fmt: skip
    values = [*poison(rng), *map(good, range(100)), None, None, None]
    rng.shuffle(values)
    for n, codec in enumerate(CODECS):
        records = [(v, rng.choice(keys), NOW + rng.randrange(10**6), rng.choice(headers)) for v in values[n::5]]
        options = {"compression.type": codec, "linger.ms": 50}
        fill(kafka.address, topic, records, partition, **options | ({"transactional.id": fresh("w")} if n % 2 else {}))
        abort(kafka.address, topic, [good(0), b"\x00aborted"] * 5, partition, **{"compression.type": codec})
    producer = kafka_python.KafkaProducer(bootstrap_servers=kafka.address)
    for key, timestamp in [(None, NO_TIMESTAMP), (b"k", NO_TIMESTAMP), (b"k", 0), (b"k", 1)]:
        producer.send(topic, good(1), key, [], partition, timestamp)
        producer.send(topic, b"\x00", key, [], partition, timestamp)
    producer.close()
    fill(kafka.address, topic, [good(0)], partition)


@pytest.mark.parametrize("room", [LARGEST, None], ids=["whole-letters", "cut-letters"])
def test_every_record_is_one_prediction_or_one_dead_letter(kafka, client, room, tmp_path):
    topic = kafka.create(fresh("poison"), 2, max_message_bytes=LARGEST)
    out = kafka.create(fresh("out"), 2)
    dead = kafka.create(fresh("dead"), 2, **{} if room is None else {"max_message_bytes": room})
    for partition in (0, 1):
        write_all(kafka, topic, partition)
    inputs = {p: content(kafka.address, topic, p) for p in (0, 1)}
    run(kafka, client, topic, out, dead, {p: found[-1].offset() + 1 for p, found in inputs.items()}, tmp_path)
    for partition, records in inputs.items():
        found = [*content(kafka.address, out, partition), *content(kafka.address, dead, partition)]
        by_source = {source_of(m): m for m in found}
        assert len(by_source) == len(found) == len(records)
        letters = 0
        for record in records:
            output = by_source[f"{topic}/{partition}/{record.offset()}"]
            assert same_time(output, record, client)
            assert output.key() == record.key()
            if output.topic() == dead:
                letters += 1
                check_letter(output, record, room)
            else:
                assert output.headers() is None
                assert "forecast" in json.loads(output.value())
        assert letters > 70
        assert len(records) - letters > 100
        for topic_out in (out, dead):
            order = [source_of(m).split("/")[-1] for m in content(kafka.address, topic_out, partition)]
            assert order == sorted(order, key=int)


def run(kafka, client, topic, out, dead, ends, folder):
    """The command's engine, until all of the input is committed."""
    path = folder / "job.toml"
    path.write_text(f"""
name = "{fresh("poisoned")}"
[kafka]
client = "{client}"
"bootstrap.servers" = "{kafka.address}"
[source]
type = "kafka"
topic = "{topic}"
[event]
key = "id"
target = "v"
[model]
kind = "rnn"
hidden = 4
[sink]
type = "kafka"
topic = "{out}"
[dead_letter]
type = "kafka"
topic = "{dead}"
[state]
path = "{folder}/state"
share = "none"
""")
    settings = config.load(path, [])
    engine = job.engine_of(settings)
    asker = KafkaJob({"bootstrap.servers": kafka.address}, settings.name, client="confluent")
    failures = []

    def work():
        try:
            engine.run()
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=work)
    thread.start()

    def done():
        found = {p: asker.lookup.committed(topic, p) for p in ends}
        return failures or all(f is not None and f.offset >= ends[p] for p, f in found.items())

    try:
        until(done, 120, fail=False)
        assert done(), f"{engine.status()} {engine.source.failure}"
    finally:
        engine.stop()
        thread.join(60)
        asker.close()
    assert not failures


def source_of(message):
    headers = dict(message.headers() or [])
    return headers["source"].decode() if "source" in headers else json.loads(message.value())["source"]


def same_time(output, record, client):
    """A record that has no timestamp gets the present; and librdkafka cannot write the first millisecond of 1970."""
    kind, timestamp = record.timestamp()
    if timestamp == NO_TIMESTAMP:
        return output.timestamp()[1] > NOW
    return output.timestamp() == (kind, timestamp or client == "confluent")


def check_letter(letter, record, room):
    given = [(name, value or b"") for name, value in record.headers() or []]
    found = letter.headers()
    assert found[: len(given)] == given
    about = dict(found[len(given) :])
    assert about["reason"]
    assert about["cause"]
    value = record.value()
    if value is None and record.key() is None:
        value = b""  # not every client can write a record of nothing
    if room is None and value is not None and len(value) >= BIG:
        assert 900_000 < len(letter.value()) < 1 << 20
        assert value.startswith(letter.value())
        assert about["cut_from_bytes"] == str(len(value)).encode()
    else:
        assert letter.value() == value
        assert "cut_from_bytes" not in about
