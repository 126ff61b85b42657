"""What the tests do to a process that works with Kafka: answers that get lost, and engines that are wrong on purpose.

Run in the process itself, as tamper.py is.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from recovery.tamper import _replace


def answer_lost(n: int) -> None:
    """The n-th commit happens, and no answer comes."""
    from stream_rnn.connectors.kafka_client import OutcomeUnknown
    from stream_rnn.connectors.kafka_sink import Transaction

    alive, numbers = Transaction._alive, itertools.count(1)

    class Mute:
        def __init__(self, producer: Any) -> None:
            self._producer = producer

        def commit(self, *arguments: Any) -> None:
            number = next(numbers)
            self._producer.commit(*arguments)
            if number == n:
                raise OutcomeUnknown("a test took the answer away")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._producer, name)

    _replace(Transaction, "_alive", lambda self: Mute(alive(self)))


def slowly(block_s: float) -> None:
    """A block takes that much longer."""
    from stream_rnn import phases

    enter = phases.enter

    def enter_slowly(name: str) -> None:
        enter(name)
        if name == "learn":
            time.sleep(block_s)

    _replace(phases, "enter", enter_slowly)


# Engines that are wrong


def unanswered_commits_are_made_again(n: int) -> None:
    """The n-th commit happens, no answer comes, and the same is sent again by the same producer, from memory."""
    from stream_rnn.connectors.kafka_sink import Transaction

    commit, numbers = Transaction.commit, itertools.count(1)

    def careless(self: Any, *arguments: Any) -> None:
        pending = list(self._pending)
        commit(self, *arguments)
        if pending and next(numbers) == n:
            for topic, partition, messages in pending:
                self._producer.send(topic, partition, messages)
            self._producer.commit(None, None, 10.0)

    _replace(Transaction, "commit", careless)


def positions_go_ahead() -> None:
    """The position is committed by itself, and the outputs after it."""
    from stream_rnn import phases
    from stream_rnn.connectors.kafka_sink import Transaction

    commit = Transaction.commit

    def write(self: Any, topic: str, partition: int, messages: Any) -> None:
        self._pending.append((topic, partition, messages))

    def apart(self: Any, *arguments: Any) -> None:
        pending, self._pending = self._pending, []
        commit(self, *arguments)
        phases.enter("apart")  # an instant to be killed in
        for topic, partition, messages in pending:
            self._producer.send(topic, partition, messages)
        if pending:
            self._producer.commit(None, None, 10.0)

    _replace(Transaction, "write", write)
    _replace(Transaction, "commit", apart)
