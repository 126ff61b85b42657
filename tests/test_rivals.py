"""eval --metric and --baseline: river's metrics and models on the same pairs as ours."""

import json
import math
import random
from pathlib import Path

import pytest
from river import linear_model, metrics, preprocessing

from stream_rnn import cli
from stream_rnn.rivals import FIRST, LAGS

EVENTS = 300


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("rivals") / "rooms.csv"
    lines = ["at,room,temperature,load"]
    for t in range(EVENTS):
        for room in ("a", "b"):
            value = "" if rng.random() < 0.05 else f"{20 + 5 * math.sin(t / 9) + rng.gauss(0, 0.5):.3f}"
            lines.append(f"{1.7e9 + 600 * t},{room},{value},{rng.gauss(0, 1):.3f}")
    path.write_text("\n".join(lines))
    return str(path)


def told(capsys, file, *arguments):
    command = ["eval", file, "--target", "temperature", "--key", "room", "--time", "at", "--set", "model.hidden=16"]
    assert cli.main([*command, *arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, file, *arguments):
    assert cli.main(["eval", file, "--target", "temperature", *arguments]) == cli.USAGE
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def test_a_metric_is_rivers_over_all_scored_pairs(file, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    said = told(capsys, file, "--metric", "R2", "--metric", "MAE", "--out", str(rows))
    expected, last, values = metrics.R2(), {}, 0
    for row in map(json.loads, rows.read_text().splitlines()):
        if row["actual"] is not None:
            if row["predicted"] is not None and row["key"] in last:
                expected.update(row["actual"], row["predicted"])
                values += 1
            last[row["key"]] = row["actual"]
    assert said["metrics"]["R2"] == pytest.approx(expected.get())
    assert said["metrics"]["MAE"] == pytest.approx(said["mae"])
    assert said["baselines"]["persistence"]["metrics"]["MAE"] == pytest.approx(said["baselines"]["persistence"]["mae"])
    assert said["scored"] == values


def test_a_baseline_is_the_pipeline_that_the_docs_tell(file, capsys):
    said = told(capsys, file, "--baseline", "river:linear_model.LinearRegression(l2=0.01)")
    series = {}
    errors = []
    for line in Path(file).read_text().splitlines()[1:]:
        _, room, value, load = line.split(",")
        model, lags, asked, learnt = series.setdefault(room, [
            preprocessing.StandardScaler()
            | preprocessing.TargetStandardScaler(regressor=linear_model.LinearRegression(l2=0.01)), [], None, 0
        ])  # fmt: skip
        if value:
            if asked is not None:
                forecast = lags[0] if learnt < FIRST else model.predict_one(asked)
                errors.append(abs(forecast - float(value)))
                model.learn_one(asked, float(value))
                learnt += 1
            lags = [float(value), *lags][:LAGS]
        asked = {f"lag {i}": v for i, v in enumerate(lags)} | {"load": float(load)} if lags else None
        series[room] = [model, lags, asked, learnt]
    theirs = said["baselines"]["river:linear_model.LinearRegression(l2=0.01)"]
    assert theirs["mae"] == pytest.approx(sum(errors) / len(errors))
    assert theirs["skill_mae"] == pytest.approx(1 - said["mae"] / theirs["mae"])
    assert said["scored"] == len(errors)


def test_it_changes_nothing_else(file, capsys):
    plain = told(capsys, file, "--horizon", "2")
    said = told(capsys, file, "--horizon", "2", "--metric", "R2", "--baseline", "river:linear_model.LinearRegression")
    for name in ("mae", "rmse", "scored", "skill_mae", "updates", "score"):
        assert said[name] == plain[name]


def test_series_models_several_targets_and_steps(file, capsys):
    name = "river:time_series.HoltWinters(alpha=0.3, beta=0.1)"
    said = told(capsys, file, "--target", "load", "--horizon", "3", "--baseline", name, "--metric", "RMSE")
    for scores in (said, said["targets"]["temperature"], said["targets"]["load"]):
        assert scores["baselines"][name]["metrics"]["RMSE"] == pytest.approx(scores["baselines"][name]["rmse"])
        assert scores["metrics"]["RMSE"] == pytest.approx(scores["rmse"])


def test_the_table_shows_them(file, capsys):
    assert cli.main(["eval", file, "--target", "temperature", "--metric", "R2", "--baseline",
                     "river:linear_model.LinearRegression", "-q"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "river:linear_model.LinearRegression" in out
    assert "R2" in out


@pytest.mark.parametrize("arguments, hint", [
    (["--metric", "RMSSE"], "did you mean RMSE?"),
    (["--metric", "Accuracy"], "judges something else"),
    (["--baseline", "river:linear_model.LinearRegresion"], "did you mean LinearRegression?"),
    (["--baseline", "river:linearmodel.X"], "did you mean linear_model?"),
    (["--baseline", "river:time_series.HoltWinters"], "alpha"),
    (["--baseline", "river:linear_model.LinearRegression(open('x'))"], "plain values by name"),
    (["--baseline", "river:linear_model.LogisticRegression"], "no regressor"),
    (["--baseline", "sklearn.linear_model"], "river:module.Class"),
])  # fmt: skip
def test_a_wrong_name_is_one_line_with_the_nearest(arguments, hint, file, capsys):
    assert hint in refused(capsys, file, *arguments)
