"""A shard: one model on one ordered log, each event forecast before it is learnt, killed at any instant.

    log ── Record ──▶ codec ── event ──▶ model ── Prediction ──▶ outputs
     ▲ position                            │ weights, key states     │ marks
     └────────── recovery.choose ◀─────── store ◀────────────────────┘

A block of events goes through as a whole, and where blocks end, when outputs are committed and when checkpoints are
made never shows in what comes out. The order that makes it safe to die anywhere: outputs are written and made
durable; then a checkpoint knows of them. After a restart: the newest checkpoint, its position, and each output drops
what it has already. `phases.py` names the instants.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn import phases, recovery
from stream_rnn.checkpoints import Checkpoints
from stream_rnn.codec import Codec
from stream_rnn.connectors import Log, SharedState, Sink
from stream_rnn.errors import (
    InputError,
    SinkFenced,
    SourceGap,
    StateMismatch,
    StreamRnnError,
    Unavailable,
)
from stream_rnn.idle import IdleKeys
from stream_rnn.journal import JournalLog
from stream_rnn.keys import KeySpace
from stream_rnn.live import LiveSettings
from stream_rnn.meter import Meter
from stream_rnn.model import LIVE
from stream_rnn.outputs import Outputs, Result, sources_of
from stream_rnn.quality import Quality
from stream_rnn.records import BadEvent, Event, Position, Prediction, Record
from stream_rnn.retry import delay_s
from stream_rnn.sharing import Sharing
from stream_rnn.spill import Copier, Spill, copy_changed
from stream_rnn.store import Place, Snapshot, Store
from stream_rnn.tally import Tally

logger = logging.getLogger("stream_rnn.shard")

BLOCK = 1024  # events at a time, at most; nothing that comes out depends on it
_WELL_S = 60.0  # a shard that was open for longer was well: the next wait is short again
_WAIT_S = 0.1  # the longest that a shard does not look up
_TALLY = "engine.tally"
_EVENT_SETTINGS = ("target", "key", "time", "features", "horizon", "ignore", "label", "id")
ENGINE_ARRAYS = (_TALLY,)  # of a snapshot, besides the model's

Transform = Callable[[Event], "Event | None"]


class Model(Protocol):
    """What learns: a Forecaster, or anything like it. Its future is in shared arrays and key space, nowhere else."""

    keyspace: KeySpace
    settings: dict[str, Any]

    def shared_arrays(self) -> dict[str, NDArray[Any]]: ...
    def load_shared(self, arrays: dict[str, NDArray[Any]]) -> None: ...
    def step_many(self, events: Sequence[Event]) -> list[Prediction | BadEvent]: ...
    def set_live(self, name: str, value: Any) -> None: ...


class Policy(msgspec.Struct, kw_only=True):
    """How a job is run; the sections [state] and [limits] of a config, and some of [event] and [source]."""

    start: str = "earliest"
    commit_interval: float = 0.1
    checkpoint_interval: float = 30.0
    retain: int = 3
    on_missing: str = "replay"
    on_gap: str = "stop"
    on_error: str = "dead_letter"
    share: str = "topic"  # where a log has a place for shared snapshots; "none": they are not shared
    share_interval: float = 60.0
    new_outputs: bool = False  # accept outputs that are not where the state knows them
    memory: int = 4 << 30
    idle_key_ttl: float | None = None
    block: int = BLOCK


class Shard:
    """One model on one log. `run` in a thread of its own; the others' calls only leave a note."""

    def __init__(
        self,
        log: Log,
        make_model: Callable[[bool], Model],
        sinks: Mapping[str, Sink],
        folder: Path,
        policy: Policy,
        make_codec: Callable[[], Codec],
        transform: Transform | None = None,
        at_end: Callable[[], None] = lambda: None,
        meter: Meter | None = None,
    ) -> None:
        self.name: str = getattr(log, "shard", "")
        self.log = self.source_log = log
        self.policy = policy
        self.model: Any = None  # a Model, once open
        self.quality = Quality()
        self.tally = Tally()
        self.meter = meter or Meter()
        self.position: Position = ()
        self.failure: BaseException | None = None
        self.state = "starting"  # replaying | running | waiting | finished | stopped | lost | failed
        self.turned_at = 0.0  # time.monotonic() when the loop's newest turn began
        self.checkpoints: Any = None
        self._make_model, self._sinks, self._folder = make_model, sinks, folder
        self._codec, self._transform = make_codec(), transform
        self._suffix = f"-{self.name}" if self.name else ""
        self._asked: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        self._dropped = False
        self._store: Any = None
        self._sharing: Sharing | None = None
        self._shared_status: dict[str, Any] | None = None
        self._outputs: Any = None  # Outputs, while open; so are the next three
        self._spill: Any = None
        self._live: Any = None
        self._idle: IdleKeys | None = None
        self._positions: dict[str, Place] = {}
        self._marks: dict[str, str | None] = {}
        self._shown_marks: dict[str, str | None] = {}
        self._saved_at: Position = ()
        self._saved_events = 0
        self._committed_at = self._checkpoint_at = 0.0
        self._start: Position | None = None  # where the log was begun, if it could not say what to know that by
        self._copier = Copier()
        self._prepared = False
        self._at_end, self._ended = at_end, False
        self._thread = threading.Thread(target=self._run, name=f"shard{self._suffix}", daemon=True)

    # What others may call

    def start(self) -> None:
        """In a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the block, commit, make a checkpoint, end."""
        self._stopping.set()

    def drop(self) -> None:
        """End without writing: the log is another's already."""
        self._dropped = True
        self._stopping.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Not at its end."""
        return not self._ended

    def change(self, changes: dict[str, Any]) -> None:
        """Settings to be in force soon ({"model.lr": 1e-4})."""
        self._asked.append(changes)

    def status(self) -> dict[str, Any]:
        """Where it is and what it has counted, for people."""
        c, spill = self.checkpoints, self._spill
        return {
            "shard": self.name, "log": self.log.id, "state": self.state, "replaying": self.replaying,
            "position": list(self.position), "lag": self.lag, **self.tally.told(),
            "received": getattr(self.log, "received", None),
            "keys": 0 if self.model is None else len(self.model.keyspace),
            "keys_away": 0 if spill is None else spill.away,
            "marks": self._last_marks(), "quality": self.quality.told(), "updates": self._updates(),
            "commit_s": self._commit_s(),
            "checkpoint": {} if c is None else {"at": c.at, "seconds": c.last_s, "keys": c.keys},
            "since_checkpoint": self.tally.events - self._saved_events, "state_bytes": self._state_bytes(),
            "shared": self._shared_status if self._sharing is None else self._sharing.status(),
            "error": None if self.failure is None else str(self.failure),
        }  # fmt: skip

    @property
    def replaying(self) -> bool:
        """Whether what comes next was learnt and written before."""
        outputs = self._outputs
        furthest = None if outputs is None else outputs.furthest
        return furthest is not None and self.position <= furthest

    @property
    def lag(self) -> int | None:
        """How many offsets behind the log's end, where the log knows that."""
        return getattr(self.source_log, "lag", None)

    def _state_bytes(self) -> int:
        """Of the database, with what is not merged into it yet."""
        name = f"state{self._suffix}.db"
        files = [self._folder / name, self._folder / f"{name}-wal"]
        return sum(f.stat().st_size for f in files if f.exists())

    def _last_marks(self) -> dict[str, str | None]:
        outputs = self._outputs  # another thread's, which may let go of them meanwhile
        if outputs is not None:
            self._shown_marks = outputs.marks()
        return self._shown_marks

    def _commit_s(self) -> float | None:
        outputs = self._outputs
        return None if outputs is None else outputs.commit_s

    def _updates(self) -> int | None:
        return self._counters().get("updates")

    def _counters(self) -> dict[str, int]:
        """What the model counts, if it does."""
        return getattr(self.model, "counters", None) or {}

    # The thread

    def _run(self) -> None:
        try:
            self.run()
        finally:
            self._ended = True
            self._at_end()

    def run(self) -> None:
        """To the end of the log, or until stopped; opened again from its checkpoint when the other end was away."""
        attempt, opened_at = 0, math.inf
        while True:
            try:
                try:
                    self._open()
                    opened_at = time.monotonic()
                    self._follow()
                    self._close()
                    return
                finally:
                    self._close(quietly=True)
            except Unavailable as e:
                attempt = 0 if time.monotonic() - opened_at > _WELL_S else attempt
                wait_s = delay_s(attempt)
                attempt += 1
                self.state = "waiting"
                logger.warning("unavailable: %s", e, extra={"fields": {"shard": self.name, "retry_s": wait_s}})
                if self._stopping.wait(wait_s):
                    self.state = "stopped"
                    return
            except SinkFenced as e:
                if not hasattr(self.source_log, "ours"):  # no group gives and takes it: somebody else does the same job
                    self._fail(e)
                    return
                logger.warning("shard lost: %s", e, extra={"fields": {"shard": self.name}})
                self.state = "lost"
                return
            except BaseException as e:
                self._fail(e)
                return
            finally:
                if self.state not in ("waiting", "starting") and isinstance(self.log, JournalLog):
                    self.log.close()

    def _fail(self, failure: BaseException) -> None:
        self.failure, self.state = failure, "failed"

    def _follow(self) -> None:
        """The loop."""
        log, policy = self.log, self.policy
        while not self._stopping.is_set():
            self.turned_at = time.monotonic()
            self._take_over_settings()
            phases.enter("read")
            records = self._read(policy.block)
            self.meter.lap("read")
            self.meter.read(bool(records))
            if records:
                if self._start is not None:
                    self._know_the_start_better()
                self._take(records)
            elif log.finished:
                break
            else:
                log.wait(self._patience_s())
                self.meter.lap("wait")
            self._commit_if_due()
            self.meter.lap("commit")
            self._checkpoint_if_due()
            self.meter.lap("checkpoint")
        if self._dropped:
            self.state = "lost"
            return
        phases.enter("stop")
        self.commit()
        self.checkpoint(wait=True)
        if self._sharing is not None and self.position == self._saved_at:
            self._sharing.finish(self.position)
        self.state = "stopped" if self._stopping.is_set() else "finished"

    def _know_the_start_better(self) -> None:
        """Store the start again, now that there is something to know it by (a followed file was not there yet)."""
        assert self._start is not None
        start, self._start = self._start, None
        notes = self.log.notes(start)
        if notes:
            self._store.set_start(self.log.id, Place(start, notes))

    def _take(self, records: list[Record]) -> None:
        """A block, cut where a setting changed when these events were first learnt."""
        while records:
            n = self._live.before(records)
            self.advance(records[:n] if n < len(records) else records)
            records = records[n:]

    def advance(self, records: list[Record]) -> None:
        """Take one block through; how the stream was cut into blocks never shows in the output."""
        replays = self._outputs.replays(records[0].at)
        phases.enter("replay" if replays else "learn")
        events = self._transformed(self._codec.decode(records))
        self.meter.lap("decode")
        results = self._learn(events)
        self.meter.lap("learn")
        if self.policy.on_error == "stop":
            self._stop_at_a_bad_event(records, results)
        self._outputs.write(records, results)
        self.tally.count(results)
        self.quality.look(results)
        self.position = records[-1].resume_at
        self.meter.took(records, results, replays, self.tally, self._counters())

    def _transformed(self, events: Sequence[Event | BadEvent]) -> Sequence[Event | BadEvent | None]:
        if self._transform is None:
            return events
        return [e if isinstance(e, BadEvent) else self._transform_one(e) for e in events]

    def _transform_one(self, event: Event) -> Event | BadEvent | None:
        assert self._transform is not None
        try:
            new = self._transform(event)
            return None if new is None else self._codec.event(new)
        except Exception as e:
            return BadEvent(f"event.transform failed: {type(e).__name__}: {e}", "transform")

    def _learn(self, events: Sequence[Event | BadEvent | None]) -> list[Result]:
        """One result an event; those that are no events stay as they are."""
        if set(map(type, events)) == {dict}:
            return self._step(events)
        results: list[Any] = list(events)
        rows = [i for i, e in enumerate(events) if e.__class__ is dict]
        if rows:
            for i, result in zip(rows, self._step([events[i] for i in rows]), strict=True):
                results[i] = result
        return results

    def _step(self, events: Any) -> list[Result]:
        """Through the model; keys that were silent for too long start afresh."""
        if self._idle is None:
            return self.model.step_many(events)  # type: ignore[no-any-return]
        results: list[Result] = []
        start = 0
        for stop, keys in self._idle.cuts(events):
            if stop > start:
                results += self.model.step_many(events[start:stop])
            self._spill.drop(keys)
            if hasattr(self.model, "forget"):
                self.model.forget(keys)
            start = stop
        return results + self.model.step_many(events[start:]) if start < len(events) else results

    def _stop_at_a_bad_event(self, records: list[Record], results: Sequence[Result]) -> None:
        """Write what came before it, and end; nothing in memory is kept: a restart comes to it again."""
        for i, result in enumerate(results):
            if isinstance(result, BadEvent):
                if i:
                    self._outputs.write(records[:i], results[:i])
                    self.commit()
                (source,) = sources_of(self.log.name, records[i : i + 1])
                raise InputError(f"{source}: {result.reason}. Mend it at its source, or let event.on_error be "
                                 '"dead_letter" or "skip"')  # fmt: skip

    # Reading

    def _read(self, limit: int) -> list[Record]:
        try:
            return self.log.read(limit)
        except SourceGap as gap:
            self._jump(gap)
            return []

    def _jump(self, gap: SourceGap) -> None:
        """What comes next is gone: go on after the gap, if that is wanted."""
        if self.policy.on_gap != "skip":
            raise gap
        logger.warning("gap: %s", gap, extra={"fields": {"shard": self.name}})
        self.tally.gaps += 1
        self.log.seek(gap.resume_at, self.log.notes(gap.resume_at))
        self.position = gap.resume_at

    def _patience_s(self) -> float:
        """How long to wait for records: not past the next commit."""
        if not self._outputs.dirty:
            return _WAIT_S
        return min(_WAIT_S, max(0.0, self._committed_at + self.policy.commit_interval - time.monotonic()))

    # Commits and checkpoints

    def _commit_if_due(self) -> None:
        if not self._outputs.settle() or not self._outputs.dirty:
            return
        if time.monotonic() - self._committed_at >= self.policy.commit_interval:
            self.commit(wait=False)

    def commit(self, wait: bool = True) -> Future[None] | None:
        """Make durable what was written; not `wait`: as soon as may be (what comes back is done then)."""
        self._committed_at = time.monotonic()
        return self._outputs.commit(wait)  # type: ignore[no-any-return]

    def _checkpoint_if_due(self) -> None:
        self._spill.limit_bytes = self.policy.memory
        self._settle()
        if self.checkpoints.pending:
            if self._spill.taken_bytes > 2 * self._spill.limit_bytes:  # new keys come faster than old ones can go
                self._settle(wait=True)
            return
        age_s = time.monotonic() - self._checkpoint_at
        due = age_s >= self.policy.checkpoint_interval or (self._sharing is not None and self._sharing.wanted)
        if not due and not self._prepared and age_s >= self.policy.checkpoint_interval / 2:
            self._prepare()
        if (due and self.position != self._saved_at) or self._spill.full:
            self.checkpoint()

    def _prepare(self) -> None:
        """Have the memory for the next one's copies: as much as half the interval's keys tell."""
        self._prepared = True
        keyspace = self.model.keyspace
        changed = int(np.count_nonzero(keyspace.changed[: len(keyspace.keys)]))
        self.checkpoints.prepare(partial(self._copier.prepare, 2 * changed * keyspace.row_bytes))

    def checkpoint(self, wait: bool = False) -> None:
        """Begin one, written when all outputs are durable through it; `wait` until it is in the store."""
        self._settle(wait=True)
        if self.position != self._saved_at or self._spill.full:
            durable = self.commit(wait=False)
            phases.enter("copy")
            self.checkpoints.begin(*self._copied(), durable)
            self._saved_at, self._checkpoint_at = self.position, time.monotonic()
            self._saved_events = self.tally.events
            self._prepared = False
        if wait:
            self._settle(wait=True)

    def _copied(self) -> tuple[Snapshot, Any, list[Any]]:
        """All that a checkpoint says, as of now."""
        self._positions[self.log.id] = Place(self.position, self.log.notes(self.position))
        self._marks |= {recovery.mark_name(n, self.log.id): m for n, m in self._outputs.marks_to_be().items()}
        if self._idle is not None:
            self._idle.save(self.tally)
        arrays = {name: array.copy() for name, array in self.model.shared_arrays().items()}
        snapshot = Snapshot(
            positions=dict(self._positions), marks=dict(self._marks), settings=dict(self.model.settings),
            arrays=arrays | {_TALLY: self.tally.pack()},
            info={"log": self.log.id, "live": self._live.now, **msgspec.to_builtins(self.tally)},
        )  # fmt: skip
        seen = None if self._idle is None else self._idle.by_slot()
        gone = self._spill.take_gone()
        return snapshot, copy_changed(self.model.keyspace, seen, self._copier), gone

    def _settle(self, wait: bool = False) -> None:
        """If a checkpoint has been written: let go of what it covers."""
        if self.checkpoints.poll(wait) is None:
            return
        self.meter.checkpoints.add(self.checkpoints.last_s)
        self._spill.settle()
        if self._sharing is not None:
            self._sharing.offer(self.policy.share_interval)
        oldest = self._store.oldest()
        if oldest is not None and self.log.id in oldest.positions:
            self.log.acknowledge(oldest.positions[self.log.id].position)
        logger.debug("checkpoint", extra={"fields": {"shard": self.name, "seconds": self.checkpoints.last_s,
                                                     "keys": self.checkpoints.keys}})  # fmt: skip

    # Settings

    def _take_over_settings(self) -> None:
        while self._asked:
            self._live.ask(self._asked.pop(0))
        if self._live.take_over(self.position) and self._sharing is not None:
            self._sharing.wanted = True  # a replay elsewhere is to make the change where it was made here

    def _put(self, name: str, value: Any) -> None:
        """Bring a live setting into force."""
        section, _, field = name.partition(".")
        if section == "model":
            self.model.set_live(field, value)
        elif name == "limits.idle_key_ttl":
            self._use_ttl(value)
        elif field in Policy.__struct_fields__:
            self.policy = msgspec.structs.replace(self.policy, **{field: value})

    def _use_ttl(self, ttl_s: float | None) -> None:
        if ttl_s is None:
            self._idle = None
        elif self._idle is None:
            self._idle = IdleKeys(ttl_s, self.model, self._store, self._spill, self.tally)
        else:
            self._idle.ttl_s = ttl_s

    # Opening and closing

    def _open(self) -> None:
        """Take outputs and state, and go to where they say."""
        phases.enter("open")
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.log.replays:
            self.log = JournalLog(self.log, self._folder / f"journal{self._suffix}.db")
        opened: dict[str, Any] = {}
        try:
            for name, sink in self._sinks.items():
                opened[name] = sink.open(self.name)
            self._outputs = Outputs(opened, self.log, self.meter)
        except BaseException:
            for output in opened.values():
                output.close()
            raise
        self._store = Store(self._folder / f"state{self._suffix}.db", retain=self.policy.retain)
        self.checkpoints = Checkpoints(self._store, self.name)
        policy = self.policy
        if self.name:
            recovery.seed(self._store, self.log.id, self._folder / "state.db")
        shared = self._shared_state() if policy.share != "none" else None
        if shared is not None:
            self._sharing = Sharing(self._store.path, self.log.id, shared, self._shared_state, self.name)
            self._sharing.failures = (self._shared_status or {}).get("failures", 0)
        begin = recovery.choose(
            self._store, self.log, self._outputs, start=policy.start, on_missing=policy.on_missing,
            new_outputs=policy.new_outputs, shared=shared,
        )  # fmt: skip
        for remark in filter(None, (begin.remark or self._store.damaged,)):
            logger.warning("state: %s", remark, extra={"fields": {"shard": self.name}})
        self._restore(begin)
        self._committed_at = self._checkpoint_at = self.turned_at = time.monotonic()
        self.state = "running"
        logger.info("begin", extra={"fields": {
            "shard": self.name, "at": self.log.name + "/".join(map(str, self.position)),
            "keys": len(self.model.keyspace), "marks": {n: m for n, m in self._outputs.marks().items() if m},
        }})  # fmt: skip

    def _shared_state(self) -> SharedState | None:
        """Where the log's snapshots are for all machines, if it has such a place."""
        offered = getattr(self.source_log, "shared_state", None)
        return None if offered is None else offered()

    def _restore(self, begin: recovery.Begin) -> None:
        """Bring the model to a snapshot, and the log to its place."""
        phases.enter("restore")
        snapshot, (position, notes) = begin.snapshot, (begin.place.position, begin.place.notes)
        self.model = model = self._make_model(snapshot is None)
        if hasattr(model, "learner"):
            model.learner.stopwatch = self.meter.network
        wanted = {f"model.{n}": model.settings[n] for n in LIVE if n in model.settings}
        wanted["limits.idle_key_ttl"] = self.policy.idle_key_ttl
        self._spill = Spill(model.keyspace, self._store, self.policy.memory)
        self._idle = None
        self._live = LiveSettings(self._store, self.log.id, self._put)
        self._positions, self._marks, self.tally = {}, {}, Tally()
        now = dict(wanted)
        if snapshot is not None:
            where = str(self._store.path) + (f", as {self._sharing.name}," if self._sharing is not None else "")
            check_settings(snapshot.settings, model.settings, where, self._sharing is not None)
            arrays = dict(snapshot.arrays)
            self.tally = Tally.unpack(arrays.pop(_TALLY, None))
            model.load_shared(arrays)
            now |= snapshot.info.get("live", {})
            self._positions, self._marks = dict(snapshot.positions), dict(snapshot.marks)
        for name, value in now.items():
            self._put(name, value)
        if snapshot is not None:
            rows = self._store.rows(snapshot.generation)
            self._spill.restore(rows if self._idle is None else self._idle.restored(rows), self._store.count())
        self._start = position if snapshot is None and not notes else None
        if begin.first_time:
            self._live.first(position, now)
            self._store.set_start(self.log.id, begin.place)
            if self._sharing is not None:
                self._sharing.begin()
        self._live.restore(position, now, wanted, self._outputs.furthest)
        self.position = self._saved_at = position
        self._saved_events = self.tally.events
        self.checkpoints.at = None if snapshot is None else snapshot.created_s
        self.meter.begin(self.tally, self._counters())
        if snapshot is None or self.log.id not in snapshot.positions:
            self._saved_at = ()
        try:
            self.log.seek(position, notes)
        except SourceGap as gap:
            self._jump(gap)

    def _close(self, quietly: bool = False) -> None:
        """Let go of outputs and store; nothing is written."""
        with contextlib.suppress(StreamRnnError) if quietly else contextlib.nullcontext():
            if self.checkpoints is not None:
                self.checkpoints.close()
            if self._sharing is not None:
                self._shared_status = self._sharing.status()
                self._sharing.close()
            if self._outputs is not None:
                self._last_marks()
                self._outputs.close()
            if self._store is not None:
                self._store.close()
        self._outputs = self._store = self._sharing = None


def check_settings(saved: dict[str, Any], mine: dict[str, Any], where: str, shared: bool = False) -> None:
    """StateMismatch if a state was made with other settings, but for those that may change."""
    mine = msgspec.json.decode(msgspec.json.encode(mine))
    saved = msgspec.json.decode(msgspec.json.encode(saved))
    anew = "another name and another state.path" if shared else "another state.path"
    for name in mine | saved:
        if name not in LIVE and saved.get(name) != mine.get(name):
            section = "event" if name in _EVENT_SETTINGS else "model"
            raise StateMismatch(
                f"{where} was learnt with {section}.{name} = {saved.get(name)!r}, and now it is {mine.get(name)!r}: "
                f"that cannot change on a state. Set it back, or begin anew with {anew}"
            )
