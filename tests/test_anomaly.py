"""Anomalies: budgets that are kept, planted ones found, p-values that are uniform, the same bits in any cut."""

import msgspec
import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.anomaly import Anomalies, period_of
from stream_rnn.errors import ConfigError
from stream_rnn.keys import KeySpace
from stream_rnn.model import Forecaster

START = 1_700_006_400  # a midnight
DAY = 86_400
STEP = 600.0  # seconds
PER_DAY = int(DAY / STEP)


def times(n, step=STEP):
    return START + step * np.arange(n)


def season(n, seed=0, noise=0.3):
    """A daily rhythm and noise that remembers."""
    rng = np.random.default_rng(seed)
    t = times(n)
    z = rng.normal(size=n)
    for i in range(1, n):
        z[i] += 0.7 * z[i - 1]
    return 10 + 3 * np.sin(2 * np.pi * t / DAY) + np.sin(4 * np.pi * t / DAY) + noise * z


def judge(values, predicted, *, unit=None, budget="1/week", time=None, targets=1):
    """What is said of one series whose forecasts are given."""
    space = KeySpace()
    watch = Anomalies(targets, budget, space)
    n = len(values)
    slots = np.full(n, space.enter("a"), np.int64)
    values, predicted = (np.ascontiguousarray(np.asarray(x, float).reshape(n, targets)) for x in (values, predicted))
    D = np.ones((n, targets)) if unit is None else np.asarray(unit, float).reshape(n, targets)
    return watch.judge(slots, times(n) if time is None else time, values, predicted, D)


def judged_by_the_season(values, **how):
    """The same with the forecast "as yesterday's mean rhythm": good enough for a season."""
    t = times(len(values))
    return judge(values, 10 + 3 * np.sin(2 * np.pi * t / DAY) + np.sin(4 * np.pi * t / DAY), **how)


def alerts(said):
    return np.flatnonzero(said.hit[:, 0] >= 0)


# Budgets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["normal", "heavy", "bursts"])
@pytest.mark.parametrize(("budget", "wanted"), [("1/day", 200), ("3/week", 86), ("1/week", 29)])
def test_alerts_come_at_the_budgets_rate_whatever_the_errors_are_like(tail, budget, wanted):
    rng = np.random.default_rng(5)
    n = 200 * PER_DAY
    e = {
        "normal": lambda: rng.normal(size=n),
        "heavy": lambda: rng.standard_t(2, size=n),
        "bursts": lambda: rng.normal(size=n) * np.repeat(np.exp(rng.normal(size=n // 60)), 60),
    }[tail]()
    found = len(alerts(judge(e, np.zeros(n), budget=budget)))
    assert 0.7 * wanted <= found <= 1.5 * wanted


def test_the_budget_is_of_time_and_not_of_events():
    e = np.random.default_rng(1).normal(size=40_000)
    slow = len(alerts(judge(e, 0 * e, time=times(40_000, 3600.0), budget="1/week")))
    quick = len(alerts(judge(e, 0 * e, time=times(40_000, 60.0), budget="1/week")))
    assert slow > 10 * quick > 0


def test_without_times_an_event_counts_as_five_minutes():
    e = np.random.default_rng(2).normal(size=30_000)
    none = judge(e, 0 * e, time=np.full(30_000, np.nan), budget="1/day")
    assert 0.7 * 104 <= len(alerts(none)) <= 1.4 * 104


def test_no_budget_no_alerts_but_scores():
    e = np.random.default_rng(3).normal(size=5000)
    e[4000] = 60.0
    said = judge(e, 0 * e, budget=None)
    assert len(alerts(said)) == 0
    assert said.anomaly[4000, 0] > 0.4


@pytest.mark.parametrize("wrong", ["weekly", "0/week", "1/fortnight", 3, "", "-1/day"])
def test_a_budget_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"alerts.budget = .*1/week"):
        Forecaster("x", alert_budget=wrong)


@pytest.mark.parametrize(("text", "seconds"), [("1/hour", 3600), ("24 per day", 3600), ("1/week", 604800),
                                               ("1/month", 2629800), ("0.5/day", 172800)])  # fmt: skip
def test_budgets_may_be_written_in_several_units(text, seconds):
    assert period_of(text) == pytest.approx(seconds)


# What is found ---------------------------------------------------------------------------------------


def planted(kind, n=40 * PER_DAY, at=30 * PER_DAY + 30):
    """(values, where it begins): in the range of the stream."""
    x = season(n)
    day = slice(at, at + PER_DAY)
    if kind == "flat":
        x[day] = x[at]
    elif kind == "shift":
        x[day] = x[at - PER_DAY // 3 : at + PER_DAY - PER_DAY // 3].copy()
    elif kind == "peak":
        x[day] = np.minimum(x[day], 10.0)
    elif kind == "loud":
        x[day] = np.clip(x[day] + np.random.default_rng(1).normal(size=PER_DAY), x.min(), x.max())
    elif kind == "calm":
        t = times(n)
        x[day] = 10 + 0.2 * (x[day] - 10) + 0 * t[day]
    return x, at


@pytest.mark.parametrize("kind", ["flat", "shift", "peak", "loud", "calm"])
def test_what_is_strange_within_the_usual_range_is_found_within_a_day(kind):
    x, at = planted(kind)
    found = alerts(judged_by_the_season(x))
    assert ((found >= at) & (found < at + PER_DAY)).any()
    assert len(found[found < at]) <= 2 * (at / PER_DAY / 7)


def test_a_long_anomaly_is_told_once():
    x, at = planted("flat")
    said = judged_by_the_season(x)
    assert len([a for a in alerts(said) if at <= a < at + PER_DAY]) == 1


def test_a_new_extreme_is_strange_and_the_next_as_large_is_less():
    x = season(20 * PER_DAY)
    x[2000] = x[2100] = 40.0
    x[2200] = 90.0
    strange = judged_by_the_season(x, budget=None).anomaly[:, 0]
    assert strange[2000] > 0.5
    assert strange[2100] < 0.3
    assert strange[2200] > 0.5


def test_a_value_after_a_constant_is_a_novelty():
    x = np.full(1000, 5.0)
    x[900] = 5.1
    said = judge(x, np.full(1000, 5.0), budget=None)
    assert said.anomaly[900, 0] > 0.5
    assert said.anomaly[899, 0] <= 0.1


def test_scores_and_p_values_are_within_their_range_and_missing_where_nothing_is_judged():
    rng = np.random.default_rng(4)
    x = rng.normal(size=3000) * 10.0 ** rng.integers(-9, 9, size=3000)
    x[rng.random(3000) < 0.1] = np.nan
    forecast = np.zeros(3000)
    forecast[:3] = np.nan
    said = judge(x, forecast)
    none = np.isnan(x) | np.isnan(forecast)
    npt.assert_array_equal(np.isnan(said.anomaly[:, 0]), none)
    npt.assert_array_equal(np.isnan(said.p_value[:, 0]), none)
    for numbers in (said.anomaly[~none], said.p_value[~none]):
        assert ((numbers >= 0) & (numbers <= 1)).all()


def test_p_values_are_uniform_where_nothing_changes():
    e = np.random.default_rng(6).standard_t(3, size=20_000)
    p = judge(e, 0 * e).p_value[2000:, 0]
    for level in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9):
        assert (p <= level).mean() == pytest.approx(level, abs=0.004 + 0.05 * level)


def test_a_p_value_is_the_rank_of_an_error_among_those_before():
    rng = np.random.default_rng(7)
    e = rng.normal(size=1500)
    p = judge(e, 0 * e).p_value[:, 0]
    for i in (400, 900, 1499):
        rank = (np.abs(e[: i + 1]) >= abs(e[i])).mean()
        assert p[i] == pytest.approx(rank, abs=0.08)  # by hour, in bins of a third of an octave, and forgetting
    e[1200] = 500.0
    assert judge(e, 0 * e).p_value[1200, 0] < 0.002


def test_several_targets_share_a_keys_budget_and_an_alert_names_its_target():
    n = 60 * PER_DAY
    rng = np.random.default_rng(8)
    e = rng.normal(size=(n, 3))
    e[50 * PER_DAY, 2] = 40.0
    said = judge(e, 0 * e, targets=3)
    assert len(alerts(said)) <= 1.6 * 60 / 7
    assert said.hit[50 * PER_DAY, 0] == 2


@pytest.mark.parametrize("disturb", ["back", "future", "huge", "constant", "gap"])
def test_budgets_outlive_disturbances(disturb):
    n = 80 * PER_DAY
    t, e = times(n), np.random.default_rng(9).normal(size=n)
    half = n // 2
    if disturb == "back":
        t[half:] -= 3 * DAY
    elif disturb == "future":
        t[half] = 4e9
    elif disturb == "huge":
        e[half] = 1e30
    elif disturb == "constant":
        e[half : half + 2 * PER_DAY] = 0.0
    elif disturb == "gap":
        t[half:] += 400 * DAY
    said = judge(e, 0 * e, time=t, budget="1/day")
    late = alerts(said)
    late = late[late >= half + 25 * PER_DAY]
    assert 0.5 * 15 <= len(late) <= 1.8 * 15
    assert not np.isnan(said.anomaly[1:]).any()


# In a model ------------------------------------------------------------------------------------------


def stream(n, keys=3, seed=0):
    """Events of several keys; some values are missing, one key stands still for a while."""
    rng = np.random.default_rng(seed)
    x = season(n // keys + 1, seed)
    events = []
    for i in range(n):
        k, at = i % keys, i // keys
        value = float(x[at] + k)
        if k == 1 and 300 < at < 420:
            value = 11.0
        if rng.random() < 0.02:
            value = None
        events.append({"k": f"k{k}", "t": START + at * STEP, "x": value, "y": float(rng.normal())})
    return events


def small(**settings):
    return Forecaster(**({"target": "x", "key": "k", "time": "t", "kind": "rnn", "hidden": 4, "k2": 2,
                          "alert_budget": "1/day"} | settings))  # fmt: skip


def in_pieces(model, events, seed):
    rng = np.random.default_rng(seed)
    out, at = [], 0
    while at < len(events):
        n = 1 if seed is None else int(rng.integers(1, 150))
        out += model.step_many(events[at : at + n])
        at += n
    return out


@pytest.mark.parametrize("settings", [
    {}, {"target": ["x", "y"]}, {"kind": "mixture", "intervals": [0.9]}, {"horizon": 3},
    {"learn_anomalies": "down-weight"},
])  # fmt: skip
def test_the_same_bits_in_any_cut_and_after_a_save(settings, tmp_path):
    events = stream(1800)
    whole, cut = small(**settings), small(**settings)
    want = whole.step_many(events)
    got = in_pieces(cut, events[:1100], 3)
    cut.save(tmp_path / "model")
    cut = Forecaster.load(tmp_path / "model")
    got += in_pieces(cut, events[1100:], 4)
    assert msgspec.json.encode(got) == msgspec.json.encode(want)
    assert cut.to_bytes() == whole.to_bytes()


def test_predictions_say_how_strange_their_event_was():
    out = small().step_many(stream(3000))
    assert out[0].anomaly is None
    assert out[0].p_value is None
    assert all(p.anomaly is None for p in out if p.actual is None)
    told = [p for p in out if p.alert]
    assert told
    for p in told:
        a = p.alert
        assert (a.key, a.time, a.kind, a.target) == (p.key, p.time, "anomaly", "x")
        assert (a.score, a.p_value, a.actual, a.predicted) == (p.anomaly, p.p_value, p.actual, p.predicted)
        assert a.score >= 0.5
    assert any(p.key == "k1" and 300 < p.step < 430 for p in told)
    assert b'"alert"' not in msgspec.json.encode(out[0])


def test_several_targets_have_dicts():
    out = small(target=["x", "y"], intervals=[0.5, 0.9]).step_many(stream(1500))
    assert set(out[-1].anomaly) == set(out[-1].p_value) == {"x", "y"}
    assert out[0].anomaly == {"x": None, "y": None}
    for p in (p for p in out if p.alert):
        assert p.alert.actual == p.actual[p.alert.target]
        assert p.alert.interval == p.predicted_interval[p.alert.target]


def test_an_alert_has_the_interval_that_was_told():
    events = stream(1500)
    events[1400]["x"] = 99.0
    p = small(intervals=[0.9]).step_many(events)[1400]
    assert p.alert.interval == p.predicted_interval
    low, high = p.alert.interval[0.9]
    assert not low <= 99.0 <= high


def test_an_anomalys_label_may_weigh_less():
    events = stream(1800, keys=1)
    for e in events[1500:1503]:
        e["x"] = 60.0
    rough, mild = small(key=None), small(key=None, learn_anomalies="down-weight")
    for model in (rough, mild):
        model.step_many(events[:1500])
    before = [m.learner.parameters["head.weight"].copy() for m in (rough, mild)]
    for model in (rough, mild):
        model.step_many(events[1500:1504])
    after = [m.learner.parameters["head.weight"] for m in (rough, mild)]
    moved = [float(np.abs(a - b).sum()) for a, b in zip(after, before, strict=True)]
    assert 0 < moved[1] < moved[0]


def test_a_budget_may_change_while_it_runs():
    events = stream(6000, keys=1)
    model = small(key=None, alert_budget=None)
    assert not any(p.alert for p in model.step_many(events[:3000]))
    model.set_live("alert_budget", "1/hour")
    assert model.settings["alert_budget"] == "1/hour"
    assert sum(1 for p in model.step_many(events[3000:]) if p.alert) > 5
    with pytest.raises(ConfigError):
        model.set_live("alert_budget", "often")


def test_what_a_model_is_told_of_anomalies_must_make_sense():
    with pytest.raises(ConfigError, match="learn_anomalies = 'never'"):
        Forecaster("x", learn_anomalies="never")
    with pytest.raises(ConfigError, match="silent_alerts"):
        Forecaster("x", silent_alerts="yes")
