"""A job from a topic to topics: what it leaves is in its output topics' partitions and one database a shard."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from kafka_help import KafkaJob, abort, content, fill, fresh
from recovery import stream
from recovery.job import SETTINGS, Job, Outcome
from recovery.nursery import Nursery

from stream_rnn.errors import InputError, StateError, Unavailable
from stream_rnn.store import Store

PARTITIONS = 2
RECORDS = 1500  # in each partition
INPUT = "sensors"  # the same name on every broker: outputs name it


def make_input(broker: Any) -> None:
    """The topic that most jobs read: bad records, aborted transactions, tombstones, every codec."""
    broker.create(INPUT, PARTITIONS)
    for partition in range(PARTITIONS):
        records = stream.lines(RECORDS, seed=partition)
        for start in range(0, RECORDS, 250):
            part = [(line, b"k%d" % (n % 3), 1_700_000_000_000 + n, []) for n, line in enumerate(records[start:][:250])]
            part[7] = (None, b"gone", 1_700_000_000_000, [("h", b"x")])
            codec = ("none", "gzip", "lz4", "zstd", "snappy", "none")[start // 250]
            ids = {"transactional.id": f"writer-{partition}-{start}"} if start % 500 else {}
            fill(broker.address, INPUT, part, partition, **{"compression.type": codec}, **ids)
            if ids:
                abort(broker.address, INPUT, [b'{"id": "k0", "at": 1, "v": 1e9}'], partition)


class TopicJob(Job):
    """`run` lives until all of the input is committed, then it is asked to stop."""

    def __init__(
        self, folder: Path, broker: Any, client: str, *, nursery: Nursery | None = None, topic: str = INPUT,
        **settings: Any,
    ) -> None:  # fmt: skip
        self.folder, self.broker, self.source, self.topic = folder, broker, "kafka", topic
        self.name = fresh("job")
        self.tamper: list[list[Any]] = []
        self.records = [b""] * (PARTITIONS * RECORDS)
        self._nursery, self._number, self._feeder = nursery, 0, _Nothing()
        self._looked_at = 0.0
        self.out, self.dead = (broker.create(f"{what}-{self.name}", PARTITIONS) for what in ("out", "dead"))
        folder.mkdir(parents=True, exist_ok=True)
        mine = {
            "kafka.client": client, "kafka.bootstrap.servers": broker.address, "kafka.session.timeout.ms": 6000,
            "kafka.heartbeat.interval.ms": 300, "kafka.group.instance.id": "only",
            "source.type": "kafka", "source.topic": topic, "sink.type": "kafka", "sink.topic": self.out,
            "dead_letter.type": "kafka", "dead_letter.topic": self.dead, "state.checkpoint_interval": "20ms",
        }  # fmt: skip
        if settings.get("sink.type") == "file":
            mine = {n: v for n, v in mine.items() if n not in ("sink.topic", "dead_letter.topic")}
        base = {n: v for n, v in SETTINGS.items() if not n.startswith(("sink.", "dead_letter."))}
        self.configure(**base | mine | settings)

    def configure(self, **settings: Any) -> None:
        """Kafka's own names have dots; None: not set."""
        self.settings = {name: value for name, value in settings.items() if value is not None}
        sections: dict[str, dict[str, Any]] = {"": {"name": self.name}}
        for full, value in self.settings.items():
            section, _, name = full.partition(".")
            sections.setdefault(section, {})[name] = value
        (self.folder / "job.toml").write_text("".join(
            (f"[{section}]\n" if section else "")
            + "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in values.items())
            for section, values in sections.items()
        ))  # fmt: skip

    def written(self) -> int:
        """All records once their positions are committed, else 0; asked for now and then only."""
        now = time.monotonic()
        if now - self._looked_at < 0.1:
            return 0
        self._looked_at = now
        return len(self.records) if self.done() else 0

    def done(self) -> bool:
        """Whether the group's positions and the checkpoints are at the end."""
        if self.settings["state.checkpoint_interval"] != "1h" and not all(
            self._checkpointed(p) > last(self.broker, self.topic, p) for p in range(PARTITIONS)
        ):
            return False
        if self.settings["sink.type"] == "file":
            return True
        return all(at > last(self.broker, self.topic, p) for p, at in enumerate(self.committed()))

    def committed(self) -> list[int]:
        """The group's positions; -1: not told, or none."""
        asker = KafkaJob({"bootstrap.servers": self.broker.address}, self.name, client="confluent", deadline_s=1.0)
        try:
            found = [asker.lookup.committed(self.topic, partition) for partition in range(PARTITIONS)]
            return [-1 if f is None else f.offset for f in found]
        except Unavailable:  # a broker that is down, or a transaction that is open
            return [-1] * PARTITIONS
        finally:
            asker.close()

    def _checkpointed(self, partition: int) -> int:
        path = self.folder / self.settings["state.path"] / f"state-{partition}.db"
        try:
            with Store(path, write=False) as store:
                found = store.newest()
                return -1 if found is None else max(place.position[0] for place in found.positions.values())
        except (StateError, InputError):  # not there yet, or being made
            return -1

    def _written(self, what: str, topic: str, partition: int) -> bytes:
        if self.settings["sink.type"] == "file":
            return (self.folder / f"{what}-{partition}.jsonl").read_bytes()
        return b"\n".join(map(_told, content(self.broker.address, topic, partition)))

    def outcome(self) -> Outcome:
        """The topics' records, and each shard's newest checkpoint."""
        outputs: dict[str, bytes] = {}
        arrays: dict[str, tuple[Any, ...]] = {}
        states: dict[Any, tuple[bytes, float | None]] = {}
        positions = []
        for partition in range(PARTITIONS):
            for what, topic in (("out", self.out), ("dead", self.dead)):
                outputs[f"{what}/{partition}"] = self._written(what, topic, partition)
            path = self.folder / self.settings["state.path"] / f"state-{partition}.db"
            with Store(path, write=False) as store:
                found = store.newest()
                assert found is not None
                for name, array in found.arrays.items():
                    arrays[f"{partition}/{name}"] = (array.dtype.str, array.shape, array.tobytes())
                for row in store.rows(found.generation):
                    states[partition, row.key] = (bytes(row.state), row.seen)
                positions += [place.position for place in found.positions.values()]
        return Outcome(outputs, arrays, states, positions)


class FileToTopic(Job):
    """A job from a file to topics: its outputs are in partition 0, and the file's position with them."""

    def __init__(self, folder: Path, broker: Any, client: str, records: list[bytes], nursery: Nursery) -> None:
        self.broker, self.name = broker, fresh("job")
        self.out, self.dead = (broker.create(f"{what}-{self.name}") for what in ("out", "dead"))
        super().__init__(folder, records, nursery=nursery, settings={
            "kafka.client": client, "kafka.bootstrap.servers": broker.address,
            "sink.type": "kafka", "sink.topic": self.out, "sink.path": None,
            "dead_letter.type": "kafka", "dead_letter.topic": self.dead, "dead_letter.path": None,
        })  # fmt: skip

    configure = TopicJob.configure

    def outcome(self) -> Outcome:
        """The predictions as a file would have them, and the checkpoint."""
        found = Job.outcome(self)
        lines = [m.value() + b"\n" for m in content(self.broker.address, self.out)]
        found.outputs = {"out.jsonl": b"".join(lines)}
        return found

    def letters(self) -> list[tuple[bytes, str]]:
        """Dead letters: what the record was, and where."""
        found = content(self.broker.address, self.dead)
        return [(m.value(), dict(m.headers())["source"].decode()) for m in found]


_lasts: dict[tuple[str, str, int], int] = {}


def last(broker: Any, topic: str, partition: int) -> int:
    """Offset of a topic's last record that is committed; nothing is added any more."""
    key = (broker.address, topic, partition)
    if key not in _lasts:
        _lasts[key] = content(broker.address, topic, partition)[-1].offset()
    return _lasts[key]


def _told(message: Any) -> bytes:
    return repr((message.value(), message.key(), message.timestamp(), message.headers())).encode()


class _Nothing:
    """Nothing is fed: the input is there."""

    done = True

    def step(self) -> None:
        """Nothing."""
