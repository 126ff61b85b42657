"""The commands around a running job: run, train, check, status, inspect, rollback, export. cli.py registers them.

Exit codes: 0 done (also after SIGTERM); 1 failed while running: a disk, a broker, a state in use; 2 wrong usage,
config or input; 3 position and outputs disagree, and a person must choose; 130 ended by Ctrl-C before it began;
128 + n ended at once by a second signal n.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

CODES = """\
exit codes: 0 done, also after SIGTERM or Ctrl-C; 1 failed while running (disk, broker, state in use: start again when
it is mended); 2 wrong usage, config or input; 3 position and outputs disagree, a person must choose (the message
says between what); 128 + n ended at once by a second signal n."""


def register(commands: Any) -> None:
    """Add the commands to the command line's subparsers."""
    _run(commands)


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
        "--new-outputs", action="store_true",
        help="go on from the newest checkpoint although outputs are not where it knows them (moved away, shortened)",
    )  # fmt: skip
    command.set_defaults(run=_later("run"))


def _config(command: Any) -> None:
    command.add_argument("config", metavar="TOML", help="the job's config file")
    command.add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="a setting over the file's, such as model.k1=4 (repeatable)"
    )


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    """A function of command_*.py that is imported only when it is called."""

    def run(args: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module("stream_rnn.job_commands"), name)(args))

    return run
