"""A full disk: what a writer has accepted always fits, from the first event on."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from journal.errors import StorageError
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer
from tests.rigs import needs, volumes
from tests.support.failing_calls import fail

KINDS = {"file": None, "directory": RollPolicy(1 << 20)}
SIZE = 1 << 21


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with volumes.mounted_in_memory(tmp_path / "disk", SIZE) as disk:
        yield disk


def fill(path: Path) -> None:
    """Write a file that takes all the space that is left."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def begin(path: Path, roll: RollPolicy | None) -> None:
    with Writer(path, roll=roll) as writer:
        writer.append_frame(1, b"first")


def snapshot(path: Path) -> dict[str, bytes]:
    """Return the contents of all files below a directory by name."""
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@needs.mark(needs.why_no_tmpfs())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("continues", [False, True], ids=["created", "continued"])
def test_events_accepted_before_the_first_block_fit_when_the_disk_fills_up(
    small_disk: Path, kind: str, continues: bool
) -> None:
    path = small_disk / "log"
    if continues:
        begin(path, KINDS[kind])
    with Writer(path, roll=KINDS[kind]) as writer:
        for number in range(10):
            writer.append_frame(1, b"%d" % number + bytes(2000))
        fill(small_disk / "other")
        with suppress(StorageError):
            for _ in range(100):
                writer.append_frame(1, os.urandom(2000))
        accepted = writer.next_seq
    assert accepted >= 10 + continues
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.frames()] == list(range(accepted))


@needs.mark(needs.why_no_tmpfs())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("continues", [False, True], ids=["created", "continued"])
def test_a_full_file_system_refuses_to_open_a_journal_and_is_left_as_it_was(
    small_disk: Path, kind: str, continues: bool
) -> None:
    path = small_disk / "log"
    if continues:
        begin(path, KINDS[kind])
    other = small_disk / "other"
    fill(other)
    os.truncate(other, other.stat().st_size - (1 << 14))  # A header fits, a reserve does not.
    before = snapshot(small_disk)
    with pytest.raises(StorageError, match="no space left to write"):
        Writer(path, roll=KINDS[kind])
    assert snapshot(small_disk) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("continues", [False, True], ids=["created", "continued"])
def test_a_journal_without_a_reserve_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, code: int, continues: bool
) -> None:
    path = tmp_path / "log"
    if continues:
        begin(path, KINDS[kind])
    before, names = snapshot(tmp_path), sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail(code))
        with pytest.raises(StorageError, match=f"{path}: no space left to write") as caught:
            Writer(path, roll=KINDS[kind])
    assert caught.value.first_seq_lost == int(continues)
    assert (snapshot(tmp_path), sorted(tmp_path.rglob("*"))) == (before, names)
    with Writer(path, roll=KINDS[kind]) as writer:
        assert writer.append_frame(1, b"there is room again") == int(continues)


def test_an_interrupted_creation_that_finds_no_space_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fail(errno.ENOSPC))
        with pytest.raises(StorageError, match="no space left to write"):
            Writer(path)
    with Reader(path) as reader:
        assert list(reader.frames()) == []
    begin(path, None)


def test_a_disk_without_preallocation_opens_a_journal_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", fail(errno.EOPNOTSUPP))
    begin(tmp_path / "log", None)
    begin(tmp_path / "log", None)


def test_an_allocation_that_fails_in_part_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    begin(path, None)
    size = path.stat().st_size

    def allocate_half(descriptor: int, offset: int, length: int) -> None:
        os.ftruncate(descriptor, offset + length // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", allocate_half)
    with pytest.raises(StorageError, match="no space left to write"):
        Writer(path)
    assert path.stat().st_size == size
