"""TBPTT(k1, k2) as the learner promises it, in float64 with torch autograd: slow, plain and written from the
contract alone. It keeps every step of every key for ever and has no ring, no padding and no merged bias.

One update of a key whose step count t has reached a multiple of k1:
  window   its last min(t, k2 + horizon - 1) steps
  losses   the labels that have come since its last update, mean over label entries; none: nothing happens
  forward  again over the window with today's weights, from the state stored when the window's first step
           was entered (a constant), and from zero at a step that follows a reset
  then     backward, clip_grad_norm_, torch's optimizer

`wrong` names one mistake to make on purpose, to show that the comparison would see it (see WRONG).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

torch.set_num_threads(1)

WRONG = {
    "k2 + 1": "the window is one step longer",
    "k2 - 1": "the window is one step shorter",
    "state dropped": "the window starts from zero instead of the stored state",
    "loss window": "the newest step's label waits for the next update",
    "label twice": "the labels of the last update count once more while they are in the window",
    "all losses": "every label in the window counts in every update",
    "state refreshed": "the update's own forward replaces the live state",
    "one bias": "where the two biases only act as a sum, one of them learns",
    "reset crossed": "the window runs on over a reset",
    "k1 restarted": "a reset restarts the count to k1",
}

CELLS = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell, "elman": torch.nn.RNNCell}
State = tuple[torch.Tensor, ...]  # (h,) or LSTM's (h, c)


@dataclass
class Step:
    """One step of a key: its input, the live state it was entered with, and its labels."""

    x: torch.Tensor
    before: State
    fresh: bool  # it follows a reset, or is the first
    waiting: dict[int, tuple[float, float]] = field(default_factory=dict)  # entry → (y, weight), not yet learnt
    learnt: dict[int, tuple[float, float]] = field(default_factory=dict)  # for the wrong oracles only
    learnt_at: int = -1


@dataclass
class Series:
    """What is known of one key."""

    state: State
    steps: list[Step] = field(default_factory=list)
    fresh: bool = True
    due: bool = False  # an update waits for the next step to enter
    count: int = 0  # steps towards k1


class Oracle:
    """The learner's public methods in float64; `parameters` are the initial ones, in torch's names."""

    def __init__(
        self,
        parameters: dict[str, np.ndarray],
        inputs: int,
        outputs: int = 1,
        *,
        cell: str = "gru",
        hidden: int = 32,
        k1: int = 8,
        k2: int = 32,
        horizon: int = 1,
        loss: str = "squared",
        delta: float = 1.0,
        quantiles: tuple[float, ...] = (0.1, 0.5, 0.9),
        optimizer: str = "adam",
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float | None = None,
        clip: float | None = 1.0,
        seed: int = 0,  # the initial parameters are given, so these two say nothing here
        zero_head: bool = False,
        input_kind: str = "real",
        max_updates: int | None = None,
        wrong: str = "",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        assert not wrong or wrong in WRONG
        self.inputs, self.outputs, self.k1, self.input_kind = inputs, outputs, k1, input_kind
        self.loss, self.delta, self.levels = loss, delta, torch.tensor(quantiles, dtype=dtype)
        self.lr, self.clip, self.max_updates, self.wrong, self.dtype = lr, clip, max_updates, wrong, dtype
        self.window = k2 + horizon - 1 + {"k2 + 1": 1, "k2 - 1": -1}.get(wrong, 0)
        self.cell = CELLS[cell](inputs, hidden, dtype=dtype)
        self.head = torch.nn.Linear(hidden, outputs, dtype=dtype)
        self.zero: State = (torch.zeros(hidden, dtype=dtype),) * (2 if cell == "lstm" else 1)
        self.named = {**dict(self.cell.named_parameters()), **dict(self.head.named_parameters(prefix="head"))}
        assert self.named.keys() == parameters.keys()
        with torch.no_grad():
            for name, value in parameters.items():
                self.named[name].copy_(torch.from_numpy(np.array(value, np.float64)))
        shared = list(self.named.values())
        first = lr(0) if callable(lr) else lr
        if optimizer == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                shared, first, momentum=momentum, weight_decay=weight_decay or 0.0
            )
        else:
            kind, decay = {"adam": (torch.optim.Adam, 0.0), "adamw": (torch.optim.AdamW, 1e-2)}[optimizer]
            decay = decay if weight_decay is None else weight_decay
            self.optimizer = kind(shared, first, betas=betas, eps=eps, weight_decay=decay)
        self.series: dict[object, Series] = {}
        self.counters = dict.fromkeys(["steps", "updates", "refused_x", "refused_y", "expired"], 0)

    # the learner's methods

    def step(self, x, y=None, key=None, *, weight=1.0):
        if (vector := self._input(x)) is None:
            return np.full(self.outputs, np.nan)
        if y is not None and not self._usable(y):
            self.counters["refused_y"] += 1
            return self._forecast(vector, key)
        y_hat = self._enter(vector, key)
        if y is not None:
            self.label(y, key, weight=weight)
        self._update_if_due(self.series[key])
        return y_hat

    def advance(self, x, key=None):
        if (vector := self._input(x)) is None:
            return np.full(self.outputs, np.nan)
        return self._enter(vector, key)

    def label(self, y, key=None, back=0, *, weight=1.0):
        if not self._usable(y):
            self.counters["refused_y"] += 1
            return False
        entries = {j: (float(v), weight) for j, v in enumerate(np.atleast_1d(y)) if not math.isnan(v)}
        series = self.series.get(key)
        t = len(series.steps) if series else 0
        if series is None or back >= t or t - back <= self._next_update(series) - self.window:
            self.counters["expired"] += len(entries)
            return False
        series.steps[t - 1 - back].waiting.update(entries)
        return True

    def predict(self, x, key=None):
        return self._forecast(self._vector(x), key)

    def reset(self, key=None):
        if key in self.series:
            self.series[key].fresh = True
            self.series[key].state = self.zero
            if self.wrong == "k1 restarted":
                self.series[key].count = 0

    def advance_many(self, X, labels, keys, *, lags, weights):
        out = []
        for x, y, key, weight in zip(X, labels, keys, weights, strict=True):
            if (vector := self._input(x)) is None:
                out.append(np.full(self.outputs, np.nan))
            elif not self._usable(y):  # an event is refused whole, as in `step`
                self.counters["refused_y"] += 1
                out.append(self._forecast(vector, key))
            else:
                for j, (value, lag) in enumerate(zip(y, lags, strict=True)):
                    if not np.isnan(value):
                        self.label(np.where(np.arange(len(y)) == j, value, np.nan), key, int(lag), weight=weight)
                out.append(self._enter(vector, key))
        return np.reshape(out, (-1, self.outputs))

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        return {name: p.detach().numpy().copy() for name, p in self.named.items()}

    # the parts

    def _vector(self, x) -> torch.Tensor:
        if self.input_kind == "classes":
            return torch.eye(self.inputs, dtype=self.dtype)[int(x)]
        return torch.tensor(np.asarray(x, np.float64), dtype=self.dtype)

    def _input(self, x) -> torch.Tensor | None:
        value = np.asarray(x, np.float64)
        usable = 0 <= value < self.inputs if self.input_kind == "classes" else np.isfinite(value).all()
        if not usable:
            self.counters["refused_x"] += 1
            return None
        return self._vector(x)

    def _usable(self, y) -> bool:
        y = np.atleast_1d(np.asarray(y, np.float64))
        y = y[~np.isnan(y)]
        if self.loss == "cross_entropy":
            return bool(((y >= 0) & (y < self.outputs) & (y == np.floor(y))).all())
        return bool(np.isfinite(y).all())

    def _run(self, x: torch.Tensor, state: State) -> State:
        if len(self.zero) == 2:
            return self.cell(x, state)
        return (self.cell(x, state[0]),)

    def _forecast(self, vector: torch.Tensor, key) -> np.ndarray:
        state = self.series[key].state if key in self.series else self.zero
        with torch.no_grad():
            return self.head(self._run(vector, state)[0]).numpy()

    def _enter(self, vector: torch.Tensor, key) -> np.ndarray:
        """One step of a key: the update that was due, then forward with the newest weights."""
        series = self.series.setdefault(key, Series(self.zero))
        self._update_if_due(series)
        series.steps.append(Step(vector, series.state, series.fresh))
        self.counters["steps"] += 1
        with torch.no_grad():
            series.state = self._run(vector, series.state)
            y_hat = self.head(series.state[0]).numpy()
        series.fresh = False
        series.count += 1
        series.due = series.count % self.k1 == 0
        return y_hat

    def _next_update(self, series: Series) -> int:
        """The step count at which this key's next update runs."""
        t = len(series.steps)
        return t if series.due else t + self.k1 - series.count % self.k1

    def _update_if_due(self, series: Series) -> None:
        if series.due:
            series.due = False
            self._update(series)

    def loss_of(self, series: Series) -> torch.Tensor | None:
        """The mean loss of the labels that wait, as a function of today's weights; None without labels."""
        window = series.steps[-self.window :] if self.window else []
        newest = series.steps[-1]
        state = window[0].before if window and self.wrong != "state dropped" else self.zero
        terms: list[torch.Tensor] = []
        for step in window:
            if step.fresh and self.wrong != "reset crossed":
                state = self.zero
            state = self._run(step.x, state)
            labels = step.waiting
            if self.wrong == "loss window" and step is newest:
                labels = {}
            again = {"all losses": True, "label twice": step.learnt_at == series.count - self.k1}
            if again.get(self.wrong):
                labels = step.learnt | labels
            terms += self._terms(self.head(state[0]), labels)
        self._reached = tuple(s.detach() for s in state)
        return torch.cat(terms).sum() / sum(len(t) for t in terms) if terms else None

    def _terms(self, y_hat: torch.Tensor, labels: dict[int, tuple[float, float]]) -> list[torch.Tensor]:
        """Weighted losses of one step, a vector a label entry."""
        terms = []
        for j, (y, weight) in labels.items():
            if self.loss == "squared":
                term = (y_hat[j : j + 1] - y) ** 2
            elif self.loss == "huber":
                term = self.delta**2 * (torch.sqrt(1 + ((y_hat[j : j + 1] - y) / self.delta) ** 2) - 1)
            elif self.loss == "quantile":
                e = y - y_hat.reshape(-1, len(self.levels))[j]
                term = torch.maximum(self.levels * e, (self.levels - 1) * e)
            else:
                term = torch.nn.functional.cross_entropy(y_hat[None], torch.tensor([int(y)]), reduction="none")
            terms.append(weight * term)
        return terms

    def _update(self, series: Series) -> None:
        loss = self.loss_of(series)
        for step in series.steps[-self.window - 2 :]:
            held = self.wrong == "loss window" and step is series.steps[-1]
            if step.waiting and not held:
                step.learnt, step.learnt_at, step.waiting = step.waiting, series.count, {}
        if loss is None or self.counters["updates"] == self.max_updates:
            return
        self.optimizer.zero_grad()
        loss.backward()
        if self.wrong == "one bias":
            tied = 2 * len(self.zero[0]) if isinstance(self.cell, torch.nn.GRUCell) else None  # GRU: r and z only
            self.named["bias_hh"].grad[:tied] = 0
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(self.named.values()), self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.counters["updates"]) if callable(self.lr) else self.lr
        self.optimizer.step()
        self.counters["updates"] += 1
        if self.wrong == "state refreshed":
            series.state = self._reached
