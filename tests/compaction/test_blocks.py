"""Block directory: repeated passes over blocks, and totals of their events."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import Reader, Writer
from journal.compaction.block_directory import (
    ANALYSED,
    SNAPSHOT_PARTS,
    BlockDirectory,
    SourceChanged,
)
from journal.compaction.output import OutputRow, TagTotals
from journal.compaction.streaming import pack_rows
from journal.errors import DamagedJournal
from journal.events.descriptors import CloseFileDescriptor
from journal.events.memory import MemoryPages
from journal.format.block import BLOCK_HEADER_SIZE, Block
from journal.log import RollPolicy
from journal.rewrite.progress import ignore_progress
from tests.support.compaction_histories import frames_of, history

COUNT = 60


def describe_block(block: Block) -> tuple[int, int, list[tuple[int, int, bytes]]]:
    return block.offset, block.first_seq, list(block.rows())


def as_file(path: Path) -> Path:
    with Writer(path) as writer:
        for tag, payload, _ in history(3, COUNT, 15):
            writer.append_frame(tag, payload)
            writer.sync()
    return path


def as_directory(path: Path) -> Path:
    with Writer(path, roll=RollPolicy(1 << 10)) as writer:
        for tag, payload, _ in history(3, COUNT, 15):
            writer.append_frame(tag, payload)
            writer.sync()
    return path


def files_of(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


shapes = pytest.mark.parametrize("shape", [as_file, as_directory])
Shape = Callable[[Path], Path]


@shapes
def test_the_blocks_are_the_same_when_they_are_gone_through_again(
    tmp_path: Path, shape: Shape
) -> None:
    path = shape(tmp_path / "journal")
    blocks = BlockDirectory(path, ignore_progress)
    first = [describe_block(block) for block in blocks.scan_all()]
    rows = [(frame.seq, frame.tag, frame.payload) for frame in frames_of(path)]
    assert [row for _, _, each in first for row in each] == rows
    assert len(first) > COUNT
    assert [describe_block(block) for block in blocks.reread("")] == first


@shapes
def test_only_those_are_read_that_are_wished_for(tmp_path: Path, shape: Shape) -> None:
    path = shape(tmp_path / "journal")
    blocks = BlockDirectory(path, ignore_progress)
    known = {block.first_seq: set(block.tags) for block in blocks.scan_all()}
    requested = []

    def wish(classes: int, start: int, stop: int) -> bool:
        requested.append((start, stop))
        assert bool(classes & SNAPSHOT_PARTS) >= (MemoryPages.tag in known[start])
        assert bool(classes & ANALYSED) >= (CloseFileDescriptor.tag in known[start])
        return start % 3 == 1

    found = [block.first_seq for block in blocks.reread("", wish)]
    assert found == [seq for seq in known if seq % 3 == 1]
    assert [start for start, _ in requested] == list(known)
    assert [stop for _, stop in requested] == [*list(known)[1:], len(frames_of(path))]


def test_where_numbers_have_holes_a_wish_knows_where_a_block_ends(tmp_path: Path) -> None:
    block = pack_rows([OutputRow(seq, 222, b"x", 1) for seq in (3, 4, 9)])
    with Writer(tmp_path / "journal", first_seq=3) as writer:
        writer.append_block(block)
    blocks, requested = (
        BlockDirectory(tmp_path / "journal", ignore_progress),
        list[tuple[int, int]](),
    )
    assert len(list(blocks.scan_all())) == 1

    def wish(classes: int, start: int, stop: int) -> bool:
        requested.append((start, stop))
        return False

    assert not list(blocks.reread("", wish))
    assert requested == [(3, 10)]


@shapes
def test_what_is_written_meanwhile_is_left_out(tmp_path: Path, shape: Shape) -> None:
    path = shape(tmp_path / "journal")
    blocks = BlockDirectory(path, ignore_progress)
    first = [describe_block(block) for block in blocks.scan_all()]
    with Writer(path) as writer:
        writer.append_frame(222, b"later")
    assert [describe_block(block) for block in blocks.reread("")] == first


@shapes
def test_it_is_told_how_far_it_is(tmp_path: Path, shape: Shape) -> None:
    path = shape(tmp_path / "journal")
    told: list[tuple[str, int, int]] = []
    blocks = BlockDirectory(path, lambda *what: told.append(what))
    count = len(list(blocks.scan_all()))
    size = sum(file.stat().st_size for file in files_of(path))
    for wish in (lambda *_: True, lambda *_: False):
        told.clear()
        read = len(list(blocks.reread("analysing", wish)))
        assert len(told) == read + 1
        assert {(what, whole) for what, _, whole in told} == {("analysing", size)}
        assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
        assert told[-1][1] == size
    told.clear()
    assert len(list(blocks.reread(""))) == count
    assert not told


@shapes
def test_another_journal_that_takes_the_place_is_noticed(tmp_path: Path, shape: Shape) -> None:
    path, other = shape(tmp_path / "journal"), shape(tmp_path / "other")
    blocks = BlockDirectory(path, ignore_progress)
    assert list(blocks.scan_all())
    path.rename(tmp_path / "away")
    other.rename(path)
    with pytest.raises(SourceChanged):
        list(blocks.reread(""))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "away").rename(path)
    assert list(blocks.reread(""))
    for file in files_of(path)[-1:]:
        file.unlink() if path.is_dir() else file.write_bytes(b"")
    with pytest.raises(SourceChanged):
        list(blocks.reread(""))


@shapes
def test_damage_is_noticed_when_it_comes_between(tmp_path: Path, shape: Shape) -> None:
    path = shape(tmp_path / "journal")
    blocks = BlockDirectory(path, ignore_progress)
    first = next(iter(list(blocks.scan_all())))
    file = files_of(path)[0]
    data = bytearray(file.read_bytes())
    data[first.offset + BLOCK_HEADER_SIZE] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedJournal):
        list(blocks.reread(""))
    assert len(list(blocks.reread("", lambda _, start, stop: start > first.first_seq)))


@given(
    st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=3)), min_size=1, max_size=30)
    | st.lists(st.tuples(st.integers(1, 5), st.sampled_from([b"", b"ab"])), min_size=1)
    | st.lists(st.tuples(st.integers(1, 5), st.just(b"")), min_size=1)
    | st.lists(st.tuples(st.just(9), st.just(b"abc")), min_size=1)
)
def test_a_block_counts_as_much_as_its_events(rows: list[tuple[int, bytes]]) -> None:
    whole, each = TagTotals(), TagTotals()
    block = pack_rows([OutputRow(seq, tag, payload, 1) for seq, (tag, payload) in enumerate(rows)])
    for _ in range(2):
        whole.add_block(block)
        for tag, payload in rows:
            each.add(tag, 1, len(payload))
    assert (whole.events, whole.sizes) == (each.events, each.sizes)


def test_a_journal_without_events_has_no_blocks(tmp_path: Path) -> None:
    Writer(tmp_path / "journal").close()
    blocks = BlockDirectory(tmp_path / "journal", ignore_progress)
    assert not list(blocks.scan_all())
    assert not list(blocks.reread("analysing"))
    with Reader(tmp_path / "journal") as reader:
        assert not list(reader.frames())
