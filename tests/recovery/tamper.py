"""What the tests do to a process before it begins: worse disks than it deserves, and engines that are wrong on purpose.

Everything here runs in the process itself (see nursery.py), so that it works without privileges or compilers.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_write, _fsync, _open, _close = os.write, os.fsync, os.open, os.close


def blocks_of(events: int) -> None:
    """Cut the stream into smaller blocks than a config can ask for: more instants in less time."""
    from stream_rnn import job

    policy_of = job.policy_of
    _replace(job, "policy_of", lambda config: policy_of(config) | {"block": events})


def sweep_every(events: int) -> None:
    """Look for silent keys more often than every hundred thousand events."""
    from stream_rnn import idle

    _replace(idle, "SWEEP", events)
    _replace(idle, "_RECENT", 25)


def wait_for_a_change(n: int) -> None:
    """Before the n-th block, stand still until a live setting has been asked for."""
    _wait_before_learning(n, "change")


def wait_to_be_stopped(n: int) -> None:
    """Before the n-th block, stand still until told to end in order."""
    _wait_before_learning(n, "stop")


def _wait_before_learning(n: int, call: str) -> None:
    from stream_rnn.shard import Shard

    told = threading.Event()
    old = getattr(Shard, call)

    def heard(self: Any, *arguments: Any) -> None:
        old(self, *arguments)
        told.set()

    _replace(Shard, call, heard)
    _at_phase("learn", n, lambda: told.wait(60.0))


def stand_still(phase: str, n: int, until: str) -> None:
    """The thread that enters a phase for the n-th time stands still until there is a file of that name."""

    def wait() -> bool:
        end = time.monotonic() + 60.0
        while not os.path.exists(until) and time.monotonic() < end:
            time.sleep(0.002)
        return os.path.exists(until)

    _at_phase(phase, n, wait)


def _at_phase(phase: str, n: int, wait: Callable[[], bool]) -> None:
    from stream_rnn import phases

    times, enter = itertools.count(1), phases.enter

    def entered(name: str) -> None:
        enter(name)
        if name == phase and next(times) == n:
            assert wait(), f"waited in vain in {phase}"

    _replace(phases, "enter", entered)


# Disks


def disk_that_forgets(seed: int, some: float = 0.3) -> None:
    """A power failure: what was written to an output and not synced is lost when the process is killed.

    Now and then (`some`) a part gets to the disk all the same, up to the middle of a line.
    """
    rng = random.Random(seed)
    cached: dict[int, bytearray] = {}
    lock = threading.RLock()  # outputs are synced by one thread while another writes

    def open(path: Any, flags: int, *mode: Any, **more: Any) -> int:
        fd = _open(path, flags, *mode, **more)
        if flags & os.O_RDWR and str(path).endswith(".jsonl"):
            cached[fd] = bytearray()
        return fd

    def flush(fd: int, n: int) -> None:
        with lock:
            n = min(n, len(cached[fd]))
            while n:
                done = _write(fd, cached[fd][:n])
                del cached[fd][:done]
                n -= done

    def write(fd: int, data: Any) -> int:
        if fd not in cached:
            return _write(fd, data)
        with lock:
            cached[fd] += data
            if rng.random() < some:
                flush(fd, rng.randrange(len(cached[fd]) + 1))
        return len(data)

    def fsync(fd: int) -> None:
        if fd in cached:
            flush(fd, len(cached[fd]))
        _fsync(fd)

    def close(fd: int) -> None:
        if fd in cached:
            flush(fd, len(cached[fd]))
            del cached[fd]
        _close(fd)

    for name, new in (("open", open), ("write", write), ("fsync", fsync), ("close", close)):
        _replace(os, name, new)


def files_of_at_most(size: int) -> None:
    """A quota: no file may grow beyond that many bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def count_writes() -> None:
    """Write into the file `writes` how many writes the process came to."""
    _at_writes(lambda n: None, at_end=lambda n: Path("writes").write_text(str(n)))


def failing_write(n: int, error: str, half: bool, ever_after: bool) -> None:
    """The n-th write or sync of all that the process makes fails, SQLite's too; with `half`, in its middle."""
    code = getattr(errno, error)
    _at_writes(lambda i: (code, half) if i == n or (ever_after and i > n) else None)


def slow_sync_that_fails(n: int) -> None:
    """Syncs take a while, so that commits queue up; the n-th fails, and no other."""
    numbers = itertools.count(1)

    def fsync(fd: int) -> None:
        time.sleep(0.005)
        if next(numbers) == n:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        _fsync(fd)

    _replace(os, "fsync", fsync)


def _at_writes(fails: Callable[[int], tuple[int, bool] | None], at_end: Callable[[int], Any] | None = None) -> None:
    """Ask before every write to a file whether and how it fails."""
    numbers = itertools.count(1)
    newest = 0
    lock = threading.Lock()

    def verdict() -> tuple[int, bool] | None:
        nonlocal newest
        with lock:
            newest = next(numbers)
            return fails(newest)

    def write(fd: int, data: Any) -> int:
        if fd > 2 and stat.S_ISREG(os.fstat(fd).st_mode) and (bad := verdict()):
            if bad[1]:
                _write(fd, memoryview(data)[: len(data) // 2])
            raise OSError(bad[0], os.strerror(bad[0]))
        return _write(fd, data)

    def fsync(fd: int) -> None:
        if bad := verdict():
            raise OSError(bad[0], os.strerror(bad[0]))
        _fsync(fd)

    _replace(os, "write", write)
    _replace(os, "fsync", fsync)
    _watch_sqlite(verdict)
    if at_end is not None:
        exit = os._exit
        _replace(os, "_exit", lambda code: (at_end(newest), exit(code)))


class _Vfs(ctypes.Structure):
    """sqlite3_vfs of sqlite3.h, version 3."""

    _fields_ = (
        [("iVersion", ctypes.c_int), ("szOsFile", ctypes.c_int), ("mxPathname", ctypes.c_int)]
        + [(name, ctypes.c_void_p) for name in (
            "pNext", "zName", "pAppData", "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError",
            "xDlSym", "xDlClose", "xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64")]
        + [(name, ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, *rest))
           for name, rest in (("xSetSystemCall", [ctypes.c_void_p]), ("xGetSystemCall", []), ("xNextSystemCall", []))]
    )  # fmt: skip


_kept: list[Any] = []  # what C code points to


def _watch_sqlite(verdict: Callable[[], tuple[int, bool] | None]) -> None:
    """Let SQLite ask, too: it lets its system calls be replaced, for tests like these."""
    vfs = _default_vfs()
    assert vfs is not None
    for name, offset in ((b"pwrite", ctypes.c_long), (b"pwrite64", ctypes.c_int64)):
        old = vfs.xGetSystemCall(ctypes.addressof(vfs), name)
        if not old:
            continue
        type = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, offset,
                                use_errno=True)  # fmt: skip
        call = type(_faulty(type(old), verdict))
        _kept.append(call)
        vfs.xSetSystemCall(ctypes.addressof(vfs), name, ctypes.cast(call, ctypes.c_void_p))


def _faulty(old: Any, verdict: Callable[[], tuple[int, bool] | None]) -> Any:
    def pwrite(fd: int, data: int, size: int, offset: int) -> int:
        bad = verdict()
        if bad is None:
            return int(old(fd, data, size, offset))
        if bad[1]:
            old(fd, data, size // 2, offset)
        ctypes.set_errno(bad[0])
        return -1

    return pwrite


def _default_vfs() -> _Vfs | None:
    """SQLite's own; None where this Python hides it."""
    import _sqlite3

    assert sqlite3.sqlite_version_info >= (3, 8)
    try:
        find = ctypes.CDLL(getattr(_sqlite3, "__file__", None)).sqlite3_vfs_find
    except (AttributeError, OSError):
        return None
    find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
    return find(None).contents


def sqlite_can_be_watched() -> bool:
    """Whether writes of SQLite can be made to fail here."""
    return _default_vfs() is not None


# Engines that are wrong


def mark_filter_off() -> None:
    """Outputs do not drop what they have already."""
    from stream_rnn.outputs import Outputs

    _replace(Outputs, "_first_wanted", lambda self, name, records: 0)


def checkpoint_before_the_output_is_durable() -> None:
    """A checkpoint does not wait for the outputs."""
    from stream_rnn.shard import Shard

    checkpoint = Shard.checkpoint

    def early(self: Any, wait: bool = False) -> None:
        self.commit = lambda wait=True: None
        checkpoint(self, wait)
        del self.commit

    _replace(Shard, "checkpoint", early)


def outputs_are_trusted() -> None:
    """Nobody looks whether an output has lost something."""
    from stream_rnn import recovery

    _replace(recovery, "behind", lambda snapshot, log, outputs: None)


def newer_rows_are_kept() -> None:
    """Key states are taken whatever generation they belong to."""
    from stream_rnn.store import Store

    _replace(Store, "_drop_newer", lambda self, generation: None)


def _replace(owner: Any, name: str, new: Any) -> None:
    """Put something in the place of what must be there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more: the control controls nothing"
    setattr(owner, name, new)
