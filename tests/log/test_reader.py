import gc
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import regenerate_damage
from journal.errors import (
    CorruptBlock,
    JournalError,
    LostAcknowledged,
    NotAJournal,
    UnsupportedVersion,
)
from journal.events import codec, core
from journal.format import block
from journal.format.block import BLOCK_HEADER_SIZE, BlockPlacement, Frames, read_header
from journal.format.frame import Frame
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.journals import (
    is_damage_noticed,
    make_clock,
    read_rows,
    salvage_frames,
    write_stories,
)

STORIES = [[(1, b"a"), (2, b"bb")], [(3, b"ccc")], [(1, b"d" * 30), (70, b""), (134, b"e")]]
STORY = [row for story in STORIES for row in story]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def salt_of(data: bytes) -> int:
    return int.from_bytes(data[24:32], "little")


def offsets(data: bytes) -> list[int]:
    """Return the offsets of the blocks of a sound journal of one segment, and its end."""
    found = [SEGMENT_HEADER_SIZE]
    while header := read_header(data, found[-1], salt_of(data), found[-1]):
        found.append(header.end)
    return found


def flipped(data: bytes, bit: int) -> bytes:
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def test_frames_begin_where_they_are_asked_to(path: Path) -> None:
    write_stories(path, *STORIES)
    with Reader(path) as reader:
        for start in range(8):
            frames = list(reader.frames(start))
            assert [frame.seq for frame in frames] == list(range(start, 6))
            assert [(frame.tag, frame.payload) for frame in frames] == STORY[start:]


def test_events_come_decoded(path: Path) -> None:
    event = core.ProcessExit(exit_code=3)
    with Writer(path) as writer:
        assert writer.append(event) == 0
        assert writer.append(event) == 1
    with Reader(path) as reader:
        assert list(reader) == [event, event]
        assert list(reader.verify()) == []
        assert [codec.decode(*frame[1:3]) for frame in reader.frames()] == [event, event]


def test_blocks_without_wanted_tags_are_passed_over(path: Path) -> None:
    data = write_stories(path, *STORIES)
    first, second, third, *_ = offsets(data)
    with Reader(path) as reader:

        def found(*tags: int) -> list[int]:
            return [block.offset for block in reader.blocks(tags=set(tags))]

        assert found(1) == [first, third]
        assert found(3) == [second]
        assert found(99) == []
        assert found(6) == [
            third
        ]  # 70 has the same bit: a bitmap may have false positives, but no false negatives.
        assert found(2, 3) == [first, second]
        assert found() == []


def test_a_summary_says_what_the_headers_say(path: Path) -> None:
    with Writer(path, clock=make_clock(100, 10), journal_id=b"n" * 16) as writer:
        for tag, payload in STORY:
            writer.append_frame(tag, payload)
    with Reader(path) as reader:
        summary = reader.summary()
        assert reader.tail == path.stat().st_size
        assert reader.torn_size == 0
    assert summary._replace(size=0, tail=0, durable_upto=0) == (
        (1, 2, 6, 0, 5, 110, 160, 0, 0, 0, (), (), 0, b"n" * 16, 100, (1, 1), 0)
    )
    assert summary.size == summary.tail == path.stat().st_size
    assert summary.durable_upto == summary.size - BLOCK_HEADER_SIZE


def test_a_summary_of_no_events_is_one_too(path: Path) -> None:
    write_stories(path)
    with Reader(path) as reader:
        summary = reader.summary()
        assert (summary.events, summary.first_seq, summary.last_seq) == (0, 0, -1)
        assert list(reader.frames()) == []


def test_a_reader_sees_what_a_writer_adds_meanwhile(path: Path) -> None:
    with Writer(path) as writer, Reader(path) as reader:
        assert list(reader.frames()) == []
        writer.append_frame(1, b"a")
        assert list(reader.frames()) == []
        writer.flush()
        assert [frame.payload for frame in reader.frames()] == [b"a"]
        frames = reader.frames()
        next(frames)
        writer.append_frame(1, b"b")
        writer.sync()
        assert [frame.payload for frame in frames] in (
            [],
            [b"b"],
        )  # The event may be visible or not yet.
        assert [frame.payload for frame in reader.frames(1)] == [b"b"]


def test_blocks_outlive_their_reader(path: Path) -> None:
    write_stories(path, *STORIES)
    with Reader(path) as reader:
        blocks = list(reader.blocks())
    assert [payload for block in blocks for payload in block.payloads()] == [p for _, p in STORY]


def test_a_cut_file_reads_as_whole_blocks_and_can_be_gone_on_from(path: Path) -> None:
    """Try cuts around each end of a block, and every third one elsewhere."""
    data = write_stories(path, *STORIES)
    ends = offsets(data)
    sizes = {*range(SEGMENT_HEADER_SIZE, len(data), 3)}
    sizes |= {end + by for end in ends for by in range(-2, 3)} & {
        *range(SEGMENT_HEADER_SIZE, len(data))
    }
    for size in sorted(sizes):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends[1:])
        expected = [row for story in STORIES[:whole] for row in story]
        with Reader(path) as reader:
            assert [frame[1:3] for frame in reader.frames()] == expected
            assert list(reader.verify(decode=False)) == []
            assert reader.tail + reader.torn_size == size
            assert reader.tail == max(end for end in ends if end <= size)
        with Writer(path) as writer:
            assert writer.append_frame(9, b"new") == len(expected)
        assert path.read_bytes().startswith(data[:size].rstrip(b"\0"))
        assert read_rows(path) == [*expected, (9, b"new")]


@pytest.mark.deep
def test_every_flipped_bit_is_noticed_and_no_wrong_event_is_believed(
    path: Path, budget: Budget
) -> None:
    data = write_stories(path, *STORIES)
    believed = {(seq, *row) for seq, row in enumerate(STORY)}
    for bit in budget.spend(range(len(data) * 8), 200):
        path.write_bytes(flipped(data, bit))
        assert is_damage_noticed(path), f"bit {bit}"
        try:
            found = list(salvage_frames(path))
        except JournalError:
            continue
        assert {frame[:3] for frame in found} <= believed, f"bit {bit}"
        # At most one block is lost.
        assert bit < SEGMENT_HEADER_SIZE * 8 or len(found) >= 3, f"bit {bit}"


def test_every_flipped_bit_of_acknowledged_events_is_an_error_that_names_them(path: Path) -> None:
    data = write_stories(path, *STORIES)
    ends = offsets(data)
    for start, end, first, last in zip(ends, ends[1:4], (0, 2, 3), (1, 2, 5), strict=False):
        for bit in range(start * 8, end * 8, 7):  # Seven reaches each bit of a byte.
            path.write_bytes(flipped(data, bit))
            with pytest.raises(LostAcknowledged) as caught:
                read_rows(path)
            error = caught.value
            assert (error.offset, error.size) == (start, end - start)
            assert (error.first_seq, error.last_seq) == (first, last)
            assert error.acknowledged


def test_a_writer_refuses_damage_of_acknowledged_events(path: Path) -> None:
    data = write_stories(path, *STORIES)
    start = offsets(data)[1]
    broken = flipped(data, start * 8 + 3)
    path.write_bytes(broken)
    with pytest.raises(LostAcknowledged, match=f"at offset {start}"):
        Writer(path)
    assert path.read_bytes() == broken


def test_a_hole_of_zeros_is_missing_events(path: Path) -> None:
    data = write_stories(path, *STORIES)
    start, end = offsets(data)[1:3]
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    with pytest.raises(LostAcknowledged) as caught:
        read_rows(path)
    assert (caught.value.first_seq, caught.value.last_seq) == (2, 2)
    assert [(frame.tag, frame.payload) for frame in salvage_frames(path)] == STORIES[0] + STORIES[2]


def test_reading_from_behind_damage_does_not_ask_for_what_is_lost(path: Path) -> None:
    data = write_stories(path, *STORIES)
    path.write_bytes(flipped(data, offsets(data)[0] * 8 + 3))
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.frames(2)] == [2, 3, 4, 5]
        with pytest.raises(LostAcknowledged):
            list(reader.frames(1))


def test_a_lost_block_of_no_events_is_noticed_and_keeps_nobody_from_reading(path: Path) -> None:
    data = write_stories(path, *STORIES)
    mark = len(data) - BLOCK_HEADER_SIZE
    with Writer(path) as writer:
        writer.append_frame(9, b"more")
    data = path.read_bytes()
    path.write_bytes(flipped(data, mark * 8 + 100))
    assert read_rows(path) == [*STORY, (9, b"more")]
    with Reader(path) as reader:
        (damage,) = reader.summary().damage
        assert (damage.offset, damage.last_seq - damage.first_seq) == (mark, -1)


def test_a_stale_block_is_not_believed(path: Path) -> None:
    data = write_stories(path, *STORIES)
    start, end = offsets(data)[1:3]
    good = read_header(data, start, salt_of(data), start)
    assert good is not None
    # The same block of another history of the segment: valid by itself, but not in the chain.
    place = BlockPlacement(salt_of(data), 2, start, good.previous_end, good.previous_hash, 0)
    stale, _ = block.encode(place, Frames([3], [b"xxx"], [good.time_first]))
    assert len(stale) == end - start
    path.write_bytes(data[:start] + stale + data[end:])
    with pytest.raises(LostAcknowledged, match="the next block records another hash") as caught:
        read_rows(path)
    assert (caught.value.first_seq, caught.value.last_seq) == (2, 2)
    assert [frame.payload for frame in salvage_frames(path)] == [b"a", b"bb", b"d" * 30, b"", b"e"]


def test_a_block_moved_elsewhere_is_not_believed(path: Path) -> None:
    data = write_stories(path, [(1, b"a")], [(1, b"b")], [(1, b"c")])
    _, second, third, fourth, *_ = offsets(data)
    path.write_bytes(data[:second] + data[third:fourth] + data[second:third] + data[fourth:])
    assert [frame.payload for frame in salvage_frames(path)] == [b"a"]
    assert is_damage_noticed(path)


def test_preallocated_zeros_are_the_end_and_free_to_write(path: Path) -> None:
    data = write_stories(path, *STORIES)
    path.write_bytes(data + bytes(1 << 21))
    with Reader(path) as reader:
        assert (reader.tail, reader.torn_size) == (len(data), 0)
    with Writer(path) as writer:
        writer.append_frame(9, b"more")
    assert path.stat().st_size < len(data) + (1 << 10)  # The space was released by close.
    assert path.read_bytes()[: len(data)] == data
    assert read_rows(path) == [*STORY, (9, b"more")]


def test_what_no_crash_leaves_behind_the_tail_is_damage(path: Path) -> None:
    data = write_stories(path, *STORIES)
    path.write_bytes(data + b"appended by mistake")
    with Reader(path) as reader:
        (damage,) = reader.summary().damage
    assert (damage.offset, damage.size) == (len(data), 19)
    with pytest.raises(CorruptBlock):
        read_rows(path)
    with Writer(path) as writer:  # Nothing acknowledged is lost: the block remains as debris.
        writer.append_frame(9, b"more")
    assert read_rows(path) == [*STORY, (9, b"more")]


@given(st.lists(st.lists(st.binary(max_size=30), max_size=3), min_size=1, max_size=4), st.data())
def test_journals_concatenated_are_a_journal(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[bytes]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.journal"
    joined, story = b"", []
    for index, payloads in enumerate(parts):
        part = path.with_name(f"part{index}")
        raw = write_stories(part, *([(1, payload)] for payload in payloads))
        cut = data.draw(st.integers(SEGMENT_HEADER_SIZE, len(raw)))
        part.write_bytes(raw[:cut])
        clean = cut in offsets(raw)  # Zeros complete a block that lacks only zeros.
        joined += raw[:cut] + bytes(data.draw(st.integers(0, 30)) if clean else 0)
        story += read_rows(part)
    path.write_bytes(joined)
    assert read_rows(path) == story
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.frames()] == list(range(len(story)))
        assert reader.summary().segments == len(parts)
    with Writer(path) as writer:
        assert writer.append_frame(1, b"more") == len(story)
    assert path.read_bytes().startswith(joined.rstrip(b"\0"))
    assert read_rows(path) == [*story, (1, b"more")]


@pytest.mark.deep
@pytest.mark.parametrize("compress", [False, True])
def test_a_journal_inside_a_payload_is_never_believed(
    path: Path, compress: bool, budget: Budget
) -> None:
    inner = write_stories(path.with_name("inner"), [(66, b"inner")], [(66, b"events")])
    payloads = [inner, bytes(range(256)) * 3 + inner, inner + bytes(4096), inner * 3]
    with Writer(path, compress=compress) as writer:
        for payload in payloads:
            writer.append_frame(1, payload)
            writer.flush()
    data = path.read_bytes()
    for byte in budget.spend(range(SEGMENT_HEADER_SIZE, len(data), 5), 100):
        path.write_bytes(data[:byte])
        assert all(row == (1, payloads[index]) for index, row in enumerate(read_rows(path)))
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 255]) + data[byte + 1 :])
        assert {frame.tag for frame in salvage_frames(path)} <= {1}
        path.write_bytes(data[:byte] + bytes(120) + data[byte + 120 :])
        assert {frame.tag for frame in salvage_frames(path)} <= {1}


def test_a_journal_inside_its_own_payload_is_never_believed(path: Path) -> None:
    with Writer(path, compress=False) as writer:
        writer.append_frame(1, b"first")
        writer.flush()
        so_far = path.read_bytes().rstrip(b"\0")
        writer.append_frame(2, so_far)
        writer.append_frame(2, so_far[SEGMENT_HEADER_SIZE:])
    data = path.read_bytes()
    start = offsets(data)[1]
    for size in range(start, len(data)):
        path.write_bytes(data[:size])
        assert read_rows(path)[:1] == [(1, b"first")]
        assert [row[0] for row in read_rows(path)] in ([1], [1, 2, 2])


def edit_header(change: Callable[[SegmentHeader], SegmentHeader]) -> bytes:
    return change(SegmentHeader(1, bytes(16), 2)).encode()[0]


def test_versions_that_are_not_known_are_refused(path: Path) -> None:
    path.write_bytes(edit_header(lambda header: header._replace(major=2)))
    with pytest.raises(UnsupportedVersion, match=r"version 2\.1"):
        Reader(path)
    path.write_bytes(edit_header(lambda header: header._replace(minor=9, compatible_features=5)))
    assert read_rows(path) == []


def test_a_later_segment_of_a_version_not_known_is_an_error(path: Path) -> None:
    data = write_stories(path, *STORIES)
    path.write_bytes(data + edit_header(lambda header: header._replace(major=2)))
    with pytest.raises(UnsupportedVersion):
        read_rows(path)
    with pytest.raises(UnsupportedVersion):
        Writer(path)


def test_what_is_no_file_is_no_journal(tmp_path: Path) -> None:
    for path in ("/dev/null", tmp_path):
        with pytest.raises(NotAJournal):
            Reader(path)


def test_without_verification_the_last_block_is_still_held_to_its_hash(path: Path) -> None:
    data = write_stories(path, *STORIES)
    path.write_bytes(flipped(data, (len(data) - BLOCK_HEADER_SIZE - 1) * 8))
    with Reader(path, verify=False) as reader:
        assert [frame.seq for frame in reader.frames()] == list(range(6))
    path.write_bytes(path.read_bytes()[:-BLOCK_HEADER_SIZE])
    with Reader(path, verify=False) as reader, pytest.raises(CorruptBlock):
        list(reader.frames())


@pytest.mark.parametrize("name", sorted(regenerate_damage.journals()))
def test_damage_is_found_as_it_always_was(tmp_path: Path, name: str) -> None:
    fixture = regenerate_damage.FOLDER / f"{name}.journal"
    assert fixture.read_bytes() == regenerate_damage.journals()[name]
    expected = json.loads(regenerate_damage.EXPECTED.read_text())
    assert regenerate_damage.findings(fixture) == expected[name]


def test_the_specs_example_is_a_journal_byte_by_byte(path: Path) -> None:
    text = (Path(__file__).parents[2] / "spec" / "format.md").read_text()
    section = text.partition("## A worked example")[2]
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)", section, re.MULTILINE)
    data = bytes.fromhex("".join(digits for _, digits in rows))
    offset = 0
    for at, digits in rows:
        assert int(at, 16) == offset
        offset += len(bytes.fromhex(digits))
    path.write_bytes(data)
    with Reader(path) as reader:
        assert list(reader.frames()) == [
            Frame(0, 2, b"hello", 1_700_000_000_000_010, 128),
            Frame(1, 5, b"", 1_700_000_000_000_013, 128),
        ]
        assert list(reader.verify(decode=False)) == []
        assert reader.summary().torn_size == 0
        assert reader.summary().blocks == 2


def test_a_reader_that_nobody_has_any_more_keeps_no_file_open(path: Path) -> None:
    write_stories(path, [(1, b"x")])
    before = len(list(Path("/proc/self/fd").iterdir()))
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        for _ in range(20):
            assert [frame.seq for frame in Reader(path).frames()] == [0]
            assert Reader(path).frame(0).payload == b"x"
        gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
