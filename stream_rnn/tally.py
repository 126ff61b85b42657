"""What an engine counts of one shard: for people, and (`events`) for what happens at event counts.

It is saved with every checkpoint, so that counts go on where the learning does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.records import BadEvent, Prediction

if TYPE_CHECKING:
    from stream_rnn.outputs import Result


class Tally(msgspec.Struct):
    """Counts since the beginning of this state."""

    events: int = 0  # records taken
    predictions: int = 0
    skipped: int = 0  # left out by transform
    bad: dict[str, int] = {}  # by cause
    gaps: int = 0  # times that the source had lost what came next
    alerts: dict[str, int] = {}  # by kind
    silent: int = 0  # keys that started afresh after a long silence, or were deleted for it
    recent: list[float] = []  # event times before the next look for idle keys (idle.py)

    def count(self, results: Sequence[Result]) -> None:
        """One block's."""
        n = len(results)
        self.events += n
        for p in results:
            if p.__class__ is Prediction and p.alert:
                self.alerts[p.alert.kind] = self.alerts.get(p.alert.kind, 0) + 1
        if set(map(type, results)) == {Prediction}:
            self.predictions += n
            return
        for result in results:
            if isinstance(result, BadEvent):
                self.bad[result.cause] = self.bad.get(result.cause, 0) + 1
            elif result is None:
                self.skipped += 1
            else:
                self.predictions += 1

    def told(self) -> dict[str, Any]:
        """For people."""
        return {"events": self.events, "predictions": self.predictions, "skipped": self.skipped,
                "bad": dict(self.bad), "gaps": self.gaps, "silent": self.silent,
                "alerts": dict(self.alerts)}  # fmt: skip

    def pack(self) -> NDArray[np.uint8]:
        """As an array of a checkpoint."""
        return np.frombuffer(msgspec.msgpack.encode(self), np.uint8).copy()

    @classmethod
    def unpack(cls, packed: NDArray[np.uint8] | None) -> Tally:
        """The same again; a new one if there is none."""
        return cls() if packed is None else msgspec.msgpack.decode(packed.tobytes(), type=cls)
