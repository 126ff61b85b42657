"""Starts many processes of the command in little time: a server that has all imported forks one for each run.

A forked process runs `stream_rnn.cli.main` as the command does, in a session, a folder and an environment of its
own, and dies of signals as any other. What it does not do is to import NumPy and Numba again, which takes a second.
Before it begins, it may be tampered with: functions of tamper.py and tamper_kafka.py, by name.

The server speaks JSON lines on its standard input and output: {"do": "start", …} → pid; {"do": "wait", …} → status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


class Nursery:
    """The server, seen from a test. `also`: further modules that it is to import."""

    def __init__(self, *also: str) -> None:
        environ = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
        command = [sys.executable, "-m", "recovery.nursery", *also]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)

    def start(
        self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], *, stdin: Path | None = None,
        stdin_from: int = 0, tamper: Sequence[Sequence[Any]] = (),
    ) -> Child:  # fmt: skip
        """`stream-rnn ARGUMENTS` in a folder; its outputs are appended to stdout and stderr there."""
        request = {"do": "start", "arguments": list(arguments), "folder": str(folder), "environ": dict(environ),
                   "stdin": str(stdin or os.devnull), "stdin_from": stdin_from, "tamper": list(tamper)}  # fmt: skip
        return Child(self, self._ask(request))

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


class Child:
    """A process that the server has forked; to be used as a subprocess.Popen."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def send_signal(self, number: int) -> None:
        """Unless it has been waited for."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """How it ended, if it did."""
        return self._look(0.0)

    def wait(self, timeout: float = 60.0) -> int:
        """How it ends."""
        code = self._look(timeout)
        assert code is not None, f"process {self.pid} is still there after {timeout} s"
        return code

    def _look(self, timeout_s: float) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery._ask({"do": "wait", "pid": self.pid, "timeout_s": timeout_s})
        return self.returncode


def serve() -> None:
    """The server's side."""
    _warm_up()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = _start(request) if request["do"] == "start" else _wait(request["pid"], request["timeout_s"])
        print(json.dumps(answer), flush=True)


def _warm_up() -> None:
    """Import all that a run needs, and load the compiled kernels."""
    from stream_rnn.model import Forecaster

    for name in ("cli", "commands", "job_commands", "connectors.file", "connectors.follow", "connectors.stdio",
                 "connectors.kafka", "connectors._kafka_python", "connectors._confluent"):  # fmt: skip
        importlib.import_module(f"stream_rnn.{name}")
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for kind in ("rnn", "mixture"):
        model = Forecaster("v", key="id", time="at", kind=kind)
        model.step_many([{"id": "a", "at": i, "v": 0.1 * i, "w": 1.0} for i in range(40)])


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(request["folder"])
        stdin = os.open(request["stdin"], os.O_RDONLY)
        with contextlib.suppress(OSError):
            os.lseek(stdin, request["stdin_from"], os.SEEK_SET)
        os.dup2(stdin, 0)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), fd)
        os.environ.update(request["environ"])
        code = _run(request)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    from recovery import tamper, tamper_kafka

    from stream_rnn import cli, phases

    importlib.reload(phases)  # the environment is another than the server's
    for name, *arguments in request["tamper"]:
        getattr(tamper if hasattr(tamper, name) else tamper_kafka, name)(*arguments)
    return cli.main(request["arguments"])


def _wait(pid: int, timeout_s: float) -> int | None:
    """Minus the signal that ended it, or its exit code; None: it lives."""
    end = time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.001)


if __name__ == "__main__":
    serve()
