"""Several workers of one group at once, and what can happen to them while events come in without a pause.

Each step waits for what it is about: that the group is complete again, and that every partition has moved on since.
The broker's log tells of the group. What all of it must leave is what one undisturbed worker leaves.
"""

from __future__ import annotations

import itertools
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kafka_help import Feed, fresh, until
from recovery import stream
from recovery.kafka_job import PARTITIONS, TopicJob
from recovery.nursery import Nursery

TIMEOUTS = {
    "kafka.session.timeout.ms": 2000, "kafka.heartbeat.interval.ms": 300, "kafka.socket.timeout.ms": 2500,
    "kafka.transaction.timeout.ms": 3000, "kafka.max.poll.interval.ms": 3500,
}  # fmt: skip
LONGER_THAN_EVERY_TIMEOUT_S = 4.0
LARGEST = 3  # workers at once

# In the broker's log
_COMPLETE = r"Stabilized group NAME generation \d+ with (\d+) members"
_COMES = r"joins group NAME in \w+ state\. Adding to the group now"
_GIVEN_UP = r"Member \S+ in group NAME has failed|Group NAME removed dynamic members"


def endless(partition: int) -> Iterator[bytes]:
    """Events, good and bad."""
    return itertools.chain.from_iterable(stream.lines(500, seed=100 * n + partition) for n in itertools.count())


class Crew:
    """Workers of one job, in one folder, on a topic that is written all the while; a context, for none to be left."""

    def __init__(self, folder: Path, broker: Any, client: str, nursery: Nursery, rng: random.Random) -> None:
        topic = broker.create(fresh("live"), PARTITIONS)
        dynamic = {"kafka.group.instance.id": None, "state.commit_interval": "20ms"}
        self.job = TopicJob(folder / "crew", broker, client, nursery=nursery, topic=topic, **TIMEOUTS | dynamic)
        self.job.tamper = [["blocks_of", 30]]
        self._whole = TopicJob(folder / "whole", broker, client, nursery=nursery, topic=topic)
        self.done: Counter[str] = Counter()
        self._broker, self._rng = broker, rng
        self._workers: list[Any] = []
        self._feed = Feed(broker.address, topic, PARTITIONS, pause_s=0.02, at_once=8, lines=endless)

    def __enter__(self) -> Crew:
        self._feed.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGKILL)

    def finish(self) -> list[str]:
        """No more events; when all are learnt the workers leave. Differences to one undisturbed worker."""
        self._feed.__exit__()
        self._whole.finish()
        until(self.job.done, 120, fail=False)
        assert self.job.done(), f"{self.job.committed()} is committed: {self.job.said()[-3000:]}"
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        codes = [worker.wait(60) for worker in self._workers]
        assert not any(codes), f"exit codes {codes}: {self.job.said()[-3000:]}"
        found = self._whole.outcome()
        until(lambda: not self.job.outcome().differences(found), 30, fail=False)
        return self.job.outcome().differences(found)

    def report(self, differences: list[str]) -> str:
        """What has happened."""
        told = self.done | {"rebalances": self.rebalances, "events": self._feed.count}
        return ", ".join(f"{n:,} {name}" for name, n in told.items()) + f"; {len(differences)} differences"

    @property
    def rebalances(self) -> int:
        """Generations that the group has had."""
        return self._told(_COMPLETE)

    def steps(self, rounds: int) -> Iterator[Callable[[], None]]:
        """Rounds of all that can happen, each in an order of its own; in one of them the broker is down for long."""
        for n in range(rounds):
            pause_s = LONGER_THAN_EVERY_TIMEOUT_S if n == 1 else self._rng.choice([0.0, 0.5])
            kinds = [self.join, self.join, self.leave, self.leave, self.kill, self.kill_in_a_rebalance, self.sleep]
            kinds += [partial(self.restart_broker, pause_s)]
            self._rng.shuffle(kinds)
            for kind in kinds:
                if kind == self.leave and len(self._workers) == 1:
                    yield self.join
                elif kind in (self.join, self.kill_in_a_rebalance) and len(self._workers) == LARGEST:
                    yield self.leave
                else:
                    yield kind

    # What can happen

    def join(self) -> None:
        """One more worker."""
        self.done["joins"] += 1
        self._workers.append(self.job.start())
        self._settle()

    def leave(self) -> None:
        """A worker is asked to end."""
        self.done["leaves"] += 1
        worker = self._take()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, self.job.said()[-3000:]
        self._settle()

    def kill(self) -> None:
        """A worker gets kill -9, and another takes its place."""
        self.done["kills"] += 1
        self._end(self._take())
        self._workers.append(self.job.start())
        self._settle()

    def kill_in_a_rebalance(self) -> None:
        """A worker comes, and while partitions move one gets kill -9: a new one, or an old one."""
        self.done["kills in rebalances"] += 1
        before = self._told(_COMES)
        self._workers.append(self.job.start())
        until(lambda: self._told(_COMES) > before)
        time.sleep(self._rng.choice([0.0, 0.02, 0.1, 0.3]))
        self._end(self._take())
        self._settle()

    def sleep(self) -> None:
        """A worker stands still until the group has given it up, then it goes on: it must write nothing."""
        self.done["sleeps past the session"] += 1
        sleeper = self._rng.choice(self._workers)
        before = self._told(_GIVEN_UP)
        sleeper.send_signal(signal.SIGSTOP)
        try:
            until(lambda: self._told(_GIVEN_UP) > before)
            if len(self._workers) > 1:
                self._move_on()
        finally:
            sleeper.send_signal(signal.SIGCONT)
        self._settle()

    def restart_broker(self, pause_s: float = 0.0) -> None:
        """kill -9 of the broker."""
        self.done["broker restarts"] += 1
        self._broker.kill()
        time.sleep(pause_s)
        self._broker.start()
        self._move_on()

    def _take(self) -> Any:
        return self._workers.pop(self._rng.randrange(len(self._workers)))

    def _end(self, worker: Any) -> None:
        worker.send_signal(signal.SIGKILL)
        assert worker.wait(60) == -signal.SIGKILL, self.job.said()[-3000:]

    def _told(self, pattern: str) -> int:
        """How often the broker has told that of this group."""
        return len(self._broker.told(pattern.replace("NAME", re.escape(self.job.name))))

    def _settle(self) -> None:
        """Until the group has as many members as there are workers, and all partitions move."""
        sizes = _COMPLETE.replace("NAME", re.escape(self.job.name))
        until(lambda: self._broker.told(sizes)[-1:] == [str(len(self._workers))], 90, fail=False)
        found, codes = self._broker.told(sizes)[-5:], [worker.poll() for worker in self._workers]
        assert found[-1:] == [str(len(self._workers))], f"sizes {found}, exit codes {codes}: {self.job.said()[-6000:]}"
        self._move_on()

    def _move_on(self) -> None:
        """Until something of every partition has been committed since."""
        before = self.job.committed()
        until(lambda: all(now > then for now, then in zip(self.job.committed(), before, strict=True)), 90)
        assert all(worker.poll() is None for worker in self._workers), self.job.said()[-3000:]
