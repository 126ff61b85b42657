"""Tables of results to a file, by its suffix: CSV, JSON lines or Parquet. For `eval --out`, not for an engine."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stream_rnn.connectors.file import format_of
from stream_rnn.errors import ConfigError, InputError

_PARQUET_ROWS = 65536


class RowWriter:
    """Writes rows of the given columns; None is an empty cell (CSV) or null. Use it in a `with`, or close it."""

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str]) -> None:
        self.path = Path(path)
        self.columns = tuple(columns)
        self.format = format_of(path)
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._rows: list[Sequence[Any]] = []
        self._parquet: Any = None
        try:
            self._file: Any = gzip.open(path, "wb") if self.path.suffix == ".gz" else self.path.open("wb")  # noqa: SIM115
        except OSError as e:
            raise InputError(f"{path} cannot be written: {e.strerror}") from None
        if self.format == "csv":
            self._text = io.TextIOWrapper(self._file, "utf-8", newline="")
            delimiter = "\t" if ".tsv" in self.path.suffixes else ","
            self._csv = csv.writer(self._text, delimiter=delimiter, lineterminator="\n")
            self._csv.writerow(self.columns)
        elif self.format == "parquet":
            try:
                import pyarrow  # noqa: F401
            except ImportError:
                raise ConfigError(f"{path}: writing Parquet needs pyarrow: pip install 'stream-rnn[parquet]'") from None

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows, each as long as `columns`."""
        if self.format == "csv":
            self._csv.writerows(rows)
        elif self.format == "json":
            encode, columns = self._encoder.encode, self.columns
            self._file.write(b"".join([encode(dict(zip(columns, row, strict=True))) + b"\n" for row in rows]))
        else:
            self._rows.extend(rows)
            if len(self._rows) >= _PARQUET_ROWS:
                self._write_parquet()

    def close(self) -> None:
        """Finish the file."""
        if self._file.closed:
            return
        if self.format == "parquet":
            self._write_parquet()
            self._parquet.close()
        if self.format == "csv":
            self._text.close()
        self._file.close()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write_parquet(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if self._parquet is not None and not self._rows:
            return
        schema = None if self._parquet is None else self._parquet.schema
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * len(self.columns)
        arrays = [_array(c, None if schema is None else schema.field(i).type) for i, c in enumerate(columns)]
        table = pyarrow.table(dict(zip(self.columns, arrays, strict=True)))
        if self._parquet is None:
            self._parquet = parquet.ParquetWriter(self._file, table.schema)
        self._parquet.write_table(table)
        self._rows = []


def _array(cells: Sequence[Any], type: Any) -> Any:
    """A column of numbers where all its cells are, else of text. The first batch decides for the file."""
    import pyarrow

    if type is None:
        numbers = all(c is None or isinstance(c, int | float) for c in cells)
        type = pyarrow.float64() if numbers else pyarrow.string()
    if pyarrow.types.is_string(type):
        return pyarrow.array([c if c is None or isinstance(c, str) else str(c) for c in cells], type)
    return pyarrow.array([c if isinstance(c, int | float) else None for c in cells], type)
