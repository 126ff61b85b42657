"""The mixture against its formulas in plain NumPy, its bits, and what it promises on streams that are no good."""

import math

import msgspec
import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.experts import NAMES, Experts, loss_of
from stream_rnn.features import Features
from stream_rnn.kernels.cache import kernel
from stream_rnn.kernels.gains import gain, identity
from stream_rnn.kernels.vec import doubles_at
from stream_rnn.keys import KeySpace
from stream_rnn.model import Forecaster

K = len(NAMES)
START = 1_700_000_000


def clip(x, limit):
    return float(np.clip(x, -limit, limit))


# The formulas ---------------------------------------------------------------------------------------


class Week:
    """What is usual at each half-hour of the week, and what the newest days add to it."""

    def __init__(self):
        self.level, self.step, self.seen = {}, {}, {}
        self.day_level, self.day_step, self.day_seen = {}, {}, {}
        self.last = math.nan

    @staticmethod
    def bin(t):
        day, second = divmod(t + 450, 86400)
        return int(day + 3) % 7 * 48 + int(second // 1800)

    def near(self, c):
        return next((b for b in ((c - 48 * d) % 336 for d in range(7)) if b in self.level), None)

    def take(self, t, y):
        if not math.isnan(t) and not math.isnan(self.last):
            c, step = self.bin(t), y - self.last
            b, near = c % 48, self.near(c)
            if near is not None:
                n = self.day_seen[b] = self.day_seen.get(b, 0) + 1
                rate = max(1 / n, 0.3)
                level, change = self.day_level.get(b, 0.0), self.day_step.get(b, 0.0)
                self.day_level[b] = level + rate * (y - self.level[near] - level)
                self.day_step[b] = change + rate * (step - self.step[near] - change)
            n = self.seen[c] = self.seen.get(c, 0) + 1
            rate = max(1 / n, 0.1)
            self.level[c] = self.level.get(c, y) + rate * (y - self.level.get(c, y))
            self.step[c] = self.step.get(c, 0.0) + rate * (step - self.step.get(c, 0.0))
        self.last = y

    def usual(self, t):
        """(level, W's step, W + R's step), or None."""
        c = None if math.isnan(t) else self.near(self.bin(t))
        if c is None:
            return None
        level = self.level[c] + self.day_level.get(c % 48, 0.0)
        return level, self.step[c], self.step[c] + self.day_step.get(c % 48, 0.0)


class Gains:
    """Recursive least squares, P as a whole matrix."""

    def __init__(self, F, forget):
        self.P, self.forget = np.eye(F), forget

    def gain(self, f):
        Pf = self.P @ f
        k = Pf / (self.forget + f @ Pf)
        grows = np.trace(self.P) <= 2 * len(f)
        s = np.where((f != 0) & grows, 1 / math.sqrt(self.forget), 1.0)
        self.P = (self.P - np.outer(k, Pf)) * np.outer(s, s)
        return k


class Mix:
    """Bernstein online aggregation."""

    def __init__(self, loss):
        self.loss, self.V, self.B, self.R, self.error, self.n = loss, np.zeros(K), np.zeros(K), np.zeros(K), 0.0, 0

    @property
    def eta(self):
        return np.minimum(np.sqrt(math.log(K + 1) / (self.V + 1e-12)), 1 / (2 * self.B + 1e-12))

    @property
    def shares(self):
        w = np.log(self.eta) + self.eta * self.R
        w[0] += math.log(3)
        w = np.exp(w - w.max())
        return w / w.sum()

    def judge(self, z, mixed, y):
        e = mixed - y
        if self.loss == "huber":
            slope = clip(e / (0.5 * (self.error if self.n else 1.0)), 1)
        else:
            slope = np.sign(e) if self.loss == "mae" else 2 * e
        self.n += 1
        self.error = max(self.error + max(1 / self.n, 0.02) * (abs(e) - self.error), 1e-3)
        r = slope * (mixed - z)
        self.V = 0.999 * self.V + r**2
        self.B = np.maximum(self.B, abs(r))
        self.R = 0.999 * self.R + r - self.eta * r**2


class Series:
    """One target of one key."""

    def __init__(self, T, n, loss):
        F = 30 + 2 * (T - 1)
        self.values = [math.nan] * 16
        self.short, self.long = Gains(5, 0.99), Gains(F, 0.999)
        self.w_short, self.w_long = np.zeros((n, 5)), np.zeros((n, F))
        self.mixes = [Mix(loss) for _ in range(n)]
        self.made = []  # of each step: L, D, inputs and gains, usual changes, what was said


class Twin:
    """The experts as printed, one event at a time."""

    def __init__(self, T, n, hidden, inputs, loss):
        R = 1 + hidden + 3 * T + inputs
        self.T, self.n, self.loss = T, n, loss
        self.tight = {"huber": 1.0, "mae": 0.5, "mse": 4.0}[loss]
        self.readout, self.w = Gains(R, 0.9995), np.zeros((T * n, R))
        self.keys, self.rings = {}, {}

    def step(self, key, values, X, W, labels, base, scale, usual, y, hidden):
        """(forecast, shares) after an event. X: the features' inputs, W: the week's."""
        T, n = self.T, self.n
        rows = self.keys.setdefault(key, [Series(T, n, self.loss) for _ in range(T)])
        ring = self.rings.setdefault(key, [])
        for j, s in enumerate(rows):
            for i in range(min(n, len(s.made))):
                f, k = ring[-1 - i]
                o = j * n + i
                if not math.isnan(labels[o]):
                    self.w[o] += k * clip(labels[o] - self.w[o] @ f, self.tight)
                L, D, f_short, k_short, f_long, k_long, change, said = s.made[-1 - i]
                if math.isnan(values[j]) or not D > 0:
                    continue
                goal = clip((values[j] - L) / (D * math.sqrt(i + 1)), 10)
                s.w_short[i] += k_short * (goal - s.w_short[i] @ f_short)
                s.w_long[i] += k_long * clip(goal - change[i] - s.w_long[i] @ f_long, self.tight)
                z, mixed = said[i]
                s.mixes[i].judge(z, mixed, goal)
            if not math.isnan(values[j]):
                s.values = [values[j], *s.values[:-1]]
        reduced = 1.0 if n == 1 else 0.5
        known, moving = [], False
        for j, s in enumerate(rows):
            L, D = s.values[0], scale[j * n] / reduced
            if not D > 0:
                known.append((L, 0.0, np.zeros(5), np.zeros(5), *[np.zeros(s.w_long.shape[1])] * 2, np.zeros(n)))
                continue
            moving = True
            steps = [
                0.0 if math.isnan(b) else clip((a - b) / D, 6) for a, b in zip(s.values, s.values[1:], strict=False)
            ]
            others = [X[3 * m + a] for m in range(T) if m != j for a in (0, 1)]
            f = np.array([1, X[3 * j], *steps, *others, *X[3 * T + 1 : 3 * T + 11], *W[3 * j : 3 * j + 3]], float)
            change = np.zeros(n)
            for i in range(1, n):
                ahead = (usual[j, i + 1] - usual[j, 1]) / (D * math.sqrt(i + 1))
                change[i] = 0.0 if math.isnan(ahead) else clip(ahead, 10)
            known.append((L, D, f[:5], s.short.gain(f[:5]), f, s.long.gain(f), change))
        f = np.array([1.0, *hidden, *W, *X], float) if moving else np.zeros(self.w.shape[1])
        ring.append((f, self.readout.gain(f) if moving else f))
        forecast, shares = np.zeros(T * n), np.zeros((T * n, K))
        for j, s in enumerate(rows):
            L, D, f_short, _, f_long, _, change = known[j]
            said = []
            for i in range(n):
                o, unit = j * n + i, D * math.sqrt(i + 1)
                if not unit > 0:
                    forecast[o], shares[o] = L, np.eye(K)[0]
                    said.append((np.zeros(K), 0.0))
                    continue
                if i == 0:
                    step, level = X[3 * T + 11 + 3 * j], X[3 * T + 12 + 3 * j]
                else:
                    step, level = (usual[j, i + 1] - usual[j, 0]) / unit, (usual[j, i + 1] - L) / unit
                from_base, per_y = (base[o] - L) / unit, scale[o] / unit
                z = [0.0, step, level, s.w_short[i] @ f_short, change[i] + s.w_long[i] @ f_long,
                     from_base + per_y * clip(y[o], 10), from_base + per_y * clip(self.w[o] @ f, 10)]  # fmt: skip
                z = np.clip(np.nan_to_num(np.array(z, float)), -10, 10)
                shares[o] = s.mixes[i].shares
                mixed = float(shares[o] @ z)
                forecast[o] = L + unit * mixed
                said.append((z.astype(np.float32).astype(float), float(np.float32(mixed))))
            s.made.append((*known[j], said))
        return forecast, shares


def stream(T, n, keys, seed=0):
    """Slots, times with gaps, repeats and missing ones, and values with holes."""
    rng = np.random.default_rng(seed)
    slots = rng.integers(keys, size=n)
    time = START + np.cumsum(rng.choice([0, 900, 1800, 1800, 7200, 50_000], size=n))
    time = np.where(rng.random(n) < 0.05, np.nan, time - 3600 * (rng.random(n) < 0.05))
    values = rng.normal(size=(n, T)).cumsum(axis=0) + 5 * np.sin(np.nan_to_num(time)[:, None] / 86400 * 6.28)
    values[rng.random((n, T)) < 0.1] = np.nan
    return slots, time, values


@kernel
def _gain(P, f, F, forget, k, s):
    gain(doubles_at(P), doubles_at(f), F, forget, doubles_at(k), doubles_at(s))


@pytest.mark.parametrize("F", [1, 5, 16, 30, 53])
def test_gains_agree_with_the_matrix_formula(F):
    rng = np.random.default_rng(F)
    P, k, s, twin = identity(F), np.zeros(F), np.zeros(F), Gains(F, 0.99)
    for t in range(300):
        f = rng.normal(size=F) * (rng.random(F) < (0.7 if t < 150 else 0.2))
        _gain(P.ctypes.data, f.ctypes.data, F, 0.99, k.ctypes.data, s.ctypes.data)
        npt.assert_allclose(k, twin.gain(f), rtol=1e-7, atol=1e-10)
    npt.assert_allclose(P, twin.P[np.triu_indices(F)], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_week_agrees_with_the_formula(horizon):
    slots, time, values = stream(2, 1500, 2)
    space = KeySpace()
    features = Features(2, horizon, 0, space)
    experts = Experts(features, 4, loss_of("huber"), space)
    slots = space.enter_many(slots.tolist())
    inputs = features.read(slots, time, values, np.zeros(0, np.int64), np.zeros(0, np.int64))
    X, usual = experts.read(slots, time, values, inputs)
    D = features.unit(inputs)
    weeks = {}
    for e in range(len(time)):
        t, interval = time[e], inputs.expected[e] - time[e]
        for j in range(2):
            week = weeks.setdefault((slots[e], j), Week())
            if not math.isnan(values[e, j]):
                week.take(t, values[e, j])
            coming = week.usual(t + interval)
            wanted = np.zeros(3)
            if coming is not None and D[e, j] > 0:
                wanted = [clip(x / D[e, j], 6) for x in (coming[1], coming[2], coming[0] - week.last)]
            npt.assert_allclose(X[e, 3 * j : 3 * j + 3], wanted, rtol=2e-4, atol=2e-5)
            for i in range(0 if horizon > 1 else 1, horizon + 1):
                there = week.usual(t + i * interval if i else t)
                npt.assert_allclose(usual[e, j, i], math.nan if there is None else there[0], rtol=1e-5)
    assert np.isfinite(usual[:, :, 1]).mean() > 0.5
    assert (X[:, :6] != 0).mean() > 0.5


@pytest.mark.parametrize("loss", ["huber", "mae", "mse"])
@pytest.mark.parametrize("T, horizon", [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_the_mixture_agrees_with_the_formulas(T, horizon, loss):
    rng = np.random.default_rng(T + horizon)
    slots, time, values = stream(T, 500, 2)
    space = KeySpace()
    features = Features(T, horizon, 1, space, keyed=True)
    experts = Experts(features, 3, loss_of(loss), space)
    twin = Twin(T, horizon, 3, features.inputs, loss)
    slots = features.enter([f"k{s}" for s in slots])
    columns = np.column_stack([values, rng.normal(size=len(time))])
    inputs = features.read(slots, time, columns, np.zeros(1, np.int64), np.zeros(1, np.int64))
    X, usual = experts.read(slots, time, columns, inputs)
    y = rng.normal(size=inputs.labels.shape).astype(np.float32)
    hidden = rng.uniform(-1, 1, (len(time), 3)).astype(np.float32)
    forecast, shares = experts.mix(slots, columns, X, usual, inputs, y, hidden, True)
    for e in range(len(time)):
        wanted, who = twin.step(slots[e], values[e], X[e, 3 * T :], X[e, : 3 * T], inputs.labels[e], inputs.base[e],
                                inputs.scale[e], usual[e], y[e], hidden[e])  # fmt: skip
        npt.assert_allclose(forecast[e], wanted, rtol=1e-5, atol=1e-6, err_msg=f"event {e}")
        npt.assert_allclose(shares[e], who, rtol=1e-4, atol=1e-6, err_msg=f"event {e}")
    for slot in set(slots.tolist()):
        last = np.flatnonzero(slots == slot)[-1]
        assert not np.allclose(experts.shares(slot), 1 / K), "nobody has won anything"
        assert experts.shares(slot).sum(axis=1) == pytest.approx(1)
        assert shares[last].sum(axis=1) == pytest.approx(1)


# The model ------------------------------------------------------------------------------------------


def events(values, step=300, start=START, **others):
    columns = {"y": values} | others
    return [{"t": start + step * i} | {n: None if math.isnan(c[i]) else float(c[i]) for n, c in columns.items()}
            for i in range(len(values))]  # fmt: skip


def told(answers):
    return np.array([math.nan if p.predicted is None else p.predicted for p in answers])


def ratio(values, predicted, rows=slice(None)):
    """Error over the last value's."""
    last, newest = np.full(len(values), math.nan), math.nan
    for i, v in enumerate(values):
        last[i] = newest
        newest = newest if math.isnan(v) else v
    scored = ~np.isnan(values) & ~np.isnan(last) & ~np.isnan(predicted)
    scored &= np.isin(np.arange(len(values)), np.arange(len(values))[rows])
    return np.abs(values - predicted)[scored].sum() / np.abs(values - last)[scored].sum()


def forecaster(**changes):
    return Forecaster("y", **({"time": "t", "hidden": 8, "k2": 4} | changes))


@pytest.mark.parametrize("kind", ["mixture", "rnn"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_bits_do_not_depend_on_blocks_nor_on_saving(kind, horizon):
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    stream = events(np.cumsum(rng.normal(size=400)), x=x)
    for e in stream[:30]:
        del e["x"]  # a feature that turns up late
    changes = {"kind": kind, "horizon": horizon, "show_experts": True, "intervals": [0.5, 0.9]}
    whole = forecaster(**changes)
    expected = [msgspec.json.encode(p) for p in whole.step_many(stream)]
    cut, got, at = forecaster(**changes), [], 0
    for size in (1, 2, 27, 1, 40, 100, 1, 150, 78):
        got += [msgspec.json.encode(p) for p in cut.step_many(stream[at : at + size])]
        cut, at = Forecaster.from_bytes(cut.to_bytes()), at + size
    assert at == 400
    assert got == expected
    assert cut.to_bytes() == whole.to_bytes()


def test_room_for_more_inputs_keeps_what_the_read_out_knows():
    spaces = KeySpace(), KeySpace()
    few, many = (Experts(Features(1, 1, units, space), 2, loss_of("huber"), space)
                 for units, space in zip((1, 3), spaces, strict=True))  # fmt: skip
    rng = np.random.default_rng(0)
    A = rng.normal(size=(few.w.shape[1],) * 2)
    P = A @ A.T
    few.P[:], few.w[:] = P[np.triu_indices(len(P))], rng.normal(size=few.w.shape)
    many.take_over(few)
    wider = np.eye(many.w.shape[1])
    wider[: len(P), : len(P)] = np.triu(P)
    npt.assert_array_equal(many.P, wider[np.triu_indices(len(wider))])
    npt.assert_array_equal(many.w, np.pad(few.w, [(0, 0), (0, 4)]))


def test_a_state_of_another_shape_is_refused():
    space = KeySpace()
    experts = Experts(Features(1, 1, 0, space), 2, loss_of("huber"), space)
    with pytest.raises(StateMismatch, match=r"experts\.P"):
        experts.load_shared({"P": np.zeros(3), "w": experts.w})


def test_shares_are_shown_when_asked_for():
    stream = events(np.sin(np.arange(200) / 5))
    model = forecaster()
    assert model.step_many(stream[:100])[-1].experts is msgspec.UNSET
    model.set_live("show_experts", True)
    p = model.step_many(stream[100:])[-1]
    assert list(p.experts) == list(NAMES)
    assert sum(p.experts.values()) == pytest.approx(1)
    assert model.experts_of(None) == pytest.approx(p.experts)
    assert model.experts_of("nobody") is None
    assert forecaster(kind="rnn").experts_of(None) is None


def test_shares_have_the_shape_of_forecasts():
    model = Forecaster(["y", "z"], time="t", hidden=4, k2=2, horizon=3, show_experts=True)
    p = model.step_many(events(np.arange(50.0), z=np.arange(50.0) ** 2))[-1]
    assert list(p.experts) == ["y", "z"]
    assert np.sum(list(p.experts["z"].values()), axis=0) == pytest.approx([1, 1, 1])
    assert model.experts_of(None)["z"][NAMES[0]] == pytest.approx(p.experts["z"][NAMES[0]])


def test_nothing_is_lost_where_nothing_can_be_forecast():
    walk = np.cumsum(np.random.default_rng(1).normal(size=3000))
    assert ratio(walk, told(forecaster().step_many(events(walk)))) < 1.01


def test_a_season_is_learnt_in_days():
    rng = np.random.default_rng(1)
    values = 10 * np.sin(np.arange(48 * 20) * 2 * np.pi / 48) + 0.3 * rng.normal(size=48 * 20)
    predicted = told(forecaster().step_many(events(values, step=1800)))
    assert ratio(values, predicted, slice(48 * 3, 48 * 6)) < 0.5
    assert ratio(values, predicted, slice(48 * 10, None)) < 0.4


def test_the_mixture_is_hardly_worse_than_its_best_expert():
    rng, values = np.random.default_rng(1), np.zeros(4000)
    for t in range(2, 4000):
        values[t] = 1.6 * values[t - 1] - 0.8 * values[t - 2] + rng.normal()
    whole = ratio(values, told(forecaster().step_many(events(values))), slice(500, None))
    for a in range(K):
        model = forecaster()
        model.experts.left_out[[b for b in range(K) if b != a]] = 1
        assert whole < 1.01 * ratio(values, told(model.step_many(events(values))), slice(500, None)), NAMES[a]


def test_losses_aim_at_the_median_or_the_mean():
    noise = np.random.default_rng(0).exponential(1.0, 4000)  # median 0.69, mean 1
    runs = {loss: told(forecaster(loss=loss).step_many(events(noise)))[1000:] for loss in ("mae", "huber", "mse")}
    mean = {loss: predicted.mean() for loss, predicted in runs.items()}
    assert mean["mae"] < mean["huber"] < mean["mse"]
    assert mean["mae"] < 0.85
    assert mean["mse"] == pytest.approx(1.0, abs=0.06)
    assert told(forecaster(loss="squared").step_many(events(noise)))[1000:].mean() == mean["mse"]


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="kind = 'mixtur': it must be one of 'mixture', 'rnn'"):
        forecaster(kind="mixtur")
    with pytest.raises(ConfigError, match="loss = 'l1'"):
        forecaster(loss="l1")
    with pytest.raises(ConfigError, match="show_experts = 1: it must be True or False"):
        forecaster(show_experts=1)
    assert forecaster().settings["cell"] == "lstm"
    assert forecaster(kind="rnn").settings["cell"] == "gru"


def test_a_key_takes_less_than_24_kb():
    assert Forecaster("y", key="k", time="t").keyspace.row_bytes <= 24_000


# Dirty streams --------------------------------------------------------------------------------------


def usual(n=3000):
    rng, t = np.random.default_rng(3), np.arange(n)
    return 20 + 5 * np.sin(t * 2 * np.pi / 288) + 0.05 * np.cumsum(rng.normal(size=n)) + 0.3 * rng.normal(size=n)


def shifted(seconds):
    times = START + 300 * np.arange(3000)
    times[1500:] += seconds
    return times


def changed(at, change, n=3000):
    values = usual(n)
    values[at] = change(values[at])
    return values


CONSTANT = np.concatenate([usual(1000), np.full(10_000, usual(1000)[-1]), usual()])
MISSING = np.where(np.random.default_rng(0).random(3000) < 0.3, math.nan, usual())
# name: values, times (None: every 5 minutes), where the disturbance ends
DIRTY = {
    "the clock goes back an hour": (usual(), shifted(-3300), 1500),
    "the clock goes back a month": (usual(), shifted(-30 * 86400), 1500),
    "a gap of months": (usual(), shifted(100 * 86400), 1500),
    "each event twice": (np.repeat(usual(), 2), np.repeat(START + 300 * np.arange(3000), 2), 0),
    "no time at all": (usual(), np.full(3000, math.nan), 0),
    "constant for 10,000 events": (CONSTANT, None, 11_000),
    "constant from the start": (np.concatenate([np.full(10_000, 7.0), usual()]), None, 10_000),
    "a first value of 0": (changed(0, lambda v: 0.0), None, 1),
    "zeros at first": (changed(slice(0, 500), lambda v: 0 * v), None, 500),
    "values of 1e12": (usual() * 1e12, None, 0),
    "values of 1e-12": (usual() * 1e-12, None, 0),
    "one value of 1e12": (changed(1500, lambda v: 1e12), None, 1501),
    "one value of -1e30": (changed(1500, lambda v: -1e30), None, 1501),
    "an error code for 100 events": (changed(slice(1500, 1600), lambda v: 0 * v - 9999), None, 1600),
    "other units, times 1000": (changed(slice(1500, None), lambda v: v * 1000), None, 1500),
    "other units, by 1000": (changed(slice(1500, None), lambda v: v / 1000), None, 1500),
    "a third missing": (MISSING, None, 0),
    "1000 missing": (changed(slice(500, 1500), lambda v: v * math.nan), None, 1500),
}


@pytest.mark.parametrize("name", DIRTY)
@pytest.mark.parametrize("kind", ["mixture", "rnn"])
def test_a_dirty_stream_is_got_over_within_500_events(kind, name):
    values, times, ends = DIRTY[name]
    times = START + 300 * np.arange(len(values)) if times is None else times
    model = Forecaster("y", time="t", kind=kind, intervals=[0.5, 0.9])
    stream = [{"t": None if math.isnan(t) else float(t), "y": None if math.isnan(v) else float(v)}
              for t, v in zip(times, values, strict=True)]  # fmt: skip
    answers = [p for at in range(0, len(stream), 1000) for p in model.step_many(stream[at : at + 1000])]
    predicted = told(answers)
    assert np.isfinite(predicted[1:]).all()
    assert ratio(values, predicted, slice(ends + 500, ends + 1500)) < 1.05
    wide = np.array([p.interval[0.9][1] - p.interval[0.9][0] for p in answers if p.interval is not None])
    assert np.isfinite(wide).all()
    assert (wide > 0).all()
    typical = np.abs(np.diff(values[~np.isnan(values)][-1000:])).mean()
    assert wide[-1000:].max() < 20 * typical
    assert wide[-1000:].min() > 0.2 * typical
