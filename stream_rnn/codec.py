"""Bytes ↔ events: what a record says becomes a flat dict, or a BadEvent that says why it could not.

Whatever the bytes, `decode` raises nothing: one unreadable record must not stop a stream. Nested objects
are flattened to dotted names ("payload.temperature"); where a record also has that very name at the top
level, the literal name wins. Numbers come out as int or float (NaN and ±Infinity are let through, as
Python's and many others' JSON writers send them), absent and null named fields as None.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from stream_rnn import csvblock, csvtext
from stream_rnn.errors import ConfigError
from stream_rnn.records import BadEvent, Event, Record, flatten

FORMATS = ("json", "csv", "msgpack", "text")
_MISSING = msgspec.UNSET
_LEAF = bool | int | float | str | list[Any] | None | msgspec.UnsetType  # an object here: the slow way flattens it
_OURS = ("@key", "@timestamp")
COLUMNS = "columns"
"""The record header in which a source hands over the CSV header line that a record belongs to."""

_BAD = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError, TypeError, csv.Error)
_LENIENT = re.compile(rb"\b(?:NaN|Infinity)\b|[0-9]{300}|[eE][+]?[0-9]{3}")  # no JSON, or no float: yet sent
_LONG_NUMBER = re.compile(rb"[0-9]{300}")  # an int that no float can hold
_PLAIN = frozenset({str, float, bool, type(None), bytes, list})
_ENCODER = msgspec.json.Encoder(enc_hook=lambda x: plain(x) if plain(x) is not x else str(x))


class Codec:
    """Decodes records of one format, and encodes predictions.

    `fields`: the only names wanted (None: all). `key` and `timestamp`: put the record's own into the event
    as "@key" (text where it is UTF-8, else bytes) and "@timestamp" (epoch seconds) where the record has
    them. `text`: CSV columns that stay text even where they look like numbers (keys: "007" is not "7").
    `columns`: names of the CSV columns where no header line gives them.
    """

    def __init__(
        self,
        format: str = "json",
        *,
        fields: Iterable[str] | None = None,
        key: bool = False,
        timestamp: bool = False,
        text: Iterable[str] = (),
        columns: Sequence[str] | None = None,
        delimiter: str | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if format not in FORMATS:
            raise ConfigError(f"event.format = {format!r}; it must be one of {', '.join(FORMATS)}")
        self.format = format
        self.fields = None if fields is None else tuple(f for f in dict.fromkeys(fields) if f not in _OURS)
        self.max_bytes = max_bytes
        self._key = key
        self._timestamp = timestamp
        self._text = frozenset(text)
        self._columns = None if columns is None else tuple(columns)
        self._delimiter = delimiter
        self._header: bytes | None = None
        self._plan: tuple[str, int, list[tuple[int, str, bool]]] | None = None
        self._decode = {"json": self._json(), "csv": self._csv, "msgpack": self._msgpack,
                        "text": self._plain_text}[format]  # fmt: skip

    def decode(self, records: Sequence[Record]) -> list[Event | BadEvent]:
        """One event or BadEvent a record, in order."""
        events = self._csv_block(records) if self.format == "csv" and len(records) > 1 else None
        return [self._one(record) for record in records] if events is None else events

    def _one(self, record: Record) -> Event | BadEvent:
        value = record.value
        try:
            if value.__class__ is bytes:
                if self.max_bytes is not None and len(value) > self.max_bytes:
                    return BadEvent(f"the record has {len(value)} bytes, more than event.max_bytes = {self.max_bytes}",
                                    "too_large")
                event = self._decode(value, record)
            elif value.__class__ is dict:
                event = self.event(value)
            elif value is None:
                return BadEvent("the record has no value (a tombstone)", "parse")
            else:
                return BadEvent(f"the record's value is a {type(value).__name__}, not bytes or a dict", "parse")
        except _BAD as e:
            return BadEvent(f"the record cannot be read as {self.format}: {_short(e)}", "parse")
        if self._key and record.key is not None:
            event["@key"] = _text_of(record.key)
        if self._timestamp and record.timestamp_ms is not None:
            event["@timestamp"] = record.timestamp_ms / 1000.0
        return event

    # JSON: with named fields a generated struct skips all others without making objects of them.

    def _json(self) -> Callable[[bytes, Record], Event]:
        whole = msgspec.json.Decoder()

        def slow(value: bytes) -> Event:
            return self._pick(_lenient(value) if _LENIENT.search(value) else whole.decode(value))

        def decode(value: bytes, record: Record) -> Event:
            try:
                event = whole.decode(value)
            except msgspec.DecodeError:
                return slow(value)
            if event.__class__ is not dict or (len(value) > 300 and _LONG_NUMBER.search(value)):
                return slow(value)
            if dict in map(type, event.values()):
                return self._pick(event)
            return event

        if self.fields is None:
            return decode
        struct, make = _struct(self.fields)
        named = msgspec.json.Decoder(struct)

        def decode_named(value: bytes, record: Record) -> Event:
            try:
                event = make(named.decode(value))
            except msgspec.DecodeError:
                return slow(value)
            if event is None or (len(value) > 300 and _LONG_NUMBER.search(value)):
                return slow(value)
            return event

        return decode_named

    def _msgpack(self, value: bytes, record: Record) -> Event:
        return self.event(msgspec.msgpack.decode(value))

    def _plain_text(self, value: bytes, record: Record) -> Event:
        return {"text": _text_of(value)}

    def _csv(self, value: bytes, record: Record) -> Event:
        delimiter, width, wanted = self._csv_plan(record)
        row = csvtext.split(value.decode("utf-8"), delimiter)
        if len(row) != width:
            raise ValueError(f"{len(row)} fields where the header has {width}")
        event: Event = {}
        for i, name, is_text in wanted:
            cell = row[i]
            event[name] = (cell or None) if is_text else number_or_text(cell)
        return event

    def _csv_block(self, records: Sequence[Record]) -> list[Event | BadEvent] | None:
        """A regular block of rows at once, else None."""
        values = [r.value for r in records if isinstance(r.value, bytes)]
        headers = records[0].headers
        if len(values) < len(records) or not all(r.headers is headers for r in records):
            return None
        if self.max_bytes is not None and max(map(len, values)) > self.max_bytes:
            return None
        if (self._key or self._timestamp) and any(r.key is not None or r.timestamp_ms is not None for r in records):
            return None
        try:
            plan = self._csv_plan(records[0])
        except _BAD:
            return None
        events = csvblock.events(values, *plan, number_or_text)
        return None if events is None else [*events]

    def _csv_plan(self, record: Record) -> tuple[str, int, list[tuple[int, str, bool]]]:
        """How to take a row apart: delimiter, columns in all, those wanted (index, name, stays text)."""
        line = b"" if self._columns is not None else next((v for k, v in record.headers if k == COLUMNS), None)
        if self._plan is None or line is not self._header:
            if line is None:
                raise ValueError("no header line came with it; name the columns in event.columns")
            if self._columns is not None:
                delimiter, names = self._delimiter or ",", self._columns
            else:
                delimiter, names = csvtext.header(line, self._delimiter)
            fields = None if self.fields is None else set(self.fields)
            wanted = [(i, n, n in self._text) for i, n in enumerate(names) if fields is None or n in fields]
            self._plan, self._header = (delimiter, len(names), wanted), line
        return self._plan

    def event(self, value: Any) -> Event:
        """An event from a typed row (Parquet, memory, msgpack, what a transform gives back): flat, plain values."""
        event = self._pick(value)
        for name, v in event.items():
            if v.__class__ not in _PLAIN:
                event[name] = plain(v)
        return event

    def _pick(self, value: Any) -> Event:
        """Flat, and only the wanted names."""
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__} where an object (name → value) is wanted")
        flat = flatten(value)
        return flat if self.fields is None else {name: flat.get(name) for name in self.fields}

    # Out.

    def encode(self, prediction: Any) -> bytes:
        """One line of JSON, without its newline."""
        return _ENCODER.encode(prediction)


def number_or_text(cell: str) -> int | float | str | None:
    """What a CSV cell says: a number, else text; an empty one is None.

    >>> [number_or_text(c) for c in ("7", "-2.5", "1e3", "", "1_000", "NaN", "plant-7")]
    [7, -2.5, 1000.0, None, '1_000', nan, 'plant-7']
    """
    if not cell:
        return None
    if ":" in cell:  # a time of day: the commonest text, spared the exception
        return cell
    try:
        if len(cell) < 19 and cell.lstrip("-").isdecimal():
            return int(cell)
        number = float(cell)
    except ValueError:
        return cell
    return cell if "_" in cell else number  # "1_000" is a number in Python's eyes only


def plain(value: Any) -> Any:
    """A typed cell as the plain value that a model takes: times as epoch seconds, numpy scalars unwrapped."""
    if value.__class__ is int:
        return value if -(1 << 63) <= value < 1 << 64 else _as_float(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, Decimal):
        return float(value)
    return value.item() if getattr(value, "shape", None) == () else value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _lenient(value: bytes) -> Any:
    """JSON with NaN, Infinity and numbers out of range."""
    event = json.loads(value.decode("utf-8"), parse_int=lambda d: int(d) if len(d) < 300 else float(d))
    json.dumps(event, ensure_ascii=False).encode("utf-8")  # refuses what could not be written again: lone surrogates
    return event


def _struct(fields: Sequence[str]) -> tuple[type[msgspec.Struct], Callable[[Any], Event | None]]:
    """A struct with just these fields, and what makes an event of one (None: it must be looked for the slow way).

    A dotted name may be meant literally or as a path: the struct has a place for both.
    """
    paths = [f for f in fields if "." in f]
    parents = {f.split(".", 1)[0] for f in paths}
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        *down, leaf = path.split(".")
        for part in down:
            inner = node.setdefault(part, {})
            node = inner if isinstance(inner, dict) else {}  # "a.b" and "a.b.c" both named: the slow way for the second
        node.setdefault(leaf, path)
    where: dict[str, str] = {}  # path → attribute expression

    def build(node: dict[str, Any], reached: str) -> type[msgspec.Struct]:
        members: list[tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        for i, (part, inner) in enumerate(node.items()):
            attribute = f"n{i}"
            rename[attribute] = part
            if isinstance(inner, dict):
                members.append((attribute, build(inner, f"{reached}.{attribute}"), _MISSING))
            else:
                members.append((attribute, _LEAF, _MISSING))
                where[inner] = f"{reached}.{attribute}"
        if reached == "r":
            for i, name in enumerate(fields):
                if name not in parents:
                    members.append((f"f{i}", _LEAF, _MISSING if "." in name else None))
                    rename[f"f{i}"] = name
        return msgspec.defstruct("Fields", members, rename=rename, gc=False)

    struct = build(tree, "r")
    parts = []
    for i, name in enumerate(fields):
        if name in parents:
            return struct, lambda r: None
        path = where.get(name, "M")
        parts.append(f"{name!r}: r.f{i} if r.f{i} is not M else {path}" if "." in name else f"{name!r}: r.f{i}")
    event = "{" + ", ".join(parts) + "}"
    found = "None if M in e.values() else e" if paths else "e"
    code = f"def make(r):\n try:\n  e = {event}\n except AttributeError:\n  return None\n return {found}\n"
    scope: dict[str, Any] = {"M": _MISSING}
    exec(code, scope)  # only reprs of the names enter it
    return struct, scope["make"]


def _text_of(key: bytes) -> str | bytes:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        return key


def _short(error: BaseException) -> str:
    text = str(error)
    return text if len(text) <= 200 else text[:200] + "…"
