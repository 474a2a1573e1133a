from itertools import accumulate

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import CorruptBlock, JournalError, LimitExceeded, UnsupportedVersion
from journal.format import block
from journal.format.block import Block, BlockHeader, BlockPlacement, Frames
from journal.format.segment_header import SEGMENT_MAGIC, SegmentHeader

PLACE = BlockPlacement(
    salt=99, first_seq=5, offset=128, previous_end=128, previous_hash=7, durable_upto=0
)
TAGS = st.integers(1, 254)
PAYLOADS = st.binary(max_size=40) | st.binary(max_size=8).map(lambda piece: piece * 200)


@st.composite
def batches(draw: st.DrawFn) -> Frames:
    rows = draw(st.lists(st.tuples(TAGS, PAYLOADS, st.integers(0, 1000)), min_size=1, max_size=30))
    times = list(accumulate((step for *_, step in rows), initial=draw(st.integers(0, 1 << 52))))
    return Frames([row[0] for row in rows], [row[1] for row in rows], times[1:])


def decode_block(data: bytes) -> tuple[BlockHeader, Block]:
    header = block.read_header(data, 0, PLACE.salt, PLACE.offset)
    assert header is not None
    body = data[block.BLOCK_HEADER_SIZE :]
    assert block.find_flaw(header) is None
    assert block.is_body_intact(header, body, PLACE.salt)
    found = Block(header, body, header.first_seq, 0)
    found.check()
    return header, found


@given(batches(), st.booleans())
def test_a_block_decodes_to_its_frames(frames: Frames, compress: bool) -> None:
    data, header = block.encode(PLACE, frames, block.make_compressor() if compress else None)
    decoded_header, found = decode_block(data)
    assert decoded_header == header
    assert len(data) == header.size
    assert len(data) % 8 == 0
    assert list(found.tags) == frames.tags
    assert found.payloads() == frames.payloads
    assert list(found.times) == frames.times
    assert found.seqs == range(5, 5 + len(frames.tags))


@given(batches(), st.data())
def test_sequence_numbers_with_gaps_are_restored(frames: Frames, data: st.DataObject) -> None:
    steps = st.lists(st.integers(1, 1000), min_size=len(frames.tags), max_size=len(frames.tags))
    seqs = list(accumulate(data.draw(steps)))
    place = PLACE._replace(first_seq=seqs[0])
    raw, _ = block.encode(place, frames, seqs=seqs)
    header, found = decode_block(raw)
    assert list(found.seqs) == seqs
    assert block.read_last_delta(header, raw[block.BLOCK_HEADER_SIZE :]) == seqs[-1] - seqs[0]


def test_a_block_without_events_is_only_a_header() -> None:
    data, header = block.encode(PLACE, Frames([], [], []), time=12)
    assert len(data) == block.BLOCK_HEADER_SIZE
    assert (header.time_first, header.time_last) == (12, 12)
    assert decode_block(data)[1].payloads() == []


def test_every_flipped_bit_of_a_block_breaks_one_of_its_hashes() -> None:
    data, _ = block.encode(PLACE, Frames([1, 2], [b"some", b"thing"], [3, 4]))
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        header = block.read_header(bytes(broken), 0, PLACE.salt, PLACE.offset)
        body = bytes(broken[block.BLOCK_HEADER_SIZE :])
        assert header is None or not block.is_body_intact(header, body, PLACE.salt)


def test_a_block_of_another_offset_or_segment_is_no_block() -> None:
    data, _ = block.encode(PLACE, Frames([1], [b"x"], [3]))
    assert block.read_header(data, 0, PLACE.salt, PLACE.offset + 8) is None
    assert block.read_header(data, 0, PLACE.salt + 1, PLACE.offset) is None


@given(st.binary(max_size=50), st.binary(max_size=50), st.booleans())
def test_no_block_holds_the_magic_of_a_segment(before: bytes, after: bytes, twice: bool) -> None:
    payload = before + SEGMENT_MAGIC * (1 + twice) + after
    data, header = block.encode(PLACE, Frames([1], [payload], [3]))
    assert header.mask
    assert SEGMENT_MAGIC not in data
    assert decode_block(data)[1].payloads() == [payload]


def test_a_compressed_block_that_would_hold_the_magic_is_masked_too() -> None:
    noise = bytes(range(256)) * 2 + SegmentHeader(1, bytes(16), 2).encode()[0]
    frames = Frames([1, 2], [noise, bytes(5000)], [3, 4])
    data, header = block.encode(PLACE, frames, block.make_compressor())
    assert header.codec == 1
    assert header.mask
    assert SEGMENT_MAGIC not in data
    assert decode_block(data)[1].payloads() == frames.payloads


def test_payloads_are_compressed_only_if_it_saves_space() -> None:
    def codec(payload: bytes) -> int:
        return block.encode(PLACE, Frames([1], [payload], [3]), block.make_compressor())[1].codec

    assert codec(bytes(511)) == 0
    assert codec(bytes(512)) == 1
    assert codec(zstandard.compress(bytes(range(256)) * 9, 19) * 1) == 0


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("codec", 2, UnsupportedVersion),
        ("flags", 8, UnsupportedVersion),
        ("frame_count", (1 << 32) - 1, LimitExceeded),
        ("payload_raw_size", (1 << 32) - 1, LimitExceeded),
        ("first_seq", (1 << 64) - 1, LimitExceeded),
        ("payload_size", (1 << 32) - 1, CorruptBlock),
        ("columns_size", (1 << 32) - 1, CorruptBlock),
        ("columns_size", 0, CorruptBlock),
        ("time_last", 0, CorruptBlock),
        ("time_last", 1 << 63, CorruptBlock),
        ("previous_end", 136, CorruptBlock),
        ("durable_upto", 136, CorruptBlock),
        ("offset", 129, CorruptBlock),
    ],
)
def test_a_header_that_no_writer_writes_is_refused(
    field: str, value: int, kind: type[JournalError]
) -> None:
    _, header = block.encode(PLACE, Frames([1], [b"x"], [3]))
    assert block.find_flaw(header) is None
    changed = BlockHeader(**{**header._asdict(), field: value})
    assert isinstance(block.find_flaw(changed), kind)


def hostile(payload: bytes, raw_size: int, ends: list[int], **fields: int) -> Block:
    """Return an invalid block with valid hashes, which no writer would write."""
    columns = b"".join(end.to_bytes(4, "little") for end in ends) + bytes([1]) * len(ends)
    columns += bytes(-(len(payload) + len(columns)) % 8)
    _, header = block.encode(PLACE, Frames([1] * len(ends), [b""] * len(ends), [3] * len(ends)))
    sizes = {"payload_size": len(payload), "columns_size": len(columns)}
    known = header._asdict() | sizes | {"flags": 0, "payload_raw_size": raw_size} | fields
    header = BlockHeader(**known)
    return Block(header, payload + columns, 0, 64)


@pytest.mark.parametrize("ends", [[5], [3, 2, 4], [4, 3], [1 << 31]])
def test_payload_ends_that_do_not_fit_are_corrupt(ends: list[int]) -> None:
    with pytest.raises(CorruptBlock, match="at offset 64"):
        hostile(b"abcd", 4, ends).payloads()


def test_a_decompression_bomb_is_limited_to_its_stated_size() -> None:
    bomb = zstandard.compress(bytes(1 << 26))
    with pytest.raises(CorruptBlock, match=r"frame states 67108864 bytes, but .* 1048576 bytes"):
        hostile(bomb, 1 << 20, [1 << 20], codec=1).payloads()


def test_a_decompression_bomb_without_a_size_is_refused() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False)
    bomb = packer.compress(bytes(1 << 26))
    with pytest.raises(
        CorruptBlock, match="frame states no size, but the block header states 1048576 bytes"
    ):
        hostile(bomb, 1 << 20, [1 << 20], codec=1).payloads()


@given(st.binary(max_size=64))
def test_an_invalid_compressed_payload_is_corrupt(garbage: bytes) -> None:
    with pytest.raises(CorruptBlock):
        hostile(garbage, 100, [100], codec=1).payloads()


def test_an_impossible_tag_is_corrupt() -> None:
    _, header = block.encode(PLACE, Frames([1], [b""], [3]))
    for tag in (0, 255):
        with pytest.raises(CorruptBlock):
            Block(header, bytes([0, 0, 0, 0, tag, 0, 0, 0]), 0, 0)
