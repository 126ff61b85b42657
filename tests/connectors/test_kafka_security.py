"""TLS, client certificates and SCRAM, against the real broker; what an error says, and what it must not."""

from __future__ import annotations

import logging

import pytest
from broker import PASSWORD, USER
from kafka_help import CLIENTS, Logs, expect, fill, fresh, join, take

from stream_rnn.connectors import Message
from stream_rnn.connectors.kafka import KafkaJob
from stream_rnn.errors import Unavailable

pytestmark = [pytest.mark.kafka, pytest.mark.parametrize("client", CLIENTS)]
WRONG = "hunter2-is-not-it"


def scram(kafka, mechanism="SCRAM-SHA-512", **more):
    return {
        "bootstrap.servers": kafka.sasl_address,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(kafka.ca),
        **more,
    }


def mutual_tls(kafka, **more):
    return {
        "bootstrap.servers": kafka.tls_address,
        "security.protocol": "SSL",
        "ssl.ca.location": str(kafka.ca),
        "ssl.certificate.location": str(kafka.client_certificate),
        "ssl.key.location": str(kafka.client_key),
        **more,
    }


WAYS = {
    "scram-256": lambda kafka: scram(kafka, "SCRAM-SHA-256"),
    "scram-512": scram,
    "mutual-tls": mutual_tls,
    "not-verified": lambda kafka: without(
        scram(kafka, **{"enable.ssl.certificate.verification": False}), "ssl.ca.location"
    ),
    "ca-as-text": lambda kafka: without(scram(kafka, **{"ssl.ca.pem": kafka.ca.read_text()}), "ssl.ca.location"),
}


def without(options, name):
    return {k: v for k, v in options.items() if k != name}


@pytest.mark.parametrize("way", WAYS)
def test_reads_and_writes(kafka, client, way, caplog):
    caplog.set_level(1)
    topic, out = kafka.create(fresh()), kafka.create(fresh())
    fill(kafka.address, topic, [b"in"])
    job = KafkaJob(WAYS[way](kafka), fresh(), client=client)
    log = join(job, topic).held[0]
    log.seek((0,))
    (record,) = take(log, 1)
    output = job.sink(out).open("0")
    output.write([Message(b"out", log.name + "0", record)])
    output.unit.commit(log.name + "0", (1,), log)
    output.close()
    job.reader.close()
    job.close()
    expect(kafka.address, out, [b"out"])
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    "change, says",
    [
        ({"sasl.password": WRONG}, "uthentication|login"),
        ({"ssl.ca.location": None}, "certificate"),
        ({"security.protocol": "SSL"}, None),
        ({"security.protocol": "PLAINTEXT"}, None),
    ],
    ids=["wrong-password", "no-ca", "no-login", "no-tls"],
)
def test_what_is_wrong_is_said_and_the_password_is_not(kafka, client, change, says, caplog):
    caplog.set_level(logging.DEBUG)
    options = {name: value for name, value in {**scram(kafka), **change}.items() if value is not None}
    if "PLAINTEXT" in change.values():
        options = without(without(options, "ssl.ca.location"), "sasl.mechanism")
    job = KafkaJob(options, fresh(), client=client, deadline_s=1.0)
    with pytest.raises(Unavailable, match=says) as e:
        job.source("in").join(Logs())
    job.close()
    assert kafka.sasl_address in str(e.value)
    for secret in (PASSWORD, WRONG):
        assert secret not in str(e.value) + repr(job.settings) + caplog.text
    assert e.value.__cause__ is None  # nothing of the client's in the traceback
