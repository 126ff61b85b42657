"""Models in files: what a model with `to_bytes` and `from_bytes` gets besides."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, Self

from stream_rnn import blob


class Saved(ABC):
    """Saves to a file and loads from it; pickles and copies through the same bytes, in which no code can hide."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The whole model; `from_bytes` goes on bit for bit."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The model that `to_bytes` saved."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, whole or not at all."""
        blob.write_whole(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The model in a file that `save` wrote; InputError if it cannot be read."""
        return cls.from_bytes(blob.read_whole(path))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)
