"""What a Forecaster promises: order, bits, no look-ahead, the rules for fields, and no NaN whatever comes in."""

import copy
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.errors import ConfigError, InputError, StateDamaged, StateMismatch
from stream_rnn.model import Forecaster
from stream_rnn.records import BadEvent, Prediction

START = 1_700_000_000


def events(n=240, seed=1, keys=3, dirty=True):
    """A stream with everything in it: keys, gaps, a clock that goes back, late and vanishing features, bad events."""
    rng = np.random.default_rng(seed)
    stream = []
    for t in range(n):
        event = {
            "id": f"k{rng.integers(keys)}",
            "at": START + 300 * t,
            "y": float(np.sin(t / 7) * 5 + rng.normal()),
            "z": float(rng.normal() * 100),
            "load": float(rng.normal()),
            "word": str(rng.choice(["on", "off", "idle"])),
        }
        if dirty:
            odd = rng.integers(14)
            if odd == 0:
                event["y"] = rng.choice(np.array([None, "", float("nan"), "oops", float("inf"), [1]], object))
            elif odd == 1:
                times = [None, "2023-11-14T22:13:20+01:00", event["at"] * 1000, "?", 1]
                event["at"] = rng.choice(np.array(times, object))
            elif odd == 2:
                event["id"] = rng.choice(np.array([None, 7, 7.0, True, 1.5, ("a",)], object))
            elif odd == 3:
                event["load"] = rng.choice(np.array(["high", None, True, 1e300], object))
            elif odd == 4:
                del event[str(rng.choice(["y", "at", "load", "id"]))]
            if t > n // 3:
                event |= {f"late{i}": float(i + t % 3) for i in range(int(rng.integers(7)))}
            if t > n // 2:
                event["odd"] = rng.choice(np.array([1.0, "text", None, False], object))
        stream.append(event)
    return stream


def forecaster(**changes):
    given_ = {"target": ["y", "z"], "key": "id", "time": "at", "horizon": 2, "hidden": 8, "k2": 4, "max_features": 8}
    return Forecaster(**(given_ | changes))


def raw(answers):
    return [msgspec.json.encode(a) for a in answers]


def state(model):
    shared = {name: a.tobytes() for name, a in model.shared_arrays().items()}
    return shared, {key: model.keyspace.get(key) for key in model.keyspace.slots}


# Order and shape ------------------------------------------------------------------------------------


def test_predicted_is_the_last_forecast_bit_for_bit():
    last = {}
    seen = 0
    for p in forecaster(horizon=3).step_many(events()):
        if isinstance(p, BadEvent):
            continue
        told = last.get(p.key)
        for name in ("y", "z"):
            before = None if told is None or told[name] is None else told[name][0]
            assert p.predicted[name] == before
            seen += before is not None
            missing = p.actual[name] is None or before is None
            assert p.error[name] == (None if missing else p.actual[name] - before)
        last[p.key] = p.forecast
    assert seen > 200


@pytest.mark.parametrize(
    ("target", "horizon", "shape"),
    [
        ("y", 1, float),
        ("y", 3, [float] * 3),
        (["y"], 1, float),
        (["y", "z"], 1, {"y": float, "z": float}),
        (["y", "z"], 2, {"y": [float] * 2, "z": [float] * 2}),
    ],
)
def test_the_shape_of_a_forecast(target, horizon, shape):
    def shape_of(x):
        if isinstance(x, dict):
            return {k: shape_of(v) for k, v in x.items()}
        return [shape_of(v) for v in x] if isinstance(x, list) else type(x)

    model = forecaster(target=target, horizon=horizon, key=None)
    first, second = model.step_many(events(2, dirty=False))
    one = {"y": float, "z": float} if isinstance(shape, dict) else float
    assert shape_of(first.forecast) == shape_of(second.forecast) == shape
    assert shape_of(second.predicted) == shape_of(second.actual) == shape_of(second.error) == one
    assert first.predicted == ({"y": None, "z": None} if isinstance(shape, dict) else None)
    assert (first.step, second.step, first.key, first.source) == (1, 2, None, None)


def test_the_first_forecast_is_the_last_value_and_the_expected_time_follows_the_interval():
    model = Forecaster("y", time="t")
    answers = model.step_many([{"t": START + 60 * i, "y": 20.0 + i} for i in (0, 1, 2, 3, 9)])
    assert (answers[0].forecast, answers[0].forecast_time, answers[0].time) == (20.0, None, START)
    assert [a.forecast_time for a in answers[1:]] == [START + 60 * i for i in (2, 3, 4, 10)]


def test_it_learns():
    n = 3000
    rng = np.random.default_rng(0)
    t = np.arange(n)
    y = 50 + 10 * np.sin(2 * np.pi * t / 48) + 3 * np.sin(2 * np.pi * t / 7) + rng.normal(size=n) * 0.3
    answers = Forecaster("y", time="t").step_many([{"t": START + 1800 * i, "y": v} for i, v in enumerate(y.tolist())])
    error = np.mean([abs(a.error) for a in answers[-1000:]])
    assert error < 0.35 * np.abs(np.diff(y)[-1000:]).mean()  # the last value's error; noise alone is 0.15 of it


def test_every_step_ahead_is_learnt_on_its_own():
    n, horizon = 2500, 6
    y = [10 * math.sin(2 * math.pi * i / 48) + 4 * math.sin(2 * math.pi * i / 5) for i in range(n)]
    model = Forecaster("y", time="t", horizon=horizon)
    answers = model.step_many([{"t": START + 1800 * i, "y": v} for i, v in enumerate(y)])
    for ahead in range(1, horizon + 1):
        pairs = range(n - 500, n - ahead)
        error = np.mean([abs(answers[e].forecast[ahead - 1] - y[e + ahead]) for e in pairs])
        naive = np.mean([abs(y[e] - y[e + ahead]) for e in pairs])
        assert error < 0.25 * naive, ahead


# Bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["auto", "named"])
def test_the_cut_into_blocks_never_shows(kind):
    stream = events()
    changes = {} if kind == "auto" else {"features": ["load", "word", "late3", "odd"]}
    whole = forecaster(**changes)
    expected = raw(whole.step_many(stream))
    rng = np.random.default_rng(4)
    cuts = [np.arange(1, len(stream)), *(np.sort(rng.choice(len(stream), 9)) for _ in range(3))]
    for cut in cuts:
        model = forecaster(**changes)
        answers = []
        for a, b in zip([0, *cut], [*cut, len(stream)], strict=True):
            answers += model.step_many(stream[a:b])
        assert raw(answers) == expected
        assert state(model) == state(whole)
        assert model.counters == whole.counters
    assert whole.features.units > 4  # room was made on the way


def test_it_goes_on_bit_for_bit_from_what_was_saved_at_any_event(tmp_path):
    stream = events()
    expected = raw(forecaster().step_many(stream))
    for stop in range(0, len(stream), 7):
        model = forecaster()
        model.step_many(stream[:stop])
        model.save(tmp_path / "model")
        loaded = Forecaster.load(tmp_path / "model")
        assert state(loaded) == state(model)
        assert raw(loaded.step_many(stream[stop:])) == expected[stop:]
        assert raw(model.step_many(stream[stop:])) == expected[stop:]  # saving changed nothing
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_shared_arrays_and_rows_are_all_there_is():
    stream = events()
    model = forecaster()
    model.step_many(stream[:150])
    shared = copy.deepcopy(model.shared_arrays())
    rows = [(key, model.keyspace.get(key)) for key in reversed(list(model.keyspace.slots))]  # slots may differ
    other = Forecaster(**msgspec.json.decode(msgspec.json.encode(model.settings)))
    other.load_shared(shared)
    other.keyspace.load(rows)
    assert raw(other.step_many(stream[150:])) == raw(model.step_many(stream[150:]))
    assert state(other) == state(model)


def test_only_keys_that_moved_count_as_changed():
    model = forecaster()
    model.step_many(events(dirty=False))
    model.keyspace.clear_changed()
    model.step({"id": "k1", "at": START * 2, "y": 1.0, "z": 2.0})
    assert model.keyspace.changed_keys() == ["k1"]
    assert model.keyspace.clock == 241  # an event counts once


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 239), st.integers(1, 4))
def test_nothing_up_to_an_event_depends_on_later_ones(t, horizon):
    stream = events()
    before = raw(forecaster(horizon=horizon).step_many(stream))
    changed = [e | {"y": 1e6, "at": 3 * START, "load": -7.0, "new": 1.0, "id": "k0"} for e in stream[t:]]
    after = raw(forecaster(horizon=horizon).step_many(stream[:t] + changed))
    assert before[:t] == after[:t]
    assert before[t] != after[t]


def test_damaged_or_foreign_files_are_refused(tmp_path):
    model = forecaster()
    model.step_many(events(30))
    saved = model.to_bytes()
    for place in (0, 20, len(saved) // 2, len(saved) - 1):
        damaged = bytearray(saved)
        damaged[place] ^= 1
        with pytest.raises(StateDamaged):
            Forecaster.from_bytes(bytes(damaged))
    with pytest.raises(StateMismatch, match="learner"):
        Forecaster.from_bytes(model.learner.to_bytes())
    with pytest.raises(InputError, match="no-such"):
        Forecaster.load(tmp_path / "no-such")
    with pytest.raises(StateMismatch):
        forecaster(hidden=32).load_shared(model.shared_arrays())


# Fields -----------------------------------------------------------------------------------------------


def test_a_bad_event_says_why_and_moves_nothing():
    model = Forecaster("y", key="id", time="at", horizon=2)
    fine = {"id": "a", "at": START, "y": 1.0}
    model.step_many([fine, fine | {"at": START + 60}])
    before = state(model)
    cases = [
        ({"y": "12"}, "target", "'y' is '12', a str"),
        ({"y": [1]}, "target", "a list"),
        ({"y": math.inf}, "target", "inf"),
        ({"y": -1e31}, "target", "beyond"),
        ({"y": 10**400}, "target", "beyond"),
        ({"id": None}, "key", "'id' is None"),
        ({"id": 1.5}, "key", "text or a whole number"),
        ({"id": True}, "key", "truth value"),
        ({"id": 2**64}, "key", "64 bits"),
        ({"id": "\ud800"}, "key", "Unicode"),
        ({"id": ["a"]}, "key", "text or a whole number"),
        ({"at": "yesterday"}, "time", "'at' is 'yesterday'"),
        ({"at": math.inf}, "time", "ISO 8601"),
        ({"at": 1e30}, "time", "epoch"),
        ({"at": True}, "time", "epoch"),
    ]
    for change, cause, words in cases:
        answer = model.step(fine | change | {"new": 4.0})
        assert isinstance(answer, BadEvent), change
        assert answer.cause == cause
        assert words in answer.reason
    assert model.counters["bad"] == len(cases)
    after = state(model)
    assert after[1] == before[1]
    assert {k: v for k, v in after[0].items() if k != "fields"} == {k: v for k, v in before[0].items() if k != "fields"}
    assert not model.fields.places  # not even a place for the new feature


def test_a_missing_target_is_an_unlabelled_step():
    model = Forecaster("y")
    model.step_many([{"y": float(i % 5)} for i in range(50)])
    labels, steps = model.learner.counters["labels"], model.learner.counters["steps"]
    forecast = None
    for event in ({}, {"y": None}, {"y": ""}, {"y": " "}, {"y": math.nan}, {"y": "NaN"}):
        answer = model.step(event)
        assert isinstance(answer, Prediction)
        assert (answer.actual, answer.error) == (None, None)
        assert isinstance(answer.forecast, float)
        assert isinstance(answer.predicted, float)
        assert forecast is None or answer.predicted == forecast
        forecast = answer.forecast
    assert model.learner.counters["labels"] == labels
    assert model.learner.counters["steps"] == steps + 6


def test_no_forecast_before_the_first_value():
    for horizon in (1, 3):
        first, second, third = Forecaster("y", horizon=horizon).step_many([{}, {"y": 2.0}, {"y": 3.0}])
        assert (first.forecast, first.predicted, second.predicted) == (None, None, None)
        assert third.predicted == 2.0
    answer = Forecaster(["y", "z"]).step({"y": 1.0})
    assert answer.forecast == {"y": 1.0, "z": None}


def test_features_are_every_numeric_field_that_has_no_other_part():
    model = Forecaster("y", key="id", time="at", ignore=["label"])
    model.step({"id": 4, "at": START, "y": 1, "label": 1, "b": 2, "a": 3.5, "on": True, "text": "x", "none": None,
                "list": [1], "@timestamp": 5.0, "@key": "k"})  # fmt: skip
    assert list(model.fields.places) == ["a", "b", "on"]  # in sorted order
    model.step({"id": 4, "at": START, "y": 1, "z": 1, "none": 2.0})
    assert list(model.fields.places) == ["a", "b", "on", "none", "z"]


def test_features_beyond_the_limit_are_counted():
    model = Forecaster("y", max_features=3)
    model.step({"y": 1.0, "e": 1.0, "d": 2.0})
    model.step_many([{"y": 1.0, "c": 1.0, "b": 2, "a": None}, {"y": 1.0, "c": 5.0, "a": 2.0}])
    assert list(model.fields.places) == ["d", "e", "b"]
    assert model.counters["over_limit"] == 3
    assert Forecaster("y", max_features=0).step({"y": 1.0, "a": 1.0}).forecast == 1.0


def test_wrong_types_are_masked_and_counted():
    model = Forecaster("y", features=["n", "w"])
    model.step_many([{"y": 1.0, "n": 1.0, "w": "on"}, {"y": 2.0, "n": "x", "w": 3.0}, {"y": 2.0, "n": [1], "w": False},
                     {"y": 2.0, "n": math.inf, "w": "off"}, {"y": 2.0, "n": None, "w": ""}, {"y": 1.0}])  # fmt: skip
    assert model.counters["masked"] == 5
    assert model.fields.places["w"].text
    assert not model.fields.places["n"].text


def test_text_is_a_feature_where_it_is_named():
    rng = np.random.default_rng(3)
    words = rng.choice(["rising", "falling"], 2000).tolist()
    y, stream = 0.0, []
    for word, following in zip(["rising", *words], words, strict=False):
        y += 1.0 if word == "rising" else -1.0
        stream.append({"y": y, "next": following})
    named = Forecaster("y", features=["next"]).step_many(stream)
    blind = Forecaster("y").step_many(stream)
    error = [np.mean([abs(p.error) for p in answers[-500:]]) for answers in (named, blind)]
    assert error[0] < 0.2
    assert error[1] > 0.8


def test_a_late_feature_leaves_what_was_learnt_as_it_was():
    """Its first value is not yet in any scale, so nothing may move; new inputs begin at zero weights."""
    stream = [{"y": math.sin(i / 5)} for i in range(300)]
    with_feature = copy.deepcopy(stream)
    with_feature[100]["late"] = 5.0
    with_feature[100] |= {f"more{i}": 1.0 for i in range(9)}
    plain, grown = Forecaster("y"), Forecaster("y")
    expected, answers = plain.step_many(stream), grown.step_many(with_feature)
    assert [a.forecast for a in answers[:101]] == [a.forecast for a in expected[:101]]
    np.testing.assert_allclose([a.forecast for a in answers], [a.forecast for a in expected], rtol=1e-4, atol=1e-5)
    assert grown.learner.inputs == plain.learner.inputs + 24
    weights, before = grown.learner.parameters, plain.learner.parameters
    assert not weights["weight_ih"][:, plain.learner.inputs :].any()
    for name in before:
        np.testing.assert_allclose(weights[name][..., : before[name].shape[-1]], before[name], rtol=1e-3, atol=1e-5)


def test_states_from_before_there_was_room_for_a_feature_still_fit():
    """A key that waited in a store meanwhile comes back with rows of the old shape."""
    plain = {"id": "k2", "at": START, "y": 1.0, "z": 2.0}
    stream = [{k: v for k, v in e.items() if k in plain} for e in events(dirty=False)]
    model = forecaster()
    model.step_many(stream)
    waiting = model.keyspace.get("k2")
    model.step_many([e | {f"more{i}": 1.0 * t for i in range(5)} for t, e in enumerate(stream) if e["id"] != "k2"])
    there, known = forecaster(), model.keyspace.get("k2")
    assert len(known) > len(waiting)
    there.load_shared(model.shared_arrays())
    there.keyspace.put("k2", waiting)
    assert there.keyspace.get("k2") == known
    forgetful = Forecaster.from_bytes(model.to_bytes())
    forgetful.keyspace.forget("k2")
    forgetful.keyspace.recall = {"k2": waiting}.get
    assert raw([forgetful.step(plain)]) == raw([model.step(plain)])
    with pytest.raises(StateMismatch, match="other settings"):
        there.keyspace.put("k2", waiting[:-4])


def test_a_late_feature_is_learnt_from():
    rng = np.random.default_rng(5)
    stream = []
    y, push = 0.0, 0.0
    for i in range(4000):
        y += push
        push = float(rng.normal())
        stream.append({"y": y, "push": push} if i >= 500 else {"y": y})
    answers = Forecaster("y").step_many(stream)
    assert np.mean([abs(p.error) for p in answers[-500:]]) < 0.3 * np.mean([abs(p.error) for p in answers[100:500]])


@pytest.mark.parametrize(
    "times",
    [
        ["2023-11-14T22:13:20", "2023-11-14 22:14:20", "2023-11-14T22:15:20Z", "2023-11-14T23:16:20+01:00"],
        [START, START + 60, START + 120, START + 180],
        [START * 1000, (START + 60) * 10**6, (START + 120) * 10**9, float(START + 180)],
    ],
)
def test_times_are_iso_or_an_epoch_of_any_unit(times):
    answers = Forecaster("y", time="t").step_many([{"t": t, "y": 1.0} for t in times])
    assert [a.time for a in answers] == [START + 60 * i for i in range(4)]
    assert answers[-1].forecast_time == START + 240


def test_where_an_event_has_no_time_the_record_has_or_nothing():
    assert Forecaster("y").step({"y": 1.0, "@timestamp": 5.0}).time == 5.0
    assert Forecaster("y", time="t").step({"y": 1.0, "@timestamp": 5.0}).time == 5.0
    assert Forecaster("y", time="t").step({"y": 1.0, "t": 7, "@timestamp": 5.0}).time == 7.0
    assert Forecaster("y", time="t").step({"y": 1.0}).time is None


def test_compound_and_nested_fields():
    model = Forecaster("payload.y", key=("site", "payload.id"), time="payload.at")
    event = {"site": "s", "payload": {"id": 7, "at": START, "y": 2.0, "x": {"deep": 1.5}}, "payload.y": 3.0}
    answer = model.step(event)
    assert (answer.key, answer.actual, answer.time) == (("s", 7), 3.0, START)  # the literal name wins
    assert list(model.fields.places) == ["payload.x.deep"]
    assert Forecaster.from_bytes(model.to_bytes()).keyspace.slots == {("s", 7): 0}


# No NaN -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e12, 1e29])
@pytest.mark.parametrize("kind", ["clock back", "gaps", "constant", "zero first", "spikes", "other units", "holes"])
def test_whatever_comes_every_forecast_is_a_number(kind, size):
    rng = np.random.default_rng(8)
    n = 900
    y = rng.normal(size=n).cumsum()
    t = START + 300.0 * np.arange(n)
    if kind == "clock back":
        t[300:500] -= 3600
        t[500:520] = t[500]
    elif kind == "gaps":
        t += np.where(np.arange(n) > 400, 90 * 86400.0, 0)
    elif kind == "constant":
        y[:600] = 5.0
    elif kind == "zero first":
        y[:2] = 0.0
    elif kind == "spikes":
        y[::50] *= 1e6
    elif kind == "other units":
        y[400:600] *= 1e-3
    y = np.clip(y * size, -1e30, 1e30)
    stream = [{"t": a, "y": b} for a, b in zip(t.tolist(), y.tolist(), strict=True)]
    if kind == "holes":
        for e in stream[::3]:
            e["y"] = None
    for horizon in (1, 3):
        answers = Forecaster("y", time="t", horizon=horizon).step_many(stream)
        told = np.array([a.forecast for a in answers if a.forecast is not None], float)
        assert len(told) >= n - 1
        assert np.isfinite(told).all()
        assert np.abs(told).max() < 1e3 * np.abs(y).max()


def test_after_a_disturbance_it_is_soon_as_good_as_the_last_value():
    rng = np.random.default_rng(9)
    y = 20 + rng.normal(size=3000).cumsum() * 0.1
    for change in (lambda v: v * 1000, lambda v: v * 0 + 3, lambda v: v + 1e6):
        z = y.copy()
        z[1000:1400] = change(z[1000:1400])
        stream = [{"t": START + 300 * i, "y": v} for i, v in enumerate(z.tolist())]
        answers = Forecaster("y", time="t").step_many(stream)
        error = np.mean([abs(a.error) for a in answers[1900:2400]])
        assert error < 1.05 * np.abs(np.diff(z)[1899:2399]).mean()


# Arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": []}, "at least one"),
        ({"target": ["y", "y"]}, "twice"),
        ({"target": 3}, "target = 3"),
        ({"target": "id"}, "also the key or the time"),
        ({"key": ["id", None]}, "key = "),
        ({"time": 5}, "time = 5"),
        ({"features": [1]}, "features = "),
        ({"features": ["load", "at"]}, "'at' is the key or the time"),
        ({"horizon": 0}, "horizon = 0"),
        ({"horizon": 1.5}, "horizon = 1.5"),
        ({"kind": "magic"}, "kind = 'magic'"),
        ({"loss": "cross_entropy"}, "loss = 'cross_entropy'"),
        ({"max_features": -1}, "max_features = -1"),
        ({"lr": lambda u: 1e-3}, "lr = "),
        ({"cell": "gnu"}, "cell = 'gnu'"),
        ({"k1": 8, "k2": 4}, "k2 = 4"),
    ],
)
def test_wrong_arguments_are_named(changes, words):
    with pytest.raises(ConfigError, match="(?s)" + words.replace("[", r"\[")):
        forecaster(**changes)


def test_lr_and_clip_change_live_and_nothing_else():
    model = forecaster()
    model.step_many(events(50))
    model.set_live("lr", 0.0)
    before = model.learner.parameters
    model.step_many(events(50, seed=2))
    for name, value in model.learner.parameters.items():
        np.testing.assert_array_equal(value, before[name])
    assert Forecaster.from_bytes(model.to_bytes()).learner.lr == 0.0
    model.set_live("clip", 0.5)
    for name, value in (("hidden", 64), ("lr", -1.0), ("lr", lambda u: 0.1), ("clip", 0.0)):
        with pytest.raises(ConfigError, match=name):
            model.set_live(name, value)
    assert (model.settings["lr"], model.settings["clip"]) == (0.0, 0.5)
