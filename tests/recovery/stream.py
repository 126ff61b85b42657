"""A stream to be killed on: several series at once, gaps in them, and lines that no one can use."""

from __future__ import annotations

import gzip
import json
import math
import random

MAX_BYTES = 2000  # what the jobs here set event.max_bytes to


def lines(n: int, *, keys: int = 30, seed: int = 0, bad: float = 0.03, churn: int = 0) -> list[bytes]:
    """n records, one a line. `bad`: how many of them cannot be used; 1 in 20 has no value, 1 in 10 lacks a feature.

    `churn`: after so many events one key is gone for good, and a new one comes.
    """
    rng = random.Random(seed)
    levels = [rng.gauss(0.0, 3.0) for _ in range(keys)]
    found = []
    for i in range(n):
        key = min(rng.randrange(keys), rng.randrange(keys))  # some are seen often, some hardly ever
        levels[key] += rng.gauss(0.0, 0.3) + 0.2 * math.sin(i / 40 + key)
        gone = i // churn if churn else 0
        name = f"k{gone + (key - gone) % keys}"
        event = {"id": name, "at": 1_700_000_000 + i, "v": round(levels[key], 4), "on": rng.random() < 0.5}
        if rng.random() < 0.9:
            event["w"] = round(rng.gauss(levels[key], 1.0), 3)
        if rng.random() < 0.05:
            event["v"] = rng.choice([None, "", math.nan])
        found.append(_bad(event, rng) if rng.random() < bad else json.dumps(event).encode())
    return found


def texts(n: int, *, keys: int = 9, seed: int = 0) -> list[bytes]:
    """n records with a text each, some of which no one can use."""
    rng = random.Random(seed)
    words = ["started", "stopped", "pump", "valve", "at", "level", "é", "\n", "error", "none"]
    found = []
    for i in range(n):
        said = " ".join(rng.choices(words, k=rng.randrange(12)))
        event = {"id": f"k{rng.randrange(keys)}", "at": 1_700_000_000 + i, "said": rng.choice([said] * 30 + [7, None])}
        found.append(json.dumps(event).encode() if rng.random() < 0.98 else b"no json")
    return found


def text(records: list[bytes], *, blank_every: int = 97) -> bytes:
    """The records as a file's content; now and then a blank line, which is no record."""
    return b"".join(b"\n" * (i % blank_every == 5) + line + b"\n" for i, line in enumerate(records))


def csv(records: list[bytes]) -> bytes:
    """The same as gzipped CSV: no record is bad but those with a field too many."""
    names = ("id", "at", "v", "w", "on")
    rows = [",".join(names)]
    for i, record in enumerate(records):
        event = json.loads(record)
        rows.append(",".join(str(event.get(name, "")) for name in names) + ",surplus" * (i % 50 == 7))
    return gzip.compress("\n".join(rows).encode() + b"\n", mtime=0)


def _bad(event: dict[str, object], rng: random.Random) -> bytes:
    """A line that must end in the dead letters."""
    whole = json.dumps(event).encode()
    return rng.choice([
        whole[: rng.randrange(1, len(whole))],
        b"\x00\xff{" + whole,
        json.dumps([event]).encode(),
        json.dumps(event | {"v": "warm"}).encode(),
        json.dumps(event | {"id": {"no": "key"}}).encode(),
        json.dumps(event | {"note": "x" * MAX_BYTES}).encode(),
    ])  # fmt: skip
