"""What a daemon tells on standard error: key=value lines or JSON lines, no flood of them, no secrets.

A record's own fields come in `extra={"fields": {…}}`. Of one message no more than BURST are told in PERIOD_S; the
next one after that says how many were not.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

BURST, PERIOD_S = 10, 10.0
_PLAIN = re.compile(r"[^\s\"=]+")
_SECRET = re.compile(r"(?i)\b(\S*(?:password|secret|token))([=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)")
_CREDENTIALS = re.compile(r"//[^/\s:@]+:[^/\s@]+@")


def configure(level: str = "info", format: str = "text", stream: TextIO | None = None) -> logging.Handler:
    """Send this package's log there from now on; a second call replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLine() if format == "json" else TextLine())
    handler.addFilter(NoFlood())
    logger = logging.getLogger("stream_rnn")
    logger.handlers[:] = [handler]
    logger.propagate = False
    set_level(level)
    return handler


def set_level(level: str) -> None:
    """The least severity that is told."""
    logging.getLogger("stream_rnn").setLevel(level.upper())


def without_secrets(text: str) -> str:
    """The text with what looks like a password blotted out.

    >>> without_secrets('sasl.password="x y" for kafka://me:pw@host')
    'sasl.password=*** for kafka://***@host'
    """
    return _CREDENTIALS.sub("//***@", _SECRET.sub(r"\1\2***", text))


class NoFlood(logging.Filter):
    """Lets through so many records of one message in a period."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, Any], list[float]] = {}  # (begin of the period, told, held back)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to tell it."""
        now = time.monotonic()
        state = self._told.setdefault((record.name, record.msg), [now, 0, 0])
        if now - state[0] > PERIOD_S:
            if state[2]:
                record.__dict__.setdefault("fields", {})["not_told"] = int(state[2])
            state[:] = [now, 0, 0]
        if state[1] >= BURST:
            state[2] += 1
            return False
        state[1] += 1
        return True


class TextLine(logging.Formatter):
    """time=… level=info msg="…" name=value …"""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return " ".join(f"{name}={_quoted(value)}" for name, value in _fields(record).items())


class JsonLine(logging.Formatter):
    """The same as an object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(_fields(record), default=str, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
    fields = {"time": at, "level": record.levelname.lower(), "logger": record.name, "msg": record.getMessage()}
    fields |= getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return {n: without_secrets(v) if isinstance(v, str) else v for n, v in fields.items() if v not in ("", None)}


def _quoted(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
