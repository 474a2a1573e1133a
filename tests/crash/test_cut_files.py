"""Every file cut at every byte: the whole blocks are read, appended to, and read again."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from journal.errors import JournalError
from journal.log import RecoveryMode
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.forged_journals import GIVEN_UP, directories, lay, shapes
from tests.support.plain_reader import SEGMENT_SIZE, Reading, Row, reading
from tests.support.reader_oracle import apply_mode, expected, outcome

NEW = (200, b"behind the cut")
SHAPES = shapes()
DIRECTORIES = directories()
STRIDE = 13
"""Stride of the cuts that are appended to when time is short."""


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip real syncs: this file does not test them."""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def whole_blocks(whole: Reading, size: int) -> list[Row]:
    """Return the events of the blocks that a cut leaves whole, by their offsets alone."""
    return [row for block in whole.blocks if block.end <= size for row in block.rows]


def cuts(data: bytes, stride: int = 1, start: int = SEGMENT_SIZE) -> list[int]:
    """Return the sizes of cut files: every ``stride``-th, and all at the edges of blocks."""
    edges = {at for block in reading(data).blocks for at in (block.start, block.end)}
    return [
        size
        for size in range(start, len(data) + 1)
        if size % stride == 0 or edges & {size - 1, size, size + 1}
    ]


@pytest.mark.deep
@pytest.mark.parametrize("name", SHAPES)
def test_every_cut_reads_as_the_blocks_that_are_whole(
    path: Path, name: str, budget: Budget
) -> None:
    data = SHAPES[name]
    whole = reading(data)
    for size in budget.spend(cuts(data), 50):
        cut = data[:size]
        path.write_bytes(cut)
        found = reading(cut)
        told = [row for row in found.rows if row.tag != GIVEN_UP]
        assert told == whole_blocks(whole, size), size
        for mode in RecoveryMode:
            assert outcome(path, mode) == apply_mode(found, mode), (size, mode)
        with Reader(path) as reader:
            summary = reader.summary()
        assert (summary.tail, summary.torn_size) == (found.tail, found.torn_size), size
        passed = sorted(piece[1:] for piece in (*found.debris, *found.torn))
        last = [(found.tail, found.torn_size)] if found.torn_size else []
        assert passed == sorted([piece[:2] for piece in summary.debris] + last), size


@pytest.mark.deep
@pytest.mark.parametrize("name", SHAPES)
def test_a_writer_continues_after_every_cut(path: Path, name: str, budget: Budget) -> None:
    data = SHAPES[name]
    for size in budget.spend(cuts(data), 50):
        cut = data[:size]
        path.write_bytes(cut)
        before = reading(cut)
        with Writer(path) as writer:
            assert writer.next_seq == before.next_seq, size
            assert writer.append_frame(*NEW) == before.next_seq, size
        after = path.read_bytes()
        assert after.startswith(cut.rstrip(b"\0")), size
        found = reading(after)
        assert found.rows[:-1] == before.rows, size
        assert found.rows[-1][:3] == (before.next_seq, *NEW), size
        assert not found.damage, size
        for mode in RecoveryMode:
            assert outcome(path, mode) == apply_mode(found, mode), (size, mode)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["plain", "debris", "concatenated"])
def test_a_writer_opens_a_cut_file_if_its_mode_allows_what_is_wrong(
    path: Path, name: str, budget: Budget
) -> None:
    for size in budget.spend(cuts(SHAPES[name], 7), 50):
        cut = SHAPES[name][:size]
        found = reading(cut)
        allowed = {
            RecoveryMode.STRICT: not found.torn_size and not found.damage,
            RecoveryMode.TOLERATE_TAIL: not found.damage,
            # No cut of the last bytes removes a byte that a later block records as durable.
            RecoveryMode.POINT_IN_TIME: True,
        }
        for mode, opens in allowed.items():
            path.write_bytes(cut)
            if opens:
                Writer(path, mode=mode).close()
            else:
                with pytest.raises(JournalError):
                    Writer(path, mode=mode)
                assert path.read_bytes() == cut, (size, mode)


@pytest.mark.parametrize("size", range(0, SEGMENT_SIZE, 3))
def test_a_cut_inside_the_first_header_is_no_journal_and_begun_anew(path: Path, size: int) -> None:
    path.write_bytes(SHAPES["plain"][:size])
    for mode in RecoveryMode:
        assert outcome(path, mode) == ([], True)
    with Writer(path) as writer:
        assert writer.append_frame(*NEW) == 0
    assert [row[:3] for row in reading(path.read_bytes()).rows] == [(0, *NEW)]


@pytest.mark.parametrize("name", DIRECTORIES)
def test_cuts_of_every_segment_file_read_as_the_format_says(path: Path, name: str) -> None:
    for index, data in enumerate(DIRECTORIES[name]):
        check_segment_cuts(path, DIRECTORIES[name], index, cuts(data, STRIDE, 0))


@pytest.mark.deep
@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_cut_of_every_segment_file_reads_as_the_format_says(
    path: Path, name: str, budget: Budget
) -> None:
    for index, data in enumerate(DIRECTORIES[name]):
        check_segment_cuts(path, DIRECTORIES[name], index, budget.spend(cuts(data, 1, 0), 30))


def check_segment_cuts(path: Path, whole: list[bytes], index: int, sizes: Iterable[int]) -> None:
    """Cut one segment file of a journal to each of ``sizes``, and compare all recovery modes."""
    data = whole[index]
    for size in sizes:
        if size == len(data):
            continue
        files = [*whole[:index], data[:size], *whole[index + 1 :]]
        lay(path, files)
        for mode, wanted in expected(files).items():
            assert outcome(path, mode) == wanted, (index, size, mode)


@pytest.mark.parametrize("name", ["rolled", "failed_over"])
def test_a_writer_goes_on_behind_every_cut_of_the_last_segment(path: Path, name: str) -> None:
    whole = DIRECTORIES[name]
    for size in cuts(whole[-1], 3):
        for file in path.iterdir() if path.exists() else ():
            file.unlink()
        files = [*whole[:-1], whole[-1][:size]]
        lay(path, files)
        before = reading(*files)
        with Writer(path) as writer:
            assert writer.append_frame(*NEW) == before.next_seq, size
        after = [file.read_bytes() for file in sorted(path.iterdir())]
        for old, new in zip(files, after, strict=False):
            assert new.startswith(old.rstrip(b"\0")), size
        found = reading(*after)
        assert found.rows[:-1] == before.rows, size
        assert found.rows[-1][:3] == (before.next_seq, *NEW), size
        assert outcome(path, RecoveryMode.STRICT) == (found.rows, False), size


def test_a_writer_refuses_a_journal_that_a_cut_took_acknowledged_events_from(path: Path) -> None:
    whole = DIRECTORIES["rolled"]
    for index in (0, 1):
        for size in cuts(whole[index], 29):
            cut = whole[index][:size]
            files = [*whole[:index], cut, *whole[index + 1 :]]
            lay(path, files)
            if size < len(whole[index]):
                with pytest.raises(JournalError):
                    Writer(path)
                assert [file.read_bytes() for file in sorted(path.iterdir())] == files
