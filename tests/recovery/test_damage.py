"""A state file that was cut, or in which bits were flipped, is noticed, and the job's outcome is the same: from an
older snapshot, or learnt again from the beginning (`state.on_missing`)."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3

import pytest
from recovery.job import Kill
from recovery.scenarios import job as make_job

PLACES, PARTS = 200, 8


class Broken:
    """A job that was killed in the middle; `damage` by damage, each done to the same files."""

    def __init__(self, folder, name, nursery, **settings):
        self.job = make_job(name, folder / "job", nursery, **settings)
        self.job.tamper = [["blocks_of", 80]]
        assert self.job.run(Kill("learn", 30, stalls=True, after_s=0.05)).killed
        self._aside = folder / "aside"
        shutil.copytree(self.job.folder, self._aside)

    def again(self, folded=False):
        """The files as they were; `folded`: with what is in the write-ahead log moved into the database."""
        shutil.rmtree(self.job.folder)
        shutil.copytree(self._aside, self.job.folder)
        if folded:
            for path in self.job.state.parent.glob("*.db"):
                with contextlib.closing(sqlite3.connect(path)) as db:
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.job


def damage(path, rng):
    """Flip a bit, overwrite half a sector, or cut the file off; where, for the message."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    how = rng.choice(["flip", "flip", "overwrite", "cut"])
    if how == "flip":
        content[at] ^= 1 << rng.randrange(8)
    elif how == "overwrite":
        content[at : at + 256] = rng.randbytes(len(content[at : at + 256]))
    else:
        del content[at:]
    path.write_bytes(content)
    return f"{how} at {at} of {path.name}"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_of_a_damaged_state_nothing_is_seen_in_the_outcome(part, nursery, whole, tmp_path):
    name = ("file", "spill")[part % 2]
    broken = Broken(tmp_path, name, nursery)
    noticed = 0
    for n in range(PLACES // PARTS):
        rng = random.Random(part * 1000 + n)
        job = broken.again(folded=rng.random() < 0.7)
        files = [f for f in (job.state, job.state.with_name("state.db-wal")) if f.exists() and f.stat().st_size]
        where = damage(rng.choice(files), rng)
        life = job.run()
        assert life.code == 0, f"{where}: {life.said}"
        assert not job.outcome().differences(whole(name)), where
        noticed += "damaged" in life.said
    assert noticed >= 3


def test_of_a_damaged_journal_nothing_false_comes(nursery, whole, tmp_path):
    broken = Broken(tmp_path, "stdin", nursery)
    stopped = 0
    for n in range(24):
        rng = random.Random(n)
        job = broken.again(folded=True)
        where = damage(job.state.with_name("journal.db"), rng)
        life = job.run()
        if life.code == 0:
            assert not job.outcome().differences(whole("stdin")), where
        else:
            assert life.code in (1, 3), f"{where}: {life.said}"
            assert "journal.db" in life.said, where
            assert whole("stdin").outputs["out.jsonl"].startswith((job.folder / "out.jsonl").read_bytes())
            stopped += 1
    assert stopped


@pytest.mark.parametrize("gone", [True, False])
def test_without_any_usable_state_on_missing_decides(gone, nursery, whole, tmp_path):
    def lose(job):
        for path in job.state.parent.glob("state.db*"):
            path.unlink()
        if not gone:
            job.state.write_bytes(random.Random(1).randbytes(100_000))

    broken = Broken(tmp_path, "file", nursery)
    job = broken.again()
    lose(job)
    job.finish()
    assert not job.outcome().differences(whole("file"))

    job = broken.again()
    lose(job)
    before = (job.folder / "out.jsonl").read_bytes()
    job.configure(**job.settings | {"state.on_missing": "fail"})
    life = job.run()
    assert life.code == 3
    assert "on_missing" in life.said
    assert (job.folder / "out.jsonl").read_bytes() == before

    job = broken.again()
    lose(job)
    job.configure(**job.settings | {"state.on_missing": "fresh"})
    life = job.finish()
    assert "nothing learnt" in life.said
    after, wanted = (job.folder / "out.jsonl").read_bytes(), whole("file").outputs["out.jsonl"]
    assert after.startswith(before[: before.rfind(b"\n") + 1])
    sources = [line.split(b'"source":')[1].split(b",")[0] for line in after.splitlines()]
    assert sources == [line.split(b'"source":')[1].split(b",")[0] for line in wanted.splitlines()]
    assert after != wanted
