"""`eval --out`: a row an event and target (and step ahead, if several), as CSV, JSON lines or Parquet by suffix.

Columns: time (epoch seconds), key, target, ahead (only if the horizon is above 1), actual, predicted; empty or
null where there is none. `predicted` at `ahead` = i was forecast i events of its key earlier.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError
from stream_rnn.records import Key

Floats = NDArray[np.float64]

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json", ".parquet")


def check(path: Path) -> None:
    """Refuse before the run what could not be written after it."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {path}: the suffix {path.suffix!r} says no format; use one of {', '.join(SUFFIXES)}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise ConfigError("--out: a Parquet file needs pyarrow; pip install 'stream-rnn[parquet]'") from None


class RowWriter:
    """Writes blocks of rows, until `close`."""

    def __init__(self, path: Path, targets: Sequence[str], horizon: int) -> None:
        check(path)
        self.targets = targets
        self.horizon = horizon
        self.names = ["time", "key", "target", *(["ahead"] if horizon > 1 else []), "actual", "predicted"]
        self._kind = path.suffix.lower()
        self._parquet: Any = None
        self._file: Any = None
        if self._kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            number, text = pa.float64(), pa.string()
            types = {
                "time": number,
                "key": text,
                "target": text,
                "ahead": pa.int32(),
                "actual": number,
                "predicted": number,
            }
            self._schema = pa.schema([(n, types[n]) for n in self.names])
            self._parquet = pq.ParquetWriter(path, self._schema)
        else:
            self._file = path.open("w", encoding="utf-8", newline="")
            if self._kind == ".csv":
                csv.writer(self._file, lineterminator="\n").writerow(self.names)

    def close(self) -> None:
        """End the file."""
        (self._file or self._parquet).close()

    def write(self, time: Floats, keys: Sequence[Key], actual: Floats, said: Floats) -> None:
        """Append a block: time and keys (n,), actual (n, T), said (n, T, H)."""
        if not len(time):
            return
        n, each = len(time), len(self.targets) * self.horizon
        columns: dict[str, Sequence[Any]] = {
            "time": _numbers(np.repeat(time, each)),
            "key": [k for k in keys for _ in range(each)],
            "target": [t for t in self.targets for _ in range(self.horizon)] * n,
            "ahead": list(range(1, self.horizon + 1)) * (n * len(self.targets)),
            "actual": _numbers(np.repeat(actual.ravel(), self.horizon)),
            "predicted": _numbers(said.ravel()),
        }
        if self._parquet is not None:
            self._write_parquet(columns)
        elif self._kind == ".csv":
            columns["key"] = [key_text(k) for k in columns["key"]]
            columns["time"] = [int(t) if t is not None and t.is_integer() else t for t in columns["time"]]
            csv.writer(self._file, lineterminator="\n").writerows(self._zip(columns))
        else:
            columns["key"] = [_plain(k) for k in columns["key"]]
            lines = (
                json.dumps(dict(zip(self.names, row, strict=True)), ensure_ascii=False) for row in self._zip(columns)
            )
            self._file.writelines(line + "\n" for line in lines)

    def _zip(self, columns: dict[str, Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
        return zip(*(columns[name] for name in self.names), strict=True)

    def _write_parquet(self, columns: dict[str, Sequence[Any]]) -> None:
        import pyarrow as pa

        columns["key"] = [None if k is None else key_text(k) for k in columns["key"]]
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema))


def key_text(key: Key) -> str:
    """A key for people.

    >>> key_text(None), key_text(("plant", 7)), key_text(b"x")
    ('', 'plant/7', 'x')
    """
    if isinstance(key, tuple):
        return "/".join(key_text(part) for part in key)
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    return "" if key is None else str(key)


def _plain(key: Key) -> Any:
    if isinstance(key, tuple):
        return [_plain(part) for part in key]
    return key_text(key) if isinstance(key, bytes) else key


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(v) else v for v in np.asarray(values).tolist()]
