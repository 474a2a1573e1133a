"""Concatenation of several journals; sequence numbers continue from each to the next."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import (
    CorruptBlock,
    Frame,
    JournalError,
    LostAcknowledged,
    MissingEvents,
    NotAJournal,
    OptionError,
    Reader,
    Writer,
)
from journal.format.block import BLOCK_HEADER_SIZE
from journal.log import RollPolicy
from journal.operations.concat import concat
from journal.operations.verify import Verifier
from tests.support.journals import Story, make_clock, write_stories

stories = st.lists(
    st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=40)), min_size=1, max_size=4),
    max_size=3,
)


def frames_of(path: Path) -> list[Frame]:
    """Read all frames with a strict reader; clear the offsets, which differ between journals."""
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def write_with_gaps(path: Path, *first_seqs: int) -> None:
    """Write a journal with intended gaps: two events from each of these sequence numbers."""
    plain = path.with_name("plain")
    write_stories(plain, [(1, b"a"), (2, b"b")])
    with Reader(plain) as reader, Writer(path, clock=make_clock()) as writer:
        (block,) = reader.blocks()
        for first in first_seqs:
            block.first_seq = first
            writer.append_block(block)
    plain.unlink()


@given(st.lists(stories, min_size=1, max_size=4))
def test_a_joined_journal_reads_like_the_concatenated_files(journals: list[list[Story]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{index}" for index in range(len(journals))]
        parts = [write_stories(path, *story) for path, story in zip(paths, journals, strict=True)]
        (folder / "cat").write_bytes(b"".join(parts))
        found = concat(paths, folder / "joined")
        assert frames_of(folder / "joined") == frames_of(folder / "cat")
        assert [path.read_bytes() for path in paths] == parts
        assert list(Verifier(folder / "joined", decode=False).run()) == []
        assert found.is_whole
        events = [sum(map(len, story)) for story in journals]
        assert found.first_seqs == tuple(sum(events[:index]) for index in range(len(events)))
        assert (found.events, found.next_seq) == (sum(events), sum(events))


def test_a_joined_journal_has_the_id_of_the_first_and_one_segment(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_stories(tmp_path / name, [(1, b"x")])
    found = concat([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    with Reader(tmp_path / "a") as first, Reader(tmp_path / "c") as joined:
        assert joined.summary().journal_id == first.summary().journal_id == found.journal_id
        assert joined.summary().segments == 1


def test_intended_gaps_are_kept(tmp_path: Path) -> None:
    write_with_gaps(tmp_path / "a", 3, 10)
    write_with_gaps(tmp_path / "b", 0, 5)
    (tmp_path / "cat").write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    concat([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert [frame.seq for frame in frames_of(tmp_path / "c")] == [3, 4, 10, 11, 12, 13, 17, 18]
    assert frames_of(tmp_path / "c") == frames_of(tmp_path / "cat")


def test_directories_and_files_are_joined_alike(tmp_path: Path) -> None:
    with Writer(tmp_path / "d", roll=RollPolicy(size_bytes=1 << 16), compress=False) as writer:
        for number in range(40):
            writer.append_frame(1, bytes([number]) * 5000)
    assert len(list((tmp_path / "d").iterdir())) > 2
    write_stories(tmp_path / "a", [(2, b"x")])
    found = concat([tmp_path / "a", tmp_path / "d", tmp_path / "a"], tmp_path / "c")
    assert found.first_seqs == (0, 1, 41)
    frames = frames_of(tmp_path / "c")
    assert [frame.seq for frame in frames] == list(range(42))
    assert [frame.payload[:1] for frame in frames[1:-1]] == [bytes([one]) for one in range(40)]


def test_torn_tails_are_left_out(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", [(1, b"x")], [(2, b"y" * 300)])
    (tmp_path / "a").write_bytes(data[: len(data) - BLOCK_HEADER_SIZE - 40])
    torn = (tmp_path / "a").stat().st_size
    with Reader(tmp_path / "a") as reader:
        torn -= reader.tail
    write_stories(tmp_path / "b", [(3, b"z")])
    found = concat([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert [frame.payload for frame in frames_of(tmp_path / "c")] == [b"x", b"z"]
    assert (found.torn_size, found.is_whole) == (torn, True)


def write_damaged(path: Path) -> tuple[int, int]:
    """Write a journal of three events and damage the second; return its block offset and size."""
    data = bytearray(write_stories(path, [(1, b"x")], [(2, b"y")], [(3, b"z")]))
    with Reader(path) as reader:
        block = list(reader.blocks())[1]
    data[block.offset + BLOCK_HEADER_SIZE] ^= 0xFF
    path.write_bytes(data)
    return block.offset, block.size


def test_damage_is_refused_and_names_the_source(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", [(1, b"x")])
    offset, _ = write_damaged(tmp_path / "b")
    with pytest.raises(LostAcknowledged, match=rf"at offset {offset} of .*/b$"):
        concat([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


def test_a_missing_segment_file_is_refused_and_named(tmp_path: Path) -> None:
    with Writer(tmp_path / "d", roll=RollPolicy(size_bytes=1 << 16), compress=False) as writer:
        for number in range(60):
            writer.append_frame(1, bytes([number]) * 5000)
    files = sorted((tmp_path / "d").iterdir())
    files[1].unlink()
    with pytest.raises((MissingEvents, LostAcknowledged), match=rf"{files[0].parent}/0"):
        concat([tmp_path / "d"], tmp_path / "c")


def test_salvage_joins_readable_events_and_reports_losses(tmp_path: Path) -> None:
    offset, size = write_damaged(tmp_path / "a")
    write_stories(tmp_path / "b", [(4, b"last")])
    found = concat([tmp_path / "a", tmp_path / "b"], tmp_path / "c", salvage=True)
    assert [(frame.seq, frame.payload) for frame in frames_of(tmp_path / "c")] == [
        (0, b"x"),
        (2, b"z"),
        (3, b"last"),
    ]
    (loss,) = found.losses
    assert (loss.file, loss.offset, loss.size) == (str(tmp_path / "a"), offset, size)
    assert (loss.first_seq, loss.last_seq, found.lost_events) == (1, 1, 1)
    assert not found.is_whole
    concat([tmp_path / "b", tmp_path / "a"], tmp_path / "e", salvage=True)
    assert [frame.seq for frame in frames_of(tmp_path / "e")] == [0, 1, 3]


def test_a_file_that_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", [(1, b"x")])
    (tmp_path / "b").write_bytes(b"GIF89a" * 100)
    (tmp_path / "empty").mkdir()
    for name in ("b", "empty"):
        with pytest.raises(NotAJournal, match=name):
            concat([tmp_path / "a", tmp_path / name], tmp_path / "c")
    with pytest.raises(FileNotFoundError):
        concat([tmp_path / "a", tmp_path / "nothing"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_source_is_never_the_target(tmp_path: Path) -> None:
    data = write_stories(tmp_path / "a", [(1, b"x")])
    with Writer(tmp_path / "d", roll=RollPolicy()) as writer:
        writer.append_frame(1, b"x")
    for target in ("a", "d", "d/0000000007.journal"):
        with pytest.raises(OptionError):
            concat([tmp_path / "d", tmp_path / "a"], tmp_path / target)
    with pytest.raises(OptionError):
        concat([], tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == data
    assert len(list((tmp_path / "d").iterdir())) == 1


def test_an_unreadable_header_is_reported_as_corrupt(tmp_path: Path) -> None:
    data = bytearray(write_stories(tmp_path / "a", [(1, b"x")]))
    data[30] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(JournalError) as caught:
        concat([tmp_path / "a"], tmp_path / "c")
    assert isinstance(caught.value, CorruptBlock)
