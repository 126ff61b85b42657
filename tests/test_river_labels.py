"""Regressor and Classifier as river estimators: river's own checks, pipelines, progressive validation."""

from __future__ import annotations

import datetime as dt
import importlib.util
import subprocess
import sys
import types
import warnings

import pytest
from river import checks, datasets, evaluate, linear_model, metrics, preprocessing

from stream_rnn import Classifier, Regressor
from stream_rnn.errors import InputError


@pytest.fixture(autouse=True)
def _sklearn(monkeypatch):
    """river's checks import it for estimators of another kind than ours."""
    if importlib.util.find_spec("sklearn") is None:
        stub = types.ModuleType("sklearn")
        stub.datasets = types.ModuleType("sklearn.datasets")
        monkeypatch.setitem(sys.modules, "sklearn", stub)
        monkeypatch.setitem(sys.modules, "sklearn.datasets", stub.datasets)


@pytest.mark.parametrize("model", [Regressor(hidden=8, k2=4), Classifier(hidden=8, k2=4)], ids=str)
def test_passes_all_of_river_s_checks(model):
    assert not model._unit_test_skips()
    ran = 0
    for check in checks.yield_checks(model):
        check(model.clone())
        ran += 1
    assert ran >= 25


def test_a_regression_in_a_pipeline_beats_the_linear_one():
    def score(model):
        return evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE()).get()

    ours = score(preprocessing.StandardScaler() | Regressor())
    assert ours < score(preprocessing.StandardScaler() | linear_model.LinearRegression()) / 2
    assert score(Regressor()) < 1.0


def test_a_classification_with_late_labels_beats_the_logistic_one():
    """Labels come a while after their predictions: river's delayed progressive validation."""
    start = dt.datetime(2024, 1, 1)

    def score(model):
        stream = ((dict(x, n=i), y) for i, (x, y) in enumerate(datasets.Phishing()))
        return evaluate.progressive_val_score(
            stream, model, metrics.LogLoss(), moment=lambda x: start + dt.timedelta(minutes=x["n"]),
            delay=dt.timedelta(minutes=10),
        ).get()  # fmt: skip

    ours = score(Classifier(ignore=["n"]))
    assert ours < score(preprocessing.StandardScaler() | linear_model.LogisticRegression())


def test_a_look_changes_nothing():
    model = Classifier(key="shop", hidden=8, k1=3, k2=4)
    for i, (x, y) in enumerate(datasets.Phishing().take(40)):
        model.learn_one(x | {"shop": i % 3}, y)
    before = model.to_bytes()
    for x, _ in datasets.Phishing().take(60):
        for shop in (0, 7):
            assert sum(model.predict_proba_one(x | {"shop": shop, "a new one": 1.0}).values()) == pytest.approx(1)
    assert model.to_bytes() == before


def test_a_look_is_what_the_step_then_says():
    one, other = Regressor(hidden=8), Regressor(hidden=8)
    for x, y in datasets.TrumpApproval().take(50):
        looked = one.predict_one(x)
        one.learn_one(x, y)
        (p,) = other._take([x], [y])
        assert looked == (p.predicted or 0.0)


def test_a_label_that_cannot_be_one_is_refused():
    with pytest.raises(InputError, match="label"):
        Regressor().learn_one({"x": 1.0}, "high")
    with pytest.raises(InputError, match="class"):
        Classifier().learn_one({"x": 1.0}, 1.5)


def test_names_of_features_may_be_numbers():
    model = Regressor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(20):
            model.learn_one({0: float(i % 3), 1: 1.0}, 2.0 * (i % 3))
    assert model.predict_one({0: 2.0, 1: 1.0}) == pytest.approx(4.0, abs=0.8)


def test_river_is_imported_only_for_its_estimators():
    code = "import sys, stream_rnn; stream_rnn.Forecaster; assert 'river' not in sys.modules; stream_rnn.Regressor; " \
           "assert 'river.base' in sys.modules and not {'pandas', 'river.linear_model'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
