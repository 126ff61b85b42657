"""`@kernel`: njit with a disk cache whose key sees every file that holds kernels; `@inner`: what kernels call.

Numba's own cache looks only at the file of the function that it caches, so a change in a helper's file
would leave stale machine code in use. Here the cache folder's name is a digest of all those files and of
Numba's version. The folder is $STREAM_RNN_CACHE_DIR, else the user's cache folder; where neither can be
written, kernels are compiled anew in each process and a log line says so.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba.core import config as _config
from numba.core import event

log = logging.getLogger("stream_rnn")
config: Any = _config  # its attributes are made at run time
_PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def _kernel_files() -> list[pathlib.Path]:
    """Every file whose text can change what a kernel does."""
    outside = [f for f in _PACKAGE.glob("*.py") if "kernels.cache import" in f.read_text(encoding="utf-8")]
    return sorted([*(_PACKAGE / "kernels").glob("*.py"), *outside])


def digest() -> str:
    """Twelve hex digits that change with any kernel file and with Numba's version."""
    text = b"".join(f.name.encode() + b"\0" + f.read_bytes() for f in _kernel_files())
    return hashlib.sha256(text + numba.__version__.encode()).hexdigest()[:12]


def _parent() -> pathlib.Path:
    if chosen := os.environ.get("STREAM_RNN_CACHE_DIR"):
        return pathlib.Path(chosen)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stream_rnn"


@functools.cache
def folder() -> pathlib.Path | None:
    """Where this version's machine code is kept; None where nothing can be written."""
    path = _parent() / f"kernels-{digest()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        log.warning("kernels are compiled anew in each process: %s cannot be written (%s); set STREAM_RNN_CACHE_DIR",
                    path, error.strerror)
        return None
    return path


def drop_stale() -> int:
    """Delete the machine code of other versions; how many folders went."""
    stale = [p for p in _parent().glob("kernels-*") if p != folder()]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)


# no fastmath: the order of operations is what the code says
_OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy"}


def inner(function: Callable[..., Any]) -> Any:
    """A function for kernels to call: compiled into them, not cached by itself."""
    return numba.njit(**_OPTIONS)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """An entry point from Python: compiled on its first call, without the GIL, and cached on disk.

    For functions of a module only: Numba's cache never finds a closure over another compiled function again.
    """
    where = folder()
    if where is None:
        return inner(function)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(where)  # read once, while decorating
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


class _Notice(event.Listener):
    """Says what is being compiled when that takes more than a second; loading from the cache says nothing."""

    def __init__(self, what: str) -> None:
        where = folder()
        kept = f"kept in {where}" if where else "in this process only"
        self._timer = threading.Timer(1.0, log.warning, ("compiling %s, once (about 10 s; %s)", what, kept))
        self._timer.daemon = True

    def on_start(self, event: Any) -> None:
        if self._timer.ident is None:  # the outermost of many
            self._timer.start()

    def on_end(self, event: Any) -> None:
        pass

    def cancel(self) -> None:
        self._timer.cancel()


def compiled(dispatcher: Any, signature: Any, what: str) -> Any:
    """`dispatcher` made ready for `signature`; a compile of more than a second says what it does."""
    notice = _Notice(what)
    with event.install_listener("numba:compile", notice):
        try:
            dispatcher.compile(signature)
        finally:
            notice.cancel()
    return dispatcher
