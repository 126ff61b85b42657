"""How far back the gradient reaches: is k2 too short for what is being learnt, or longer than it needs to be?

A label's loss is followed back through an update's window, and at each lag the norm of its gradient with respect to
the recurrent state (an LSTM's h and c together) is taken: lag 0 is the newest step, the last lag is the window's edge,
where truncation cuts the gradient off. What is still large there would have gone on. A sample of a run's updates is
looked at, each just before it is made: a copy of the key's window is run again in plain NumPy float64, so the learning
itself does not notice.

s(k): the state after the step k before the newest one; L: the loss of the labels that wait in the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_rnn.kernels import layout as at
from stream_rnn.kernels.cells import CELLS

if TYPE_CHECKING:
    from stream_rnn.learner import Learner

Floats = NDArray[np.float64]

SAMPLES = 64  # at least so many are kept of a long run, twice as many at most
LARGE, SMALL = 0.25, 0.01  # of the largest norm: still large at the edge; as good as nothing


class Reach:
    """A sample of a run's updates; `watch` looks through a learner, `result` and `said` tell what was seen."""

    def __init__(self) -> None:
        self.k2 = self.horizon = 0
        self._norms: list[Floats] = []
        self._seen, self._stride = 0, 1
        self._flat = False  # there were updates whose gradient was 0

    def watch(self, learner: Any) -> None:
        """Look at the first update of each block that this learner takes; to be called again for another learner."""
        if getattr(learner, "cell", None) in CELLS and learner.backend != "torch":  # else its rows are not known here
            self.k2, self.horizon = learner.k2, learner.horizon
            learner.watch = self._look

    def _look(self, learner: Learner, slot: int, x: Floats, y: Floats, weight: float, mode: int) -> None:
        if slot < 0 or (window := window_of(learner, slot, x, y, weight, mode)) is None:
            return
        self._seen += 1
        if (self._seen - 1) % self._stride:
            return
        norms = state_gradients(window, learner)
        if not (np.isfinite(norms).all() and norms.any()):
            self._flat = True
            return
        self._norms.append(norms)
        if len(self._norms) >= 2 * SAMPLES:  # evenly over the run, however long it is
            self._norms, self._stride = self._norms[::2], 2 * self._stride

    @property
    def norms(self) -> Floats | None:
        """Mean norm at lags 0 … window - 1, over the newer half of the sample; None: nothing was seen."""
        newer = self._norms[len(self._norms) // 2 :]
        return np.mean(newer, axis=0) if newer else None

    def result(self) -> dict[str, Any]:
        """For machines: norm a lag, the same relative to the largest, how far it reaches, and the verdict."""
        norms, sampled = self.norms, len(self._norms) - len(self._norms) // 2
        out: dict[str, Any] = {"k2": self.k2, "updates_sampled": sampled, "verdict": self.verdict, "said": self.said()}
        if norms is not None:
            out |= {
                "reach": self.reach,
                "at_the_edge": _rounded(norms[-1] / norms.max()),
                "norm": [_rounded(v) for v in norms],
                "relative": [_rounded(v / norms.max()) for v in norms],
            }
        return out

    @property
    def reach(self) -> int:
        """The last lag at which the norm is more than 1 % of the largest."""
        assert self.norms is not None
        return int(np.flatnonzero(self.norms > SMALL * self.norms.max())[-1])

    @property
    def verdict(self) -> str:
        """"too short", "longer than needed", "long enough", or "unknown"."""
        norms = self.norms
        if norms is None:
            return "unknown"
        if norms[-1] > LARGE * norms.max():
            return "too short"
        return "longer than needed" if 2 * (self.reach + 1) <= self.k2 and self.k2 > 4 else "long enough"

    def said(self) -> str:
        """In plain words."""
        norms = self.norms
        if not self.k2:
            return "not measured: it can be for the compiled cells only, not for those of torch"
        if norms is None and self._flat:
            return "not measured: every forecast that was looked at was right, so there was no gradient"
        if norms is None:
            return "not measured: no update had a whole window of k2 events behind it"
        edge = f"at the edge of the window, {len(norms) - 1} events back, the gradient still has "
        edge += f"{norms[-1] / norms.max():.1%} of its largest norm"
        if self.verdict == "too short":
            return (
                f"k2 = {self.k2} is too short for what the network looks for: {edge}, and is cut off there. Try "
                f"model.k2 = {2 * self.k2}; if the error does not fall, nothing further back helps"
            )
        if self.verdict == "longer than needed":
            return (
                f"k2 = {self.k2} is longer than needed: the gradient reaches {self.reach} events back (1 % of its "
                f"largest norm). model.k2 = {max(4, self.reach + 1)} learns the same in less time, unless the network "
                "has yet to find something further back"
            )
        return f"k2 = {self.k2} is long enough: {edge}"


class Window(NamedTuple):
    """One update's window, K steps."""

    X: Floats  # (K, inputs)
    start: Floats  # the state before it, (states, hidden)
    y: Floats  # labels that wait (K, label width), NaN: none
    weight: Floats  # of each label


def window_of(learner: Learner, slot: int, x: Floats, y: Floats, weight: float, mode: int) -> Window | None:
    """A copy of what the update that this event causes will look at; None if it causes none, or not over a whole
    window without a reset in it."""
    cell, K, k1, L = CELLS[learner.cell], learner.window, learner.k1, learner.label_width
    row = learner._rows.row(slot).copy()
    H, words = at.up16(learner.hidden), learner._x_words
    place = at.row_layout(cell, words, H, L, k1, K)
    head = row[: at.HEADER].view(np.int64)
    t = int(head[at.STEPS])
    widths = {"x": words, "y": L, "weight": L}
    ring = {name: row[place[name] : place[name] + K * w].reshape(K, w) for name, w in widths.items()}
    S = cell.states * H
    starts = row[place["start"] : place["x"]].reshape(-1, S)
    live = row[place["live"] : place["live"] + S].copy()
    if mode == at.STEP:  # the event is a step of its own, and its label belongs to it
        ring["x"][t % K], ring["y"][t % K] = x, np.nan
        if (t + K) % k1 == 0:
            starts[(t + K) // k1 % len(starts)] = live
        t += 1
        due, lags = t % k1 == 0, np.zeros(L, np.int64)
    else:
        due, lags = bool(head[at.DUE]), learner._lags
    if not due or t < K or head[at.CUT] > t - K or head[at.RESET]:
        return None
    for j in np.flatnonzero(~np.isnan(y)):
        if (step := t - 1 - int(lags[j])) >= t - K:
            ring["y"][step % K, j], ring["weight"][step % K, j] = y[j], weight
    order = np.arange(t - K, t) % K
    if np.isnan(ring["y"]).all():
        return None
    start = starts[t // k1 % len(starts)] if t > K else np.zeros(S, np.float32)
    X = ring["x"][order].astype(np.float64)
    if learner.input_kind == "classes":
        X = np.eye(learner.inputs)[X[:, 0].astype(int)]
    state = start.reshape(cell.states, H)[:, : learner.hidden].astype(np.float64)
    return Window(X, state, ring["y"][order].astype(np.float64), ring["weight"][order].astype(np.float64))


def state_gradients(window: Window, learner: Learner) -> Floats:
    """‖∂L/∂s(k)‖ for k = 0 … K - 1."""
    p = {name: value.astype(np.float64) for name, value in learner.parameters.items()}
    forward, backward = _PASSES[learner.cell]
    U, c = p["weight_hh"], p["bias_hh"]
    state, kept = window.start, []
    outputs = []
    for a in window.X @ p["weight_ih"].T + p["bias_ih"]:
        state, memo = forward(a, state, U, c)
        kept.append(memo)
        outputs.append(p["head.weight"] @ state[0] + p["head.bias"])
    slopes = _slopes(learner, np.array(outputs), window.y, window.weight)
    norms = np.empty(len(kept))
    grad = np.zeros_like(state)
    for lag, (memo, slope) in enumerate(zip(reversed(kept), slopes[::-1], strict=True)):
        grad[0] += p["head.weight"].T @ slope
        norms[lag] = np.sqrt((grad**2).sum())
        grad = backward(grad, memo, U)
    return norms


def _slopes(learner: Learner, outputs: Floats, y: Floats, weight: Floats) -> Floats:
    """∂L/∂ŷ, (K, outputs); L is the mean over the label entries."""
    if learner.loss == "cross_entropy":
        there = ~np.isnan(y[:, 0])
        share = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        slopes = share / share.sum(axis=1, keepdims=True)
        slopes[there, y[there, 0].astype(int)] -= 1
        return np.asarray(np.where(there[:, None], slopes * weight, 0.0) / there.sum())
    levels = np.ones(1)
    if learner.loss == "quantile":
        levels = np.array(learner.quantiles)
        y, weight = np.repeat(y, len(levels), axis=1), np.repeat(weight, len(levels), axis=1)
    e = outputs - y
    if learner.loss == "squared":
        slopes = 2 * e
    elif learner.loss == "huber":
        slopes = e / np.sqrt(1 + (e / learner.delta) ** 2)
    else:
        below = np.tile(levels, outputs.shape[1] // len(levels))
        slopes = np.where(e < 0, -below, np.where(e > 0, 1 - below, 0.0))
    there = ~np.isnan(e)
    return np.asarray(np.where(there, slopes * weight, 0.0) / there.sum())


# The cells in torch's layout, one step: (W x + b, state, U, c) → state, what the way back needs.


def _sigmoid(a: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * a))


def _elman(a: Floats, state: Floats, U: Floats, c: Floats) -> tuple[Floats, Any]:
    h = np.tanh(a + U @ state[0] + c)
    return h[None], h


def _elman_back(grad: Floats, h: Floats, U: Floats) -> Floats:
    return np.asarray((U.T @ (grad[0] * (1 - h**2)))[None])


def _gru(a: Floats, state: Floats, U: Floats, c: Floats) -> tuple[Floats, Any]:
    (h,) = state
    (ar, az, an), (ur, uz, un) = np.split(a, 3), np.split(U @ h + c, 3)
    r, z = _sigmoid(ar + ur), _sigmoid(az + uz)
    n = np.tanh(an + r * un)
    return (n + z * (h - n))[None], (h, r, z, n, un)


def _gru_back(grad: Floats, memo: Any, U: Floats) -> Floats:
    (dh,), (h, r, z, n, un) = grad, memo
    dn = dh * (1 - z) * (1 - n**2)
    inner = np.concatenate([dn * un * r * (1 - r), dh * (h - n) * z * (1 - z), dn * r])
    return np.asarray((dh * z + U.T @ inner)[None])


def _lstm(a: Floats, state: Floats, U: Floats, c: Floats) -> tuple[Floats, Any]:
    h, cell = state
    i, f, g, o = np.split(a + U @ h + c, 4)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    new = f * cell + i * g
    return np.stack([o * np.tanh(new), new]), (cell, i, f, g, o, np.tanh(new))


def _lstm_back(grad: Floats, memo: Any, U: Floats) -> Floats:
    dh, dc = grad
    cell, i, f, g, o, tanh = memo
    dc = dc + dh * o * (1 - tanh**2)
    gates = [dc * g * i * (1 - i), dc * cell * f * (1 - f), dc * i * (1 - g**2), dh * tanh * o * (1 - o)]
    inner = np.concatenate(gates)
    return np.stack([U.T @ inner, dc * f])


_PASSES = {"elman": (_elman, _elman_back), "gru": (_gru, _gru_back), "lstm": (_lstm, _lstm_back)}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
