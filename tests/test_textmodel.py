"""TextModel: costs are those of probabilities told before, the same bits however a text is cut, nothing forgotten."""

import itertools

import naive
import numpy as np
import numpy.testing as npt
import pytest

from stream_rnn.alphabet import ELSE_BITS, Characters
from stream_rnn.errors import ConfigError, StateMismatch
from stream_rnn.frequency import Frequencies
from stream_rnn.kernels import contexts
from stream_rnn.records import BadEvent
from stream_rnn.textmodel import TextModel

WORDS = ("stream", "learns", "state", "a", "the", "of", "online", "hidden", "key\n", "é")


def text(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, n))


def small(**settings):
    return TextModel(**{"hidden": 16, "k1": 8, "k2": 8} | settings)


@pytest.mark.parametrize("settings", [{}, {"kind": "rnn", "cell": "gru"}, {"k1": 4, "k2": 9}, {"unit": "chars"},
                                      {"max_updates": 20}])  # fmt: skip
def test_however_a_text_is_cut_the_bits_are_the_same(settings, tmp_path):
    whole, cut = small(**settings), small(**settings)
    raw = text()
    expected = whole.learn(raw)
    places = [0, 1, 2, 9, 17, 100, 101, 650, len(raw)]
    pieces = []
    for start, stop in itertools.pairwise(places):
        pieces.append(cut.learn(raw[start:stop]))
        cut.save(tmp_path / "model")
        cut = TextModel.load(tmp_path / "model")
    npt.assert_array_equal(np.concatenate(pieces), expected)
    assert cut.to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("settings", [{}, {"max_updates": 9}])
def test_however_records_are_blocked_the_bits_are_the_same(settings):
    rng = np.random.default_rng(1)
    events = [{"at": str(rng.integers(3)), "text": text(int(rng.integers(0, 30)), seed)} for seed in range(40)]
    one, many = small(key="at", **settings), small(key="at", **settings)
    assert [one.step(e) for e in events] == many.step_many(events)
    assert one.to_bytes() == many.to_bytes()


@pytest.mark.parametrize("kind", ["mixture", "rnn"])
def test_a_cost_is_that_of_the_probability_told_before(kind):
    model = small(kind=kind)
    model.learn(text())
    for symbol in b"the online":
        p = model.probabilities()
        assert p.sum() == pytest.approx(1)
        (cost,) = model.learn(bytes([symbol]))
        assert cost == pytest.approx(-np.log2(p[symbol]), rel=1e-5)


def test_the_mixture_agrees_with_its_formulas():
    model = small()
    raw = text(80).encode()
    twin = naive.ContextMixing(contexts.ORDERS, contexts.LIMIT, contexts.RATE, contexts.LEAST, contexts.SURE,
                               contexts.FLOOR, start=10)  # fmt: skip
    alone = small(kind="rnn")
    ours, expected = [], []
    for symbol in raw:
        expected.append(twin.cost(symbol, alone.probabilities()))
        alone.learn(bytes([symbol]))
        ours.append(model.learn(bytes([symbol]))[0])
    npt.assert_allclose(ours, expected, rtol=2e-3)  # chances are float32, and exp is approximate


def test_the_frequencies_agree_with_their_formula():
    symbols = np.frombuffer(text(60).encode(), np.uint8)
    npt.assert_allclose(Frequencies().step(symbols), naive.frequency_costs(symbols.tolist()), rtol=1e-12)


def test_each_key_has_its_own_sequence():
    model = small(key="k", kind="rnn", max_updates=0)
    (first,) = model.step_many([{"k": "a", "text": "one"}])
    model.step_many([{"k": "a", "text": "two"}])
    (other,) = model.step_many([{"k": "b", "text": "one"}])
    (again,) = model.step_many([{"k": "a", "text": "one"}])
    assert other.bits_per_byte == first.bits_per_byte != again.bits_per_byte
    assert (again.step, other.step) == (3, 1)


def test_after_max_updates_nothing_is_learnt_and_all_is_guessed():
    model = small(max_updates=5)
    model.learn(text(20))
    assert model.counters["updates"] == 5
    assert not model.learning
    before = {n: a.copy() for n, a in model.shared_arrays().items() if n != "learner.counters"}
    costs = model.learn(text(20, seed=3))
    assert np.isfinite(costs).all()
    for name, array in before.items():
        npt.assert_array_equal(model.shared_arrays()[name], array, err_msg=name)


def test_an_unseen_character_costs_what_it_takes_to_name_it():
    model = small(unit="chars")
    costs = model.learn("ab\N{SNOWMAN}ab")
    assert (costs[:3] > ELSE_BITS).all()
    assert (costs[3:] < ELSE_BITS).all()


def test_characters_come_back_as_they_were():
    known = Characters()
    raw = text()
    known.symbols(raw)
    other = Characters()
    other.unpack(known.pack())
    assert other.text(other.symbols(raw)) == raw


def test_more_characters_than_symbols_are_still_taken():
    model = small(unit="chars")
    costs = model.learn("".join(chr(0x4E00 + i) for i in range(400)) * 2)
    assert np.isfinite(costs).all()
    assert len(model.alphabet.pack()) == 255


def test_a_sample_is_repeatable_and_changes_nothing():
    model = small()
    model.learn("the cat sat on the mat. " * 40)
    before = model.to_bytes()
    said = model.sample(50, start="the c", temperature=0.5)
    assert said == model.sample(50, start="the c", temperature=0.5)
    assert b"mat" in said
    assert model.to_bytes() == before
    assert len(small().sample(3)) == 3, "a model that has seen nothing has an opinion too"


def test_a_record_tells_what_it_cost_with_its_line_end():
    model, raw = small(time="t"), small()
    (said,) = model.step_many([{"t": 5, "text": "né"}])
    assert (said.bytes, said.time, said.key, said.step) == (4, 5.0, None, 1)
    assert said.bits_per_byte * 4 == pytest.approx(raw.learn("né\n").sum())
    (said,) = small(unit="chars").step_many([{"text": "né"}])
    assert (said.bytes, said.characters) == (4, 3)
    assert said.bits_per_character * 3 == pytest.approx(said.bits_per_byte * 4)


@pytest.mark.parametrize("event", [{}, {"text": None}, {"text": 5}, {"text": ["a"]}])
def test_what_is_no_text_is_a_bad_event_and_moves_nothing(event):
    model = small()
    model.step({"text": "x"})
    before = {n: a.copy() for n, a in model.shared_arrays().items() if n != "bad"}
    said = model.step_many([event])
    assert isinstance(said[0], BadEvent)
    assert "'text'" in said[0].reason
    for name, array in before.items():
        npt.assert_array_equal(model.shared_arrays()[name], array, err_msg=name)


def test_bytes_that_are_no_characters_are_a_bad_event():
    good, bad = small(unit="chars").step_many([{"text": b"ok"}, {"text": b"\xff"}])
    assert good.bytes == 3
    assert "UTF-8" in bad.reason or "Unicode" in bad.reason
    assert small().step({"text": b"\xff"}).bytes == 2


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="'bytes', 'chars'"):
        small(unit="words")
    with pytest.raises(ConfigError, match="a field of its own"):
        small(target="t", key="t")
    with pytest.raises(ConfigError, match="temperature"):
        small().sample(1, temperature=0)
    with pytest.raises(StateMismatch, match="other settings"):
        small().load_shared(small(kind="rnn").shared_arrays())
