"""An engine as a service: signals, systemd, reloading.

    SIGTERM, SIGINT   the block is finished, outputs are committed, a checkpoint is made, the command ends with 0;
                      a second one ends it at once (128 + its number), and a restart learns the little that was not
                      saved again
    SIGHUP            the config is read again, and what may change live is taken over
    NOTIFY_SOCKET     systemd is told READY, STATUS, RELOADING, STOPPING and, where it wants that, WATCHDOG as long as
                      every shard is moving (systemd's sd_notify(3); a datagram of text)
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from stream_rnn.engine import Engine
from stream_rnn.errors import StreamRnnError

logger = logging.getLogger("stream_rnn.daemon")

_BEAT_S = 1.0  # between two looks at the engine


class Daemon:
    """Runs an engine. `reload` gives the live settings that have changed; it may raise ConfigError."""

    def __init__(self, engine: Engine, reload: Callable[[], dict[str, Any]] | None = None) -> None:
        self.engine = engine
        self._reload = reload
        self._hup = threading.Event()
        self._wake = threading.Event()
        self._asked_to_stop = False
        self._over = False
        self._ready = False
        self._watchdog_s = _watchdog_s()

    def run(self) -> None:
        """Until the stream ends or a signal comes; from the main thread."""
        before = {s: signal.signal(s, self._stop) for s in (signal.SIGTERM, signal.SIGINT)}
        if self._reload is not None and hasattr(signal, "SIGHUP"):
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)
        beat = threading.Thread(target=self._beat, name="daemon", daemon=True)
        beat.start()
        try:
            with seldom_collected():
                self.engine.run()
        finally:
            self._over = True
            self._wake.set()
            beat.join()
            notify("STOPPING=1")
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        if self._asked_to_stop:
            os._exit(128 + number)
        self._asked_to_stop = True
        notify("STOPPING=1")
        logger.info("stopping", extra={"fields": {"signal": signal.Signals(number).name}})
        self.engine.stop()

    def _hang_up(self, number: int, frame: Any) -> None:
        self._hup.set()
        self._wake.set()

    def _beat(self) -> None:
        """Beside the engine: what systemd wants to hear, and reloading."""
        wait_s = min(_BEAT_S, self._watchdog_s / 3) if self._watchdog_s else _BEAT_S
        while not self._over:
            if self._hup.is_set():
                self._hup.clear()
                self._take_over()
            shards = self.engine.status()
            begun = self.engine.joined and all(s["state"] != "starting" for s in shards)
            if not self._ready and begun and not self._asked_to_stop:
                self._ready = True
                notify("READY=1")
            events = sum(s["events"] for s in shards)
            notify(f"STATUS={len(shards)} shards, {events} events")
            if self._watchdog_s and self.engine.moved_within_s() < self._watchdog_s:
                notify("WATCHDOG=1")
            self._wake.wait(wait_s)
            self._wake.clear()

    def _take_over(self) -> None:
        assert self._reload is not None
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            changes = self._reload()
            self.engine.change(changes)
            logger.info("reloaded", extra={"fields": changes or {"changes": "none"}})
        except (StreamRnnError, OSError) as e:
            logger.error("not reloaded, all goes on as before: %s", e)
        notify("READY=1")


@contextlib.contextmanager
def seldom_collected() -> Iterator[None]:
    """Let Python look for reference cycles more seldom: events make many objects and no cycles.

    With its defaults it goes through all records of a transaction again and again, for a quarter of the CPU time that
    an event takes with kafka-python. What is there when the engine starts, modules above all, is no longer looked at.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def notify(text: str) -> None:
    """Tell systemd, if it is there."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(address)
        s.sendall(text.encode())


def _watchdog_s() -> float | None:
    """How long systemd waits between two signs of life, if it does."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) and pid == str(os.getpid()) else None
