"""The tests' own broker: what it is made of is checked, and without a network its tests are skipped, not failed."""

from __future__ import annotations

import shutil

import broker
import pytest
from broker import CannotFetch, cache_folder, jars

pytestmark = pytest.mark.kafka


@pytest.fixture
def no_network(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


@pytest.fixture
def one_jar(kafka, monkeypatch, tmp_path):
    """A lock of one jar, and a cache that has it."""
    line = min(broker.LOCK.read_text().splitlines(), key=len)
    monkeypatch.setattr(broker, "LOCK", tmp_path / "lock.txt")
    broker.LOCK.write_text(line + "\n")
    (path,) = jars(cache_folder())
    ours = tmp_path / "m2" / path.removeprefix(str(cache_folder() / "m2") + "/")
    ours.parent.mkdir(parents=True)
    shutil.copyfile(path, ours)
    return ours


def test_what_the_cache_has_needs_no_network(one_jar, no_network, tmp_path):
    assert jars(tmp_path) == [str(one_jar)]


def test_without_a_network_the_reason_is_said(one_jar, no_network, tmp_path):
    one_jar.unlink()
    with pytest.raises(CannotFetch, match="cannot be fetched"):
        jars(tmp_path)
    assert not one_jar.exists()


def test_a_jar_that_was_cut_off_is_not_used(one_jar, no_network, tmp_path):
    one_jar.write_bytes(one_jar.read_bytes()[:-1])
    with pytest.raises(CannotFetch):
        jars(tmp_path)


def test_a_jar_with_another_sum_is_an_error(one_jar, monkeypatch, tmp_path):
    """What is fetched must be what was locked: that is no reason to skip."""
    whole = one_jar.read_bytes()
    one_jar.unlink()

    def fetched(artifact):
        artifact.cached_path.write_bytes(whole + b"more")

    monkeypatch.setattr("jgo.maven._core.Artifact.resolve", fetched)
    with pytest.raises(RuntimeError, match=r"its SHA-256 is .*removed"):
        jars(tmp_path)
    assert not one_jar.exists()
