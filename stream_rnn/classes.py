"""Classes as they come (text, whole numbers, truth values) ↔ codes 0, 1, … in the order of their first labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import StateMismatch

Class = str | int | bool

NEW = math.inf  # the code of a class that is not in the table


class Classes:
    """The table. Classes that are equal in Python are one: True is 1 and 1.0, whichever came first is told."""

    def __init__(self) -> None:
        self.values: list[Class] = []
        self._codes: dict[Class, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: Class) -> int:
        """The code of a class, new if need be."""
        code = self._codes.setdefault(value, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        return code

    def read(self, column: Sequence[Any]) -> tuple[NDArray[np.float64], list[Class | None], dict[int, str]]:
        """Codes (n,), NaN: no label, NEW: of no class here; the classes (None: no label); why a value is none, by row.

        >>> classes = Classes()
        >>> classes.add("up")
        0
        >>> classes.read(["up", None, 2.0, 2.5])
        (array([ 0., nan, inf, nan]), ['up', None, 2, None], {3: 'a class is text, a whole number or a truth value'})
        """
        codes = np.full(len(column), np.nan)
        found: list[Class | None] = [None] * len(column)
        wrong: dict[int, str] = {}
        for row, value in enumerate(column):
            if value is None:
                continue
            try:
                one = class_of(value)
            except ValueError as error:
                wrong[row] = str(error)
                continue
            if one is not None:
                found[row] = one
                codes[row] = self._codes.get(one, NEW)
        return codes, found, wrong

    def pack(self) -> NDArray[np.uint8]:
        """The table as bytes."""
        return np.frombuffer(msgspec.msgpack.encode(self.values), np.uint8).copy()

    def unpack(self, packed: NDArray[np.uint8]) -> None:
        """Take up what `pack` gave."""
        try:
            values = msgspec.msgpack.decode(packed.tobytes(), type=list[bool | int | str])
        except msgspec.MsgspecError as error:
            raise StateMismatch(f"the saved table of classes cannot be read: {error}") from None
        self.values, self._codes = [], {}
        for value in values:
            self.add(value)


def class_of(value: Any) -> Class | None:
    """A label as a class; None where there is none (null, empty text, NaN). ValueError says why it cannot be one.

    >>> class_of("up"), class_of(3.0), class_of(True), class_of(" "), class_of(float("nan"))
    ('up', 3, True, None, None)
    """
    if value.__class__ is str:
        return value if value.strip() else None
    if value.__class__ is bool or value is None:
        return value
    if isinstance(value, np.generic):
        return class_of(value.item())
    if isinstance(value, str):
        return class_of(str(value))
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            value = int(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("whole numbers beyond 64 bits cannot be kept; use text")
        return int(value)
    raise ValueError("a class is text, a whole number or a truth value")
