"""connectors/file.py and its parts: what is particular to files."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.codec import Codec
from stream_rnn.connectors import Message
from stream_rnn.connectors import follow as follow_module
from stream_rnn.connectors.file import FileSink, FileSource, format_of
from stream_rnn.connectors.lines import LineCutter
from stream_rnn.connectors.rows import RowWriter
from stream_rnn.errors import ConfigError, InputError, SinkError, SourceError, StateBusy


def values(source):
    return [r.value for r in source.read(10**6)]


# Cutting lines


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), min_size=1), st.integers(1, 5), st.booleans())
@settings(max_examples=300, deadline=None)
def test_lines_do_not_depend_on_how_the_bytes_came(data, cuts, limit, csv):
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return

    def cut(sizes):
        cutter, records, at = LineCutter("x", csv=csv), [], 0
        if csv:
            cutter.begin(0, 0, b"a,b")
        for size in [*sizes, len(data)]:
            if data[at : at + size]:
                cutter.feed(data[at : at + size])
            at += size
            while not cutter.empty:
                records += cutter.take(limit)
        cutter.end()
        while not cutter.empty:
            records += cutter.take(limit)
        return records

    records = cut(cuts)
    assert records == cut([])
    body = data.removeprefix(b"\xef\xbb\xbf")
    start = len(data) - len(body)
    for record in records:
        (_, at), (_, after) = record.at, record.resume_at
        assert data[at:after].strip(b"\r\n").endswith(record.value.strip(b"\r\n"))
    if not csv:
        lines = [line.removesuffix(b"\r") for line in body.split(b"\n")]
        assert [r.value for r in records] == [line for line in lines if line.strip()]
        assert all(r.at[1] >= start for r in records)


def test_quoted_line_breaks_are_one_record_and_unclosed_quotes_only_spoil_their_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,"two\nlines"\n4,5" tall\n2,"open\n3,x\n')
    records = FileSource(path).read(10)
    assert [r.value for r in records] == [b'1,"two\nlines"', b'4,5" tall', b'2,"open', b"3,x"]
    events = Codec("csv").decode(records)
    assert events[:2] == [{"a": 1, "b": "two\nlines"}, {"a": 4, "b": '5" tall'}]
    assert events[2].cause == "parse"
    assert events[3] == {"a": 3, "b": "x"}
    source = FileSource(path)
    source.seek(records[1].resume_at)
    assert source.read(10) == records[2:]


def test_the_header_is_known_after_a_seek(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefft;v\r\n1;2\r\n3;4\r\n".encode())
    source = FileSource(path)
    assert source.columns == ("t", "v")
    first, second = source.read(5)
    again = FileSource(path)
    again.seek(second.at)
    assert Codec("csv").decode(again.read(5)) == [{"t": 3, "v": 4}]
    assert Codec("csv").decode([first]) == [{"t": 1, "v": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"a,b,a\n", "column 'a' twice"),
        ("a.csv", bytes(range(128, 256)) * 3 + b"\n", "no CSV header"),
        ("a.csv", b"a\0b\n1\n", "NUL"),
        ("a.jsonl", "é{}".encode("utf-16"), "UTF-16"),
        ("a.json", b'  [\n{"a": 1}\n]', "JSON array"),
        ("a.csv.gz", b"no gzip", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(os.urandom(9999))[:-20], "cannot be read"),
        ("a.parquet", b"no parquet", "Parquet"),
        ("a.xlsx", b"", "names no format"),
        ("absent.csv", None, "no such file"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((InputError, ConfigError), match=message) as e:
        FileSource(path).read(10**6)
    assert name in str(e.value)


def test_a_folder_and_a_followed_gzip_are_refused(tmp_path):
    with pytest.raises(InputError, match="folder"):
        FileSource(tmp_path, format="json")
    with pytest.raises(ConfigError, match="gzipped"):
        FileSource(tmp_path / "a.jsonl.gz", follow=True)


def test_a_shorter_or_other_file_is_not_taken_for_the_one_that_was_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    source = FileSource(path)
    position = source.read(2)[1].resume_at
    notes = source.notes(position)
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3}\n')
    longer = FileSource(path)
    longer.seek(position, notes)
    assert values(longer) == [b'{"a": 3}']
    path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(SourceError, match=r"cut|beginning"):
        FileSource(path).seek(position, notes)
    path.write_bytes(b'{"b": 1}\n{"b": 2}\n{"b": 3}\n')
    with pytest.raises(SourceError, match="beginning differs"):
        FileSource(path).seek(position, notes)


def test_formats_by_suffix():
    assert [format_of(n) for n in ("a.CSV", "a.b.tsv.gz", "x.ndjson", "x.pq")] == ["csv", "csv", "json", "parquet"]
    with pytest.raises(ConfigError, match=r"\.txt"):
        format_of("a.txt")


# A growing file


@pytest.fixture
def growing(tmp_path):
    path = tmp_path / "in.jsonl"

    def write(text, mode="a"):
        with path.open(mode) as f:
            f.write(text)

    return path, write


def test_a_growing_file_gives_whole_lines_as_they_come(growing):
    path, write = growing
    source = FileSource(path, follow=True)
    assert source.read(5) == []
    write("1\n2\n3")
    assert values(source) == [b"1", b"2"]
    write("3\n")
    assert values(source) == [b"33"]
    assert not source.finished


def test_rotation_by_rename_loses_no_line(growing):
    path, write = growing
    write("a\nb\n")
    source = FileSource(path, follow=True)
    (first, second) = source.read(9)
    os.rename(path, f"{path}.1")
    assert source.read(9) == []
    with open(f"{path}.1", "a") as late:  # the writer has not noticed yet
        late.write("c\n")
    assert values(source) == [b"c"]
    write("d\n")
    os.rename(path, f"{path}.2")  # twice between two looks
    write("e\n")
    rest = source.read(9)
    assert [(r.value, r.at) for r in rest] == [(b"d", (1, 0)), (b"e", (2, 0))]
    assert second.resume_at == (0, 4)
    assert first.at == (0, 0)


def test_after_a_restart_it_finds_the_rotated_file_again(growing):
    path, write = growing
    write("a\nb\n")
    source = FileSource(path, follow=True)
    first, _ = source.read(9)
    notes = source.notes(first.resume_at)
    os.rename(path, f"{path}-old")
    write("c\n")
    again = FileSource(path, follow=True)
    again.seek(first.resume_at, notes)
    records = again.read(9)
    assert [r.value for r in records] == [b"b", b"c"]
    later = FileSource(path, follow=True)
    later.seek(records[1].at, again.notes(records[1].at))
    assert later.read(9) == records[1:]
    write("d\n")
    os.rename(path, f"{path}-x")
    write("e\n")
    assert values(later) == [b"d", b"e"]  # and not the first file again, which is beside them
    os.remove(f"{path}-old")
    with pytest.raises(SourceError, match="no longer beside"):
        FileSource(path, follow=True).seek(first.resume_at, notes)


def test_a_torn_line_of_a_rotated_file_is_a_record_once_nobody_writes(growing, monkeypatch):
    path, write = growing
    write("a\nto")
    source = FileSource(path, follow=True)
    assert values(source) == [b"a"]
    os.rename(path, f"{path}.1")
    write("b\n")
    assert values(source) == []
    monkeypatch.setattr(follow_module, "_TORN_WAIT_S", 0.0)
    assert values(source) == [b"to", b"b"]


@pytest.mark.parametrize("regrown", ["", "x\n", "other lines than before\n" * 9])
def test_copytruncate_is_refused(growing, regrown):
    path, write = growing
    write("a first line\nanother\n")
    source = FileSource(path, follow=True)
    position = source.read(9)[-1].resume_at
    notes = source.notes(position)
    write(regrown, "w")
    with pytest.raises(SourceError, match="copytruncate"):
        source.read(9)
    with pytest.raises(SourceError):
        FileSource(path, follow=True).seek(position, notes)


def test_a_file_packed_before_it_was_read_is_refused(growing):
    path, write = growing
    write("a\n")
    source = FileSource(path, follow=True)
    assert values(source) == [b"a"]
    os.rename(path, f"{path}.2")
    write("b\n")
    (path.parent / "in.jsonl.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    os.remove(path)
    write("c\n")
    with pytest.raises(SourceError, match="delaycompress"):
        source.read(9)


def test_a_followed_csv_knows_the_header_of_each_file_and_takes_no_quoted_line_break(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("a,b\n1,2\n")
    source = FileSource(path, follow=True)
    codec = Codec("csv")
    assert codec.decode(source.read(9)) == [{"a": 1, "b": 2}]
    os.rename(path, f"{path}.1")
    path.write_text('b,a\n3,4\n"x\ny",5\n')
    records = source.read(9)
    events = codec.decode(records)
    assert events[0] == {"b": 3, "a": 4}
    assert events[1].cause == "parse"
    again = FileSource(path, follow=True)
    again.seek(records[0].at, source.notes(records[0].at))
    assert codec.decode(again.read(1)) == [{"b": 3, "a": 4}]


def test_latest_is_after_the_last_whole_line(growing):
    path, write = growing
    write("a\nb\nto")
    source = FileSource(path, follow=True)
    assert source.first("latest") == (0, 4)
    source.seek((0, 4))
    write("rn\n")
    assert values(source) == [b"torn"]


# Out


def message(i):
    return Message(b'{"source":"file:0/%d"}' % i, f"file:0/{i}")


@pytest.mark.parametrize("cut", range(1, 23))
def test_a_torn_last_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "out.jsonl"
    output = FileSink(path).open("")
    output.write([message(i) for i in range(3)])
    output.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    again = FileSink(path).open("")
    assert again.mark() == "file:0/1"
    again.write([message(2)])
    again.close()
    assert path.read_bytes() == whole


def test_a_last_line_longer_than_the_first_look_back(tmp_path):
    path = tmp_path / "out.jsonl"
    for torn in (b"", b"x" * 200_000):
        path.write_bytes(b'{"source":"a","x":"' + b"y" * 300_000 + b'"}\n' + torn)
        output = FileSink(path).open("")
        assert output.mark() == "a"
        output.close()
    path.write_bytes(b"torn only")
    output = FileSink(path).open("")
    assert output.mark() is None
    assert path.read_bytes() == b""


def test_a_file_that_is_not_ours_is_left_alone(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"dear diary\n")
    with pytest.raises(SinkError, match="not one of ours"):
        FileSink(path).open("")
    assert path.read_bytes() == b"dear diary\n"
    with pytest.raises(ConfigError, match="jsonl"):
        FileSink(tmp_path / "out.csv")


def test_two_writers_are_refused_and_shards_have_files_of_their_own(tmp_path):
    sink = FileSink(tmp_path / "out.jsonl")
    output = sink.open("")
    with pytest.raises(StateBusy, match="another process"):
        sink.open("")
    assert sink.open("3").path.name == "out-3.jsonl"
    output.close()
    sink.open("").close()


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    output = FileSink(tmp_path / "out.jsonl").open("")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, output._fd)
    with pytest.raises(SinkError, match=r"out\.jsonl.*space"):
        output.write([message(1)])


# Tables


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz", "t.jsonl.gz"])
def test_rows_come_back_as_they_were_written(tmp_path, name):
    rows = [(1.5, "a,b", None), (None, 'c"d', 2.25)]
    path = tmp_path / name
    with RowWriter(path, ["time", "key", "x"]) as writer:
        writer.write(rows[:1])
        writer.write(rows[1:])
    source = FileSource(path)
    events = Codec("csv" if source.format == "csv" else "json").decode(source.read(9))
    assert [tuple(e[c] for c in ("time", "key", "x")) for e in events] == rows


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_no_rows_make_a_readable_file(tmp_path, name):
    RowWriter(tmp_path / name, ["a"]).close()
    assert FileSource(tmp_path / name).read(9) == []


def test_typed_parquet_times_become_epoch_seconds(tmp_path):
    import pyarrow
    from pyarrow import parquet

    times = pyarrow.array([1_500, None], pyarrow.timestamp("ms"))
    nested = pyarrow.array([{"t": 1.0}, {"t": 2.0}])
    parquet.write_table(pyarrow.table({"time": times, "n": nested}), tmp_path / "a.parquet")
    events = Codec("json").decode(FileSource(tmp_path / "a.parquet").read(9))
    assert json.loads(json.dumps(events)) == [{"time": 1.5, "n.t": 1.0}, {"time": None, "n.t": 2.0}]
