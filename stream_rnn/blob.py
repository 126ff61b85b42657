"""Arrays in one piece of bytes: what models save, pickle through and put in a store.

A blob is msgpack {"format", "settings", "arrays": {name: [dtype, shape, bytes]}, "keys", "rows"} with a CRC-32
before it. Nothing in it can run code.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import InputError, StateDamaged, StateMismatch
from stream_rnn.records import Key

_MAGIC = b"stream_rnn\0"
Arrays = dict[str, NDArray[Any]]


def pack_key(key: Key) -> bytes:
    """A key as bytes, one way only; tuples become msgpack arrays.

    >>> unpack_key(pack_key(("plant", 7)))
    ('plant', 7)
    """
    return msgspec.msgpack.encode(key)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def unpack_key(raw: bytes) -> Key:
    """The key that `pack_key` packed."""
    return _tuples(msgspec.msgpack.decode(raw))  # type: ignore[no-any-return]


def pack_array(array: NDArray[Any]) -> list[Any]:
    """[dtype, shape, bytes] of an array."""
    return [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]


def unpack_array(packed: list[Any]) -> NDArray[Any]:
    """The array, writable."""
    dtype, shape, raw = packed
    return np.frombuffer(raw, np.dtype(dtype)).reshape(shape).copy()


def pack(kind: str, settings: dict[str, Any], arrays: Arrays, states: Iterable[tuple[Key, bytes]]) -> bytes:
    """Everything of a model; `kind` names what it is and the number of its format ("learner/1")."""
    keys, rows = [], []
    for key, row in states:
        keys.append(key)
        rows.append(row)
    body = msgspec.msgpack.encode({"format": kind, "settings": settings, "keys": keys, "rows": rows,
                                   "arrays": {name: pack_array(a) for name, a in arrays.items()}})  # fmt: skip
    return _MAGIC + zlib.crc32(body).to_bytes(4, "big") + body


def unpack(raw: bytes, kind: str) -> tuple[dict[str, Any], Arrays, list[tuple[Key, bytes]]]:
    """(settings, arrays, key states). Raises StateDamaged or StateMismatch."""
    what, start = kind.split("/", maxsplit=1)[0], len(_MAGIC) + 4
    if raw[: len(_MAGIC)] != _MAGIC or len(raw) < start:
        raise StateDamaged(f"these {len(raw)} bytes are not a saved {what}")
    body = memoryview(raw)[start:]
    if zlib.crc32(body) != int.from_bytes(raw[len(_MAGIC) : start], "big"):
        raise StateDamaged(f"a saved {what} of {len(raw)} bytes is damaged: its checksum does not agree")
    content = msgspec.msgpack.decode(body)
    if content["format"] != kind:
        raise StateMismatch(f"this is a saved {content['format']!r} and {kind!r} was wanted")
    arrays = {name: unpack_array(a) for name, a in content["arrays"].items()}
    return content["settings"], arrays, list(zip(map(_tuples, content["keys"]), content["rows"], strict=True))


def write_whole(path: str | os.PathLike[str], raw: bytes) -> None:
    """Write a file, whole or not at all."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """What `write_whole` wrote; InputError says why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
