"""What the Learner promises besides being right (test_learner_oracle.py): bits, saving, refusals, torch, words."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import numpy.testing as npt
import pytest
import torch

from stream_rnn import stopwatch
from stream_rnn.errors import ConfigError, StateError, StateMismatch
from stream_rnn.keys import KeySpace
from stream_rnn.learner import Learner

CELLS = ["gru", "lstm", "elman"]
I, O, H = 3, 2, 20  # H is no multiple of 16: padding is in every test


def made(cell: str = "gru", **options: Any) -> Learner:
    return Learner(I, O, **{"cell": cell, "hidden": H, "k1": 3, "k2": 7, "lr": 0.02, **options})


def stream(n: int, seed: int = 0, keys: int = 3) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """X, Y with gaps and a few unusable numbers, keys."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, I)).astype(np.float32)
    Y = rng.normal(size=(n, O)).astype(np.float32)
    Y[rng.random(Y.shape) < 0.2] = np.nan
    X[rng.random(n) < 0.02, 1] = np.inf
    Y[rng.random(n) < 0.02, 0] = -np.inf
    return X, Y, [("a", 7, ("b", None))[k] for k in rng.integers(0, keys, n)]


def arrays(learner: Learner) -> dict[str, np.ndarray]:
    """Everything of a learner but its counters, copied."""
    state = learner.state_arrays()
    both = {**state["shared"], **{f"keys.{n}": a for n, a in state["keys"].items() if n != "key"}}
    return {"keys": np.array([repr(k) for k in state["keys"]["key"]])} | {
        n: np.array(a) for n, a in both.items() if n != "counters"
    }


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        npt.assert_array_equal(value, b[name], err_msg=name)


def cuts(n: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.split(np.arange(n), np.sort(rng.integers(0, n, 9)))  # some are empty


# the same bits


@pytest.mark.parametrize("cell", CELLS)
def test_step_many_is_step_by_step_at_any_split(cell: str) -> None:
    X, Y, keys = stream(120)
    weights = np.random.default_rng(1).uniform(0, 2, 120)
    one, whole = made(cell), made(cell)
    outs = [one.step(*each, weight=w) for *each, w in zip(X, Y, keys, weights, strict=True)]
    npt.assert_array_equal(whole.step_many(X, Y, keys, weights=weights), outs)
    assert whole.to_bytes() == one.to_bytes()
    for seed in range(3):
        split = made(cell)
        blocks = [split.step_many(X[c], Y[c], [keys[t] for t in c], weights=weights[c]) for c in cuts(120, seed)]
        npt.assert_array_equal(np.concatenate(blocks), outs)
        assert split.to_bytes() == one.to_bytes()


@pytest.mark.parametrize("cell", CELLS)
def test_advance_many_is_label_and_advance_at_any_split(cell: str) -> None:
    X, Y, keys = stream(120)
    X, Y = np.nan_to_num(X, posinf=0), np.where(np.isinf(Y), np.nan, Y)
    weights, lags = np.random.default_rng(1).uniform(0, 2, 120), [0, 2]
    one = made(cell, horizon=3)
    outs = []
    for x, y, key, weight in zip(X, Y, keys, weights, strict=True):
        for j, lag in enumerate(lags):
            if not np.isnan(y[j]):
                one.label(np.where(np.arange(O) == j, y, np.nan), key, lag, weight=weight)
        outs.append(one.advance(x, key))
    for seed in range(3):
        split = made(cell, horizon=3)
        blocks = [
            split.advance_many(X[c], Y[c], [keys[t] for t in c], lags=lags, weights=weights[c]) for c in cuts(120, seed)
        ]
        npt.assert_array_equal(np.concatenate(blocks), outs)
        assert split.to_bytes() == one.to_bytes()


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
def test_a_stopwatch_changes_nothing_and_its_parts_are_the_whole(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "_EACH", 2)
    X, Y, keys = stream(120)
    plain, timed = made(cell), made(cell)
    timed.stopwatch = watch = stopwatch.Stopwatch()
    for cut in np.split(np.arange(120), 6):
        block = [keys[i] for i in cut]
        for ours, theirs in zip(*(learner.advance_many(X[cut], Y[cut], block, return_hidden=True)
                                  for learner in (timed, plain)), strict=True):  # fmt: skip
            npt.assert_array_equal(ours, theirs)
    assert_same(arrays(timed), arrays(plain))
    assert watch.predict_s > 0 <= watch.update_s


def test_advance_many_refuses_an_event_whole_at_any_split() -> None:
    X, Y, keys = stream(120)
    assert np.isinf(X).any()
    assert np.isinf(Y).any()
    whole, split = made(horizon=3), made(horizon=3)
    outs = whole.advance_many(X, Y, keys, lags=[0, 2])
    blocks = [split.advance_many(X[c], Y[c], [keys[t] for t in c], lags=[0, 2]) for c in cuts(120, 0)]
    npt.assert_array_equal(np.concatenate(blocks), outs)
    assert split.to_bytes() == whole.to_bytes()
    npt.assert_array_equal(np.isnan(outs).all(1), np.isinf(X).any(1))
    fine = ~(np.isinf(X).any(1) | np.isinf(Y).any(1))
    clean = made(horizon=3)
    npt.assert_array_equal(
        clean.advance_many(X[fine], Y[fine], [k for k, f in zip(keys, fine, strict=True) if f], lags=[0, 2]), outs[fine]
    )
    assert_same(clean.parameters, whole.parameters)


def test_an_event_of_a_block_may_bring_two_updates_and_each_has_its_lr() -> None:
    """k1 = 1: the update that an earlier `advance` left due, and the step's own."""
    block, one = (made(k1=1, lr=lambda u: 1e-3 * (1 + u % 7)) for _ in range(2))
    X, Y, _ = stream(1100)
    X, Y = np.nan_to_num(X, posinf=0), np.nan_to_num(Y, neginf=0)
    for learner in (block, one):
        learner.step_many(X[:1000], Y[:1000])  # the function is tabulated in pieces of about a thousand
        learner.advance_many(X[1000:1040], None, range(40))
        for key in range(40):
            learner.label(Y[1000 + key], key)
    block.step_many(X[1040:1080], Y[1040:1080], range(40))
    for key in range(40):
        one.step(X[1040 + key], Y[1040 + key], key)
    assert block.counters["updates"] == 1080
    assert_same(arrays(block), arrays(one))


@pytest.mark.parametrize("name", ["step_many", "advance_many"])
@pytest.mark.parametrize("cell", CELLS)
def test_blocks_can_give_the_hidden_states(cell: str, name: str) -> None:
    X, Y, keys = stream(40)
    X, Y = np.nan_to_num(X, posinf=0), np.nan_to_num(Y, neginf=0)
    block, one = made(cell), made(cell)
    _, hidden = getattr(block, name)(X, Y, keys, return_hidden=True)
    assert hidden.shape == (40, H)
    for t, key in enumerate(keys):
        getattr(one, name)(X[t : t + 1], Y[t : t + 1], [key])
        npt.assert_array_equal(hidden[t], np.atleast_2d(one.state(key))[0])


SCRIPT = """
import hashlib
import numpy as np
from stream_rnn.learner import Learner
rng = np.random.default_rng(0)
learner = Learner(3, 2, cell="elman", hidden=20, k1=3, k2=7)
learner.step_many(rng.normal(size=(60, 3)), rng.normal(size=(60, 2)), [("a", None), "b"] * 30)
digest = hashlib.sha256(learner.to_bytes()).hexdigest()
"""


def test_another_process_gives_the_same_bytes_with_a_cold_and_a_warm_cache(tmp_path: Path) -> None:
    here: dict[str, Any] = {}
    exec(SCRIPT, here)
    for cache in ("cold", "warm"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT + "print(digest)"],
            env={**os.environ, "STREAM_RNN_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "77"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.stdout.strip() == here["digest"], f"{cache}: {run.stderr}"
        assert any(tmp_path.rglob("*.nbi")), "the compiled kernels are kept where asked"


def test_two_threads_give_the_bits_of_one_after_the_other() -> None:
    X, Y, keys = stream(400)
    alone = [made(seed=s) for s in (1, 2)]
    for learner in alone:
        learner.step_many(X, Y, keys)
    together = [made(seed=s) for s in (1, 2)]
    threads = [
        threading.Thread(target=lambda a=a: [a.step_many(X[c], Y[c], [keys[t] for t in c]) for c in cuts(400, 5)])
        for a in together
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.to_bytes() for a in together] == [a.to_bytes() for a in alone]


# saving


@pytest.mark.parametrize("cell", CELLS)
def test_saved_and_loaded_at_every_step_goes_on_bit_for_bit(cell: str) -> None:
    X, Y, keys = stream(60)
    whole, broken = made(cell, optimizer="adamw"), made(cell, optimizer="adamw")
    for t, key in enumerate(keys):
        broken = Learner.from_bytes(broken.to_bytes())
        if t % 3:
            wanted, got = (a.step(X[t], Y[t], key) for a in (whole, broken))
        else:  # leaves a due update and a late label behind
            wanted, got = (a.advance(X[t], key) for a in (whole, broken))
            broken = Learner.from_bytes(broken.to_bytes())
            assert whole.label(Y[t], key, 1) == broken.label(Y[t], key, 1)
        npt.assert_array_equal(got, wanted)
        if t % 17 == 0:
            whole.reset(key)
            broken.reset(key)
    assert broken.to_bytes() == whole.to_bytes()
    assert broken.counters == whole.counters


@pytest.mark.parametrize("way", [lambda a: pickle.loads(pickle.dumps(a)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_pickled_and_copied_it_goes_on_bit_for_bit(way: Callable[[Learner], Learner]) -> None:
    X, Y, keys = stream(60)
    whole = made(optimizer="sgd", momentum=0.9)
    whole.step_many(X[:30], Y[:30], keys[:30])
    other = way(whole)
    before = whole.to_bytes()
    wanted = whole.step_many(X[30:], Y[30:], keys[30:])
    assert other.to_bytes() == before, "it shares nothing with the first"
    npt.assert_array_equal(other.step_many(X[30:], Y[30:], keys[30:]), wanted)
    assert other.to_bytes() == whole.to_bytes()


def halving(u: int) -> float:
    return 0.02 * 0.5 ** (u // 5)


def test_a_function_for_lr_is_given_again_on_loading() -> None:
    X, Y, keys = stream(60)
    whole = made(lr=halving)
    whole.step_many(X[:30], Y[:30], keys[:30])
    saved = whole.to_bytes()
    other = Learner.from_bytes(saved, lr=halving)
    npt.assert_array_equal(other.step_many(X[30:], Y[30:], keys[30:]), whole.step_many(X[30:], Y[30:], keys[30:]))
    with pytest.raises(ConfigError, match="lr"):
        Learner.from_bytes(saved)


@pytest.mark.parametrize("spoil", [lambda b: b[:-7], lambda b: b"", lambda b: b"x" * 100, lambda b: b[: len(b) // 2]])
def test_what_is_not_a_saved_learner_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    learner = made()
    learner.step_many(*stream(20))
    with pytest.raises(StateError):
        Learner.from_bytes(spoil(learner.to_bytes()))


def test_shared_arrays_and_key_states_are_all_there_is() -> None:
    """What a store does: the shared arrays, then the rows of the keys that changed."""
    X, Y, keys = stream(80)
    whole, store = made(), {}
    for c in cuts(50, 3):
        whole.step_many(X[c], Y[c], [keys[t] for t in c])
        store |= {k: whole.keyspace.get(k) for k in whole.keyspace.changed_keys()}
        whole.keyspace.clear_changed()
    other = made(seed=5)
    other.step_many(X[:7], Y[:7], keys[:7])
    other.load_shared({n: a.copy() for n, a in whole.shared_arrays().items()})
    other.keyspace.load(store.items())
    npt.assert_array_equal(other.step_many(X[50:], Y[50:], keys[50:]), whole.step_many(X[50:], Y[50:], keys[50:]))
    assert other.counters == whole.counters
    with pytest.raises(StateMismatch, match="weights"):
        Learner(I, O, hidden=H + 16).load_shared(whole.shared_arrays())


def test_learners_that_share_their_keys_learn_as_if_alone() -> None:
    X, Y, keys = stream(60)
    space = KeySpace()
    together = [made("gru", keyspace=space), made("lstm", k1=2, keyspace=space)]
    alone = [made("gru"), made("lstm", k1=2)]
    for t, key in enumerate(keys):
        for a, b in zip(together, alone, strict=True):
            npt.assert_array_equal(a.step(X[t], Y[t], key), b.step(X[t], Y[t], key))
    for a, b in zip(together, alone, strict=True):
        assert_same(a.parameters, b.parameters)
    assert len(space) == 3


# what changes nothing


@pytest.mark.parametrize("cell", CELLS)
def test_predict_changes_nothing_and_creates_nothing(cell: str) -> None:
    learner = made(cell)
    learner.step_many(*stream(31))
    before = learner.to_bytes()
    x = np.ones(I)
    for key in ("a", 7, "never seen"):
        learner.predict(x, key)
    assert learner.to_bytes() == before
    assert len(learner.keyspace) == 3
    fresh = made(cell)
    npt.assert_array_equal(fresh.predict(x, "a"), fresh.step(x, None, "b"))  # an unknown key: zero state
    guess = learner.predict(x, "a")
    npt.assert_array_equal(guess, learner.step(x, np.zeros(O), "a"))


NAN, INF = np.nan, np.inf
BAD_X = [[NAN, 0, 0], [0, INF, 0], [0, 0, -INF], [0, 0, 1e39]]
BAD_Y = [[INF, 0], [0, -INF], [NAN, INF], [1e39, 0]]


@pytest.mark.parametrize("name", ["step", "advance", "step_many", "advance_many", "predict"])
@pytest.mark.parametrize("x", BAD_X, ids=str)
def test_refused_x_gives_nan_and_moves_nothing(name: str, x: list[float]) -> None:
    learner = made()
    learner.step_many(*stream(31))
    learner.advance(np.ones(I), "a")
    before, refused = arrays(learner), learner.counters["refused_x"]
    arguments: tuple[Any, ...] = (x, [1, 1], "a") if name == "step" else (x, "a")
    if "many" in name:
        arguments = (np.array([x], float), np.array([[1.0, 1.0] if name == "step_many" else [NAN, NAN]]), ["a"])
    out = getattr(learner, name)(*arguments)
    assert np.isnan(out).all()
    assert np.shape(out) == ((1, O) if "many" in name else (O,))
    assert_same(arrays(learner), before)
    assert learner.counters["refused_x"] == refused + (name != "predict")


@pytest.mark.parametrize("name", ["step", "step_many", "label"])
@pytest.mark.parametrize("y", BAD_Y, ids=str)
def test_refused_y_moves_nothing_and_the_prediction_is_given_all_the_same(name: str, y: list[float]) -> None:
    learner = made()
    learner.step_many(*stream(31))
    before, refused = arrays(learner), learner.counters["refused_y"]
    x = np.ones(I)
    if name == "label":
        assert learner.label(y, "a") is False
    else:
        many = name == "step_many"
        out = learner.step_many([x], [y], ["a"])[0] if many else learner.step(x, y, "a")
        npt.assert_array_equal(out, learner.predict(x, "a"))
    assert_same(arrays(learner), before)
    assert learner.counters["refused_y"] == refused + 1


@pytest.mark.parametrize("y", [-1, 4, 1.5, INF])
def test_a_class_that_cannot_be_is_refused_as_a_label(y: float) -> None:
    learner = Learner(I, 4, loss="cross_entropy", hidden=H, k1=1)
    learner.step(np.ones(I), 3)
    before = arrays(learner)
    npt.assert_array_equal(learner.step(np.ones(I), y), learner.predict(np.ones(I)))
    assert_same(arrays(learner), before)
    assert learner.counters["refused_y"] == 1


@pytest.mark.parametrize("x", [-1, 5])
def test_a_class_that_cannot_be_is_refused_as_an_input(x: int) -> None:
    learner = Learner(5, 1, input_kind="classes", hidden=H, k1=1)
    learner.step(4, 1.0)
    before = arrays(learner)
    assert np.isnan(learner.step(x, 1.0)).all()
    assert np.isnan(learner.step_many([x], [1.0])).all()
    assert_same(arrays(learner), before)
    assert learner.counters["refused_x"] == 2


def test_an_update_that_is_not_finite_is_refused_and_learning_goes_on() -> None:
    learner = made(k1=1)
    learner.step_many(*stream(20))
    before, made_so_far = learner.parameters, learner.counters["updates"]
    learner.step(np.ones(I), [3e38, 0], "a")  # its square is past float32
    assert (learner.counters["refused_updates"], learner.counters["updates"]) == (1, made_so_far)
    assert_same(learner.parameters, before)
    learner.step(np.ones(I), [1, 0], "a")
    assert (learner.counters["refused_updates"], learner.counters["updates"]) == (1, made_so_far + 1)
    assert all(np.isfinite(a).all() for a in learner.parameters.values())


def test_given_arrays_are_only_read_and_results_are_the_callers() -> None:
    learner = made(k1=1)
    X, Y, keys = stream(30)
    X0, Y0 = X.copy(), Y.copy()
    first = learner.step(X[0], Y[0], "a")
    kept, state, parameters = first.copy(), learner.state("a"), learner.parameters
    held = state.copy(), {n: a.copy() for n, a in parameters.items()}
    block = learner.step_many(X, Y, keys)
    kept_block = block.copy()
    learner.step_many(X, Y, keys)
    npt.assert_array_equal(X, X0)
    npt.assert_array_equal(Y, Y0)
    npt.assert_array_equal(first, kept)
    npt.assert_array_equal(block, kept_block)
    npt.assert_array_equal(state, held[0])
    assert_same(parameters, held[1])
    for value in learner.parameters.values():
        value[:] = 9
    assert_same(learner.parameters, learner.parameters)
    assert not any((a == 9).any() for a in learner.parameters.values())


# settings that live


def test_max_updates_predicts_on_and_learns_no_more() -> None:
    learner = made(k1=1, max_updates=10)
    X, Y, keys = stream(60)
    learner.step_many(X[:30], Y[:30], keys[:30])
    after, state = learner.parameters, learner.state("a")
    learner.step_many(X[30:], Y[30:], keys[30:])
    assert learner.counters["updates"] == 10
    assert_same(learner.parameters, after)
    assert (learner.state("a") != state).any()


def test_lr_may_be_set_live_and_acts_from_the_next_update() -> None:
    X, Y, keys = stream(60)
    X, Y = np.nan_to_num(X, posinf=0), np.nan_to_num(Y, neginf=0)
    function, live = made(k1=1, lr=lambda u: 0.01 if u < 20 else 0.001), made(k1=1, lr=0.01)
    function.step_many(X, Y, keys)
    live.step_many(X[:20], Y[:20], keys[:20])
    live.lr = 0.001
    live.step_many(X[20:], Y[20:], keys[20:])
    assert_same(live.parameters, function.parameters)


def test_clip_may_be_set_live() -> None:
    X, Y, keys = stream(40)
    learner = made(k1=1, optimizer="sgd", lr=1.0, clip=None)
    learner.clip = 1e-6
    before = learner.parameters
    learner.step_many(X, Y, keys)
    moved = [np.abs(learner.parameters[n] - before[n]).max() for n in before]
    assert 0 < max(moved) <= 41e-6


# parameters and torch


@pytest.mark.parametrize("cell", CELLS)
def test_starts_as_torch_does_and_as_the_seed_says(cell: str) -> None:
    gates = {"gru": 3, "lstm": 4, "elman": 1}[cell]
    shapes = {"weight_ih": (gates * H, I), "weight_hh": (gates * H, H), "head.weight": (O, H), "head.bias": (O,)}
    shapes |= {"bias_ih": (gates * H,), "bias_hh": (gates * H,)}
    a, again, other = (made(cell, seed=s).parameters for s in (1, 1, 2))
    assert {n: v.shape for n, v in a.items()} == shapes
    assert_same(a, again)
    values = np.concatenate([v.ravel() for v in a.values()])
    assert values.dtype == np.float32
    assert 0.99 * H**-0.5 < np.abs(values).max() <= H**-0.5
    assert abs(values.mean()) < 0.03
    assert all((a[n] != other[n]).all() for n in a)
    zero = made(cell, seed=1, zero_head=True).parameters
    assert not zero["head.weight"].any()
    assert not zero["head.bias"].any()
    npt.assert_array_equal(zero["weight_hh"], a["weight_hh"])


def torch_run(cell: str, parameters: dict[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """nn.GRU, nn.LSTM or nn.RNN, then nn.Linear, with these parameters, from zero state."""
    rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "elman": torch.nn.RNN}[cell](I, H)
    head = torch.nn.Linear(H, O)
    given = {n: torch.from_numpy(a) for n, a in parameters.items()}
    rnn.load_state_dict({f"{n}_l0": a for n, a in given.items() if "head" not in n})
    head.load_state_dict({n[5:]: a for n, a in given.items() if "head" in n})
    with torch.no_grad():
        return head(rnn(torch.from_numpy(X))[0]).numpy()


@pytest.mark.parametrize("cell", CELLS)
def test_predicts_as_torch_with_the_same_parameters(cell: str) -> None:
    X = np.random.default_rng(2).normal(size=(30, I)).astype(np.float32)
    learner = made(cell)
    learner.step_many(*stream(60))
    wanted = torch_run(cell, learner.parameters, X)
    npt.assert_allclose(np.stack([learner.advance(x, "new") for x in X]), wanted, atol=1e-5)
    other = made(cell, seed=9)
    other.load_parameters(learner.parameters)
    assert_same(other.parameters, learner.parameters)
    npt.assert_allclose(np.stack([other.advance(x) for x in X]), wanted, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])  # 30: most gates are shut or open for good
@pytest.mark.parametrize("inputs, hidden, outputs", [(1, 1, 1), (3, 16, 2), (7, 20, 17), (40, 129, 3)])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_are_the_printed_formulas(cell: str, inputs: int, hidden: int, outputs: int, scale: float) -> None:
    rng = np.random.default_rng(7)
    learner = Learner(inputs, outputs, cell=cell, hidden=hidden)
    W, U, b, c, V, d = (a.astype(np.float64) for a in learner.parameters.values())
    state = np.zeros((2, hidden) if cell == "lstm" else hidden)
    for x in (rng.normal(size=(5, inputs)) * scale).astype(np.float32):
        y_hat = learner.advance(x)
        state = naive.STEP[cell](x.astype(np.float64), state, W, U, b, c)
        npt.assert_allclose(learner.state(), state, atol=2e-6 * max(1, scale))
        npt.assert_allclose(y_hat, V @ naive.hidden(state) + d, atol=4e-6 * max(1, scale))


@pytest.mark.parametrize("cell", CELLS)
def test_to_torch_and_back(cell: str) -> None:
    X = np.random.default_rng(2).normal(size=(30, I)).astype(np.float32)
    learner = made(cell)
    learner.step_many(*stream(60))
    module = learner.to_torch()
    with torch.no_grad():
        out = module(torch.from_numpy(X))
    out = out[0] if isinstance(out, tuple) else out
    npt.assert_allclose(out.numpy(), torch_run(cell, learner.parameters, X), atol=1e-6)
    other = made(cell, seed=9)
    other.load_torch(module)
    assert_same(other.parameters, learner.parameters)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda p: p.update(extra=np.zeros(1)), ["extra"]),
        (lambda p: p.update({"head.weight": np.zeros((O, H + 1))}), ["head.weight", "21", "20"]),
        (lambda p: p.update({"bias_ih": np.full(3 * H, NAN)}), ["bias_ih"]),
        (lambda p: p.update({"bias_ih": np.full(3 * H, 1j)}), ["bias_ih", "complex"]),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name_and_nothing_moves(spoil: Any, says: list[str]) -> None:
    learner = made()
    before, given = learner.parameters, made(seed=5).parameters
    spoil(given)
    with pytest.raises((ValueError, TypeError)) as caught:
        learner.load_parameters(given)
    assert all(word in str(caught.value) for word in says), caught.value
    assert_same(learner.parameters, before)


# keys, states, counters


@pytest.mark.parametrize("cell", CELLS)
def test_state_is_the_live_one_and_zero_after_a_reset(cell: str) -> None:
    learner, x = made(cell), np.ones(I)
    shape = (2, H) if cell == "lstm" else (H,)
    learner.step(x, None, "a")
    learner.step(x, None, "b")
    assert learner.state("a").shape == shape
    npt.assert_array_equal(learner.state("a"), learner.state("b"))
    assert learner.state("a").all()
    first = made(cell).step(x)
    learner.reset("a")
    assert not learner.state("a").any()
    npt.assert_array_equal(learner.predict(x, "a"), first)
    npt.assert_array_equal(learner.step(x, None, "a"), first)
    assert (learner.predict(x, "b") != first).any()


def test_a_reset_or_label_of_an_unknown_key_changes_nothing() -> None:
    learner = made()
    learner.step_many(*stream(31))
    before = arrays(learner)
    learner.reset("never seen")
    assert learner.label([1, 1], "never seen") is False
    assert_same(arrays(learner), before)


def test_counters_count() -> None:
    learner = Learner(1, 1, hidden=4, k1=2, k2=3)
    for t in range(6):
        learner.step([1.0], 1.0 if t % 3 else NAN)  # labels at 1, 2, 4, 5; updates after 1, 3, 5
    assert learner.label(1.0, back=0) is True  # the next update, after 7, sees steps 5, 6, 7
    assert learner.label(1.0, back=1) is False
    learner.advance([1.0])
    assert learner.label(1.0, back=1) is True
    assert learner.label(1.0, back=2) is False
    learner.step([NAN], 1.0)
    learner.step([1.0], INF)
    refused = {"refused_x": 1, "refused_y": 1, "refused_updates": 0, "expired": 2}
    assert learner.counters == {"steps": 7, "labels": 6, "updates": 3, **refused}


def test_a_second_label_replaces_the_first_while_it_waits() -> None:
    a, b = made(), made()
    for learner, labels in ((a, [[5, 5], [1, 2]]), (b, [[1, 2]])):
        for _ in range(3):
            learner.advance(np.ones(I))
        for y in labels:
            assert learner.label(y)
        learner.advance(np.ones(I))
    assert_same(a.parameters, b.parameters)
    assert a.counters["updates"] == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint64, bool])
def test_any_real_dtype_is_cast(dtype: Any) -> None:
    X = np.random.default_rng(4).integers(0, 2, (20, I))
    wanted = made().step_many(X.astype(np.float32), X[:, :O].astype(np.float32))
    npt.assert_array_equal(made().step_many(X.astype(dtype), X[:, :O].astype(dtype)), wanted)
    npt.assert_array_equal(made().step_many(np.asfortranarray(X.astype(dtype)), X[:, :O].tolist()), wanted)
    learner = made()
    npt.assert_array_equal([learner.step(x.astype(dtype), x[:O].tolist()) for x in X], wanted)


@pytest.mark.parametrize("rule", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam"}, {"optimizer": "adamw"}])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("outputs", [2, 17])
def test_padding_stays_zero(cell: str, outputs: int, rule: dict[str, Any]) -> None:
    """20 units are kept as 32: the rest stays exactly zero in weights, moments and states."""
    rng = np.random.default_rng(8)
    learner = Learner(I, outputs, cell=cell, hidden=H, k1=1, k2=4, lr=0.05, **rule)
    learner.step_many(rng.normal(size=(100, I)), rng.normal(size=(100, outputs)), rng.integers(0, 3, 100))
    real = sum(p.size for p in learner.parameters.values())
    shared = learner.state_arrays()["shared"]
    for name in ("weights", "moment1") + ("moment2",) * (rule["optimizer"] != "sgd"):
        assert np.count_nonzero(shared[name]) == real, name
    live = learner.keyspace.tables["learner"].row(0)[learner._live]
    states = 2 if cell == "lstm" else 1
    assert live.shape == (states * 32,)
    assert np.count_nonzero(live) == states * H == np.count_nonzero(learner.state(learner.keyspace.keys[0]))


# wrong arguments: the message names the field and the value

WRONG_SETTINGS = [
    ({"inputs": 0}, ["inputs", "0"]),
    ({"inputs": 2.5}, ["inputs", "2.5"]),
    ({"outputs": 0}, ["outputs", "0"]),
    ({"outputs": -3}, ["outputs", "-3"]),
    ({"cell": "grru"}, ["cell", "grru", "gru"]),
    ({"hidden": 0}, ["hidden", "0"]),
    ({"hidden": "32"}, ["hidden", "32"]),
    ({"k1": 0}, ["k1", "0"]),
    ({"k1": 9, "k2": 8}, ["k1", "9", "k2", "8"]),
    ({"k1": 1, "k2": 0}, ["k2", "0"]),
    ({"horizon": 0}, ["horizon", "0"]),
    ({"loss": "mse"}, ["loss", "mse", "squared"]),
    ({"loss": "huber", "delta": 0.0}, ["delta", "0.0"]),
    ({"loss": "quantile", "quantiles": ()}, ["quantiles", "0"]),
    ({"loss": "quantile", "quantiles": (0.5, 1.0)}, ["quantiles", "1.0"]),
    ({"loss": "quantile", "outputs": 4, "quantiles": (0.1, 0.5, 0.9)}, ["outputs", "4", "quantiles", "3"]),
    ({"loss": "cross_entropy", "outputs": 1}, ["outputs", "1", "cross_entropy"]),
    ({"optimizer": "rmsprop"}, ["optimizer", "rmsprop", "adam"]),
    ({"lr": -0.1}, ["lr", "-0.1"]),
    ({"lr": NAN}, ["lr", "nan"]),
    ({"lr": "fast"}, ["lr", "fast"]),
    ({"optimizer": "sgd", "momentum": 1.0}, ["momentum", "1.0"]),
    ({"betas": (0.9, 1.0)}, ["betas", "1.0"]),
    ({"betas": (0.9,)}, ["betas", "(0.9,)"]),
    ({"optimizer": "adam", "momentum": 0.9}, ["momentum", "0.9", "sgd"]),
    ({"optimizer": "sgd", "weight_decay": 0.1}, ["weight_decay", "0.1", "adamw"]),
    ({"eps": -1e-8}, ["eps", "-1e-08"]),
    ({"optimizer": "adamw", "weight_decay": -0.5}, ["weight_decay", "-0.5"]),
    ({"clip": 0.0}, ["clip", "0.0"]),
    ({"clip": -1.0}, ["clip", "-1.0"]),
    ({"input_kind": "class"}, ["input_kind", "class", "classes"]),
    ({"max_updates": -1}, ["max_updates", "-1"]),
    ({"seed": -1}, ["seed", "-1"]),
]


@pytest.mark.parametrize("settings, says", WRONG_SETTINGS, ids=str)
def test_a_wrong_setting_is_named_with_its_value(settings: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Learner(**{"inputs": I, **settings})
    assert all(word in str(caught.value) for word in says), caught.value


@pytest.mark.parametrize("name, value", [("lr", -0.1), ("lr", NAN), ("clip", 0.0), ("clip", "no")])
def test_a_wrong_setting_is_refused_live_too(name: str, value: Any) -> None:
    learner = made()
    before = learner.lr, learner.clip
    with pytest.raises(ConfigError) as caught:
        setattr(learner, name, value)
    assert name in str(caught.value)
    assert str(value) in str(caught.value)
    assert (learner.lr, learner.clip) == before


ROW, GOOD_Y = np.ones(I), np.ones(O)
WRONG_CALLS: list[tuple[Callable[[Learner], Any], type[Exception], list[str]]] = [
    (lambda a: a.step(np.ones(4), GOOD_Y), ValueError, ["x", "(4,)", "(3,)"]),
    (lambda a: a.step(np.ones((1, 3)), GOOD_Y), ValueError, ["x", "(1, 3)", "(3,)"]),
    (lambda a: a.step(1.0, GOOD_Y), ValueError, ["x", "(3,)"]),
    (lambda a: a.step(ROW + 1j, GOOD_Y), TypeError, ["x", "complex"]),
    (lambda a: a.step(np.array([1, None, 2], object), GOOD_Y), TypeError, ["x", "object"]),
    (lambda a: a.step(["1", "2", "3"], GOOD_Y), TypeError, ["x", "U1"]),
    (lambda a: a.advance(np.ones(2)), ValueError, ["x", "(2,)", "(3,)"]),
    (lambda a: a.advance(ROW + 1j), TypeError, ["x", "complex"]),
    (lambda a: a.predict(np.ones(2)), ValueError, ["x", "(2,)", "(3,)"]),
    (lambda a: a.predict("abc"), TypeError, ["x", "U3"]),
    (lambda a: a.step(ROW, np.ones(3)), ValueError, ["y", "(3,)", "(2,)"]),
    (lambda a: a.step(ROW, 1.0), ValueError, ["y", "(2,)"]),
    (lambda a: a.step(ROW, GOOD_Y + 1j), TypeError, ["y", "complex"]),
    (lambda a: a.step(ROW, ["a", "b"]), TypeError, ["y", "U1"]),
    (lambda a: a.label(np.ones(3)), ValueError, ["y", "(3,)", "(2,)"]),
    (lambda a: a.label(GOOD_Y, back=-1), ValueError, ["back", "-1"]),
    (lambda a: a.label(GOOD_Y, back=1.5), ValueError, ["back", "1.5"]),
    (lambda a: a.step(ROW, GOOD_Y, weight=-1.0), ValueError, ["weight", "-1.0"]),
    (lambda a: a.step(ROW, GOOD_Y, weight=NAN), ValueError, ["weight", "nan"]),
    (lambda a: a.label(GOOD_Y, weight=INF), ValueError, ["weight", "inf"]),
    (lambda a: a.step(ROW, GOOD_Y, key=1.5), TypeError, ["key", "1.5", "float"]),
    (lambda a: a.step(ROW, GOOD_Y, key=["a"]), TypeError, ["key", "['a']", "list"]),
    (lambda a: a.advance(ROW, key={}), TypeError, ["key", "{}", "dict"]),
    (lambda a: a.step_many(np.ones((2, 4)), np.ones((2, O))), ValueError, ["X", "(2, 4)", "(n, 3)"]),
    (lambda a: a.step_many(ROW, GOOD_Y), ValueError, ["X", "(3,)", "(n, 3)"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((3, O))), ValueError, ["Y", "(3, 2)", "(2, 2)"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)) * 1j), TypeError, ["Y", "complex"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)), ["a"]), ValueError, ["keys", "1", "2"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)), ["a", 1.5]), TypeError, ["key", "1.5"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)), ["a", ["b"]]), TypeError, ["key", "['b']"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)), weights=[1.0]), ValueError, ["weights", "(1,)", "(2,)"]),
    (lambda a: a.step_many(np.ones((2, I)), np.ones((2, O)), weights=[1.0, -2.0]), ValueError, ["weights", "-2.0"]),
    (lambda a: a.advance_many(np.ones((2, I)), np.ones((2, 3))), ValueError, ["labels", "(2, 3)", "(2, 2)"]),
    (lambda a: a.advance_many(np.ones((2, I)), np.ones((2, O)), lags=[0]), ValueError, ["lags", "1", "2"]),
    (lambda a: a.advance_many(np.ones((2, I)), np.ones((2, O)), lags=[0, -1]), ValueError, ["lags", "-1"]),
]


@pytest.mark.parametrize("call, kind, says", WRONG_CALLS, ids=[" ".join(says) for _, _, says in WRONG_CALLS])
def test_a_wrong_call_is_named_and_moves_nothing(call: Any, kind: type[Exception], says: list[str]) -> None:
    learner = made()
    learner.step_many(*stream(20))
    before = learner.to_bytes()
    with pytest.raises(kind) as caught:
        call(learner)
    assert all(word in str(caught.value) for word in says), caught.value
    assert learner.to_bytes() == before


@pytest.mark.parametrize("cell", ["gru", "lstm", "elman"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_whole_segment_gives_the_bits_of_its_steps(cell, optimizer):
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 40, 600), rng.integers(0, 256, 600).astype(np.float32)
    y[300] = np.nan  # this segment has to go step by step
    keys = [None] * 400 + rng.integers(0, 3, 200).tolist()
    weights = rng.uniform(0.5, 2, 600)

    def learnt(cuts):
        learner = Learner(256, 256, cell=cell, hidden=20, k1=16, k2=16, loss="cross_entropy", input_kind="classes",
                          optimizer=optimizer, lr=1e-2, max_updates=30)  # fmt: skip
        out = []
        for a, b in itertools.pairwise([0, *cuts, 600]):
            if a == 150:
                learner.reset()
            out.append(learner.step_many(x[a:b], y[a:b], keys[a:b], weights=weights[a:b]))
            learner = Learner.from_bytes(learner.to_bytes())  # which classes have come is not forgotten
        return np.concatenate(out), learner.to_bytes()

    expected, state = learnt(range(1, 600))
    for cuts in ([150], [7, 70, 150, 333]):
        given, now = learnt(cuts)
        npt.assert_array_equal(given, expected)
        assert now == state
