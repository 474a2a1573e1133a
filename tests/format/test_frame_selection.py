"""A selection of frames equals a filter of all frames, with less work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import CorruptBlock
from journal.format import block_encoder
from journal.format.block import BLOCK_HEADER_SIZE, Block, Frames
from journal.format.block_header import BlockPlacement
from journal.format.columns import find_ones
from journal.log.frame_selection import FrameSelection

FIRST_SEQ, FIRST_TIME = 1000, 5_000_000


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """Return blocks with and without each optional column."""
    payloads = draw(st.lists(st.binary(max_size=3), min_size=1, max_size=20))
    if draw(st.booleans()):
        payloads = [payload[:1].ljust(2) for payload in payloads]
    count = len(payloads)
    steps = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    times, seqs = [FIRST_TIME], [FIRST_SEQ]
    for step, hole in zip(draw(steps), draw(steps), strict=True):
        times.append(times[-1] + step)
        seqs.append(seqs[-1] + 1 + hole)
    tags = draw(st.lists(st.sampled_from([6, 7, 70, 160]), min_size=count, max_size=count))
    return make_block(
        Frames(tags, payloads, times[:-1]), seqs[:-1] if draw(st.booleans()) else None
    )


def make_block(frames: Frames, seqs: list[int] | None = None) -> Block:
    place = BlockPlacement(1, FIRST_SEQ, 128, 128, 1, 0)
    data, header = block_encoder.encode(place, frames, block_encoder.make_compressor(), seqs)
    return Block(header, data[BLOCK_HEADER_SIZE:], FIRST_SEQ, 128)


@given(blocks(), st.data())
def test_sequence_numbers_and_times_at_indices_equal_those_of_the_columns(
    block: Block, data: st.DataObject
) -> None:
    indices = sorted(data.draw(st.sets(st.integers(0, block.count - 1))))
    assert block.seqs_at(indices) == [block.seqs[index] for index in indices]
    assert block.times_at(indices) == [block.times[index] for index in indices]


@given(st.lists(st.sampled_from([0, 0, 0, 1])), st.integers(0, 90))
def test_ones_are_found_in_sparse_and_dense_masks(bits: list[int], zeros: int) -> None:
    mask = bytes(zeros) + bytes(bits)
    assert find_ones(mask) == [index for index, bit in enumerate(mask) if bit]


@given(
    blocks(),
    st.integers(FIRST_SEQ - 1, FIRST_SEQ + 30),
    st.none() | st.integers(FIRST_SEQ - 1, FIRST_SEQ + 60),
    st.none() | st.frozensets(st.sampled_from([6, 7, 70, 160])),
    st.none() | st.integers(FIRST_TIME - 1, FIRST_TIME + 30),
)
def test_a_selection_equals_a_filter_of_all_frames(
    block: Block, start: int, stop: int | None, tags: frozenset[int] | None, since: int | None
) -> None:
    selection = FrameSelection(start, stop, tags, since)
    expected = [
        frame
        for frame in FrameSelection(0).frames(block)
        if start <= frame.seq
        and (stop is None or frame.seq < stop)
        and (tags is None or frame.tag in tags)
        and (since is None or frame.time >= since)
    ]
    assert list(selection.frames(block)) == expected
    assert list(selection.rows(block)) == [frame[:3] for frame in expected]
    assert list(selection.payloads(block)) == [frame.payload for frame in expected]


@pytest.mark.parametrize("has_equal_sizes", [True, False])
def test_nothing_is_decompressed_if_nothing_is_selected(has_equal_sizes: bool) -> None:
    payloads = [b"x" * (100 if has_equal_sizes else 100 + index) for index in range(20)]
    block = make_block(Frames([6] * 20, payloads, [FIRST_TIME + index for index in range(20)]))
    assert block.header.has_equal_sizes is has_equal_sizes
    broken = Block(block.header, bytes(16) + block.body[16:], FIRST_SEQ, 128)
    for read in (FrameSelection.frames, FrameSelection.rows, FrameSelection.payloads):
        assert list(read(FrameSelection(0, tags={70}), broken)) == []
        with pytest.raises(CorruptBlock):
            list(read(FrameSelection(0, tags={6}), broken))
