"""Journals with random edits of their bytes."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.support.journals import Story

STORIES: list[Story] = [
    [(1, b"one"), (2, b"two"), (3, b"")],
    [(4, b"four" * 40)],
    [(5, b"five"), (6, b"six")],
    [(7, b"seven")],
]


stories = st.lists(
    st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=40)), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "zero", "noise", "cut", "copy"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 300),
        st.randoms(use_true_random=False),
    ),
    max_size=6,
)


def apply_edits(data: bytes, changes: list[tuple[str, float, int, random.Random]]) -> bytes:
    """Return the bytes after random edits."""
    changed = bytearray(data)
    for what, where, size, chance in changes:
        at = int(where * len(changed))
        size = min(size, len(changed) - at)
        if what == "flip":
            changed[at : at + 1] = bytes(byte ^ 1 << size % 8 for byte in changed[at : at + 1])
        elif what == "zero":
            changed[at : at + size] = bytes(size)
        elif what == "noise":
            changed[at : at + size] = chance.randbytes(size)
        elif what == "cut":
            del changed[at : at + size]
        else:
            other = chance.randrange(len(changed) + 1)
            changed[other:other] = changed[at : at + size]
    return bytes(changed)
