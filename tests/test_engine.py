"""The engine in one process: the eleven invariants of recovery, each by its number, and what a block may hold.

Deaths are exceptions at the phases of phases.py here; tests/recovery kills real processes.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_help import (
    Crash,
    Killer,
    Sinks,
    engine,
    events,
    in_step,
    model,
    parsed,
    run_until_done,
    undisturbed,
    weights,
)

from stream_rnn import phases
from stream_rnn.connectors.file import FileSink, FileSource
from stream_rnn.connectors.memory import MemoryOutput, MemorySink, MemorySource
from stream_rnn.engine import Engine
from stream_rnn.errors import (
    ConfigError,
    InputError,
    RecoveryError,
    SinkError,
    SinkFenced,
    SourceGap,
    StateBusy,
    StateMismatch,
    Unavailable,
)
from stream_rnn.shard import Policy
from stream_rnn.store import Store

EAGER = {"commit_interval": 0.0, "checkpoint_interval": 1e-9}  # commit and checkpoint after every block
NEVER = {"journal", "rotation", "recall", "spill", "share", "shared"}  # phases that these jobs do not come to
STREAM = events(300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(lines, weights) of an undisturbed run over STREAM."""
    sinks, e = undisturbed(STREAM, tmp_path_factory.mktemp("whole"))
    return sinks.lines, weights(e)


def test_every_event_gives_one_prediction_or_one_dead_letter(whole):
    (predictions, letters), _ = whole
    sources = [p["source"] for p in parsed(predictions)] + [d["source"] for d in parsed(letters)]
    assert sorted(sources, key=lambda s: int(s.split(":")[1])) == [f"memory:{i}" for i in range(len(STREAM))]
    first = parsed(predictions)[0]
    assert first["key"] == "k0"
    assert first["time"] == 1e9
    assert first["step"] == 1
    assert first["predicted"] is None
    assert first["actual"] == 0.0


def test_predicted_is_the_last_forecast_of_the_key(whole):
    last = {}
    for p in parsed(whole[0][0]):
        assert p["predicted"] == last.get(p["key"])
        last[p["key"]] = p["forecast"]


class Cut(MemorySource):
    """Gives as many records at a time as it likes."""

    def __init__(self, items, sizes):
        super().__init__(items)
        self._sizes = iter(sizes)

    def read(self, limit):
        return super().read(min(limit, next(self._sizes, limit)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 80), max_size=40),
    intervals=st.tuples(st.sampled_from([0.0, 1e-3, 60.0]), st.sampled_from([1e-9, 2e-3, 60.0])),
    deaths=st.lists(
        st.tuples(st.sampled_from([p for p in phases.PHASES if p not in NEVER]),
                  st.integers(1, 6)), max_size=6),
)  # fmt: skip
def test_blocks_commits_checkpoints_and_deaths_never_show(whole, tmp_path_factory, sizes, intervals, deaths):
    folder, sinks, todo = tmp_path_factory.mktemp("cut"), Sinks(), list(deaths)
    with pytest.MonkeyPatch.context() as patch:
        killer = Killer(patch)

        def make():
            killer(*todo.pop()) if todo else killer("open", 0)
            return engine(Cut(STREAM, sizes), sinks, folder, commit_interval=intervals[0],
                          checkpoint_interval=intervals[1])  # fmt: skip

        e, _ = run_until_done(make)
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]


@pytest.mark.parametrize("phase", ["read", "learn", "write", "between", "commit", "committed", "copy", "checkpoint",
                                   "rows", "checkpointed", "restore", "replay", "stop"])  # fmt: skip
def test_a_death_in_any_phase_leaves_no_trace(whole, tmp_path, monkeypatch, phase):
    in_step(monkeypatch)
    killer, sinks = Killer(monkeypatch), Sinks()
    killer("copy", 2)
    with pytest.raises(Crash):  # something to go on from
        engine(Cut(STREAM, [20] * 99), sinks, tmp_path, **EAGER).run()
    died = 0
    for n in (1, 2, 3):
        killer(phase, n)
        try:
            engine(Cut(STREAM, [20] * 99), sinks, tmp_path, **EAGER).run()
        except Crash:
            died += 1
    assert died
    killer("open", 0)
    e = engine(STREAM, sinks, tmp_path)
    e.run()
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]


# 1. A checkpoint at P commits only after every output is durable through P.


def test_invariant_1_a_checkpoint_never_knows_more_than_is_durable(tmp_path, monkeypatch):
    in_step(monkeypatch)
    sinks, seen = Sinks(), []
    real = Store.checkpoint

    def checkpoint(store, snapshot, changed, gone=()):
        (place,) = snapshot.positions.values()
        durable = {json.loads(line)["source"] for sink in (sinks.predictions, sinks.letters)
                   for line in sink.lines[: sink.committed.get("", 0)]}  # fmt: skip
        missing = {f"memory:{i}" for i in range(place.position[0])} - durable
        seen.append((place.position, missing))
        return real(store, snapshot, changed, gone)

    monkeypatch.setattr(Store, "checkpoint", checkpoint)
    engine(Cut(STREAM, [7] * 99), sinks, tmp_path, commit_interval=60.0, checkpoint_interval=1e-9).run()
    assert len(seen) > 20
    assert all(not missing for _, missing in seen)


# 2. Start position stored before the first read.


def test_invariant_2_the_start_is_known_even_if_nothing_was_ever_saved(tmp_path, monkeypatch):
    killer, sinks, stream = Killer(monkeypatch), Sinks(), list(STREAM[:50])
    killer("read", 1)
    with pytest.raises(Crash):
        engine(MemorySource(stream), sinks, tmp_path, start="latest").run()
    stream += STREAM[50:90]  # comes while nobody is there
    engine(MemorySource(stream), sinks, tmp_path, start="latest").run()
    assert parsed(sinks.predictions.lines)[0]["source"] == "memory:50"
    assert sum(map(len, sinks.lines)) == 40


# 3. Each output has its own mark.


def test_invariant_3_each_output_drops_what_it_has(whole, tmp_path, monkeypatch):
    killer, sinks = Killer(monkeypatch), Sinks()
    killer("between", 3)
    with pytest.raises(Crash):
        engine(Cut(STREAM, [60] * 9), sinks, tmp_path, commit_interval=60.0, checkpoint_interval=60.0).run()
    marks = [int(json.loads(s.lines[-1])["source"].split(":")[1]) for s in (sinks.predictions, sinks.letters)]
    assert marks[0] >= marks[1] + 50  # predictions of a block are out and its dead letters are not
    engine(STREAM, sinks, tmp_path).run()
    assert sinks.lines == whole[0]


def test_an_output_without_a_mark_repeats_but_loses_nothing(whole, tmp_path, monkeypatch, capfd):
    class Forgetful(MemoryOutput):
        has_mark = False

        def mark(self):
            return None

    killer, sinks = Killer(monkeypatch), Sinks()
    monkeypatch.setattr(sinks.predictions, "open", lambda shard: Forgetful(sinks.predictions, shard))
    killer("read", 5)
    with pytest.raises(Crash):
        engine(Cut(STREAM, [50] * 9), sinks, tmp_path, checkpoint_interval=60.0).run()
    engine(STREAM, sinks, tmp_path).run()
    assert list(dict.fromkeys(sinks.predictions.lines)) == whole[0][0]
    assert len(sinks.predictions.lines) > len(whole[0][0])


# 4. A mark behind every checkpoint, or gone: stop, and say the choices.


def files(folder, **policy):
    source = folder / "in.jsonl"
    if not source.exists():
        source.write_bytes(b"".join((e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n" for e in STREAM))
    return Engine(FileSource(source), model(), FileSink(folder / "out.jsonl"), FileSink(folder / "dead.jsonl"),
                  folder / "state", **policy)  # fmt: skip


def test_invariant_4_a_lost_output_stops_with_the_choices(tmp_path):
    files(tmp_path).run()
    out = tmp_path / "out.jsonl"
    lines = out.read_bytes()
    out.write_bytes(b"")
    with pytest.raises(RecoveryError, match=r"output of predictions is empty.*Put it back.*--new-outputs.*begin anew"):
        files(tmp_path).run()
    with pytest.raises(RecoveryError):  # asking again does not wear it down
        files(tmp_path).run()
    out.write_bytes(lines[:-300])
    with pytest.raises(RecoveryError, match="ends at file:0/"):
        files(tmp_path).run()
    out.write_bytes(lines)
    files(tmp_path).run()
    assert out.read_bytes() == lines
    out.write_bytes(b"")
    files(tmp_path, new_outputs=True).run()
    assert out.read_bytes() == b""  # nothing came after the checkpoint


def test_invariant_4_a_shortened_output_is_made_good_from_an_older_checkpoint(tmp_path):
    files(tmp_path, block=100, **EAGER).run()
    out = tmp_path / "out.jsonl"
    lines = out.read_bytes()
    out.write_bytes(lines[: int(len(lines) * 0.9)])  # the newest checkpoint is ahead of it; an older one is not
    files(tmp_path).run()
    assert out.read_bytes() == lines


def test_outputs_of_another_source_are_refused(tmp_path):
    files(tmp_path).run()
    other = tmp_path / "other.jsonl"
    other.write_bytes((tmp_path / "in.jsonl").read_bytes())
    with pytest.raises(RecoveryError, match="never read"):
        Engine(FileSource(other), model(), FileSink(tmp_path / "out.jsonl"), None, tmp_path / "state").run()
    with pytest.raises(RecoveryError, match="belongs to another source"):
        Engine(MemorySource(STREAM), model(), FileSink(tmp_path / "out.jsonl"), None, tmp_path / "other").run()


# 5. Who takes a shard raises its epoch; the former owner writes nothing more.


def test_invariant_5_a_former_owner_stops_without_writing(tmp_path):
    stream = list(STREAM[:100])
    first = engine(MemorySource(stream, open_ended=True), Sinks(), tmp_path, **EAGER)
    thread = threading.Thread(target=must_lose, args=(first,))
    thread.start()
    wait_for(lambda: first.shards and first.shards[0].position == (100,) and first.shards[0].checkpoints.at)
    with Store(tmp_path / "state.db") as thief:
        taken = thief.newest().generation
        stream += STREAM[100:]
        thread.join(10)
        assert not thread.is_alive()
        assert isinstance(first.status()[0]["error"], str)
        assert thief.newest().generation == taken


def must_lose(e):
    with pytest.raises(StateBusy):
        e.run()


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


# 6. Damage: an older snapshot; or state.on_missing.


def damage(folder, where):
    """Make the store's newest snapshots fail their checksums."""
    with Store(folder / "state.db") as store, store._file.transaction() as db:
        generations = [g for (g,) in db.execute("SELECT generation FROM snapshots WHERE whole = 1 ORDER BY 1")]
        for g in generations[where:]:
            db.execute("UPDATE snapshots SET digest = zeroblob(32) WHERE generation = ?", (g,))


def test_invariant_6_a_damaged_snapshot_is_passed_over(whole, tmp_path):
    sinks = Sinks()
    engine(Cut(STREAM[:200], [20] * 99), sinks, tmp_path, **EAGER).run()
    damage(tmp_path, -1)
    e = engine(STREAM, sinks, tmp_path)
    e.run()
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]


@pytest.mark.parametrize("how", ["damaged", "deleted", "all deleted"])
def test_invariant_6_without_a_state_it_does_as_it_is_told(whole, tmp_path, how):
    sinks = Sinks()

    def lose():
        if how == "damaged":
            damage(tmp_path, 0)
        for path in [] if how == "damaged" else list(tmp_path.glob("*" if how == "all deleted" else "state.db*")):
            if how == "all deleted" or not path.name.endswith(".start"):
                path.unlink()

    engine(STREAM[:200], sinks, tmp_path, **EAGER).run()
    lose()
    with pytest.raises(RecoveryError, match=r"on_missing"):
        engine(STREAM, sinks, tmp_path, on_missing="fail").run()
    engine(STREAM[:220], sinks, tmp_path, on_missing="replay").run()
    lose()
    fresh = engine(STREAM, sinks, tmp_path, on_missing="fresh")
    fresh.run()
    assert [json.loads(x)["source"] for x in sinks.predictions.lines] == [json.loads(x)["source"] for x in whole[0][0]]
    assert len(sinks.letters.lines) == len(whole[0][1])
    n = sum(int(json.loads(line)["source"].split(":")[1]) < 220 for line in whole[0][0])
    assert sinks.predictions.lines[:n] == whole[0][0][:n]
    assert weights(fresh)[0] != whole[1][0]


# 7. Live settings are logged with their position and replayed there; the others are refused.


@pytest.mark.parametrize("phase", ["setting", "write", "committed", "copy"])
def test_invariant_7_a_changed_rate_is_replayed_where_it_was(tmp_path, monkeypatch, phase):
    killer, sinks = Killer(monkeypatch), Sinks()

    class Changing(Cut):
        def read(self, limit):
            if self._next == 120 and engines:
                engines[-1].change({"model.lr": 0.05})
            return super().read(limit)

    engines = []
    killer(phase, 1 if phase in ("setting", "copy") else 9)
    e = engine(Changing(STREAM, [20] * 99), sinks, tmp_path, commit_interval=0.0, checkpoint_interval=60.0)
    engines.append(e)
    with pytest.raises(Crash):
        e.run()
    engines.clear()
    emitted = list(sinks.predictions.lines)
    killer("open", 0)
    e = engine(STREAM, sinks, tmp_path, model(lr=0.05))
    e.run()
    assert sinks.predictions.lines[: len(emitted)] == emitted
    last = {}
    for p in parsed(sinks.predictions.lines):  # no seam where the new process takes over
        assert p["predicted"] == last.get(p["key"])
        last[p["key"]] = p["forecast"]
    assert e.model.settings["lr"] == 0.05
    with Store(tmp_path / "state.db", write=False) as store:
        changes = [(c.position, c.name, c.value) for c in store.settings_log()]
    assert [c for c in changes if c[1] == "model.lr"] == [((0,), "model.lr", 0.01), ((140,), "model.lr", 0.05)]


def test_invariant_7_a_rate_changed_in_the_config_holds_from_the_outputs_end_on(tmp_path, monkeypatch):
    killer, sinks = Killer(monkeypatch), Sinks()
    killer("read", 6)
    with pytest.raises(Crash):
        engine(Cut(STREAM, [20] * 99), sinks, tmp_path, commit_interval=0.0, checkpoint_interval=60.0).run()
    killer("open", 0)
    e = engine(Cut(STREAM, [20] * 99), sinks, tmp_path, model(lr=0.05))
    e.run()
    with Store(tmp_path / "state.db", write=False) as store:
        changes = [(c.position, c.value) for c in store.settings_log() if c.name == "model.lr"]
    assert changes == [((0,), 0.01), ((100,), 0.05)]
    last = {}
    for p in parsed(sinks.predictions.lines):
        assert p["predicted"] == last.get(p["key"])
        last[p["key"]] = p["forecast"]


@pytest.mark.parametrize("other", [{"k1": 1}, {"hidden": 5}, {"cell": "lstm"}, {"features": ["y"]}, {"horizon": 2}])
def test_invariant_7_what_shapes_a_model_cannot_change_on_a_state(tmp_path, other):
    engine(STREAM[:50], Sinks(), tmp_path).run()
    (name,) = other
    with pytest.raises(StateMismatch, match=rf"\.{name} = .*Set it back, or begin anew"):
        engine(STREAM, Sinks(), tmp_path, model(**other), new_outputs=True).run()


# 9. Idle keys.


def silent(n):
    """Keys of which one pauses for long, now and then, and one never comes again."""
    made = [{"key": "gone", "t": 1e9, "x": 1.0}]
    for i in range(n):
        pause = 5000.0 * (i // 50)
        made += [{"key": "a", "t": 1e9 + i + pause, "x": float(i % 5)}, {"key": "b", "t": 1e9 + i * 100.0, "x": 1.0}]
    return made


def test_invariant_9_a_silent_key_starts_afresh_by_its_own_time(tmp_path, monkeypatch):
    monkeypatch.setattr("stream_rnn.idle.SWEEP", 90)
    stream = silent(130)
    sinks, e = undisturbed(stream, tmp_path / "whole", idle_key_ttl=1000.0)
    steps = [p["step"] for p in parsed(sinks.predictions.lines) if p["key"] == "a"]
    assert steps == [i % 50 + 1 for i in range(130)]
    assert "gone" not in e.model.keyspace.slots
    assert "b" in e.model.keyspace.slots
    in_step(monkeypatch)
    killer, again = Killer(monkeypatch), Sinks()
    todo = [("checkpointed", 1), ("copy", 2), ("write", 3), ("read", 6), ("checkpoint", 5)]

    def make():
        killer(*todo.pop()) if todo else killer("open", 0)
        return engine(Cut(stream, [9] * 99), again, tmp_path / "cut", idle_key_ttl=1000.0, **EAGER)

    cut, deaths = run_until_done(make)
    assert deaths == 5
    assert again.lines == sinks.lines
    assert weights(cut) == weights(e)


def test_invariant_9_also_where_keys_wait_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("stream_rnn.idle.SWEEP", 90)
    stream = silent(130)
    sinks, _ = undisturbed(stream, tmp_path / "whole", idle_key_ttl=1000.0)
    in_step(monkeypatch)
    again = Sinks()
    e = engine(Cut(stream, [1] * 999), again, tmp_path / "cut", idle_key_ttl=1000.0, memory=1, **EAGER)
    e.run()
    assert again.lines == sinks.lines
    assert e._ended[0]._spill.recalled > 10


# 10. Where a commit's outcome is unknown, memory is not trusted.


class Shaky(MemorySink):
    """Transactions: what is written counts when it is committed; some commits give no answer, done or not."""

    def __init__(self, silences):
        super().__init__()
        self.silences = dict(silences)  # number of the commit → whether it takes effect
        self.commits = self.opened = 0

    def open(self, shard):
        self.opened += 1
        return ShakyOutput(self, shard)


class ShakyOutput(MemoryOutput):
    def __init__(self, sink, shard):
        super().__init__(sink, shard)
        self._open = []

    def write(self, messages):
        self._open += messages

    def commit(self, last, resume_at, log):
        self._sink.commits += 1
        silence = self._sink.silences.get(self._sink.commits)
        if silence is not False:
            self._messages += self._open
        self._open = []
        if silence is not None:
            raise Unavailable("no answer")


def test_invariant_10_after_an_unknown_outcome_it_goes_on_from_the_checkpoint(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("stream_rnn.shard.delay_s", lambda attempt: 0.0)
    sinks = Sinks()
    sinks.predictions = Shaky({2: True, 3: False, 5: False, 8: True, 9: True})
    e = engine(Cut(STREAM, [20] * 99), sinks, tmp_path, commit_interval=0.0, checkpoint_interval=60.0)
    e.run()
    assert sinks.predictions.opened == 6
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]


def test_a_fenced_shard_is_dropped_without_writing(tmp_path):
    sinks = Sinks()
    sinks.predictions = FencedSink()
    with pytest.raises(SinkFenced):
        engine(STREAM, sinks, tmp_path, commit_interval=0.0, block=50).run()
    with Store(tmp_path / "state.db", write=False) as store:
        assert store.newest() is None


class FencedSink(MemorySink):
    def open(self, shard):
        output = super().open(shard)
        output.commit = fenced
        return output


def fenced(last, resume_at, log):
    raise SinkFenced("another has it")


# 11. Shards share nothing.


class Partitions:
    """Several lists as the logs of one source, which come and go."""

    def __init__(self, *streams, open_ended=False):
        self.logs = []
        for i, stream in enumerate(streams):
            log = MemorySource(stream, id=f"memory/{i}", open_ended=open_ended)
            log.name, log.shard, log.ours = f"p{i}/", str(i), True
            self.logs.append(log)

    def join(self, owner):
        self.owner = owner
        owner.assigned(self.logs)

    def close(self):
        pass


def test_invariant_11_each_log_has_a_learner_of_its_own(tmp_path):
    streams = [events(200, seed=s) for s in range(3)]
    sinks = Sinks()
    e = engine(Partitions(*streams), sinks, tmp_path / "all")
    e.run()
    assert sorted(e.models) == ["0", "1", "2"]
    assert len({id(m) for m in e.models.values()}) == 3
    for i, stream in enumerate(streams):
        alone, single = undisturbed(stream, tmp_path / f"{i}")
        mine = [m.value.replace(b"p%d/" % i, b"memory:") for m in sinks.predictions.messages[str(i)]]
        assert mine == alone.predictions.lines
        assert e.models[str(i)].to_bytes() == single.model.to_bytes()
    assert sorted(p.name for p in (tmp_path / "all").glob("*.db")) == ["state-0.db", "state-1.db", "state-2.db"]


@pytest.mark.parametrize("how", ["revoked", "lost"])
def test_a_log_that_is_taken_away_is_finished_or_left_alone(tmp_path, how):
    sinks, source = Sinks(), Partitions(list(STREAM), list(STREAM), open_ended=True)
    e = engine(source, sinks, tmp_path, commit_interval=60.0, checkpoint_interval=60.0)
    thread = threading.Thread(target=e.run)
    thread.start()
    wait_for(lambda: len(e.shards) == 2 and all(s.position == (300,) for s in e.shards))
    getattr(e, how)(source.logs[:1])
    with Store(tmp_path / "state-0.db", write=False) as store:
        assert (store.newest() is not None) == (how == "revoked")
    assert sinks.predictions.committed.get("0", 0) == (len(sinks.predictions.messages["0"]) if how == "revoked" else 0)
    assert [s.name for s in e.shards] == ["1"]
    again = MemorySource(STREAM, id="memory/0", open_ended=True)
    again.name, again.shard, again.ours = "p0/", "0", True
    e.assigned([again])
    wait_for(lambda: len(e.shards) == 2 and e.shards[1].position == (300,))
    e.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert len(sinks.predictions.messages["0"]) == len(sinks.predictions.messages["1"])


# What a block may hold.


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.lists(st.one_of(st.binary(max_size=60), st.text(max_size=20).map(str.encode)), min_size=1, max_size=5))
def test_any_bytes_are_one_dead_letter_or_one_prediction_and_move_no_weight(tmp_path_factory, junk):
    folder, sinks = tmp_path_factory.mktemp("junk"), Sinks()
    good = [e for e in STREAM[:40] if isinstance(e, dict) and e["x"] != "no number"]
    stream = good[:20] + junk + good[20:]
    e = engine(stream, sinks, folder)
    e.run()
    letters, predictions = parsed(sinks.letters.lines), parsed(sinks.predictions.lines)
    assert len(letters) + len(predictions) == len(stream)
    alike = {f"memory:{20 + i}": value for i, value in enumerate(junk)}
    for letter in letters:
        assert base64.b64decode(letter["base64"]) == alike[letter["source"]]
        assert letter["reason"]
    if len(letters) == len(junk):
        clean, without = undisturbed(good, folder / "without")
        values = [{**p, "source": 0} for p in predictions]
        assert values == [{**p, "source": 0} for p in parsed(clean.predictions.lines)]
        mine, theirs = weights(e), weights(without)
        assert mine[1] == theirs[1]
        for found in (mine, theirs):
            del found[0]["fields"]  # it counts bad events
        assert mine[0] == theirs[0]


def test_a_typed_row_and_its_key_are_in_the_dead_letter(tmp_path):
    sinks = Sinks()
    engine([{"key": [1], "t": 1e9, "x": 1.0}], sinks, tmp_path).run()
    (letter,) = parsed(sinks.letters.lines)
    assert json.loads(base64.b64decode(letter["base64"])) == {"key": [1], "t": 1e9, "x": 1.0}
    assert letter["cause"] == "key"


def test_bad_events_are_left_out_where_that_is_wanted(tmp_path):
    sinks = Sinks()
    e = engine(STREAM, sinks, tmp_path, on_error="skip")
    e.run()
    assert not sinks.letters.lines
    (shard,) = e.status()
    assert sum(shard["bad"].values()) == len(STREAM) - len(sinks.predictions.lines)


def test_a_bad_event_stops_where_that_is_wanted_and_nothing_after_it_is_learnt(whole, tmp_path):
    sinks = Sinks()
    first = next(i for i, e in enumerate(STREAM) if not isinstance(e, dict) or e["x"] == "no number")
    for _ in range(2):
        with pytest.raises(InputError, match=rf"memory:{first}: .*on_error"):
            engine(STREAM, sinks, tmp_path, on_error="stop").run()
        assert len(sinks.predictions.lines) == first
    e = engine(STREAM, sinks, tmp_path)
    e.run()
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]


def test_a_transform_may_change_leave_out_and_fail(tmp_path):
    def clean(event):
        if event["x"] == 2:
            return None
        if event["x"] == 3:
            raise KeyError("three")
        if event["x"] == 4:
            return 4
        return {**event, "deep": {"y": event["x"] * 2}}

    sinks = Sinks()
    stream = [{"key": "a", "t": 1e9 + i, "x": float(i)} for i in range(6)]
    e = engine(stream, sinks, tmp_path, model(features=["deep.y"]), transform=clean)
    e.run()
    assert [p["actual"] for p in parsed(sinks.predictions.lines)] == [0.0, 1.0, 5.0]
    letters = parsed(sinks.letters.lines)
    assert [(d["source"], d["cause"]) for d in letters] == [("memory:3", "transform"), ("memory:4", "transform")]
    assert "KeyError: 'three'" in letters[0]["reason"]
    (shard,) = e.status()
    assert shard["skipped"] == 1
    assert list(e.model.fields.places) == ["deep.y"]


class Gappy(MemorySource):
    """Has lost items 100 to 149."""

    def read(self, limit):
        if 100 <= self._next < 150:
            raise SourceGap("items 100 to 149 are gone", (150,))
        return super().read(min(limit, 100 - self._next if self._next < 100 else limit))


def test_a_gap_stops_or_is_skipped(tmp_path):
    with pytest.raises(SourceGap):
        engine(Gappy(STREAM), Sinks(), tmp_path / "a").run()
    sinks = Sinks()
    e = engine(Gappy(STREAM), sinks, tmp_path / "b", on_gap="skip")
    e.run()
    assert e.status()[0]["gaps"] == 1
    assert sum(map(len, sinks.lines)) == 250


# Sources that cannot be read twice, memory, models.


def test_an_iterator_is_journaled_and_goes_on_where_it_died(whole, tmp_path, monkeypatch):
    killer, sinks, sender = Killer(monkeypatch), Sinks(), iter(STREAM)
    for phase, n in [("journal", 1), ("learn", 2), ("checkpointed", 2), ("write", 3)]:
        killer(phase, n)
        done = journaled(tmp_path)
        with pytest.raises(Crash):
            engine(MemorySource(STREAM[i] for i in range(done, 300)), sinks, tmp_path, block=20, **EAGER).run()
    killer("open", 0)
    done = journaled(tmp_path)
    e = engine(MemorySource(STREAM[i] for i in range(done, 300)), sinks, tmp_path)
    e.run()
    assert next(sender) == STREAM[0]
    assert sinks.lines == whole[0]
    assert weights(e) == whole[1]
    assert e.status()[0]["received"] == 300


def journaled(folder):
    """Records that a journal has taken in: what the sender need not send again."""
    from stream_rnn.journal import JournalLog

    if not (folder / "journal.db").exists():
        return 0
    journal = JournalLog(MemorySource([]), folder / "journal.db")
    journal.close()
    return journal.received


def test_keys_beyond_the_memory_wait_in_the_store_and_nothing_shows(tmp_path, monkeypatch):
    stream = events(600, keys=40)
    sinks, _ = undisturbed(stream, tmp_path / "whole")
    in_step(monkeypatch)
    killer, again = Killer(monkeypatch), Sinks()
    todo = [("spill", 3), ("recall", 9), ("rows", 4), ("write", 7)]
    room = 10 * 5000

    def make():
        killer(*todo.pop()) if todo else killer("open", 0)
        return engine(Cut(stream, [20] * 99), again, tmp_path / "cut", memory=room, commit_interval=0.0)

    e, deaths = run_until_done(make)
    assert deaths == 4
    assert again.lines == sinks.lines
    shard = e._ended[0]
    assert shard._spill.recalled > 20
    assert shard._spill.taken_bytes < 3 * room


def test_a_model_grows_while_keys_wait_in_the_store(tmp_path, monkeypatch):
    stream = [{"key": f"k{i % 30}", "t": 1e9 + i, "x": float(i % 7)} for i in range(500)]
    for i, event in enumerate(stream):
        event |= {f"f{j}": float(i % (j + 2)) for j in range(i // 60)}
    sinks, whole = undisturbed(stream, tmp_path / "whole")
    in_step(monkeypatch)
    killer, again = Killer(monkeypatch), Sinks()
    todo = [("spill", 3), ("recall", 30), ("write", 7)]

    def make():
        killer(*todo.pop()) if todo else killer("open", 0)
        return engine(Cut(stream, [15] * 99), again, tmp_path / "cut", memory=5 * 5000, commit_interval=0.0)

    e, deaths = run_until_done(make)
    assert deaths == 3
    assert again.lines == sinks.lines
    assert weights(e)[0] == weights(whole)[0]


def test_the_given_model_is_the_one_that_learns_and_what_it_knew_counts(tmp_path):
    fresh = model()
    engine(STREAM, Sinks(), tmp_path / "a", fresh).run()
    assert fresh.counters["steps"] > 200
    learnt = fresh.to_bytes()
    e = engine(STREAM[:100], Sinks(), tmp_path / "b", fresh)
    e.run()
    assert fresh.to_bytes() == learnt
    by_hand = type(fresh).from_bytes(learnt)
    by_hand.step_many([x for x in STREAM[:100] if isinstance(x, dict)])
    mine = weights(e)[0]
    assert {n: a.tobytes() for n, a in by_hand.shared_arrays().items() if n != "fields"} == {
        n: a for n, a in mine.items() if n != "fields"
    }


def test_without_a_sink_it_only_learns_and_another_source_goes_on_from_there(tmp_path):
    Engine(MemorySource(STREAM[:150], id="history"), model(), None, state=tmp_path, on_error="skip").run()
    sinks = Sinks()
    live = engine(MemorySource(STREAM[150:], id="live"), sinks, tmp_path)
    live.run()
    _, whole = undisturbed(STREAM, tmp_path / "whole")
    assert weights(live) == weights(whole)
    assert parsed(sinks.predictions.lines)[0]["step"] > 1


def test_trained_history_is_every_new_shards_beginning(tmp_path, monkeypatch):
    Engine(MemorySource(STREAM[:150], id="history"), model(), None, state=tmp_path, on_error="skip").run()
    sinks, killer = Sinks(), Killer(monkeypatch)
    killer("write", 2)
    with pytest.raises(Crash):
        engine(Partitions(STREAM[150:]), sinks, tmp_path, block=40).run()
    e = engine(Partitions(STREAM[150:]), sinks, tmp_path)
    e.run()
    _, whole = undisturbed(STREAM, tmp_path / "whole")
    assert weights(e) == weights(whole)


def test_a_disk_that_refuses_stops_it_and_a_restart_loses_nothing(tmp_path, monkeypatch):
    folder, whole = tmp_path / "cut", tmp_path / "whole"
    folder.mkdir()
    whole.mkdir()
    files(whole).run()
    real, calls = os.fsync, []

    def fsync(fd):
        calls.append(fd)
        if len(calls) > 3:  # opening takes three; each of the two outputs is synced at the end, at the latest
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SinkError, match="Input/output error"):
        files(folder, block=20, **EAGER).run()
    monkeypatch.undo()
    files(folder).run()
    for name in ("out.jsonl", "dead.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_what_was_not_made_durable_is_cut_off(tmp_path, monkeypatch):
    from stream_rnn.connectors import Message

    output = FileSink(tmp_path / "out.jsonl").open("")
    output.write([Message(b'{"source":"a:1"}', "a:1")])
    output.commit("a:1", (2,), MemorySource([]))
    output.write([Message(b'{"source":"a:2"}', "a:2")])
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(SinkError):
        output.commit("a:2", (3,), MemorySource([]))
    output.close()
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"source":"a:1"}\n'


def test_unknown_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="comit_interval"):
        Engine(MemorySource([]), model(), MemorySink(), state=tmp_path, comit_interval=1)
    assert Policy(commit_interval=1).commit_interval == 1


def test_shards_share_the_memory(tmp_path):
    source = Partitions(list(STREAM), list(STREAM), open_ended=True)
    e = engine(source, Sinks(), tmp_path, memory=1 << 20)
    thread = threading.Thread(target=e.run)
    thread.start()
    wait_for(lambda: len(e.shards) == 2 and all(s.position == (300,) for s in e.shards))
    assert [s.policy.memory for s in e.shards] == [1 << 19, 1 << 19]
    e.change({"limits.memory": 1 << 22})
    e.revoked(source.logs[:1])
    assert [s.policy.memory for s in e.shards] == [1 << 22]
    e.stop()
    thread.join(10)


def test_a_file_that_came_late_and_was_rotated_before_the_first_checkpoint_is_found_again(tmp_path, monkeypatch):
    def followed():
        return Engine(FileSource(tmp_path / "in.jsonl", follow=True), model(), FileSink(tmp_path / "out.jsonl"), None,
                      tmp_path / "state", commit_interval=0.0, checkpoint_interval=60.0)  # fmt: skip

    killer, lines = Killer(monkeypatch), [json.dumps(e).encode() + b"\n" for e in STREAM if isinstance(e, dict)]
    killer("write", 1)
    e = followed()
    thread = threading.Thread(target=must_crash, args=(e,))
    thread.start()
    wait_for(lambda: e.shards and e.shards[0].state == "running")
    (tmp_path / "part").write_bytes(b"".join(lines[:50]))
    (tmp_path / "part").rename(tmp_path / "in.jsonl")
    thread.join(10)
    (tmp_path / "in.jsonl").rename(tmp_path / "in.jsonl.1")
    (tmp_path / "in.jsonl").write_bytes(b"".join(lines[50:]))
    killer("open", 0)
    e = followed()
    thread = threading.Thread(target=e.run)
    thread.start()
    wait_for(lambda: e.shards and e.shards[0].tally.events == len(lines))
    e.stop()
    thread.join(10)
    assert e.status()[0]["position"][0] == 1


def must_crash(e):
    with pytest.raises(Crash):
        e.run()


def test_status_counts(tmp_path):
    sinks, e = undisturbed(STREAM, tmp_path)
    (shard,) = e.status()
    assert shard["events"] == 300
    assert shard["predictions"] == len(sinks.predictions.lines)
    assert shard["bad"] == {"parse": 8, "target": 7}
    assert shard["position"] == [300]
    assert shard["state"] == "finished"
    assert shard["keys"] == 4
    assert shard["marks"] == {"predictions": "memory:299", "dead_letters": "memory:270"}
    json.dumps(shard)
