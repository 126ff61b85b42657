"""Coverage, width and Winkler score against direct sums."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.coverage import Coverage, contained


@pytest.mark.parametrize("keys", [1, 3])
def test_sums_are_direct_means(keys):
    rng = np.random.default_rng(0)
    n, levels = 400, (0.5, 0.9)
    slots, actual = rng.integers(0, keys, n), rng.normal(size=(n, 2))
    half = np.abs(rng.normal(size=(n, 2, 2))) + 0.3
    middle = rng.normal(size=(n, 2, 1)) * 0.3
    bounds = np.stack([middle - half, middle + half], axis=-1)
    actual[rng.random((n, 2)) < 0.2] = np.nan
    bounds[rng.random((n, 2)) < 0.2] = np.nan
    coverage = Coverage(2, levels)
    for part in np.array_split(np.arange(n), 7):
        coverage.add(slots[part], actual[part], bounds[part])
    for slot, j in [(None, 0), (None, None), (keys - 1, 1)]:
        told = coverage.summary(j, slot)
        for c, level in enumerate(levels):
            inside, widths, winklers = [], [], []
            for e in np.flatnonzero((slots == slot) if slot is not None else np.ones(n, bool)):
                for t in (0, 1) if j is None else (j,):
                    (low, high), y = bounds[e, t, c], actual[e, t]
                    if np.isnan(low + y):
                        continue
                    inside.append(low <= y <= high)
                    widths.append(high - low)
                    winklers.append(high - low + 2 / (1 - level) * max(0.0, low - y, y - high))
            s = told[str(level)]
            assert s["scored"] == len(inside)
            npt.assert_allclose(
                [s["coverage"], s["width"], s["winkler"]], [np.mean(v) for v in (inside, widths, winklers)]
            )


def test_without_a_value_or_an_interval_nothing_is_said():
    coverage = Coverage(1, (0.9,))
    coverage.add(np.zeros(1, np.int64), np.array([[np.nan]]), np.array([[[[0.0, 1.0]]]]))
    assert coverage.summary() == {"0.9": {"scored": 0, "coverage": None, "width": None, "winkler": None}}
    assert Coverage(1, ()).summary() == {}


def test_the_bounds_are_inside():
    assert contained(np.array([[1.0]]), np.array([[[[1.0, 2.0], [0.0, 1.0], [1.1, 2.0]]]])).tolist() == [[[1, 1, 0]]]
