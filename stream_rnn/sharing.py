"""A shard's snapshots where any machine finds them, sent beside the loop and beside the checkpoints.

What is shared is what the newest checkpoint in the store says, so it never knows of more than is out. It goes when a
checkpoint has been written, not more often than `interval_s` and for at most a tenth of the time; when a log is
begun (where that was, and with what settings); when a live setting has changed; and at an orderly end, for whoever
goes on with the shard. That sharing fails stops nothing: it is told, counted, and tried again after a later
checkpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import Any

from stream_rnn import parcel, phases
from stream_rnn.connectors import SharedState, Snapshot
from stream_rnn.errors import SinkFenced, StreamRnnError, Unavailable
from stream_rnn.records import Position
from stream_rnn.retry import delay_s

logger = logging.getLogger("stream_rnn.sharing")

_SHARE = 0.1  # of the time at most
_FIRST_RETRY_S = 1.0
_END_S = 30.0  # an orderly end waits so long for the last one


class Sharing:
    """One shard's; its calls come from the shard's thread. `reopen` gives the place again where it was given up."""

    def __init__(
        self, store: Path, log_id: str, shared: SharedState, reopen: Callable[[], SharedState | None], shard: str = ""
    ) -> None:
        self.at: float | None = None  # time.time() of the newest that is there
        self.position: Position | None = None
        self.bytes = 0
        self.last_s = 0.0
        self.failures = 0  # in this process: the shard carries it on
        self.error: str | None = None  # of the last try
        self.wanted = False  # as soon as may be
        self.name = shared.name
        self._store, self._log_id, self._shard = store, log_id, shard
        self._shared: SharedState | None = shared
        self._reopen = reopen
        self._closed = False
        self._not_before = 0.0  # time.monotonic()
        self._failed_in_a_row = 0
        self._pool = ThreadPoolExecutor(1, f"share{shard and '-' + shard}")
        self._pending: Future[None] | None = None

    def begin(self) -> None:
        """Let it be known where a log is begun, before anything of it is read; raises what is in the way."""
        try:
            self._put()
        except SinkFenced as e:
            raise Unavailable(str(e)) from None
        self._not_before = 0.0

    def offer(self, interval_s: float) -> None:
        """A checkpoint is in the store: share it, if it is time and none is under way."""
        if self.pending or not (self.wanted or time.monotonic() >= self._not_before):
            return
        self.wanted = False
        self._not_before = time.monotonic() + interval_s
        self._pending = self._pool.submit(self._try)

    def finish(self, position: Position) -> None:
        """At an orderly end: what is in the store now is to be there, if that does not take too long."""
        until = time.monotonic() + _END_S
        try:
            if self._pending is not None:
                self._pending.result(_END_S)
            if self.position != position:
                self._pending = self._pool.submit(self._try)
                self._pending.result(until - time.monotonic())
        except TooLate:
            self._tell(Unavailable(f"the last snapshot was not in {self.name} after {_END_S:g} s"))

    @property
    def pending(self) -> bool:
        """One is under way."""
        return self._pending is not None and not self._pending.done()

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "at": self.at, "position": self.position, "bytes": self.bytes, "seconds": self.last_s,
            "failures": self.failures, "error": self.error,
        }  # fmt: skip

    def close(self) -> None:
        """Let go, without waiting for one under way: the shard may be another's."""
        self._closed = True
        self._pool.submit(self._let_go)
        self._pool.shutdown(wait=False)

    # In a thread of its own

    def _try(self) -> None:
        try:
            if not self._closed:
                self._put()
        except StreamRnnError as e:
            self._failed(e)
        except Exception as e:
            logger.exception("sharing failed")
            self._failed(e)

    def _put(self) -> None:
        start = time.perf_counter()
        data, position = parcel.pack(self._store, self._log_id)
        phases.enter("share")
        if self._shared is None:
            self._shared = self._reopen()
        if self._shared is not None and self._shared.put(Snapshot(data, position)):
            phases.enter("shared")
            self.at, self.position, self.bytes = time.time(), position, len(data)
        self.last_s = time.perf_counter() - start
        self._not_before = max(self._not_before, time.monotonic() + self.last_s * (1 / _SHARE - 1))
        self._failed_in_a_row, self.error = 0, None

    def _failed(self, e: Exception) -> None:
        self._let_go()
        self.failures += 1
        self._not_before = time.monotonic() + delay_s(self._failed_in_a_row, _FIRST_RETRY_S, 600.0)
        self._failed_in_a_row += 1
        self._tell(e)

    def _tell(self, e: Exception) -> None:
        self.error = str(e)
        logger.warning("not shared: %s", e, extra={"fields": {"shard": self._shard, "failures": self.failures}})

    def _let_go(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()
