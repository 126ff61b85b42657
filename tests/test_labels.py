"""Regressor and Classifier: labels at once and later, no look ahead, the same bits however the stream is cut."""

from __future__ import annotations

import copy
import math
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_help import plain, stream

from stream_rnn import BadEvent, Classifier, Prediction, Regressor
from stream_rnn.errors import ConfigError, InputError, StateMismatch

SMALL = {"key": "key", "time": "at", "id": "id", "hidden": 8, "k2": 4, "max_delay": 12}


def make(task: str, **more):
    model = Classifier if task == "classify" else Regressor
    return model("label", **SMALL | more)


def records(task: str, n: int, seed: int = 0):
    return stream(n, seed) if task == "classify" else stream(n, seed, classes=None)


def state(model):
    shared = {name: array.tobytes() for name, array in model.shared_arrays().items()}
    return shared, {key: model.keyspace.get(key) for key in model.keyspace.slots}


TASKS = pytest.mark.parametrize("task", ["classify", "regress"])


@TASKS
@pytest.mark.parametrize("k1", [1, 3])
def test_the_cut_of_blocks_never_shows(task, k1):
    events = records(task, 150)
    whole, parts, single = (make(task, k1=k1) for _ in range(3))
    said = whole.step_many(events)
    rng, told, start = random.Random(1), [], 0
    while start < len(events):
        stop = start + rng.randrange(1, 40)
        told += parts.step_many(events[start:stop])
        start = stop
    one_by_one = [single.step(e) for e in events]
    assert plain(said) == plain(told) == plain(one_by_one)
    assert state(whole) == state(parts) == state(single)


@TASKS
def test_a_saved_model_goes_on_bit_for_bit(task, tmp_path):
    events = records(task, 150)
    whole = make(task)
    said = whole.step_many(events)
    half = make(task)
    half.step_many(events[:70])
    half.save(tmp_path / "model")
    for again in (type(half).load(tmp_path / "model"), pickle.loads(pickle.dumps(half)), copy.deepcopy(half)):
        assert plain(again.step_many(events[70:])) == plain(said[70:])
        assert state(again) == state(whole)


@TASKS
def test_a_key_that_was_away_while_features_came_goes_on_bit_for_bit(task):
    events = [e for e in records(task, 200) if e["key"] != "c" or e.get("at", 0) < 1.7e9 + 60 * 60]
    model, moved = make(task), make(task)
    first = [e for e in events if e["key"] == "c"]
    for m in (model, moved):
        m.step_many(first)
    away = moved.keyspace.get("c")
    moved.keyspace.forget("c")
    rest = [e for e in events if e["key"] != "c"]
    model.step_many(rest)
    moved.step_many(rest)
    moved.keyspace.put("c", away)
    more = [{"key": "c", "at": 1.8e9 + i, "id": i, "x": 0.1 * i, "y": 1.0} for i in range(5)]
    assert plain(model.step_many(more)) == plain(moved.step_many(more))


@TASKS
def test_each_record_gives_one_prediction_or_one_bad_event(task):
    events = records(task, 400)
    model = make(task)
    said = model.step_many(events)
    assert len(said) == len(events)
    steps: dict[str, int] = {}
    first = {}
    taken = set()
    for record, p in zip(events, said, strict=True):
        late = "x" not in record
        if isinstance(p, BadEvent):
            assert p.cause in ({"label_expired", "label_twice"} if late else {"label"})
            continue
        if late:  # joins: what had been told of that event, and its label
            before = first[record["key"], record["id"]]
            assert (p.step, p.predicted, p.id) == (before.step, before.predicted, record["id"])
            assert repr(p.probabilities) == repr(before.probabilities)
            assert p.actual == record["label"]
            assert (record["key"], record["id"]) not in taken
            taken.add((record["key"], record["id"]))
        else:
            steps[record["key"]] = steps.get(record["key"], 0) + 1
            assert p.step == steps[record["key"]]
            assert p.actual == record.get("label")
            first[record["key"], record["id"]] = p
        if p.predicted is not None and p.actual is not None:
            assert p.error == (p.actual - p.predicted if task == "regress" else int(p.actual != p.predicted))
    causes = [p.cause for p in said if isinstance(p, BadEvent)]
    assert {c: causes.count(c) > 0 for c in ("label", "label_expired", "label_twice")} == {
        "label": True, "label_expired": True, "label_twice": True}  # fmt: skip
    assert model.counters["expired"] == causes.count("label_expired")
    assert model.counters["bad"] == len(causes)


@TASKS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_label_is_used_before_it_has_come(task, data):
    """Another label at record n changes nothing that was told before n, nor what is predicted of n itself."""
    events = records(task, 60, data.draw(st.integers(0, 30), "seed"))
    at = data.draw(st.sampled_from([i for i, e in enumerate(events) if isinstance(e.get("label"), (str, float, int))]))
    other = dict(events[at], label="else" if task == "classify" else 1e3)
    said, changed = (make(task).step_many(e) for e in (events, [*events[:at], other, *events[at + 1 :]]))
    assert plain(said[:at]) == plain(changed[:at])
    if isinstance(said[at], Prediction):
        assert said[at].predicted == changed[at].predicted
        assert repr(said[at].probabilities) == repr(changed[at].probabilities)


@TASKS
def test_late_labels_are_learnt(task):
    """A relation that only late labels show: as good as with labels at once, but for the beginning."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=1500)
    truth = [bool(v > 0.3) for v in X] if task == "classify" else (2 * X + 1).tolist()
    model = (Classifier if task == "classify" else Regressor)("label", id="id", max_delay=20, hidden=8, k2=4)
    errors = []
    for i, x in enumerate(X):
        p = model.step({"id": i, "x": x})
        if i >= 20:
            told = model.learn(None, i - 20, truth[i - 20])
            assert (told.step, told.actual) == (i - 19, truth[i - 20])
        if i > 1000:
            errors.append(p.predicted != truth[i] if task == "classify" else abs(p.predicted - truth[i]))
    assert np.mean(errors) < 0.05
    assert model.counters["updates"] == model.counters["labels"] > 1400


@TASKS
def test_a_label_later_than_max_delay_is_refused_and_counted(task):
    model = make(task, key=None, time=None, max_delay=3)
    label = "a" if task == "classify" else 1.0
    for i in range(5):
        model.step({"id": i, "x": 0.5})
    before = state(model)
    refused = model.learn(None, 0, label)
    assert isinstance(refused, BadEvent)
    assert refused.cause == "label_expired"
    assert "max_delay" in refused.reason
    assert isinstance(model.learn(None, "none such", label), BadEvent)
    assert model.counters["expired"] == 2
    shared, keys = state(model)
    assert keys == before[1]
    assert {n for n in shared if shared[n] != before[0][n]} == {"refused"}
    assert isinstance(model.learn(None, 1, label), Prediction)
    assert model.learn(None, 1, label).cause == "label_twice"


@TASKS
def test_a_label_of_a_key_that_never_came_makes_no_key(task):
    model = make(task)
    label = "a" if task == "classify" else 1.0
    assert model.learn("nobody", 1, label).cause == "label_expired"
    assert len(model.keyspace) == 0
    both = [{"key": "k", "id": 1, "x": 1.0}, {"key": "k", "id": 1, "label": label}]
    assert all(isinstance(p, Prediction) for p in model.step_many(both))


def test_without_an_id_every_record_is_an_event():
    model = Classifier("label", hidden=8, k2=4)
    said = model.step_many([{"id": 1, "label": c} for c in "aab"])
    assert [p.step for p in said] == [1, 2, 3]
    assert [p.predicted for p in said] == [None, "a", "a"]
    with pytest.raises(ConfigError, match="id="):
        model.learn(None, 1, "a")


def test_an_event_whose_features_are_all_missing_is_an_event_while_it_has_no_label():
    model = Classifier("label", id="id", features=["x"], hidden=8, k2=4)
    assert model.step({"id": 1, "x": None}).step == 1
    assert model.step({"id": 2, "x": None, "label": "a"}).cause == "label_expired"  # read as a late label
    assert model.step({"id": 1, "x": None, "label": "a"}).step == 1


# Classes ----------------------------------------------------------------------------------------------


def test_classes_are_told_as_they_were_given():
    for classes in (["a", "b"], [1, 2], [True, False], ["1", 1]):
        model = Classifier("c", hidden=8, k2=4)
        for i in range(20):
            p = model.step({"x": float(i % 2), "c": classes[i % 2]})
        assert type(p.predicted) is type(p.actual)
        assert [type(c) for c in p.probabilities] == [type(c) for c in classes]
        assert math.isclose(sum(p.probabilities.values()), 1)
        assert p.predicted == max(p.probabilities, key=p.probabilities.get)


def test_a_class_beyond_the_room_is_refused_and_moves_nothing():
    model = Classifier("c", max_classes=2, id="id", hidden=8, k2=4)
    model.step_many([{"id": 1, "x": 1.0, "c": "a"}, {"id": 2, "x": 1.0, "c": "b"}, {"id": 3, "x": 1.0}])
    before = state(model)
    for refused in (model.step({"id": 4, "x": 1.0, "c": "z"}), model.learn(None, 3, "z")):
        assert refused.cause == "classes"
        assert "max_classes" in refused.reason
    assert state(model)[1] == before[1]
    assert model.counters["over_classes"] == 2
    assert model.learn(None, 3, "b").actual == "b"


def test_a_late_label_that_is_refused_brings_no_class():
    model = Classifier("c", id="id", hidden=8, k2=4)
    model.step_many([{"id": 1, "x": 1.0, "c": "a"}, {"id": 2, "x": 1.0}])
    assert model.learn(None, 9, "new").cause == "label_expired"
    assert model.learn(None, 1, "new").cause == "label_twice"
    assert model.step({"id": 3, "x": 1.0}).probabilities == {"a": 1.0}
    model.learn(None, 2, "new")
    assert set(model.step({"id": 4, "x": 1.0}).probabilities) == {"a", "new"}


@pytest.mark.parametrize("label", [2.5, [1], {"a": 1}, 2**70, b"x"])
def test_what_is_no_class_is_a_bad_event(label):
    bad = Classifier("c", hidden=8).step({"x": 1.0, "c": label})
    assert bad.cause == "label"
    assert "'c'" in bad.reason


@pytest.mark.parametrize("label", [None, "", "  ", math.nan])
def test_a_missing_label_is_none(label):
    p = Classifier("c", hidden=8).step({"x": 1.0, "c": label})
    assert (p.actual, p.error, p.step) == (None, None, 1)


# Quality ----------------------------------------------------------------------------------------------


def no_change(labels):
    """-log p of a calibrated "as the last label", the rest by frequency; None while nothing can be said."""
    counts: dict = {}
    last, stays, trials, told = None, 0.5, 1.0, []
    for y in labels:
        p = None
        if y in counts:
            n, C = sum(counts.values()), len(counts)
            f = {c: (k + 0.5) / (n + 0.5 * C) for c, k in counts.items()}
            rate = 1.0 if C == 1 else stays / trials
            p = rate if y == last else (1 - rate) * f[y] / (1 - f[last])
        told.append(None if p is None else -math.log(p))
        if last is not None:
            stays, trials = stays + (y == last), trials + 1
        counts[y] = counts.get(y, 0) + 1
        last = y
    return told


def _streams(n):
    rng = random.Random(1)

    def sticky(stay, k):
        at, out = 0, []
        for _ in range(n):
            at = at if rng.random() < stay else (at + rng.randrange(1, k)) % k
            out.append(at)
        return out

    xor = [0, 1]
    while len(xor) < n:
        xor.append(xor[-1] ^ xor[-2] ^ (rng.random() < 0.05))
    return {
        "coin": [rng.choice("ab") for _ in range(n)], "uneven": rng.choices("abcd", [6, 3, 2, 1], k=n),
        "ten classes": [rng.randrange(10) for _ in range(n)], "sticky": sticky(0.9, 2), "very sticky": sticky(0.99, 2),
        "sticky, five": sticky(0.9, 5), "constant": ["a"] * n, "never again": ["b"] + ["a"] * (n - 1),
        "periodic": [i % 3 for i in range(n)], "runs": [i // 5 % 2 for i in range(n)], "exclusive or": xor,
        "alternating": [i % 2 == 0 for i in range(n)],
    }  # fmt: skip


@pytest.mark.parametrize("noise", [False, True])
def test_never_worse_than_calibrated_no_change(noise):
    """In log loss, whatever the stream: by 3 nats at most over all of it, which is what choosing an expert costs."""
    for name, labels in _streams(800).items():
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(len(labels), 4)).tolist() if noise else [[]] * len(labels)
        events = [{f"x{j}": v for j, v in enumerate(row)} | {"c": c} for row, c in zip(rows, labels, strict=True)]
        said = Classifier("c", hidden=16, k2=8).step_many(events)
        ours = theirs = 0.0
        for p, naive in zip(said, no_change(labels), strict=True):
            if naive is not None:
                ours, theirs = ours - math.log(p.probabilities[p.actual]), theirs + naive
        assert ours < theirs + 3.0, name
        if name in ("periodic", "runs", "alternating"):
            assert ours < 0.8 * theirs, name


def test_a_regression_is_not_worse_than_mean_line_and_last_label():
    rng = np.random.default_rng(0)
    n = 1000
    X = rng.normal(size=(n, 3))
    line = X @ [1, 2, -1] + 5
    streams = {"exact line": line, "line": line + rng.normal(size=n), "noise": rng.normal(size=n),
               "walk": np.cumsum(rng.normal(size=n)), "constant": np.full(n, 3.0),
               "huge": 1e9 * line + 7e12}  # fmt: skip
    for name, y in streams.items():
        said = Regressor("y").step_many([dict(zip("abc", x, strict=True)) | {"y": v}
                                         for x, v in zip(X.tolist(), y.tolist(), strict=True)])  # fmt: skip
        ours = np.array([p.predicted for p in said[30:]])
        P, w, ols, mean = np.eye(4) * 1e4, np.zeros(4), [], []
        for i, (x, v) in enumerate(zip(np.c_[np.ones(n), X], y, strict=True)):
            ols.append(x @ w)
            mean.append(y[:i].mean() if i else 0)
            k = P @ x / (1 + x @ P @ x)
            w, P = w + k * (v - x @ w), P - np.outer(k, x @ P)
        best = min(np.abs(np.array(e)[30:] - y[30:]).mean() for e in (ols, mean, np.r_[0, y[:-1]]))
        assert np.abs(ours - y[30:]).mean() <= 1.02 * best + 0.005 * y.std(), name


def test_memory_of_the_stream_is_learnt():
    """The label is the feature of three events ago: only the hidden state has it."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=3000)
    y = np.r_[0, 0, 0, x[:-3]]
    said = Regressor("y", lr=3e-3).step_many([{"x": a, "y": b} for a, b in zip(x.tolist(), y.tolist(), strict=True)])
    assert np.abs([p.error for p in said[-1000:]]).mean() < 0.4


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(2)
    x = rng.normal(size=2000)
    y = 2 * x + rng.standard_t(3, size=2000)
    said = Regressor("y").step_many([{"x": a, "y": b} for a, b in zip(x.tolist(), y.tolist(), strict=True)])[100:]
    for level in (0.5, 0.9):
        inside = [low <= p.actual <= high for p in said for low, high in [p.predicted_interval[level]]]
        assert abs(np.mean(inside) - level) < 0.03


# Wrong settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, word", [
    ({"label": "y", "id": "y"}, "id"), ({"label": "y", "features": ["y"]}, "label"),
    ({"label": "y", "key": "y"}, "label"), ({"label": "y", "time": "t", "features": ["t"]}, "features"),
    ({"label": 3}, "label"), ({"max_delay": -1}, "max_delay"),
    ({"lr": "fast"}, "lr"), ({"k1": 5, "k2": 3}, "k2"), ({"cell": "my:Cell"}, "cell"), ({"id": ["a"]}, "id"),
])  # fmt: skip
def test_impossible_settings_are_refused_by_name(settings, word):
    for model in (Classifier, Regressor):
        with pytest.raises(ConfigError, match=word):
            model(**settings)


def test_a_state_of_other_settings_is_refused():
    model = Classifier("c", hidden=8)
    model.step({"x": 1.0, "c": 1})
    with pytest.raises(StateMismatch):
        Classifier("c", hidden=16).load_shared(model.shared_arrays())
    with pytest.raises(StateMismatch):
        Regressor.from_bytes(model.to_bytes())
    with pytest.raises(InputError):
        Classifier.load("there/is/none")
