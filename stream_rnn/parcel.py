"""A shard's state in one piece of bytes, so that another machine can go on with it.

    magic, CRC-32 of the rest, then frames: a length (uint32) and that much msgpack each
    head          where the log was begun, the log of live settings, and, if there is a snapshot, its header
    arrays        one a frame: name, dtype, shape, bytes
    key states    some hundred a frame: key, time of its last event, state

It holds the newest snapshot of a store, whole, and none of the past ones. Nothing in it can run code.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn.blob import pack_array, pack_key, unpack_array, unpack_key
from stream_rnn.errors import StateDamaged, StateMismatch
from stream_rnn.records import Position
from stream_rnn.store import KeyState, Place, SettingChange, Snapshot, Store

FORMAT = 1
_MAGIC = b"stream_rnn shard\0"
_CRC_AT, _BEGIN = len(_MAGIC), len(_MAGIC) + 4
_LENGTH = struct.Struct("<I")
_ROWS, _PAUSE_S = 100, 5e-5  # as in checkpoints.py: the loop gets the interpreter soon


class _Head(msgspec.Struct, kw_only=True):
    format: int
    starts: dict[str, Place]  # by log id
    settings: list[SettingChange]
    snapshot: dict[str, Any] | None  # a Snapshot without its arrays
    arrays: int = 0  # frames of them
    keys: int = 0  # key states


class Parcel(msgspec.Struct):
    """What `unpack` finds. `rows` can be gone through once; those that changed last come last."""

    starts: dict[str, Place]
    settings: list[SettingChange]
    snapshot: Snapshot | None
    keys: int
    rows: Iterator[KeyState]

    def position(self, log_id: str) -> Position | None:
        """Where that log goes on."""
        if self.snapshot is not None and log_id in self.snapshot.positions:
            return self.snapshot.positions[log_id].position
        return self.starts[log_id].position if log_id in self.starts else None


def pack(path: Path, log_id: str) -> tuple[bytearray, Position]:
    """The state in a store that its owner may be writing to, and where it goes on with that log.

    StateDamaged if something in it does not verify. For a helper thread: it pauses now and then.
    """
    with Store(path, write=False) as store, store.frozen():
        history = store.history()
        snapshot = store.past(history[0].generation) if history else None
        start = store.start(log_id)
        head = _Head(
            format=FORMAT, starts={} if start is None else {log_id: start}, settings=store.settings_log(), snapshot=None
        )
        frames: list[Any] = [head]
        if snapshot is not None:
            head.keys, head.arrays = store.count(), len(snapshot.arrays)
            head.snapshot = {n: getattr(snapshot, n) for n in Snapshot.__struct_fields__ if n != "arrays"}
            frames += [[name, *pack_array(array)] for name, array in snapshot.arrays.items()]
        data = bytearray(_MAGIC + bytes(4))
        for frame in frames:
            _append(data, frame)
        if snapshot is not None:
            _append_rows(data, store.rows(snapshot.generation), head.keys, path)
    struct.pack_into("<I", data, _CRC_AT, zlib.crc32(memoryview(data)[_BEGIN:]))
    at = Parcel(head.starts, [], snapshot, 0, iter(())).position(log_id)
    if at is None:
        raise StateDamaged(f"{path} does not know where {log_id} goes on")
    return data, at


def unpack(data: bytes | bytearray, where: str) -> Parcel:
    """The state that `pack` packed; `where` it comes from is for messages."""
    view = memoryview(data)
    if bytes(view[:_CRC_AT]) != _MAGIC or len(view) < _BEGIN:
        raise StateDamaged(f"{where}: these {len(view)} bytes are no state of a shard")
    if struct.unpack_from("<I", view, _CRC_AT)[0] != zlib.crc32(view[_BEGIN:]):
        raise StateDamaged(f"{where} is damaged: its checksum does not agree")
    frames = _frames(view[_BEGIN:])
    first = next(frames)
    format = msgspec.msgpack.decode(first).get("format")
    if format != FORMAT:
        raise StateMismatch(f"{where} has format {format}, and this version reads {FORMAT}: use the newer stream_rnn "
                            "that wrote it")  # fmt: skip
    head = msgspec.msgpack.decode(first, type=_Head)
    snapshot = None
    if head.snapshot is not None:
        arrays = dict(_array(next(frames)) for _ in range(head.arrays))
        snapshot = msgspec.convert({**head.snapshot, "arrays": {}}, Snapshot)
        snapshot.arrays = arrays
    return Parcel(head.starts, head.settings, snapshot, head.keys, _rows(frames))


def _append(data: bytearray, frame: Any) -> None:
    packed = msgspec.msgpack.encode(frame)
    data += _LENGTH.pack(len(packed))
    data += packed


def _append_rows(data: bytearray, rows: Iterator[KeyState], keys: int, path: Path) -> None:
    found = 0
    batch: list[Any] = []
    for key, state, seen in rows:
        batch.append((pack_key(key), seen, state))
        if len(batch) == _ROWS:
            _append(data, batch)
            found += len(batch)
            batch = []
            time.sleep(_PAUSE_S)
    _append(data, batch)
    found += len(batch)
    if found != keys:
        raise StateDamaged(f"{path}: its newest snapshot has {keys} keys, and {found} of them are here")


def _frames(view: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(view):
        (size,) = _LENGTH.unpack_from(view, at)
        yield view[at + 4 : at + 4 + size]
        at += 4 + size


def _array(frame: memoryview) -> tuple[str, Any]:
    name, *packed = msgspec.msgpack.decode(frame)
    return name, unpack_array(packed)


def _rows(frames: Iterator[memoryview]) -> Iterator[KeyState]:
    """Those that changed last, which a store gives first, come last: so a store wants them."""
    for frame in reversed(list(frames)):
        for key, seen, state in reversed(msgspec.msgpack.decode(frame)):
            yield KeyState(unpack_key(key), state, seen)
