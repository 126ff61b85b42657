"""Values, keys and times as they come, and how a block of events becomes columns."""

import datetime
import fractions
import math
from decimal import Decimal

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.fields import BUCKETS, Fields, buckets, key_of, moment, moments, names_of, number, numbers

DAY = 86400.0
UTC = datetime.UTC


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (3, 3.0), (True, 1.0), (Decimal("2.5"), 2.5), (fractions.Fraction(1, 4), 0.25), (np.float32(1.5), 1.5),
        (np.int64(7), 7.0), (np.bool_(True), 1.0), (-0.0, -0.0), (1e30, 1e30),
        (None, math.nan), ("", math.nan), (" \t", math.nan), (math.nan, math.nan), ("nan", math.nan),
        ("3", math.inf), (b"3", math.inf), ([3], math.inf), ({}, math.inf), (1j, math.inf), (10**400, math.inf),
        (-math.inf, math.inf), (1.01e30, math.inf), (Decimal("sNaN"), math.inf), (datetime.date(2020, 1, 1), math.inf),
    ],
)  # fmt: skip
def test_what_counts_as_a_number(value, meant):
    npt.assert_equal(number(value), meant)
    series, wrong = numbers([1.0, value, 2.0])  # and by the column, whichever way is taken
    npt.assert_equal(series, [1.0, math.nan if meant == math.inf else meant, 2.0])
    assert wrong == ([1] if meant == math.inf else [])


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("1970-01-02", DAY), ("1970-01-02T00:00", DAY), ("1970-01-02 00:00:00.250", DAY + 0.25),
        (" 1970-01-02T00:00:00Z ", DAY),
        ("1970-01-02T02:00:00+02:00", DAY), ("19700102T000000", DAY), ("1969-12-31", -DAY), ("86400", DAY),
        (86400, DAY), (1.5, 1.5), (-5, -5.0), (1_700_000_000, 1.7e9), (1_700_000_000_000, 1.7e9),
        (1_700_000_000_000_000, 1.7e9), (1_700_000_000_000_000_000, 1.7e9), (0, 0.0),
        (99_999_999_999, 99_999_999_999.0),
        (datetime.datetime(1970, 1, 2), DAY), (datetime.datetime(1970, 1, 2, tzinfo=UTC), DAY), (np.int64(86400), DAY),
        (datetime.date(1970, 1, 2), DAY), (np.datetime64("1970-01-02"), DAY), (np.datetime64("NaT"), math.nan),
        (Decimal(60), 60.0),
        (None, math.nan), ("", math.nan), (math.nan, math.nan),
        ("now", math.inf), ("today", math.inf), ("12:00", math.inf), ("2020-13-01", math.inf), (True, math.inf),
        (math.inf, math.inf), (1e20, math.inf), ([0], math.inf), (10**400, math.inf),
    ],
)  # fmt: skip
def test_what_counts_as_a_time(value, meant):
    npt.assert_equal(moment(value), meant)
    for others in (["1970-01-01"] * 2, [0, 0], [None, None]):
        series, wrong = moments([others[0], value, others[1]])
        npt.assert_equal(series[1], math.nan if meant == math.inf else meant)
        assert wrong == ([1] if meant == math.inf else [])


@given(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)))
def test_iso_times_are_exact_to_a_microsecond(t):
    exact = (t - datetime.datetime(1970, 1, 1)) / datetime.timedelta(seconds=1)
    assert moment(t.isoformat()) == exact
    assert moments([t.isoformat(), "1970-01-01"])[0].tolist() == [exact, 0.0]


@given(st.sampled_from([1, 10**3, 10**6, 10**9]), st.integers(10**8, 5 * 10**9))
def test_an_epoch_means_the_same_in_every_unit(unit, seconds):
    assert moment(seconds * unit) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "key"),
    [("a", "a"), ("", ""), (7, 7), (7.0, 7), (np.int64(7), 7), (np.float64(7), 7), (b"x", b"x"), (np.str_("s"), "s"),
     (-(2**63), -(2**63))],
)  # fmt: skip
def test_what_can_be_a_key(value, key):
    got = key_of(value)
    assert got == key
    assert type(got) is type(key)


@pytest.mark.parametrize("value", [None, True, np.bool_(False), 1.5, math.nan, math.inf, [1], {}, 2**63, "\ud800"])
def test_what_cannot_be_a_key(value):
    with pytest.raises(ValueError, match=r"text|Unicode"):
        key_of(value)


def test_text_goes_into_the_same_bucket_everywhere():
    series, wrong = buckets(["on", "off", "idle", None, "", "on", 3, math.nan])
    npt.assert_equal(series, [0, 3, 5, math.nan, math.nan, 0, math.nan, math.nan])  # crc32 modulo 8
    assert wrong == [6]
    assert BUCKETS == 8


def test_columns_are_the_same_whether_events_have_the_same_names_or_not():
    events = [{"y": float(i), "a": 2.0 * i, "t": 60 * i, "k": "x"} for i in range(6)]
    same = Fields(["y"], ("k",), "t").read(events)
    events[2].pop("a")
    events[4] |= {"b": None, "c": "text"}
    mixed = Fields(["y"], ("k",), "t").read(events)
    same.values[2, 1] = np.nan
    npt.assert_equal(mixed.values, same.values)
    npt.assert_equal(mixed.time, same.time)
    assert mixed.keys == same.keys == ["x"] * 6


def test_rows_are_those_of_the_good_events():
    events = [{"y": 1.0}, {"y": "x", "late": 1.0}, {"y": 3.0, "a": 1.0}, {"y": []}, {"y": 4.0, "late": 2.0}]
    block = Fields(["y"]).read(events)
    assert sorted(block.bad) == [1, 3]
    npt.assert_equal(block.values, [[1.0, math.nan, math.nan], [3.0, 1.0, math.nan], [4.0, math.nan, 2.0]])
    assert block.cuts == [(1, 1), (2, 2)]  # a feature of a bad event has not been seen


def test_named_features_have_places_of_their_own_kind():
    fields = Fields(["y"], features=["w", "n", "y", "later"])
    block = fields.read([{"y": 1.0, "w": "on", "n": 2.0, "other": 5.0}, {"y": 1.0, "w": "off", "later": True}])
    assert {n: (p.column, p.unit, p.text) for n, p in fields.places.items()} == {
        "n": (1, 0, False), "w": (2, 1, True), "later": (3, 5, False)}  # fmt: skip
    npt.assert_equal(block.values, [[1.0, 2.0, 0.0, math.nan], [1.0, math.nan, 3.0, 1.0]])
    units, texts = fields.layout()
    assert (units.tolist(), texts.tolist()) == ([0, 1, 5], [0, 1, 0])


def test_the_table_of_features_comes_back_from_bytes():
    fields = Fields(["y"], features=["w", "n"])
    fields.read([{"y": 1.0, "w": "on"}, {"y": "x"}, {"y": 1.0, "n": 2.0}, {"y": 1.0, "n": "x"}])
    other = Fields(["y"], features=["w", "n"])
    other.unpack(fields.pack())
    assert (other.places, other.units) == (fields.places, fields.units)
    assert (other.masked, other.over_limit, other.bad) == (1, 0, 1)
    with pytest.raises(StateMismatch, match="features"):
        other.unpack(np.frombuffer(b"rubbish", np.uint8))


@pytest.mark.parametrize("features", [None, [], ["a", "b"]])
def test_an_empty_block_is_a_block(features):
    block = Fields(["y"], ("k",), "t", features).read([])
    assert (block.keys, block.bad, block.cuts, block.values.shape, block.time.shape) == ([], {}, [], (0, 1), (0,))


def test_names_are_checked():
    assert names_of("features", ("a", "b")) == ("a", "b")
    for wrong in ("", 3, [None], ["a", ""]):
        with pytest.raises(ConfigError, match="name of a field"):
            names_of("features", wrong)
    with pytest.raises(ConfigError, match="twice"):
        names_of("features", ["a", "a"])


STAMPS = st.sampled_from(
    [
        "2024-05-01T10:00:00",
        "2024-05-01_10:00:00",
        "2024-02-29T23:59:59",
        "2023-02-29T00:00:00",
        "2024-05-01T24:00:00",
        "2024-05-01T10:00:60",
        "0000-01-01T00:00:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59",
        "2024-13-01T00:00:00",
        "2024-05-01T10:00:0x",
        "2024-05-01T10:00+00",
        "20240501T1000000000",
        "-024-05-01T10:00:00",
        "٢٠٢٤-05-01T10:00:00",
        "2024-05-01T10:00:00Z",
        "2024-05-01",
        "2024-05-01T10:00:00.5",
        "+024-05-01T10:00:00",
        "2024-05-01t10:00:00",
    ]
).map(lambda text: text.replace("_", " "))


@given(st.lists(STAMPS, min_size=1, max_size=4))
def test_times_read_together_are_those_read_one_by_one(column):
    time, wrong = moments(column)
    each = [moment(text) for text in column]
    assert wrong == [i for i, t in enumerate(each) if math.isinf(t)]
    assert time[~np.isnan(time)].tolist() == [t for t in each if math.isfinite(t)]
