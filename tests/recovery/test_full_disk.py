"""A write that fails, whichever it is, ends the process with one clear line; once the disk is well, a restart leaves
no trace of it."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from recovery.scenarios import job as make_job
from recovery.tamper import sqlite_can_be_watched

WRITES = 24  # of some hundreds, for each kind of failure

needs_sqlite = pytest.mark.skipif(not sqlite_can_be_watched(), reason="this Python's SQLite hides sqlite3_vfs_find")


def ended_clearly(life):
    """By itself, with a line and without a traceback."""
    assert life.code == 1, f"exit code {life.code}: {life.said}"
    last = life.said.splitlines()[-1]
    assert last.startswith("stream-rnn: ")
    assert "Traceback" not in life.said
    return last


@needs_sqlite
@pytest.mark.slow
@pytest.mark.parametrize("name, error, half, ever_after", [
    ("file", "EIO", False, False), ("file", "ENOSPC", True, True), ("stdin", "EIO", True, True),
    ("stdin", "ENOSPC", False, False),
])  # fmt: skip
def test_any_write_may_fail(name, error, half, ever_after, nursery, whole, tmp_path):
    rng = random.Random(f"{name} {error}")
    counted = make_job(name, tmp_path / "counted", nursery)
    counted.tamper = [["blocks_of", 160], ["count_writes"]]
    counted.finish()
    total = int((tmp_path / "counted" / "writes").read_text())
    ended = 0
    for n in sorted({*range(1, 9), *rng.sample(range(9, total), WRITES - 8)}):
        job = make_job(name, tmp_path / str(n), nursery)
        job.tamper = [["blocks_of", 160], ["failing_write", n, error, half, ever_after]]
        life = job.run()
        if life.code:  # else it came to fewer writes, or the write was none that matters (moving the log into the file)
            message = ended_clearly(life)
            wanted = {"EIO": ("disk refused it", "Input/output error"), "ENOSPC": ("is full", "No space left")}[error]
            assert any(text in message for text in wanted), message
            ended += 1
        job.tamper = job.tamper[:1]
        job.finish()
        assert not job.outcome().differences(whole(name)), f"write {n} of {total}"
        shutil.rmtree(job.folder)
    assert ended > WRITES / 2


@pytest.mark.parametrize("n", range(3, 17))
def test_a_refused_sync_is_not_forgotten_by_the_next(n, nursery, whole, tmp_path):
    """Else a checkpoint would know of more than is out."""
    job = make_job("file", tmp_path, nursery, **{"state.checkpoint_interval": "8ms", "state.retain": 1})
    job.tamper = [["blocks_of", 40], ["slow_sync_that_fails", n]]
    life = job.run()
    if life.code or n < 8:  # a fast run comes to fewer syncs
        assert "Input/output error" in ended_clearly(life)
    job.tamper = []
    job.finish()
    assert not job.outcome().differences(whole("file"))


@pytest.mark.parametrize("size", [20_000, 100_000, 300_000])
def test_a_quota_ends_it_clearly(size, nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160], ["files_of_at_most", size]]
    ended_clearly(job.run())
    job.tamper = []
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_full_file_system_ends_it_clearly(nursery, whole, tmp_path):
    """Outputs and state on a file system of that size; then it grows."""
    small = tmp_path / "small"
    small.mkdir()
    with small_file_system(small):
        for kib in (100, 300, 700, 1200):
            resize(small, kib)
            job = make_job("file", tmp_path / f"job-{kib}", nursery, **{
                "state.path": str(small / "state"), "sink.path": str(small / "out.jsonl"),
                "dead_letter.path": str(small / "dead.jsonl")})  # fmt: skip
            job.tamper = [["blocks_of", 160]]
            message = ended_clearly(job.run())
            assert "full" in message or "No space left" in message
            resize(small, 64 << 10)
            job.finish()
            found = job.outcome()
            found.outputs = {Path(name).name: data for name, data in found.outputs.items()}
            assert not found.differences(whole("file"))
            for path in [*small.glob("state/*"), *small.glob("*.jsonl")]:
                path.unlink()


@contextlib.contextmanager
def small_file_system(folder: Path):
    done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("only root may mount a small file system; a quota and failing writes are tested all the same")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def resize(folder: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", folder], check=True)
