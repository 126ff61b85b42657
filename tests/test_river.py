"""Our models among river's: its own checks of a forecaster, and a long way round through its tools."""

import copy
import importlib.util
import math
import pickle
import sys
import types

import pytest
from river import checks, datasets, metrics, stats

from stream_rnn import model
from stream_rnn.errors import ConfigError, InputError
from stream_rnn.river import Forecaster


def forecaster(**settings):
    return Forecaster(**{"horizon": 4, "hidden": 16} | settings)


def test_it_passes_rivers_own_checks(monkeypatch):
    if importlib.util.find_spec("sklearn") is None:  # the checks import it, and need it for other kinds of models
        stub = types.ModuleType("sklearn")
        stub.datasets = types.ModuleType("sklearn.datasets")
        monkeypatch.setitem(sys.modules, "sklearn", stub)
    for check in (found := list(checks.yield_checks(forecaster()))):
        check(forecaster())
    assert {"check_forecast", "check_learn_one", "check_clone_is_idempotent"} <= {c.__name__ for c in found}


def test_it_says_what_the_model_says():
    ours, theirs = model.Forecaster("y", time="month", horizon=4, hidden=16), forecaster(time="month")
    for x, y in datasets.AirlinePassengers().take(40):
        said = ours.step({"y": y, **x})
        theirs.learn_one(y, x)
        assert theirs.forecast(4) == said.forecast
        assert theirs.forecast(2) == said.forecast[:2]


def test_airline_passengers_are_forecast_better_than_by_the_last_value():
    ours, last = metrics.MAE(), metrics.MAE()
    forecaster, newest = Forecaster(horizon=12, time="month"), stats.Shift(0)
    for x, y in datasets.AirlinePassengers():
        if newest.get() is not None:
            ours.update(y, forecaster.forecast(1)[0])
            last.update(y, newest.get())
        forecaster.learn_one(y, x)
        newest.update(y)
    assert ours.get() < last.get()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_goes_on_as_the_first(again):
    first = forecaster()
    for t in range(30):
        first.learn_one(math.sin(t), {"a": t})
    second = again(first)
    for t in range(30, 40):
        assert second.forecast(4) == first.forecast(4)
        first.learn_one(math.sin(t), {"a": t})
        second.learn_one(math.sin(t), {"a": t})
    assert second.forecast(4) == first.forecast(4)


def test_missing_values_and_wrong_use():
    f = forecaster()
    assert f.forecast(3) == [0.0] * 3
    f.learn_one(None)
    f.learn_one(2.0, {1: 5.0, "name": "text"})
    f.learn_one(float("nan"))
    assert f.forecast(1) == pytest.approx([2.0], abs=0.5)
    with pytest.raises(InputError, match="value y"):
        f.learn_one("much")
    with pytest.raises(ConfigError, match="horizon=9"):
        f.forecast(9)
    with pytest.raises(ConfigError, match="one a step"):
        f.forecast(2, [{}])
