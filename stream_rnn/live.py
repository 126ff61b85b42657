"""Settings that change while a job runs: each change is logged with its position, and a replay makes it there again.

A change that is asked for while old events are being replayed waits until the replay is over: what the outputs
already show was learnt without it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from stream_rnn import phases
from stream_rnn.records import Position, Record
from stream_rnn.store import SettingChange, Store

_AT = attrgetter("at")


class LiveSettings:
    """One shard's. `put(name, value)` brings a setting into force."""

    def __init__(self, store: Store, log_id: str, put: Callable[[str, Any], None]) -> None:
        self._store, self._log_id, self._put = store, log_id, put
        self._ahead: deque[SettingChange] = deque()
        self._wanted: dict[str, Any] = {}
        self._until: Position | None = None  # the replay ends there
        self.now: dict[str, Any] = {}

    def restore(self, position: Position, now: dict[str, Any], wanted: dict[str, Any], until: Position | None) -> None:
        """Go on at a position where `now` was in force; `wanted` is to be in force once past `until`."""
        self.now = dict(now)
        self._ahead = deque(c for c in self._store.settings_log() if c.log == self._log_id and c.position >= position)
        later = self.now | {c.name: c.value for c in self._ahead}
        self._wanted = {name: value for name, value in wanted.items() if later.get(name) != value}
        self._until = until
        self._due(position)

    def first(self, position: Position, values: dict[str, Any]) -> None:
        """Log what a log is begun with, so that a replay from there begins with the same."""
        for name, value in values.items():
            self._store.log_setting(SettingChange(self._log_id, position, name, value))

    def ask(self, changes: dict[str, Any]) -> None:
        """To be in force soon."""
        self._wanted |= changes

    def before(self, records: Sequence[Record]) -> int:
        """How many of these records come before the next change that is replayed."""
        if not self._ahead:
            return len(records)
        self._due(records[0].at)
        return bisect_left(records, self._ahead[0].position, key=_AT) if self._ahead else len(records)

    def take_over(self, position: Position) -> bool:
        """Between two blocks: bring into force what was asked for, from `position` on; whether anything changed."""
        if not self._wanted or self._ahead or (self._until is not None and position <= self._until):
            return False
        wanted, self._wanted = self._wanted, {}
        changed = False
        for name, value in wanted.items():
            if self.now.get(name) != value:
                self._store.log_setting(SettingChange(self._log_id, position, name, value))
                phases.enter("setting")
                self._set(name, value)
                changed = True
        return changed

    def _due(self, position: Position) -> None:
        while self._ahead and self._ahead[0].position <= position:
            change = self._ahead.popleft()
            self._set(change.name, change.value)

    def _set(self, name: str, value: Any) -> None:
        self._put(name, value)
        self.now[name] = value
