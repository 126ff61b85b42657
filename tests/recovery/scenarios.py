"""The jobs that are killed: plain, from standard input, across rotation, with keys on disk; what each must leave."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from recovery import stream
from recovery.job import Job, Outcome
from recovery.nursery import Nursery

_NO_CHECKPOINTS = {"state.checkpoint_interval": "1h"}
SCENARIOS: dict[str, dict[str, Any]] = {
    "file": {"records": 4000},
    "clean": {"records": 2500, "bad": 0.0},
    "replay": {"records": 3000, "settings": _NO_CHECKPOINTS},
    "stdin": {"records": 3000, "source": "stdin"},
    "follow": {"records": 6000, "source": "follow", "rotate_every": 250},
    "spill": {"records": 4000, "keys": 600, "settings": {"limits.memory": "1MiB"}},
    "csv": {"records": 3000, "bad": 0.0, "source": "csv"},
    "idle": {"records": 4000, "keys": 400, "churn": 2, "tamper": [["sweep_every", 300]], "settings": {
        "limits.memory": "1MiB", "limits.idle_key_ttl": "500s"}},
    "torch": {"records": 300, "settings": {"model.cell": "cells:Gated", "model.backend": "torch", "model.hidden": 4,
                                           "model.max_features": 4}},
    "alerts": {"records": 4000, "keys": 12, "churn": 700, "settings": {
        "alerts.type": "file", "alerts.path": "alerts.jsonl", "alerts.budget": "60/hour",
        "limits.idle_key_ttl": "1500s", "anomaly.drift": "adwin", "anomaly.on_drift": ["alert", "boost_lr"]}},
    "mixture": {"records": 1500, "keys": 80, "settings": {
        "model.kind": "mixture", "model.k1": 1, "event.horizon": 2, "limits.memory": "1MiB",
        "limits.idle_key_ttl": "60s"}},
    "text": {"records": 1500, "texts": True, "settings": {
        "event.task": "text", "event.target": "said", "model.kind": "mixture", "model.unit": "chars",
        "model.contexts": 4096, "model.k1": 8, "model.k2": 8, "model.max_updates": 3000,
        "limits.idle_key_ttl": "60s"}},
}  # fmt: skip


@cache
def _records(n: int, **how: Any) -> list[bytes]:
    return stream.texts(n) if how.pop("texts", False) else stream.lines(n, **how)


def job(name: str, folder: Path, nursery: Nursery | None, **settings: Any) -> Job:
    """A fresh job of a scenario."""
    scenario = dict(SCENARIOS[name])
    how = {n: scenario.pop(n) for n in ("keys", "bad", "churn", "texts") if n in scenario}
    records = _records(scenario.pop("records"), **how)
    tamper = scenario.pop("tamper", [])
    made = Job(folder, records, nursery=nursery, settings=scenario.pop("settings", {}) | settings, **scenario)
    made.tamper += tamper
    return made


class Whole:
    """What each scenario leaves if nothing disturbs it; run once."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder, self._nursery = folder, nursery
        self._found: dict[str, Outcome] = {}

    def __call__(self, name: str) -> Outcome:
        """Of that scenario."""
        if name not in self._found:
            whole = job(name, self.folder / name, self._nursery)
            whole.finish()
            self._found[name] = whole.outcome()
        return self._found[name]
