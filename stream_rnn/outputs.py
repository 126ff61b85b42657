"""What goes out of a shard: predictions and dead letters as lines, past the marks, committed together.

A mark is the `source` of the last event whose message is out already. After a restart the events up to it come
again, and each output drops its own share of them: that, with the store's positions, is exactly once.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from typing import Any

import msgspec

from stream_rnn import phases
from stream_rnn.connectors import Log, Message, Output
from stream_rnn.errors import RecoveryError
from stream_rnn.meter import Meter
from stream_rnn.records import Alert, BadEvent, Position, Prediction, Record

PREDICTIONS, DEAD_LETTERS, ALERTS = "predictions", "dead_letters", "alerts"
Result = Prediction | BadEvent | None  # None: transform left the event out

_AT = attrgetter("at")
_ENCODE = msgspec.json.Encoder(enc_hook=str).encode


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """A line for an event that could not be used."""

    source: str
    reason: str
    cause: str
    base64: bytes | None  # the record as it came; a typed row as JSON
    key_base64: bytes | None = None
    timestamp_ms: int | None = None


def sources_of(log_name: str, records: Sequence[Record]) -> list[str]:
    """The `source` text of each record."""
    if records and len(records[0].at) == 2:
        return [f"{log_name}{a}/{b}" for a, b in map(_AT, records)]
    if records and len(records[0].at) == 1:
        return [f"{log_name}{a}" for (a,) in map(_AT, records)]
    return [log_name + "/".join(map(str, at)) for at in map(_AT, records)]


def position_of(source: str, log_name: str) -> Position:
    """The position that a `source` text of that log names."""
    try:
        if source.startswith(log_name):
            return tuple(map(int, source[len(log_name) :].split("/")))
    except ValueError:
        pass
    raise RecoveryError(f"an output ends with an event of {source!r}, and {log_name!r} is being read: it belongs to "
                        "another source. Give this job an output of its own, or the source that it had")


class Outputs:
    """A shard's open outputs. `write` takes blocks in order; `commit` makes durable what was written."""

    def __init__(self, outputs: Mapping[str, Output], log: Log, meter: Meter) -> None:
        self.outputs = dict(outputs)
        self.meter = meter
        self.dirty = False  # something happened since the last commit
        self.commit_s = 0.0  # how long the newest took
        self._pool = ThreadPoolExecutor(1, "commit")
        self._pending: deque[Future[None]] = deque()  # commits under way
        self._log = log
        self._last = ""
        self._resume_at: Position = ()
        self._units = list({id(o.unit): o.unit for o in outputs.values()}.values())
        self.began_at = {name: None if (m := o.mark()) is None else position_of(m, log.name)
                         for name, o in outputs.items()}  # fmt: skip
        self._skip = {name: at for name, at in self.began_at.items() if at is not None}

    def marks(self) -> dict[str, str | None]:
        """Where each output is now; those that can't say are left out."""
        return {name: output.mark() for name, output in self.outputs.items() if output.has_mark}

    def marks_to_be(self) -> dict[str, str | None]:
        """The same, as they will be when all that was written is durable: what a checkpoint may count on."""
        marks = self.marks()
        for name in marks:
            mark = marks[name]
            if not getattr(self.outputs[name], "marks_events", False) or not self._last:
                continue  # it shows what was written, durable or not
            if mark is None or position_of(mark, self._log.name) < position_of(self._last, self._log.name):
                marks[name] = self._last
        return marks

    @property
    def furthest(self) -> Position | None:
        """The furthest mark that was there when the outputs were opened."""
        return max((at for at in self.began_at.values() if at is not None), default=None)

    def replays(self, at: Position) -> bool:
        """Whether an event there was taken before, as some output shows."""
        return any(at <= mark for mark in self._skip.values())

    def write(self, records: Sequence[Record], results: Sequence[Result]) -> None:
        """The messages of a block, one result a record."""
        phases.enter("write")
        sources = sources_of(self._log.name, records)
        alerted = [i for i, p in enumerate(results) if p.__class__ is Prediction and p.alert]
        for i in alerted:
            results[i].alert.source = sources[i]  # type: ignore[union-attr]
        first = self._first_wanted(PREDICTIONS, records)
        if first < len(records) and PREDICTIONS in self.outputs:
            messages = _predictions(records, sources, results, first)
            self.meter.lap("encode")
            self.outputs[PREDICTIONS].write(messages)
            self.meter.lap("send")
        first = self._first_wanted(DEAD_LETTERS, records)
        if BadEvent in set(map(type, results)) and DEAD_LETTERS in self.outputs:
            phases.enter("between")
            output = self.outputs[DEAD_LETTERS]
            letters = [_dead_letter(records[i], sources[i], result, output.keeps_headers)
                       for i, result in enumerate(results) if i >= first and isinstance(result, BadEvent)]  # fmt: skip
            output.write(letters)
        if ALERTS in self.outputs:
            first = self._first_wanted(ALERTS, records)
            alerts = [_alert(records[i], results[i].alert) for i in alerted if i >= first]  # type: ignore[union-attr]
            if alerts:
                phases.enter("between")
                self.outputs[ALERTS].write(alerts)
        self._last, self._resume_at = sources[-1], records[-1].resume_at
        self.dirty = True

    def _first_wanted(self, name: str, records: Sequence[Record]) -> int:
        """The first record of a block whose message is not out yet."""
        mark = self._skip.get(name)
        if mark is None:
            return 0
        if records[-1].at <= mark:
            return len(records)
        del self._skip[name]
        return bisect_right(records, mark, key=_AT)

    def commit(self, wait: bool = True) -> Future[None] | None:
        """Make durable all that was written; not `wait`: beside the loop, where all units allow that.

        Returns what to wait for until all that was ever written is durable; None: it is.
        """
        self.settle(wait)
        if self.dirty:
            self.dirty = False
            if wait or not all(getattr(unit, "beside", False) for unit in self._units):
                self._commit(self._last, self._resume_at)
            else:
                self._pending.append(self._pool.submit(self._commit, self._last, self._resume_at))
        return self._pending[-1] if self._pending else None

    def settle(self, wait: bool = False) -> bool:
        """Whether no commit is under way. Raises what one raised."""
        while self._pending and (wait or self._pending[0].done()):
            self._pending.popleft().result()
        return not self._pending

    def _commit(self, last: str, resume_at: Position) -> None:
        start = time.monotonic()
        phases.enter("commit")
        for unit in self._units:
            unit.commit(last, resume_at, self._log)
        phases.enter("committed")
        self.commit_s = time.monotonic() - start
        self.meter.commits.add(self.commit_s)

    def close(self) -> None:
        """Let go."""
        self._pool.shutdown(wait=True)
        for output in self.outputs.values():
            output.close()


def _predictions(
    records: Sequence[Record], sources: list[str], results: Sequence[Result], first: int
) -> list[Message]:
    """The messages of those that are predictions, from a row on."""
    if first == 0 and set(map(type, results)) == {Prediction}:
        for p, source in zip(results, sources, strict=True):
            p.source = source  # type: ignore[union-attr]
        return list(map(Message, map(_ENCODE, results), sources, records))
    messages = []
    for i in range(first, len(records)):
        p = results[i]
        if isinstance(p, Prediction):
            p.source = sources[i]
            messages.append(Message(_ENCODE(p), sources[i], records[i]))
    return messages


def _alert(record: Record, alert: Alert) -> Message:
    """One that is about another key than its event's goes out under that key."""
    if alert.kind in ("silent", "back") or record.key is None:
        key = alert.key if isinstance(alert.key, (str, bytes, type(None))) else _ENCODE(alert.key)
        record = msgspec.structs.replace(record, key=key.encode() if isinstance(key, str) else key)
    return Message(_ENCODE(alert), alert.source or "", record)


def _dead_letter(record: Record, source: str, bad: BadEvent, headers: bool) -> Message:
    value: Any = record.value
    if value is not None and not isinstance(value, bytes):
        value = _ENCODE(value)
    if headers:
        about = (("reason", bad.reason.encode()), ("cause", bad.cause.encode()), ("source", source.encode()))
        return Message(value, source, record, (*record.headers, *about))
    letter = DeadLetter(source, bad.reason, bad.cause, value, record.key, record.timestamp_ms)
    return Message(_ENCODE(letter), source, record)
