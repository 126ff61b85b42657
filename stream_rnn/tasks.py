"""Which model serves which event.task, and which settings of [model] it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stream_rnn.config import Event
from stream_rnn.errors import ConfigError

LABELLED = ("regress", "classify")
_BOTH = ("cell", "hidden", "k1", "k2", "lr", "optimizer", "clip", "seed", "max_features", "max_delay")
SETTINGS = {"regress": (*_BOTH, "loss", "intervals"), "classify": (*_BOTH, "max_classes")}
_OTHERS = ("max_delay", "max_classes")  # settings of the labelled models alone


def label_of(event: Event) -> str:
    """The one field with the label; ConfigError if it is not clear which."""
    names = dict.fromkeys([*event.target, *([event.label] if event.label else [])])
    if len(names) != 1:
        what = "names no label: set event.label, or --target" if not names else f"has several: {', '.join(names)}"
        raise ConfigError(f'event.task = "{event.task}" {what}; it learns one field')
    return next(iter(names))


def check(event: Event, given: Iterable[str]) -> None:
    """Refuse what is set in [model] (its names) and does not go with the task."""
    given = list(given)
    for name in given:
        if event.task in LABELLED and name not in SETTINGS[event.task]:
            raise ConfigError(f'model.{name} does not go with event.task = "{event.task}"; it has '
                              f"{', '.join(SETTINGS[event.task])}")  # fmt: skip
        if event.task == "forecast" and name in _OTHERS:
            raise ConfigError(f"model.{name} is for labels: event.task = \"regress\" or \"classify\"")
    if event.task in LABELLED:
        label_of(event)
        if "max_delay" in given and event.id is None:
            raise ConfigError("model.max_delay says how long events wait for labels, which find them by event.id: set "
                              "that, the field with the id")  # fmt: skip


def make(event: Event, model: dict[str, Any], time: str | None = None) -> Any:
    """A model that has learnt nothing yet; `model`: all settings of a [model] section; time: instead of event.time."""
    time = event.time if time is None else time
    common: dict[str, Any] = {
        "key": (event.key[0] if len(event.key) == 1 else list(event.key)) or None,
        "time": None if time == "@timestamp" else time,
        "features": None if event.features is None else list(event.features),
    }
    if event.task == "text":
        from stream_rnn.textmodel import TextModel

        del common["features"]
        return TextModel(event.target[0] if event.target else "text", **common, **model)
    if event.task not in LABELLED:
        from stream_rnn.model import Forecaster

        target = event.target[0] if len(event.target) == 1 else list(event.target)
        ignore = [name for name in (event.id, event.label) if name is not None]
        settings = {name: value for name, value in model.items() if name not in _OTHERS}
        return Forecaster(target, horizon=event.horizon, ignore=ignore, **common, **settings)
    settings = {name: model[name] for name in SETTINGS[event.task] if model[name] is not None}
    return _class(event.task)(label_of(event), id=event.id, **common, **settings)


def again(settings: dict[str, Any]) -> Any:
    """A model made with settings that a model told."""
    marks = {"max_classes": "classify", "max_delay": "regress", "unit": "text"}
    task = next((task for name, task in marks.items() if name in settings), "forecast")
    return _class(task)(**settings)


def _class(task: str) -> Any:
    if task == "classify":
        from stream_rnn.classifier import Classifier

        return Classifier
    if task == "regress":
        from stream_rnn.regressor import Regressor

        return Regressor
    if task == "text":
        from stream_rnn.textmodel import TextModel

        return TextModel
    from stream_rnn.model import Forecaster

    return Forecaster
