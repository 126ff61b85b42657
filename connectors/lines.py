"""Bytes in, line records out: the part that plain, gzipped, followed and piped files share.

A record is a line without its line end; blank lines are none. Its position is (generation, byte): the
byte is counted in the text as it is read (after gunzip). In CSV a quoted field may hold line breaks where
`quoted_breaks` allows it; one that does not close within a megabyte, or by the end, is a bad line by itself.
"""

from __future__ import annotations

from stream_rnn import csvtext
from stream_rnn.errors import InputError
from stream_rnn.records import Record

CHUNK_BYTES = 1 << 18
_MAX_LINE = 64 << 20  # a longer "line" is no line file
_MAX_QUOTED = 1 << 20
_BOM = b"\xef\xbb\xbf"


class LineCutter:
    """Cuts a byte stream into records. `columns` are a CSV's column names once its header has come."""

    def __init__(self, name: str, *, csv: bool, quoted_breaks: bool = True, delimiter: str | None = None) -> None:
        self.name = name  # for messages
        self.csv = csv
        self.columns: tuple[str, ...] | None = None
        self.header: bytes | None = None
        self._quoted = csv and quoted_breaks
        self._given = delimiter
        self._delimiter = b","
        self._headers: tuple[tuple[str, bytes], ...] = ()
        self.begin(0, 0)

    def begin(self, generation: int, byte: int, header: bytes | None = None) -> None:
        """The bytes to come start at `byte`; `header` is the file's first line where that is not among them."""
        self._generation = generation
        self._byte = byte  # of the next line to be taken
        self._tail = b""
        self._lines: list[bytes] = []
        self._next = 0
        self._open: list[bytes] = []  # physical lines of a record whose quotes are still open
        self._last_is_torn = False
        self._awaits_header = self.csv and header is None
        self._first = byte == 0
        if self.csv and header is not None:
            self._set_header(header)

    def feed(self, data: bytes) -> None:
        """More bytes."""
        if self._first:
            data = self._begin_file(self._tail + data)
            if not data:
                return
        data = self._tail + data if self._tail else data
        cut = data.rfind(b"\n")
        if cut < 0:
            if len(data) > _MAX_LINE:
                raise InputError(f"{self.name}: no line break in {len(data) >> 20} MiB, so these are no lines of text")
            self._tail = data
            return
        lines, self._tail = data[:cut].split(b"\n"), data[cut + 1 :]
        if self._awaits_header:
            while lines and not lines[0].strip():
                self._byte += len(lines.pop(0)) + 1
            if not lines:
                return
            self._byte += len(lines[0]) + 1
            self._set_header(lines.pop(0).removesuffix(b"\r"))
        self._add(lines, b'"' in data)

    def end(self) -> None:
        """No more bytes will come: what is left is the last line."""
        self._first = False
        if self._tail:
            if self._awaits_header:
                self._byte += len(self._tail)
                self._set_header(self._tail.removesuffix(b"\r"))
            else:
                self._last_is_torn = True
                self._add([self._tail], True)
            self._tail = b""
        while self._open:
            self._give_up()

    def peek(self) -> bytes:
        """The next whole line, or what there is of it."""
        return self._lines[self._next] if self._next < len(self._lines) else self._tail

    @property
    def torn(self) -> bool:
        """Whether an unfinished line is waiting."""
        return bool(self._tail)

    @property
    def empty(self) -> bool:
        """Whether every whole line has been taken."""
        return self._next == len(self._lines)

    def take(self, limit: int) -> list[Record]:
        """Up to `limit` records of what has been fed."""
        records: list[Record] = []
        lines, headers, generation = self._lines, self._headers, self._generation
        byte, at = self._byte, (self._generation, self._byte)
        while limit > len(records) and self._next < len(lines):
            batch = lines[self._next : self._next + limit - len(records)]
            self._next += len(batch)
            for line in batch:
                byte += len(line) + 1
                after = (generation, byte)
                value = line[:-1] if line[-1:] == b"\r" else line
                if value and not value.isspace():
                    records.append(Record(value, at, after, None, None, headers))
                at = after
        if self._next == len(lines) and lines:
            self._lines, self._next = [], 0
            if self._last_is_torn:  # it had no line break to count
                byte -= 1
                if records:
                    records[-1].resume_at = (generation, byte)
        self._byte = byte
        return records

    def _begin_file(self, data: bytes) -> bytes:
        """Look for a byte order mark once there is enough to see one; b"": wait for more."""
        self._tail = b""
        if len(data) < 3 and (_BOM.startswith(data) or data in (b"\xff", b"\xfe")):
            self._tail = data
            return b""
        self._first = False
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{self.name} is UTF-16; convert it to UTF-8 first: iconv -f utf-16 -t utf-8")
        if data.startswith(_BOM):
            self._byte += 3
            return data[3:]
        return data

    def _set_header(self, line: bytes) -> None:
        try:
            delimiter, names = csvtext.header(line.removeprefix(_BOM), self._given)
        except InputError as e:
            raise InputError(f"{self.name}: {e}") from None
        self._awaits_header = False
        self._delimiter, self.columns = delimiter.encode(), names
        self.header = line.removeprefix(_BOM)
        self._headers = (("columns", self.header),)

    def _add(self, lines: list[bytes], may_quote: bool) -> None:
        if not self._quoted or not (self._open or may_quote):
            self._lines += lines
            return
        todo = lines[::-1]
        while todo:
            line = todo.pop()
            still = csvtext.quote_open(line, self._delimiter, bool(self._open)) if b'"' in line else bool(self._open)
            if still:
                self._open.append(line)
                if sum(map(len, self._open)) > _MAX_QUOTED:
                    first, *rest = self._open
                    self._open = []
                    self._lines.append(first)
                    todo += rest[::-1]
            elif self._open:
                self._lines.append(b"\n".join([*self._open, line]))
                self._open = []
            else:
                self._lines.append(line)

    def _give_up(self) -> None:
        """The quotes never closed: the first line stands alone, the others are looked at afresh."""
        first, *rest = self._open
        self._open = []
        self._lines.append(first)
        self._add(rest, True)
