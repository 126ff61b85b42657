"""The commands around a running job: run, train, check, status, inspect, rollback, export. cli.py registers them."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

from stream_rnn.errors import RecoveryError

DISAGREES = 3

CODES = """\
exit codes:
  0    done, also after SIGTERM or Ctrl-C: everything is saved
  1    failed while running (a disk, a broker, a state that another process has): start again when it is mended
  2    wrong usage, config or input: the message names it
  3    position and outputs disagree, and a person must choose: the message says between what
  130  Ctrl-C before it had begun; 128 + n: ended at once by a second signal n (nothing is lost by that either)
"""


def register(commands: Any) -> None:
    """Add the commands to the command line's subparsers."""
    for add in (_run, _train, _check, _status, _inspect, _rollback, _export):
        add(commands)


def _run(commands: Any) -> None:
    command = commands.add_parser(
        "run",
        help="follow a stream for ever: forecast, learn, write, survive",
        description="Reads the config's source, forecasts each event before it learns from it, and writes the "
        "forecasts to the sink. It may be killed at any instant: a restart goes on without a trace. "
        "SIGTERM ends it in order, SIGHUP reads the config again (what may change live).",
        epilog=f"examples:\n  stream-rnn run job.toml\n  stream-rnn run job.toml --set model.lr=5e-4\n\n{CODES}",
    )
    _config(command)
    command.add_argument(
        "--new-outputs",
        action="store_true",
        help="go on from the newest checkpoint although outputs are not where it knows them (moved away, shortened)",
    )
    command.set_defaults(run=_later("job_commands", "run"))


def _train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="learn history from files; run goes live from there",
        description="Learns files from their first row to their last by the loop that `run` has, writing nothing but "
        "the state. It can be killed and started again like `run`; a file that was learnt is not learnt twice.",
        epilog="examples:\n  stream-rnn train history.csv --config job.toml\n"
        "  stream-rnn train 2023.csv 2024.csv --target temperature --key room --time at --state state\n\n"
        f"[event] and [model] must be as in the job that goes on from it.\n\n{CODES}",
    )
    command.add_argument("file", nargs="+", metavar="FILE", help="CSV, JSON lines (also .gz) or Parquet, oldest first")
    command.add_argument("--state", metavar="DIR", help="where to learn it into (default: the config's state.path)")
    command.add_argument("--config", metavar="TOML", help="take [event], [model] and [state] from a job's config")
    command.add_argument("--target", action="append", metavar="NAME", help="column to forecast (repeatable)")
    command.add_argument("--key", action="append", metavar="NAME", help="column that tells series apart (repeatable)")
    command.add_argument("--time", metavar="NAME", help="column with the time")
    command.add_argument("--features", metavar="A,B", help="columns to learn from besides (default: every numeric one)")
    command.add_argument("--horizon", type=int, metavar="N", help="forecast the next N events, not just one")
    command.add_argument("--format", choices=("csv", "json"), help="where the name doesn't say it")
    _set(command)
    command.set_defaults(run=_later("job_commands", "train"))


def _check(commands: Any) -> None:
    command = commands.add_parser(
        "check",
        help="would this config run? connects, reads one event, writes nothing",
        description="Checks the config, connects to its source, reads one event and shows what would be learnt from "
        "it. Nothing is written, and no running job is disturbed.",
        epilog=f"examples:\n  stream-rnn check job.toml\n  stream-rnn check job.toml --wait 10 --json\n\n{CODES}",
    )
    _config(command)
    command.add_argument("--wait", type=float, default=5.0, metavar="S", help="seconds to wait for one (default 5)")
    _json(command)
    command.set_defaults(run=_later("job_commands", "check"))


def _status(commands: Any) -> None:
    command = commands.add_parser(
        "status",
        help="where each shard is",
        description="Shows where each shard is (a shard is one model on one log: a file, a Kafka partition; shards "
        "share nothing). Of a job with [http] that runs here: what it says itself; else the newest checkpoints. A "
        "running job is not disturbed.",
        epilog="examples:\n  stream-rnn status job.toml\n  stream-rnn status state --json\n"
        "  stream-rnn status job.toml --probe ready     exit 0: yes; 1: no, and why",
    )
    _state(command)
    command.add_argument("--probe", choices=("live", "ready"), help="only ask a running job that, for health checks")
    _json(command)
    command.set_defaults(run=_later("asking", "run"))


def _inspect(commands: Any) -> None:
    command = commands.add_parser(
        "inspect",
        help="what a state holds, or one key of it",
        description="Shows settings, counts, arrays, snapshots and logged changes of a state; with --key, that key's.",
        epilog="examples:\n  stream-rnn inspect state\n  stream-rnn inspect state --key hall\n"
        "  stream-rnn inspect state --key '[\"plant\", 7]'      a compound key",
    )
    _state(command)
    command.add_argument("--key", metavar="K", help='a key: its text, or JSON (7, ["a", 7], null)')
    _cell(command)
    _json(command)
    command.set_defaults(run=_later("state_commands", "inspect"))


def _rollback(commands: Any) -> None:
    command = commands.add_parser(
        "rollback",
        help="go back to older weights, at today's position",
        description="Puts the weights and the optimizer of an older snapshot (the last few, one an hour for a day, one "
        "a day for a month) at today's position, as a new checkpoint. Key states stay as they are, and no event is "
        "read again. A running job ends when it next saves; started again, it goes on from there.",
        epilog="examples:\n  stream-rnn rollback state --list\n  stream-rnn rollback state --to 412\n"
        "  stream-rnn rollback state --to 2024-05-01T10:00Z     the newest before that",
    )
    _state(command)
    command.add_argument("--to", metavar="N|TIME", help="a checkpoint's number, or a time")
    command.add_argument("--list", action="store_true", help="show what there is to go back to (as without --to)")
    command.set_defaults(run=_later("state_commands", "rollback"))


def _export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="the network's weights as a file for others",
        description="Writes the network: its weights as safetensors, in torch's names and layout (weight_ih, "
        "weight_hh, bias_ih, bias_hh, head.weight, head.bias), or one step of it, state in and out, as an ONNX model. "
        "The model's settings are in the file's metadata.",
        epilog="examples:\n  stream-rnn export state --safetensors weights.safetensors\n"
        "  stream-rnn export job.toml --onnx step.onnx",
    )
    _state(command)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--safetensors", metavar="FILE", help="the file of weights to write")
    what.add_argument("--onnx", metavar="FILE", help="the model of one step to write (needs stream-rnn[onnx])")
    command.add_argument("--generation", type=int, metavar="N", help="an older checkpoint's (default: the newest)")
    _cell(command)
    command.set_defaults(run=_later("state_commands", "export"))


def _cell(command: Any) -> None:
    command.add_argument("--cell", metavar="M:C", help='the network\'s cell, "module:Class", where it is your own and '
                         "STATE is no config file that names it: a state does not choose what code runs")  # fmt: skip


def _config(command: Any) -> None:
    command.add_argument("config", metavar="TOML", help="the job's config file")
    _set(command)


def _state(command: Any) -> None:
    command.add_argument("state", metavar="STATE", help="a state folder, one shard's database, or a job's config file")


def _set(command: Any) -> None:
    command.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting over the file's (repeatable)")


def _json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="JSON on standard output")


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A function of a module that is imported only when it is called; a RecoveryError has a code of its own."""

    def run(args: argparse.Namespace) -> int:
        try:
            return int(getattr(importlib.import_module(f"stream_rnn.{module}"), name)(args))
        except RecoveryError as e:
            print(f"stream-rnn: {' '.join(str(e).split())}", file=sys.stderr)
            return DISAGREES

    return run
