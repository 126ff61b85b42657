"""Keys keep their rows: slots, reuse, growth that moves nothing, and put/get bit for bit."""

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_rnn.blob import pack_key, unpack_key
from stream_rnn.errors import StateMismatch
from stream_rnn.keys import KeySpace, Rows, plain_key
from stream_rnn.records import Key

TEMPLATE = np.array([1.5, -0.0, np.nan], np.float64)


def space() -> KeySpace:
    """A key space of two tables: one of zeros, one with a template."""
    keys = KeySpace()
    keys.table("ring", np.float32, 5)
    keys.table("scale", np.float64, 3, TEMPLATE)
    return keys


FRESH = np.zeros(5, np.float32).tobytes() + TEMPLATE.tobytes()


def test_a_slot_a_key_in_order_of_arrival() -> None:
    keys = space()
    assert [keys.enter(k) for k in ("b", "a", "b", None, ("a", 1))] == [0, 1, 0, 2, 3]
    assert (keys.find("a"), keys.find("never seen"), len(keys)) == (1, -1, 4)
    assert keys.keys == ["b", "a", None, ("a", 1)]


@pytest.mark.parametrize("known", [[], ["a"], ["c", "a"]])
def test_a_block_enters_as_its_keys_one_by_one(known: list[str]) -> None:
    one, block = space(), space()
    for keys in (one, block):
        for k in known:
            keys.enter(k)
        keys.clear_changed()
    names = ["a", "b", "a", "c", "b", "a"]
    npt.assert_array_equal(block.enter_many(names), [one.enter(k) for k in names])
    npt.assert_array_equal(block.last_seen[:3], one.last_seen[:3])
    assert block.changed_keys() == one.changed_keys()
    assert block.clock == one.clock == len(known) + 6


def test_a_new_key_starts_as_the_template_and_so_does_a_reused_slot() -> None:
    keys = space()
    keys.enter("a")
    slot = keys.enter("b")
    assert keys.get("b") == FRESH
    keys.tables["ring"].row(slot)[:] = 7
    keys.tables["scale"].row(slot)[:] = 8
    keys.forget("b")
    assert keys.find("b") == -1
    assert keys.enter("c") == slot, "the freed slot serves the next key"
    assert keys.get("c") == FRESH
    assert keys.get("a") == FRESH


def test_a_forgotten_key_is_gone_from_the_changed_ones() -> None:
    keys = space()
    for k in ("a", None, "b"):
        keys.enter(k)
    keys.forget("a")
    assert keys.changed_keys() == [None, "b"]
    with pytest.raises(KeyError):
        keys.forget("a")


def test_changed_says_which_keys_moved() -> None:
    keys = space()
    for k in "abc":
        keys.enter(k)
    keys.clear_changed()
    assert keys.changed_keys() == []
    keys.enter("b")
    keys.put("d", FRESH)
    keys.get("a")
    keys.find("c")
    assert keys.changed_keys() == ["b", "d"]


def test_state_comes_back_bit_for_bit_with_nan_payloads_and_minus_zero() -> None:
    keys, other = space(), space()
    rng = np.random.default_rng(3)
    states = {k: rng.bytes(keys.row_bytes) for k in ("a", ("a", None), 3, b"x")}  # any bits at all
    keys.load(states.items())
    other.load(reversed([(k, keys.get(k)) for k in states]))
    assert {k: other.get(k) for k in states} == states


def test_state_of_other_settings_is_refused_and_makes_no_key() -> None:
    keys = space()
    with pytest.raises(StateMismatch, match=r"'a'.* 43 bytes .* 44"):
        keys.put("a", bytes(43))
    assert len(keys) == 0


@pytest.mark.parametrize("words", [1, 16, 17, 40_000, 300_000])  # from 16,384 rows a slab to one
def test_rows_grow_without_moving_and_never_overlap(words: int) -> None:
    rows = Rows("big", np.float32, words)
    count = min(3 * (rows.mask + 1) + 1, 400)  # past three slabs where rows are large
    views = []
    for slot in range(count):
        rows.reserve(slot + 1)
        views.append(rows.row(slot))
        views[-1][[0, -1]] = slot + 1
    for slot, view in enumerate(views):
        assert view.shape == (words,)
        npt.assert_array_equal(view[[0, -1]], slot + 1)
        address = rows.bases[slot >> rows.shift] + (slot & rows.mask) * rows.stride
        assert view.ctypes.data == address == rows.row(slot).ctypes.data
        assert address % 64 == 0


def test_tables_come_before_keys_and_once() -> None:
    keys = space()
    with pytest.raises(ValueError, match="'ring'"):
        keys.table("ring", np.float32, 1)
    keys.enter("a")
    with pytest.raises(ValueError, match=r"'late'.*before the first key"):
        keys.table("late", np.float32, 1)


@pytest.mark.parametrize("key", ["", "ä", 0, -(2**63), 2**64 - 1, b"", None, (), ("a", (1, b"x", None))])
def test_usable_keys(key: Key) -> None:
    assert plain_key(key) == key
    assert unpack_key(pack_key(key)) == key


@pytest.mark.parametrize("key", [np.str_("a"), np.int64(1), np.uint8(7), ("a", np.int32(2))])
def test_numpy_keys_are_kept_in_plain_types(key: Key) -> None:
    keys = space()
    slot = keys.enter(key)
    assert keys.enter(key) == slot == keys.find(unpack_key(pack_key(keys.keys[slot])))
    assert keys.keys[slot] == key


@pytest.mark.parametrize("key", [2**64, -(2**63) - 1, ("a", 10**30), "\ud800"])
def test_keys_that_could_not_be_saved_are_refused(key: Key) -> None:
    keys = space()
    with pytest.raises(ValueError, match="make it"):
        keys.enter(key)
    assert len(keys) == 0


@pytest.mark.parametrize(
    "key, kind", [(1.5, "float"), (True, "bool"), (("a", 2.0), "float"), (frozenset(), "frozenset"), (["a"], "list")]
)
def test_unusable_keys_are_named_and_leave_nothing(key: object, kind: str) -> None:
    keys = space()
    with pytest.raises(TypeError, match=rf"is a {kind}; a key is"):
        keys.enter(key)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"is a {kind}; a key is"):
        keys.enter_many(["new", key])  # type: ignore[list-item]
    assert (len(keys), keys.clock, keys.changed_keys()) == (0, 0, [])


KEYS = st.sampled_from(["a", "b", "c", None, 1, ("a", 1)])
OPERATIONS = st.one_of(
    st.tuples(st.just("enter"), KEYS),
    st.tuples(st.just("enter_many"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("forget"), KEYS),
    st.tuples(st.just("put"), KEYS, st.binary(min_size=len(FRESH), max_size=len(FRESH))),
    st.tuples(st.just("write"), KEYS, st.integers(0, 9)),
    st.tuples(st.just("clear_changed")),
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(OPERATIONS, max_size=30))
def test_behaves_as_a_dict_of_states(operations: list[tuple]) -> None:
    keys = space()
    model: dict = {}
    changed: set = set()
    seen: dict = {}
    clock = 0
    for name, *rest in operations:
        if name in ("enter", "enter_many"):
            for k in [rest[0]] if name == "enter" else rest[0]:
                clock += 1
                model.setdefault(k, FRESH)
                changed.add(k)
                seen[k] = clock
            getattr(keys, name)(*rest)
        elif name == "put":
            keys.put(*rest)
            model[rest[0]] = rest[1]
            changed.add(rest[0])
        elif name == "clear_changed":
            keys.clear_changed()
            changed.clear()
        elif rest[0] in model and name == "forget":
            keys.forget(rest[0])
            del model[rest[0]]
            changed.discard(rest[0])
            seen.pop(rest[0], None)
        elif rest[0] in model:  # "write": as a kernel would, into the live row
            keys.tables["ring"].row(keys.find(rest[0]))[:] = rest[1]
            model[rest[0]] = np.full(5, rest[1], np.float32).tobytes() + model[rest[0]][20:]
        assert {k: keys.get(k) for k in keys.slots} == model
        assert set(keys.changed_keys()) == changed
        assert len(set(keys.slots.values())) == len(model)
        assert {k: keys.last_seen[keys.find(k)] for k in seen} == seen
        assert keys.clock == clock
