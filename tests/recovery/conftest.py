"""A nursery of processes for all tests here, what undisturbed ones leave, and the long form on demand."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recovery.nursery import Nursery
from recovery.scenarios import Whole

_MEMORY = Path("/dev/shm")  # a file system in memory: these tests sync thousands of times
_ENOUGH = 1 << 30


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `soak` take hours: only `-m soak` runs them."""
    if "soak" not in config.option.markexpr:
        soak = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks processes of the command."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def whole(nursery: Nursery) -> Iterator[Whole]:
    """whole("file"): the outcome of that scenario when nothing happens to it."""
    with tempfile.TemporaryDirectory(dir=_place(), prefix="stream-rnn-whole-") as folder:
        yield Whole(Path(folder), nursery)


@pytest.fixture(scope="session")
def own(mortal_broker: Any) -> Any:
    """A broker with the topic that most jobs read."""
    from recovery.kafka_job import make_input

    make_input(mortal_broker)
    return mortal_broker


@pytest.fixture(scope="session")
def undisturbed(own: Any, nursery: Nursery) -> Iterator[Any]:
    """What a job from that topic leaves when nothing happens to it."""
    from recovery.kafka_job import TopicJob

    with tempfile.TemporaryDirectory(dir=_place(), prefix="stream-rnn-undisturbed-") as folder:
        job = TopicJob(Path(folder), own, "kafka-python", nursery=nursery)
        job.finish()
        yield job.outcome()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder for one test, gone after it."""
    with tempfile.TemporaryDirectory(dir=_place(), prefix="stream-rnn-test-") as folder:
        yield Path(folder)


def _place() -> Path | None:
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH else None
