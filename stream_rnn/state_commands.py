"""`status`, `inspect`, `rollback` and `export`: the commands that look at a state, and the one that changes it."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stream_rnn import config, job, onnx_export, safetensors, tasks
from stream_rnn.blob import unpack_key
from stream_rnn.errors import ConfigError, InputError, StateError, StateMismatch
from stream_rnn.model import is_weight
from stream_rnn.records import Key
from stream_rnn.shard import ENGINE_ARRAYS
from stream_rnn.store import Snapshot, Store
from stream_rnn.torch_cells import CellLike, cell_again, is_custom
from stream_rnn.units import age

OK = 0


def status(args: argparse.Namespace) -> int:
    """Where each shard is, as its newest checkpoint says."""
    found = [{"shard": name, **_status(store)} for name, store in _stores(args.state)]
    if args.json:
        print(json.dumps(found, default=str))
        return OK
    for shard in found:
        print(f"shard {shard['shard'] or '(the only one)'}  {shard['file']}, {shard['bytes'] / 1e6:.1f} MB")
        if shard["generation"] is None:
            print("  no checkpoint yet")
            continue
        print(f"  checkpoint {shard['generation']}, {age(shard['created'])} ago, {shard['keys']:,} keys, "
              f"{shard['events']:,} events, {shard['predictions']:,} predictions")  # fmt: skip
        for log, position in shard["positions"].items():
            print(f"  {log}: goes on at {'/'.join(map(str, position))}")
        for output, mark in shard["marks"].items():
            print(f"  {output}: {mark or 'empty'}")
        for what in ("bad", "skipped", "gaps"):
            if shard[what]:
                print(f"  {what}: {shard[what]}")
    return OK


def _status(store: Store) -> dict[str, Any]:
    files = [store.path.with_name(store.path.name + suffix) for suffix in ("", "-wal")]
    about: dict[str, Any] = {"file": str(store.path), "bytes": sum(f.stat().st_size for f in files if f.exists())}
    history = store.history()
    if not history:
        return about | {"generation": None}
    s = history[0]
    return about | {
        "generation": s.generation, "created": s.created_s, "keys": store.count(),
        "positions": {log: place.position for log, place in s.positions.items()}, "marks": s.marks,
        **{name: s.info.get(name, 0) for name in ("events", "predictions", "skipped", "bad", "gaps", "silent")},
    }  # fmt: skip


def inspect(args: argparse.Namespace) -> int:
    """What a state holds; with --key, one key's."""
    for name, store in _stores(args.state):
        snapshot = store.newest()
        if snapshot is None:
            raise StateError(f"{store.path} holds no checkpoint that verifies")
        found = _key_of(store, snapshot, args) if args.key is not None else _whole(store, snapshot)
        if found is not None:
            indent = None if args.json else 2
            print(json.dumps({"shard": name, **found}, default=str, indent=indent, ensure_ascii=False))
            if args.key is not None:
                return OK
    if args.key is not None:
        raise InputError(f"{args.state} has no key {args.key!r}")
    return OK


def _whole(store: Store, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "generation": snapshot.generation, "created": _date(snapshot.created_s), "settings": snapshot.settings,
        "info": snapshot.info, "keys": store.count(),
        "arrays": {n: f"{a.dtype} {list(a.shape)}" for n, a in snapshot.arrays.items()},
        "snapshots": [_line(s) for s in store.history()],
        "settings changed": [msgspec.to_builtins(c) for c in store.settings_log()],
    }  # fmt: skip


def _key_of(store: Store, snapshot: Snapshot, args: argparse.Namespace) -> dict[str, Any] | None:
    """One key's state, by its text; None if it is not here."""
    model = _model(snapshot, args)
    for key in _keys(args.key):
        state = store.recall(key)
        if state is not None:
            model.keyspace.put(key, state)
            rows = {}
            slot = model.keyspace.find(key)
            for name, table in model.keyspace.tables.items():
                row = table.row(slot)
                rows[name] = {"type": str(row.dtype), "numbers": len(row), "first": row[:8].tolist()}
            hidden = model.learner.state(key)
            experts = model.experts_of(key) if hasattr(model, "experts_of") else None  # a text has none
            return {
                "key": key, "bytes": len(state), "seen": store.seen(key), "hidden_norm": float(np.linalg.norm(hidden)),
                "hidden": hidden.tolist(), "experts": experts, "rows": rows,
            }  # fmt: skip
    return None


def _keys(text: str) -> Iterator[Key]:
    """What a key may be that a person writes so: JSON where it is some (7, ["a", 7], null), else the text."""
    with contextlib.suppress(ValueError):
        yield unpack_key(msgspec.msgpack.encode(json.loads(text)))
    yield text


def rollback(args: argparse.Namespace) -> int:
    """Put an older snapshot's weights and optimizer at today's position, as a new checkpoint."""
    stores = _stores(args.state)
    if args.list or args.to is None:
        for name, store in stores:
            print(f"shard {name or '(the only one)'}: {store.path}")
            for snapshot in store.history():
                print(f"  {_line(snapshot)}")
        return OK
    for name, looked in stores:
        to, retain = _generation(looked, args.to), max(1, looked.whole)
        looked.close()
        with Store(looked.path, retain=retain) as store:
            _roll_back(store, to)
        print(f"shard {name or '(the only one)'}: the weights of checkpoint {to} are in force at today's position; "
              "a running job ends now, and goes on from there when it is started again")  # fmt: skip
    return OK


def _roll_back(store: Store, to: int) -> None:
    """Add the checkpoint."""
    now = store.newest()
    if now is None:
        raise StateError(f"{store.path} holds no checkpoint that verifies: there is no position to roll back at")
    past = store.past(to)
    for name in sorted(_weights(now)):
        then, today = past.arrays.get(name), now.arrays.get(name)
        if then is None or today is None or then.shape != today.shape:
            shapes = [None if a is None else list(a.shape) for a in (then, today)]
            raise StateMismatch(f"checkpoint {to} is of a smaller model ({name}: {shapes[0]}, today {shapes[1]}): "
                                "features have been added since. Choose a later one")  # fmt: skip
        now.arrays[name] = then
    now.info = now.info | {"rolled_back_to": to}
    now.created_s = time.time()
    store.checkpoint(now, [])


def _weights(snapshot: Snapshot) -> set[str]:
    """The names of its weights; of a Forecaster whose cell is the user's code without running that."""
    if is_custom(cell := snapshot.settings["cell"]):
        return {n for n in snapshot.arrays if n not in ENGINE_ARRAYS and is_weight(n)}
    weights: set[str] = _loaded(snapshot, cell).weights()
    return weights


def _generation(store: Store, to: str) -> int:
    """A generation by its number, or the newest one before a time."""
    history = store.history()
    if to.isdecimal():
        if int(to) not in [s.generation for s in history]:
            raise InputError(f"--to {to}: {store.path} has no checkpoint of that number; --list shows those it has")
        return int(to)
    try:
        moment = datetime.fromisoformat(to)
    except ValueError:
        raise InputError(f"--to {to}: give a checkpoint's number, or a time as 2024-05-01T10:00Z") from None
    until = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    older = [s.generation for s in history if s.created_s <= until]
    if not older:
        raise InputError(f"--to {to}: the oldest checkpoint is of {_date(history[-1].created_s)}" if history
                         else f"{store.path} has no checkpoint")  # fmt: skip
    return older[0]


def export(args: argparse.Namespace) -> int:
    """The network's weights as safetensors, named and laid out as torch's."""
    stores = _stores(args.state)
    for name, store in stores:
        snapshot = store.newest() if args.generation is None else store.past(args.generation)
        if snapshot is None:
            raise StateError(f"{store.path} holds no checkpoint that verifies")
        target = Path(args.safetensors or args.onnx)
        if len(stores) > 1:
            target = target.with_name(f"{target.stem}-{name}{target.suffix}")
        learner = _model(snapshot, args).learner
        about = {"settings": json.dumps(snapshot.settings), "generation": str(snapshot.generation)}
        if args.onnx:
            onnx_export.write(learner, target, about)
        else:
            safetensors.write(target, learner.parameters, {"format": "pt"} | about)
        print(f"written: {target} ({sum(p.size for p in learner.parameters.values()):,} numbers)")
    return OK


def _model(snapshot: Snapshot, args: argparse.Namespace) -> Any:
    """The snapshot's model, without its keys."""
    given = args.cell
    if given is None and _is_config(args.state):
        given = config.load(args.state).model.cell
    cell = cell_again(snapshot.settings["cell"], given, f"--cell {snapshot.settings['cell']}")
    return _loaded(snapshot, cell)


def _loaded(snapshot: Snapshot, cell: CellLike) -> Any:
    model = tasks.again(snapshot.settings | {"cell": cell})
    model.load_shared({n: a for n, a in snapshot.arrays.items() if n not in ENGINE_ARRAYS})
    return model


def _is_config(given: str) -> bool:
    return Path(given).suffix == ".toml" and Path(given).is_file()


def _stores(given: str) -> list[tuple[str, Store]]:
    """The shards' stores of a state folder, a database, or a config's state, to look at only."""
    path = Path(given)
    if _is_config(given):
        path = Path(config.load(path).state.path)
    if not path.exists():
        raise InputError(f"{path}: there is no such state")
    found = job.databases(path)
    if not found:
        raise ConfigError(f"{path} holds no state of ours (state.db)")
    return [(name, Store(file, write=False)) for name, file in found.items()]


def _line(s: Snapshot) -> str:
    rolled = f", weights of {s.info['rolled_back_to']}" if "rolled_back_to" in s.info else ""
    return f"{s.generation}  {_date(s.created_s)}  {s.info.get('events', 0):,} events{rolled}"


def _date(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

