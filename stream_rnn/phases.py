"""Where the engine is, told to whoever wants to kill it there: the hooks of the recovery tests.

Off, as always outside of tests, a hook is a call of an empty function, a few times a block. It is switched on by
the environment, before the process starts:

    STREAM_RNN_PHASES=PATH      a file or a FIFO: as a phase is entered, "name\n" is appended to it, unbuffered
    STREAM_RNN_STALL=name:n     besides: the thread that enters that phase for the n-th time stands still in it for
                                ever, once its line is written, while the other threads go on: kill it at leisure
    STREAM_RNN_STALL=name:n:s   the same, but after s seconds it goes on

The phases, in the order of an event's way:

    open         a shard takes its outputs and its state
    restore      a snapshot has been chosen, and its keys are being loaded
    read         a block is about to be read
    journal      inside the transaction that puts a block of a source that cannot replay into its journal
    rotation     a followed file has been read to its end, and the next one is about to be opened
    replay       a block that begins at or before a mark is about to be learnt again
    learn        a block is about to be decoded and learnt from
    recall       a spilled key's state is about to be read from the store
    write        a block has been learnt, and its outputs are about to be written
    between      predictions of a block are written, and its dead letters are not yet
    commit       outputs are about to be made durable
    committed    outputs are durable, and nothing else has happened yet
    copy         a checkpoint begins: outputs are being made durable through its position, states are about to be copied
    checkpoint   inside the transaction of a checkpoint, in the helper thread
    rows         the same, after its key states are in
    checkpointed the checkpoint is in the store, and neither acknowledged nor settled
    share        a snapshot is about to be sent to where any machine finds it, in a thread of its own
    shared       it is there
    spill        keys are about to be dropped from memory
    setting      a live setting has been logged, and is not in force yet
    stop         asked to stop: the last commit and checkpoint are ahead
"""

from __future__ import annotations

import os
import threading
import time

PHASES = (
    "open", "restore", "read", "journal", "rotation", "replay", "learn", "recall", "write", "between", "commit",
    "committed", "copy", "checkpoint", "rows", "checkpointed", "share", "shared",
    "spill", "setting", "stop",
)  # fmt: skip


class _Teller:
    """Writes each phase to a file."""

    def __init__(self, path: str, stall: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        name, _, rest = stall.partition(":")
        number, _, seconds = rest.partition(":")
        self._stall, self._left = name, int(number or 1)
        self._seconds = float(seconds) if seconds else 1e9
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            os.write(self._fd, f"{name}\n".encode())
            self._left -= name == self._stall
            stalls = name == self._stall and self._left == 0
        if stalls:
            time.sleep(self._seconds)


def _nothing(name: str) -> None:
    """Off."""


_path = os.environ.get("STREAM_RNN_PHASES")
enter = _Teller(_path, os.environ.get("STREAM_RNN_STALL", "")) if _path else _nothing
"""Say that the phase of that name begins."""
