"""One job has one process: a second one is refused, and a former one writes nothing more."""

from __future__ import annotations

import shutil
import signal
import time

import pytest
from recovery.scenarios import job as make_job

from stream_rnn.store import Store


def stop_at(job, phase, n, then):
    """A life that is stopped (SIGSTOP) at that instant, for sure in that phase; `then` is done; it goes on."""

    def watch(process, now, count):
        if (now, count) == (phase, n):
            process.send_signal(signal.SIGSTOP)
            then(process)
            process.send_signal(signal.SIGCONT)
            (job.folder / "go").touch()

    job.tamper.append(["stand_still", phase, n, "go"])
    life = job.run(watch=watch)
    job.tamper.pop()
    return life


@pytest.mark.parametrize("phase", ["learn", "committed", "rows"])
def test_a_second_start_is_refused_while_the_first_is_only_stopped(phase, nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]
    codes = []
    life = stop_at(job, phase, 3, lambda process: codes.append(job.start().wait()))
    assert (codes, life.code) == ([1], 0)
    assert "is written by another process" in life.said
    assert not job.outcome().differences(whole("file"))


def test_a_former_owner_writes_nothing_more(nursery, whole, tmp_path):
    """The state is taken by another process while the first one is only stopped."""
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]
    lines = []

    def take(process):
        with Store(job.state) as store:
            store.newest()
        lines.append(job.written())

    # In the thread of checkpoints, between two of them: stopped inside of one, it would keep the file locked.
    life = stop_at(job, "checkpointed", 2, take)
    assert life.code == 1
    assert "was taken by another process" in life.said
    with Store(job.state, write=False) as store:
        assert store.history()[0].info["events"] <= lines[0]  # no checkpoint since
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_killed_owner_holds_nothing(nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]

    def kill(process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert stop_at(job, "write", 4, kill).killed
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_second_signal_ends_it_at_once_and_loses_nothing(nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]

    def watch(process, phase, n):
        if (phase, n) == ("learn", 5):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.005)
            process.send_signal(signal.SIGTERM)

    life = job.run(watch=watch)
    assert life.code in (0, 128 + signal.SIGTERM)
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_copy_of_everything_goes_on_elsewhere(nursery, whole, tmp_path):
    """A state belongs to the path that it reads: the same path again, from a backup of the whole folder."""
    job = make_job("file", tmp_path / "job", nursery)
    job.tamper = [["blocks_of", 160]]
    job.run(watch=lambda process, phase, n: (phase, n) == ("learn", 12) and process.send_signal(signal.SIGKILL))
    shutil.copytree(job.folder, tmp_path / "backup")
    job.finish()
    shutil.rmtree(job.folder)
    (tmp_path / "backup").rename(job.folder)
    job.finish()
    assert not job.outcome().differences(whole("file"))
