"""How far back the gradient reaches: against torch autograd, on the windows that the learner really looks at."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
import torch

from stream_rnn import Learner
from stream_rnn.gradient_reach import Reach, state_gradients, window_of
from tests.oracle import CELLS

LOSSES = {"squared": 2, "huber": 2, "quantile": 4, "cross_entropy": 3}  # and their outputs


def by_autograd(learner, window):
    """Norms per lag: zeros that are added to each state, and the gradient that reaches them."""
    cell = CELLS[learner.cell](window.X.shape[1], learner.hidden, dtype=torch.float64)
    head = torch.nn.Linear(learner.hidden, learner.outputs, dtype=torch.float64)
    with torch.no_grad():
        for name, p in {**dict(cell.named_parameters()), **dict(head.named_parameters(prefix="head"))}.items():
            p.copy_(torch.from_numpy(learner.parameters[name].astype(float)))
    state = [torch.from_numpy(s) for s in window.start]
    touched, terms = [], []
    for x, y, weight in zip(window.X, window.y, window.weight, strict=True):
        new = cell(torch.from_numpy(x), tuple(state) if len(state) > 1 else state[0])
        zeros = torch.zeros(len(state), learner.hidden, dtype=torch.float64, requires_grad=True)
        state = [s + z for s, z in zip(new if len(state) > 1 else [new], zeros, strict=True)]
        touched.append(zeros)
        y_hat = head(state[0])
        for j in np.flatnonzero(~np.isnan(y)):
            terms += [weight[j] * term for term in loss(learner, y_hat, j, y[j])]
    (sum(terms) / len(terms)).backward()
    return [0.0 if z.grad is None else float(z.grad.norm()) for z in reversed(touched)]


def loss(learner, y_hat, j, y):
    if learner.loss == "cross_entropy":
        return [torch.nn.functional.cross_entropy(y_hat, torch.tensor(int(y)))]
    if learner.loss == "quantile":
        n = len(learner.quantiles)
        levels = torch.tensor(learner.quantiles, dtype=torch.float64)
        return list(
            torch.maximum(levels * (y - y_hat[j * n : j * n + n]), (levels - 1) * (y - y_hat[j * n : j * n + n]))
        )
    e = y_hat[j] - y
    return [e**2 if learner.loss == "squared" else learner.delta**2 * ((1 + (e / learner.delta) ** 2).sqrt() - 1)]


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("kind", LOSSES)
def test_the_norms_are_those_of_autograd(cell, kind):
    rng = np.random.default_rng(5)
    more = {"quantiles": (0.2, 0.9)} if kind == "quantile" else {}
    learner = Learner(3, LOSSES[kind], cell=cell, hidden=7, k1=2, k2=9, loss=kind, lr=0.01, seed=3, **more)
    checked = 0

    def look(*event):
        nonlocal checked
        if (window := window_of(*event)) is not None:
            norms = state_gradients(window, learner)
            assert norms[-1] > 0
            npt.assert_allclose(norms, by_autograd(learner, window), rtol=1e-9)
            checked += 1

    learner.watch = look
    for n in range(60):
        y = rng.integers(0, 3, 1) if kind == "cross_entropy" else rng.normal(size=learner.label_width)
        y = np.where(rng.random(len(y)) < 0.3, np.nan, y)
        learner.step_many(rng.normal(size=(1, 3)), y[None], [f"k{n % 2}"], weights=[1.0 + n % 3])
    assert checked >= 5


@pytest.mark.parametrize(("k1", "k2", "horizon"), [(1, 1, 1), (1, 6, 1), (3, 6, 2), (4, 5, 1)])
def test_the_windows_are_what_the_updates_look_at(k1, k2, horizon):
    """Inputs, states and labels as they were given, from a record of everything."""
    rng = np.random.default_rng(1)
    learner = Learner(2, horizon, hidden=5, k1=k1, k2=k2, horizon=horizon, seed=1)
    K = k2 + horizon - 1
    past = {"a": [], "b": []}  # (x, state before, labels by horizon)
    checked = 0

    def look(learner, slot, x, y, weight, mode):
        nonlocal checked
        window = window_of(learner, slot, x, y, weight, mode)
        mine = past["ab"[slot]]
        if len(mine) < K or len(mine) % k1:
            assert window is None
            return
        steps = mine[-K:]
        npt.assert_array_equal(window.X, np.array([s[0] for s in steps], np.float32))
        npt.assert_array_equal(window.start[0], steps[0][1])
        expected = np.full((K, horizon), np.nan)
        for event in range(len(mine) - k1 + 1, len(mine) + 1):  # labels that have come since the last update
            label = y if event == len(mine) else mine[event][2]
            for lag in range(horizon):
                if event - 1 - lag >= len(mine) - K:
                    expected[event - 1 - lag - (len(mine) - K), lag] = label[lag]
        npt.assert_array_equal(window.y, expected)
        checked += 1

    learner.watch = look
    for n in range(50):
        key, x = "ab"[n % 3 == 2], rng.normal(size=2).astype(np.float32)
        y = rng.normal(size=horizon).astype(np.float32)
        before = learner.state(key)
        learner.advance_many(x[None], y[None], [key], lags=range(horizon))
        past[key].append((x, before, y))
    assert checked > 5


def test_looking_changes_nothing():
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(300, 3)), rng.normal(size=300)
    plain, looked = (Learner(3, hidden=8, k1=1, k2=12, seed=4) for _ in range(2))
    reach = Reach()
    reach.watch(looked)
    for part in np.array_split(np.arange(300), 30):
        npt.assert_array_equal(looked.step_many(X[part], Y[part]), plain.step_many(X[part], Y[part]))
    assert reach.norms.shape == (12,)
    assert all((looked.parameters[name] == p).all() for name, p in plain.parameters.items())


def recall(gap, episodes):
    """A number that comes with a cue is to be said `gap` events later; between them are others."""
    X = np.zeros((episodes, gap + 1, 3))
    X[:, :, 0] = np.random.default_rng(3).uniform(-1, 1, (episodes, gap + 1))
    X[:, 0, 1] = X[:, gap, 2] = 1
    Y = np.full((episodes, gap + 1), np.nan)
    Y[:, gap] = X[:, 0, 0]
    return X.reshape(-1, 3), Y.ravel()


@pytest.mark.parametrize(("gap", "k2", "verdict"), [
    (12, 6, "too short"), (12, 20, "long enough"), (1, 32, "longer than needed"),
])  # fmt: skip
def test_it_says_whether_k2_fits(gap, k2, verdict):
    learner = Learner(3, hidden=16, k1=1, k2=k2, lr=3e-3, seed=0)
    bias = learner.parameters["bias_ih"]
    bias[16:32] = np.log(np.linspace(0.5, 2 * gap, 16))  # gates that keep for up to twice as long as is to be learnt
    learner.load_parameters({"bias_ih": bias})
    reach = Reach()
    reach.watch(learner)
    X, Y = recall(gap, 20_000 // gap)
    for part in np.array_split(np.arange(len(X)), 501):
        learner.step_many(X[part], Y[part])
    assert reach.verdict == verdict, reach.result()
    assert f"k2 = {k2}" in reach.said()
    told = reach.result()
    assert told["verdict"] == verdict
    assert len(told["norm"]) == k2
    assert max(told["relative"]) == 1.0


def test_without_a_whole_window_it_says_so():
    reach = Reach()
    learner = Learner(1, hidden=4, k1=1, k2=50)
    reach.watch(learner)
    for _ in range(20):
        learner.step_many(np.ones((1, 1)), np.ones(1))
    assert reach.result()["verdict"] == "unknown"
    assert "no update had a whole window" in reach.said()


def test_a_long_run_keeps_a_bounded_sample_from_all_of_it(monkeypatch):
    monkeypatch.setattr("stream_rnn.gradient_reach.SAMPLES", 8)
    monkeypatch.setattr(
        "stream_rnn.gradient_reach.state_gradients", lambda window, learner: np.array([float(window.X[0, 0])])
    )
    reach, learner = Reach(), Learner(1, hidden=4, k1=1, k2=1)
    reach.watch(learner)
    for n in range(200):
        learner.step_many(np.full((1, 1), float(n + 1)), np.ones(1))
    taken = [float(v[0]) for v in reach._norms]
    assert 8 <= len(taken) < 16
    npt.assert_array_equal(np.diff(taken), 16.0)
