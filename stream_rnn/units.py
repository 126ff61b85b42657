"""Durations, sizes and secrets as people write them in a config file."""

from __future__ import annotations

import re
import time

_DURATIONS = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_PERIODS = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629800.0, "year": 31557600.0}
_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/|per)\s*([a-z]+)\s*")
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-zµ]+)\s*")


def seconds(text: str) -> float:
    """A duration in seconds.

    >>> seconds("100ms"), seconds("30d")
    (0.1, 2592000.0)
    """
    return _quantity(text, _DURATIONS, 'a number and a unit: "100ms", "30s", "5min", "12h", "30d"')


def nbytes(text: str) -> int:
    """A size in bytes.

    >>> nbytes("1MiB"), nbytes("1.5kB")
    (1048576, 1500)
    """
    return int(_quantity(text, _SIZES, 'a number and a unit: "500kB", "64MiB", "4GiB"'))


def per(text: str) -> float:
    """How often, as times a second; a month is a twelfth of a year of 365.25 days.

    >>> per("1/hour") * 3600, round(per("2 per week") * 604800)
    (1.0, 2)
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if not match or match[2] not in _PERIODS or not float(match[1]) > 0:
        raise ValueError('give a number and a time: "1/week", "3/day", "10/month"')
    return float(match[1]) / _PERIODS[match[2]]


def show_seconds(value: float) -> str:
    """The shortest way to write it.

    >>> show_seconds(0.1), show_seconds(30), show_seconds(2592000)
    ('100ms', '30s', '30d')
    """
    for unit in ("d", "h", "min", "s", "ms"):
        if value >= _DURATIONS[unit] and value % _DURATIONS[unit] == 0:
            return f"{value / _DURATIONS[unit]:g}{unit}"
    return f"{value * 1e3:g}ms"


def show_bytes(value: int) -> str:
    """The shortest way to write it.

    >>> show_bytes(4 << 30), show_bytes(1000)
    ('4GiB', '1kB')
    """
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
        if value >= _SIZES[unit] and value % _SIZES[unit] == 0:
            return f"{value // _SIZES[unit]}{unit}"
    return f"{value}B"


def age(since_s: float) -> str:
    """How long ago a moment of epoch seconds was."""
    passed = max(0.0, time.time() - since_s)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= size:
            return f"{passed / size:.1f} {unit}"
    return f"{passed:.0f} s"


class Secret:
    """A password or token that no repr, log or message shows.

    >>> Secret("hunter2")
    Secret(***)
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _quantity(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if not match or match[2] not in units:
        raise ValueError(f"expected {wanted}")
    return float(match[1]) * units[match[2]]
