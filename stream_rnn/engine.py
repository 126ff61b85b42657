"""The engine: a stream's logs to its outputs for ever, exactly once, a shard a log.

    source ── Log ──▶ Shard ──▶ outputs       the way of an event: shard.py
                        │
                      store                   one database a shard, in one folder

    Engine(FileSource("in.jsonl", follow=True), Forecaster("temperature", key="room"), FileSink("out.jsonl")).run()

Shards share nothing: each has a model of its own, made like the one that was given, and a thread of its own (the
kernels let the others run). The source says which logs are ours, now and later: a file is ours from the beginning,
Kafka's partitions come and go.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stream_rnn.codec import Codec
from stream_rnn.connectors import Log, Sink, Source
from stream_rnn.errors import ConfigError
from stream_rnn.fields import names_of
from stream_rnn.meter import Meter
from stream_rnn.outputs import ALERTS, DEAD_LETTERS, PREDICTIONS
from stream_rnn.shard import Model, Policy, Shard, Transform
from stream_rnn.units import Secret

logger = logging.getLogger("stream_rnn.engine")

_LOOK_S = 0.2  # how often it is seen that a source has failed
STALLED_S = 60.0  # a loop that has not turned for so long hangs


class Engine:
    """`run` returns when the source has ended or `stop` was called; it raises what a shard could not get over.

    model: made, and not used yet, or with what it has learnt elsewhere; where there is a state, that counts.
    sink: for predictions (None: they go nowhere, the model only learns). dead_letter: for events that cannot be used
    (None: into the state's folder). state: the folder. transform: event → event, or None to leave it out; it must
    give the same for the same event. listen: where its pages are served while it runs ("127.0.0.1:8080"; pages.py says
    which); token: what they want of callers. The other settings: `shard.Policy`, named as in a config's sections.
    """

    def __init__(
        self,
        source: Source,
        model: Model,
        sink: Sink | None,
        dead_letter: Sink | None = None,
        state: str | os.PathLike[str] = "state",
        *,
        codec: Callable[[], Codec] | None = None,
        transform: Transform | None = None,
        alerts: Sink | None = None,
        name: str = "stream-rnn",
        listen: str | None = None,
        token: str | Secret | None = None,
        **policy: Any,
    ) -> None:
        unknown = policy.keys() - set(Policy.__struct_fields__)
        if unknown:
            known = ", ".join(Policy.__struct_fields__)
            raise ConfigError(f"Engine has no setting {unknown.pop()!r}; there are {known}")
        self.source = source
        self.folder = Path(state)
        self.policy = Policy(**policy)
        self.shards: list[Shard] = []
        self.name = name
        self.server: Any = None  # of its pages, while it runs; `server.url` says where
        self._listen, self._token = listen, token
        self._meters: dict[str, Meter] = {}  # by shard; one that comes back goes on counting
        self._ended: list[Shard] = []
        self._sinks = {PREDICTIONS: sink} if sink is not None else {}
        if self.policy.on_error == "dead_letter":
            self._sinks[DEAD_LETTERS] = dead_letter or _letters_beside(self.folder)
        if alerts is not None:
            self._sinks[ALERTS] = alerts
        given: Any = model
        self._settings = dict(model.settings)
        self._again = getattr(model, "again", partial(_another, type(model), self._settings))
        self._given = given
        fresh = not len(model.keyspace) and not model.keyspace.clock
        self._raw: bytes | None = None if fresh else given.to_bytes()
        self._live: dict[str, Any] = {}
        self._codec = codec or (lambda: codec_for(source, self._settings))
        self._transform = transform
        self._lock = threading.RLock()
        self._news = threading.Event()
        self._stopping = False
        self.joined = False  # the source has been asked

    @property
    def model(self) -> Model | None:
        """The model of the only shard; None if there is none, or several."""
        shards = self.shards or self._ended
        return shards[0].model if len(shards) == 1 else None

    @property
    def models(self) -> dict[str, Model]:
        """Each shard's model by the shard's name; to be looked at when the engine has stopped."""
        return {s.name: s.model for s in [*self._ended, *self.shards] if s.model is not None}

    def run(self) -> None:
        """Follow the source to its end, or until stopped."""
        try:
            with self._served():
                self._follow()
        finally:
            self.source.close()
        self._raise()

    def _follow(self) -> None:
        try:
            self.source.join(self)
            self.joined = True
            while not self._over():
                self._news.wait(_LOOK_S)
                self._news.clear()
        finally:
            self.stop()
            for shard in self.shards:
                shard.join()
            self._reap()

    @contextlib.contextmanager
    def _served(self) -> Iterator[None]:
        """With pages, if an address is given for them."""
        if self._listen is None:
            yield
            return
        from stream_rnn.server import Server

        with Server(self, self._listen, self._token) as self.server:
            yield

    def stop(self) -> None:
        """Finish the blocks, commit, make checkpoints; `run` returns then. From any thread, or a signal handler."""
        self._stopping = True
        for shard in list(self.shards):
            shard.stop()
        self._news.set()

    def change(self, changes: dict[str, Any]) -> None:
        """Change live settings ({"model.lr": 1e-4, "state.commit_interval": 0.5}) between two blocks."""
        for name, value in changes.items():
            field = name.partition(".")[2]
            if field in Policy.__struct_fields__:
                setattr(self.policy, field, value)
            elif name.startswith("model."):
                self._live[field] = value
        self._share_memory()
        for shard in list(self.shards):
            shard.change({name: value for name, value in changes.items() if name != "limits.memory"})

    def _share_memory(self) -> None:
        """The limit is the process's: each shard has an equal part of it."""
        shards = list(self.shards)
        for shard in shards:
            shard.policy.memory = self.policy.memory // len(shards)

    def status(self) -> list[dict[str, Any]]:
        """Each shard's place and counts, for people."""
        return [shard.status() for shard in [*self._ended, *self.shards]]

    def moved_within_s(self) -> float:
        """How long ago the slowest loop, of a shard or of a source that has one, last began a turn."""
        turns = [s.turned_at for s in list(self.shards) if s.state == "running"]
        if reading_at := getattr(self.source, "turned_at", 0.0):
            turns.append(reading_at)
        now = time.monotonic()
        return max((now - at for at in turns), default=0.0)

    @property
    def live(self) -> bool:
        """Whether every loop turns."""
        return self.moved_within_s() < STALLED_S

    def unready(self) -> dict[str, str]:
        """Why it is not ready, by shard ("": the whole); empty: every shard runs and has caught up with its replay."""
        why: dict[str, str] = {}
        if self._stopping:
            why[""] = "stopping"
        elif not self.joined:
            why[""] = "starting"
        if (failure := getattr(self.source, "failure", None)) is not None:
            why[""] = f"failed: {failure}"
        for shard in list(self.shards):
            if shard.state not in ("running", "finished"):
                why[shard.name or "0"] = shard.state
            elif shard.replaying:
                why[shard.name or "0"] = "replaying"
        return why

    # The source's calls, from any thread

    def assigned(self, logs: Sequence[Log]) -> None:
        """Begin a shard for each."""
        new: list[Shard] = []
        with self._lock:
            for log in logs:
                policy = copy.copy(self.policy)
                shard = Shard(log, self._make_model, self._sinks, self.folder, policy, self._codec, self._transform,
                              self._news.set, self._meter_of(log))  # fmt: skip
                self.shards.append(shard)
                new.append(shard)
            self._share_memory()
            for shard in new:
                shard.start()
                if self._stopping:
                    shard.stop()

    def _meter_of(self, log: Log) -> Meter:
        return self._meters.setdefault(getattr(log, "shard", ""), Meter())

    def revoked(self, logs: Sequence[Log]) -> None:
        """Finish these, and write all that they have."""
        self._let_go(logs, Shard.stop)

    def lost(self, logs: Sequence[Log]) -> None:
        """Leave these alone at once."""
        self._let_go(logs, Shard.drop)

    def _let_go(self, logs: Sequence[Log], how: Callable[[Shard], None]) -> None:
        shards = [s for s in list(self.shards) if s.source_log in logs]
        for shard in shards:
            how(shard)
        for shard in shards:
            shard.join()
            shard.state = "lost"
        self._reap()

    def _over(self) -> bool:
        """Whether there is nothing more to do."""
        self._reap()
        if getattr(self.source, "failure", None) is not None:  # with or without a shard to tell it to
            return True
        if self._stopping or any(s.failure is not None for s in self._ended):
            return True
        return bool(self._ended) and not self.shards and all(s.state == "finished" for s in self._ended)

    def _reap(self) -> None:
        """Put aside the shards that have ended."""
        with self._lock:
            ended = [s for s in self.shards if not s.alive]
            self.shards = [s for s in self.shards if s not in ended]
            if ended:
                self._share_memory()
            names = {s.name for s in ended}
            self._ended = [s for s in self._ended if s.name not in names or s.failure is not None] + ended

    def _raise(self) -> None:
        failures = [s.failure for s in self._ended if s.failure is not None]
        for failure in failures[1:]:
            logger.error("also failed: %s", failure)
        if failures:
            raise failures[0]
        lost: BaseException | None = getattr(self.source, "failure", None)
        if lost is not None:
            raise lost

    # Models

    def _make_model(self, learnt: bool) -> Model:
        """A shard's model, as it was given or (`learnt` False) with nothing learnt, for a snapshot to be put in.

        The given one itself serves the first shard, so that it can be looked at afterwards.
        """
        with self._lock:
            if self._given is not None and self._raw is None:
                model, self._given = self._given, None
            else:
                model = self._again(self._raw if learnt else None)
        for name, value in self._live.items():
            model.set_live(name, value)
        return model  # type: ignore[no-any-return]


def _another(kind: Any, settings: dict[str, Any], raw: bytes | None) -> Any:
    """A model of that kind: what it had saved, or new."""
    return kind(**settings) if raw is None else kind.from_bytes(raw)


def codec_for(source: Any, settings: dict[str, Any]) -> Codec:
    """What decodes a source's records for a model with these settings."""
    format = getattr(source, "format", "json")
    key = names_of("key", settings.get("key"))
    texts = (*key, *names_of("target", settings["target"])) if "unit" in settings else key  # of a TextModel
    known = format if format in ("csv", "msgpack", "text") else "json"
    return Codec(known, key="@key" in key, timestamp=True, text=texts)


def _letters_beside(folder: Path) -> Sink:
    from stream_rnn.connectors.file import FileSink

    return FileSink(folder / "dead_letters.jsonl")
