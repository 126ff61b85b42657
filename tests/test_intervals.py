"""Intervals against their formulas in plain NumPy, their coverage, shapes and bits."""

import math
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.errors import ConfigError
from stream_rnn.intervals import Intervals
from stream_rnn.keys import KeySpace
from stream_rnn.model import Forecaster

START = 1_700_000_000


class Track:
    """One series, one step ahead: quantile tracking as printed."""

    def __init__(self, levels):
        self.levels = levels
        self.q = [NormalDist().inv_cdf((1 + c) / 2) / 0.7979 for c in levels]
        self.B = [1.0] * len(levels)
        self.A, self.n = 0.0, 0

    def scale(self, D):
        return (self.A if self.n else D) + D / 10

    def take(self, a, s, D):
        r = min(a / s, 20)
        self.n += 1
        rate = 1 / (self.n + 1)
        for c, level in enumerate(self.levels):
            miss = a > self.q[c] * s
            self.q[c] = max(self.q[c] + 0.1 * self.B[c] * (miss - (1 - level)), 0.01)
            self.B[c] += max(rate, 1 - 0.5 ** (1 / 200)) * (r - self.B[c])
        before = self.A if self.n > 1 else D
        self.A = before + max(rate, 1 - 0.5 ** (1 / 50)) * (min(a, 20 * (before + D / 10)) - before)


@pytest.mark.parametrize("T, n", [(1, 1), (2, 3)])
def test_widths_agree_with_the_formula(T, n):
    rng = np.random.default_rng(0)
    N, levels = 600, (0.5, 0.8, 0.95)
    slots = rng.integers(2, size=N)
    values = rng.normal(size=(N, T)) * np.where(rng.random((N, 1)) < 0.02, 100, 1)
    values[rng.random((N, T)) < 0.1] = np.nan
    forecast = rng.normal(size=(N, T * n)) * 0.3
    unit = rng.uniform(0.5, 2, (N, T)) * (rng.random((N, T)) > 0.03)
    step = np.zeros(N, np.int64)
    for k in range(2):
        step[slots == k] = np.arange(1, (slots == k).sum() + 1)
    space = KeySpace()
    model = Intervals(T, n, levels, space)
    half, told = model.track(space.enter_many(slots.tolist()), values, forecast, unit, step)
    tracks, made, newest = {}, {}, {}
    for e in range(N):
        k = slots[e]
        for j in range(T):
            for i in range(n):
                track = tracks.setdefault((k, j, i), Track(levels))
                past = made.get((k, j, step[e] - 1 - i))
                if past is not None and past[i] is not None and not math.isnan(values[e, j]):
                    told_then, s, D = past[i]
                    now = unit[e, j] if unit[e, j] > 0 else math.inf
                    track.take(abs(values[e, j] - told_then), s, math.sqrt(i + 1) * min(D, now))
            wanted, now = np.full((n, 3), np.nan), [None] * n
            if unit[e, j] > 0:
                for i in range(n):
                    s = tracks[k, j, i].scale(unit[e, j] * math.sqrt(i + 1))
                    wanted[i] = np.maximum.accumulate(np.array(tracks[k, j, i].q) * s)
                    now[i] = forecast[e, j * n + i], s, unit[e, j]
            made[k, j, step[e]] = now
            npt.assert_allclose(half[e, j * n : j * n + n], wanted, rtol=1e-9)
            npt.assert_allclose(told[e, j], newest.get((k, j), np.full((3, 2), np.nan)), rtol=1e-9)
            f = forecast[e, j * n]
            newest[k, j] = np.stack([f - wanted[0], f + wanted[0]], -1)


def covered(answers, level):
    inside = [p.predicted_interval[level][0] <= p.actual <= p.predicted_interval[level][1]
              for p in answers if p.predicted_interval is not None]  # fmt: skip
    return np.array(inside)


def events(values):
    return [{"t": START + 300 * i, "y": float(v)} for i, v in enumerate(values)]


NOISE = np.random.default_rng(7).normal(size=6000)
STREAMS = {
    "noise": NOISE,
    "a walk": np.cumsum(NOISE),
    "noise that grows and shrinks": NOISE * np.exp(2 * np.sin(np.arange(6000) / 500)),
    "heavy tails": np.cumsum(np.random.default_rng(8).standard_t(2, 6000)),
    "one-sided": np.exp(NOISE),
    "a jump of scale": NOISE * np.where(np.arange(6000) < 3000, 1, 30),
}


@pytest.mark.parametrize("name", STREAMS)
def test_coverage_is_what_was_asked_for(name):
    answers = Forecaster("y", time="t", hidden=4, k2=2, intervals=[0.5, 0.9]).step_many(events(STREAMS[name]))
    nine, half = covered(answers, 0.9), covered(answers, 0.5)
    assert nine.mean() == pytest.approx(0.9, abs=0.01)
    assert half.mean() == pytest.approx(0.5, abs=0.02)
    lowest = np.convolve(nine, np.full(250, 1 / 250), "valid").min()
    assert lowest > 0.75
    assert not (half & ~nine).any(), "levels are nested"


def test_what_was_told_is_the_last_interval_bit_for_bit():
    answers = Forecaster(["y", "z"], time="t", key="k", hidden=4, k2=2, horizon=2).step_many(
        [e | {"z": e["y"] ** 2, "k": i % 3} for i, e in enumerate(events(NOISE[:300]))]
    )
    last, seen = {}, 0
    for p in answers:
        for name in ("y", "z"):
            told = p.predicted_interval[name]
            before = (last.get(p.key) or {}).get(name)
            wanted = None if before is None else {c: [low[0], high[0]] for c, (low, high) in before.items()}
            assert told == wanted
            seen += told is not None
        last[p.key] = p.interval
    assert seen > 500


def test_intervals_have_the_shape_of_forecasts_and_text_for_keys_in_json():
    one = Forecaster("y", time="t", hidden=4, k2=2).step_many(events(NOISE[:50]))
    assert one[0].interval is None
    assert one[0].predicted_interval is None
    low, high = one[-1].interval[0.9]
    assert low < one[-1].forecast < high
    encoded = msgspec.json.decode(msgspec.json.encode(one[-1]))
    assert encoded["interval"] == {"0.5": list(one[-1].interval[0.5]), "0.9": [low, high]}
    several = Forecaster("y", time="t", hidden=4, k2=2, horizon=3, intervals=[0.8]).step_many(events(NOISE[:50]))
    low, high = several[-1].interval[0.8]
    assert len(low) == len(high) == 3
    assert all(a < f < b for a, f, b in zip(low, several[-1].forecast, high, strict=True))
    assert len(several[-1].predicted_interval[0.8]) == 2


def test_a_network_alone_tells_none_unless_asked():
    stream = events(NOISE[:20])
    assert Forecaster("y", kind="rnn", hidden=4, k2=2).step_many(stream)[-1].interval is msgspec.UNSET
    assert list(Forecaster("y", kind="rnn", hidden=4, k2=2, intervals=[0.9]).step_many(stream)[-1].interval) == [0.9]
    assert Forecaster("y", hidden=4, k2=2, intervals=[]).step_many(stream)[-1].interval is msgspec.UNSET


def test_levels_may_change_while_it_runs():
    stream = events(NOISE[:2000])
    model = Forecaster("y", time="t", hidden=4, k2=2)
    model.step_many(stream[:1000])
    model.set_live("intervals", [0.9, 0.8])
    assert model.settings["intervals"] == [0.8, 0.9]
    first, *rest = model.step_many(stream[1000:1002])
    assert list(first.interval) == [0.8, 0.9]
    assert rest[0].predicted_interval == first.interval
    again = Forecaster.from_bytes(model.to_bytes())
    later, same = (m.step_many(stream[1002:]) for m in (model, again))
    assert [p.interval for p in later] == [p.interval for p in same]
    assert covered(later[200:], 0.8).mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    "levels, why",
    [([0], "between 0 and 1"), ([1.0], "between 0 and 1"), (["x"], "between 0 and 1"), ([True], "between 0 and 1"),
     ([0.5, 0.5], "once"), ([0.1, 0.2, 0.3, 0.4, 0.5], "at most 4"), ([math.nan], "between 0 and 1")],
)  # fmt: skip
def test_levels_are_checked(levels, why):
    with pytest.raises(ConfigError, match=why):
        Forecaster("y", intervals=levels)
