"""Calls that may never come back, made in a thread of their own, so that whoever waits for them can give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class GivenUp(Exception):
    """No end in time; the call may still be under way, and what it does is not known."""


class Errands:
    """One thread for the calls of one owner, one after the other. After GivenUp it is of no use any more."""

    def __init__(self, name: str) -> None:
        self.given_up = False  # to be looked at between two steps of a call
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, call: Callable[[], None], timeout_s: float) -> None:
        """Make a call; raise what it raises, or GivenUp."""
        done = threading.Event()
        failed: list[BaseException] = []

        def job() -> None:
            try:
                call()
            except BaseException as e:
                failed.append(e)
            done.set()

        self._jobs.put(job)
        if self.given_up or not done.wait(timeout_s):
            self.given_up = True
            raise GivenUp(f"no answer in {timeout_s:g} s")
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Let the thread end."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
