"""Where a shard begins: which snapshot, which position, and when only a person can say.

    the newest snapshot that verifies and that no output is behind   → its position; outputs drop what they have
    an output is there, and its mark is not any more                 → RecoveryError: only a person knows where it ends
    every snapshot is ahead of some output                           → RecoveryError: an output was shortened or lost
    no snapshot: it never came to one                                → the start position, stored before the first read
    no snapshot, and there was one                                   → state.on_missing: replay, fresh or fail
    a snapshot from elsewhere that is further than all that is here  → takes the place of what is here, before that

An output is behind a snapshot if it has not got what it had when that snapshot was made, nor anything from the
snapshot's position on: what is between could never be written again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stream_rnn.connectors import Log, SharedState
from stream_rnn.errors import RecoveryError, StateDamaged
from stream_rnn.outputs import Outputs, position_of
from stream_rnn.parcel import unpack
from stream_rnn.records import Position
from stream_rnn.store import Place, Snapshot, Store

Look = Callable[[Snapshot], "str | None"]


class Begin(NamedTuple):
    """Where to go on from; `remark` is for the operator."""

    snapshot: Snapshot | None
    place: Place
    first_time: bool  # nothing of this log was ever read
    remark: str = ""


def mark_name(output: str, log_id: str) -> str:
    """Under which name a snapshot keeps the mark of an output for a log."""
    return f"{output} {log_id}"


def choose(
    store: Store, log: Log, outputs: Outputs, *, start: str, on_missing: str, new_outputs: bool = False,
    shared: SharedState | None = None,
) -> Begin:  # fmt: skip
    """The snapshot and place to begin with."""
    look = None if new_outputs else partial(behind, log=log, outputs=outputs)
    kept = store.kept()
    _recognise(log, kept[0].positions.get(log.id) if kept else None)
    for old in [] if new_outputs else kept:
        if why := forgotten(old, log, outputs):
            raise RecoveryError(why)
    refused: RecoveryError | None = None
    try:
        snapshot = store.newest(look)
    except RecoveryError as e:
        snapshot, refused = None, e
    remark = ""
    taken = False
    if shared is not None:
        taken, remark = _from_elsewhere(store, log, outputs, shared, snapshot, look)
        if taken:
            snapshot = store.newest(look)
    if refused is not None and not taken:
        raise refused
    if snapshot is not None and log.id in snapshot.positions:
        return Begin(snapshot, snapshot.positions[log.id], False, remark)
    known = store.start(log.id)
    if snapshot is not None:  # learnt from other logs so far
        if known is None and outputs.furthest is not None and not new_outputs:
            if store.new:  # the snapshot is what training left, and what came after it is gone
                return _without_state(store, log, outputs, snapshot, known, start, on_missing, remark)
            raise RecoveryError(
                f"{store.path} has never read {log.id}, and an output already ends at {_ends(outputs)}: it was written "
                "from another source. Give this source an output of its own, or move the old one away"
            )
        return Begin(snapshot, known or _first(log, start), known is None, remark)
    lost = store.damaged is not None or (store.new and outputs.furthest is not None)
    if lost and not taken:
        return _without_state(store, log, outputs, None, known, start, on_missing, remark)
    return Begin(None, known or _first(log, start), known is None, remark)


def _from_elsewhere(
    store: Store, log: Log, outputs: Outputs, shared: SharedState, own: Snapshot | None, look: Look | None
) -> tuple[bool, str]:
    """Let a shared snapshot that is further take the place of all that is in the store; whether, and a remark."""
    place = own.positions.get(log.id) if own is not None else None
    place = place or store.start(log.id)
    if shared.position is None or (place is not None and shared.position <= place.position):
        return False, ""
    found = shared.newest()
    try:
        if found is None:
            raise StateDamaged(f"{shared.name}: the snapshot of {log.id} there is damaged")
        parcel = unpack(found.data, shared.name)
    except StateDamaged as e:
        return False, f"{e}; it is not used"
    at = parcel.position(log.id)
    if at is None or (place is not None and at <= place.position):
        return False, ""
    if parcel.snapshot is not None:
        # an output that is on one machine only says nothing about a snapshot from another
        marks = parcel.snapshot.marks
        parcel.snapshot.marks = {name: mark for name, mark in marks.items() if _everywhere(outputs, name)}
        _recognise(log, parcel.snapshot.positions.get(log.id))
        if look is not None and (why := forgotten(parcel.snapshot, log, outputs)):
            raise RecoveryError(why)
        why = None if look is None else look(parcel.snapshot)
        if why is not None and own is None:
            raise RecoveryError(why)
        if why is not None:
            return False, f"the snapshot in {shared.name} is not used: {why}"
    before = "nothing of it was here" if place is None else f"here it was at {_text(place.position)}"
    remark = f"taken over from {shared.name}, at {log.name}{_text(at)}; {before}"
    if store.damaged is not None:
        remark += f"; {store.damaged}"
    store.take_over(parcel.snapshot, parcel.rows, parcel.settings, parcel.starts)
    return True, remark


def _everywhere(outputs: Outputs, mark: str) -> bool:
    return getattr(outputs.outputs.get(mark.partition(" ")[0]), "everywhere", False)


def seed(store: Store, log_id: str, trained: Path) -> None:
    """Let a new shard begin with what `train` has learnt into the folder's first database."""
    if store.start(log_id) is not None or store.history() or not trained.exists():
        return
    with Store(trained, write=False) as source:
        snapshot = source.newest()
        if snapshot is not None:
            generation, snapshot.generation = snapshot.generation, 0
            store.checkpoint(snapshot, source.rows(generation))


def behind(snapshot: Snapshot, log: Log, outputs: Outputs) -> str | None:
    """Which output has lost something that the snapshot takes as written, and how to go on; None: none has."""
    place = snapshot.positions.get(log.id)
    for name, mark in outputs.marks().items():
        then = snapshot.marks.get(mark_name(name, log.id))
        if then is None or place is None:
            continue
        now = None if mark is None else position_of(mark, log.name)
        if now is None or (now < position_of(then, log.name) and now < place.position):
            found = "is empty" if mark is None else f"ends at {mark}"
            return (
                f"the output of {name} {found}, and it ended at {then} when the checkpoint was made: it was "
                "shortened, replaced or lost. Put it back as it was; or run with --new-outputs to leave the gap and "
                "go on from the checkpoint; or begin anew with another state.path and no outputs, which learns and "
                "writes everything again"
            )
    return None


def forgotten(snapshot: Snapshot, log: Log, outputs: Outputs) -> str | None:
    """Which output is there, but has no mark any more, although the snapshot knows one; None: none has lost it.

    Unlike an output that is gone with its mark, such a one cannot be begun again from an older snapshot.
    """
    for name, output in outputs.outputs.items():
        why = getattr(output, "no_mark", "")
        then = snapshot.marks.get(mark_name(name, log.id))
        if why and then is not None and output.mark() is None:
            return (
                f"{why}. The output of {name} ended at {then} when the checkpoint was made. Or run with --new-outputs, "
                "which goes on from the checkpoint and may write again what came after it; or begin anew with another "
                "state.path, another name and new outputs"
            )
    return None


def _recognise(log: Log, place: Place | None) -> None:
    """Raise if a place is of another log of that name: then marks mean nothing."""
    if place is not None and hasattr(log, "recognise"):
        log.recognise(place.notes)


def _first(log: Log, start: str) -> Place:
    position = log.first(start)
    return Place(position, log.notes(position))


def _without_state(
    store: Store, log: Log, outputs: Outputs, trained: Snapshot | None, known: Place | None, start: str,
    on_missing: str, remark: str,
) -> Begin:  # fmt: skip
    """There was a state and it is gone or damaged beyond use; `trained` is what it had begun with, if it is known."""
    why = store.damaged or f"{store.path} is new, and an output already ends at {_ends(outputs)}"
    if remark:
        why = f"{remark}; {why}"
    if on_missing == "fail":
        raise RecoveryError(
            f"{why}. Put the state back; or let state.on_missing be \"replay\" (learn again from the start, "
            'and write only what is not out yet) or "fresh" (begin with nothing learnt where the outputs end)'
        )
    end = outputs.furthest
    if on_missing == "fresh" and end is not None:
        return Begin(trained, Place(end), False, f"{why}; begun with nothing learnt at {log.name}{_text(end)}")
    if known is None and start == "latest" and end is not None:
        return Begin(trained, Place(end), False, f"{why}; where it began is not known either, so it goes on at "
                     f"{log.name}{_text(end)} with nothing learnt")  # fmt: skip
    place = known or _first(log, start)
    return Begin(trained, place, known is None, f"{why}; learning again from {log.name}{_text(place.position)}")


def _ends(outputs: Outputs) -> str:
    return ", ".join(f"{mark} ({name})" for name, mark in outputs.marks().items() if mark is not None)


def _text(position: Position) -> str:
    return "/".join(map(str, position))
