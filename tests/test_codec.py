"""codec.py: every record gives exactly one event or one BadEvent, whatever its bytes."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.codec import Codec, flatten
from stream_rnn.errors import ConfigError
from stream_rnn.records import BadEvent, Prediction, Record

HEADER = (("columns", b"time,key,value"),)


def record(value, **more):
    return Record(value, at=(0, 0), resume_at=(0, 1), **more)


def one(codec, value, **more):
    return codec.decode([record(value, **more)])[0]


CODECS = [
    Codec("json"),
    Codec("json", fields=["a", "b.c", "b.d.e"], key=True, timestamp=True),
    Codec("csv", fields=["time", "value"]),
    Codec("csv"),
    Codec("csv", columns=["a"]),
    Codec("msgpack"),
    Codec("msgpack", fields=["a"], max_bytes=100),
]


@given(st.binary(max_size=400), st.none() | st.binary(max_size=8))
@settings(max_examples=400, deadline=None)
def test_no_byte_string_raises(value, key):
    for codec in CODECS:
        event = one(codec, value, key=key, timestamp_ms=1, headers=HEADER)
        assert isinstance(event, dict | BadEvent)
        if isinstance(event, BadEvent):
            assert event.cause in ("parse", "too_large")
            assert event.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "b.c", "d.e"]), inner),
    max_leaves=12,
)


def same(x, y):
    return x == y or (isinstance(x, float) and isinstance(y, float) and math.isnan(x) and math.isnan(y))


@given(st.dictionaries(st.sampled_from(["a", "b", "b.c", "b.d.e", "f"]), JSON))
@settings(max_examples=400, deadline=None)
def test_named_fields_are_what_the_whole_event_has_there(event):
    value = json.dumps(event).encode()
    fields = ["a", "b.c", "b.d.e"]
    whole, named = one(Codec("json"), value), one(Codec("json", fields=fields), value)
    assert isinstance(whole, dict)
    assert isinstance(named, dict)
    assert set(named) == set(fields)
    for name in fields:
        assert repr(named[name]) == repr(whole.get(name))


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_json_and_msgpack_say_the_same(value):
    try:
        packed = msgspec.msgpack.encode(value)
    except OverflowError:  # beyond 64 bits msgpack has no integer
        return
    from_json, from_msgpack = one(Codec("json"), json.dumps(value).encode()), one(Codec("msgpack"), packed)
    if isinstance(value, dict):
        assert repr(from_json) == repr(from_msgpack)
    else:
        assert isinstance(from_json, BadEvent)
        assert isinstance(from_msgpack, BadEvent)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (b'{"a": NaN, "b": -Infinity, "c": Infinity}', {"a": math.nan, "b": -math.inf, "c": math.inf}),
        (b'{"a": 1e999}', {"a": math.inf}),
        (b'{"a": ' + b"9" * 400 + b"}", {"a": math.inf}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"p": {"t": 1, "q": {"r": 2}}, "p.t": 3}', {"p.t": 3, "p.q.r": 2}),
        (b"{}", {}),
    ],
)
def test_json_that_other_writers_send(text, event):
    assert repr(sorted(one(Codec("json"), text).items())) == repr(sorted(event.items()))


RUBBISH = [b"", b"[1]", b"3", b"null", b'{"a": 1', b"\xff", b'{"a": "\\ud800"}', b"{'a': 1}", b"[" * 9999]


@pytest.mark.parametrize("text", RUBBISH)
def test_unreadable_json_is_a_bad_event(text):
    for fields in (None, ["a"], ["a.b"]):
        bad = one(Codec("json", fields=fields), text)
        assert isinstance(bad, BadEvent)
        assert bad.cause == "parse"
        assert "json" in bad.reason


def test_a_name_inside_a_named_object_may_itself_hold_dots():
    assert one(Codec("json", fields=["a.b.c"]), b'{"a": {"b.c": 5}}') == {"a.b.c": 5}
    assert one(Codec("json", fields=["a", "a.b"]), b'{"a": {"b": 5}}') == {"a": None, "a.b": 5}
    assert one(Codec("json", fields=["a.b"]), b'{"a": null}') == {"a.b": None}
    assert one(Codec("json", fields=["a.b", "a.b.c"]), b'{"a": {"b": {"c": 1}}}') == {"a.b": None, "a.b.c": 1}


def test_no_value_and_too_large():
    assert one(Codec("json"), None).cause == "parse"
    assert one(Codec("json"), 5).cause == "parse"
    codec = Codec("json", max_bytes=8)
    assert one(codec, b'{"a": 1}') == {"a": 1}
    assert one(codec, b'{"a": 10}').cause == "too_large"


def test_key_and_timestamp_come_in_only_where_wanted_and_there():
    value = b'{"a": 1}'
    both = Codec("json", fields=["a"], key=True, timestamp=True)
    assert one(both, value, key=b"k", timestamp_ms=1500) == {"a": 1, "@key": "k", "@timestamp": 1.5}
    assert one(both, value) == {"a": 1}
    assert one(both, value, key=b"\xff")["@key"] == b"\xff"
    assert one(Codec("json"), value, key=b"k", timestamp_ms=1500) == {"a": 1}


@pytest.mark.parametrize(
    ("row", "event"),
    [
        (b"2013-03-01T00:00:00,007,-1.5e3", {"time": "2013-03-01T00:00:00", "key": "007", "value": -1500.0}),
        (b"1700000000123456789,x,", {"time": 1.7000000001234568e18, "key": "x", "value": None}),
        (b'1,"a ""b"", c",7', {"time": 1, "key": 'a "b", c', "value": 7}),
        (b"1_000,,inf", {"time": "1_000", "key": None, "value": math.inf}),
        ('"x,\ny",é,-3'.encode(), {"time": "x,\ny", "key": "é", "value": -3}),
    ],
)
def test_csv_cells_are_numbers_or_text(row, event):
    assert one(Codec("csv", text=["key"]), row, headers=HEADER) == event


@pytest.mark.parametrize("row", [b"1,2", b"1,2,3,4", b'1,"2,3', b"\xff,2,3", b'1,"2"x,3'])
def test_a_torn_csv_row_is_a_bad_event(row):
    assert one(Codec("csv"), row, headers=HEADER).cause == "parse"


def test_the_header_that_comes_with_a_record_says_its_columns():
    codec = Codec("csv")
    events = codec.decode([
        record(b"1,2", headers=(("columns", b"a,b"),)),
        record(b"1;2", headers=(("columns", b"b;a"),)),
        record(b"1", headers=()),
    ])  # fmt: skip
    assert events[:2] == [{"a": 1, "b": 2}, {"b": 1, "a": 2}]
    assert "event.columns" in events[2].reason
    assert one(Codec("csv", columns=["x", "y"]), b"1,2") == {"x": 1, "y": 2}


def test_typed_rows_pass_as_they_are_but_for_times():
    when = datetime(2020, 1, 1, tzinfo=UTC)
    value = {"t": when, "n": {"x": 1}, "big": 10**400, "s": "text", "none": None}
    assert one(Codec("json"), value) == {"t": when.timestamp(), "n.x": 1, "big": math.inf, "s": "text", "none": None}
    assert value["t"] is when


def test_flatten_leaves_its_argument_alone():
    event = {"a": {"b": 1}}
    assert flatten(event) == {"a.b": 1}
    assert event == {"a": {"b": 1}}


def test_a_prediction_is_one_line_of_json():
    line = Codec().encode(Prediction("k\n", 1.5, "file:0/10", 1, predicted=None, forecast=[1.0, math.nan]))
    assert b"\n" not in line
    assert json.loads(line) == {
        "key": "k\n", "time": 1.5, "source": "file:0/10", "step": 1, "predicted": None, "actual": None,
        "error": None, "forecast": [1.0, None], "forecast_time": None,
    }  # fmt: skip


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match=r"avro.*json, csv, msgpack"):
        Codec("avro")
