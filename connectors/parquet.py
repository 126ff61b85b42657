"""Rows of a Parquet file as typed records. Position: (0, row). The one place that imports pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream_rnn.errors import InputError, SourceError
from stream_rnn.records import Position, Record

_BATCH_ROWS = 4096


class ParquetRows:
    """A Parquet file, read once through, a batch of rows at a time."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'stream-rnn[parquet]'") from None
        self._arrow = pyarrow
        self._path = path
        try:
            self._file: Any = parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError) as e:
            raise InputError(f"{path} cannot be read as Parquet: {e}") from None
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self.rows: int = self._file.metadata.num_rows
        self.seek((0, 0), b"")

    @property
    def finished(self) -> bool:
        """At its end."""
        return self._row >= self.rows

    def seek(self, position: Position, notes: bytes) -> None:
        """Go to a row: straight to its row group, then row by row."""
        self._row = position[1]
        if self._row > self.rows:
            raise SourceError(f"{self._path} has {self.rows} rows, and this state goes on at row {self._row}")
        before = 0
        groups: list[int] = []
        for g in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(g).num_rows
            if groups or before + rows > self._row:
                groups.append(g)
            else:
                before += rows
        self._batches = self._read_batches(groups)
        self._rows: list[dict[str, Any]] = []
        self._skip = self._row - before

    def read(self, limit: int) -> list[Record]:
        """The next rows."""
        while len(self._rows) < limit:
            more = next(self._batches, None)
            if more is None:
                break
            self._rows += more[self._skip :]
            self._skip = max(0, self._skip - len(more))
        rows, self._rows = self._rows[:limit], self._rows[limit:]
        first = self._row
        self._row += len(rows)
        return [Record(row, (0, n), (0, n + 1)) for n, row in enumerate(rows, first)]

    def end(self) -> Position:
        """How many rows it has."""
        return (0, self.rows)

    def notes(self, position: Position) -> bytes:
        """None are needed: a Parquet file is written once."""
        return b""

    def acknowledge(self, position: Position) -> None:
        """Nothing to forget."""

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _read_batches(self, groups: list[int]) -> Iterator[list[dict[str, Any]]]:
        if not groups:
            return
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=groups):
                yield self._arrow.Table.from_batches([batch]).to_pylist()
        except (self._arrow.ArrowException, OSError) as e:
            raise InputError(f"{self._path} cannot be read: {e}") from None
