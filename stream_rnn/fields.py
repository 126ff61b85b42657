"""Fields: events (flat dicts) → columns of numbers, and which feature has which place among a model's inputs.

    keys    one a row: None, a str, an int, bytes, or a tuple of those for a compound key
    time    float64 (n,), epoch seconds, NaN where an event has none
    values  float64 (n, S), the S series: first the targets, then the features in the order they turned up; NaN: missing

A block is read column by column, in one pass each where its values are plain numbers; only what is odd is
looked at value by value. What comes out depends on the sequence of events alone, never on the blocks.

A feature is numeric (two inputs: its level and its step) or, where it is named and brings text, a choice
among BUCKETS hashed classes. It gets its place with its first usable value; `units` counts places of two inputs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Real
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.records import BadEvent, Event, Key, flatten

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Column = Sequence[Any]

LARGEST = 1e30  # of a value: its steps still fit a float32, and its square over the smallest scale a float64
BUCKETS = 8  # classes of a feature that is text
TEXT_UNITS = BUCKETS // 2

_PLAIN = {float, int, bool, type(None)}
_NUMBERS = {float, int}
_TEXTS = {str, type(None)}
_EPOCH = datetime(1970, 1, 1)
_YEAR_1 = (datetime(1, 1, 1) - _EPOCH).total_seconds()
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_WRONG = math.inf  # what `number` and `moment` say of a value that is none


class Place(NamedTuple):
    """Where a feature's inputs are."""

    column: int  # of `values`
    unit: int  # its first pair of inputs, counted over the features
    text: bool


class Block(NamedTuple):
    """A block of events as columns; rows are the good events, in order."""

    keys: list[Key]
    time: Floats
    values: Floats
    bad: dict[int, BadEvent]  # by number within the block of events
    cuts: list[tuple[int, int]]  # (row, units): from this row on, so many units are needed


class Fields:
    """What the fields of an event mean, and the places of its features (which are state: `pack`, `unpack`)."""

    def __init__(
        self,
        targets: Sequence[str],
        key: tuple[str, ...] = (),
        time: str | None = None,
        features: Sequence[str] | None = None,
        max_features: int = 32,
        ignored: Sequence[str] = (),
    ) -> None:
        self.targets = tuple(targets)
        self.key = tuple(key)
        self.time = time
        self.named = None if features is None else tuple(f for f in dict.fromkeys(features) if f not in self.targets)
        self.max_features = max_features
        self.places: dict[str, Place] = {}
        self.units = 0
        self.masked = 0  # values of a wrong type, hidden
        self.over_limit = 0  # values of features that found no place left
        self.bad = 0  # events refused
        self._reserved = {*self.targets, *self.key, *ignored, "@timestamp", "@key"} | ({time} if time else set())
        needed = [*self.targets, *self.key, *([time] if time else []), *(self.named or ())]
        self._dotted = tuple(n for n in needed if "." in n)
        self._needed = tuple(dict.fromkeys([*needed, "@timestamp"]))
        self._names: tuple[str, ...] = ()  # of the newest block: a guess for the next

    def read(self, events: Sequence[Event]) -> Block:
        """Columns of a block; features that are new get their places."""
        n = len(events)
        columns = self._columns(flat_events(events, self._dotted) if self._dotted else events)
        none: Column = [None] * n
        bad: dict[int, BadEvent] = {}

        def refuse(row: int, cause: str, reason: str) -> None:
            bad.setdefault(row, BadEvent(reason, cause))

        keys = self._keys(columns, n, refuse)
        time = self._times(columns, none, refuse)
        wanted = [self._target(columns.get(t, none), t, refuse) for t in self.targets]
        good = np.ones(n, bool)
        if bad:
            self.bad += len(bad)
            good[list(bad)] = False
            keys = [k for i, k in enumerate(keys) if i not in bad]
        features, cuts = self._features(columns, good)
        values = np.empty((n - len(bad), len(wanted) + len(self.places)))
        for j, series in enumerate(wanted):
            values[:, j] = series[good] if bad else series
        values[:, len(wanted) :] = np.nan
        for name, series in features.items():
            values[:, self.places[name].column] = series[good] if bad else series
        return Block(keys, time[good] if bad else time, values, bad, cuts)

    def layout(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each feature in column order: its first unit, and 1 where it is text; both int64."""
        ordered = sorted(self.places.values())
        return np.array([p.unit for p in ordered], np.int64), np.array([p.text for p in ordered], np.int64)

    def pack(self) -> NDArray[np.uint8]:
        """The places and counts as bytes."""
        names = [(name, place.text) for name, place in self.places.items()]
        return np.frombuffer(msgspec.msgpack.encode([names, self.masked, self.over_limit, self.bad]), np.uint8).copy()

    def unpack(self, packed: NDArray[np.uint8]) -> None:
        """Take up what `pack` gave."""
        try:
            names, self.masked, self.over_limit, self.bad = msgspec.msgpack.decode(
                packed.tobytes(), type=tuple[list[tuple[str, bool]], int, int, int]
            )
        except msgspec.MsgspecError as error:
            raise StateMismatch(f"the saved table of features cannot be read: {error}") from None
        self.places, self.units = {}, 0
        for name, text in names:
            self._place(name, text)

    def _columns(self, events: Sequence[Event]) -> dict[str, Column]:
        """Each name that matters → its values, None where it is absent."""
        if self.named is not None:
            return {name: [e.get(name) for e in events] for name in self._needed}
        if len(self._names) > 1 and set(map(len, events)) == {len(self._names)}:
            try:  # all events have the names of the block before: one pass
                return dict(zip(self._names, zip(*map(itemgetter(*self._names), events), strict=True), strict=True))
            except KeyError:
                pass
        self._names = tuple(sorted(set().union(*events)))
        return {name: [e.get(name) for e in events] for name in self._names}

    def _keys(self, columns: dict[str, Column], n: int, refuse: Callable[[int, str, str], None]) -> list[Key]:
        if not self.key:
            return [None] * n
        parts: list[list[Key]] = []
        for name in self.key:
            column = columns.get(name, [None] * n)
            kinds = set(map(type, column))
            if (kinds == {str} and all(map(str.isascii, column))) or (kinds == {int} and _small(column)):
                parts.append(list(column))
                continue
            part: list[Key] = []
            for row, value in enumerate(column):
                try:
                    part.append(key_of(value))
                except ValueError as error:
                    part.append(None)
                    refuse(row, "key", f"the key field {name!r} is {_show(value)}: {error}")
            parts.append(part)
        return parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))

    def _times(self, columns: dict[str, Column], none: Column, refuse: Callable[[int, str, str], None]) -> Floats:
        arrival = columns.get("@timestamp")
        if self.time is None:
            time, wrong = moments(none if arrival is None else arrival)
            time[wrong] = np.nan
            return time
        column = columns.get(self.time, none)
        time, wrong = moments(column)
        for row in wrong:
            refuse(row, "time", f"the time field {self.time!r} is {_show(column[row])}, which is neither ISO 8601 nor "
                   "an epoch in s, ms, µs or ns")  # fmt: skip
        if arrival is not None and np.isnan(time).any():
            instead, lost = moments(arrival)
            instead[lost] = np.nan
            time = np.where(np.isnan(time), instead, time)
        return time

    def _target(self, column: Column, name: str, refuse: Callable[[int, str, str], None]) -> Floats:
        series, wrong = numbers(column)
        for row in wrong:
            value = column[row]
            what = f"beyond ±{LARGEST:g}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
            refuse(row, "target", f"the target {name!r} is {_show(value)}, {what}; it must be a finite number, "
                   "or null where it is missing")  # fmt: skip
        return series

    def _features(
        self, columns: dict[str, Column], good: Flags
    ) -> tuple[dict[str, Floats], list[tuple[int, int]]]:
        """Series of the features that this block has, over all its events, and where more units are needed."""
        found: dict[str, Floats] = {}
        new: list[tuple[int, str, bool, Floats, list[int]]] = []
        for name in columns if self.named is None else self.named:
            if name in self._reserved:
                continue
            column = columns.get(name, ())
            place = self.places.get(name)
            if place is not None:
                series, wrong = buckets(column) if place.text else numbers(column)
                self.masked += _count(good, wrong)
                found[name] = series
            elif self.named is not None or not set(map(type, column)) <= _TEXTS:
                first, text, series, wrong = self._newcomer(column, good)
                if first >= 0:
                    new.append((first, name, text, series, wrong))
                elif self.named is not None:
                    self.masked += _count(good, wrong)
        cuts: list[tuple[int, int]] = []
        for first, name, text, series, wrong in sorted(new, key=lambda c: c[:2]):
            if self.named is None and len(self.places) >= self.max_features:
                self.over_limit += int((good & ~np.isnan(series)).sum())
                continue
            self._place(name, text)
            found[name] = series
            late = [row for row in wrong if row > first or self.named is not None]
            self.masked += _count(good, late)
            cuts.append((int(good[:first].sum()), self.units))
        return found, cuts

    def _newcomer(self, column: Column, good: Flags) -> tuple[int, bool, Floats, list[int]]:
        """Of a name without a place: row of its first usable value (-1: none), is it text, series, wrong rows."""
        series, wrong = numbers(column)
        first = _first(good & ~np.isnan(series))
        if self.named is not None:
            words, not_words = buckets(column)
            first_word = _first(good & ~np.isnan(words))
            if first_word >= 0 and (first < 0 or first_word < first):
                return first_word, True, words, not_words
            if first < 0:  # neither number nor word
                wrong = [row for row in wrong if np.isnan(words[row])]
        return first, False, series, wrong

    def _place(self, name: str, text: bool) -> None:
        self.places[name] = Place(len(self.targets) + len(self.places), self.units, text)
        self.units += TEXT_UNITS if text else 1


def names_of(field: str, given: Any, *, empty: bool = True) -> tuple[str, ...]:
    """One or several field names as a tuple.

    >>> names_of("key", "id"), names_of("key", ["a", "b"]), names_of("key", None)
    (('id',), ('a', 'b'), ())
    """
    names = () if given is None else (given,) if isinstance(given, str) else given
    names = tuple(names) if isinstance(names, Iterable) else (names,)
    if not all(isinstance(n, str) and n for n in names):
        raise ConfigError(f"{field} = {given!r}: give the name of a field, or a list of names")
    if len(set(names)) < len(names):
        raise ConfigError(f"{field} = {given!r}: a name stands there twice; leave one out")
    if not names and not empty:
        raise ConfigError(f"{field} = {given!r}: give at least one name")
    return names


def key_of(value: Any) -> Key:
    """One part of a key; ValueError says why a value cannot be one.

    >>> key_of("a"), key_of(7.0)
    ('a', 7)
    """
    if isinstance(value, (bool, np.bool_)):
        raise ValueError("a truth value tells too few series apart; use text or a whole number")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)  # 7.0 where a column of whole numbers has gaps
    if isinstance(value, (int, np.integer)):
        if not -(2**63) <= value < 2**63:
            raise ValueError("whole numbers beyond 64 bits cannot be kept; use text")
        return int(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("this text is no valid Unicode") from None
        return str(value)
    if isinstance(value, bytes):
        return value
    raise ValueError("a key is text or a whole number")


def number(value: Any) -> float:
    """A value as a float: NaN where it is missing, ±inf where it is no number of use.

    >>> number(True), number("  "), number("12"), number(None)
    (1.0, nan, inf, nan)
    """
    if value is None or (isinstance(value, str) and (not value.strip() or value.strip().lower() == "nan")):
        return math.nan
    if not isinstance(value, (Real, Decimal, np.bool_)):
        return _WRONG
    try:
        x = float(value)
    except (OverflowError, ValueError):
        return _WRONG
    return _WRONG if abs(x) > LARGEST else x


def numbers(column: Column) -> tuple[Floats, list[int]]:
    """A column as float64, NaN where missing, and the rows (now NaN too) where a value is of a wrong type."""
    series = None
    if set(map(type, column)) <= _PLAIN:
        try:
            series = np.array(column, np.float64)
        except OverflowError:  # a whole number beyond all floats
            series = None
    if series is None:
        series = np.array([number(v) for v in column], np.float64)
    wrong = np.abs(series) > LARGEST
    if not wrong.any():
        return series, []
    series[wrong] = np.nan
    return series, np.flatnonzero(wrong).tolist()


def buckets(column: Column) -> tuple[Floats, list[int]]:
    """A column of text as the numbers of hashed classes, NaN where missing, and the rows of a wrong type."""
    series = np.full(len(column), np.nan)
    wrong = []
    for row, value in enumerate(column):
        if isinstance(value, str) and value.strip():
            series[row] = zlib.crc32(value.encode(errors="surrogatepass")) % BUCKETS
        elif value is not None and not isinstance(value, str) and not math.isnan(number(value)):
            wrong.append(row)
    return series, wrong


def moment(value: Any) -> float:
    """A time as epoch seconds: NaN where there is none, inf where it cannot be read.

    >>> moment("1970-01-02"), moment("1970-01-01T01:00:00+01:00"), moment(1_700_000_000_000)
    (86400.0, 0.0, 1700000000.0)
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return math.nan
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                return _WRONG
    if isinstance(value, datetime):
        return (value - (_EPOCH if value.tzinfo is None else _EPOCH_UTC)).total_seconds()
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day) - _EPOCH).total_seconds()
    if isinstance(value, np.datetime64):
        return math.nan if np.isnat(value) else float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(value, (bool, np.bool_)):
        return _WRONG
    x = number(value)
    return float(_seconds(np.array([x]))[0])


def moments(column: Column) -> tuple[Floats, list[int]]:
    """A column as epoch seconds, NaN where there is none, and the rows (now NaN too) that cannot be read."""
    kinds = set(map(type, column))
    time = None
    if kinds == {str}:
        time = _regular_iso(column)
        if time is None:
            try:
                time = np.array([(t - _EPOCH).total_seconds() for t in map(datetime.fromisoformat, column)], np.float64)
            except (ValueError, TypeError):  # not ISO 8601, or with a zone
                time = None
    elif kinds == {type(None)}:
        return np.full(len(column), np.nan), []
    elif kinds <= _NUMBERS:
        try:
            time = _seconds(np.array(column, np.float64))
        except OverflowError:
            time = None
    if time is None:
        time = np.array([moment(v) for v in column], np.float64)
    wrong = np.isinf(time)
    if not wrong.any():
        return time, []
    time[wrong] = np.nan
    return time, np.flatnonzero(wrong).tolist()


def _regular_iso(column: Sequence[str]) -> Floats | None:
    """Times that are all written as 2024-05-01T10:00:00, or with a space for the T; else None."""
    n, text = len(column), "".join(column)
    mark = text[10:11]
    marks = {"-": text[4::19] + text[7::19], ":": text[13::19] + text[16::19], mark: text[10::19]}
    if len(text) != 19 * n or mark not in ("T", " ") or any(set(found) != {m} for m, found in marks.items()):
        return None
    digits = text.replace("-", "").replace(":", "").replace(mark, "")
    if len(digits) != 14 * n or not (digits.isdecimal() and digits.isascii()):
        return None
    try:
        time = np.array(column, "datetime64[s]").astype(np.float64)
    except ValueError:
        return None
    return time if time.min() >= _YEAR_1 else None  # numpy knows a year 0


def _seconds(epoch: Floats) -> Floats:
    """Epochs in s, ms, µs or ns, each by its size, as seconds; inf beyond all of these.

    Seconds reach to the year 5138, milliseconds back to 1973, and so on by thousands.
    """
    size = np.abs(epoch)
    if (size < 1e11).all():
        return epoch
    per_s = np.where(size < 1e11, 1.0, np.where(size < 1e14, 1e3, np.where(size < 1e17, 1e6, 1e9)))
    return np.where(size < 1e20, epoch / per_s, np.where(np.isnan(size), np.nan, np.inf))


def _first(usable: Flags) -> int:
    """The first row that is True, or -1."""
    return int(usable.argmax()) if usable.any() else -1


def _count(usable: Flags, rows: list[int]) -> int:
    """How many of the rows are True."""
    return sum(bool(usable[row]) for row in rows)


def _small(column: Column) -> bool:
    return bool(min(column) >= -(2**63) and max(column) < 2**63)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def flat_events(events: Sequence[Event], dotted: tuple[str, ...]) -> list[Event]:
    """The events; those that lack a dotted name with their nested dicts flattened."""
    return [e if all(name in e for name in dotted) else flatten(e) for e in events]
