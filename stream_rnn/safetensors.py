"""The safetensors format, written: weights that any framework can read (https://github.com/huggingface/safetensors).

A file is 8 bytes of little-endian length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__": {…}} of
that length, and the arrays' bytes one after the other. Nothing in it can run code.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import InputError

_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int16": "I16",
          "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
_ALIGN = 8  # bytes to which the header is filled up with spaces


def pack(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The file's bytes.

    >>> raw = pack({"w": np.zeros((2, 3), np.float32)}, {"made by": "stream_rnn"})
    >>> len(raw) - 8 - int.from_bytes(raw[:8], "little")
    24
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    pieces = []
    start = 0
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        pieces.append(little.tobytes())
        stop = start + len(pieces[-1])
        header[name] = {"dtype": _TYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN)
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write the file, whole or not at all."""
    write_whole(Path(path), pack(arrays, metadata))


def write_whole(target: Path, raw: bytes) -> None:
    """A file with these bytes, or the one that was there."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_bytes(raw)
        part.replace(target)
    except OSError as e:
        raise InputError(f"{target} cannot be written: {e.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
