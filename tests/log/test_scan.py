"""Consumers of a scan: policies for damage, and the order of what a scan finds."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from journal import Reader, Writer
from journal.errors import CorruptBlock
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from tests.support.numbered_journals import damage_block


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Return a journal of five events in as many blocks, the third of them damaged."""
    path = tmp_path / "a.journal"
    with Writer(path) as writer:
        for number in range(5):
            writer.append_frame(200, bytes([number]))
            writer.flush()
        path.with_suffix(".live").write_bytes(path.read_bytes())
    path.with_suffix(".live").rename(path)  # Closing would state that all blocks are durable.
    damage_block(path, 2, 0xFF)
    return path


def seqs_until_the_error(path: Path, **handlers: object) -> tuple[list[int], str]:
    found: list[int] = []
    with closing(SegmentFiles(path)) as files:
        items = scan.scan_files(files.sources(files.names()), scan.select_all)
        try:
            for scanned in scan.take_blocks(items, **handlers):  # type: ignore[arg-type]
                found.append(scanned.first_seq)
                assert scanned.next_seq == scanned.first_seq + 1
                assert list(scanned.block().seqs) == [scanned.first_seq]
        except CorruptBlock as error:
            return found, error.reason
    return found, ""


def test_damage_raises_its_error_after_the_blocks_before_it(damaged: Path) -> None:
    found, reason = seqs_until_the_error(damaged)
    assert found == [0, 1]
    assert reason == "the hash of the block's body does not match"


def test_damage_can_be_collected_and_the_blocks_after_it_read(damaged: Path) -> None:
    losses: list[scan.Damage] = []
    assert seqs_until_the_error(damaged, on_damage=losses.append) == ([0, 1, 3, 4], "")
    assert [(loss.first_seq, loss.last_seq) for loss in losses] == [(2, 2)]


def test_a_scan_ends_where_a_handler_returns_true(damaged: Path) -> None:
    assert seqs_until_the_error(damaged, on_damage=lambda _: True) == ([0, 1], "")
    assert seqs_until_the_error(damaged, on_segment=lambda _: True) == ([], "")


def test_handlers_are_called_in_the_order_of_the_file(damaged: Path) -> None:
    with Reader(damaged) as reader:
        tail = reader.tail
    os.truncate(damaged, tail - 1)
    calls: list[str] = []
    found, _ = seqs_until_the_error(
        damaged,
        on_segment=lambda _: calls.append("segment"),
        on_damage=lambda _: calls.append("damage"),
        on_tail=lambda tail: calls.append(f"tail {tail.torn_size > 0}"),
    )
    assert found == [0, 1, 3]
    assert calls == ["segment", "damage", "tail True"]
