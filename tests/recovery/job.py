"""A job in a folder: a config, its input and what is left of it; run as a process, killed where a test wants.

`Job.run` is one life of the process. What all lives together have written is `Job.outcome`: it must be the same
whatever happened between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recovery.nursery import Child, Nursery
from recovery.stream import MAX_BYTES, csv, text

from stream_rnn.connectors.stdio import StdinSource
from stream_rnn.errors import StateError
from stream_rnn.journal import JournalLog
from stream_rnn.store import Store

SETTINGS: dict[str, Any] = {
    "event.key": "id", "event.time": "at", "event.target": "v", "event.max_bytes": f"{MAX_BYTES}B",
    "model.kind": "rnn", "model.hidden": 8, "model.k1": 2, "model.k2": 4, "model.lr": 0.01,
    "state.path": "state", "state.commit_interval": "1ms", "state.checkpoint_interval": "4ms",
    "sink.type": "file", "sink.path": "out.jsonl", "dead_letter.type": "file", "dead_letter.path": "dead.jsonl",
    "log.level": "warning",
}  # fmt: skip
_LONGEST_S = 180.0  # no life may take longer


@dataclass
class Kill:
    """kill -9 when a phase is entered for the n-th time, `after_s` later; `stalls`: it waits there to be killed."""

    phase: str
    n: int = 1
    stalls: bool = False
    after_s: float = 0.0


@dataclass
class Life:
    """What came of one run: exit code or minus a signal, the phases it went through, what it said."""

    code: int
    phases: list[str]
    said: str

    @property
    def killed(self) -> bool:
        """By kill -9."""
        return self.code == -signal.SIGKILL


@dataclass
class Outcome:
    """All that a job leaves: outputs and the newest checkpoint, bit for bit."""

    outputs: dict[str, bytes]
    arrays: dict[str, tuple[Any, ...]]  # everything shared, and the engine's counts
    states: dict[Any, tuple[bytes, float | None]] = field(repr=False)  # by key
    positions: list[tuple[int, ...]]

    def differences(self, other: Outcome) -> list[str]:
        """What is not the same, for people; nothing if all is."""
        found = []
        for name in self.outputs | other.outputs:
            a, b = self.outputs.get(name, b""), other.outputs.get(name, b"")
            if a != b:
                found.append(f"{name}: {_first_difference(a.splitlines(), b.splitlines())}")
        names = self.arrays | other.arrays
        found += [f"array {name}" for name in names if self.arrays.get(name) != other.arrays.get(name)]
        wrong = [k for k in self.states | other.states if self.states.get(k) != other.states.get(k)]
        if wrong:
            found.append(f"states of {len(wrong)} keys, such as {wrong[0]}")
        if self.positions != other.positions:
            found.append(f"positions {self.positions} and {other.positions}")
        return found


def _first_difference(a: Sequence[bytes], b: Sequence[bytes]) -> str:
    at = next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
    lines = " and ".join(str(x[at][:200]) if at < len(x) else "nothing" for x in (a, b))
    return f"{len(a)} and {len(b)} lines; line {at + 1} is {lines}"


class Job:
    """`source`: file, csv (gzipped), stdin or follow (rotated every `rotate_every` records)."""

    def __init__(
        self, folder: Path, records: list[bytes], *, nursery: Nursery | None = None, source: str = "file",
        rotate_every: int = 0, settings: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.records = records
        self.source = source
        self.tamper: list[list[Any]] = []  # for every life from now on: see tamper.py
        self.input = folder / ("in.csv.gz" if source == "csv" else "in.jsonl")
        self._nursery = nursery
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)
        end: dict[str, Any] = {"source.type": "stdin"}
        if source != "stdin":
            end = {"source.type": "file", "source.path": self.input.name, "source.follow": source == "follow"}
        self.configure(**SETTINGS | end | (settings or {}))
        self._feeder = Feeder(self.input, records, rotate_every) if source == "follow" else None
        if self._feeder is None:
            self.input.write_bytes(csv(records) if source == "csv" else text(records))

    def configure(self, **settings: Any) -> None:
        """Write the config: its settings by dotted names."""
        self.settings = settings
        sections: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            section, _, last = name.partition(".")
            sections.setdefault(section, {})[last] = value
        (self.folder / "job.toml").write_text("".join(
            f"[{section}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
            for section, values in sections.items()
        ))  # fmt: skip

    def start(self, environ: dict[str, str] | None = None, arguments: Sequence[str] = ()) -> Any:
        """A process of it: forked if there is a nursery, else the command itself."""
        command = ["run", "job.toml", *arguments]
        stdin, stdin_from = (self.input, self._resume_byte()) if self.source == "stdin" else (None, 0)
        if self._nursery is not None:
            return self._nursery.start(command, self.folder, environ or {}, stdin=stdin, stdin_from=stdin_from,
                                       tamper=self.tamper)  # fmt: skip
        assert not self.tamper
        with (
            open(stdin or os.devnull, "rb", buffering=0) as a,
            open(self.folder / "stdout", "ab") as b,
            open(self.folder / "stderr", "ab") as c,
        ):
            a.seek(stdin_from)
            return subprocess.Popen([sys.executable, "-m", "stream_rnn.cli", *command], cwd=self.folder,
                                    env=os.environ | (environ or {}), stdin=a, stdout=b, stderr=c)  # fmt: skip

    def run(
        self, kill: Kill | None = None, *, arguments: Sequence[str] = (),
        watch: Callable[[Any, str, int], None] | None = None, longest_s: float = _LONGEST_S,
    ) -> Life:  # fmt: skip
        """One life: until it ends by itself, or is killed. `watch(process, phase, n)` sees each phase as it comes."""
        self._number += 1
        fifo, said_before = self.folder / f"phases-{self._number}", self.said()
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        environ = {"STREAM_RNN_PHASES": str(fifo)}
        if kill is not None and kill.stalls:
            environ["STREAM_RNN_STALL"] = f"{kill.phase}:{kill.n}"
        if self._feeder is not None:
            self._feeder.step()
        process = self.start(environ, arguments)
        try:
            phases = self._attend(process, reader, kill, watch, longest_s)
            code = process.wait(timeout=longest_s)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        finally:
            os.close(reader)
            fifo.unlink()
        return Life(code, phases, self.said()[len(said_before) :])

    def finish(self) -> Life:
        """A life that nobody disturbs."""
        life = self.run()
        assert life.code == 0, f"exit code {life.code}: {life.said}"
        return life

    def outcome(self) -> Outcome:
        """What is there now."""
        names = [self.settings[n] for n in ("sink.path", "dead_letter.path", "alerts.path") if n in self.settings]
        outputs = {n: (self.folder / n).read_bytes() for n in names if (self.folder / n).exists()}
        with Store(self.state, write=False) as store:
            found = store.newest()
            assert found is not None
            arrays = {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in found.arrays.items()}
            states = {row.key: (bytes(row.state), row.seen) for row in store.rows(found.generation)}
        return Outcome(outputs, arrays, states, [place.position for place in found.positions.values()])

    @property
    def state(self) -> Path:
        """The database."""
        return self.folder / self.settings["state.path"] / "state.db"

    def written(self) -> int:
        """Lines that are out."""
        names = [self.settings[n] for n in ("sink.path", "dead_letter.path")]
        return sum((self.folder / n).read_bytes().count(b"\n") for n in names if (self.folder / n).exists())

    def said(self) -> str:
        """All that its lives have written to standard error."""
        path = self.folder / "stderr"
        return path.read_text() if path.exists() else ""

    def _attend(self, process: Any, reader: int, kill: Kill | None, watch: Any, longest_s: float) -> list[str]:
        """Read the phases as they come, feed, kill."""
        phases: list[str] = []
        counts: dict[str, int] = {}
        rest = b""
        end = time.monotonic() + longest_s
        asked = False
        while True:
            assert time.monotonic() < end, f"a life takes too long; its last phases: {phases[-5:]}"
            if not select.select([reader], [], [], 0.2)[0]:
                if process.poll() is not None:
                    return phases
                continue
            with contextlib.suppress(BlockingIOError):
                data = os.read(reader, 1 << 16)
                if not data:
                    return phases
                *found, rest = (rest + data).split(b"\n")
                for phase in map(bytes.decode, found):
                    phases.append(phase)
                    counts[phase] = n = counts.get(phase, 0) + 1
                    if kill is not None and (phase, n) == (kill.phase, kill.n):
                        time.sleep(kill.after_s)
                        process.send_signal(signal.SIGKILL)
                    if watch is not None:
                        watch(process, phase, n)
                if self._feeder is not None and "read" in counts:
                    if not self._feeder.done:
                        self._feeder.step()
                    elif not asked and self.written() == len(self.records):
                        asked = True
                        process.send_signal(signal.SIGTERM)

    def _resume_byte(self) -> int:
        """Where a sender of standard input goes on: after what the journal has."""
        path = self.state.with_name("journal.db")
        if not path.exists():
            return 0
        try:
            journal = JournalLog(StdinSource(), path)
        except StateError:  # damaged: the job will say so
            return 0
        received = journal.received
        journal.close()
        return len(text(self.records[:received]))


class Feeder:
    """Writes a file bit by bit, in torn lines, and renames it away every so many records."""

    def __init__(self, path: Path, records: list[bytes], rotate_every: int, chunk: int = 40) -> None:
        self.done = False
        self._path = path
        self._rotations = 0
        self._parts = [records[i : i + rotate_every] for i in range(0, len(records), rotate_every)]
        self._chunk = chunk
        self._steps = self._all_steps()

    def step(self) -> None:
        """Append some, or rotate."""
        if next(self._steps, None) is None:
            self.done = True

    def _all_steps(self) -> Any:
        for part in self._parts:
            content = text(part)
            size = self._chunk * len(content) // len(part)
            for start in range(0, len(content), size):
                with self._path.open("ab") as f:
                    f.write(content[start : start + size])
                yield "fed"
            if part is not self._parts[-1]:
                self._rotations += 1
                self._path.rename(self._path.with_name(f"{self._path.name}.{self._rotations}"))
                time.sleep(0.01)  # two files must not bear the same time of change
                self._path.touch()
                yield "rotated"


__all__ = ["Child", "Feeder", "Job", "Kill", "Life", "Outcome"]
