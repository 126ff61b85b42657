"""Drift: the detectors against river's, what they do in a model, the same bits in any cut."""

import msgspec
import numpy as np
import numpy.testing as npt
import pytest
from river import drift as rivers

from stream_rnn.drift import BOOST, CELL, EVENTS, Drifts
from stream_rnn.errors import ConfigError
from stream_rnn.kernels.drift import PH_DELTA, PH_LAMBDA
from stream_rnn.keys import KeySpace
from stream_rnn.model import Forecaster

START = 1_700_000_000


def changing(seed):
    """Stretches of other means and spreads."""
    rng = np.random.default_rng(seed)
    means, spreads, lengths = rng.normal(0, 2, 8), rng.uniform(0.3, 2, 8), rng.integers(50, 1500, 8)
    return np.concatenate([rng.normal(m, s, n) for m, s, n in zip(means, spreads, lengths, strict=True)])


def found(detector, x, keys=1):
    """Where it says drift, each value for every key."""
    space = KeySpace()
    drifts = Drifts(1, detector, ("alert",), space)
    slots = np.array([space.enter(k) for _ in x for k in range(keys)], np.int64)
    told = drifts.find(slots, np.repeat(x, keys)[:, None].copy())
    return told.reshape(-1, keys) >= 0


def of_river(detector, x):
    told = []
    for value in x.tolist():
        detector.update(value)
        told.append(detector.drift_detected)
    return np.array(told)


@pytest.mark.parametrize("seed", range(4))
def test_adwin_says_what_rivers_says(seed):
    x = changing(seed)
    want = of_river(rivers.ADWIN(), x)
    assert want.sum() > 3
    npt.assert_array_equal(found("adwin", x)[:, 0], want)


@pytest.mark.parametrize("seed", range(4))
def test_page_hinkley_says_what_rivers_says(seed):
    x = changing(seed)
    want = of_river(rivers.PageHinkley(delta=PH_DELTA, threshold=PH_LAMBDA, mode="up"), x)
    assert want.any()
    npt.assert_array_equal(found("page-hinkley", x)[:, 0], want)


def test_adwin_keeps_a_window_of_any_length():
    x = np.random.default_rng(0).normal(size=60_000)
    x[50_000:] += 0.3
    told = np.flatnonzero(found("adwin", x)[:, 0])
    npt.assert_array_equal(told, np.flatnonzero(of_river(rivers.ADWIN(), x)))
    assert ((told > 50_000) & (told < 51_500)).any()


@pytest.mark.parametrize("detector", ["page-hinkley", "adwin"])
def test_each_key_has_a_detector_of_its_own(detector):
    x = changing(1)
    told = found(detector, x, keys=3)
    npt.assert_array_equal(told, np.repeat(found(detector, x), 3, axis=1))


def test_missing_values_are_no_values():
    x = changing(2)
    gaps = np.full(2 * len(x), np.nan)
    gaps[::2] = x
    npt.assert_array_equal(found("adwin", gaps)[::2], found("adwin", x))


# In a model ------------------------------------------------------------------------------------------


def stream(n, at):
    """Noise that becomes five times as large."""
    rng = np.random.default_rng(3)
    return [{"t": START + 600.0 * i, "x": float(rng.normal() * (5.0 if i >= at else 1.0))} for i in range(n)]


def model(**settings):
    return Forecaster(**({"target": "x", "time": "t", "kind": "rnn", "hidden": 4, "k2": 2, "alert_budget": None,
                          "drift": "page-hinkley"} | settings))  # fmt: skip


@pytest.mark.parametrize("detector", ["page-hinkley", "adwin"])
def test_errors_that_grow_are_told_of_soon_after(detector):
    out = model(drift=detector).step_many(stream(2500, 1500))
    told = [p for p in out if p.alert]
    assert {p.alert.kind for p in told} == {"drift"}
    assert told[0].alert.target == "x"
    assert told[0].alert.time == told[0].time
    assert any(1500 < p.step < 1600 for p in told)
    assert len([p for p in told if p.step <= 1500]) <= 1


@pytest.mark.parametrize("settings", [{"drift": "none"}, {"on_drift": "boost_lr"}])
def test_no_alert_unless_it_is_wanted(settings):
    assert not any(p.alert for p in model(**settings).step_many(stream(2500, 1500)))


def test_a_drift_raises_the_learning_rate_from_the_next_cell_on_and_for_a_while():
    m = model(on_drift=["alert", "boost_lr"])
    rates = []
    for event in stream(3000, 1500):
        (p,) = m.step_many([event])
        rates.append((m.learner.lr, bool(p.alert)))
    boosted = [i for i, (lr, _) in enumerate(rates) if lr != 1e-3]
    first = next(i for i, (_, drift) in enumerate(rates) if drift)
    begin = -(-(first + 1) // CELL) * CELL
    assert {lr for lr, _ in rates} == {1e-3, BOOST * 1e-3}
    assert boosted[0] == begin
    again = [i for i, (_, drift) in enumerate(rates) if drift and i < begin + EVENTS]
    last = -(-(again[-1] + 1) // CELL) * CELL
    assert boosted[-1] == max(begin, last) + EVENTS - 1 or len([d for _, d in rates if d]) > len(again)
    assert m.settings["lr"] == 1e-3


@pytest.mark.parametrize("settings", [
    {"drift": "adwin", "on_drift": ["alert", "boost_lr"]},
    {"on_drift": "boost_lr", "learn_anomalies": "down-weight"},
])  # fmt: skip
def test_the_same_bits_in_any_cut_and_after_a_save(settings):
    events = stream(1900, 1000)
    whole, cut = model(**settings), model(**settings)
    want = whole.step_many(events)
    rng = np.random.default_rng(5)
    got, at = [], 0
    while at < len(events):
        n = int(rng.integers(1, 120))
        got += cut.step_many(events[at : at + n])
        cut = Forecaster.from_bytes(cut.to_bytes())
        at += n
    assert msgspec.json.encode(got) == msgspec.json.encode(want)
    assert cut.to_bytes() == whole.to_bytes()


def test_a_live_rate_is_boosted_like_any_other():
    m = model(on_drift="boost_lr")
    m.step_many(stream(1700, 1500))
    m.set_live("lr", 1e-4)
    m.step_many(stream(64, 0))
    assert m.learner.lr in (1e-4, BOOST * 1e-4)
    assert m.settings["lr"] == 1e-4


@pytest.mark.parametrize(("settings", "text"), [
    ({"drift": "adwinn"}, "drift = 'adwinn'.*adwin"), ({"on_drift": "page me"}, "on_drift = "),
    ({"on_drift": ["alert", "alert"]}, "each once"),
])  # fmt: skip
def test_what_cannot_be_is_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        model(**settings)
