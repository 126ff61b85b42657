"""/metrics: what an engine says to Prometheus, in its text format or OpenMetrics, through `prometheus-client`.

A metric is a row of METRICS below: its name, type, meaning and where it is read. Counters begin at 0 with the process
and never go back (meter.py); gauges are as of now. Every metric of a shard has the labels shard, topic and partition
(the last two empty where the source is not Kafka). `python -m stream_rnn.exposition` prints the table for the docs.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stream_rnn.meter import BOUNDS_S, Durations

if TYPE_CHECKING:
    from stream_rnn.engine import Engine
    from stream_rnn.shard import Shard

_PREFIX = "stream_rnn_"
_IDLE_S = 5.0  # nothing more to read, whatever offsets say
_STATES = ("starting", "running", "waiting", "finished", "stopped", "lost", "failed")
_MODEL = ("kind", "cell", "hidden", "k1", "k2", "loss", "optimizer", "target", "horizon")

Sample = tuple[tuple[str, ...], Any]  # the values of its own labels; a number, or Durations
Values = float | Mapping[Any, Any] | Durations | None  # of one metric: one, one a label, a histogram, or none yet


class Look(msgspec.Struct):
    """A shard as it is now."""

    shard: Any
    status: dict[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def at(cls, shard: Shard) -> Look:
        """That one."""
        return cls(shard, shard.status(), dict(getattr(shard.model, "settings", None) or {}))

    @property
    def labels(self) -> tuple[str, str, str]:
        """shard, topic and partition."""
        log = self.shard.source_log
        topic = getattr(getattr(log, "source", None), "topic", "")
        return self.shard.name or "0", topic, str(log.partition) if topic else ""

    @property
    def lag_s(self) -> float | None:
        """How old the newest event is that was learnt; 0 where nothing is left to learn.

        Offsets alone cannot tell that: behind the last record there may be a transaction's marker, or records of one
        that was aborted. So where reads find nothing for a while, that counts.
        """
        meter, lag = self.shard.meter, self.status["lag"]
        idle_s = meter.idle_s
        if lag == 0 or (idle_s is not None and (lag is None or idle_s >= _IDLE_S)):
            return 0.0
        then = meter.event_s if meter.record_s is None else meter.record_s
        return None if then is None else max(0.0, time.time() - then)

    @property
    def model(self) -> dict[tuple[str, ...], float]:
        """Its kind, as labels."""
        s = self.settings
        if not s:
            return {}
        targets = s.get("target")
        return {tuple(str(v) for v in ({**s, "target": targets if isinstance(targets, str) else ",".join(targets or ())}
                                       .get(name, "") for name in _MODEL)): 1.0}  # fmt: skip


class Metric(msgspec.Struct):
    """One of a shard: `read` gives its value now."""

    name: str
    kind: str  # counter, gauge, histogram
    meaning: str
    read: Callable[[Look], Values]
    labels: tuple[str, ...] = ()  # besides shard, topic and partition

    @property
    def full_name(self) -> str:
        """As it is shown."""
        return _PREFIX + self.name + ("_total" if self.kind == "counter" else "")


def _learner(name: str) -> Callable[[Look], float]:
    return lambda look: look.shard.meter.learner.get(name, 0)


def _quality(name: str) -> Callable[[Look], Values]:
    return lambda look: look.status["quality"][name]


def _network(look: Look) -> Values:
    network = look.shard.meter.network
    return {"predict": network.predict_s, "update": network.update_s}


def _shared(name: str) -> Callable[[Look], Values]:
    return lambda look: (look.status["shared"] or {}).get(name)


def _skill(look: Look) -> float | None:
    ratio = look.status["quality"]["ratio"]
    return None if ratio is None else 1.0 - ratio


def _checkpoint_age_s(look: Look) -> float | None:
    at = look.status["checkpoint"].get("at")
    return None if at is None else max(0.0, time.time() - at)


METRICS = (
    Metric("up", "gauge", "1 while the shard follows its log, else 0", lambda s: s.status["state"] == "running"),
    Metric("shard_state", "gauge", "1 for the state that it is in: " + ", ".join(_STATES),
           lambda s: {state: state == s.status["state"] for state in _STATES}, ("state",)),
    Metric("replaying", "gauge", "1 while it learns again what was written before a restart",
           lambda s: s.status["replaying"]),
    Metric("shard_restarts", "counter", "times it was opened again from its checkpoint (a broker was away)",
           lambda s: max(0, s.shard.meter.opened - 1)),
    Metric("events", "counter", "events read, usable or not", lambda s: s.shard.meter.counts.events),
    Metric("replayed_events", "counter", "of them, those that had been learnt before a restart",
           lambda s: s.shard.meter.replayed),
    Metric("predictions", "counter", "events forecast and learnt", lambda s: s.shard.meter.counts.predictions),
    Metric("skipped_events", "counter", "events that event.transform left out",
           lambda s: s.shard.meter.counts.skipped),
    Metric("bad_events", "counter", "events that could not be used, by cause (also with on_error = \"skip\")",
           lambda s: s.shard.meter.counts.bad, ("cause",)),
    Metric("gaps", "counter", "times that the source had lost what came next (state.on_gap)",
           lambda s: s.shard.meter.counts.gaps),
    Metric("alerts", "counter", "alerts told, by kind (anomaly, drift, silent, back)",
           lambda s: s.shard.meter.counts.alerts, ("kind",)),
    Metric("silent_keys", "counter", "keys that started afresh after a long silence, or were deleted for it",
           lambda s: s.shard.meter.counts.silent),
    Metric("updates", "counter", "updates of the network", _learner("updates")),
    Metric("refused_updates", "counter", "updates with a loss or gradient that was not finite; nothing moved",
           _learner("refused_updates")),
    Metric("labels", "counter", "values that the network learnt from", _learner("labels")),
    Metric("expired_labels", "counter", "values that came too late to be learnt from", _learner("expired")),
    Metric("masked_values", "counter", "features of a wrong type, taken as absent", _learner("masked")),
    Metric("features_over_limit", "counter", "values of features over model.max_features, not learnt from",
           _learner("over_limit")),
    Metric("lag_offsets", "gauge", "offsets between what was read and the partition's end (Kafka); a "
           "transaction's marker and aborted records count, too",
           lambda s: s.status["lag"]),
    Metric("lag_seconds", "gauge", "age of the newest record that was learnt, by its timestamp (where the source has "
           "none: by event.time); 0 when nothing waits, or nothing has come for 5 s", lambda s: s.lag_s),
    Metric("last_event_timestamp_seconds", "gauge", "time of the newest event, as event.time says",
           lambda s: s.shard.meter.event_s),
    Metric("stage_seconds", "counter", "time of the shard's loop, by stage: wait, read, decode, learn (forecast and "
           "update), encode, send, commit, checkpoint", lambda s: s.shard.meter.seconds, ("stage",)),
    Metric("network_seconds", "counter", "time in the network, by part: predict (the live forward pass, measured alone "
           "now and then), update", _network, ("part",)),
    Metric("commit_duration_seconds", "histogram", "one commit of outputs (a transaction, or an fsync)",
           lambda s: s.shard.meter.commits),
    Metric("checkpoint_duration_seconds", "histogram", "writing one checkpoint, beside the loop",
           lambda s: s.shard.meter.checkpoints),
    Metric("checkpoint_timestamp_seconds", "gauge", "when the newest checkpoint was made",
           lambda s: s.status["checkpoint"].get("at")),
    Metric("checkpoint_age_seconds", "gauge", "time since then (none is made while nothing is learnt)",
           _checkpoint_age_s),
    Metric("checkpoint_keys", "gauge", "key states in the newest checkpoint of this process",
           lambda s: s.status["checkpoint"].get("keys")),
    Metric("uncheckpointed_events", "gauge", "events since the newest checkpoint was begun: what a restart learns anew",
           lambda s: s.status["since_checkpoint"]),
    Metric("shared_snapshot_timestamp_seconds", "gauge", "when the newest snapshot was put into the shared topic "
           "(state.share)", _shared("at")),
    Metric("shared_snapshot_bytes", "gauge", "its size", _shared("bytes")),
    Metric("shared_snapshot_failures", "counter", "times that sharing one failed", _shared("failures")),
    Metric("state_bytes", "gauge", "size of the shard's database", lambda s: s.status["state_bytes"]),
    Metric("keys", "gauge", "keys whose state is in memory", lambda s: s.status["keys"]),
    Metric("spilled_keys", "gauge", "keys whose state waits on disk (limits.memory)", lambda s: s.status["keys_away"]),
    Metric("absolute_error", "gauge", "mean |actual − predicted| of about the newest thousand events looked at, in the "
           "unit of the (first) target", _quality("mae")),
    Metric("last_value_absolute_error", "gauge", "the same of forecasting the key's last value",
           _quality("last_value_mae")),
    Metric("skill_ratio", "gauge", "1 − absolute_error / last_value_absolute_error: above 0 is better than the last "
           "value", _skill),
    Metric("interval_coverage_ratio", "gauge", "share of the newest values inside their interval, by level",
           _quality("coverage"), ("level",)),
    Metric("learning_rate", "gauge", "model.lr now", lambda s: s.settings.get("lr")),
    Metric("model_info", "gauge", "1; its labels say what learns", lambda s: s.model, _MODEL),
)  # fmt: skip

PROCESS = (
    ("engine_up", "gauge", "1 while every loop turns (what /healthz says)"),
    ("engine_ready", "gauge", "1 while every shard runs and has caught up with its replay (what /readyz says)"),
    ("loop_age_seconds", "gauge", "since the slowest loop (of a shard, or of reading Kafka) last began a turn"),
    ("shards", "gauge", "logs (files, partitions) that this process has"),
    ("rebalances", "counter", "times that the group gave partitions to this process or took them (Kafka)"),
    ("build_info", "gauge", "1; its labels: the job's name, version, python, numpy, numba, kernels (a digest), cpu"),
)


class Collector:
    """What `prometheus-client` asks at each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._build = _build_info(engine.name)

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        yield from self._process(GaugeMetricFamily, CounterMetricFamily)
        looks = [Look.at(shard) for shard in list(self._engine.shards)]
        families = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
        for metric in METRICS:
            labels = ("shard", "topic", "partition", *metric.labels)
            family: Any = families[metric.kind](_PREFIX + metric.name, metric.meaning, labels=labels)
            for look in looks:
                for own, value in _samples(metric.read(look)):
                    if isinstance(value, Durations):
                        family.add_metric([*look.labels, *own], *_buckets(value))
                    elif value is not None:
                        family.add_metric([*look.labels, *own], float(value))
            yield family

    def _process(self, gauge: Any, counter: Any) -> Iterator[Any]:
        engine = self._engine
        about = {name: meaning for name, _, meaning in PROCESS}
        values = {"engine_up": float(engine.live), "engine_ready": float(not engine.unready()),
                  "loop_age_seconds": engine.moved_within_s(), "shards": len(engine.shards)}  # fmt: skip
        for name, value in values.items():
            yield gauge(_PREFIX + name, about[name], value=value)
        rebalances = getattr(engine.source, "rebalances", 0)
        yield counter(_PREFIX + "rebalances", about["rebalances"], value=rebalances)
        info = gauge(_PREFIX + "build_info", about["build_info"], labels=self._build)
        info.add_metric(list(self._build.values()), 1.0)
        yield info


def registry(engine: Engine) -> Any:
    """The engine's metrics with those of its process (memory, CPU, open files), apart from the global registry."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    metrics = CollectorRegistry()
    ProcessCollector(registry=metrics)
    metrics.register(Collector(engine))
    return metrics


def _samples(values: Values) -> list[Sample]:
    """(own labels, value) of each."""
    if not isinstance(values, Mapping):
        return [((), values)]
    return [(own if isinstance(own, tuple) else (str(own),), value) for own, value in list(values.items())]


def _buckets(durations: Durations) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum."""
    counts, total_s = durations.read()
    buckets, so_far = [], 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets, total_s


def _build_info(name: str) -> dict[str, str]:
    import llvmlite.binding as llvm
    import numba
    import numpy

    from stream_rnn import __version__
    from stream_rnn.kernels import cache

    return {"name": name, "version": __version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "numba": numba.__version__, "kernels": Path(cache.folder() or "").name.removeprefix("kernels-"),
            "cpu": llvm.get_host_cpu_name()}  # fmt: skip


def markdown() -> str:
    """The table of all metrics, for docs/running.md."""
    lines = ["| metric | type | besides shard, topic, partition | meaning |", "|---|---|---|---|"]
    for m in METRICS:
        labels = ", ".join(f"`{name}`" for name in m.labels)
        lines.append(f"| `{m.full_name}` | {m.kind} | {labels} | {m.meaning} |")
    lines += ["", "Of the process, without those labels:", "", "| metric | type | meaning |", "|---|---|---|"]
    for name, kind, meaning in PROCESS:
        lines.append(f"| `{_PREFIX}{name}{'_total' if kind == 'counter' else ''}` | {kind} | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
