"""`stream-rnn eval FILE --task text`: bits per byte of a file, prequential, whole or in part."""

import gzip
import io
import json
import sys

import pytest

from stream_rnn import cli
from stream_rnn.textmodel import TextModel

FAST = ["--set", "model.hidden=16"]
TEXT = "A network that guesses a text symbol by symbol.\nIt learns – as it comes.\n" * 30


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def told(capsys, *arguments):
    assert cli.main(["eval", *map(str, arguments), "--task", "text", "--json", *FAST]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert cli.main(["eval", *map(str, arguments)]) == cli.USAGE
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def test_it_tells_what_the_model_would_have_taken(file, capsys):
    said = told(capsys, file)
    model = TextModel(hidden=16)
    costs = model.learn(TEXT)
    assert said["bytes"] == len(TEXT.encode()) == len(costs)
    assert said["bits_per_byte"] == pytest.approx(costs.mean())
    assert said["updates"] == model.counters["updates"]
    baselines = [said["baselines"][name]["bits_per_byte"] for name in ("order-2", "order-0")]
    assert said["bits_per_byte"] < baselines[0] < baselines[1] < 8
    assert said["config"]["hidden"] == 16


def test_characters_are_scored_per_byte_too(file, capsys):
    said = told(capsys, file, "--set", "model.unit=chars")
    assert (said["bytes"], said["characters"]) == (len(TEXT.encode()), len(TEXT))
    bits = said["bits_per_byte"] * said["bytes"]
    assert bits == pytest.approx(said["bits_per_character"] * said["characters"])
    assert bits == pytest.approx(TextModel(unit="chars", hidden=16).learn(TEXT).sum())


def test_max_updates_ends_the_learning_and_not_the_guessing(file, capsys):
    assert (few := told(capsys, file, "--max-updates", 3))["updates"] == 3
    assert few["bytes"] == len(TEXT.encode())
    assert few["bits_per_byte"] > told(capsys, file)["bits_per_byte"]


def test_gzip_standard_input_and_a_limit(file, tmp_path, capsys, monkeypatch):
    packed = tmp_path / "book.gz"
    packed.write_bytes(gzip.compress(TEXT.encode()))
    expected = told(capsys, file, "--limit", 500)
    assert expected["bytes"] == 500
    assert told(capsys, packed, "--limit", 500)["bits_per_byte"] == expected["bits_per_byte"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert told(capsys, "-", "--limit", 500)["bits_per_byte"] == expected["bits_per_byte"]


def test_the_table_has_all_of_it_and_a_pipe_gets_lines(file, capsys):
    assert cli.main(["eval", file, "--task", "text", *FAST]) == 0
    out = capsys.readouterr().out
    for word in ("book.txt", "bits/byte", "stream-rnn", "network alone", "last two symbols", "bytes/s", "updates"):
        assert word in out


def test_a_config_file_may_name_the_task(file, tmp_path, capsys):
    (tmp_path / "job.toml").write_text('[event]\ntask = "text"\n[model]\nhidden = 16\nkind = "rnn"\n')
    assert cli.main(["eval", file, "--config", str(tmp_path / "job.toml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["config"]["kind"] == "rnn"
    assert said["bits_per_byte"] == said["network_bits_per_byte"]


@pytest.mark.parametrize("option", ["--target=x", "--key=x", "--horizon=3", "--out=o.csv", "--report=r.html"])
def test_what_belongs_to_numbers_is_refused_by_name(option, file, capsys):
    assert option.split("=", maxsplit=1)[0] in refused(capsys, file, "--task", "text", option)


def test_wrong_input_is_one_clear_line(file, tmp_path, capsys):
    assert "empty" in refused(capsys, _written(tmp_path, b""), "--task", "text", *FAST)
    bad = _written(tmp_path, b"abc\xff")
    assert "byte 3" in refused(capsys, bad, "--task", "text", "--set", "model.unit=chars", *FAST)
    assert "no such file" in refused(capsys, tmp_path / "none.txt", "--task", "text").lower()
    assert "folder" in refused(capsys, tmp_path, "--task", "text")
    assert "model.horizons" in refused(capsys, file, "--task", "text", "--set", "model.horizons=1")
    assert "'bytes'" in refused(capsys, file, "--task", "text", "--set", "model.unit=byte").replace("bytes", "'bytes'")
    assert "--max-updates" in refused(capsys, file, "--target", "x", "--max-updates", "3")


def _written(folder, content):
    path = folder / f"{len(content)}.txt"
    path.write_bytes(content)
    return path
