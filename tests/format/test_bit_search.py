"""Single-bit repair: the search finds every flipped bit of a block and accepts nothing else."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from journal.format import bit_search, block
from journal.format.bit_search import SearchBudget, flip_bit
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader, BlockPlacement, Frames
from journal.format.block_header import LAYOUT
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader

SALT = 0x0123456789ABCDEF
OFFSET = 4096
HEADER_BITS = 8 * BLOCK_HEADER_SIZE


def encode_block(
    payloads: list[bytes], salt: int = SALT, offset: int = OFFSET
) -> tuple[bytes, bytes]:
    """Return the header and the body of a block."""
    count = len(payloads)
    before = max(0, offset - 8)
    place = BlockPlacement(salt, 7, offset, before, 99, before)
    frames = Frames([3] * count, payloads, list(range(count)))
    data, _ = block.encode(place, frames, block.make_compressor())
    return data[:BLOCK_HEADER_SIZE], data[BLOCK_HEADER_SIZE:]


def read_header(raw: bytes, salt: int = SALT, offset: int = OFFSET) -> BlockHeader:
    header = block.read_header(raw, 0, salt, offset)
    assert header is not None
    return header


def test_every_flipped_bit_of_a_block_header_is_found() -> None:
    raw, _ = encode_block([b"hello", b"world"])
    found = [
        bit_search.repair_block_header(flip_bit(raw, bit), SALT, OFFSET, SearchBudget())
        for bit in range(HEADER_BITS)
    ]
    assert found == list(range(HEADER_BITS))


def test_a_valid_header_needs_no_repair() -> None:
    raw, _ = encode_block([b"hello"])
    assert bit_search.repair_block_header(raw, SALT, OFFSET, SearchBudget()) is None


@given(st.sets(st.integers(0, HEADER_BITS - 1), min_size=2, max_size=5))
def test_two_flipped_bits_of_a_header_are_not_found(bits: set[int]) -> None:
    raw, _ = encode_block([b"hello"])
    for bit in bits:
        raw = flip_bit(raw, bit)
    assert bit_search.repair_block_header(raw, SALT, OFFSET, SearchBudget()) is None


def test_a_header_of_another_offset_salt_or_size_is_not_repaired() -> None:
    raw, _ = encode_block([b"hello"])
    assert (
        bit_search.repair_block_header(flip_bit(raw, 200), SALT, OFFSET + 8, SearchBudget()) is None
    )
    assert (
        bit_search.repair_block_header(flip_bit(raw, 200), SALT + 1, OFFSET, SearchBudget()) is None
    )
    assert (
        bit_search.repair_block_header(flip_bit(raw, 200)[:-1], SALT, OFFSET, SearchBudget())
        is None
    )


def test_a_repair_never_gives_an_inconsistent_header() -> None:
    raw, _ = encode_block([b"hello"])
    header = read_header(raw)._replace(time_first=9, time_last=8)
    unhashed = LAYOUT.pack(*header)[:-8]
    digest = xxh3_64_intdigest(unhashed, SALT)
    wrong = unhashed + digest.to_bytes(8, "little")
    assert (
        bit_search.repair_block_header(flip_bit(wrong, 300), SALT, OFFSET, SearchBudget()) is None
    )


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=9), st.data())
def test_any_flipped_bit_of_a_body_is_found(payloads: list[bytes], data: st.DataObject) -> None:
    raw, body = encode_block(payloads)
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    assert (
        bit_search.repair_block_body(flip_bit(body, bit), read_header(raw), SALT, SearchBudget())
        == bit
    )


@pytest.mark.parametrize(
    "size", [bit_search._PREFIX_SIZE_MIN - 64, bit_search._PREFIX_SIZE_MIN + 4999]
)
@pytest.mark.parametrize("searched", [0.0, 0.3, 0.999])
def test_a_search_of_a_long_body_hashes_its_beginning_once(size: int, searched: float) -> None:
    raw, body = encode_block([secrets.token_bytes(size)])
    bit = int(8 * len(body) * searched)
    assert (
        bit_search.repair_block_body(flip_bit(body, bit), read_header(raw), SALT, SearchBudget())
        == bit
    )


def test_a_body_that_is_valid_cut_or_has_two_flipped_bits_is_not_repaired() -> None:
    raw, body = encode_block([b"hello"])
    header = read_header(raw)
    assert bit_search.repair_block_body(body, header, SALT, SearchBudget()) is None
    assert (
        bit_search.repair_block_body(flip_bit(body, 1)[:-1], header, SALT, SearchBudget()) is None
    )
    assert (
        bit_search.repair_block_body(flip_bit(flip_bit(body, 1), 9), header, SALT, SearchBudget())
        is None
    )


def test_a_body_above_the_limit_is_not_searched() -> None:
    raw, body = encode_block([bytes(100)])
    wrong, work = flip_bit(body, 5), SearchBudget()
    before = work.remaining
    assert bit_search.repair_block_body(wrong, read_header(raw), SALT, work, len(body) - 1) is None
    assert work.remaining == before
    assert bit_search.repair_block_body(wrong, read_header(raw), SALT, work, len(body)) == 5
    assert work.remaining < before


def test_a_used_up_budget_ends_the_search() -> None:
    raw, body = encode_block([bytes(100)])
    spent = SearchBudget(1000)
    assert bit_search.repair_block_body(flip_bit(body, 5), read_header(raw), SALT, spent) is None
    assert bit_search.repair_block_header(flip_bit(raw, 5), SALT, OFFSET, spent) is None
    assert spent.remaining == 1000


def test_every_flipped_bit_of_a_segment_header_is_found() -> None:
    raw, _ = SegmentHeader(SALT, bytes(range(16)), 5, 6, 7, 8).encode()
    assert bit_search.repair_segment_header(raw, SearchBudget()) is None
    for bit in range(0, 8 * SEGMENT_HEADER_SIZE, 3):
        assert bit_search.repair_segment_header(flip_bit(raw, bit), SearchBudget()) == bit
    assert bit_search.repair_segment_header(flip_bit(flip_bit(raw, 1), 200), SearchBudget()) is None


@given(st.integers(0, 63), st.binary(max_size=200), st.integers(0, 40))
def test_a_header_is_found_near_its_magic_with_any_bit_flipped(
    bit: int, noise: bytes, extra: int
) -> None:
    start = 8 * (len(noise) + extra)
    raw, body = encode_block([b"hello"], offset=start)
    data = noise * 8 + bytes(8 * extra) + flip_bit(raw, bit) + body
    assert start in bit_search.find_block_headers(data, 0, len(data), 0)
    assert list(bit_search.find_block_headers(data, start, len(data), 0)) == [start]
    assert list(bit_search.find_block_headers(data, start + 1, len(data), 0)) == []


def test_a_header_of_a_distant_offset_is_skipped() -> None:
    raw, body = encode_block([b"hello"], offset=24)
    assert list(bit_search.find_block_headers(bytes(24) + raw + body, 0, 200, 0)) == [24]
    # Offsets 16 and 24 differ in one bit.
    assert list(bit_search.find_block_headers(bytes(16) + raw + body, 0, 200, 0)) == [16]
    assert list(bit_search.find_block_headers(bytes(32) + raw + body, 0, 200, 0)) == []
    assert list(bit_search.find_block_headers(bytes(20) + raw + body, 0, 200, 0)) == []


def test_headers_are_found_across_the_windows_of_a_search() -> None:
    size = bit_search._WINDOW_SIZE
    for start in range(size - 24, size + 16, 8):
        raw, body = encode_block([b"hello"], offset=start)
        data = bytes(start) + flip_bit(raw, 3) + body
        assert list(bit_search.find_block_headers(data, 0, len(data), 0)) == [start]


def test_segment_headers_are_found_at_any_alignment() -> None:
    raw, _ = SegmentHeader(SALT, bytes(16), 5).encode()
    data = b"abc" + flip_bit(raw, 33) + b"tail" + raw
    assert list(bit_search.find_segment_headers(data, 0, len(data))) == [3, 3 + len(raw) + 4]


@pytest.mark.parametrize("size", [4096, 5000, 9000, 16_384])
def test_a_flipped_bit_is_found_in_pages_added_together(size: int) -> None:
    stop = block.find_block_end([bytes(size)] * 100)
    packed, _ = block.pack_block(b"\1", [bytes(size)] * stop, [size], 0, 0)
    _, header = block.encode(BlockPlacement(1, 0, 128, 128, 7, 0), packed)
    assert stop > 10
    assert header.payload_size + header.columns_size <= bit_search.BODY_SIZE_MAX
