"""The array idioms of lists of lists, against loops over lists."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ncc.ir import csr

LISTS = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8)
KEYS = st.lists(st.integers(0, 2), max_size=12)


def lengths_of(lists: list[list[int]]) -> np.ndarray:
    return np.array([len(row) for row in lists], np.int64)


@given(LISTS)
def test_starts_owners_and_places(lists: list[list[int]]) -> None:
    lengths = lengths_of(lists)
    starts = csr.starts(lengths)
    flat = [x for row in lists for x in row]
    assert starts.dtype == np.int64 and len(starts) == len(lists) + 1
    assert [flat[a:b] for a, b in pairwise(starts.tolist())] == lists
    assert csr.owners(starts).tolist() == [k for k, row in enumerate(lists) for _ in row]
    assert csr.owners(starts, np.int32).dtype == np.int32
    assert csr.within(lengths).tolist() == [k for row in lists for k in range(len(row))]
    assert csr.within(lengths).dtype == np.int64


@given(LISTS, st.data())
def test_ranges_are_the_elements_of_chosen_lists(lists: list[list[int]], data: st.DataObject
                                                 ) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=6)) if lists else []
    starts = csr.starts(lengths_of(lists))
    found = csr.ranges(starts[:-1][chosen], np.diff(starts)[chosen])
    flat = np.array([x for row in lists for x in row], np.int64)
    assert flat[found].tolist() == [x for k in chosen for x in lists[k]]


@given(KEYS, st.data())
def test_borders_part_what_differs(one: list[int], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.integers(0, 1), min_size=len(one), max_size=len(one)))
    pairs = list(zip(one, other, strict=True))
    found = csr.borders(np.array(one, np.int64), np.array(other, np.int64)).tolist()
    assert found[-1] == len(one) and found == sorted(set(found)) and (not one or found[0] == 0)
    for a, b in pairwise(found):
        assert len(set(pairs[a:b])) == 1
    for at in found[1:-1]:
        assert pairs[at - 1] != pairs[at]


@given(KEYS)
def test_grouped_is_a_stable_sort(keys: list[int]) -> None:
    starts, by = csr.grouped(np.array(keys, np.int64), 4)
    found = [by[a:b].tolist() for a, b in pairwise(starts.tolist())]
    assert found == [[at for at, key in enumerate(keys) if key == k] for k in range(4)]


@given(LISTS, st.data())
def test_the_first_of_equal_lists_represents_them(lists: list[list[int]], data: st.DataObject
                                                  ) -> None:
    keys = data.draw(st.lists(st.integers(0, 1), min_size=len(lists), max_size=len(lists)))
    chosen = [k for k in range(len(lists)) if data.draw(st.booleans())]
    flat = np.array([x for row in lists for x in row], np.int32)
    found = csr.representatives(csr.starts(lengths_of(lists)), flat, np.array(chosen, np.int64),
                                np.array(keys, np.int64))
    alike = [(tuple(lists[k]), keys[k]) for k in chosen]
    assert found.tolist() == [alike.index(pair) for pair in alike]


def test_parts_are_whole_lists_of_some_size() -> None:
    lengths = np.full(1000, csr.PART // 300)
    slices = list(csr.parts(lengths))
    assert [s.start for s in slices[1:]] == [s.stop for s in slices[:-1]]
    assert slices[0].start == 0 and slices[-1].stop == 1000 and len(slices) == 4
    assert list(csr.parts(np.zeros(0, np.int64))) == []


@given(st.lists(st.integers(0, 3), max_size=40))
def test_periods_are_what_repeats(keys: list[int]) -> None:
    end = 0
    for first, length, times in csr.periods(np.array(keys, np.int64)):
        assert first >= end and length > 0 and times > 1
        end = first + length * times
        assert keys[first:end] == keys[first : first + length] * times
    assert end <= len(keys)


def test_periods_of_several_steps() -> None:
    keys = [7, 8, *[1, 2, 1, 3] * 5, 9, *[4, 5] * 6, 4]
    assert csr.periods(np.array(keys)) == [(2, 4, 5), (23, 2, 6)]
    assert csr.periods(np.array(keys), 12) == [(2, 4, 5)]
