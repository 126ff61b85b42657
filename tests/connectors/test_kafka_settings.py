"""librdkafka's names for both clients; what is refused, and how; no secret in any text."""

from __future__ import annotations

import datetime
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_rnn.connectors.kafka_settings import NAMES, KafkaSettings
from stream_rnn.errors import ConfigError
from stream_rnn.units import Secret

SERVERS = {"bootstrap.servers": "a:1, b:2"}


def test_kafka_python_gets_its_own_names():
    settings = KafkaSettings(
        {
            **SERVERS,
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-256",
            "sasl.username": "u",
            "sasl.password": "p",
            "ssl.ca.location": "/ca.pem",
            "ssl.endpoint.identification.algorithm": "none",
            "session.timeout.ms": "6000",
            "compression.type": "none",
        }
    )
    consumer = settings.kafka_python("consumer")
    assert consumer["bootstrap_servers"] == ["a:1", "b:2"]
    assert consumer["security_protocol"] == "SASL_SSL"
    assert (consumer["sasl_mechanism"], consumer["sasl_plain_password"]) == ("SCRAM-SHA-256", "p")
    assert consumer["ssl_check_hostname"] is False
    assert consumer["session_timeout_ms"] == 6000
    assert consumer["isolation_level"] == "read_committed"
    assert "compression_type" not in consumer
    producer = settings.kafka_python("producer")
    assert producer["compression_type"] is None
    assert "session_timeout_ms" not in producer


def test_confluent_gets_them_as_they_are_each_client_its_own():
    settings = KafkaSettings({**SERVERS, "session.timeout.ms": 6000, "linger.ms": 7}, "confluent")
    assert settings.confluent("consumer")["session.timeout.ms"] == 6000
    assert "linger.ms" not in settings.confluent("consumer")
    assert settings.confluent("producer")["linger.ms"] == 7
    assert "group.id" not in settings.confluent("consumer")


@pytest.mark.parametrize(
    "options, client, says",
    [
        ({}, "kafka-python", "bootstrap.servers"),
        ({**SERVERS, "sasl.usrname": "u"}, "kafka-python", "sasl.usrname is no setting; did you mean sasl.username?"),
        ({**SERVERS, "session.timeout.ms": "soon"}, "kafka-python", "'soon': a whole number is wanted"),
        ({**SERVERS, "enable.auto.commit": True}, "confluent", "not yours to set: positions are committed with"),
        ({**SERVERS, "auto.offset.reset": "latest"}, "confluent", "set source.start"),
        ({**SERVERS, "ssl.keystore.location": "x"}, "kafka-python", 'has no such setting.*client = "confluent"'),
        (SERVERS, "kafka", "it is one of kafka-python, confluent"),
        ({**SERVERS, "enable.ssl.certificate.verification": "maybe"}, "confluent", "true or false is wanted"),
    ],
)
def test_refuses_with_the_remedy(options, client, says):
    with pytest.raises(ConfigError, match=says):
        KafkaSettings(options, client)


@given(st.text(min_size=1), st.sampled_from(["sasl.password", "ssl.key.password", "ssl.key.pem"]), st.booleans())
def test_no_text_shows_a_secret(secret, name, wrapped):
    options = {**SERVERS, name: Secret(secret) if wrapped else secret}
    settings = KafkaSettings(options, "confluent")
    assert repr(settings) == "KafkaSettings('a:1, b:2', client='confluent')"
    assert settings.confluent("admin")[name] == secret
    assert secret not in settings.hide(f"<{secret}>").strip("<>*") or secret in "<>*"


def test_a_ca_given_as_text_and_a_broker_that_is_not_checked(tmp_path):
    ca = certificate()
    settings = KafkaSettings({**SERVERS, "security.protocol": "SSL", "ssl.ca.pem": ca})
    context = settings.kafka_python("admin")["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    settings = KafkaSettings({**SERVERS, "security.protocol": "SSL", "enable.ssl.certificate.verification": False})
    context = settings.kafka_python("admin")["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    with pytest.raises(ConfigError, match="ssl settings cannot be used"):
        KafkaSettings({**SERVERS, "ssl.ca.pem": "nonsense"}).kafka_python("admin")


def certificate():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_names_are_librdkafkas():
    """Each is taken by confluent-kafka's library, so none is misspelt."""
    values = {"sasl.mechanism": "PLAIN", "security.protocol": "plaintext", "compression.type": "lz4"}
    for name in set(NAMES) - {"group.id", "transactional.id"}:  # ours
        assert "No such configuration property" not in complaint(name, values.get(name, "1")), name
    assert "No such configuration property" in complaint("session.timeout", "1")


def complaint(name, value):
    import confluent_kafka

    try:
        confluent_kafka.Producer({name: value, "log_level": 0})
    except confluent_kafka.KafkaException as e:
        return e.args[0].str()
    return ""


def test_fetches_wait_for_some_bytes_unless_a_wait_was_asked_for():
    usual = KafkaSettings({"bootstrap.servers": "h:1"})
    assert (usual.get("fetch.min.bytes"), usual.get("fetch.wait.max.ms")) == (65536, 10)
    patient = KafkaSettings({"bootstrap.servers": "h:1", "fetch.wait.max.ms": 500})
    assert (patient.get("fetch.min.bytes"), patient.get("fetch.wait.max.ms")) == (1, 500)
    both = KafkaSettings({"bootstrap.servers": "h:1", "fetch.wait.max.ms": 500, "fetch.min.bytes": 7})
    assert both.kafka_python("consumer")["fetch_min_bytes"] == both.confluent("consumer")["fetch.min.bytes"] == 7
