"""Snapshots kept where any machine finds them: which state a shard goes on from, and that sharing disturbs nothing.

The place here is a list, the machines are folders; tests/recovery/test_kafka_moved.py does the same on Kafka.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
from concurrent import futures

import pytest
from stream_help import Crash, Killer, engine, events, in_step, model, undisturbed, weights

from stream_rnn import parcel
from stream_rnn.connectors import Snapshot
from stream_rnn.connectors.memory import MemorySink, MemorySource
from stream_rnn.errors import RecoveryError, SinkError, StateDamaged, StateMismatch
from stream_rnn.sharing import Sharing
from stream_rnn.store import KeyState, Store
from stream_rnn.store import Snapshot as Saved

STREAM = events(300)
OFTEN = {"commit_interval": 0.0, "checkpoint_interval": 1e-9, "share_interval": 1e-9, "block": 10}


class Place:
    """What all machines see; `refuses` is raised by the next puts."""

    name = "the list"

    def __init__(self):
        self.snapshots: list[Snapshot] = []
        self.refuses: list[Exception] = []
        self.opened = 0

    @property
    def position(self):
        return self.snapshots[-1].position if self.snapshots else None

    def newest(self):
        return self.snapshots[-1] if self.snapshots else None

    def put(self, snapshot):
        if self.refuses:
            raise self.refuses.pop()
        if self.snapshots and snapshot.position < self.snapshots[-1].position:
            return False
        self.snapshots.append(snapshot)
        return True

    def close(self):
        pass


class Source(MemorySource):
    """A list of events, and a place for its snapshots."""

    def __init__(self, items, place):
        super().__init__(items)
        self.place = place

    def shared_state(self):
        self.place.opened += 1
        return self.place


class Everywhere(MemorySink):
    """A sink that every machine sees."""

    def open(self, shard):
        output = super().open(shard)
        output.everywhere = True
        return output


class World:
    """A stream, what is out of it, and a place for snapshots; `machine` is a new one each time."""

    def __init__(self, tmp_path, stream=STREAM):
        self.stream, self.place = stream, Place()
        self.predictions, self.letters = Everywhere(), Everywhere()
        self._tmp, self._count = tmp_path, 0

    @property
    def lines(self):
        return self.predictions.lines, self.letters.lines

    def machine(self, folder=None, **policy):
        self._count += folder is None
        return engine(Source(self.stream, self.place), self, folder or self._tmp / f"m{self._count}",
                      **(OFTEN | policy))  # fmt: skip


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    sinks, run = undisturbed(STREAM, tmp_path_factory.mktemp("whole"), block=10)
    return sinks.lines, weights(run)


@pytest.fixture
def killer(monkeypatch):
    """Nothing is written or shared beside the loop, so that each block is."""
    in_step(monkeypatch)
    offer = Sharing.offer

    def wait(self, interval_s):
        offer(self, interval_s)
        futures.wait([self._pending] if self._pending else [])

    monkeypatch.setattr(Sharing, "offer", wait)
    monkeypatch.setattr("stream_rnn.sharing._SHARE", 1.0)
    return Killer(monkeypatch)


def die(machine):
    with pytest.raises(Crash):
        machine.run()


def shared(machine):
    (status,) = machine.status()
    return status["shared"]


# A shard that moves


def test_a_shard_that_moves_again_and_again_leaves_no_trace(world, whole, killer):
    rng = random.Random(3)
    for phase in ("read", "learn", "committed", "copy", "checkpointed", "write", "rows", "stop"):
        killer(phase, 1 if phase == "stop" else rng.randint(2, 6))
        die(world.machine())
    last = world.machine()
    last.run()
    assert (world.lines, weights(last)) == whole
    assert world.place.position == (300,)


def test_with_keys_that_wait_on_disk_too(tmp_path, killer):
    stream = events(400, keys=60)
    sinks, run = undisturbed(stream, tmp_path / "whole", block=10)
    world = World(tmp_path, stream)
    killer("learn", 25)
    die(world.machine(memory=20_000))
    killer("learn", 12)
    die(world.machine(memory=20_000))
    last = world.machine()
    last.run()
    assert world.lines == sinks.lines
    assert weights(last) == weights(run)


def test_where_it_was_begun_is_known_before_anything_is_read(tmp_path, killer):
    """From the latest event on; the machine is gone before it came to a checkpoint, and more has come since."""
    world = World(tmp_path, STREAM[:200])
    killer("read", 1)
    die(world.machine(start="latest"))
    world.stream = STREAM
    world.machine(start="latest").run()
    assert int(world.predictions.predictions[0]["source"].split(":")[1]) == 200


def test_a_setting_that_changed_is_changed_there_by_a_replay_elsewhere(tmp_path, killer):
    """A snapshot goes at once when one changes, whatever the interval."""
    found = []
    for moves in (False, True):
        world = World(tmp_path / str(moves))
        first = world.machine(share_interval=3600.0)
        seen = []

        def change(event, first=first, seen=seen):
            seen.append(event)
            if len(seen) == 155:
                first.change({"model.lr": 0.2})
            return event

        first._transform = change
        killer("learn", 22)
        die(first)
        if moves:
            assert [c.value for c in parcel.unpack(world.place.newest().data, "").settings if c.name == "model.lr"] == [
                0.01, 0.2
            ]  # fmt: skip
        killer("learn", 2)
        folder = None if moves else first.folder
        die(world.machine(folder))
        last = world.machine(folder)
        last.run()
        found.append((world.lines, weights(last)))
    assert found[0] == found[1]


def test_an_orderly_end_shares_all(world):
    world.stream = STREAM[:150]
    world.machine(checkpoint_interval=60.0, share_interval=3600.0).run()
    assert world.place.position == (150,)
    world.stream = STREAM
    last = world.machine()
    last.run()
    assert len(world.lines[0]) + len(world.lines[1]) == 300


def test_share_none_shares_nothing_and_takes_nothing(world, killer):
    killer("learn", 9)
    die(world.machine(share="none"))
    assert world.place.opened == 0
    last = world.machine(share="none", on_missing="fail")
    with pytest.raises(RecoveryError, match=r"state\.on_missing"):
        last.run()


# Which of two states


def test_the_further_one_is_taken(world, whole, killer, caplog):
    caplog.set_level(logging.WARNING, "stream_rnn")
    killer("learn", 6)
    here = world.machine()
    die(here)
    killer("learn", 6)
    die(world.machine())  # elsewhere
    before = world.place.position
    caplog.clear()
    killer("learn", 4)
    die(world.machine(here.folder))
    assert f"taken over from the list, at memory:{before[0]}; here it was at" in caplog.text
    caplog.clear()
    del world.place.snapshots[-3:]  # what is here is further now
    last = world.machine(here.folder)
    last.run()
    assert "taken over" not in caplog.text
    assert (world.lines, weights(last)) == whole


def test_a_damaged_one_is_not_used(world, whole, killer, caplog):
    killer("learn", 9)
    die(world.machine())
    newest = world.place.snapshots[-1]
    data = bytearray(newest.data)
    data[len(data) // 2] ^= 1
    world.place.snapshots[-1] = Snapshot(bytes(data), newest.position)
    last = world.machine()
    last.run()
    assert "the list is damaged: its checksum does not agree" in caplog.text
    assert (world.lines, weights(last)) == whole  # learnt again from the start


def test_a_damaged_state_is_replaced_by_the_shared_one(world, whole, killer):
    killer("learn", 9)
    here = world.machine()
    die(here)
    path = here.folder / "state.db"
    path.write_bytes(b"\xff" * path.stat().st_size)
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    last = world.machine(here.folder, on_missing="fail")
    last.run()
    assert (world.lines, weights(last)) == whole
    assert list(here.folder.glob("state.db.damaged-*"))


def test_one_of_other_settings_stops_with_the_choices(world, tmp_path):
    world.machine().run()
    other = engine(Source(STREAM, world.place), world, tmp_path / "other", model(hidden=6), **OFTEN)
    with pytest.raises(StateMismatch, match=r"model\.hidden = 4.*now it is 6.*another name and another state\.path"):
        other.run()


def test_a_mark_that_is_gone_stops_with_the_choices(world, killer):
    killer("learn", 9)
    die(world.machine())
    world.predictions.messages.clear()
    with pytest.raises(RecoveryError, match=r"predictions is empty, and it ended at memory:\d+ when .*--new-outputs"):
        world.machine().run()
    world.machine(new_outputs=True).run()
    assert int(world.predictions.predictions[0]["source"].split(":")[1]) > 0


class Transactions(Everywhere):
    """A sink whose mark is the last event's, and moves with a commit only, as Kafka's."""

    def __init__(self):
        super().__init__()
        self.mark = None

    def open(self, shard):
        output = super().open(shard)
        output.marks_events, output.mark, output.commit = True, lambda: self.mark, self._commit
        return output

    def _commit(self, last, resume_at, log):
        self.mark = last


def test_a_checkpoint_knows_the_marks_of_what_it_waits_for(world, killer):
    """It is made before they are there, and written after."""
    world.predictions, world.letters = Transactions(), Transactions()
    machine = world.machine(retain=50)
    machine.run()
    with Store(machine.folder / "state.db", write=False) as store:
        history = store.history()
    assert len(history) > 20
    for snapshot in history:
        (place,) = snapshot.positions.values()
        (mark,) = set(snapshot.marks.values())
        assert mark == (f"memory:{place.position[0] - 1}" if place.position[0] else None)


def test_an_output_of_another_machine_says_nothing(world, whole, killer):
    """Dead letters in a file, as they are by default: the old machine's file is not here."""
    world.letters = MemorySink()
    killer("learn", 20)
    die(world.machine())
    old, world.letters = world.letters, MemorySink()
    last = world.machine(on_missing="fail")
    last.run()
    assert weights(last) == whole[1]
    assert world.predictions.lines == whole[0][0]
    assert set(old.lines + world.letters.lines) == set(whole[0][1])


# Sharing disturbs nothing


def test_that_it_fails_is_counted_and_tried_again(world, whole, killer, caplog, monkeypatch):
    monkeypatch.setattr("stream_rnn.sharing._FIRST_RETRY_S", 0.0)
    first = world.machine()
    put = world.place.put

    def sometimes(snapshot):  # not at the begin: that stops
        if world.place.snapshots and world.place.opened < 4:
            raise SinkError("no room for it")
        return put(snapshot)

    world.place.put = sometimes
    first.run()
    assert (world.lines, weights(first)) == whole
    assert shared(first)["failures"] == 3
    assert shared(first)["error"] is None
    assert "not shared: no room for it" in caplog.text
    assert world.place.position == (300,)


def test_what_is_in_the_way_at_the_very_beginning_stops(world):
    world.place.refuses = [SinkError("no right to write")]
    with pytest.raises(SinkError, match="no right to write"):
        world.machine().run()
    assert not world.lines[0]


def test_the_loop_does_not_wait_for_it(world):
    """A place that takes for ever: all is learnt and out meanwhile."""
    done = threading.Event()
    put = world.place.put

    def slow(snapshot):
        if world.place.snapshots:
            assert done.wait(60)
        return put(snapshot)

    world.place.put = slow
    machine = world.machine()
    thread = threading.Thread(target=machine.run)
    thread.start()
    while len(world.lines[0]) + len(world.lines[1]) < 300:
        assert thread.is_alive()
        done.wait(0.01)
    assert len(world.place.snapshots) == 1
    done.set()
    thread.join(60)
    assert world.place.position == (300,)


# The bytes


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "state.db") as store:
        yield store


def test_a_parcel_holds_what_the_store_does(store, tmp_path):
    machine = engine(STREAM, World(tmp_path), tmp_path / "x", **(OFTEN | {"memory": 20_000}))
    machine.run()
    data, position = parcel.pack(tmp_path / "x" / "state.db", "memory")
    found = parcel.unpack(data, "")
    assert position == (300,)
    with Store(tmp_path / "x" / "state.db", write=False) as old:
        newest = old.newest()
        rows = list(old.rows(newest.generation))
        assert found.settings == old.settings_log()
    store.take_over(found.snapshot, found.rows, found.settings, found.starts)
    copy = store.newest()
    assert list(copy.arrays) == list(newest.arrays)
    assert all(copy.arrays[n].tobytes() == a.tobytes() and copy.arrays[n].dtype == a.dtype
               for n, a in newest.arrays.items())  # fmt: skip
    assert (copy.positions, copy.marks, copy.info, copy.settings) == (
        newest.positions, newest.marks, newest.info, newest.settings)  # fmt: skip
    assert list(store.rows(copy.generation)) == rows  # in their order, too: what changed last is loaded first


def test_any_key_and_no_key_travels(store, tmp_path):
    keys = [None, 7, -(2**63), b"\xff", "é", ("a", 1, ("b", None)), ""]
    saved = Saved(positions={}, marks={}, settings={}, arrays={})
    store.checkpoint(saved, [KeyState(key, bytes([i]) * i, i / 3 if i % 2 else None) for i, key in enumerate(keys)])
    with pytest.raises(StateDamaged, match="does not know where log goes on"):
        parcel.pack(store.path, "log")
    saved.positions["log"] = store.start("log") or parcel.Place((5, 6), b"notes")
    store.checkpoint(saved, [])
    data, position = parcel.pack(store.path, "log")
    assert position == (5, 6)
    rows = list(parcel.unpack(data, "").rows)
    assert sorted(rows, key=repr) == sorted(store.rows(2), key=repr)


def test_damage_anywhere_is_noticed(store):
    saved = Saved(positions={"log": parcel.Place((1,))}, marks={}, settings={}, arrays={})
    store.checkpoint(saved, [KeyState("k", b"state", None)])
    data, _ = parcel.pack(store.path, "log")
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(StateDamaged):
            parcel.unpack(damaged, "it")
    for size in (0, 5, len(data) - 1):
        with pytest.raises(StateDamaged):
            parcel.unpack(data[:size], "it")


def test_it_takes_the_place_of_all_that_was_there(store, tmp_path):
    old = Saved(positions={"log": parcel.Place((1,))}, marks={}, settings={}, arrays={})
    store.checkpoint(old, [KeyState("gone", b"state", 1.0), KeyState("both", b"old", None)])
    with Store(tmp_path / "elsewhere.db") as other:
        other.checkpoint(Saved(positions={"log": parcel.Place((9,))}, marks={}, settings={}, arrays={}),
                         [KeyState("both", b"new", None)])  # fmt: skip
        found = parcel.unpack(parcel.pack(other.path, "log")[0], "")
    store.take_over(found.snapshot, found.rows, found.settings, found.starts)
    newest = store.newest()
    assert newest.positions["log"].position == (9,)
    assert [(row.key, row.state) for row in store.rows(newest.generation)] == [("both", b"new")]
    assert store.recall("gone") is None
    assert newest.generation == 2
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
