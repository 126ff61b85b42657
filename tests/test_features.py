"""Features against their formulas in plain NumPy, and the promises about fields of features.py and fields.py."""

import datetime
import hashlib
import math
from collections import deque

import msgspec
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.features import Features, forecasts
from stream_rnn.keys import KeySpace

RATE, FAST = 1 - 0.5 ** (1 / 500), 1 - 0.5 ** (1 / 60)


def clip(x, limit):
    return float(np.clip(x, -limit, limit))


class Series:
    """Running moments of one series, as printed."""

    def __init__(self):
        self.values = []
        self.mean = self.variance = self.square = self.typical = 0.0

    def take(self, y):
        if self.values:
            step = y - self.values[-1]
            self.square += max(1 / len(self.values), RATE) * (step**2 - self.square)
            if step:
                root = math.sqrt(abs(step))
                if len(self.values) > 19 and self.typical > 0:
                    root = min(root, 8 * self.typical)
                self.typical += max(1 / len(self.values), FAST) * (root - self.typical)
            self.square = min(self.square, (5 * self.typical**2) ** 2)
        self.values.append(y)
        rate = max(1 / len(self.values), RATE)
        off = y - self.mean
        self.mean += rate * off
        self.variance = (1 - rate) * (self.variance + rate * off**2)

    @property
    def least(self):
        return max(1e-9 * abs(self.values[-1]), 1e-150)

    @property
    def spread(self):
        return max(math.sqrt(self.variance), self.least)

    @property
    def step(self):
        return max(math.sqrt(self.square), self.least) if len(self.values) > 1 else 0.0

    @property
    def newest_step(self):
        return self.values[-1] - self.values[-2]

    @property
    def level(self):
        return clip((self.values[-1] - self.mean) / self.spread, 6)


class Regression:
    def __init__(self, size):
        self.w, self.P = np.zeros(size), np.eye(size)

    def learn(self, x, y):
        gain = self.P @ x / (0.999 + x @ self.P @ x)
        old = x @ self.w
        grow = np.where((x != 0) & (np.trace(self.P) <= 2 * len(x)), 1 / math.sqrt(0.999), 1.0)
        self.P = (self.P - np.outer(gain, self.P @ x)) * np.outer(grow, grow)
        self.w = self.w + gain * (y - old)
        return old


class Target(Series):
    def __init__(self, horizon):
        super().__init__()
        self.regressions = [Regression(12 if i == 0 else 11) for i in range(horizon)]
        self.steps, self.usual, self.seen = np.zeros(96), np.full(96, np.nan), np.zeros(96)
        self.waiting = None, math.nan  # a half-hour and its level
        self.newest = np.full(48, np.nan)
        self.made = []  # (L, D, level and lags) of every step

    def lags(self):
        lags = np.zeros(8)
        lags[0] = self.level
        for lag in range(1, 8):
            if len(self.values) > lag:
                lags[lag] = clip((self.values[-lag] - self.values[-lag - 1]) / self.step, 6)
        return lags

    def regressors(self, i, L, unit, lags, t):
        profile = np.zeros(3)
        if not math.isnan(t):
            b = half_hour(t)
            for at, level in enumerate((self.usual[b], self.newest[b % 48])):
                if not math.isnan(level):
                    profile[at] = clip((level - L) / unit, 6)
            profile[2] = clip(self.steps[b] / unit, 6)
        return np.concatenate([[1], lags, profile])[: 12 if i == 0 else 11]


def half_hour(t):
    t = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=t + 450)
    return 2 * t.hour + t.minute // 30 + (48 if t.weekday() >= 5 else 0)


class Twin:
    """One key's features, from the text of features.py."""

    def __init__(self, targets, horizon, texts, key=None):
        self.n, self.texts, self.key = horizon, texts, key
        self.targets = [Target(horizon) for _ in range(targets)]
        self.features = [Series() for _ in texts]
        self.last = self.mean = None
        self.intervals = deque(maxlen=5)
        self.count = 0

    def take(self, t, values):
        n, T = self.n, len(self.targets)
        labels = np.full((T, n), np.nan)
        clock, interval = np.zeros(11), 0.0
        timed = not math.isnan(t)
        if timed:
            if self.last is not None:
                interval = max(t - self.last, 0.0)
                self.count += 1
                capped = min(interval, 5 * self.mean) if self.count > 6 else interval
                self.mean = capped if self.count == 1 else self.mean + max(1 / self.count, 0.01) * (capped - self.mean)
                self.intervals.append(interval)
            self.last = t
        typical = sorted(self.intervals)[(len(self.intervals) - 1) // 2] if self.intervals else 0.0
        if timed:
            if self.mean:
                clock[0] = clip(math.log((interval + 0.05 * self.mean) / (1.05 * self.mean)), 6)
            day = 2 * math.pi * (t + typical) / 86400
            week = (day + 2 * math.pi * 3) / 7
            turns = [day, 2 * day, 3 * day, week, 2 * week]
            clock[1:] = [f(a) for a in turns for f in (math.sin, math.cos)]
        own, profile = np.zeros((T, 3)), np.zeros((T, 3))
        base, scale = np.zeros((T, n)), np.zeros((T, n))
        for j, (s, y) in enumerate(zip(self.targets, values, strict=False)):
            if not math.isnan(y):
                for i in range(min(n, len(s.made))):
                    L, D, lags = s.made[-1 - i]
                    if D > 0:
                        unit = D * math.sqrt(i + 1)
                        goal = clip((y - L) / unit, 10)
                        linear = s.regressions[i].learn(s.regressors(i, L, unit, lags, t), goal)
                        labels[j, i] = goal if n == 1 else clip(goal - clip(linear, 10), 10)
                if timed and s.values:
                    b = half_hour(t)
                    s.seen[b] += 1
                    rate = max(1 / s.seen[b], 0.1)
                    s.steps[b] += rate * (y - s.values[-1] - s.steps[b])
                    q, level = b, y
                    if n > 1:  # enters when another half-hour begins
                        q, level = s.waiting
                        s.waiting = b, y
                    if n == 1 or q not in (None, b):
                        rate = max(1 / max(s.seen[q], 1), 0.1)
                        s.usual[q] = level if math.isnan(s.usual[q]) else s.usual[q] + rate * (level - s.usual[q])
                        s.newest[q % 48] = level
                s.take(y)
            L, D = s.values[-1] if s.values else math.nan, s.step
            lags = s.lags() if D > 0 else None
            s.made.append((L, D, lags))
            own[j, 2] = math.isnan(y)
            base[j] = L
            if D > 0:
                own[j, :2] = lags[:2]
                for i in range(n):
                    x = s.regressors(i, L, D * math.sqrt(i + 1), lags, t + (i + 1) * typical)
                    linear = s.regressions[i].w @ x
                    scale[j, i] = D * math.sqrt(i + 1) * (1 if n == 1 else 0.5)
                    if i == 0:
                        profile[j] = x[11], x[9], clip(linear, 6)
                    if n > 1:
                        base[j, i] = L + D * math.sqrt(i + 1) * clip(linear, 10)
        extra = []
        for text, s, y in zip(self.texts, self.features, values[T:], strict=True):
            pair = np.zeros(8 if text else 2)
            if not math.isnan(y):
                if text:
                    pair[int(y)] = 1
                else:
                    s.take(y)
                    if s.step > 0:
                        pair[:] = s.level, clip(s.newest_step / s.step, 6)
            extra.append(pair)
        digest = b"" if self.key is None else hashlib.blake2b(msgspec.msgpack.encode(self.key), digest_size=8).digest()
        vector = [(byte - 127.5) * math.sqrt(12) / 256 for byte in digest]
        x = np.concatenate([own.ravel(), clock, profile.ravel(), vector, *extra])
        return x, labels.ravel(), base.ravel(), scale.ravel(), t + typical if self.intervals else math.nan


def stream(seed, n, series, keys, texts=(), start=1.5e9):
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, keys, n)
    time = start + np.cumsum(rng.choice([0, 300, 300, 300, 300, 86400], n)) - rng.choice([0, 0, 0, 400], n)
    time[rng.random(n) < 0.05] = np.nan
    values = rng.normal(size=(n, series)).cumsum(axis=0) + 20 * np.sin(np.nan_to_num(time)[:, None] / 86400 * 6.28)
    values[rng.random((n, series)) < 0.1] = np.nan
    values[n // 2 : n // 2 + n // 8] = 3.0  # a flat line,
    values[n // 3] = 1e4  # and an outlier
    for j in np.flatnonzero(texts):
        values[:, series - len(texts) + j] = rng.choice([np.nan, *range(8)], n)
    return slots, time, values


def run(slots, time, values, targets, horizon, texts=(), cuts=(), keyed=True):
    keyspace = KeySpace()
    units = np.cumsum([0, *[4 if t else 1 for t in texts]])
    features = Features(targets, horizon, int(units[-1]), keyspace, keyed)
    layout = units[:-1].astype(np.int64), np.array(texts, np.int64)
    parts, settled = [], []
    for a, b in zip([0, *cuts], [*cuts, len(slots)], strict=True):
        rows = features.enter(slots[a:b].tolist())
        part = features.read(rows, time[a:b], values[a:b], *layout)
        y = np.sin(np.arange(a, b, dtype=np.float32))[:, None] * np.ones(features.outputs, np.float32)
        settled.append(features.settle(rows, forecasts(part.base, part.scale, y)))
        parts.append(part)
    return [np.concatenate(a) for a in zip(*parts, strict=True)] + [np.concatenate(settled)], keyspace


@pytest.mark.parametrize(
    ("targets", "horizon", "texts", "keyed"),
    [(1, 1, (), False), (2, 1, (0, 0), True), (1, 5, (1, 0), True), (3, 2, (), False)],
)
def test_agrees_with_the_formulas(targets, horizon, texts, keyed):
    slots, time, values = stream(3, 1500, targets + len(texts), 3, texts)
    (X, labels, base, scale, expected, step, _), _ = run(slots, time, values, targets, horizon, texts, keyed=keyed)
    twins = {q: Twin(targets, horizon, texts, q if keyed else None) for q in range(3)}
    for e, q in enumerate(slots):
        x, y, b, s, ahead = twins[q].take(time[e], values[e])
        npt.assert_allclose(X[e], x, rtol=1e-4, atol=2e-5, err_msg=f"inputs of event {e}")
        npt.assert_allclose(labels[e], y, rtol=1e-4, atol=1e-5, err_msg=f"labels of event {e}")
        npt.assert_allclose(base[e], b, rtol=1e-5, atol=1e-5)  # regressions carry rounding along
        npt.assert_allclose(scale[e], s, rtol=1e-9)
        npt.assert_allclose(expected[e], ahead)
        assert step[e] == (slots[: e + 1] == q).sum()
    assert np.nanmax(np.abs(labels)) == 10  # the stream reaches the limits
    assert np.abs(X).max() == 6


def test_the_cut_into_blocks_never_shows():
    slots, time, values = stream(5, 400, 4, 3, (1,))
    whole, keyspace = run(slots, time, values, 2, 3, (0, 1))
    for cuts in ([1, 2, 3, 200], range(1, 400), [399]):
        parts, others = run(slots, time, values, 2, 3, (0, 1), cuts)
        for a, b in zip(whole, parts, strict=True):
            npt.assert_array_equal(a, b)
        assert [others.get(k) for k in range(3)] == [keyspace.get(k) for k in range(3)]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 199), st.integers(1, 4))
def test_nothing_up_to_an_event_depends_on_later_ones(t, horizon):
    slots, time, values = stream(11, 200, 3, 2)
    before, _ = run(slots, time, values, 2, horizon, (0,))
    time[t:] = np.where(np.arange(200)[t:] % 3 == 0, np.nan, time[t:] * 1.1)
    values[t:] = values[t:][::-1] * 1e6
    slots[t:] = 1 - slots[t:]
    after, _ = run(slots, time, values, 2, horizon, (0,))
    for a, b in zip(before, after, strict=True):
        npt.assert_array_equal(a[:t], b[:t])


def test_what_was_forecast_comes_back_bit_for_bit():
    slots, time, values = stream(2, 300, 1, 3)
    (_, _, base, scale, _, _, settled), _ = run(slots, time, values, 1, 2)
    y = np.sin(np.arange(300, dtype=np.float32))[:, None] * np.ones(2, np.float32)
    forecast = forecasts(base, scale, y)[:, 0]
    for q in range(3):
        mine = np.flatnonzero(slots == q)
        npt.assert_array_equal(settled[mine, 0], np.concatenate([[np.nan], forecast[mine][:-1]]))


@pytest.mark.parametrize("scale", [1e-100, 1e-12, 1.0, 1e12, 1e29])
@pytest.mark.parametrize("start", ["constant", "zero", "noise"])
def test_inputs_and_scales_are_finite_at_every_size(scale, start):
    rng = np.random.default_rng(1)
    y = rng.normal(size=1000)
    if start != "noise":
        y[:300] = 0.0 if start == "zero" else 5.0
    y[500:700] *= 1e-6  # the sensor returns in other units
    time = 1.5e9 + 300.0 * np.arange(1000)
    (X, labels, base, scales, *_), _ = run(np.zeros(1000, int), time, (y * scale)[:, None], 1, 3)
    assert np.isfinite(X).all()
    assert np.isfinite(labels[~np.isnan(labels)]).all()
    assert np.isfinite(base).all()
    assert np.isfinite(scales).all()
    assert np.isfinite(forecasts(base, scales, np.full((1000, 3), 1e30, np.float32))).all()
