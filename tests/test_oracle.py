"""The oracle itself is right: its gradient against finite differences of the printed formulas, its forward
against torch's sequence modules, its clip and optimizers against the printed formulas."""

import naive
import numpy as np
import numpy.testing as npt
import pytest
import torch
from oracle import WRONG, Oracle

I, H = 2, 3
GATES = {"elman": 1, "gru": 3, "lstm": 4}
LOSSES = {
    "squared": (2, naive.squared),
    "huber": (2, lambda p, y: naive.huber(p, y, 0.7)),
    "quantile": (4, lambda p, y: naive.quantile(p, y, (0.2, 0.9))),
    "cross_entropy": (3, lambda p, y: np.array([naive.cross_entropy(p, int(y[0]))])),
}


def initial(cell, outputs, rng, inputs=I, hidden=H):
    """Random parameters under torch's names."""
    shapes = {
        "weight_ih": (GATES[cell] * hidden, inputs),
        "weight_hh": (GATES[cell] * hidden, hidden),
        "bias_ih": (GATES[cell] * hidden,),
        "bias_hh": (GATES[cell] * hidden,),
        "head.weight": (outputs, hidden),
        "head.bias": (outputs,),
    }
    return {name: rng.normal(size=shape) * 0.7 for name, shape in shapes.items()}


def run(cell, parameters, X, state):
    """States and outputs of the printed formulas."""
    W, U, b, c, V, d = parameters.values()
    states, outs = [state], []
    for x in X:
        states.append(naive.STEP[cell](x, states[-1], W, U, b, c))
        outs.append(V @ naive.hidden(states[-1]) + d)
    return states, outs


def slopes(f, parameters, h=1e-6):
    """Central differences of f(parameters)."""
    grads = {}
    for name, value in parameters.items():
        grads[name] = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = {k: v.copy() for k, v in parameters.items()}
                moved[name][at] += sign * h
                ends.append(f(moved))
            grads[name][at] = (ends[0] - ends[1]) / (2 * h)
    return grads


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cell", GATES)
def test_an_update_is_the_gradient_of_the_printed_formulas(cell, loss):
    """k1 = 3, k2 = 4, the second update: steps 3 … 6, of which 5 follows a reset; labels of 4, 5 and 6, one late."""
    outputs, losses = LOSSES[loss]
    rng = np.random.default_rng(4)
    parameters = initial(cell, outputs, rng)
    options = {"loss": loss, "delta": 0.7, "quantiles": (0.2, 0.9), "optimizer": "sgd", "lr": 0.5, "clip": None}
    oracle = Oracle(parameters, I, outputs, cell=cell, hidden=H, k1=3, k2=4, **options)
    X = rng.normal(size=(6, I))
    Y = rng.integers(0, 3, (6, 1)) * 1.0 if loss == "cross_entropy" else rng.normal(size=(6, 2))
    weights = rng.uniform(0.5, 2, 6)
    for t in range(3):
        oracle.step(X[t], Y[t] if t == 0 else None)
    first = oracle.parameters  # one update has moved them; the states of steps 1 … 3 are the older weights'
    assert oracle.counters["updates"] == 1
    early = run(cell, parameters, X[:3], np.zeros((2, H) if cell == "lstm" else H))[0]
    oracle.step(X[3])
    oracle.reset()
    oracle.step(X[4], Y[4], weight=weights[4])
    assert oracle.label(Y[3], back=1, weight=weights[3])
    oracle.step(X[5], Y[5], weight=weights[5])
    assert oracle.counters["updates"] == 2

    def mean_loss(p):
        a = run(cell, p, X[2:4], early[2])[1]
        b = run(cell, p, X[4:6], np.zeros_like(early[0]))[1]
        terms = [weights[t] * losses(y_hat, Y[t]).ravel() for t, y_hat in zip((3, 4, 5), [a[1], *b], strict=True)]
        return np.concatenate(terms).mean()

    wanted = slopes(mean_loss, first)
    for name, value in oracle.parameters.items():
        npt.assert_allclose((first[name] - value) / 0.5, wanted[name], atol=2e-9, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("cell", GATES)
def test_its_forward_is_that_of_torch_over_a_sequence(cell):
    rng = np.random.default_rng(5)
    parameters = initial(cell, 2, rng, inputs=4, hidden=5)
    oracle = Oracle(parameters, 4, 2, cell=cell, hidden=5)
    module = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM, "elman": torch.nn.RNN}[cell](4, 5, dtype=torch.float64)
    head = torch.nn.Linear(5, 2, dtype=torch.float64)
    given = {name: torch.from_numpy(value) for name, value in parameters.items()}
    module.load_state_dict({f"{k}_l0": v for k, v in given.items() if "head" not in k})
    head.load_state_dict({k[5:]: v for k, v in given.items() if "head" in k})
    X = rng.normal(size=(9, 4))
    with torch.no_grad():
        wanted = head(module(torch.from_numpy(X))[0]).numpy()
    npt.assert_allclose([oracle.advance(x, "a") for x in X], wanted, atol=1e-14)
    zero = np.zeros((2, 5) if cell == "lstm" else 5)
    npt.assert_allclose(run(cell, parameters, X, zero)[1], wanted, atol=1e-14)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_its_clip_and_optimizers_are_the_printed_ones(optimizer):
    rng = np.random.default_rng(6)
    now = initial("gru", 1, rng)
    options = {"optimizer": optimizer, "lr": lambda u: 0.1 / (1 + u), "clip": 0.3, "weight_decay": 0.05}
    rule = {"momentum": 0.9} if optimizer == "sgd" else {"betas": (0.8, 0.9), "eps": 1e-4}
    oracle = Oracle(now, I, 1, hidden=H, k1=1, k2=1, **options, **rule)
    zero = {name: np.zeros_like(value) for name, value in now.items()}
    m, v, buffer = dict(zero), dict(zero), dict.fromkeys(now)
    state = np.zeros(H)
    for u in range(5):
        x, y = rng.normal(size=I), rng.normal(size=1) * 3
        grads = slopes(lambda p, x=x, y=y, h=state: (run("gru", p, [x], h)[1][0] - y).item() ** 2, now)
        grads = dict(zip(now, naive.clip(list(grads.values()), 0.3), strict=True))
        state = run("gru", now, [x], state)[0][1]
        oracle.step(x, y)
        for n, w in now.items():
            lr = 0.1 / (1 + u)
            if optimizer == "sgd":
                now[n], buffer[n] = naive.sgd(w, grads[n], buffer[n], lr, 0.9, 0.05)
            else:
                split = optimizer == "adamw"
                now[n], m[n], v[n] = naive.adam(
                    w, grads[n], m[n], v[n], u + 1, lr, (0.8, 0.9), 1e-4, 0.05, decoupled=split
                )
            npt.assert_allclose(oracle.parameters[n], now[n], atol=1e-6, err_msg=n)


def test_the_printed_slopes_are_those_of_the_printed_losses():
    rng = np.random.default_rng(7)
    p, y, h = rng.normal(size=6), rng.normal(size=6), 1e-6
    pairs = [
        (lambda p: naive.squared(p, y).sum(), naive.squared_slope(p, y)),
        (lambda p: naive.huber(p, y, 0.4).sum(), naive.huber_slope(p, y, 0.4)),
        (lambda p: naive.quantile(p, y[:2], (0.1, 0.5, 0.9)).sum(), naive.quantile_slope(p, y[:2], (0.1, 0.5, 0.9))),
        (lambda p: naive.cross_entropy(p, 2), naive.cross_entropy_slope(p, 2)),
    ]
    for loss, slope in pairs:
        numeric = [(loss(p + h * e) - loss(p - h * e)) / (2 * h) for e in np.eye(6)]
        npt.assert_allclose(slope, numeric, atol=1e-8)


@pytest.mark.parametrize("y, back, accepted", [(1.0, 0, True), (1.0, 2, True), (1.0, 3, False), (np.inf, 0, False)])
def test_it_accepts_what_the_next_update_will_see(y, back, accepted):
    """k1 = 2, k2 = 4, after step 5: the next update comes after step 6 and sees steps 3 … 6."""
    oracle = Oracle(initial("gru", 1, np.random.default_rng(8)), I, 1, hidden=H, k1=2, k2=4)
    for _ in range(5):
        oracle.advance(np.ones(I))
    assert oracle.label(y, back=back) is accepted
    assert oracle.counters["expired"] == (back == 3)


@pytest.mark.parametrize("wrong", WRONG)
def test_each_mistake_is_one(wrong):
    """Every wrong oracle ends elsewhere than the right one (else a comparison with it would prove nothing)."""
    rng = np.random.default_rng(9)
    start = initial("gru", 1, rng)
    right, other = (Oracle(start, I, 1, hidden=H, k1=2, k2=5, lr=0.01, clip=0.1, wrong=w) for w in ("", wrong))
    for t in range(20):
        x, y = rng.normal(size=I), rng.normal()
        for oracle in (right, other):
            oracle.step(x, y)
            if t == 8:
                oracle.reset()
    apart = max(np.abs(a - b).max() for a, b in zip(right.parameters.values(), other.parameters.values(), strict=True))
    assert apart > 1e-5
