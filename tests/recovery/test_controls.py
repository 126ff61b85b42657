"""The tests can fail: engines that are wrong in one place, put through the same, leave a trace.

And each time the right engine, put through exactly the same, leaves none.
"""

from __future__ import annotations

import pytest
from recovery.job import Kill
from recovery.scenarios import job as make_job

from stream_rnn.store import Store


@pytest.mark.parametrize("wrong", [[], [["mark_filter_off"]]])
def test_without_the_filter_of_marks_lines_come_twice(wrong, nursery, whole, tmp_path):
    job = make_job("replay", tmp_path, nursery)
    job.tamper = [["blocks_of", 80], *wrong]
    assert job.run(Kill("learn", 12, stalls=True)).killed
    job.finish()
    found = job.outcome().differences(whole("replay"))
    assert bool(found) == bool(wrong)
    if wrong:
        lines = job.outcome().outputs["out.jsonl"].splitlines()
        assert len(lines) > len(set(lines))
        assert set(lines) == set(whole("replay").outputs["out.jsonl"].splitlines())


_EARLY = ["checkpoint_before_the_output_is_durable"]


@pytest.mark.parametrize("wrong", [[], [_EARLY], [_EARLY, ["outputs_are_trusted"]]])
def test_with_checkpoints_before_outputs_are_durable_lines_are_lost(wrong, nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery, **{"state.commit_interval": "1h", "state.retain": 1})
    job.tamper = [["blocks_of", 80], ["disk_that_forgets", 0, 0.0], *wrong]
    assert job.run(Kill("learn", 30, stalls=True)).killed
    life = job.run()
    if wrong == [_EARLY]:
        assert life.code == 3
        assert "it was shortened, replaced or lost" in life.said
        return
    assert life.code == 0, life.said
    found = job.outcome().differences(whole("file"))
    assert bool(found) == bool(wrong)
    if wrong:
        lines = job.outcome().outputs["out.jsonl"].splitlines()
        assert len(lines) < len(whole("file").outputs["out.jsonl"].splitlines())


@pytest.mark.parametrize("wrong", [[], [["newer_rows_are_kept"]]])
def test_with_key_states_of_another_generation_forecasts_differ(wrong, nursery, whole, tmp_path):
    job = make_job("spill", tmp_path, nursery)
    job.tamper = [["blocks_of", 80]]
    assert job.run(Kill("learn", 40, stalls=True, after_s=0.05)).killed
    back_to_an_older_snapshot(job)
    job.tamper += wrong
    life = job.run()
    assert "spill" in life.phases
    assert "recall" in life.phases
    found = ["it stopped"] if life.code else job.outcome().differences(whole("spill"))
    assert bool(found) == bool(wrong), life.said


def back_to_an_older_snapshot(job):
    """Cut the outputs to where they were when the newest snapshot but two was made: it is the newest that fits."""
    with Store(job.state, write=False) as store:
        older = store.history()[2]
    for name, mark in older.marks.items():
        path = job.folder / {"predictions": "out.jsonl", "dead_letters": "dead.jsonl"}[name.split(" ")[0]]
        end = path.read_bytes().index(f'"source":"{mark}"'.encode())
        with path.open("r+b") as f:
            f.seek(end)
            f.readline()
            f.truncate()
