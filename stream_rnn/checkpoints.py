"""Writing a checkpoint beside the loop: copied at a block's end, committed in a helper thread.

While one is being written the loop goes on; a second one waits its turn. It is written only when the outputs are
durable through the snapshot's position: a checkpoint may not know more than is out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from stream_rnn import phases
from stream_rnn.records import Key
from stream_rnn.store import KeyState, Snapshot, Store

_ROWS, _PAUSE_S = 100, 5e-5


class Checkpoints:
    """One shard's; `pending` while one is being written."""

    def __init__(self, store: Store, name: str) -> None:
        self.last_s = 0.0  # how long the newest took to write
        self.begun = 0
        self.keys = 0  # key states in it
        self.at: float | None = None  # time.time() of the newest
        self._store = store
        self._pool = ThreadPoolExecutor(1, f"checkpoint{name and '-' + name}")
        self._pending: Future[int] | None = None

    def begin(
        self, snapshot: Snapshot, states: Iterable[KeyState], gone: list[Key], durable: Future[None] | None = None
    ) -> None:
        """Start writing, once `durable` is done, if it is; nothing of it may change any more."""
        assert self._pending is None
        self.begun += 1
        self._pending = self._pool.submit(self._write, snapshot, states, gone, durable)

    def prepare(self, work: Callable[[], None]) -> None:
        """Let the helper thread do something before the next is begun, if it has nothing else to do."""
        if self._pending is None:
            self._pool.submit(work)

    @property
    def pending(self) -> bool:
        """One is being written, or has been and was not asked for."""
        return self._pending is not None

    def poll(self, wait: bool = False) -> int | None:
        """The generation of the one that is now in the store, once; None where there is none. Raises what it raised."""
        if self._pending is None or not (wait or self._pending.done()):
            return None
        pending = self._pending
        generation = pending.result()
        self._pending = None
        return generation

    def close(self) -> None:
        """Wait for the one being written, whatever becomes of it."""
        self._pool.shutdown(wait=True)

    def _write(
        self, snapshot: Snapshot, states: Iterable[KeyState], gone: list[Key], durable: Future[None] | None
    ) -> int:
        if durable is not None:
            durable.result()  # or what it raised: then nothing is written
        start = time.perf_counter()
        counted = _Counted(states)
        generation = self._store.checkpoint(snapshot, counted, gone)
        self.last_s, self.keys, self.at = time.perf_counter() - start, counted.n, time.time()
        phases.enter("checkpointed")
        return generation


class _Counted:
    """Passes key states on and counts them; pauses now and then, so that the loop gets the interpreter soon."""

    def __init__(self, states: Iterable[KeyState]) -> None:
        self._states = states
        self.n = 0

    def __iter__(self) -> Iterator[KeyState]:
        phases.enter("checkpoint")
        for state in self._states:
            self.n += 1
            if self.n % _ROWS == 0:
                time.sleep(_PAUSE_S)
            yield state
