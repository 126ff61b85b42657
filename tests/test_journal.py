"""journal.py: a source that cannot repeat itself can, once its records are in the journal."""

from __future__ import annotations

import random
import sqlite3

import pytest

from stream_rnn import journal as journal_module
from stream_rnn.connectors.memory import MemorySource
from stream_rnn.errors import RecoveryError, StateBusy, StateDamaged
from stream_rnn.journal import JournalLog
from stream_rnn.records import Record

ITEMS = [
    Record(b"%d" % i, (9, 9), (9, 9), b"k" if i % 3 else None, i if i % 2 else None, (("h", b"v"),)) for i in range(40)
]


def values(records):
    return [(r.value, r.key, r.timestamp_ms, r.headers) for r in records]


def test_what_was_read_once_can_be_read_again_and_then_goes_on(tmp_path):
    source = MemorySource(iter(ITEMS))
    log = JournalLog(source, tmp_path / "j.db")
    first = log.read(25)
    log.close()
    again = JournalLog(source, tmp_path / "j.db")
    assert again.received == 25
    again.seek(again.first("earliest"))
    records = []
    while not again.finished:
        records += again.read(random.Random(1).randint(1, 9))
    assert records[:25] == first
    assert values(records) == values(ITEMS)
    assert [(r.at, r.resume_at) for r in records] == [((n,), (n + 1,)) for n in range(40)]
    again.close()


def test_typed_rows_and_tombstones_survive(tmp_path):
    items = [{"a": 1.5, "b": {"c": "x"}}, None, b"", b"\xff"]
    log = JournalLog(MemorySource(iter(items)), tmp_path / "j.db")
    log.read(9)
    log.seek((0,))
    assert [r.value for r in log.read(9)] == items
    log.close()


def test_what_is_acknowledged_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_TRIM_ROWS", 5)
    log = JournalLog(MemorySource(iter(ITEMS)), tmp_path / "j.db")
    log.read(20)
    log.acknowledge((3,))  # not worth it yet
    log.seek((0,))
    log.acknowledge((8,))
    with pytest.raises(RecoveryError, match="8 to 20"):
        log.seek((7,))
    log.acknowledge((20,))
    log.close()
    again = JournalLog(MemorySource(iter(ITEMS[20:])), tmp_path / "j.db")
    again.seek((20,))
    assert values(again.read(99)) == values(ITEMS[20:])
    assert again.received == 40
    again.close()


def test_a_damaged_or_missing_record_is_noticed(tmp_path):
    for n, wreck in enumerate(["UPDATE journal SET record = x'00' WHERE seq = 5", "DELETE FROM journal WHERE seq = 5"]):
        path = tmp_path / f"{n}.db"
        log = JournalLog(MemorySource(iter(ITEMS)), path)
        log.read(10)
        log.close()
        db = sqlite3.connect(path)
        db.execute(wreck)
        db.commit()
        db.close()
        log = JournalLog(MemorySource([]), path)
        log.seek((0,))
        with pytest.raises(StateDamaged):
            log.read(10)
        log.close()


def test_a_former_owner_takes_in_nothing(tmp_path):
    first = JournalLog(MemorySource(iter(ITEMS)), tmp_path / "j.db")
    second = JournalLog(MemorySource(iter(ITEMS)), tmp_path / "j.db")
    with pytest.raises(StateBusy):
        first.read(5)
    assert len(second.read(5)) == 5
    first.close()
    second.close()
