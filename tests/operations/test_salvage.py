"""Recovery of damaged journals: readable events are kept, and lost events are reported."""

from __future__ import annotations

import errno
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import CorruptBlock, Frame, JournalError, OptionError, Reader, Writer
from journal.format.bit_search import flip_bit
from journal.format.block import BLOCK_HEADER_SIZE
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log import RecoveryMode, RollPolicy
from journal.operations.concat import concat
from journal.operations.salvage import SalvageResult, salvage
from journal.operations.verify import Verifier
from tests.support.budget import Budget
from tests.support.edited_journals import STORIES, apply_edits, edits, stories
from tests.support.journals import Story, make_clock, write_stories

SPANS = [range(0, 3), range(3, 4), range(4, 6), range(6, 7)]


def ends_of(path: Path) -> list[tuple[int, int]]:
    """Return the start and end offset of each block with events."""
    with Reader(path) as reader:
        return [(block.offset, block.offset + block.size) for block in reader.blocks()]


def frames_of(path: Path) -> list[Frame]:
    """Read all frames with a strict reader; clear the offsets, which differ between journals."""
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def is_whole(path: Path) -> bool:
    return list(Verifier(path, decode=False).run()) == []


def recover(data: bytes, folder: Path) -> tuple[SalvageResult, list[Frame]]:
    """Recover these bytes; check that the source is unchanged and the target sound."""
    source, target = folder / "broken", folder / "whole"
    source.write_bytes(data)
    source.chmod(0o400)
    target.unlink(missing_ok=True)
    result = salvage(source, target)
    assert source.read_bytes() == data
    source.unlink()
    assert is_whole(target)
    assert {one.name for one in folder.iterdir()} <= {"whole", "a", "d"}
    return result, frames_of(target)


def lost_seqs(result: SalvageResult) -> set[int]:
    return {seq for loss in result.losses for seq in range(loss.first_seq, loss.last_seq + 1)}


def flip(data: bytes, *bits: int) -> bytes:
    for bit in bits:
        data = flip_bit(data, bit)
    return data


def test_a_sound_journal_is_recovered_unchanged(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    result, frames = recover(data, tmp_path)
    assert frames == frames_of(tmp_path / "a")
    assert result.is_whole
    assert (result.events, result.blocks, result.next_seq) == (7, 4, 7)
    assert (result.losses, result.repairs, result.torn_size, result.size) == ((), (), 0, len(data))
    with Reader(tmp_path / "a") as before, Reader(tmp_path / "whole") as after:
        assert before.summary().journal_id == after.summary().journal_id == result.journal_id


def check_bits(tmp_path: Path, chosen: Callable[[range], Iterable[int]]) -> None:
    data = write_stories(tmp_path / "a", *STORIES[:2])
    expected = frames_of(tmp_path / "a")
    for bit in chosen(range(8 * len(data))):
        result, frames = recover(flip(data, bit), tmp_path)
        assert frames == expected, f"bit {bit}"
        assert result.is_whole
        # A marker block has no events, so recovery need not repair it.
        if bit < 8 * (len(data) - BLOCK_HEADER_SIZE):
            assert [(one.offset, one.bit) for one in result.repairs] == [(bit // 8, bit % 8)]


def test_a_flipped_bit_at_any_place_costs_no_event(tmp_path: Path) -> None:
    check_bits(tmp_path, lambda bits: bits[::37])


@pytest.mark.deep
def test_every_flipped_bit_costs_no_event(tmp_path: Path, budget: Budget) -> None:
    check_bits(tmp_path, lambda bits: budget.spend(bits, 200))


def test_one_flipped_bit_in_each_block_and_header_is_repaired(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    bits_of_parts = [8 * 30]
    for start, end in ends_of(tmp_path / "a"):
        bits_of_parts += [8 * start + 3, 8 * (start + BLOCK_HEADER_SIZE) + 5]
        assert end > start + BLOCK_HEADER_SIZE
    result, frames = recover(flip(data, *bits_of_parts), tmp_path)
    assert frames == frames_of(tmp_path / "a")
    assert result.is_whole
    assert (len(result.repairs), result.repaired_events) == (9, 7)
    assert [one.what for one in result.repairs[:3]] == [
        "segment header",
        "block header",
        "block body",
    ]
    assert [(one.first_seq, one.last_seq) for one in result.repairs[:3]] == [
        (0, -1),
        (0, 2),
        (0, 2),
    ]


def test_a_flipped_bit_in_the_last_block_of_a_killed_writer_is_repaired(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    end = ends_of(tmp_path / "a")[-1][1]
    for bit in (8 * (end - 8), 8 * (end - 100)):
        result, frames = recover(flip(data[:end], bit), tmp_path)
        assert len(frames) == 7
        assert result.torn_size == 0
        assert result.is_whole


@pytest.mark.parametrize("index", range(4))
def test_only_the_block_with_two_flipped_bits_is_lost_and_reported(
    index: int, tmp_path: Path
) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    start, end = ends_of(tmp_path / "a")[index]
    body = 8 * (start + BLOCK_HEADER_SIZE)
    result, frames = recover(flip(data, body, body + 1), tmp_path)
    span = SPANS[index]
    assert frames == [frame for frame in frames_of(tmp_path / "a") if frame.seq not in span]
    (loss,) = result.losses
    assert (loss.offset, loss.size, loss.file) == (start, end - start, "")
    assert (loss.first_seq, loss.last_seq, loss.events) == (span[0], span[-1], len(span))
    assert loss.acknowledged
    assert not loss.open_ended
    assert not result.is_whole
    assert (result.lost_events, result.lost_size) == (len(span), end - start)
    assert result.events == 7 - len(span)


@given(stories, st.data())
def test_every_event_is_either_kept_or_reported_lost(
    blocks: list[Story], data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        raw = write_stories(folder / "a", *blocks)
        expected, spans = frames_of(folder / "a"), ends_of(folder / "a")
        start = data.draw(st.integers(SEGMENT_HEADER_SIZE, len(raw) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=300))[: len(raw) - start]
        broken = raw[:start] + noise + raw[start + len(noise) :]
        result, frames = recover(broken, folder)
        kept_seqs = {frame.seq for frame in frames}
        assert all(frame == expected[frame.seq] for frame in frames)
        untouched = [end <= start or begin >= start + len(noise) for begin, end in spans]
        first = 0
        for story, is_untouched in zip(blocks, untouched, strict=True):
            assert not is_untouched or kept_seqs.issuperset(range(first, first + len(story)))
            first += len(story)
        assert not kept_seqs & lost_seqs(result)
        if not any(loss.open_ended for loss in result.losses) and not result.torn_size:
            assert kept_seqs | lost_seqs(result) == set(range(len(expected)))


@given(st.lists(stories, min_size=1, max_size=3), edits)
def test_a_journal_with_any_damage_is_recovered_or_refused(
    journals: list[list[Story]], changes: list[tuple[str, float, int, random.Random]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = [write_stories(folder / f"{index}", *story) for index, story in enumerate(journals)]
        source, target = folder / "broken", folder / "target"
        source.write_bytes(apply_edits(b"".join(parts), changes))
        with suppress(JournalError):
            result = salvage(source, target)
            assert is_whole(target)
            frames = frames_of(target)
            assert len(frames) == result.events
            assert not {frame.seq for frame in frames} & lost_seqs(result)
            written_before = {
                (tag, data) for story in journals for one in story for tag, data in one
            }
            assert {(frame.tag, frame.payload) for frame in frames} <= written_before
        with suppress(JournalError):
            concat([source, folder / "0"], folder / "joined", salvage=True)
            assert is_whole(folder / "joined")


def test_a_torn_tail_is_no_loss(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    start, end = ends_of(tmp_path / "a")[-1]
    result, frames = recover(data[: end - 20], tmp_path)
    assert (len(frames), result.torn_size) == (6, end - 20 - start)
    assert result.is_whole


def test_debris_is_left_out_and_is_no_loss(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    start, end = ends_of(tmp_path / "a")[-1]
    (tmp_path / "a").write_bytes(data[: end - 20])
    with Writer(tmp_path / "a") as writer:
        writer.append_frame(9, b"behind")
    result, frames = recover((tmp_path / "a").read_bytes(), tmp_path)
    assert [frame.seq for frame in frames] == list(range(7))
    assert frames[-1].payload == b"behind"
    assert result.is_whole
    assert result.debris_size >= end - 20 - start


def test_a_damaged_body_above_the_search_limit_is_lost(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", *STORIES)
    data = (tmp_path / "a").read_bytes()
    start, _ = ends_of(tmp_path / "a")[1]
    (tmp_path / "b").write_bytes(flip(data, 8 * (start + BLOCK_HEADER_SIZE)))
    assert salvage(tmp_path / "b", tmp_path / "c", body_size_max=16).lost_events == 1
    assert salvage(tmp_path / "b", tmp_path / "d").lost_events == 0


@pytest.mark.parametrize("damage", [bytes(SEGMENT_HEADER_SIZE), b"\xff" * 40])
def test_a_file_without_a_readable_segment_header_is_refused(damage: bytes, tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    (tmp_path / "b").write_bytes(damage + data[len(damage) :])
    with pytest.raises(JournalError):
        salvage(tmp_path / "b", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_destroyed_salt_is_named_as_the_reason(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    (tmp_path / "b").write_bytes(flip(data, 8 * 24, 8 * 25))
    with pytest.raises(JournalError, match=r"salt.* at offset 0"):
        salvage(tmp_path / "b", tmp_path / "c")


def write_segments(path: Path, events: int = 60) -> list[str]:
    """Write a journal of several segment files, and return the file names."""
    with Writer(
        path, roll=RollPolicy(size_bytes=1 << 16), clock=make_clock(), compress=False
    ) as writer:
        for number in range(events):
            writer.append_frame(1 + number % 7, bytes([number]) * 5000)
            if number % 3 == 2:
                writer.sync()
    names = sorted(one.name for one in path.iterdir())
    assert len(names) >= 4
    return names


def test_a_directory_is_recovered_into_a_file(tmp_path: Path) -> None:
    write_segments(tmp_path / "d")
    result = salvage(tmp_path / "d", tmp_path / "c")
    assert (tmp_path / "c").is_file()
    assert frames_of(tmp_path / "c") == frames_of(tmp_path / "d")
    assert result.is_whole
    assert result.size == sum(one.stat().st_size for one in (tmp_path / "d").iterdir())
    assert is_whole(tmp_path / "c")


def test_damage_in_a_segment_file_is_reported_with_the_file_name(tmp_path: Path) -> None:
    names = write_segments(tmp_path / "d")
    file = tmp_path / "d" / names[1]
    data = file.read_bytes()
    file.write_bytes(flip(data, 8 * (SEGMENT_HEADER_SIZE + BLOCK_HEADER_SIZE), 8 * 300))
    expected = frames_of_salvaged(tmp_path / "d")
    result = salvage(tmp_path / "d", tmp_path / "c")
    assert {loss.file for loss in result.losses} == {names[1]}
    assert frames_of(tmp_path / "c") == expected
    assert {frame.seq for frame in expected} | lost_seqs(result) == set(range(60))


def frames_of_salvaged(path: Path) -> list[Frame]:
    from journal.log import RecoveryMode

    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def test_a_missing_segment_file_is_reported(tmp_path: Path) -> None:
    names = write_segments(tmp_path / "d")
    (tmp_path / "d" / names[2]).unlink()
    result = salvage(tmp_path / "d", tmp_path / "c")
    kept_seqs = {frame.seq for frame in frames_of(tmp_path / "c")}
    assert lost_seqs(result)
    assert kept_seqs | lost_seqs(result) == set(range(60))
    assert not kept_seqs & lost_seqs(result)


def test_a_flipped_bit_in_the_header_of_a_segment_file_is_repaired(tmp_path: Path) -> None:
    names = write_segments(tmp_path / "d")
    expected = frames_of(tmp_path / "d")
    for index, bit in enumerate((0, 8 * 24 + 1, 8 * 50, 8 * 121)):
        file = tmp_path / "d" / names[index]
        file.write_bytes(flip(file.read_bytes(), bit))
    result = salvage(tmp_path / "d", tmp_path / "c")
    assert frames_of(tmp_path / "c") == expected
    assert [(one.file, one.what) for one in result.repairs] == [
        (name, "segment header") for name in names[:4]
    ]


def test_a_lost_segment_header_costs_only_its_segment(tmp_path: Path) -> None:
    names = write_segments(tmp_path / "d")
    file = tmp_path / "d" / names[0]
    file.write_bytes(bytes(SEGMENT_HEADER_SIZE) + file.read_bytes()[SEGMENT_HEADER_SIZE:])
    result = salvage(tmp_path / "d", tmp_path / "c")
    kept_seqs = {frame.seq for frame in frames_of(tmp_path / "c")}
    assert kept_seqs
    assert kept_seqs | lost_seqs(result) == set(range(60))
    assert not result.is_whole


@pytest.mark.parametrize("bit", [3, 8 * 24, 8 * 60])
def test_a_flipped_bit_in_a_later_segment_header_of_a_file_is_repaired(
    bit: int, tmp_path: Path
) -> None:
    first = write_stories(tmp_path / "a", *STORIES)
    second = flip(write_stories(tmp_path / "d", *STORIES), bit)
    result, frames = recover(first + second, tmp_path)
    assert [frame.seq for frame in frames] == list(range(14))
    assert [one.what for one in result.repairs] == ["segment header"]
    assert result.is_whole


def test_a_lost_later_segment_header_of_a_file_is_a_loss_and_no_torn_write(
    tmp_path: Path,
) -> None:
    first = write_stories(tmp_path / "a", *STORIES)
    second = (
        bytes(SEGMENT_HEADER_SIZE) + write_stories(tmp_path / "d", *STORIES)[SEGMENT_HEADER_SIZE:]
    )
    result, frames = recover(first + second, tmp_path)
    assert frames == frames_of(tmp_path / "a")
    (loss,) = result.losses
    assert (loss.offset, loss.size, loss.open_ended) == (len(first), len(second), True)
    assert not result.is_whole
    assert result.torn_size == 0


def test_a_lost_header_of_the_first_segment_costs_only_that_segment(tmp_path: Path) -> None:
    first = (
        bytes(SEGMENT_HEADER_SIZE) + write_stories(tmp_path / "a", *STORIES)[SEGMENT_HEADER_SIZE:]
    )
    second = write_stories(tmp_path / "d", *STORIES)
    result, frames = recover(first + second, tmp_path)
    assert [frame.payload for frame in frames] == [
        payload for story in STORIES for _, payload in story
    ]
    (loss,) = result.losses
    assert (loss.offset, loss.size, loss.open_ended) == (0, len(first), True)
    assert not result.is_whole


def test_a_target_is_never_overwritten_or_placed_in_the_source(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    (tmp_path / "there").write_bytes(b"mine")
    write_segments(tmp_path / "d")
    (tmp_path / "link").symlink_to("a")
    for source, target in [
        ("a", "there"),
        ("a", "a"),
        ("a", "link"),
        ("d", "d"),
        ("d", "d/9999999999.journal"),
        ("a", "nowhere/c"),
    ]:
        with pytest.raises(OptionError):
            salvage(tmp_path / source, tmp_path / target)
    assert (tmp_path / "a").read_bytes() == data
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert is_whole(tmp_path / "d")
    assert not list(tmp_path.glob(".*"))


def test_memory_is_bounded_by_a_block_and_not_by_the_journal(tmp_path: Path) -> None:
    with Writer(tmp_path / "a", compress=False) as writer:
        for _ in range(400):
            writer.append_frame(1, os.urandom(50_000))
    salvage(tmp_path / "a", tmp_path / "warm")
    tracemalloc.start()
    try:
        result = salvage(tmp_path / "a", tmp_path / "c")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.size > 20_000_000
    assert peak < 4_000_000


def test_progress_reaches_the_end_of_each_pass(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", *STORIES)
    reports: list[tuple[str, int, int]] = []
    salvage(tmp_path / "a", tmp_path / "c", progress=lambda *one: reports.append(one))
    assert {kind for kind, _, _ in reports} == {"checking", "copying"}
    for kind in ("checking", "copying"):
        done = [at for name, at, size in reports if name == kind and size == len(data)]
        assert done == sorted(done)
        assert done[-1] == len(data)


def test_a_read_error_of_the_disk_costs_only_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, compress=False) as writer:
        for number in range(4):
            writer.append_frame(1, bytes([number]) * 6000)
            writer.flush()
    pread = os.pread

    def fail_reads(descriptor: int, size: int, offset: int) -> bytes:
        if offset < 8704 and offset + size > 8192:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", fail_reads)
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        assert [frame.seq for frame in reader.frames()] == [0, 2, 3]
    with Reader(path) as reader, pytest.raises(CorruptBlock, match="cannot read"):
        list(reader.frames())
    assert salvage(path, tmp_path / "recovered.journal").events == 3


def test_short_reads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, compress=False) as writer:
        for number in range(4):
            writer.append_frame(1, bytes([number + 1]) * 6000)
            writer.flush()
    data = bytearray(path.read_bytes())
    data[data.find(b"\2" * 6000) + 5000] ^= 4
    path.write_bytes(data)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 1000), at))
    result = salvage(path, tmp_path / "recovered.journal")
    assert (result.events, len(result.repairs)) == (4, 1)
