"""`eval --task regress|classify`, and the same tasks in a config: scores, rows, reports, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import random

import numpy as np
import pytest
from label_help import stream

from stream_rnn import Classifier, cli, config, job
from stream_rnn.errors import ConfigError
from stream_rnn.label_scores import Chances, Numbers


def write(path, events):
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def ran(capsys, *args, code=0):
    assert cli.main([*map(str, args)]) == code
    return capsys.readouterr()


def evaluated(capsys, *args):
    return json.loads(ran(capsys, "eval", *args, "--json", "--quiet").out)


SMALL = ("--set", "model.hidden=8", "--set", "model.k2=4")
LATE = ("--key", "key", "--set", "event.id=id", "--set", "model.max_delay=12", *SMALL)


def test_a_classification_is_scored_as_written_out_by_hand(tmp_path, capsys):
    events = stream(300, 1)
    path = write(tmp_path / "in.jsonl", events)
    out = tmp_path / "rows.csv"
    told = evaluated(capsys, path, "--task", "classify", "--target", "label", *LATE, "--out", out)
    model = Classifier("label", key="key", time=None, id="id", hidden=8, k2=4, max_delay=12, ignore=["at"])
    assert told["records"] == len(events)
    assert told["events"] == 300 - sum(isinstance(e.get("label"), list) for e in events)
    rows = [r for r in csv.DictReader(out.open()) if r["actual"] and r["predicted"]]
    assert told["scored"] == len(rows) > 150
    assert told["late"] == sum(r["late"] == "1" for r in csv.DictReader(out.open())) > 50
    right = [r["actual"] == r["predicted"] for r in rows]
    assert told["accuracy"] == pytest.approx(np.mean(right))
    seen = [float(r["p_actual"]) for r in rows if float(r["p_actual"]) > 0]
    assert 3 <= told["new_classes"] < 6  # each class once, and events that came before it was known
    assert told["log_loss"] == pytest.approx(-np.mean(np.log(seen)), rel=1e-6)
    recalls = [np.mean([r["predicted"] == c for r in rows if r["actual"] == c]) for c in ("up", "down", "3")]
    assert told["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert sum(b["count"] for b in told["reliability"]) == told["scored"]
    assert told["expired"] > 0
    assert told["twice"] > 0
    assert told["log_loss"] < min(b["log_loss"] for b in told["baselines"].values())
    assert told["config"].keys() == model.settings.keys()


def test_a_regression_is_scored_as_written_out_by_hand(tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", stream(300, 2, classes=None))
    out = tmp_path / "rows.jsonl"
    told = evaluated(capsys, path, "--task", "regress", "--target", "label", *LATE, "--out", out)
    rows = [json.loads(line) for line in out.open()]
    error = np.array([r["actual"] - r["predicted"] for r in rows if None not in (r["actual"], r["predicted"])])
    actual = np.array([r["actual"] for r in rows if None not in (r["actual"], r["predicted"])])
    assert told["scored"] == len(error)
    assert told["mae"] == pytest.approx(np.abs(error).mean())
    assert told["rmse"] == pytest.approx(math.sqrt((error**2).mean()))
    assert told["r2"] == pytest.approx(1 - (error**2).sum() / ((actual - actual.mean()) ** 2).sum())
    assert told["mae"] < told["baselines"]["mean"]["mae"] < told["baselines"]["last_label"]["mae"]
    assert 0.3 < told["intervals"]["0.9"]["coverage"] <= 1


def test_baselines_know_only_the_labels_that_had_come():
    """Events 1 and 2 come before the first label, and event 3 after it: only that has a baseline."""
    class P:
        def __init__(self, step, actual, predicted=0.0):
            self.key, self.step, self.actual, self.predicted, self.predicted_interval = "k", step, actual, predicted, {}

    scores = Numbers(waits=10)
    scores.take([P(1, None), P(2, None), P(1, 4.0), P(3, 6.0), P(2, 9.0)])
    told = scores.summary()
    assert (told["scored"], told["late"]) == (1, 2)
    assert told["baselines"] == {"mean": {"mae": 2.0, "rmse": 2.0}, "last_label": {"mae": 2.0, "rmse": 2.0}}
    assert Chances(0).summary()["log_loss"] is None


def test_people_get_tables_and_a_page(tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", stream(200, 1))
    page = tmp_path / "report.html"
    text = ran(capsys, "eval", path, "--task", "classify", "--target", "label", *LATE, "--report", page, "-q").out
    assert "as the last label" in text
    assert "when it says" in text
    assert "of them late" in text
    html = page.read_text()
    for title in ("Scores", "Reliability", "Classes", "Settings"):
        assert f"<h2>{title}</h2>" in html
    path = write(tmp_path / "in2.jsonl", stream(120, 1, classes=None))
    text = ran(capsys, "eval", path, "--task", "regress", "--target", "label", *LATE, "--report", page, "-q").out
    assert "R²" in text
    assert "<h2>Intervals</h2>" in page.read_text()


def test_parquet_rows(tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    path, out = write(tmp_path / "in.jsonl", stream(150, 1)), tmp_path / "rows.parquet"
    evaluated(capsys, path, "--task", "classify", "--target", "label", *LATE, "--out", out)
    rows = parquet.read_table(out).to_pylist()
    assert {r["actual"] for r in rows} == {"up", "down", "3", None}


@pytest.mark.parametrize("args, words", [
    (["--task", "classify"], ["--target"]),
    (["--task", "classify", "--target", "labl"], ["labl", "label"]),
    (["--task", "regress", "--target", "label", "--target", "x"], ["several"]),
    (["--task", "classify", "--target", "label", "--horizon", "3"], ["--horizon"]),
    (["--task", "classify", "--target", "label", "--plot", "x.png"], ["--plot"]),
    (["--task", "classify", "--target", "label", "--set", "model.kind=rnn"], ["model.kind", "max_classes"]),
    (["--task", "classify", "--target", "label", "--set", "model.max_delay=5"], ["event.id"]),
    (["--task", "forecast", "--target", "x", "--set", "model.max_classes=5"], ["model.max_classes"]),
    (["--task", "regress", "--target", "word"], ["label", "word"]),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, args, words):
    rng = random.Random(0)
    path = write(tmp_path / "in.jsonl", [{"x": rng.random(), "label": 1, "word": "w"} for _ in range(5)])
    said = ran(capsys, "eval", path, *args, "-q", code=2).err
    assert said.count("\n") == 1
    for word in words:
        assert word in said


TOML = """
[source]
type = "file"
path = "in.jsonl"
[event]
task = "classify"
label = "label"
id = "id"
features = ["x"]
[sink]
type = "file"
path = "out.jsonl"
"""


@pytest.mark.parametrize("item, word", [
    ("model.loss=mae", "model.loss"), ("model.intervals=[0.5]", "model.intervals"), ("model.cell=my:Cell", "cell"),
    ("event.target=other", "several"), ("event.horizon=2", "horizon"),
])  # fmt: skip
def test_settings_that_do_not_go_with_a_task_are_refused(tmp_path, item, word):
    path = tmp_path / "job.toml"
    path.write_text(TOML)
    assert isinstance(job.model_of(config.load(path)), Classifier)
    with pytest.raises(ConfigError, match=word):
        config.load(path, [item])


def test_a_job_reads_the_fields_of_labels_also_where_features_are_named(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(TOML)
    settings = config.load(path)
    codec = job.codec_of(settings.event, None)
    assert set(codec.fields) == {"x", "label", "id"}


def numbers(n, seed):
    rng = random.Random(seed)
    for i in range(n):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        yield {"a": a, "b": b, "y": 3 * a - b + rng.gauss(0, 0.1), "c": "hot" if a + b > 0 else "cold", "i": i}


def test_metrics_and_models_of_rivers_stand_beside_ours(tmp_path, capsys):
    """A baseline is scored as by hand: on the labels that ours is scored on, before it learns them."""
    from river import metrics, naive_bayes, preprocessing

    events = list(numbers(200, 3))
    path = write(tmp_path / "in.jsonl", events)
    name = "river:naive_bayes.GaussianNB"
    told = evaluated(capsys, path, "--task", "classify", "--target", "c", "--features", "a,b", *SMALL,
                     "--metric", "Accuracy", "--metric", "MacroF1", "--baseline", name)  # fmt: skip
    assert told["metrics"]["Accuracy"] == pytest.approx(told["accuracy"])
    model, accuracy, last = preprocessing.StandardScaler() | naive_bayes.GaussianNB(), metrics.Accuracy(), None
    losses, known = [], set()
    for i, e in enumerate(events):
        x = {"a": e["a"], "b": e["b"]} | ({} if last is None else {f"last label is {last}": 1.0})
        if i > 0:  # before that, nothing is known
            accuracy.update(e["c"], model.predict_one(x))
            if e["c"] in known:
                losses.append(-math.log(max(model.predict_proba_one(x)[e["c"]], 1e-15)))
        known.add(e["c"])
        model.learn_one(x, e["c"])
        last = e["c"]
    found = told["baselines"][name]
    assert found["metrics"]["Accuracy"] == pytest.approx(accuracy.get()) == pytest.approx(found["accuracy"])
    assert found["log_loss"] == pytest.approx(np.mean(losses))
    text = ran(capsys, "eval", path, "--task", "classify", "--target", "c", *SMALL, "--baseline", name).out
    assert name in text


def test_a_baseline_learns_a_late_label_when_it_comes(tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", stream(300, 1))
    name = "river:naive_bayes.GaussianNB"
    told = evaluated(capsys, path, "--task", "classify", "--target", "label", *LATE, "--baseline", name)
    plain = evaluated(capsys, path, "--task", "classify", "--target", "label", *LATE)
    assert told["late"] > 50
    assert told["baselines"].pop(name)["accuracy"] > 0.3
    assert all(told[n] == plain[n] for n in ("log_loss", "accuracy", "baselines", "scored"))


def test_a_regression_stands_beside_rivers_too(tmp_path, capsys):
    path = write(tmp_path / "in.jsonl", numbers(300, 4))
    name = "river:linear_model.LinearRegression"
    told = evaluated(capsys, path, "--task", "regress", "--target", "y", "--features", "a,b", *SMALL,
                     "--metric", "RMSE", "--baseline", name)  # fmt: skip
    assert told["metrics"]["RMSE"] == pytest.approx(told["rmse"])
    assert told["baselines"][name]["metrics"]["RMSE"] == pytest.approx(told["baselines"][name]["rmse"])
    assert told["baselines"][name]["mae"] < told["baselines"]["mean"]["mae"]


@pytest.mark.parametrize(
    "task, target, option, says",
    [
        ("regress", "y", ("--baseline", "river:naive_bayes.GaussianNB"), "no regressor"),
        ("classify", "c", ("--baseline", "river:linear_model.LinearRegression"), "no classifier"),
        ("classify", "c", ("--metric", "RMSE"), "judges something else"),
        ("classify", "c", ("--metric", "F1"), "MacroF1"),
    ],
)
def test_what_judges_something_else_is_refused(tmp_path, capsys, task, target, option, says):
    path = write(tmp_path / "in.jsonl", numbers(50, 5))
    assert says in ran(capsys, "eval", path, "--task", task, "--target", target, *SMALL, *option, code=2).err
