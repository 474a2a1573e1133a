"""Random histories of calls on pipes, counters, socket pairs and their descriptors."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.guest_objects import DATAGRAM, NONBLOCK, SEQPACKET, STREAM

NUMBERS_MAX = 9
"""Descriptors of a history, so that most of them are in use."""

FDS = st.integers(0, NUMBERS_MAX - 1)
SIZES = st.integers(0, 20)
COUNTS = st.sampled_from([0, 1, 2, (1 << 32) - 1])
NUMBERS = st.sampled_from([0, 1, 5, 1 << 40, (1 << 64) - 2, (1 << 64) - 1])
CALLS = st.one_of(
    st.just(("pipe",)),
    st.tuples(st.just("event"), COUNTS, st.sampled_from([NONBLOCK, NONBLOCK | 1])),
    st.tuples(st.just("pair"), st.sampled_from([STREAM, DATAGRAM, SEQPACKET])),
    st.tuples(st.just("dup"), FDS),
    st.tuples(st.just("dup_from"), FDS, FDS),
    st.tuples(st.just("renumber"), FDS, FDS),
    st.tuples(st.just("close"), FDS),
    st.tuples(st.just("shutdown"), FDS, st.integers(1, 3)),
    *[st.tuples(st.just("read"), FDS, SIZES)] * 2,
    *[st.tuples(st.just("receive"), FDS, SIZES, st.sampled_from([0, 1, 2, 3, 8]))] * 2,
    st.tuples(st.just("send"), FDS, st.binary(max_size=20)),
    *[st.tuples(st.just("write"), FDS, st.binary(max_size=20).filter(lambda b: len(b) != 8))] * 2,
    st.tuples(st.just("write"), FDS, NUMBERS.map(lambda number: number.to_bytes(8, "little"))),
)
HISTORIES = st.lists(CALLS, max_size=60)
History = list[tuple[object, ...]]
