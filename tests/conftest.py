"""Fixtures that several folders of tests use: for each process of tests a Kafka broker to share and one to kill.

A test in `make kafka` that needs one takes Java and the broker from the network once (tests/broker.py). Where there is
no network it is skipped, and the summary says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

_NO_BROKER = "no Kafka broker"


@pytest.fixture(scope="session")
def kafka() -> Iterator[Any]:
    """A running broker that tests share, with a SCRAM user."""
    with _broker() as broker:
        broker.add_scram_user()
        yield broker


@pytest.fixture(scope="session")
def mortal_broker() -> Iterator[Any]:
    """Another."""
    with _broker() as broker:
        yield broker


@pytest.fixture
def mortal(mortal_broker: Any) -> Iterator[Any]:
    """A running broker that the test may kill."""
    yield mortal_broker
    if not mortal_broker.running:
        mortal_broker.start()


def _broker() -> Any:
    from broker import Broker, CannotFetch

    try:
        return Broker()
    except CannotFetch as e:
        pytest.skip(f"{_NO_BROKER}: {e}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests had no broker, in one line; and what long tests have counted (`record_property("proof", …)`)."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.getreports("skipped") if report.longrepr]
    reasons = [reason for reason in reasons if _NO_BROKER in reason]
    if reasons:
        terminalreporter.write_line(f"{len(reasons)} tests skipped: {reasons[0].removeprefix('Skipped: ')[:500]}")
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, text in report.user_properties:
            if name == "proof":
                terminalreporter.write_line(f"{report.nodeid.rsplit('::')[-1]}: {text}")
