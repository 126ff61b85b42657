"""An output that somebody has shortened or moved away: the job stops, says which and what the choices are, and touches
nothing; each choice does what it says."""

from __future__ import annotations

import pytest
from recovery.job import Kill
from recovery.scenarios import job as make_job

OUTPUTS = ("out.jsonl", "dead.jsonl")


def shorten(path, lines):
    """Keep only the first lines."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


@pytest.fixture
def job(nursery, tmp_path):
    """Killed after enough checkpoints that no kept one fits an early place of the outputs."""
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 80]]
    assert job.run(Kill("learn", 40, stalls=True, after_s=0.05)).killed
    return job


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("lines", [7, 0, None])
def test_a_shortened_output_stops_the_job_and_back_in_place_lets_it_go_on(name, lines, job, whole):
    path = job.folder / name
    kept = path.read_bytes()
    if lines is None:
        path.unlink()
    else:
        shorten(path, lines)
    before = {n: (job.folder / n).read_bytes() for n in OUTPUTS if (job.folder / n).exists()}

    for _ in range(2):  # a supervisor starts it again: nothing changes
        life = job.run()
        assert life.code == 3
        message = life.said.splitlines()[-1]
        assert {"out.jsonl": "predictions", "dead.jsonl": "dead_letters"}[name] in message
        for choice in ("shortened, replaced or lost", "Put it back", "--new-outputs", "begin anew"):
            assert choice in message
        after = {n: (job.folder / n).read_bytes() for n in OUTPUTS if (job.folder / n).exists()}
        assert {n: data for n, data in after.items() if data} == {n: data for n, data in before.items() if data}

    path.write_bytes(kept)
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_new_outputs_leaves_the_gap_and_loses_nothing_after_it(job, whole):
    path = job.folder / "out.jsonl"
    there = len(path.read_bytes().splitlines())
    shorten(path, 7)
    life = job.run(arguments=["--new-outputs"])
    assert life.code == 0, life.said
    lines, wanted = path.read_bytes().splitlines(), whole("file").outputs["out.jsonl"].splitlines()
    assert lines[:7] == wanted[:7]
    begin = wanted.index(lines[7])
    assert 7 < begin <= there
    assert lines[7:] == wanted[begin:]
    found = job.outcome()
    assert (found.arrays, found.states) == (whole("file").arrays, whole("file").states)
    assert found.outputs["dead.jsonl"] == whole("file").outputs["dead.jsonl"]


def test_begun_anew_it_writes_everything_again(job, whole):
    for name in OUTPUTS:
        (job.folder / name).unlink()
    job.configure(**job.settings | {"state.path": "another"})
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_torn_last_line_is_no_loss(job, whole):
    for name in OUTPUTS:
        path = job.folder / name
        path.write_bytes(path.read_bytes() + b'{"key":"k1","time":17000')
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_what_an_older_snapshot_still_covers_heals_by_itself(job, whole):
    path = job.folder / "out.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_an_output_of_somebody_else_is_left_alone(nursery, tmp_path):
    job = make_job("file", tmp_path, nursery)
    other = b'{"message": "my own log"}\n'
    (tmp_path / "out.jsonl").write_bytes(other)
    life = job.run()
    assert life.code == 1
    assert "not one of ours" in life.said
    assert (tmp_path / "out.jsonl").read_bytes() == other
