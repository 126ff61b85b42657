"""kill -9 while labels are on their way: a label finds its event across the death, and nothing else shows it."""

from __future__ import annotations

import json

import pytest
from label_help import stream
from recovery.job import SETTINGS, Job, Kill

TASKS = {"classify": {"model.max_classes": 3}, "regress": {"model.loss": "mae"}}


def job(folder, task, nursery):
    events = stream(2400, 4) if task == "classify" else stream(2400, 4, classes=None)
    records = [json.dumps(e).encode() for e in events]
    made = Job(folder, records, nursery=nursery)
    plain = {n: v for n, v in made.settings.items() if n not in ("event.target", "model.kind")}
    made.configure(**plain | {
        "event.task": task, "event.key": "key", "event.time": "at", "event.label": "label", "event.id": "id",
        "model.max_delay": 12, "model.k1": 1, "state.checkpoint_interval": "3ms",
    } | TASKS[task])  # fmt: skip
    return made


@pytest.mark.parametrize("task", TASKS)
def test_a_kill_leaves_no_trace_in_labels_that_come_later(task, nursery, tmp_path):
    whole = job(tmp_path / "whole", task, nursery)
    whole.finish()
    cut = job(tmp_path / "cut", task, nursery)
    deaths = 0
    for phase, n in (("learn", 2), ("between", 1), ("committed", 1), ("rows", 1), ("checkpointed", 1), ("learn", 1)):
        deaths += cut.run(Kill(phase, n, stalls=True)).killed
    cut.finish()
    assert deaths >= 3
    assert not whole.outcome().differences(cut.outcome())
    lines = [json.loads(line) for line in whole.outcome().outputs["out.jsonl"].splitlines()]
    late = [x for x in lines if x["time"] is None]
    assert len(late) > 60
    told = {(x["key"], x["step"]): x for x in lines if x["time"] is not None}
    for x in late:
        event = told[x["key"], x["step"]]
        assert (x["id"], x["predicted"]) == (event["id"], event["predicted"])
        assert event["actual"] is None is not x["actual"]
    assert len(lines) + whole.outcome().outputs["dead.jsonl"].count(b"\n") == len(whole.records)


def test_the_settings_of_a_job_are_what_this_file_changes():
    assert {"event.target", "model.kind"} <= SETTINGS.keys()
