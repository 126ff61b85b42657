"""A followed file that is renamed away at the worst moments of a reader."""

from __future__ import annotations

from itertools import pairwise

import pytest

from stream_rnn import phases
from stream_rnn.connectors.file import FileSource


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in.jsonl"


def write(path, *numbers):
    with path.open("ab") as f:
        f.writelines(b'{"n": %d}\n' % n for n in numbers)


def rotate(path):
    """As logrotate does: each file to the next number, the oldest first."""
    names = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, 9))]
    for old, new in reversed(list(pairwise(names))):
        if old.exists():
            old.rename(new)


def read_all(source, turns=6):
    return [int(r.value[6:-1]) for _ in range(turns) for r in source.read(100)]


@pytest.mark.parametrize("new_one_is_there", [True, False])
def test_rotated_again_while_it_goes_to_the_next(new_one_is_there, path, monkeypatch):
    write(path, 1, 2)
    source = FileSource(path, follow=True)
    assert read_all(source) == [1, 2]
    rotate(path)
    write(path, 3, 4)

    def again(name):
        if name == "rotation":
            monkeypatch.setattr(phases, "enter", lambda name: None)
            rotate(path)
            if new_one_is_there:
                write(path, 5)

    monkeypatch.setattr(phases, "enter", again)
    found = read_all(source)
    write(path, 6)
    assert found + read_all(source) == ([3, 4, 5, 6] if new_one_is_there else [3, 4, 6])
    source.close()


def test_renamed_while_a_restart_looks_for_it(path, monkeypatch):
    write(path, *range(100))
    source = FileSource(path, follow=True)
    place = source.read(50)[-1].resume_at
    notes = source.notes(place)
    source.close()
    rotate(path)
    write(path, 100)

    again = FileSource(path, follow=True)
    siblings = again._reader._siblings

    def looked_at_the_wrong_moment():
        monkeypatch.setattr(again._reader, "_siblings", siblings)
        rotate(path)
        return iter(())

    monkeypatch.setattr(again._reader, "_siblings", looked_at_the_wrong_moment)
    again.seek(place, notes)
    write(path, 101)
    assert read_all(again) == list(range(50, 102))
    again.close()
