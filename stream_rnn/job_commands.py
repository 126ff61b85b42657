"""`run` and `train`: the commands that learn."""

from __future__ import annotations

import argparse
import os
from typing import Any

from stream_rnn import config, logs
from stream_rnn.config import Config
from stream_rnn.daemon import Daemon
from stream_rnn.errors import RecoveryError, StateMismatch
from stream_rnn.job import engine_of

OK, DISAGREES = 0, 3


def run(args: argparse.Namespace) -> int:
    """Follow a stream."""
    job = config.load(args.config, args.set or [])
    logs.configure(job.log.level, job.log.format)
    engine = engine_of(job, new_outputs=args.new_outputs)
    Daemon(engine, Reloader(args, job)).run()
    return OK


class Reloader:
    """Reads the config again; says what has changed of what may."""

    def __init__(self, args: argparse.Namespace, job: Config) -> None:
        self._args, self._job = args, job

    def __call__(self) -> dict[str, Any]:
        new = config.load(self._args.config, self._args.set or [], os.environ)
        changes, refused = config.live_changes(self._job, new)
        if refused:
            raise StateMismatch(f"{', '.join(refused)} cannot change while the job runs: put it back, or start again")
        self._job = new
        if "log.level" in changes:
            logs.set_level(changes["log.level"])
        return changes


__all__ = ["RecoveryError", "run"]
