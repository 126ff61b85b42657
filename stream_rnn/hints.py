"""Hints for mistyped names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str:
    """A hint at the nearest valid name, to be put behind a message, or nothing.

    >>> nearest("temprature", ["temperature", "time"])
    '; did you mean temperature?'
    """
    close = difflib.get_close_matches(word, list(names), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
