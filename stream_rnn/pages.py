"""What the daemon's own pages say, whoever serves them (server.py): a status, a content type and a text each.

    /healthz   200 while every loop turns, else 503: start the process again
    /readyz    200 while every shard runs and has caught up with its replay, else 503 and why
    /status    where each shard is and what it has counted, as JSON
    /metrics   the same for Prometheus (exposition.py)
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from stream_rnn import __version__

if TYPE_CHECKING:
    from stream_rnn.engine import Engine

TEXT = "text/plain; charset=utf-8"
Answer = tuple[HTTPStatus, str, bytes]


class Pages:
    """An engine's. `by_path`: what answers, given the request's Accept header."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._started_s = time.time()
        self._registry: Any = None
        self._lock = threading.Lock()
        self.by_path: dict[str, Callable[[str], Answer]] = {
            "/healthz": self._healthz, "/readyz": self._readyz, "/status": self._status, "/metrics": self._metrics,
        }  # fmt: skip

    def _healthz(self, accept: str) -> Answer:
        engine = self._engine
        if engine.live:
            return HTTPStatus.OK, TEXT, b"ok\n"
        text = f"a loop has not turned for {engine.moved_within_s():.0f} s\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, text.encode()

    def _readyz(self, accept: str) -> Answer:
        why = self._engine.unready()
        if not why:
            return HTTPStatus.OK, TEXT, b"ok\n"
        lines = "".join(f"shard {shard}: {reason}\n" if shard else f"{reason}\n" for shard, reason in why.items())
        return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, lines.encode()

    def _status(self, accept: str) -> Answer:
        engine = self._engine
        why = engine.unready()
        found = {
            "name": engine.name, "version": __version__, "started_s": self._started_s, "live": engine.live,
            "ready": not why, "waiting_for": why, "rebalances": getattr(engine.source, "rebalances", 0),
            "shards": engine.status(),
        }  # fmt: skip
        text = json.dumps(finite(found), default=str, ensure_ascii=False, allow_nan=False)
        return HTTPStatus.OK, "application/json", text.encode() + b"\n"

    def _metrics(self, accept: str) -> Answer:
        from prometheus_client.exposition import choose_encoder

        from stream_rnn.exposition import registry

        with self._lock:  # one scrape at a time
            if self._registry is None:
                self._registry = registry(self._engine)
            encode, content_type = choose_encoder(accept)
            return HTTPStatus.OK, content_type, encode(self._registry)


def finite(value: Any) -> Any:
    """The same with None for what JSON has no number for.

    >>> finite({0.9: [1.0, float("nan")]})
    {'0.9': [1.0, None]}
    """
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
