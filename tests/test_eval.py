"""`stream-rnn eval`: its numbers from its own rows, its formats, its refusals."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn import Forecaster
from stream_rnn.cli import main

SMALL = ["--set", "model.hidden=8", "--set", "model.k1=4", "--set", "model.k2=8"]


def rows_of(n=240, keys=1, seed=1):
    """A noisy daily rhythm, an input that helps, some missing values."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        x = rng.normal()
        temperature = 20 + 5 * math.sin(i / 12) + 0.5 * x + 0.1 * rng.normal()
        row = {"time": 1_700_000_000 + 1800 * (i // keys), "room": f"{i % keys:03d}"}
        row |= {"temperature": None if i % 17 == 5 else round(temperature, 3), "humidity": round(40 + x, 3)}
        out.append(row)
    return out


def write_csv(path, rows):
    text = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.fixture
def sensors(tmp_path):
    return write_csv(tmp_path / "sensors.csv", rows_of())


def run(capsys, *args):
    """The command's JSON and what it said on standard error."""
    assert main(["eval", *map(str, args), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows, name):
    return np.array([float(r[name]) if r[name] else np.nan for r in rows])


# Numbers ------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_its_own_rows(capsys, sensors, tmp_path):
    result, _ = run(capsys, sensors, "--target", "temperature", "--out", tmp_path / "rows.csv", *SMALL)
    rows = read_rows(tmp_path / "rows.csv")
    assert list(rows[0]) == ["time", "key", "target", "actual", "predicted"]
    actual, predicted = numbers(rows, "actual"), numbers(rows, "predicted")
    last = np.array([next((a for a in actual[:i][::-1] if not np.isnan(a)), np.nan) for i in range(len(actual))])
    error, naive = predicted - actual, last - actual
    both = np.isfinite(error) & np.isfinite(naive)
    assert result["events"] == len(rows) == 240
    assert result["predicted"] == np.isfinite(predicted).sum() == 239
    assert result["skipped"] == 0
    assert result["scored"] == np.isfinite(error).sum()
    npt.assert_allclose(result["mae"], np.nanmean(np.abs(error)))
    npt.assert_allclose(result["rmse"], np.sqrt(np.nanmean(error**2)))
    npt.assert_allclose(result["baselines"]["persistence"]["mae"], np.abs(naive[both]).mean())
    npt.assert_allclose(result["baselines"]["persistence"]["rmse"], np.sqrt((naive[both] ** 2).mean()))
    npt.assert_allclose(result["skill_mae"], 1 - np.abs(error[both]).mean() / np.abs(naive[both]).mean())
    assert result["updates"] > 0
    assert result["events_per_s"] > 0
    assert result["config"]["k1"] == 4
    assert result["config"]["target"] == "temperature"


def test_it_says_what_the_forecaster_says_event_by_event(capsys, sensors, tmp_path):
    run(capsys, sensors, "--target", "temperature", "--out", tmp_path / "rows.csv", *SMALL)
    model = Forecaster("temperature", time="time", hidden=8, k1=4, k2=8)
    events = [{k: v for k, v in row.items() if k != "room"} | {"room": int(row["room"])} for row in rows_of()]
    said = [model.step(event).predicted for event in events]
    npt.assert_array_equal(numbers(read_rows(tmp_path / "rows.csv"), "predicted"), np.array(said, dtype=float))


def test_several_steps_ahead_are_the_forecasts_made_so_many_events_before(capsys, tmp_path):
    path = write_csv(tmp_path / "two.csv", rows_of(160, keys=2))
    out = tmp_path / "rows.csv"
    result, _ = run(capsys, path, "--target", "temperature", "--key", "room", "--horizon", "3", "--out", out, *SMALL)
    model = Forecaster("temperature", key="room", time="time", horizon=3, hidden=8, k1=4, k2=8)
    predictions = [model.step(event) for event in rows_of(160, keys=2)]
    rows = read_rows(out)
    assert list(rows[0]) == ["time", "key", "target", "ahead", "actual", "predicted"]
    assert len(rows) == 160 * 3
    for e, prediction in enumerate(predictions):
        for i in range(1, 4):
            row = rows[3 * e + i - 1]
            earlier = e - 2 * i  # two keys take turns
            expected = (
                "" if earlier < 0 or predictions[earlier].forecast is None else predictions[earlier].forecast[i - 1]
            )
            assert (row["ahead"], row["key"]) == (str(i), prediction.key)
            assert row["predicted"] == ("" if expected == "" else str(expected))
    for i in range(1, 4):
        part = [r for r in rows if r["ahead"] == str(i)]
        error = numbers(part, "predicted") - numbers(part, "actual")
        npt.assert_allclose(result["ahead"][str(i)]["mae"], np.nanmean(np.abs(error)))
        inside = []
        for e, p in enumerate(predictions[2 * i :], 2 * i):
            told = predictions[e - 2 * i].interval
            if told is not None and p.actual is not None:
                inside.append(told[0.9][0][i - 1] <= p.actual <= told[0.9][1][i - 1])
        intervals = result["ahead"][str(i)]["intervals"]["0.9"]
        assert intervals["scored"] == len(inside)
        npt.assert_allclose(intervals["coverage"], np.mean(inside))
    every = numbers(rows, "predicted") - numbers(rows, "actual")
    npt.assert_allclose(result["mae"], np.nanmean(np.abs(every)))


def test_several_targets_and_keys_each_have_their_own_numbers(capsys, tmp_path):
    path = write_csv(tmp_path / "keys.csv", rows_of(300, keys=3))
    out = tmp_path / "rows.csv"
    options = ["--target", "temperature", "--target", "humidity", "--key", "room", "--out", out]
    result, _ = run(capsys, path, *options, *SMALL)
    rows = read_rows(out)
    assert result["keys"] == 3
    assert {r["key"] for r in rows} == {"000", "001", "002"}  # text stays text
    ratios = []
    for target in ("temperature", "humidity"):
        part = [r for r in rows if r["target"] == target]
        error = numbers(part, "predicted") - numbers(part, "actual")
        npt.assert_allclose(result["targets"][target]["rmse"], np.sqrt(np.nanmean(error**2)))
        for key in ("000", "001", "002"):
            mine = [r for r in part if r["key"] == key]
            actual, predicted = numbers(mine, "actual"), numbers(mine, "predicted")
            last = np.array([next((a for a in actual[:i][::-1] if not np.isnan(a)), np.nan) for i in range(len(mine))])
            both = np.isfinite(predicted - actual) & np.isfinite(last)
            ratios.append(np.abs(predicted - actual)[both].sum() / np.abs(last - actual)[both].sum())
    npt.assert_allclose(result["score"]["mae"], np.exp(np.mean(np.log(ratios))))
    assert result["score"]["series"] == 6


def test_intervals_and_experts_are_the_forecasters(capsys, tmp_path):
    path = write_csv(tmp_path / "keys.csv", rows_of(300, keys=2))
    targets = ["temperature", "humidity"]
    options = [part for name in targets for part in ("--target", name)]
    result, _ = run(capsys, path, *options, "--key", "room", "--report", tmp_path / "r.html", *SMALL)
    model = Forecaster(targets, key="room", time="time", hidden=8, k1=4, k2=8)
    predictions = [model.step(event) for event in rows_of(300, keys=2)]
    for name in targets:
        for level in (0.5, 0.9):
            told = [(p.predicted_interval[name], p.actual[name]) for p in predictions]
            pairs = [(*bounds[level], y) for bounds, y in told if bounds is not None and y is not None]
            said = result["targets"][name]["intervals"][str(level)]
            assert said["scored"] == len(pairs)
            npt.assert_allclose(said["coverage"], np.mean([low <= y <= high for low, high, y in pairs]))
            npt.assert_allclose(said["width"], np.mean([high - low for low, high, _ in pairs]))
        shares = np.mean([list(model.experts_of(key)[name].values()) for key in ("000", "001")], axis=0)
        assert list(result["targets"][name]["experts"]) == list(model.experts_of("000")[name])
        npt.assert_allclose(list(result["targets"][name]["experts"].values()), shares, atol=1e-4)
    assert "show_experts" not in {n for n, v in result["config"].items() if v is True}


def test_a_report_measures_the_gradients_reach_and_changes_nothing(capsys, sensors, tmp_path):
    plain, _ = run(capsys, sensors, "--target", "temperature", *SMALL)
    result, _ = run(capsys, sensors, "--target", "temperature", "--report", tmp_path / "r.html", *SMALL)
    reach = result.pop("gradient_reach")
    assert len(reach["norm"]) == 8
    assert reach["updates_sampled"] > 2
    assert reach["said"] in (tmp_path / "r.html").read_text()
    npt.assert_allclose(result["mae"], plain["mae"], rtol=1e-12)
    assert result["intervals"]["0.9"]["coverage"] == plain["intervals"]["0.9"]["coverage"]
    assert result["experts"] == plain["experts"]
    assert main(["eval", str(sensors), "--target", "temperature", "--report", str(tmp_path / "r.html"), *SMALL]) == 0
    table = capsys.readouterr().out
    assert f"gradient: {reach['said']}" in table
    assert "inside the 90 % ones" in table
    assert "carried in the end by: " in table


def test_the_network_alone_has_no_experts(capsys, sensors, tmp_path):
    options = ["--set", 'model.kind="rnn"', "--report", tmp_path / "r.html", *SMALL]
    result, _ = run(capsys, sensors, "--target", "temperature", *options)
    assert not {"experts", "intervals"} & set(result)
    html = (tmp_path / "r.html").read_text()
    assert "who carries the forecast" not in html
    assert "interval coverage" not in html
    assert "How far back the gradient reaches" in html


def test_it_learns():
    """A rhythm that the last value is always late on: far better than it, after some days."""
    model = Forecaster("y", hidden=16)
    predictions = model.step_many([{"y": math.sin(i / 3)} for i in range(3000)])
    late = predictions[2000:]
    ours = np.mean([abs(p.error) for p in late])
    last = np.mean([abs(p.actual - q.actual) for p, q in zip(late[1:], late, strict=False)])
    assert ours < 0.2 * last


def test_a_limit_ends_it_early(capsys, sensors):
    result, _ = run(capsys, sensors, "--target", "temperature", "--limit", "50", *SMALL)
    assert result["events"] == 50


def test_two_key_columns_make_one_key(capsys, tmp_path):
    rows = [row | {"plant": i % 2} for i, row in enumerate(rows_of(120, keys=3))]
    path, out = write_csv(tmp_path / "in.csv", rows), tmp_path / "rows.csv"
    result, _ = run(capsys, path, "--target", "temperature", "--key", "room", "--key", "plant", "--out", out, *SMALL)
    assert result["keys"] == 6
    assert read_rows(out)[1]["key"] == "001/1"


# Formats in and out -------------------------------------------------------------------------------------


def test_every_format_gives_the_same_numbers(capsys, tmp_path, sensors):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    rows = rows_of()
    lines = "\n".join(json.dumps(row) for row in rows) + "\n"
    (tmp_path / "s.jsonl").write_text(lines)
    with gzip.open(tmp_path / "s.csv.gz", "wb") as file:
        file.write(sensors.read_bytes())
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "s.parquet")
    options = ["--target", "temperature", "--features", "humidity", *SMALL]
    results = [
        run(capsys, p, *options)[0] for p in (sensors, *(tmp_path / n for n in ("s.jsonl", "s.csv.gz", "s.parquet")))
    ]
    for result in results[1:]:
        assert result["mae"] == results[0]["mae"]
        assert result["config"] == results[0]["config"]


def test_standard_input(tmp_path, sensors, capsys):
    expected, _ = run(capsys, sensors, "--target", "temperature", *SMALL)
    command = [
        sys.executable,
        "-m",
        "stream_rnn.cli",
        "eval",
        "-",
        "--format",
        "csv",
        "--target",
        "temperature",
        "--json",
    ]
    done = subprocess.run([*command, *SMALL], stdin=sensors.open(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["mae"] == expected["mae"]


def test_all_kinds_of_rows_say_the_same(capsys, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = write_csv(tmp_path / "in.csv", rows_of(60, keys=2))
    for name in ("o.csv", "o.jsonl", "o.parquet"):
        run(
            capsys, path, "--target", "temperature", "--key", "room", "--horizon", "2", "--out", tmp_path / name, *SMALL
        )
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert pq.read_table(tmp_path / "o.parquet").to_pylist() == lines
    as_text = [{k: "" if v is None else str(v) for k, v in line.items()} for line in lines]
    for row in as_text:
        row["time"] = row["time"].removesuffix(".0")
    assert read_rows(tmp_path / "o.csv") == as_text
    first = {"time": 1_700_000_000, "key": "000", "target": "temperature", "ahead": 1, "predicted": None}
    assert lines[0] == first | {"actual": lines[0]["actual"]}


# Settings -----------------------------------------------------------------------------------------------


def test_a_config_file_is_overruled_by_set_and_that_by_options(capsys, sensors, tmp_path):
    config = tmp_path / "job.toml"
    config.write_text(
        '[source]\ntype = "file"\npath = "x.csv"\n[event]\ntarget = "humidity"\nfeatures = ["temperature"]\n'
        "[model]\nhidden = 8\nk1 = 2\nk2 = 8\n"
    )
    result, _ = run(capsys, sensors, "--config", config)
    assert result["config"]["target"] == "humidity"
    assert (result["config"]["hidden"], result["config"]["k1"]) == (8, 2)
    result, _ = run(
        capsys, sensors, "--config", config, "--target", "temperature", "--set", "model.k1=4", "--features", "humidity"
    )
    assert result["config"]["target"] == "temperature"
    assert result["config"]["k1"] == 4
    assert result["config"]["features"] == ["humidity"]


@pytest.mark.parametrize(("name", "found"), [("Timestamp", True), ("date", True), ("ts", True), ("clock", False)])
def test_a_time_column_is_found_by_its_usual_names(capsys, tmp_path, name, found):
    rows = [{name: f"2024-01-01T{i // 4:02d}:{15 * (i % 4):02d}", "y": i % 5} for i in range(60)]
    result, err = run(capsys, write_csv(tmp_path / "t.csv", rows), "--target", "y", *SMALL)
    assert result["config"]["time"] == (name if found else None)
    assert (f"time is taken from the column '{name}'" in err) is found
    assert ("no event has a time" in err) is not found


def test_a_column_named_time_without_times_in_it_is_none(capsys, tmp_path):
    rows = [{"time": f"lap {i}", "y": i % 5} for i in range(60)]
    result, _ = run(capsys, write_csv(tmp_path / "t.csv", rows), "--target", "y", *SMALL)
    assert result["config"]["time"] is None


# Refusals -----------------------------------------------------------------------------------------------


def refused(capsys, *args):
    """The one line that a refusal says."""
    code = main(["eval", *map(str, args)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "is empty"),
        ("empty.jsonl", b"", "holds no events"),
        ("header.csv", b"time,y\n", "holds a header (time, y) but no rows"),
        ("rubbish.csv", bytes(range(256)) * 40, "no CSV"),
        ("rubbish.jsonl", bytes(range(256)) * 40, "can be read"),
        ("rubbish.parquet", bytes(range(256)) * 40, "cannot be read as Parquet"),
        ("rubbish.csv.gz", b"this is no gzip", "cannot be read"),
        ("torn.csv.gz", gzip.compress(b"time,y\n1,2\n" * 500, mtime=0)[:-20], "cannot be read"),
        ("utf16.csv", "time,y\n1,2\n".encode("utf-16"), "UTF-16"),
        ("words.csv", b"time,y\n1,hot\n2,cold\n3,warm\n", "none of its 3 events can be learnt from"),
        ("none.csv", b"time,y\n1,\n2,\n3,\n", "the target y holds no number"),
        ("ragged.csv", b"time,y\n1\n2\n", "none of the first 2 records can be read"),
        ("array.json", b'[{"y": 1}, {"y": 2}]', "JSON array"),
        ("y.txt", b"y\n1\n", "'.txt' names no format"),
    ],
)
def test_files_that_cannot_be(capsys, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    assert told in refused(capsys, tmp_path / name, "--target", "y")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["--target", "temprature"],
            "no such column; did you mean temperature? (columns: humidity, room, temperature, time)",
        ),
        (["--target", "temperature", "--key", "rom"], "--key rom: there is no such column; did you mean room?"),
        (["--target", "temperature", "--time", "when"], "--time when: there is no such column"),
        (["--target", "temperature", "--features", "humidity,wind"], "--features wind"),
        ([], "name the column: --target"),
        (["--target", "temperature", "--horizon", "0"], "argument --horizon: '0': give a whole number from 1"),
        (["--target", "temperature", "--set", "model.k3=4"], "model.k3 is no setting"),
        (["--target", "temperature", "--set", "modle.k1=4"], "did you mean model"),
        (["--target", "temperature", "--set", "model.k1=many"], "model.k1 = 'many'"),
        (["--target", "temperature", "--set", "model.k1=8", "--set", "model.k2=4"], "k2"),
        (["--target", "temperature", "--set", 'event.task="regres"'], "event.task"),
        (["--target", "temperature", "--config", "nowhere.toml"], "nowhere.toml"),
        (["--target", "temperature", "--out", "rows.xlsx"], "'.xlsx' says no format"),
        (["--target", "temperature", "--out", "no/such/rows.csv"], "there is no folder no/such"),
        (["--target", "temperature", "--report", "."], "is a folder"),
        (["--target", "temperature", "--out", "sensors.csv"], "is the file to be read"),
        (["--target", "temperature", "--key", "temperature"], "also the key"),
        (["--target", "temperature", "--taget", "y"], "no option or argument '--taget'; did you mean --target?"),
    ],
)
def test_requests_that_cannot_be(capsys, sensors, monkeypatch, args, told):
    monkeypatch.chdir(sensors.parent)
    assert told in refused(capsys, sensors, *args)


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert "no such file" in refused(capsys, tmp_path / "nowhere.csv", "--target", "y")


def test_rows_that_cannot_be_used_are_counted_and_told(capsys, tmp_path):
    lines = ["time,y"] + [f"{1_700_000_000 + 60 * i},{i % 7}" for i in range(100)]
    lines[10] = "1700000600"
    lines[20] = "1700001200,hot"
    lines[30] = "yesterday,3"
    lines[40] = lines[50] = "1,2,3"
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines))
    result, err = run(capsys, path, "--target", "y", "--time", "time", *SMALL)
    assert (result["events"], result["skipped"]) == (100, 5)
    assert "event 10 skipped: the record cannot be read as csv" in err
    assert "event 20 skipped: the target 'y' is 'hot'" in err
    assert "event 30 skipped: the time field 'time' is 'yesterday'" in err
    assert "and 2 more skipped" in err
    assert err.count("\n") == 4
    _, err = run(capsys, path, "--target", "y", "--time", "time", "--quiet", *SMALL)
    assert err == ""


def test_json_lines_with_nested_and_absent_fields(capsys, tmp_path):
    lines = [json.dumps({"at": 60 * i, "payload": {"y": i % 5} if i % 3 else {}}) for i in range(90)]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines))
    result, _ = run(capsys, path, "--target", "payload.y", "--time", "at", *SMALL)
    assert (result["events"], result["skipped"]) == (90, 0)
    assert result["scored"] == 59  # of 60 values, all but the first


# For people ---------------------------------------------------------------------------------------------


def test_the_table(capsys, sensors):
    assert main(["eval", str(sensors), "--target", "temperature", "--horizon", "2", *SMALL]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sensors.csv: 240 events, 2023-11-14 22:13:20 to 2023-11-19 21:43:20, 1 key\n")
    assert "last value" in out
    assert "better by" in out
    lines = [line for line in out.splitlines() if line.startswith(("temperature ", " " * 12))]
    assert len({len(line) for line in lines}) == 1  # a column is a column
    assert out.splitlines()[-1].endswith("0 skipped")


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_is_one_page_by_itself(capsys, tmp_path):
    rows = [{**row, "<b>&y": row["temperature"]} for row in rows_of(700, keys=2)]
    path = write_csv(tmp_path / "a&b.csv", rows)
    report = tmp_path / "r.html"
    run(capsys, path, "--target", "<b>&y", "--key", "room", "--horizon", "2", "--report", report, *SMALL)
    html = report.read_text()
    page = Page()
    page.feed(html)
    text = " ".join(page.text)
    assert page.links == []
    assert "http" not in html
    assert "@import" not in html
    assert page.tags.count("svg") >= 2 * 2 + 2
    for heading in (
        "Error by how far ahead",
        "error over time",
        "the newest 240 events",
        "the whole stream",
        "who carries the forecast",
        "interval coverage over time",
        "worst misses",
        "Keys",
        "How far back the gradient reaches",
        "Settings",
    ):
        assert heading in text
    assert "<b>&y" in text
    assert "<b>&y" not in html
    assert "NaN" not in html
    for points in html.split('data-points="')[1:]:
        json.loads(points.split('"')[0].replace("&quot;", '"').replace("&lt;", "<").replace("&amp;", "&"))


def test_names_from_a_stream_are_never_markup(capsys, tmp_path):
    """50 keys, so that the table of keys is cut; the odd ones are the worst and must be in it."""
    odd = ["</script><script>alert(1)</script>", "<b>bold</b>", "a & \"b\" 'c'", "中文 🚀", "x" * 200]
    rng = np.random.default_rng(0)
    keys = [*odd, *(f"k{i}" for i in range(45))]
    rows = [
        {"k": key, "y": i * (-1) ** i if key in odd else rng.normal()} for i in range(40) for key in keys
    ]  # fmt: skip
    path, report = tmp_path / "k.jsonl", tmp_path / "r.html"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(capsys, path, "--target", "y", "--key", "k", "--report", report, *SMALL)
    html = report.read_text()
    page = Page()
    page.feed(html)
    assert page.tags.count("script") == html.count("<script") == 1
    assert "b" not in [tag for i, tag in enumerate(page.tags) if page.tags[i - 1] == "td"]
    text = " ".join(page.text)
    for name in odd:
        assert name in text
    assert "the 20 worst ratios, the 20 best, and all 50" in text


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "temperature", "--target", "humidity", "--key", "room", "--horizon", "3"],
        ["--target", "temperature", "--set", 'model.kind="rnn"'],
        ["--target", "temperature", "--set", "model.intervals=[0.1, 0.5, 0.9, 0.99]"],
    ],
)
def test_all_kinds_of_models_are_drawn(capsys, tmp_path, options):
    image = pytest.importorskip("matplotlib.image")
    path = write_csv(tmp_path / "in.csv", rows_of(300, keys=2))
    report, plot = tmp_path / "r.html", tmp_path / "p.png"
    run(capsys, path, *options, "--plot", plot, "--report", report, *SMALL)
    assert image.imread(plot).shape[0] > 400
    drawn = report.read_text().partition("<pre>")[0]
    assert not {"NaN", "nan", "inf", "None"} & set(re.findall(r"[A-Za-z]+", drawn))


def test_the_plot_is_a_picture(capsys, sensors, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    run(capsys, sensors, "--target", "temperature", "--plot", tmp_path / "p.png", *SMALL)
    pixels = image.imread(tmp_path / "p.png")
    assert pixels.shape[1] > 900
    blue = (abs(pixels[..., :3] - np.array([0x00, 0x72, 0xB2]) / 255) < 0.05).all(axis=-1)
    assert blue.sum() > 500  # our line


@pytest.mark.parametrize(
    ("module", "option", "extra"), [("matplotlib", "--plot", "plot"), ("pyarrow", "--out", "parquet")]
)
def test_a_missing_extra_is_named_before_the_run(capsys, sensors, tmp_path, monkeypatch, module, option, extra):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / ("p.png" if option == "--plot" else "o.parquet")
    err = refused(capsys, sensors, "--target", "temperature", option, path)
    assert f"pip install 'stream-rnn[{extra}]'" in err


# As a process -------------------------------------------------------------------------------------------


def start(*args, **settings):
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stream_rnn.cli", "eval", *map(str, args)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **settings,
    )  # fmt: skip


def test_ctrl_c_shows_what_there_is_so_far(tmp_path):
    out = tmp_path / "rows.jsonl"
    process = start("-", "--target", "y", "--out", out, "--json", *SMALL, stdin=subprocess.PIPE)
    process.stdin.write("".join(json.dumps({"y": i % 7}) + "\n" for i in range(1500)))
    process.stdin.flush()
    while not (out.exists() and out.stat().st_size):  # the first block is through
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    result = json.loads(output)
    assert result["stopped"] is True
    assert 1000 <= result["events"] <= 1500


def test_a_reader_that_goes_away_ends_it_quietly(sensors):
    process = start(sensors, "--target", "temperature", "-q", *SMALL)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert errors == ""


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch, sensors):
    monkeypatch.setattr("stream_rnn.progress._LINE_EVERY_S", 0.0)
    _, err = run(capsys, sensors, "--target", "temperature", *SMALL)
    assert "sensors.csv: 240 events (100%)" in err
    assert "\r" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_a_failure_in_one_line(capsys, sensors, tmp_path):
    out = tmp_path / "rows.csv"
    out.symlink_to("/dev/full")
    assert main(["eval", str(sensors), "--target", "temperature", "-q", "--out", str(out), *SMALL]) == 1
    said, err = capsys.readouterr()
    assert (said, err.count("\n")) == ("", 1)
    assert "No space left on device" in err


@pytest.mark.parametrize("rows", [1, 2, 400])
def test_pictures_of_almost_nothing(capsys, tmp_path, rows):
    pytest.importorskip("matplotlib")
    path = write_csv(tmp_path / "few.csv", [{"y": 5.0}] * rows)
    result, _ = run(capsys, path, "--target", "y", "--plot", tmp_path / "p.png", "--report", tmp_path / "r.html")
    assert result["scored"] == rows - 1
    assert result["mae"] == (0.0 if rows > 1 else None)
    assert (tmp_path / "p.png").stat().st_size > 5000
    assert "nan" not in (tmp_path / "r.html").read_text()


def test_no_row_is_needed_to_know_the_path_is_free(tmp_path, capsys, sensors):
    """A report that cannot be written is told before hours of work."""
    assert "no folder" in refused(capsys, sensors, "--target", "temperature", "--report", Path("nowhere") / "r.html")
