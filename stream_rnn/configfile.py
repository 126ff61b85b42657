"""TOML with line numbers, ${NAME}s and --set values, checked against structs.

A struct's field says all there is to say about a setting. Its `Annotated` holds bounds (msgspec.Meta), marks
(a duration, a size, one or several names; whether it may change while running) and its meaning, a plain text.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from stream_rnn import units
from stream_rnn.errors import ConfigError
from stream_rnn.hints import nearest

Names = tuple[str, ...]  # a setting's path: ("model", "k1")


class Mark(msgspec.Struct, frozen=True):
    """A note in a field's Annotated."""

    name: str


DURATION = Mark("duration")  # seconds in the program, "100ms" in the file
SIZE = Mark("size")  # bytes in the program, "1MiB" in the file
NAMES = Mark("names")  # a tuple in the program; one text, or a list of texts, in the file
LIVE = Mark("live")  # may change on SIGHUP

_ENV = re.compile(r"\$\$|\$\{([^}]*)\}")
_TABLE = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*=""")
_PART = re.compile(r""""[^"]*"|'[^']*'|[A-Za-z0-9_-]+""")
_SECRET = re.compile(r"password|secret|token(?!\.endpoint)|\.key\.pem$|oauthbearer\.config$")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the sections' structs."""


class Document(msgspec.Struct):
    """A parsed file: its values, and where each was written."""

    tree: dict[str, Any]
    origin: dict[Names, str]  # "job.toml, line 3" or "--set model.k1=4"
    name: str
    raw: dict[Names, str]  # --set values as they were typed, for fields that are texts

    def where(self, path: Names) -> str:
        """Where that setting, or the nearest part of its path, was written."""
        for n in range(len(path), 0, -1):
            if path[:n] in self.origin:
                return self.origin[path[:n]]
        return self.name

    def check_names(self, path: Names, table: Mapping[str, Any], known: Sequence[str]) -> None:
        """Refuse a name that is not known."""
        for name in table:
            if name not in known:
                what = "section or setting" if not path else "setting"
                full = ".".join([*path, name])
                raise ConfigError(f"{self.where((*path, name))}: {full} is no {what}{nearest(name, known)}")

    def table(self, path: Names) -> dict[str, Any]:
        """A section's raw values."""
        value = self.tree
        for part in path:
            value = value[part]
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{self.where(path)}: {'.'.join(path)} is a section: write [{'.'.join(path)}] and "
                    "its settings below"
                )
        return value

    def section(self, path: Names, struct: type[Section], besides: Sequence[str] = ()) -> Any:
        """A section as its struct."""
        table = self.table(path) if path[-1] in self.tree else {}
        hints = typing.get_type_hints(struct, include_extras=True)
        self.check_names(path, table, [*hints, *besides])
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(struct):
            if field.name in table:
                values[field.name] = self.convert((*path, field.name), table[field.name], hints[field.name])
            elif field.required:
                raise ConfigError(
                    f"{self.where(path)}: {'.'.join(path)}.{field.name} is not set: {describe(hints[field.name])}"
                )
        return struct(**values)

    def convert(self, path: Names, value: Any, hint: Any) -> Any:
        """One value as its field wants it."""
        try:
            return _convert(value, hint)
        except ValueError as e:
            error = e
        if path in self.raw:  # --set k=5 where a text is wanted
            try:
                return _convert(self.raw[path], hint)
            except ValueError:
                pass
        shown = "***" if is_secret(path[-1]) else repr(value)
        raise ConfigError(
            f"{self.where(path)}: {'.'.join(path)} = {shown}: {_plain(error)}{_choice(value, hint)}"
        ) from None


def read(path: str | os.PathLike[str] | None, sets: Iterable[str], environ: Mapping[str, str]) -> Document:
    """The file's document (None: an empty one) with `sets` over it."""
    text, name = "", "the settings"
    if path is not None:
        name = os.fspath(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{name}: there is no such file") from None
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{name} cannot be read: {e}") from None
    return parse_text(text, name, sets, environ)


def parse_text(text: str, name: str, sets: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Document:
    """A document from TOML text."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{name}: this is no TOML: {e}") from None
    document = Document(tree, {p: f"{name}, line {n}" for p, n in lines_of(text).items()}, name, {})
    for item in sets:
        _set(document, item)
    document.tree = _with_environment(document, (), document.tree, environ)
    return document


def lines_of(text: str) -> dict[Names, int]:
    """The line on which each table and key is written.

    >>> lines_of('name = "x"\\n[model]\\nk1 = 4\\nkafka."a.b" = 1')
    {('name',): 1, ('model',): 2, ('model', 'k1'): 3, ('model', 'kafka'): 4, ('model', 'kafka', 'a.b'): 4}
    """
    found: dict[Names, int] = {}
    table: Names = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _parts(match[1])
            full = table
        elif match := _KEY.match(line):
            full = (*table, *_parts(match[1]))
        else:
            continue
        for n in range(1, len(full) + 1):
            found.setdefault(full[:n], number)
    return found


def dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names: `bootstrap.servers = …` means the same with and without quotes."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def is_secret(name: str) -> bool:
    """Whether a setting of that name must not be shown.

    >>> [n for n in ("sasl.password", "sasl.username", "token", "ssl.key.pem") if is_secret(n)]
    ['sasl.password', 'token', 'ssl.key.pem']
    """
    return bool(_SECRET.search(name))


def live_fields(struct: type[Section]) -> set[str]:
    """The fields that may change while running."""
    hints = typing.get_type_hints(struct, include_extras=True)
    return {name for name, hint in hints.items() if LIVE in _marks(hint)}


def describe(hint: Any) -> str:
    """A field's meaning."""
    return next((note for note in _annotations(hint) if isinstance(note, str)), "")


def table_of(title: str, struct: type[Section]) -> list[str]:
    """A section's settings as lines of Markdown."""
    lines = [f"### {title}", "", str(struct.__doc__).strip(), ""]
    hints = typing.get_type_hints(struct, include_extras=True)
    if not hints:
        return lines
    lines += ["| setting | type | default | live | meaning |", "|---|---|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        default = "must be set" if field.required else _show(field.default, hint)
        live = "yes" if LIVE in _marks(hint) else ""
        meaning = describe(hint).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {_type_name(hint)} | {default} | {live} | {meaning} |")
    return [*lines, ""]


def _convert(value: Any, hint: Any) -> Any:
    marks = _marks(hint)
    optional = type(None) in _alternatives(hint)
    if DURATION in marks or SIZE in marks:
        if optional and value in ("never", "none"):
            return None
        if not isinstance(value, str):
            unit = "s" if DURATION in marks else "B"
            raise ValueError(f'a unit is wanted, in quotes: "{value}{unit}"')
        value = units.seconds(value) if DURATION in marks else units.nbytes(value)
    elif NAMES in marks:
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and not all(isinstance(v, str) and v for v in value):
            raise ValueError("names, in quotes, are wanted")
    elif units.Secret in _alternatives(hint):
        if not isinstance(value, str) or not value:
            raise ValueError("a text is wanted")
        return units.Secret(value)
    if isinstance(value, bool) and bool not in _alternatives(hint):
        raise ValueError(f"Expected `{_type_name(hint)}`, got `bool`")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is wanted")
    return msgspec.convert(value, hint)


def _plain(error: Exception) -> str:
    return re.sub(r" - at `.*`$", "", str(error)).replace("`", "")


def _choice(value: Any, hint: Any) -> str:
    choices = [c for a in _alternatives(hint) if typing.get_origin(a) is Literal for c in typing.get_args(a)]
    if not choices:
        return ""
    return f"; it is one of {', '.join(choices)}" + (nearest(value, choices) if isinstance(value, str) else "")


def _annotations(hint: Any) -> list[Any]:
    """All that is noted on a hint, also inside `X | None`."""
    found: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        found += hint.__metadata__
        hint = hint.__origin__
        found += _annotations(hint)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            found += _annotations(part)
    return found


def _marks(hint: Any) -> list[Mark]:
    return [m for m in _annotations(hint) if isinstance(m, Mark)]


def _alternatives(hint: Any) -> list[Any]:
    """The plain types that a hint lets through."""
    if typing.get_origin(hint) is Annotated:
        return _alternatives(hint.__origin__)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [a for part in typing.get_args(hint) for a in _alternatives(part)]
    return [hint]


def _type_name(hint: Any) -> str:
    marks = _marks(hint)
    for mark, name in ((DURATION, "duration"), (SIZE, "size"), (NAMES, "name or list of names")):
        if mark in marks:
            return name
    names = {str: "text", int: "integer", float: "number", bool: "true or false", units.Secret: "secret text",
             tuple[float, ...]: "list of numbers"}  # fmt: skip
    parts = []
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is Literal:
            parts += [f"`{c}`" for c in typing.get_args(kind)]
        elif kind is not type(None):
            parts.append(names.get(kind, str(kind)))
    return ", ".join(parts)


def _show(value: Any, hint: Any) -> str:
    if value is None or value == ():
        return "never" if DURATION in _marks(hint) else "unset"
    if NAMES in _marks(hint):
        return ", ".join(f"`{v}`" for v in value)
    if DURATION in _marks(hint):
        return f"`{units.show_seconds(value)}`"
    if SIZE in _marks(hint):
        return f"`{units.show_bytes(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _parts(key: str) -> Names:
    return tuple(part.strip("\"'") for part in _PART.findall(key))


def _set(document: Document, item: str) -> None:
    """Put one "section.name=value" over the file's. Only the first dot parts: Kafka's names have dots of their own."""
    name, equals, raw = item.partition("=")
    name, raw = name.strip(), raw.strip()
    if not equals or not name:
        raise ConfigError(f"--set {item}: write it as section.name=value, for example model.k1=4")
    path: Names = tuple(name.split(".", 1))
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = [part.strip() for part in raw.split(",")] if "," in raw else raw
    node = document.tree
    if len(path) == 2:
        node = node.setdefault(path[0], {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {item}: {path[0]} is no section")
        if path[0] == "kafka":  # the file may have written it without quotes
            flat = dotted(node)
            node.clear()
            node.update(flat)
    node[path[-1]] = value
    document.origin[path] = f"--set {name}={'***' if is_secret(name) else raw}"
    document.raw[path] = raw


def _with_environment(document: Document, path: Names, value: Any, environ: Mapping[str, str]) -> Any:
    """The same value with each ${NAME} replaced; $$ is a dollar sign."""
    if isinstance(value, dict):
        return {k: _with_environment(document, (*path, k), v, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_environment(document, path, v, environ) for v in value]
    if not isinstance(value, str) or "$" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match[1] not in environ:
            raise ConfigError(
                f"{document.where(path)}: {'.'.join(path)} wants ${{{match[1]}}}, and the environment has no "
                f"{match[1]}; export it, or write $${{…}} for the plain text"
            )
        return environ[match[1]]

    replaced = _ENV.sub(replace, value)
    if replaced != value and path not in document.raw:
        document.raw[path] = replaced
        try:  # lr = "${LR}" is a number where a number is wanted
            number = tomllib.loads(f"v = {replaced}")["v"]
        except tomllib.TOMLDecodeError:
            return replaced
        return number if isinstance(number, int | float | bool) else replaced
    return replaced


__all__ = ["DURATION", "LIVE", "NAMES", "SIZE", "Document", "Section", "nearest", "parse_text", "read"]
