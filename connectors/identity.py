"""What a file is known again by: its inode, and a checksum of its first bytes."""

from __future__ import annotations

import os
import zlib

import msgspec

HEAD_BYTES = 1024


class Identity(msgspec.Struct, array_like=True, frozen=True):
    """Of one file. `head_bytes` is less than HEAD_BYTES for a file that was short when we looked."""

    inode: int
    head_bytes: int
    head_crc: int

    @classmethod
    def of(cls, fd: int) -> Identity:
        """As the open file is now."""
        head = os.pread(fd, HEAD_BYTES, 0)
        return cls(os.fstat(fd).st_ino, len(head), zlib.crc32(head))

    def head_is(self, fd: int) -> bool:
        """Whether the open file begins as this one did."""
        head = os.pread(fd, self.head_bytes, 0)
        return len(head) == self.head_bytes and zlib.crc32(head) == self.head_crc

    def is_open_as(self, fd: int) -> bool:
        """Whether the open file is this one."""
        return os.fstat(fd).st_ino == self.inode and self.head_is(fd)


def dump(files: list[Identity]) -> bytes:
    """A position's notes: its file, and those before it, the latest first."""
    return msgspec.msgpack.encode(files)


def load(notes: bytes) -> list[Identity]:
    """What `dump` was given."""
    return msgspec.msgpack.decode(notes, type=list[Identity])
