"""The learner's late labels (`wait`, `take_many`) against the float64 oracle, and against itself where none is late."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.testing as npt
import pytest
from oracle import Oracle

from stream_rnn.learner import Learner


class LateOracle(Oracle):
    """A late label is learnt from when k1 wait, over the steps up to its own; from the newest labelled step an update
    looks back k2 steps, or less far where a start state was stored (every k1 steps) and further for older labels."""

    def __init__(self, parameters, *, k2, wait, **more):
        super().__init__(parameters, k2=k2 + -(-wait // more["k1"]) * more["k1"], **more)
        self.reach = k2

    def take(self, x, y, back, key):
        if back < 0:
            return self.step(x, y, key)
        self.label(y, key, back)
        if sum(len(s.waiting) for s in self.series[key].steps) >= self.k1:
            self._update(self.series[key])
        return np.full(self.outputs, np.nan)

    def loss_of(self, series):
        labelled = [i for i, step in enumerate(series.steps) if step.waiting]
        if not labelled:
            return None
        t, end = len(series.steps), labelled[-1] + 1
        stored = [i for i in range(t) if i == 0 or (i + self.window) % self.k1 == 0]
        oldest = min(i for i in stored if i >= t - self.window)
        begin = max([oldest, *(i for i in stored if i <= min(labelled[0], end - self.reach))])
        state, terms = series.steps[begin].before, []
        for step in series.steps[begin:end]:
            state = self._run(step.x, state)
            terms += self._terms(self.head(state[0]), step.waiting)
        self._reached = ()
        return sum(terms) / len(terms)


def events(n, wait, seed=0):
    """x, y and back of n steps of two keys and of late labels between them."""
    rng = np.random.default_rng(seed)
    rows, due = [], []
    steps = {"a": 0, "b": 0}
    for i in range(n):
        for when, key, step, y in [d for d in due if d[0] == i]:
            rows.append((np.full(2, np.nan), y, steps[key] - 1 - step, key))
            due.remove((when, key, step, y))
        key, y = rng.choice(["a", "b"]), rng.normal()
        how = rng.random()
        rows.append((rng.normal(size=2), y if how < 0.3 else np.nan, -1, key))
        if 0.3 <= how < 0.9:
            due.append((i + int(rng.integers(1, wait + 1)), key, steps[key], rng.normal()))
        steps[key] += 1
    X, Y, back, keys = zip(*rows, strict=True)
    return np.nan_to_num(np.array(X, np.float32)), np.array(Y, np.float32)[:, None], np.array(back), list(keys)


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("k1, k2, wait", [(1, 4, 9), (3, 5, 8), (2, 2, 6), (1, 1, 5)])
def test_late_labels_are_learnt_as_the_oracle_says(cell, k1, k2, wait):
    learner = Learner(2, hidden=7, cell=cell, k1=k1, k2=k2, wait=wait, optimizer="sgd", lr=0.02, seed=3)
    first = learner.parameters
    oracle = LateOracle(first, inputs=2, cell=cell, hidden=7, k1=k1, k2=k2, wait=wait, optimizer="sgd", lr=0.02)
    X, Y, back, keys = events(150, wait)
    assert (back > 0).sum() > 40
    said = learner.take_many(X, Y, back, keys)
    expected = [oracle.take(x, y, b, k) for x, y, b, k in zip(X, Y, back, keys, strict=True)]
    npt.assert_allclose(said, expected, atol=1e-4)
    assert learner.counters["updates"] == oracle.counters["updates"] > 30
    assert learner.counters["expired"] == oracle.counters["expired"]
    moved = np.sqrt(sum(((oracle.parameters[n] - p) ** 2).sum() for n, p in first.items()))
    error = np.sqrt(sum(((oracle.parameters[n] - p) ** 2).sum() for n, p in learner.parameters.items()))
    assert error < 1e-4 * moved


@pytest.mark.parametrize("k1, k2", [(1, 4), (3, 6), (4, 4)])
def test_to_wait_for_labels_changes_nothing_where_none_is_late(k1, k2):
    """Bit for bit: a longer ring costs memory, and no gradient reaches further back."""
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(80, 3)), rng.normal(size=80)
    plain, waiting = (Learner(3, hidden=8, k1=k1, k2=k2, wait=w) for w in (0, 20))
    said = plain.step_many(X, Y)
    npt.assert_array_equal(said, waiting.step_many(X, Y))
    npt.assert_array_equal(said, Learner(3, hidden=8, k1=k1, k2=k2, wait=20).take_many(X, Y, np.full(80, -1)))
    for name, value in plain.parameters.items():
        npt.assert_array_equal(value, waiting.parameters[name])


def test_late_labels_in_blocks_of_any_cut():
    X, Y, back, keys = events(120, 7, seed=2)
    whole, parts = (Learner(2, hidden=8, k1=2, k2=4, wait=8) for _ in range(2))
    said = whole.take_many(X, Y, back, keys)
    cuts = [0, 1, 2, 30, 31, 90, len(X)]
    told = [parts.take_many(X[a:b], Y[a:b], back[a:b], keys[a:b]) for a, b in pairwise(cuts)]
    npt.assert_array_equal(said, np.concatenate(told))
    assert whole.state_arrays()["shared"]["weights"].tobytes() == parts.state_arrays()["shared"]["weights"].tobytes()


def test_a_learner_that_waits_is_saved_and_goes_on():
    X, Y, back, keys = events(60, 7)
    learner = Learner(2, hidden=8, k1=1, k2=4, wait=8)
    learner.take_many(X[:40], Y[:40], back[:40], keys[:40])
    again = Learner.from_bytes(learner.to_bytes())
    npt.assert_array_equal(*(m.take_many(X[40:], Y[40:], back[40:], keys[40:]) for m in (learner, again)))
