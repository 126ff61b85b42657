"""Text ↔ symbols, one of 256 each: its UTF-8 bytes, or its characters in the order in which they first came."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError

Symbols = NDArray[np.uint8]

SYMBOLS = 256
END = "\n"  # follows every record
ELSE_BITS = math.log2(0x110000)  # which of all characters it is, that has no symbol of its own


class Alphabet(Protocol):
    """What a unit of text can do. `end`: the symbol of a line's end; `extra`: bits that symbol 0 costs besides."""

    end: int
    extra: float

    def symbols(self, text: str | bytes) -> Symbols: ...
    def text(self, symbols: Symbols) -> str | bytes: ...
    def pack(self) -> NDArray[np.uint32]: ...
    def unpack(self, packed: NDArray[np.uint32]) -> None: ...


class Bytes:
    """Each byte is its own symbol."""

    end, extra = 10, 0.0

    def symbols(self, text: str | bytes) -> Symbols:
        """uint8 (n,).

        >>> Bytes().symbols("hé")
        array([104, 195, 169], dtype=uint8)
        """
        return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)

    def text(self, symbols: Symbols) -> bytes:
        """The other way round."""
        return symbols.tobytes()

    def pack(self) -> NDArray[np.uint32]:
        """Nothing is learnt here."""
        return np.zeros(0, np.uint32)

    def unpack(self, packed: NDArray[np.uint32]) -> None:
        """Nothing to take up."""


class Characters:
    """A character has a symbol from its second time on, while there are some left; until then it is symbol 0."""

    end, extra = 1, ELSE_BITS

    def __init__(self) -> None:
        self._known = {END: self.end}

    def symbols(self, text: str | bytes) -> Symbols:
        """uint8 (n,); UnicodeDecodeError where bytes are no UTF-8.

        >>> Characters().symbols("häää")
        array([0, 0, 3, 3], dtype=uint8)
        """
        known = self._known
        text = text if isinstance(text, str) else bytes(text).decode()
        out = bytearray()
        for character in text:
            symbol = known.get(character, 0)
            out.append(symbol)
            if not symbol and len(known) < SYMBOLS - 1:
                known[character] = len(known) + 1
        return np.frombuffer(bytes(out), np.uint8)

    def text(self, symbols: Symbols) -> str:
        """The other way round; symbol 0 becomes �."""
        characters = ["\N{REPLACEMENT CHARACTER}", *self._known]
        return "".join(characters[s] if s < len(characters) else characters[0] for s in symbols.tolist())

    def pack(self) -> NDArray[np.uint32]:
        """The characters that have a symbol."""
        return np.array([ord(c) for c in self._known], np.uint32)

    def unpack(self, packed: NDArray[np.uint32]) -> None:
        """Take up what `pack` gave."""
        self._known = {chr(c): i + 1 for i, c in enumerate(packed.tolist())}


UNITS: dict[str, Any] = {"bytes": Bytes, "chars": Characters}


def alphabet(unit: str) -> Alphabet:
    """The alphabet of a unit; ConfigError for any other."""
    if unit not in UNITS:
        raise ConfigError(f"unit = {unit!r}: it must be one of {', '.join(map(repr, UNITS))}")
    return UNITS[unit]()  # type: ignore[no-any-return]
