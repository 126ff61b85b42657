"""Kafka to Kafka, exactly once, on a real broker: events a second beside Quix Streams, and latency at a steady rate.

    python benchmarks/kafka_rate.py            # about six minutes
    python benchmarks/kafka_rate.py --quick    # one and a half

The broker (tests/broker.py) has one core, the worker the other; on the broker's core this process fills and reads
topics. Catch-up: the topic is full before a worker starts, and transactions are of 100 ms. What counts is the group's
committed position: events between its first move and the last, over the time between; and the worker's CPU (all
threads, /proc) over the same stretch, which is what to trust where others use the machine. Contestants take turns.
Quix Streams 3 does the same with an `apply` that does nothing; ours forecasts each event and learns from it. It runs in
.venv-quix, which `make bench` makes; without that folder its rows are left out.

Where the time goes: the shard's loop by stage (wall), and CPU by thread (shard-0: the loop; poll-…: reading).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import confluent_kafka

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from broker import Broker  # noqa: E402
from pipeline import ALONE, FEATURES, verdict, write_events  # noqa: E402

QUIX = HERE.parent / ".venv-quix" / "bin" / "python"
KEYS = 100
COMMIT_S = 0.1
BAR_CONFLUENT, BAR_PYTHON = 1.0, 0.45  # × Quix's events a second
STEADY_PER_S, BAR_P99_S = 5000, COMMIT_S + 0.05
ROWS = {
    "confluent, network alone": ("confluent", "alone", BAR_CONFLUENT),
    "kafka-python, network alone": ("kafka-python", "alone", BAR_PYTHON),
    "confluent, default model": ("confluent", "default", None),
    "kafka-python, default model": ("kafka-python", "default", None),
}


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer events, one round")
    options.add_argument("--rounds", type=int, default=None, help="of the catch-up (default 3)")
    options.add_argument("--events", type=int, default=None, help="of the catch-up (default 300,000)")
    options.add_argument("--only", default="", help="rows whose name has this in it")
    options.add_argument("--no-quix", action="store_true", help="ours alone")
    options.add_argument("--no-catch-up", action="store_true", help="the steady rate alone")
    options.add_argument("--no-steady", action="store_true", help="catch-up alone")
    options.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.worker:
        work(*args.worker)
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    n = args.events or (100_000 if args.quick else 300_000)
    with Broker() as broker:
        bench = Bench(broker, cores[-1])
        rows = {name: row for name, row in ROWS.items() if args.only in name}
        if not args.no_catch_up:
            bench.catch_up(rows, n, args.rounds or (1 if args.quick else 3), not args.no_quix)
        for name, (client, model, _) in rows.items():
            if model == "alone" and not args.no_steady:
                bench.steady(name, client, model, 5.0 if args.quick else 20.0)


class Run:
    """One worker over the whole topic."""

    def __init__(self, per_s: float, cpu_us: float, told: dict[str, Any]) -> None:
        self.per_s, self.cpu_us, self.told = per_s, cpu_us, told


class Bench:
    """A broker, and workers on another core."""

    def __init__(self, broker: Any, core: int) -> None:
        self.broker, self.core = broker, core
        self._made = 0

    def catch_up(self, rows: dict[str, Any], n: int, rounds: int, quix: bool) -> None:
        """Events a second of each, in turn."""
        topic = self.topic("events")
        size = fill(self.broker.address, topic, n)
        for client, model in {(client, model) for client, model, _ in rows.values()}:
            self._run(self._ours(client, model), self._small(), 2000)  # compiles
        print(f"topic → topic, exactly once, catch-up; {n:,} JSON events of {size:.0f} bytes, {KEYS} keys, one "
              f"partition, transactions of {COMMIT_S * 1e3:.0f} ms")  # fmt: skip
        runs: dict[str, list[Run]] = {name: [] for name in ["Quix Streams 3, copying", *rows]}
        if not quix or not QUIX.exists():
            print("  without Quix Streams" + ("" if QUIX.exists() else ": `make bench` makes .venv-quix"))
            del runs["Quix Streams 3, copying"]
        for _ in range(rounds):
            for name, done in runs.items():
                command = self._ours(*rows[name][:2]) if name in rows else self._quix()
                done.append(self._run(command, topic, n))
        rival = runs.get("Quix Streams 3, copying")
        for name, done in runs.items():
            rates, cpu = [r.per_s for r in done], [r.cpu_us for r in done]
            line = f"  {name:<30} {statistics.median(rates):>8,.0f} events/s ({min(rates):,.0f} … {max(rates):,.0f})"
            line += f"  {min(cpu):5.1f} µs of CPU an event"
            if rival and name in rows:
                ratio = statistics.median(r.per_s / q.per_s for r, q in zip(done, rival, strict=True))
                bar = rows[name][2]
                line += f"  {ratio:.2f} × Quix (CPU {min(cpu) / min(q.cpu_us for q in rival):.2f} ×)"
                line += f"   bar {bar}  {verdict(ratio >= bar)}" if bar else ""
            print(line)
        for name in rows:
            print(f"  {name}: {shares(max(runs[name], key=lambda r: r.per_s).told)}")

    def steady(self, name: str, client: str, model: str, seconds: float) -> None:
        """From produce to a read_committed reader, at so many events a second."""
        topic, out, group = self.topic("steady"), self.topic("out"), f"steady-{client}"
        process = self._start(self._ours(client, model), topic, out, group)
        producer = confluent_kafka.Producer({"bootstrap.servers": self.broker.address, "linger.ms": 2})
        late: list[float] = []
        wanted = int(seconds * STEADY_PER_S)
        reader = threading.Thread(target=receive, args=(self.broker.address, out, wanted + 1, late), daemon=True)
        reader.start()
        lines = list(events(wanted))
        producer.produce(topic, lines[0][1], lines[0][0], 0)  # when it is out, the worker runs
        while not late:
            producer.poll(0.05)
        start, cpu = time.perf_counter(), cpu_s(process.pid)
        for i, (key, line) in enumerate(lines):
            if (ahead := i / STEADY_PER_S - (time.perf_counter() - start)) > 0.002:
                time.sleep(ahead)
            producer.produce(topic, line, key, 0, timestamp=int(time.time() * 1000))
            producer.poll(0)
        producer.flush(10)
        reader.join(20)
        cpu = cpu_s(process.pid) - cpu
        stop(process)
        late = sorted(late[len(late) // 20 :])  # not the first one's, nor those of the first moments
        p50, p99 = late[len(late) // 2], late[int(0.99 * (len(late) - 1))]
        print(f"  steady {STEADY_PER_S:,} events/s, {name}: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, most "
              f"{late[-1] * 1e3:.0f} ms   bar {BAR_P99_S * 1e3:.0f}  {verdict(p99 <= BAR_P99_S)}; "
              f"{cpu / wanted * 1e6:.0f} µs of CPU an event")  # fmt: skip

    def topic(self, kind: str) -> str:
        """A new one."""
        self._made += 1
        return str(self.broker.create(f"{kind}-{self._made}"))

    def _small(self) -> str:
        topic = self.topic("warm")
        fill(self.broker.address, topic, 2000)
        return topic

    def _ours(self, client: str, model: str) -> list[str]:
        return [sys.executable, __file__, "--worker", f"{client}/{model}"]

    def _quix(self) -> list[str]:
        return [str(QUIX), "-W", "ignore", str(HERE / "opponents" / "quix_copy.py")]

    def _start(self, command: list[str], topic: str, out: str, group: str) -> subprocess.Popen[str]:
        """A worker on its core."""
        me = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.core})
        try:
            command = [*command, self.broker.address, topic, out, group]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        finally:
            os.sched_setaffinity(0, me)

    def _run(self, command: list[str], topic: str, n: int) -> Run:
        """A worker from the begin of a topic to its end."""
        out, group = self.topic("out"), f"group-{self._made}"
        process = self._start(command, topic, out, group)
        look = confluent_kafka.Consumer({"bootstrap.servers": self.broker.address, "group.id": group})
        place = confluent_kafka.TopicPartition(topic, 0)
        first = last = (0, 0.0, 0.0)
        until = time.monotonic() + 300
        while last[0] < n:
            try:
                (found,) = look.committed([place], timeout=10)
            except confluent_kafka.KafkaException:  # the broker has just begun
                time.sleep(0.1)
                continue
            now = (found.offset, time.perf_counter(), cpu_s(process.pid))
            if now[0] > last[0]:
                last = now
                first = first if first[0] else now
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(command)} ended at {last[0]:,} of {n:,} events")
            time.sleep(0.01)
        look.close()
        told = stop(process)
        assert (written := count(self.broker.address, out)) == n, f"{written:,} of {n:,} came out"
        done = max(1, last[0] - first[0])
        return Run(done / max(1e-9, last[1] - first[1]), (last[2] - first[2]) / done * 1e6, told)


def stop(process: subprocess.Popen[str]) -> dict[str, Any]:
    """SIGTERM; what it said."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    lines = [line for line in said.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}  # type: ignore[no-any-return]


def cpu_s(pid: int) -> float:
    """CPU of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def events(n: int) -> Any:
    """(key, line) of each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        write_events(path, n, KEYS)
        for line in path.read_bytes().splitlines():
            yield line[12:36], line


def fill(address: str, topic: str, n: int) -> float:
    """Write the events; bytes of one."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 20,
                                         "queue.buffering.max.messages": 2_000_000})  # fmt: skip
    size = 0
    for i, (key, line) in enumerate(events(n)):
        producer.produce(topic, line, key, 0, timestamp=1_700_000_000_000 + i)
        size += len(line)
        if i % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    return size / n


def reader(address: str, topic: str) -> Any:
    """Reads committed records from the begin."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "reader", "fetch.wait.max.ms": 5,
                                         "isolation.level": "read_committed", "enable.auto.commit": False,
                                         "enable.partition.eof": True})  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    return consumer


def count(address: str, topic: str) -> int:
    """Committed records in a topic."""
    consumer, n = reader(address, topic), 0
    while True:
        for message in consumer.consume(10_000, 1.0):
            if message.error() is None:
                n += 1
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                consumer.close()
                return n


def receive(address: str, topic: str, wanted: int, late: list[float]) -> None:
    """Note of each record how long ago its event was produced."""
    consumer = reader(address, topic)
    while len(late) < wanted:
        first = consumer.poll(0.01)
        if first is None:
            continue
        now = time.time()
        messages = [m for m in (first, *consumer.consume(10_000, 0)) if m.error() is None]
        late.extend(now - m.timestamp()[1] / 1000 for m in messages)
    consumer.close()


def shares(told: dict[str, Any]) -> str:
    """Where the time went."""
    stages, threads = told["stages"], told["threads"]
    busy, cpu = sum(s for name, s in stages.items() if name != "wait"), sum(threads.values())
    loop = ", ".join(f"{name} {s / busy:.0%}" for name, s in stages.items() if name != "wait")
    waits = stages["wait"] / (busy + stages["wait"])
    most = max((s, name) for name, s in stages.items() if name != "wait")[1]
    by_thread = ", ".join(f"{name} {s / cpu:.0%}" for name, s in sorted(threads.items(), key=lambda i: -i[1])[:6])
    return f"the loop waits {waits:.0%} for records; the rest is {loop} (most: {most}). CPU: {by_thread}"


# The worker: a process of its own


def work(what: str, broker: str, topic: str, out: str, group: str) -> None:
    """Ours, until SIGTERM; prints where its time went."""
    from stream_rnn.codec import Codec
    from stream_rnn.connectors.kafka import KafkaJob
    from stream_rnn.daemon import Daemon
    from stream_rnn.engine import Engine
    from stream_rnn.model import Forecaster

    client, model = what.rsplit("/", 1)
    job = KafkaJob({"bootstrap.servers": broker}, group, client=client)
    forecaster = Forecaster("temperature", key="sensor", time="ts", features=FEATURES,
                            **(ALONE if model == "alone" else {}))  # fmt: skip
    fields = ["sensor", "ts", *FEATURES]
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(job.source(topic), forecaster, job.sink(out), None, folder, on_error="stop",
                        codec=lambda: Codec("json", fields=fields, timestamp=True, max_bytes=1 << 20),
                        commit_interval=COMMIT_S)  # fmt: skip
        spent = Spent(engine)
        Daemon(engine).run()
        print(json.dumps(spent.told), flush=True)


class Spent:
    """Where an engine's time goes from its first event to its last."""

    def __init__(self, engine: Any) -> None:
        self.told: dict[str, Any] = {}
        self._engine = engine
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not (meters := list(self._engine._meters.values())) or not meters[0].counts.events:
            time.sleep(0.01)
        (meter,) = meters
        stages, threads, seen = dict(meter.seconds), cpu_by_thread(), 0
        while True:
            if meter.counts.events > seen:
                seen = meter.counts.events
                self.told = {
                    "stages": {name: s - stages[name] for name, s in meter.seconds.items()},
                    "threads": {name: s - threads.get(name, 0.0) for name, s in cpu_by_thread().items()},
                }
            time.sleep(0.05)


def cpu_by_thread() -> dict[str, float]:
    """CPU seconds so far, by the thread's name; librdkafka's have their own."""
    names = {t.native_id: t.name for t in threading.enumerate()}
    found: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        name = names.get(int(task.name), head.partition("(")[2])
        fields = rest.split()
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


if __name__ == "__main__":
    main()
