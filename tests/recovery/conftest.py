"""A nursery of processes for all tests here, and what undisturbed ones leave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from recovery.nursery import Nursery
from recovery.scenarios import Whole


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks processes of the command."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def whole(nursery, tmp_path_factory) -> Whole:
    """whole("file"): the outcome of that scenario when nothing happens to it."""
    return Whole(tmp_path_factory.mktemp("whole"), nursery)
