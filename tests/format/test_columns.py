"""Columns and byte search give the results of plain Python loops."""

import builtins
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.format.columns import (
    are_ends_valid,
    make_tag_finder,
    pack_ends,
    pack_u32,
    pick,
    read_u32,
    split_payloads,
)
from journal.format.segment_header import SEGMENT_MAGIC
from journal.fs import byte_search

SIZES = st.lists(st.integers(0, 5), max_size=20) | st.builds(
    lambda size, count: [size] * count, st.integers(0, 2000), st.integers(0, 20)
)


@pytest.fixture(params=["the C library", "no ctypes", "no memmem"])
def search_variant(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    real = builtins.__import__

    def import_variant(name: str, *rest: Any, **more: Any) -> Any:
        if name != "ctypes":
            return real(name, *rest, **more)
        if request.param == "no ctypes":
            raise ImportError(name)
        found = real(name, *rest, **more)
        monkeypatch.setattr(found, "PyDLL", lambda _: object())
        return found

    byte_search._memmem_search.cache_clear()
    if request.param != "the C library":
        monkeypatch.setattr(builtins, "__import__", import_variant)
    yield
    byte_search._memmem_search.cache_clear()


@pytest.mark.usefixtures("search_variant")
def test_a_needle_is_found_at_each_offset() -> None:
    for size in (0, 1, 100, 4090, 4096, 4097, 5000, 70_000):
        letters = SEGMENT_MAGIC * (size // 8 + 1)
        for filling in (
            bytes(size),
            letters[1 : size + 1][::-1],
            bytes(range(256)) * (size // 256),
        ):
            assert byte_search.contains(filling, SEGMENT_MAGIC) == (SEGMENT_MAGIC in filling)
            for at in {0, 1, len(filling) // 2, max(0, len(filling) - 1), len(filling)}:
                data = filling[:at] + SEGMENT_MAGIC + filling[at:]
                assert byte_search.contains(data, SEGMENT_MAGIC)
                assert not byte_search.contains(filling[:at] + SEGMENT_MAGIC[:-1], SEGMENT_MAGIC)


@given(SIZES)
def test_joined_payloads_are_split_at_their_ends(sizes: list[int]) -> None:
    payloads = [bytes([index]) * size for index, size in enumerate(sizes)]
    ends, raw = pack_ends(sizes), b"".join(payloads) + b"and more"
    if len(set(sizes)) > 1:
        assert read_u32(ends, 0, len(sizes)) == tuple(accumulate(sizes))
    else:
        assert not ends
    assert are_ends_valid(ends, sum(sizes))
    assert split_payloads(raw, sum(sizes), ends, len(sizes)) == payloads
    assert (
        split_payloads(raw, sum(sizes), pack_u32(list(accumulate(sizes))), len(sizes)) == payloads
    )


@given(st.lists(st.integers(0, 9) | st.integers(0, 2**32 - 1), min_size=1), st.integers(0, 40))
def test_decreasing_or_misplaced_ends_do_not_fit(ends: list[int], size: int) -> None:
    expected = ends == sorted(ends) and ends[-1] == size
    assert are_ends_valid(pack_u32(ends), size) == expected


@given(st.binary(), st.sets(st.integers(1, 254)))
def test_a_finder_finds_each_selected_tag(column: bytes, tags: set[int]) -> None:
    indices = make_tag_finder(tags)(column)
    assert indices == [index for index, tag in enumerate(column) if tag in tags]
    assert list(pick(column, indices)) == [column[index] for index in indices]
