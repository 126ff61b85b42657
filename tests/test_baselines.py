"""The forecasters to be better than, against their definitions."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt

from stream_rnn.baselines import LinearAR, SeasonalNaive


def test_the_season_before_or_else_the_newest_value():
    model = SeasonalNaive((1, 2), interval_s=60.0, season_s=240.0)
    said = np.array([model.step(60.0 * i, float(i)) for i in range(12)])
    # The value at t + i - 4 steps, once that has been.
    npt.assert_array_equal(said[:, 0], [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    npt.assert_array_equal(said[:, 1], [0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])


def test_a_gap_leaves_no_season_to_look_at():
    model = SeasonalNaive((1,), interval_s=60.0, season_s=240.0)
    for i in range(4):
        model.step(60.0 * i, float(i))
    assert model.step(6000.0, 9.0)[0] == 9.0


def test_recursive_least_squares_is_weighted_ridge_regression():
    """The weights after n events solve the batch problem with weights λ^age and the prior's ridge."""
    rng = np.random.default_rng(2)
    y = np.cumsum(rng.normal(size=60))
    order, forget, ahead = 3, 0.97, 2
    model = LinearAR((1, ahead), order=order, forget=forget, scale=2.0)
    for value in y:
        said = model.step(value)

    z = y / 2.0
    mean, X, targets = 0.0, [], []
    for t in range(len(z)):
        mean += (z[t] - mean) / min(t + 1, 2000)
        if t >= order - 1:
            X.append(np.append(z[t - order + 1 : t + 1] - mean, 1.0))
            targets.append(z[t + ahead] - z[t] if t + ahead < len(z) else np.nan)
    X, targets = np.array(X), np.array(targets)

    P, factors = np.eye(order + 1), []  # forgetting pauses while P is large: replay which steps did forget
    for x in X:
        factors.append(1.0 if np.trace(P) > 2 * len(x) else forget)
        k = P @ x
        P = (P - np.outer(k, k) / (factors[-1] + x @ k)) / factors[-1]
    weights = np.array([np.prod(factors[i + 1 :]) for i in range(len(X))])
    fitted = ~np.isnan(targets)
    # A step's forgetting counts for that regression when its label comes; the last `ahead` are still to come.
    A = np.linalg.inv(P)
    for x, w in zip(X[~fitted], weights[~fitted], strict=True):
        A = A - w * np.outer(x, x)
    A, scale = A / np.prod(factors[-ahead:]), np.prod(factors[-ahead:])
    solution = np.linalg.solve(A, (X[fitted] * (weights[fitted] / scale)[:, None]).T @ targets[fitted])
    npt.assert_allclose(said[1] / 2.0, z[-1] + solution @ X[-1], rtol=1e-6)


def test_it_finds_a_linear_law():
    y = 100 + 50 * np.sin(np.arange(400) / 3)
    model = LinearAR((1,), order=4, scale=50.0)
    said = np.array([model.step(v)[0] for v in y])
    error, naive = np.abs(said[300:-1] - y[301:]), np.abs(y[300:-1] - y[301:])
    assert error.sum() < 0.05 * naive.sum()


def test_quiet_stretches_do_not_blow_it_up():
    rng = np.random.default_rng(0)
    model = LinearAR((1, 6), scale=100.0)
    for _ in range(4):
        for value in [400.0] * 3000 + list(100 + np.cumsum(rng.normal(size=300))):
            said = model.step(value)
            assert np.abs(said).max() < 2000
