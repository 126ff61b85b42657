"""Scores against plain loops: what the last value was, what had been forecast, and the sums of both."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.metrics import MIN_PAIRS, Pairs, Scores


def naive_pairs(keys, actual, predicted, forecast):
    """said and last (n, T, H) as the definitions say, by looking back through each key's own events."""
    n, T = actual.shape
    H = forecast.shape[2]
    said, last = np.full((n, T, H), np.nan), np.full((n, T, H), np.nan)
    history = {}
    for e, key in enumerate(keys):
        past = history.setdefault(key, [])
        for i in range(H):
            if len(past) > i:
                for j in range(T):
                    said[e, j, i] = forecast[past[-1 - i], j, i]
                    known = [actual[p, j] for p in past[: len(past) - i] if not math.isnan(actual[p, j])]
                    last[e, j, i] = known[-1] if known else math.nan
        said[e, :, 0] = predicted[e]
        past.append(e)
    return said, last


@st.composite
def streams(draw):
    n, T, H = draw(st.integers(1, 25)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    keys = [f"k{k}" for k in rng.integers(0, draw(st.integers(1, 4)), n)]
    actual = np.where(rng.random((n, T)) < 0.3, np.nan, rng.normal(size=(n, T)))
    predicted = np.where(rng.random((n, T)) < 0.1, np.nan, rng.normal(size=(n, T)))
    forecast = np.where(rng.random((n, T, H)) < 0.1, np.nan, rng.normal(size=(n, T, H)))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
    return keys, actual, predicted, forecast, [0, *cuts, n]


@settings(max_examples=200, deadline=None)
@given(streams())
def test_pairs_are_what_looking_back_finds_at_any_split(stream):
    keys, actual, predicted, forecast, cuts = stream
    pairs = Pairs(actual.shape[1], forecast.shape[2])
    blocks = []
    for a, b in itertools.pairwise(cuts):
        if a < b:
            slots = pairs.slots_of(keys[a:b])
            blocks.append(pairs.pair(slots, actual[a:b], predicted[a:b], forecast[a:b]))
    said, last = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    expected_said, expected_last = naive_pairs(keys, actual, predicted, forecast)
    npt.assert_array_equal(said, expected_said)
    npt.assert_array_equal(last, expected_last)


@pytest.mark.parametrize("count", [1, 3])
def test_sums_are_those_of_numpy(count):
    rng = np.random.default_rng(5)
    n, T, H = 400, 2, 3
    slots = rng.integers(0, count, n)
    actual, said, last = rng.normal(size=(n, T)), rng.normal(size=(n, T, H)), rng.normal(size=(n, T, H))
    actual[rng.random((n, T)) < 0.1] = np.nan
    said[rng.random((n, T, H)) < 0.1] = np.nan
    last[rng.random((n, T, H)) < 0.1] = np.nan
    scores = Scores(T, H)
    for part in np.array_split(np.arange(n), 5):
        scores.add(slots[part], actual[part], said[part], last[part])

    error, naive = said - actual[:, :, None], last - actual[:, :, None]
    both = np.isfinite(error) & np.isfinite(naive)
    for target, step in ((None, None), (1, None), (0, 2)):
        part = (slice(None), slice(None) if target is None else [target], slice(None) if step is None else [step - 1])
        e, e_both, l_both = error[part], error[part][both[part]], naive[part][both[part]]
        got = scores.summary(target, step)
        assert got["scored"] == np.isfinite(e).sum()
        npt.assert_allclose(got["mae"], np.nanmean(np.abs(e)))
        npt.assert_allclose(got["rmse"], np.sqrt(np.nanmean(e**2)))
        npt.assert_allclose(got["baselines"]["persistence"]["mae"], np.abs(l_both).mean())
        npt.assert_allclose(got["baselines"]["persistence"]["rmse"], np.sqrt((l_both**2).mean()))
        npt.assert_allclose(got["skill_mae"], 1 - np.abs(e_both).sum() / np.abs(l_both).sum())
        npt.assert_allclose(got["skill_rmse"], 1 - np.sqrt((e_both**2).sum() / (l_both**2).sum()))

    def size(errors, k, j):
        mine = slots == k
        return np.abs(errors[mine, j][both[mine, j]]).sum()

    ratios = [size(error, k, j) / size(naive, k, j) for k in range(count) for j in range(T)]
    score = scores.score()
    assert score["series"] == count * T
    npt.assert_allclose(score["mae"], np.exp(np.mean(np.log(ratios))))
    assert score["better"] == sum(r < 1 for r in ratios)


def test_a_series_too_short_or_constant_has_no_say_in_the_geometric_mean():
    scores = Scores(1)
    for slot, n, step in ((0, MIN_PAIRS - 1, 1.0), (1, MIN_PAIRS, 0.0), (2, MIN_PAIRS, 1.0)):
        actual = np.arange(n)[:, None] * step
        last = actual[:, :, None] - step
        scores.add(np.full(n, slot), actual, last + step / 2, last)
    assert scores.score() == {"series": 1, "better": 1, "mae": 0.5, "rmse": 0.5}


def test_a_perfect_forecast_has_a_ratio_of_nothing():
    scores = Scores(1)
    actual = np.arange(40.0)[:, None]
    scores.add(np.zeros(40, int), actual, actual[:, :, None], actual[:, :, None] - 1)
    assert scores.score()["mae"] == 0.0
    assert scores.summary()["skill_mae"] == 1.0


def test_nothing_scored_gives_no_numbers():
    summary = Scores(1).summary()
    assert summary["scored"] == 0
    assert summary["mae"] is summary["skill_mae"] is summary["baselines"]["persistence"]["rmse"] is None
    assert Scores(1).score() == {"series": 0, "better": 0, "mae": None, "rmse": None}
