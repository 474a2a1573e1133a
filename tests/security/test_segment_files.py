"""Malicious segment files: a reader raises JournalError, in bounded memory and time."""

import random
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from journal.errors import JournalError, LimitExceeded
from journal.format import block
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader, BlockPlacement, Frames
from journal.format.block_header import LAYOUT
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.journals import make_clock, read_rows, write_stories

SALT = 77


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def begin_segment() -> tuple[bytes, SegmentHeader]:
    return SegmentHeader(SALT, bytes(16), 1).encode()


def seal_block(header: BlockHeader, body: bytes = b"") -> bytes:
    """Return a block with valid hashes and any fields."""
    header = header._replace(body_hash=xxh3_64_intdigest(body, SALT))
    unhashed = LAYOUT.pack(*header)[:-8]
    return unhashed + xxh3_64_intdigest(unhashed, SALT).to_bytes(8, "little") + body


def after_header(header: SegmentHeader, offset: int = SEGMENT_HEADER_SIZE) -> BlockHeader:
    place = BlockPlacement(SALT, 0, offset, SEGMENT_HEADER_SIZE, header.hash, 0)
    return block.encode(place, Frames([1], [b"x"], [5]))[1]


def everything_of(path: Path) -> None:
    """Make every query of a file; only a JournalError may be raised."""
    calls: list[Callable[[Reader], object]] = [
        lambda reader: list(reader.frames()),
        lambda reader: reader.summary(),
        lambda reader: list(reader.verify(decode=False)),
        lambda reader: [len(found.tags) for found in reader.blocks(3, {1, 2})],
        lambda reader: list(reader),
    ]
    for call in calls:
        with suppress(JournalError), Reader(path) as reader:
            call(reader)
    with suppress(JournalError):
        Writer(path).close()


@pytest.mark.parametrize(
    "fields",
    [
        {"frame_count": (1 << 32) - 1},
        {"payload_size": (1 << 32) - 1},
        {"payload_raw_size": (1 << 32) - 1},
        {"columns_size": (1 << 32) - 1},
        {"payload_size": (1 << 32) - 1, "payload_raw_size": (1 << 32) - 1},
        {"first_seq": (1 << 64) - 1},
        {"time_last": (1 << 64) - 1},
        {"previous_end": (1 << 64) - 1},
        {"durable_upto": (1 << 64) - 1},
        {"codec": 255},
        {"flags": 255},
        {"reserved": 1},
    ],
)
def test_absurd_fields_are_clear_errors(path: Path, fields: dict[str, int]) -> None:
    start, header = begin_segment()
    path.write_bytes(
        start + seal_block(BlockHeader(**(after_header(header)._asdict() | fields)), bytes(8))
    )
    with pytest.raises(JournalError, match=f"at offset {SEGMENT_HEADER_SIZE}"):
        read_rows(path)
    with Reader(path) as reader:
        assert len(reader.summary().damage) == 1
        assert len(list(reader.verify())) == 1
    everything_of(path)


def compressed(payload: bytes, raw_size: int) -> bytes:
    start, header = begin_segment()
    columns = raw_size.to_bytes(4, "little") + b"\1"
    columns += bytes(-(len(payload) + len(columns)) % 8)
    fields = after_header(header)._replace(
        codec=1,
        flags=0,
        payload_size=len(payload),
        payload_raw_size=raw_size,
        columns_size=len(columns),
    )
    return start + seal_block(fields, payload + columns)


def test_bombs_take_no_more_memory_than_they_state(path: Path) -> None:
    bomb = zstandard.compress(bytes(1 << 28))
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28))
    tracemalloc.start()
    try:
        for content, stated in ((bomb, "268435456 bytes"), (hidden, "no size")):
            path.write_bytes(compressed(content, 1 << 20))
            with pytest.raises(JournalError, match=f"frame states {stated}, but the block header"):
                read_rows(path)
            everything_of(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    path.write_bytes(compressed(bomb, 1 << 28))
    with pytest.raises(LimitExceeded):
        read_rows(path)


def test_a_body_that_decompresses_to_garbage_is_found_by_verify(path: Path) -> None:
    path.write_bytes(compressed(b"no zstd at all, and long enough", 100))
    with Reader(path) as reader:
        (finding,) = reader.verify()
    assert (finding.first_seq, finding.last_seq) == (0, 0)
    assert "decompressed" in str(finding.error) or "size" in str(finding.error)


@given(st.binary(max_size=3000))
def test_random_bytes_are_a_journal_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    for prefix in (b"", begin_segment()[0]):
        path.write_bytes(prefix + content)
        everything_of(path)


def test_random_damage_is_a_journal_error(path: Path) -> None:
    rng = random.Random(11)
    stories = [[(rng.randrange(1, 255), rng.randbytes(rng.randrange(90)))] for _ in range(20)]
    data = write_stories(path, *stories)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at, size = rng.randrange(len(data)), rng.randrange(1, 200)
            patch = rng.choice([bytes(size), rng.randbytes(size), data[at // 2 :][:size], b""])
            broken[at : at + rng.choice([size, len(patch)])] = patch
        path.write_bytes(broken)
        everything_of(path)


@pytest.mark.deep
def test_a_hundred_thousand_blocks_of_nothing_are_read_in_bounded_time(path: Path) -> None:
    start, header = begin_segment()
    parts, link, offset = [start], (SEGMENT_HEADER_SIZE, header.hash), SEGMENT_HEADER_SIZE
    for _ in range(100_000):
        data, made = block.encode(BlockPlacement(SALT, 0, offset, *link, 0), Frames([], [], []))
        parts.append(data)
        link, offset = (made.end, made.hash), made.end
    path.write_bytes(b"".join(parts))
    begin = time.process_time()
    with Reader(path) as reader:
        assert list(reader.frames()) == []
        assert reader.summary().blocks == 100_000
    assert time.process_time() - begin < 10


def overlapping(count: int, size: int) -> bytes:
    """Return headers that all claim the rest of the file as their body."""
    start, header = begin_segment()
    offset, parts = SEGMENT_HEADER_SIZE, [start]
    total = SEGMENT_HEADER_SIZE + count * BLOCK_HEADER_SIZE + size
    for _ in range(count):
        columns = 8
        payload = total - offset - BLOCK_HEADER_SIZE - columns
        fields = after_header(header, offset)._replace(
            payload_size=payload, payload_raw_size=payload, columns_size=columns
        )
        # The body differs from the one in the header.
        parts.append(seal_block(fields)[:BLOCK_HEADER_SIZE])
        offset += BLOCK_HEADER_SIZE
    return b"".join(parts) + bytes([1]) * size


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_blocks_inside_one_another_are_given_up_in_bounded_time(path: Path, size: int) -> None:
    path.write_bytes(overlapping(3000, size))
    begin = time.process_time()
    everything_of(path)
    assert time.process_time() - begin < 20


@pytest.mark.deep
def test_a_segment_that_claims_more_crashes_than_can_be_is_refused(path: Path) -> None:
    parts, offset = [begin_segment()[0]], SEGMENT_HEADER_SIZE + 8
    parts.append(bytes(8))
    for number in range((1 << 16) + 2):
        place = BlockPlacement(SALT, 0, offset, 0, number, 0)
        data, made = block.encode(place, Frames([], [], []))
        parts.append(data)
        offset = made.end
    path.write_bytes(b"".join(parts))
    with pytest.raises(LimitExceeded, match="more than 65536 crashes in one segment"):
        read_rows(path)
    with Reader(path) as reader:
        (finding,) = reader.verify()
    assert isinstance(finding.error, LimitExceeded)


def test_memory_is_bounded_by_a_block_and_not_by_the_file(path: Path) -> None:
    with Writer(path, clock=make_clock()) as writer:
        for number in range(60_000):
            writer.append_frame(1, number.to_bytes(8) * 20)
    tracemalloc.start()
    try:
        with Reader(path) as reader:
            assert sum(1 for _ in reader.frames()) == 60_000
            assert list(reader.verify(decode=False)) == []
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
