"""A writer whose path no longer leads to its journal acknowledges nothing more."""

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from journal import Reader, StorageError, Writer
from journal.log import CommitPolicy, RollPolicy

ROLLS = pytest.mark.parametrize("roll", [None, RollPolicy(2000)], ids=["file", "directory"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def replace_by_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    rename(path)
    copy.rename(path)


def replace_by_link(path: Path) -> None:
    rename(path)
    path.symlink_to("nothing")


def make_stranger(path: Path) -> None:
    rename(path)
    with Writer(path, roll=RollPolicy(2000)) as stranger:
        stranger.append_frame(9, b"stranger")


LOSSES = pytest.mark.parametrize(
    "lose", [remove, rename, replace_by_copy, replace_by_link, make_stranger]
)


def append(writer: Writer, count: int) -> None:
    for _ in range(count):
        writer.append_frame(1, bytes(100))


def count_events(path: Path) -> int:
    with Reader(path) as reader:
        return len(list(reader.frames()))


@ROLLS
@LOSSES
def test_a_sync_raises_when_the_path_no_longer_leads_to_the_journal(
    path: Path, roll: RollPolicy | None, lose: Callable[[Path], None]
) -> None:
    writer = Writer(path, roll=roll)
    append(writer, 40)
    writer.sync()
    append(writer, 5)
    lose(path)
    reason = "the journal was removed, renamed or replaced: .* number 40 on are not"
    sentence = f"{path}: nothing more is written: {reason}"
    with pytest.raises(StorageError, match=sentence):
        writer.sync()
    assert writer.durable_upto == 40
    for call in (partial(append, writer, 1), writer.flush, writer.sync, writer.close):
        with pytest.raises(StorageError, match="number 40 on are not"):
            call()
    renamed = path.with_name("renamed")
    if renamed.exists():
        assert count_events(renamed) >= 40
    if lose is make_stranger:
        assert count_events(path) == 1  # No segment of the old journal came to the new one.


@LOSSES
def test_an_append_that_commits_raises(path: Path, lose: Callable[[Path], None]) -> None:
    writer = Writer(path, commit=CommitPolicy.EVERY)
    append(writer, 3)
    lose(path)
    with pytest.raises(StorageError, match="number 3 on are not durable"):
        append(writer, 1)
    with pytest.raises(StorageError):
        writer.close()


def test_a_failing_disk_writes_nothing_to_another_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(path, roll=RollPolicy(1 << 20))
    append(writer, 3)
    make_stranger(path)
    before = sorted(path.iterdir())

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(StorageError):
            writer.sync()
    assert sorted(path.iterdir()) == before
    with pytest.raises(StorageError):
        writer.close()


@ROLLS
def test_a_writer_that_knows_the_new_name_goes_on(path: Path, roll: RollPolicy | None) -> None:
    renamed = path.with_name("renamed")
    with Writer(path, roll=roll) as writer:
        append(writer, 5)
        writer.set_path(renamed)
        writer.sync()
        path.rename(renamed)
        append(writer, 40)
        writer.sync()
    assert count_events(renamed) == 45


@ROLLS
def test_a_relative_path_survives_a_change_of_the_directory(
    path: Path, roll: RollPolicy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    with Writer(path.name, roll=roll) as writer:
        append(writer, 5)
        writer.sync()
        monkeypatch.chdir("/")
        for _ in range(8):
            append(writer, 5)
            writer.sync()
    assert count_events(path) == 45
    assert roll is None or len(list(path.iterdir())) > 1


@ROLLS
def test_a_link_to_the_journal_is_its_path(path: Path, roll: RollPolicy | None) -> None:
    Writer(path, roll=roll).close()
    link = path.with_name("link")
    link.symlink_to(path.name)
    with Writer(link) as writer:
        append(writer, 40)
        writer.sync()
    writer = Writer(link)
    append(writer, 1)
    link.unlink()
    for call in (writer.sync, writer.close):
        with pytest.raises(StorageError, match="was removed"):
            call()


def test_a_directory_that_can_no_longer_be_searched_is_no_loss(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with Writer(path) as writer, monkeypatch.context() as patch:
        append(writer, 1)
        patch.setattr(Path, "stat", refuse)
        writer.sync()
        assert writer.durable_upto == 1
