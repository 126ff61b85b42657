"""The frame of the command line: help, hints, exit codes, and how it ends."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

import stream_rnn
from stream_rnn import cli
from stream_rnn.errors import ConfigError, InputError, SinkError


def said(capsys, *args):
    """Exit code, standard output and standard error."""
    code = cli.main(list(args))
    return code, *capsys.readouterr()


def test_help_teaches(capsys):
    code, out, err = said(capsys, "--help")
    assert (code, err) == (0, "")
    for word in ("eval", "demo", "warmup", "examples:", "exit codes: 0 done"):
        assert word in out


@pytest.mark.parametrize("command", ["eval", "demo", "warmup"])
def test_every_command_has_examples(capsys, command):
    code, out, _ = said(capsys, command, "--help")
    assert code == 0
    assert f"examples:\n  stream-rnn {command}" in out


def test_no_command_shows_the_help_and_is_wrong_usage(capsys):
    code, out, _ = said(capsys)
    assert code == 2
    assert "examples:" in out


def test_version(capsys):
    assert said(capsys, "--version") == (0, f"stream-rnn {stream_rnn.__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["evl"], "stream-rnn: there is no command 'evl'; did you mean eval?"),
        (["frobnicate"], "there is no command 'frobnicate'; commands: eval, demo, warmup"),
        (["demo", "--fst"], "stream-rnn demo: there is no option or argument '--fst'; did you mean --fast?"),
        (["demo", "--seconds", "soon"], "'soon': give a number above 0"),
        (["demo", "--seconds", "inf"], "'inf': give a number above 0"),
        (["demo", "--events", "-3"], "'-3': give a whole number from 1"),
        (["demo", "file.csv"], "there is no option or argument 'file.csv'"),
        (["eval"], "required: FILE"),
        (["warmup", "--cell", "gnu"], "invalid choice: 'gnu'"),
    ],
)
def test_wrong_usage_is_one_line(capsys, args, told):
    code, out, err = said(capsys, *args)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("k1 = 0:\n it must be 1"), 2, "stream-rnn: k1 = 0: it must be 1\n"),
        (InputError("no such file"), 2, "stream-rnn: no such file\n"),
        (SinkError("the disk is gone"), 1, "stream-rnn: the disk is gone\n"),
        (OSError(28, "No space left on device", "out.csv"), 1, "stream-rnn: out.csv: No space left on device\n"),
        (KeyboardInterrupt(), 130, "stream-rnn: stopped by Ctrl-C\n"),
    ],
)
def test_errors_are_one_line_and_a_code(capsys, monkeypatch, error, code, told):
    def run(args: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(cli, "_later", lambda module: run)
    assert said(capsys, "warmup") == (code, "", told)


def test_debugging_shows_where_an_error_came_from(monkeypatch):
    def run(args: argparse.Namespace) -> int:
        raise InputError("no such file")

    monkeypatch.setattr(cli, "_later", lambda module: run)
    monkeypatch.setenv("STREAM_RNN_DEBUG", "1")
    with pytest.raises(InputError):
        cli.main(["warmup"])


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "_later", lambda module: lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["warmup"])


def test_help_answers_without_loading_the_machinery():
    code = "import sys; from stream_rnn import cli; cli.main(['--help']); print({'numpy', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_warmup_says_what_is_ready(capsys):
    code, out, _ = said(capsys, "warmup", "--cell", "gru")
    assert code == 0
    assert out.startswith("cache: ")
    assert "gru    ready, " in out
    assert "lstm" not in out
