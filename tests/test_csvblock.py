"""CSV by the block says what CSV row by row says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.codec import COLUMNS, Codec
from stream_rnn.records import Record

HEADER = ((COLUMNS, b"time,a,b"),)
NUMBERS = ["", "1", "-2", "0", "007", "1.5", "-0.0", "1e3", "1.", ".5", "nan", "inf", "9" * 18, "9" * 19, "9" * 400]
ODD = ["1.5.2", "..", "1_0", "1_0.5", "- 1", "--1", "12:30", "plant", " 7", "٣", "x.y", '"q"', "é", "-", "+3"]
CELLS = st.sampled_from([*NUMBERS, *ODD])
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6)


def records(lines: list[bytes]) -> list[Record]:
    return [Record(line, (0, i), (0, i + 1), None, None, HEADER) for i, line in enumerate(lines)]


def spelt(events: object) -> str:
    """As text: tells 1 from 1.0 and lets NaN equal NaN."""
    return repr(events)


@settings(max_examples=400, deadline=None)
@given(ROWS, st.sampled_from([(), ("a",), ("time", "b")]), st.sampled_from([None, ["b", "a"]]))
def test_a_block_says_what_its_rows_say(rows, text, fields):
    lines = [",".join(row).encode() for row in rows]
    together = Codec("csv", text=text, fields=fields).decode(records(lines))
    apart = Codec("csv", text=text, fields=fields)
    assert spelt(together) == spelt([apart.decode([r])[0] for r in records(lines)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.just(b"1,2.5,x")), min_size=2, max_size=5))
def test_any_bytes_among_them_change_nothing(lines):
    apart = Codec("csv")
    assert spelt(Codec("csv").decode(records(lines))) == spelt([apart.decode([r])[0] for r in records(lines)])


def test_a_row_that_is_too_long_is_refused_in_a_block_too():
    codec = Codec("csv", max_bytes=8)
    good, bad = codec.decode(records([b"1,2,3", b"1,2,3333333"]))
    assert good == {"time": 1, "a": 2, "b": 3}
    assert bad.cause == "too_large"


def test_columns_of_one_kind_keep_it():
    events = Codec("csv").decode(records([b"1.5,3,x", b"2.5,-4,y"]))
    assert spelt(events) == spelt([{"time": 1.5, "a": 3, "b": "x"}, {"time": 2.5, "a": -4, "b": "y"}])
