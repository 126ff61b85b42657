"""What may happen to topics and groups beside a job: a clear stop that says what to choose, or it is got over."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import confluent_kafka
import pytest
from broker import PASSWORD, USER
from kafka import TopicPartition
from kafka_help import CLIENTS, content, fill, fresh, until

from stream_rnn import cli
from stream_rnn.connectors import Snapshot
from stream_rnn.connectors.kafka import KafkaJob
from stream_rnn.engine import Engine
from stream_rnn.errors import RecoveryError, SinkError, SourceError, SourceGap
from stream_rnn.model import Forecaster
from stream_rnn.store import Store

pytestmark = pytest.mark.kafka
both_clients = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def client():
    return "kafka-python"


def lines(first, last):
    return [json.dumps({"id": f"k{i % 3}", "at": 1e9 + i, "v": i % 7}).encode() for i in range(first, last)]


class World:
    """Topics, and a job that is run on them again and again."""

    def __init__(self, kafka, client, folder, partitions=1):
        self.kafka, self.client, self.folder, self.partitions = kafka, client, folder, partitions
        self.name = fresh("edge")
        self.topic, self.out, self.dead = (kafka.create(fresh(), partitions) for _ in range(3))
        self.sent = 0

    def feed(self, n=200):
        """The same events in every partition."""
        for partition in range(self.partitions):
            fill(self.kafka.address, self.topic, lines(self.sent, self.sent + n), partition)
        self.sent += n

    def job(self, **options):
        options = {"bootstrap.servers": self.kafka.address, "metadata.max.age.ms": 300, **options}
        return KafkaJob(options, self.name, client=self.client, deadline_s=5.0)

    def start(self, *, state="state", job=None, **policy):
        return Run(self, job or self.job(), self.folder / state, policy)

    def until_the_end(self, **more):
        """A life that comes to the end of the topic and is stopped then; it."""
        run = self.start(**more)
        until(lambda: run.failed or self.committed() == self.sent)
        run.stop()
        return run

    def committed(self, partition=0):
        found = self.asker.lookup.committed(self.topic, partition)
        return 0 if found is None else found.offset

    @property
    def asker(self):
        if not hasattr(self, "_asker"):
            self._asker = self.job()
        return self._asker

    def outputs(self, partition=0):
        return [json.loads(m.value())["source"] for m in content(self.kafka.address, self.out, partition)]

    def is_whole(self, first=0):
        wanted = [f"{self.topic}/0/{n}" for n in range(first, self.sent)]
        until(lambda: len(self.outputs()) >= len(wanted), 5)
        return self.outputs() == wanted


class Run:
    """An engine in a thread."""

    def __init__(self, world, job, folder, policy):
        self.job = job
        self.failed = None
        model = Forecaster("v", key="id", time="at", kind="rnn", hidden=4, k1=2, k2=4)
        sinks = [job.sink(t) for t in (world.out, world.dead)]
        policy = {"commit_interval": 0.01, "checkpoint_interval": 0.01, "share_interval": 0.01} | policy
        self.engine = Engine(job.source(world.topic), model, *sinks, folder, **policy)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self.engine.run()
        except BaseException as e:
            self.failed = e
        finally:
            self.job.close()

    def stop(self):
        self.engine.stop()
        self.join()

    def join(self):
        self._thread.join(20)
        assert not self._thread.is_alive()

    def fails(self, kind, match):
        """Ends by itself, with such an error."""
        self.join()
        with pytest.raises(kind, match=match):
            raise self.failed or AssertionError("it ended well")


@pytest.fixture
def world(kafka, client, tmp_path):
    world = World(kafka, client, tmp_path)
    world.feed()
    yield world
    world.asker.close()


def remake(world):
    world.kafka.admin.delete_topics([world.topic])
    until(lambda: world.topic not in world.kafka.admin.list_topics())
    world.kafka.create(world.topic)


# The source


@both_clients
def test_a_partition_that_is_added_begins_a_new_model(world, caplog, monkeypatch):
    monkeypatch.setattr("stream_rnn.connectors.kafka_source._WATCH_S", 0.1)
    run = world.start()
    until(lambda: world.committed() == 200)
    for topic in (world.out, world.dead, world.topic):
        world.kafka.admin.create_partitions({topic: 2})
    fill(world.kafka.address, world.topic, lines(0, 50), 1)
    until(lambda: run.failed or world.committed(1) == 50)
    run.stop()
    assert run.failed is None
    assert "has 2 partitions now, and had 1: the new ones begin new models" in caplog.text
    first = json.loads(content(world.kafka.address, world.out, 1)[0].value())
    assert (first["source"], first["step"], first["predicted"]) == (f"{world.topic}/1/0", 1, None)
    assert world.is_whole()


@both_clients
@pytest.mark.parametrize("again", [True, False], ids=["made-again", "gone"])
def test_a_topic_that_is_deleted_while_it_is_read(world, monkeypatch, again):
    monkeypatch.setattr("stream_rnn.connectors.kafka_source._WATCH_S", 0.1)
    run = world.start()
    until(lambda: world.committed() == 200)
    if again:
        remake(world)
        run.fails(SourceError, "deleted and made again since this state.*new state and another job name")
    else:
        world.kafka.admin.delete_topics([world.topic])
        run.fails(SourceError, "was deleted while it was being read")


@pytest.mark.parametrize("moved", [False, True], ids=["here", "moved"])
def test_a_topic_that_was_made_again_between_two_runs(world, moved):
    world.until_the_end()
    remake(world)
    fill(world.kafka.address, world.topic, lines(0, 300))
    world.start(state="elsewhere" if moved else "state").fails(SourceError, "deleted and made again since this state")


def test_retention_passed_the_position(world):
    world.until_the_end()
    world.feed()
    world.kafka.admin.delete_records({TopicPartition(world.topic, 0): 300})
    world.start().fails(SourceGap, r"/200 should come next, and Kafka has only what begins at 300.*state\.on_gap")
    run = world.until_the_end(on_gap="skip")
    assert run.failed is None
    assert run.engine.status()[0]["gaps"] == 1
    until(lambda: len(world.outputs()) == 300)
    assert world.outputs()[199:201] == [f"{world.topic}/0/199", f"{world.topic}/0/300"]


def test_retention_passed_an_old_state_and_not_the_shared_one(world, tmp_path):
    """A machine has the shard again that others had meanwhile: no gap."""
    world.until_the_end()
    shutil.copytree(tmp_path / "state", tmp_path / "old")
    world.feed()
    world.until_the_end()
    world.kafka.admin.delete_records({TopicPartition(world.topic, 0): 400})
    world.feed()
    assert world.until_the_end(state="old").failed is None
    assert world.is_whole()


@pytest.mark.parametrize("moved", [False, True], ids=["here", "moved"])
def test_a_group_that_forgot_its_position_stops_with_the_choices(world, moved):
    """As it does without members after a week; a tool tells it again."""
    world.until_the_end()
    world.feed()
    until(lambda: world.kafka.admin.delete_groups([world.name]) and not world.committed())
    state = "elsewhere" if moved else "state"
    world.start(state=state).fails(
        RecoveryError,
        rf"group {world.name} has no position in {world.topic}/0 any more: .*offsets\.retention\.minutes.*"
        rf"--reset-offsets --to-offset.*predictions ended at {world.topic}/0/199 .*--new-outputs",
    )
    tool = confluent_kafka.Consumer({"bootstrap.servers": world.kafka.address, "group.id": world.name})
    tool.commit(offsets=[confluent_kafka.TopicPartition(world.topic, 0, 200)], asynchronous=False)
    tool.close()
    assert world.until_the_end(state=state).failed is None
    assert world.is_whole()


def test_topics_that_are_not_there(world):
    for what in ("topic", "out", "dead"):
        before, missing = getattr(world, what), fresh("missing")
        setattr(world, what, missing)
        said = rf"no topic {missing};.*--create --topic {missing} --partitions 1"
        world.start().fails((SourceError, SinkError), said)
        setattr(world, what, before)


def test_a_sink_with_fewer_partitions(kafka, client, tmp_path):
    world = World(kafka, client, tmp_path, 3)
    world.out = kafka.create(fresh(), 1)
    world.start().fails(SinkError, rf"{world.out} has 1 partitions, .*--alter --topic {world.out} --partitions 3")


CONFIG = """
name = "{name}"
[kafka]
client = "{client}"
"bootstrap.servers" = "{address}"
[source]
type = "kafka"
topic = "{topic}"
[event]
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
"""


def test_the_check_says_all_that_before(kafka, world, tmp_path, capsys):
    narrow = kafka.create(fresh(), 1)
    kafka.admin.create_partitions({world.topic: 2})
    wide = [kafka.create(fresh(), 2) for _ in range(2)]
    for out, dead, code, said in (
        (*wide, 0, "forecast"),
        (wide[0], "nowhere", 1, "--create --topic nowhere --partitions 2"),
        (narrow, wide[0], 1, f"--alter --topic {narrow} --partitions 2"),
    ):
        path = tmp_path / "job.toml"
        text = CONFIG.format(name=world.name, client=world.client, address=kafka.address, topic=world.topic, out=out,
                             dead=dead)  # fmt: skip
        path.write_text(text)
        assert cli.main(["check", str(path)]) == code
        found = capsys.readouterr()
        assert said in found.out + found.err


def test_the_example_is_right(kafka, tmp_path, capsys, monkeypatch):
    """Checked by the command, on topics as it names them."""
    path = Path(__file__).parents[2] / "examples" / "kafka.toml"
    topics = [kafka.create(name, 4) for name in ("sensors", "forecasts", "sensors.dead")]
    event = {"pump": "p1", "ts": 1714557600, "temperature": 61.2, "vibration": 0.03}
    fill(kafka.address, "sensors", [json.dumps(event).encode()])
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", str(path), "--set", f"kafka.bootstrap.servers={kafka.address}"]) == 0
    said = capsys.readouterr().out
    assert "temperature = 61.2" in said
    assert "vibration = 0.03" in said
    assert not list(tmp_path.iterdir())
    kafka.admin.delete_topics(topics)


# The topic of shared snapshots


def test_a_state_topic_that_loses_snapshots_is_refused(world):
    world.kafka.create(f"{world.name}-state", 1, cleanup_policy="delete")
    world.start().fails(SinkError, r"cleanup\.policy = delete.*cleanup\.policy=compact.*state\.share = \"none\"")
    assert world.until_the_end(share="none").failed is None
    assert world.is_whole()


@both_clients
@pytest.mark.parametrize("rights", [(), ("DESCRIBE",), ("DESCRIBE", "READ")], ids=["none", "describe", "read"])
def test_without_the_right_to_share_it_says_what_to_choose(kafka, world, rights):
    if rights:
        job = world.job()
        state = kafka.create(f"{world.name}-state", 1, cleanup_policy="compact")
        job.shared_state("0").put(Snapshot(b"", (0,)))
        until(lambda: content(kafka.address, state))
        job.close()
    kafka.allow(f"{world.name}-state", *(rights or ["DESCRIBE_CONFIGS"]))
    login = scram(kafka)
    world.start(job=world.job(**login)).fails(
        SinkError, rf"[Aa]uthorization.*create {world.name}-state .* read it, write it.*state\.share = \"none\""
    )
    assert world.until_the_end(job=world.job(**login), share="none").failed is None


def test_a_right_that_is_lost_while_it_runs_stops_nothing(kafka, world):
    run = world.start(job=world.job(**scram(kafka)))
    until(lambda: run.failed or world.committed() == 200)
    kafka.allow(f"{world.name}-state", "DESCRIBE", "READ")
    world.feed()
    until(lambda: run.failed or (world.committed() == 400 and run.engine.status()[0]["shared"]["failures"]))
    assert 'state.share = "none"' in run.engine.status()[0]["shared"]["error"]
    run.stop()
    assert run.failed is None
    assert world.is_whole()
    with Store(world.folder / "state" / "state-0.db", write=False) as store:
        assert store.history()[0].positions[f"kafka:{world.topic}/0"].position == (400,)


def scram(kafka):
    return {
        "bootstrap.servers": kafka.sasl_address, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER, "sasl.password": PASSWORD, "ssl.ca.location": str(kafka.ca),
    }  # fmt: skip
