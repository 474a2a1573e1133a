"""Searching a mapping to its very end: what is there is found, and nothing behind it is read."""

from __future__ import annotations

import mmap
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from journal.segment import SEGMENT_MAGIC, search

PAGE = mmap.PAGESIZE


@given(
    st.lists(st.tuples(st.integers(0, PAGE - 1), st.integers(1, 8)), max_size=8),
    st.integers(0, PAGE),
    st.integers(0, PAGE),
)
def test_a_search_in_full_pages_agrees_with_one_in_bytes(
    pieces: list[tuple[int, int]], start: int, stop: int
) -> None:
    data = bytearray(PAGE)
    for at, size in pieces:
        piece = SEGMENT_MAGIC[:size]
        data[at : at + len(piece)] = piece
    del data[PAGE:]
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with mmap.mmap(file.fileno(), PAGE, prot=mmap.PROT_READ) as mapping:
            for begin, end in ((start, stop), (start, PAGE), (0, PAGE)):
                found = search(mapping, SEGMENT_MAGIC, begin, end)
                assert found == bytes(data).find(SEGMENT_MAGIC, begin, end)


def test_the_end_of_a_mapping_is_not_read_over() -> None:
    for tail in range(1, 9):
        with tempfile.TemporaryFile() as file:
            file.write(bytes(PAGE - tail) + SEGMENT_MAGIC[:tail])
            file.flush()
            with mmap.mmap(file.fileno(), PAGE, prot=mmap.PROT_READ) as mapping:
                expected = PAGE - 8 if tail == 8 else -1
                assert search(mapping, SEGMENT_MAGIC, 0, PAGE) == expected
                assert search(mapping, b"absent", 0, PAGE) == -1
