"""One job has one process: a second one is refused, and a former one writes nothing more."""

from __future__ import annotations

import shutil
import signal
import time

import pytest
from recovery.scenarios import job as make_job

from stream_rnn.store import Store


def stopped_at(phase, n, then):
    """A `watch`: SIGSTOP at that instant, do `then`, SIGCONT."""

    def watch(process, now, count):
        if (now, count) == (phase, n):
            process.send_signal(signal.SIGSTOP)
            then()
            process.send_signal(signal.SIGCONT)

    return watch


@pytest.mark.parametrize("phase", ["learn", "committed", "rows"])
def test_a_second_start_is_refused_while_the_first_is_only_stopped(phase, nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]
    codes = []
    life = job.run(watch=stopped_at(phase, 3, lambda: codes.append(job.start().wait())))
    assert (codes, life.code) == ([1], 0)
    assert "is written by another process" in life.said
    assert not job.outcome().differences(whole("file"))


def test_a_former_owner_writes_nothing_more(nursery, whole, tmp_path):
    """The state is taken by another job's process, with outputs of its own, while the first one is only stopped."""
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]
    lines = []

    def take():
        with Store(job.state) as store:
            store.newest()
        lines.append(job.written())

    # The thread of checkpoints stands still, so that it is not stopped inside of the next one, with the file locked.
    life = job.run(stall="checkpointed:2:3", watch=stopped_at("checkpointed", 2, take))
    assert life.code == 1
    assert "was taken by another process" in life.said
    with Store(job.state, write=False) as store:
        assert store.history()[0].info["events"] <= lines[0]  # no checkpoint since
    job.finish()
    assert not job.outcome().differences(whole("file"))


def test_a_killed_owner_holds_nothing(nursery, whole, tmp_path):
    job = make_job("file", tmp_path, nursery)
    job.tamper = [["blocks_of", 160]]

    def watch(process, phase, n):
        if (phase, n) == ("write", 4):
            process.send_signal(signal.SIGSTOP)
            process.send_signal(signal.SIGKILL)
            process.wait()

    assert job.run(watch=watch).killed
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
