"""store.py, database.py, spill.py: what is saved comes back bit for bit, and damage is noticed wherever it is."""

from __future__ import annotations

import gzip
import random
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn import store as store_module
from stream_rnn.errors import StateBusy, StateDamaged, StateError, StateMismatch
from stream_rnn.keys import KeySpace
from stream_rnn.spill import Spill, copy_changed
from stream_rnn.store import KeyState, Place, SettingChange, Snapshot, Store, thinned

KEYS = [None, "a", b"a", 7, -1, ("a", 7), (("x", None), b""), "é", 2**63, *[f"key-{i}" for i in range(40)]]
DATA = Path(__file__).parent / "data"


def snapshot(n, arrays=None, created_s=0.0):
    return Snapshot(
        positions={"file:in": Place((0, n * 10), b"notes")},
        marks={"sink": f"file:0/{n}", "dead_letter": None},
        settings={"k1": 8, "features": ["a"], "clip": 1.0},
        arrays=arrays if arrays is not None else {"w": np.full((3, 5), n, np.float32), "n": np.array([n], np.int64)},
        info={"events": n},
        created_s=created_s,
    )


def content(found, store):
    """A snapshot and its key states, as plain values to compare."""
    rows = {row.key: (bytes(row.state), row.seen) for row in store.rows(found.generation)}
    arrays = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in found.arrays.items()}
    return found.positions, found.marks, found.settings, found.info, arrays, rows


def write_history(store, rng, generations, bytes_a_key=50):
    """Checkpoints with random changes; what each generation's snapshot holds."""
    rows, expected = {}, {}
    for n in range(generations):
        changed = rng.sample(KEYS, rng.randint(0, len(KEYS)))
        gone = [k for k in rng.sample(KEYS, 3) if k not in changed and k in rows]
        states = [KeyState(k, rng.randbytes(bytes_a_key), rng.choice([None, float(n)])) for k in changed]
        s = snapshot(n, {"w": np.frombuffer(rng.randbytes(40), np.float32), "empty": np.zeros((0, 2), np.uint8)})
        store.checkpoint(s, states, gone)
        rows |= {row.key: (row.state, row.seen) for row in states}
        for key in gone:
            del rows[key]
        arrays = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in s.arrays.items()}
        expected[s.generation] = (s.positions, s.marks, s.settings, s.info, arrays, dict(rows))
    return expected


@pytest.mark.parametrize("retain", [1, 2, 3])
def test_what_is_saved_comes_back(tmp_path, retain):
    path = tmp_path / "s.db"
    with Store(path, retain=retain) as store:
        assert store.newest() is None
        expected = write_history(store, random.Random(1), 12)
        for generation in list(expected)[-retain:]:
            assert content(store._verified(generation), store) == expected[generation]
    with Store(path, retain=retain) as again:
        found = again.newest()
        assert content(found, again) == expected[max(expected)]
        assert again.count() == len(expected[max(expected)][-1])
        for key in KEYS:
            row = expected[max(expected)][-1].get(key)
            assert again.recall(key) == (row[0] if row else None)
        assert again.damaged is None


@given(st.integers(0, 10**9), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_an_older_snapshot_is_whole_and_what_is_newer_is_dropped(seed, retain, runs):
    """Each run makes checkpoints, loses its newest one, and goes on from the one before."""
    import tempfile

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        expected = {}
        rows = {}
        for checkpoints in runs:
            with Store(path, retain=retain) as store:
                found = store.newest()
                if expected:
                    assert content(found, store) == expected[found.generation]
                    rows = dict(expected[found.generation][-1])
                for n in range(checkpoints):
                    states = [KeyState(k, rng.randbytes(9)) for k in rng.sample(KEYS, rng.randint(0, 9))]
                    gone = [k for k in rng.sample(KEYS, 2) if k in rows and k not in {s.key for s in states}]
                    s = snapshot(n)
                    store.checkpoint(s, states, gone)
                    rows |= {row.key: (row.state, row.seen) for row in states}
                    rows = {k: v for k, v in rows.items() if k not in gone}
                    arrays = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in s.arrays.items()}
                    expected[s.generation] = (s.positions, s.marks, s.settings, s.info, arrays, dict(rows))
            if retain > 1 and rng.random() < 0.7:
                db = sqlite3.connect(path)
                if db.execute("SELECT count(*) FROM snapshots WHERE whole").fetchone()[0] > 1:
                    db.execute("UPDATE snapshots SET digest = x'00' "
                               "WHERE generation = (SELECT max(generation) FROM snapshots)")  # fmt: skip
                db.commit()
                db.close()


def test_old_rows_go_when_no_snapshot_needs_them(tmp_path):
    store = Store(tmp_path / "s.db")
    for n in range(20):
        store.checkpoint(snapshot(n), [KeyState(i, b"x" * 100) for i in range(50)])
    rows = store._file._db.execute("SELECT count(*) FROM states").fetchone()[0]
    assert rows == 50 * 3
    store.checkpoint(snapshot(20), [], range(50))
    for n in range(21, 24):
        store.checkpoint(snapshot(n), [])
    assert store._file._db.execute("SELECT count(*) FROM states").fetchone()[0] == 0
    assert store.count() == 0
    assert store.newest() is not None
    store.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A closed file with three snapshots, and what they hold."""
    path = tmp_path_factory.mktemp("saved") / "s.db"
    with Store(path) as store:
        store.set_start("file:in", Place((0, 0), b"first"))
        store.log_setting(SettingChange("file:in", (0, 20), "lr", 1e-4))
        expected = write_history(store, random.Random(2), 5, bytes_a_key=700)
    return path, expected


@pytest.mark.parametrize("how", ["flip", "cut", "zero a sector"])
def test_damage_anywhere_is_noticed(saved, tmp_path, how):
    """What comes out of a damaged file is a snapshot exactly as it was, or nothing."""
    whole, expected = saved
    raw = whole.read_bytes()
    rng = random.Random(3)
    older = nothing = 0
    for n in range(200):
        path = tmp_path / f"{n}.db"
        damaged = bytearray(raw)
        at = rng.randrange(len(raw))
        if how == "flip":
            damaged[at] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del damaged[at:]
        else:
            damaged[at // 512 * 512 : at // 512 * 512 + 512] = bytes(512)
        path.write_bytes(damaged)
        shutil.copy(f"{whole}.start", f"{path}.start")
        with Store(path) as store:
            found = store.newest()
            if found is None:
                nothing += 1
                assert store.damaged or how == "cut"
            else:
                assert content(found, store) == expected[found.generation]
                older += found.generation < max(expected)
                assert store.damaged or found.generation == max(expected)
            assert store.start("file:in") == Place((0, 0), b"first")
            # It can be worked with, and what is written now is found again.
            store.checkpoint(snapshot(99), [KeyState("new", b"state")])
        with Store(path) as again:
            assert again.newest().info == {"events": 99}
            assert again.damaged is None
            assert again.recall("new") == b"state"
    assert nothing > 0 if how == "cut" else older > 0


def test_damage_in_the_log_is_noticed(tmp_path):
    """As after a kill: the last checkpoints are in the write-ahead log only."""
    live = Store(tmp_path / "live.db")
    expected = write_history(live, random.Random(4), 5, bytes_a_key=700)
    files = {suffix: Path(f"{live.path}{suffix}").read_bytes() for suffix in ("", "-wal")}
    live.close()
    assert len(files["-wal"]) > 50_000
    rng = random.Random(5)
    older = 0
    for n in range(60):
        path = tmp_path / f"{n}.db"
        for suffix, raw in files.items():
            damaged = bytearray(raw)
            if suffix == "-wal":
                at = rng.randrange(len(raw))
                if n % 2:
                    del damaged[at:]
                else:
                    damaged[at] ^= 1 << rng.randrange(8)
            Path(f"{path}{suffix}").write_bytes(damaged)
        with Store(path) as store:
            found = store.newest()
            if found is not None:
                assert content(found, store) == expected[found.generation]
                older += found.generation < max(expected)
    assert older > 10


@pytest.mark.parametrize("whole", [1, 0])
@pytest.mark.parametrize("header", [b"\xa4\xa4\xa4", 7])
def test_a_snapshot_that_is_not_needed_may_be_damaged(tmp_path, whole, header):
    """Pruning reads the older ones' headers: the newest is taken, and checkpoints go on."""
    path, began = tmp_path / "s.db", time.time() - 40_000
    with Store(path) as store:
        for n in range(6):
            store.checkpoint(snapshot(n, created_s=began + 4000 * n), [KeyState("a", b"%d" % n)])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE snapshots SET header = ? WHERE generation = "
                   "(SELECT min(generation) FROM snapshots WHERE whole = ?)", (header, whole))  # fmt: skip
    db.close()
    with Store(path) as store:
        found = store.newest()
        assert found.info == {"events": 5}
        assert [row.state for row in store.rows(found.generation)] == [b"5"]
        assert store.oldest().generation <= found.generation
        for n in range(6, 10):
            store.checkpoint(snapshot(n, created_s=began + 4000 * n), [KeyState("a", b"%d" % n)])
            assert store.oldest() is not None
    assert store.damaged


def test_a_lost_row_and_a_stale_row_are_noticed(tmp_path):
    for n, wreck in enumerate([
        "DELETE FROM states WHERE key = (SELECT max(key) FROM states) AND generation = 2",
        "DELETE FROM states WHERE key = (SELECT max(key) FROM states)",
        "UPDATE states SET generation = 3 WHERE generation = 1 AND key = (SELECT min(key) FROM states)",
        "INSERT INTO states(key, generation, crc, seen, state) SELECT x'63', 2, crc, seen, state FROM states LIMIT 1",
        "UPDATE states SET seen = 5.0 WHERE generation = 2",
        "UPDATE arrays SET value = zeroblob(3) WHERE generation = 2",
        "DELETE FROM arrays WHERE generation = 2",
        "UPDATE snapshots SET header = (SELECT header FROM snapshots WHERE generation = 1) WHERE generation = 2",
    ]):  # fmt: skip
        path = tmp_path / f"{n}.db"
        with Store(path) as store:
            store.checkpoint(snapshot(1), [KeyState(i, b"one") for i in range(9)])
            store.checkpoint(snapshot(2), [KeyState(i, b"two") for i in range(5, 9)])
        db = sqlite3.connect(path)
        db.execute(wreck)
        db.commit()
        db.close()
        with Store(path) as store:
            found = store.newest()
            assert store.damaged, wreck
            assert found is None or found.generation == 1
            if found:
                assert {r.key: r.state for r in store.rows(1)} == dict.fromkeys(range(9), b"one")


def test_an_interrupted_rebuild_is_taken_up_again(saved, tmp_path):
    whole, expected = saved
    path = tmp_path / "s.db"
    shutil.copy(whole, path)
    path.rename(f"{path}.rebuilt")  # killed after the damaged file was moved away
    with Store(path) as store:
        assert content(store.newest(), store) == expected[max(expected)]
    Path(f"{path}.rebuilt").write_bytes(b"half")  # killed before
    with Store(path) as store:
        assert content(store.newest(), store) == expected[max(expected)]
    assert not Path(f"{path}.rebuilt").exists()


def test_damage_that_shows_only_later_stops_with_a_word(tmp_path):
    path = tmp_path / "s.db"
    with Store(path) as store:
        store.checkpoint(snapshot(1), [KeyState("k", b"state")])
        store.newest()
        with store._file.transaction() as db:
            db.execute("UPDATE states SET state = x'00'")
        with pytest.raises(StateDamaged, match="key 'k'"):
            store.recall("k")


def test_a_start_position_is_there_again(tmp_path):
    with Store(tmp_path / "s.db") as store:
        assert store.start("file:in") is None
        store.set_start("file:in", Place((0, 5), b"n"))
        store.set_start("kafka:t/1", Place((17,)))
    (tmp_path / "s.db").write_bytes(b"rubbish " * 4096)
    with Store(tmp_path / "s.db") as store:
        assert "not a database" in store.damaged
        assert store.newest() is None
        assert store.start("file:in") == Place((0, 5), b"n")
        assert store.start("kafka:t/1") == Place((17,))
    assert (tmp_path / "s.db.damaged-1").read_bytes() == b"rubbish " * 4096


def test_the_settings_log_keeps_its_order(tmp_path):
    changes = [SettingChange("file:in", (0, n), "lr", n / 10) for n in range(5)]
    with Store(tmp_path / "s.db") as store:
        for change in changes:
            store.log_setting(change)
    with Store(tmp_path / "s.db") as store:
        assert store.settings_log() == changes


def test_a_former_owner_writes_nothing(tmp_path):
    first = Store(tmp_path / "s.db")
    first.checkpoint(snapshot(1), [])
    second = Store(tmp_path / "s.db")
    assert second.epoch == first.epoch + 1
    for write in (
        lambda: first.checkpoint(snapshot(2), []),
        lambda: first.set_start("x", Place((0,))),
        lambda: first.log_setting(SettingChange("x", (0,), "lr", 1)),
        first.newest,
    ):
        with pytest.raises(StateBusy, match="taken by another"):
            write()
    second.checkpoint(snapshot(3), [])
    first.close()
    assert second.newest().info == {"events": 3}
    second.close()


def test_looking_on_takes_nothing_and_changes_nothing(tmp_path):
    path = tmp_path / "s.db"
    with pytest.raises(StateError, match="no state here"):
        Store(path, write=False)
    owner = Store(path)
    owner.checkpoint(snapshot(1), [KeyState("k", b"s")])
    with Store(path, write=False) as looker:
        assert looker.newest().info == {"events": 1}
        assert [r.key for r in looker.rows(1)] == ["k"]
        with pytest.raises(StateError):
            looker.checkpoint(snapshot(2), [])
    owner.checkpoint(snapshot(2), [])
    owner.close()


def test_other_files_and_newer_formats_are_told_apart(tmp_path, monkeypatch):
    path = tmp_path / "s.db"
    monkeypatch.setattr(store_module, "FORMAT", 2)
    Store(path).close()
    monkeypatch.undo()
    with pytest.raises(StateMismatch, match=r"format 2.*newer"):
        Store(path)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t(x)")
    db.commit()
    db.close()
    with Store(other) as store:
        assert "damaged" in store.damaged


def test_a_released_format_always_loads(tmp_path):
    """The file was written by the version that introduced the format; it must load in every later one."""
    path = tmp_path / "s.db"
    path.write_bytes(gzip.decompress((DATA / "state-format-1.db.gz").read_bytes()))
    with Store(path) as store:
        found = store.newest()
        assert store.damaged is None
        assert found.positions == {"file:in": Place((0, 40), b"notes")}
        assert found.marks == {"sink": "file:0/4", "dead_letter": None}
        assert found.arrays["w"].tolist() == np.full((3, 5), 4, np.float32).tolist()
        assert {r.key: (r.state, r.seen) for r in store.rows(found.generation)} == {
            None: (b"none", 1.5), ("a", 7): (b"compound", None), b"\xff": (b"bytes", 2.5)}  # fmt: skip
        assert store.settings_log() == [SettingChange("file:in", (0, 20), "lr", 0.25)]
        assert store.start("file:in") == Place((0, 0), b"first")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.checkpoint(snapshot(1), [KeyState("k", b"1")])
        pages = store._file._db.execute("PRAGMA page_count").fetchone()[0]
        store._file._db.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StateError, match=r"disk is full.*make room"):
            store.checkpoint(snapshot(2), [KeyState(i, bytes(9999)) for i in range(99)])
        assert store.recall("k") == b"1"
        store._file._db.execute("PRAGMA max_page_count=1000000")
        store.checkpoint(snapshot(3), [KeyState("k", b"3")])
    with Store(tmp_path / "s.db") as store:
        assert store.newest().info == {"events": 3}


def test_reading_goes_on_while_a_checkpoint_is_written(tmp_path):
    store = Store(tmp_path / "s.db")
    store.checkpoint(snapshot(0), [KeyState(i, b"%d" % i) for i in range(500)])

    def write():
        for n in range(1, 9):
            store.checkpoint(snapshot(n), [KeyState(i, b"%d" % i) for i in range(400)])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert store.recall(450) == b"450"
        assert store.recall(7) == b"7"
    writer.join()
    assert len(store.history()) >= 3
    store.close()


def test_history_is_thinned_and_can_be_loaded(tmp_path):
    hour = 3600.0
    with Store(tmp_path / "s.db") as store:
        now = store_module.time.time() // hour * hour + hour / 5  # the first two lie in one hour, at any time of day
        for n in range(100):
            created = now - (100 - n) * hour / 4  # every quarter of an hour, for 25 hours
            store.checkpoint(snapshot(n, created_s=created), [KeyState(n, b"s")])
        kept = store.history()
        assert [s.generation for s in kept[:3]] == [100, 99, 98]
        assert 20 < len(kept) < 32
        assert store.past(kept[-1].generation).arrays["n"][0] == kept[-1].info["events"]
        with pytest.raises(StateError, match="no snapshot 2"):
            store.past(2)


def test_thinning_keeps_an_hour_for_a_day_and_a_day_for_a_month():
    day = 86400.0
    created = {n: n * day / 48 for n in range(48 * 60)}  # every half hour for sixty days
    now = 60 * day
    left = set(created) - set(thinned(created, now))
    assert set(thinned({n: created[n] for n in left}, now)) == set()
    ages = sorted(now - created[n] for n in left)
    assert sum(age <= day for age in ages) in (24, 25)
    assert 53 <= len(left) <= 57
    assert max(ages) <= 31 * day
    # What is thinned again and again keeps the same as what is thinned once.
    kept: dict[int, float] = {}
    for n, at in created.items():
        kept[n] = at
        for old in thinned(kept, at):
            del kept[old]
    assert set(kept) >= {n for n in left if 2 * day < now - created[n] < 30 * day}


def test_idle_keys_are_known_by_event_time(tmp_path):
    with Store(tmp_path / "s.db") as store:
        store.checkpoint(snapshot(1), [KeyState(i, b"s", float(i)) for i in range(5)] + [KeyState("timeless", b"s")])
        store.checkpoint(snapshot(2), [KeyState(0, b"s", 9.0)], gone=[1])
        assert store.idle(3.5) == [2, 3]


# Spilling


def toy_keyspace():
    keyspace = KeySpace()
    keyspace.table("a", np.int64, 3, np.array([5, 6, 7]))
    keyspace.table("b", np.float32, 5)
    return keyspace


def touch(keyspace, key):
    """An event: the key's state depends on all its events."""
    slot = keyspace.enter(key)
    a, b = (keyspace.tables[name].row(slot) for name in "ab")
    a[0] = (int(a[0]) * 31 + 1) % 2**61
    b[:] = b * 1.5 + 1


@pytest.mark.parametrize("limit_keys", [1, 5, 20, 1000])
def test_spilled_keys_come_back_bit_for_bit(tmp_path, limit_keys):
    rng = random.Random(6)
    plain, tight = toy_keyspace(), toy_keyspace()
    store = Store(tmp_path / "s.db")
    limit = limit_keys * (tight.row_bytes + 400)
    spill = Spill(tight, store, limit)

    def checkpoint():
        store.checkpoint(snapshot(0), copy_changed(tight), spill.take_gone())
        spill.settle()

    for n in range(2000):
        key = f"k{min(int(rng.expovariate(0.05)), 99)}"
        touch(plain, key)
        touch(tight, key)
        if rng.random() < 0.002:
            spill.drop([key])
            plain.forget(key)
        if n % 50 == 49 or spill.full:
            checkpoint()
            assert len(tight) <= limit_keys
        if n == 1200:  # a restart
            checkpoint()
            tight = toy_keyspace()
            spill = Spill(tight, store, limit)
            found = store.newest()
            spill.restore(store.rows(found.generation), store.count())
            assert spill.away == len(plain) - len(tight)
    assert limit_keys == 1000 or spill.recalled > 50
    for key in plain.slots:
        state = tight.get(key) if key in tight.slots else store.recall(key)
        assert state == plain.get(key)
    assert len(tight) + spill.away == len(plain)
    store.close()


def test_a_key_dropped_while_a_checkpoint_is_written_stays_dropped(tmp_path):
    store = Store(tmp_path / "s.db")
    keyspace = toy_keyspace()
    spill = Spill(keyspace, store, 1)
    for key in "abc":
        touch(keyspace, key)
    states, gone = copy_changed(keyspace), spill.take_gone()
    spill.drop(["b"])
    store.checkpoint(snapshot(1), states, gone)
    spill.settle()
    assert "a" not in keyspace.slots or "c" not in keyspace.slots
    touch(keyspace, "b")
    assert keyspace.tables["a"].row(keyspace.slots["b"]).tolist() == [5 * 31 + 1, 6, 7]
    spill.drop(["b"])
    store.checkpoint(snapshot(2), copy_changed(keyspace), spill.take_gone())
    spill.settle()
    assert store.recall("b") is None
    assert store.count() == 2
    store.close()


def test_copies_do_not_change_with_what_they_were_copied_from():
    keyspace = toy_keyspace()
    for n in range(3000):
        touch(keyspace, n)
    assert [s.key for s in copy_changed(keyspace)] == list(range(3000))
    touch(keyspace, 7)
    touch(keyspace, 2999)
    copied = copy_changed(keyspace)
    before = {s.key: bytes(s.state) for s in copied}
    assert before == {key: keyspace.get(key) for key in (7, 2999)}
    touch(keyspace, 7)
    assert {s.key: bytes(s.state) for s in copied} == before
