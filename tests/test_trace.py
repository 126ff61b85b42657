"""Bounded memory for pictures: bins against direct sums, the tail, the largest errors."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.trace import Album, Misses, Recent, Trace, axis, spread_of, typical_span


def series(n, seed=3):
    rng = np.random.default_rng(seed)
    time, actual, said, last = 60.0 * np.arange(n), *rng.normal(size=(3, n))
    actual[rng.random(n) < 0.1] = np.nan
    said[rng.random(n) < 0.1] = np.nan
    return time, actual, said, last


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize("blocks", [1, 6])
def test_bins_are_direct_means(n, blocks):
    rows = series(n)
    trace = Trace(limit=8, tail=5)
    for part in np.array_split(np.arange(n), blocks):
        trace.add(*(r[part] for r in rows))
    bins = trace.bins()
    time, actual, said, last = rows
    assert len(bins["event"]) <= 8
    starts = [*bins["event"].astype(int), n]
    for i, (a, b) in enumerate(itertools.pairwise(starts)):
        both = np.isfinite(said[a:b] - actual[a:b])
        assert bins["time"][i] == time[a]
        known = actual[a:b][np.isfinite(actual[a:b])]
        if len(known):
            npt.assert_allclose(
                [bins["actual"][i], bins["low"][i], bins["high"][i]], [known.mean(), known.min(), known.max()]
            )
        else:
            assert np.isnan(bins["actual"][i])
        if both.any():
            npt.assert_allclose(bins["error"][i], np.abs(said[a:b] - actual[a:b])[both].mean())
            npt.assert_allclose(bins["naive"][i], np.abs(last[a:b] - actual[a:b])[both].mean())


def test_the_tail_is_the_newest_rows_as_they_were():
    rows = series(50)
    trace = Trace(limit=8, tail=12)
    for part in np.array_split(np.arange(50), 7):
        trace.add(*(r[part] for r in rows))
    tail = trace.tail()
    npt.assert_array_equal(tail["event"], np.arange(38, 50))
    for name, row in zip(("time", "actual", "said", "last"), rows, strict=True):
        npt.assert_array_equal(tail[name], row[-12:])


def test_the_largest_errors_stay():
    _, actual, said, _ = series(300)
    misses = Misses(most=5)
    for part in np.array_split(np.arange(300), 9):
        misses.add(part, part * 60.0, [f"k{i}" for i in part], actual[part], said[part])
    size = np.nan_to_num(np.abs(said - actual), nan=-1.0)
    expected = np.argsort(-size)[:5]
    assert [m.event for m in misses.largest()] == expected.tolist()
    assert [m.key for m in misses.largest()] == [f"k{i}" for i in expected]


def test_an_album_follows_the_first_keys_and_all_errors():
    rng = np.random.default_rng(0)
    album = Album(["a", "b"], most_series=4)  # two keys of two targets
    slots = np.array([0, 1, 0, 2, 1, 3])
    values = rng.normal(size=(6, 2))
    album.add(slots, [f"k{s}" for s in slots], np.full(6, np.nan), values, values + 1, values + 2)
    assert [(s.target, s.key, s.trace.count) for s in album.series] == [
        ("a", "k0", 2), ("b", "k0", 2), ("a", "k1", 2), ("b", "k1", 2),
    ]  # fmt: skip
    npt.assert_allclose(album.whole["b"].bins()["error"], 1.0)
    npt.assert_allclose(album.whole["b"].bins()["naive"], 2.0)


@pytest.mark.parametrize(
    ("time", "is_time"),
    [([1.0, 2.0], True), ([2.0, 1.0], False), ([1.0, np.nan], False), ([1.0, 1.0], False)],
)
def test_an_axis_is_of_times_only_where_they_go_forward(time, is_time):
    x, times = axis({"time": np.array(time), "event": np.array([0.0, 1.0])})
    assert times is is_time
    npt.assert_array_equal(x, time if is_time else [1.0, 2.0])


def test_columns_are_averaged_over_what_there_is():
    rng = np.random.default_rng(1)
    rows, more = series(90), rng.normal(size=(90, 2))
    more[rng.random((90, 2)) < 0.4] = np.nan
    trace = Trace(limit=8, tail=5, columns=("p", "q"))
    for part in np.array_split(np.arange(90), 4):
        trace.add(*(r[part] for r in rows), more[part])
    bins = trace.bins()
    starts = [*bins["event"].astype(int), 90]
    npt.assert_allclose(bins["q"], [np.nanmean(more[a:b, 1]) for a, b in itertools.pairwise(starts)])
    npt.assert_array_equal(trace.tail()["p"], more[-5:, 0])


@pytest.mark.parametrize("n", [3, 8, 100])
def test_running_means_are_over_the_newest_events(n):
    rows = series(n)
    trace = Trace(limit=16)
    trace.add(*rows)
    reach = max(1, round(20 / trace.width)) * trace.width
    points = trace.rolling(20)
    for end, error, actual in zip(points["event"].astype(int), points["error"], points["actual"], strict=True):
        first = max(0, (end // trace.width + 1) * trace.width - reach)
        part = slice(first, end + 1)
        npt.assert_allclose(actual, np.nanmean(rows[1][part]))
        npt.assert_allclose(error, np.nanmean(np.abs(rows[2] - rows[1])[part]))


@pytest.mark.parametrize("blocks", [1, 5, 60])
def test_a_miss_is_among_the_events_of_its_key(blocks):
    rng = np.random.default_rng(4)
    n = 240  # slots are numbers in order of appearance
    slots = np.concatenate([[0, 1, 2], rng.integers(0, 3, n - 3)])
    actual, said = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    said[[0, 100, 233], 1] += 50
    album = Album(["a", "b"])
    for part in np.array_split(np.arange(n), blocks):
        keys = [f"k{s}" for s in slots[part]]
        album.add(slots[part], keys, np.full(len(part), np.nan), actual[part], said[part], actual[part])
    for miss in album.misses["b"].largest():
        mine = np.flatnonzero(slots == slots[miss.event])
        at = int(np.flatnonzero(mine == miss.event)[0])
        both = np.stack([actual[mine, 1], said[mine, 1]], axis=1)
        npt.assert_array_equal(miss.before, both[max(0, at - 23) : at + 1])
        npt.assert_array_equal(miss.after, both[at + 1 : at + 9])


def test_of_very_many_keys_only_the_first_are_remembered():
    recent = Recent(1, depth=3, most=2)
    recent.add(np.array([0, 5, 1, 0, 0, 0]), np.arange(6.0)[:, None])
    recent.add(np.array([1, 9]), np.array([[7.0], [8.0]]))
    npt.assert_array_equal(recent.of(0)[:, 0], [3, 4, 5])
    npt.assert_array_equal(recent.of(1)[:, 0], [np.nan, 2, 7])
    assert np.isnan(recent.of(5)).all()


def test_a_few_far_values_cut_an_axis_and_no_others_do():
    usual = np.sin(np.arange(200.0))
    assert typical_span([usual]) is None
    far = np.concatenate([usual, [1e6]])
    low, high = typical_span([far])
    assert low == usual.min()
    assert usual.max() < high < 5
    assert typical_span([far + 3], from_zero=True)[0] == 0
    for nothing in (np.array([]), np.full(3, np.nan), np.zeros(9)):
        assert typical_span([nothing]) is None
        assert spread_of([nothing], []) is None or spread_of([nothing], [])[0] < 0


def test_a_running_mean_of_too_few_values_is_a_gap():
    trace = Trace()
    time, actual, said, last = series(60)
    actual[10:] = np.nan
    trace.add(time, actual, said, last)
    points = trace.rolling(20, least=5)
    there = np.array([(~np.isnan(actual[max(0, e - 19) : e + 1])).sum() >= 5 for e in range(60)])
    npt.assert_array_equal(~np.isnan(points["actual"]), there)
