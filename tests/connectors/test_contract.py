"""One suite that every source and every sink passes: what the engine relies on.

A third party's connector is put under the same tests by adding a maker to SOURCES or SINKS.
"""

from __future__ import annotations

import gzip
import itertools
import os

import pytest

from stream_rnn.connectors import Message
from stream_rnn.connectors.file import FileSink, FileSource
from stream_rnn.connectors.memory import MemorySink, MemorySource
from stream_rnn.connectors.stdio import StdinSource, StdoutSink
from stream_rnn.errors import SourceError

N = 57
VALUES = [f'{{"i": {i}, "text": "{"é" * (i % 5)}"}}'.encode() for i in range(N)]


def json_lines(folder):
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(VALUES))  # no line break at the end
    return lambda: FileSource(path)


def crlf_with_blanks(folder):
    path = folder / "in.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(VALUES) + b"\r\n \r\n")
    return lambda: FileSource(path)


def gzipped(folder):
    path = folder / "in.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(VALUES) + b"\n"))
    return lambda: FileSource(path)


def followed(folder):
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(VALUES) + b'\n{"torn')
    return lambda: FileSource(path, follow=True)


def memory(folder):
    return lambda: MemorySource(VALUES)


def iterator(folder):
    return lambda: MemorySource(iter(VALUES))


def stdin(folder):
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(VALUES))
    return lambda: StdinSource(fd=os.open(path, os.O_RDONLY))


def parquet(folder):
    import pyarrow
    from pyarrow import parquet

    path = folder / "in.parquet"
    parquet.write_table(pyarrow.table({"i": range(N)}), path, row_group_size=10)
    return lambda: FileSource(path)


def csv(folder):
    path = folder / "in.csv"
    path.write_bytes(b"i,text\n" + b"".join(f'{i},"a\n""b"\n'.encode() for i in range(N)))
    return lambda: FileSource(path)


SOURCES = [json_lines, crlf_with_blanks, gzipped, followed, memory, iterator, stdin, parquet, csv]


@pytest.fixture(params=SOURCES, ids=lambda maker: maker.__name__)
def opener(request, tmp_path):
    return request.param(tmp_path)


def drain(log, limit=10):
    """Everything that is there now."""
    records = []
    empty = 0
    while empty < 3:
        block = log.read(limit)
        assert len(block) <= limit
        records += block
        empty = 0 if block else empty + 1
        log.wait(0.001)
    return records


def joined(source):
    """The one log that the source hands over."""
    logs = []

    class Owner:
        def assigned(self, new):
            logs.extend(new)

    source.join(Owner())
    (log,) = logs
    return log


def test_gives_every_record_once_in_order(opener):
    log = joined(opener())
    records = drain(log)
    assert len(records) == N
    if isinstance(records[0].value, bytes) and records[0].value.startswith(b"{"):
        assert [r.value for r in records] == VALUES
    for before, after in itertools.pairwise(records):
        assert before.at < before.resume_at <= after.at
    assert log.name.endswith((":", "/"))
    log.close()


def test_does_not_depend_on_how_it_is_read(opener):
    ones, all_at_once = joined(opener()), joined(opener())
    one_by_one = drain(ones, 1)
    assert one_by_one == drain(all_at_once, 10**6)


def test_resumes_after_any_record(opener):
    log = joined(opener())
    records = drain(log)
    if not log.replays:  # the engine keeps a journal of it
        with pytest.raises(SourceError):
            log.seek(records[1].at)
        return
    for n in (0, 1, N // 2, N - 1):
        again = joined(opener())
        again.seek(records[n].resume_at, log.notes(records[n].resume_at))
        assert drain(again, 7) == records[n + 1 :]
        log.seek(records[n].at)
        assert log.read(1) == [records[n]]
    log.acknowledge(records[-1].resume_at)


def test_first_is_where_a_new_reader_begins(opener):
    log = joined(opener())
    records = drain(joined(opener()))
    log.seek(log.first("earliest"))
    assert log.read(1) == records[:1]


def test_latest_is_the_end(opener):
    log = joined(opener())
    log.seek(log.first("latest"))
    assert (log.read(10) == []) == log.replays  # what cannot go on from an end begins with what comes


# Sinks


def file_sink(folder):
    return FileSink(folder / "deep" / "out.jsonl"), (folder / "deep" / "out.jsonl").read_bytes


def memory_sink(folder):
    sink = MemorySink()
    return sink, lambda: b"".join(line + b"\n" for line in sink.lines)


def stdout_sink(folder):
    fd = os.open(folder / "stdout", os.O_RDWR | os.O_CREAT)
    return StdoutSink(fd=fd), (folder / "stdout").read_bytes


SINKS = [file_sink, memory_sink, stdout_sink]


@pytest.fixture(params=SINKS, ids=lambda maker: maker.__name__)
def sink_and_content(request, tmp_path):
    return request.param(tmp_path)


def messages(first, last):
    return [Message(f'{{"source":"file:0/{i}","v":{i}}}'.encode(), f"file:0/{i}") for i in range(first, last)]


def test_what_is_written_comes_out_once_and_in_order(sink_and_content):
    sink, content = sink_and_content
    log = MemorySource([])
    output = sink.open("")
    output.write(messages(0, 3))
    output.write([])
    output.unit.commit("file:0/2", (0, 3), log)
    output.write(messages(3, 5))
    output.unit.commit("file:0/4", (0, 5), log)
    output.unit.commit("file:0/4", (0, 5), log)
    output.close()
    assert content() == b"".join((m.value or b"") + b"\n" for m in messages(0, 5))


def test_the_mark_is_the_last_message_also_for_the_next_who_opens(sink_and_content):
    sink, _ = sink_and_content
    output = sink.open("")
    assert output.mark() is None
    output.write(messages(0, 3))
    output.unit.commit("file:0/2", (0, 3), MemorySource([]))
    expected = "file:0/2" if output.has_mark else None
    assert output.mark() == expected
    output.close()
    again = sink.open("")
    assert again.mark() == expected
    again.close()
