"""CSV as bytes, the little that both a source and the codec must agree on: delimiter, header, open quotes.

RFC 4180 with two freedoms: the delimiter may be a comma, semicolon, tab or bar (the header decides), and
a quote in the middle of an unquoted field is a plain character.
"""

from __future__ import annotations

import csv
from functools import lru_cache

from stream_rnn.errors import InputError

DELIMITERS = ",;\t|"


@lru_cache(maxsize=64)
def header(line: bytes, delimiter: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The delimiter and the column names that a header line gives; InputError if it is none.

    >>> header(b'time;"a;b";c')
    (';', ('time', 'a;b', 'c'))
    """
    try:
        text = line.decode("utf-8")
        chosen = delimiter or _guess(text)
        names = tuple(name.strip() for name in split(text, chosen))
    except (UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"the first line is no CSV header ({e}): {line[:60]!r}") from None
    if "\0" in text:
        raise InputError(f"the first line holds NUL bytes, so this is no CSV: {line[:60]!r}")
    names = tuple(name or f"column{i}" for i, name in enumerate(names, 1))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the CSV header has the column {twice[0]!r} twice; give each column its own name")
    return chosen, names


def split(text: str, delimiter: str) -> list[str]:
    """The fields of one record, still text; csv.Error if its quotes do not close.

    >>> split('1,"a,b",', ",")
    ['1', 'a,b', '']
    """
    if '"' not in text:
        return text.split(delimiter)
    return next(csv.reader([text], delimiter=delimiter, strict=True))


def quote_open(line: bytes, delimiter: bytes, inside: bool = False) -> bool:
    """Whether a quoted field is still open at the end of `line`, which began `inside` one or not.

    >>> quote_open(b'1,"two', b","), quote_open(b'5" pipe,3', b",")
    (True, False)
    """
    at = 0
    while True:
        if inside:
            at = line.find(b'"', at)
            if at < 0:
                return True
            if line[at + 1 : at + 2] == b'"':  # "" inside quotes is a quote
                at += 2
                continue
            inside, at = False, at + 1
        elif line[at : at + 1] == b'"' and (at == 0 or line[at - 1 : at] == delimiter):
            inside, at = True, at + 1
        else:
            at = line.find(delimiter + b'"', at)
            if at < 0:
                return False
            inside, at = True, at + 2


def _guess(text: str) -> str:
    plain = text if '"' not in text else "".join(text.split('"')[::2])
    return max(DELIMITERS, key=plain.count)
