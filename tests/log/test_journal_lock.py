"""One lock per journal: no other name of its files leads past the writer."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal import JournalLocked, OptionError, Reader, Writer, compact_in_place
from journal.log import RollPolicy
from journal.log.in_place_replacement import InPlaceReplacement
from tests.support.command_line import run_inside

ROLL = RollPolicy(2000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    """A writer of a directory with several segments."""
    with Writer(path, roll=ROLL) as writer:
        for number in range(50):
            writer.append_frame(1, b"%d" % number + bytes(100))
            writer.sync()
        assert len(segments(path)) > 2
        yield writer


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.journal"))


def check_writer_loses_nothing(writer: Writer) -> None:
    for _ in range(50):
        writer.append_frame(1, bytes(100))
    writer.close()
    with Reader(writer.path) as reader:
        assert len(list(reader.frames())) == 100


def open_writer(path: Path) -> None:
    Writer(path).close()


def replace(path: Path) -> None:
    with InPlaceReplacement(path):
        pass


@pytest.mark.parametrize("use", [open_writer, replace, compact_in_place])
def test_a_segment_is_not_a_journal_of_its_own(
    path: Path, writer: Writer, use: Callable[[Path], object]
) -> None:
    for segment in segments(path)[:-1]:
        with pytest.raises(OptionError, match=f"is a segment of the journal {path}"):
            use(segment)
    with pytest.raises(JournalLocked, match="is being written"):
        use(segments(path)[-1])
    check_writer_loses_nothing(writer)
    for segment in segments(path):
        with pytest.raises(OptionError, match="open the directory instead"):
            use(segment)


@pytest.mark.parametrize("use", [open_writer, replace])
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_another_name_of_the_last_segment_leads_to_the_lock(
    path: Path,
    writer: Writer,
    use: Callable[[Path], object],
    link: Callable[[Path, Path], None],
) -> None:
    other = path.parent / "other.journal"
    link(segments(path)[-1], other)
    with pytest.raises(JournalLocked, match="is being written"):
        use(other)
    check_writer_loses_nothing(writer)


@pytest.mark.parametrize("use", [open_writer, replace])
def test_a_copy_with_hard_links_leads_to_the_lock(
    path: Path, writer: Writer, use: Callable[[Path], object]
) -> None:
    copy = path.parent / "copy"
    shutil.copytree(path, copy, copy_function=os.link)
    with pytest.raises(JournalLocked, match=f"{copy} is being written"):
        use(copy)
    check_writer_loses_nothing(writer)


def test_a_writer_of_a_linked_segment_locks_the_directory(path: Path, writer: Writer) -> None:
    writer.close()
    other = path.parent / "other.journal"
    os.link(segments(path)[-1], other)
    with Writer(other):
        for use in (open_writer, replace):
            with pytest.raises(JournalLocked, match=f"{path} is being written"):
                use(path)
    open_writer(path)


@pytest.mark.parametrize("use", [open_writer, replace])
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_another_name_of_a_file_leads_to_the_lock(
    path: Path, use: Callable[[Path], object], link: Callable[[Path, Path], None]
) -> None:
    with Writer(path):
        link(path, path.parent / "other")
        with pytest.raises(JournalLocked, match="is being written"):
            use(path.parent / "other")


@pytest.mark.parametrize("roll", [None, ROLL])
def test_no_journal_is_created_as_a_segment(
    path: Path, writer: Writer, roll: RollPolicy | None
) -> None:
    with pytest.raises(OptionError, match="is a segment of the journal"):
        Writer(path / "0000000099.journal", roll=roll)
    check_writer_loses_nothing(writer)


def test_a_forced_output_replaces_no_journal_that_is_being_written(
    path: Path, writer: Writer, tmp_path: Path
) -> None:
    with Writer(tmp_path / "source") as source:
        source.append_frame(1, b"x")
    segment = f"log/{segments(path)[-1].name}"
    for command in (["export", "source"], ["filter", "source"], ["compact", "source"]):
        done = run_inside(*command, "--force", "-o", segment, at=tmp_path)
        assert (done.returncode, done.stdout) == (7, b"")
        assert b"is being written by this process" in done.stderr
    check_writer_loses_nothing(writer)
