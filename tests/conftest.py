"""Fixtures that several folders of tests use."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def kafka():
    """A running broker that tests share; who kills brokers starts one of its own."""
    from broker import Broker

    with Broker() as broker:
        broker.add_scram_user()
        yield broker
