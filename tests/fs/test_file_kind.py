"""Each kind of file is read, replaced or refused by one rule, and no open waits for a FIFO."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import journal
from journal.errors import NotAJournal, OptionError
from journal.fs import atomic_file, file_kind
from journal.pages.index_store import get_index_path
from journal.pages.page_index import PageIndex
from tests.support.file_kinds import SPECIAL, make_special
from tests.support.numbered_journals import write_numbered


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_is_no_source_and_no_target(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "special"
    before = make_special(path, kind)
    for attempt in (
        lambda: file_kind.open_source(path, OptionError),
        lambda: file_kind.check_absent(path),
        lambda: file_kind.find_replaceable(path),
    ):
        with pytest.raises(OptionError, match=f"special (is|already exists: it is) a {kind}"):
            attempt()
    with pytest.raises(FileExistsError, match="not replaced"):
        atomic_file.replace(path, b"content")
    with pytest.raises(NotAJournal, match=f"is a {kind}"):
        journal.Writer(path)
    with pytest.raises(NotAJournal, match=f"is a {kind}"):
        journal.Reader(path)
    with pytest.raises(NotAJournal, match=f"is a {kind}"):
        journal.compact_in_place(path)
    assert os.path.samestat(path.lstat(), before)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_to_what_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("far/real")
    (tmp_path / "other").symlink_to("link")
    assert file_kind.find_replaceable(tmp_path / "other") == tmp_path / "far" / "real"
    descriptor, status = file_kind.open_source(tmp_path / "other", OptionError)
    os.close(descriptor)
    assert status.st_size == 3
    with pytest.raises(OptionError, match=r"already exists: it is a symbolic link to link$"):
        file_kind.check_absent(tmp_path / "other")


def test_a_link_to_nothing_is_created_where_it_leads_only_if_it_may_be_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert file_kind.find_replaceable(tmp_path / "link") == tmp_path / "nowhere"
    with pytest.raises(OptionError, match="a symbolic link to nowhere, where nothing is"):
        file_kind.check_absent(tmp_path / "link")
    with pytest.raises(OptionError, match="a symbolic link to nowhere, where nothing is"):
        journal.Writer(tmp_path / "link")
    assert [entry.name for entry in tmp_path.iterdir()] == ["link"]


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OptionError, match="leads to itself"):
        file_kind.find_replaceable(tmp_path / "loop")


def test_a_directory_is_read_only_where_it_can_be_a_journal(tmp_path: Path) -> None:
    descriptor, status = file_kind.open_source(tmp_path, OptionError, directory=True)
    os.close(descriptor)
    assert stat.S_ISDIR(status.st_mode)
    with pytest.raises(OptionError, match="is a directory: it is not a regular file"):
        file_kind.open_source(tmp_path, OptionError)
    with pytest.raises(FileExistsError):
        atomic_file.replace(tmp_path, b"content")


@pytest.mark.parametrize("kind", SPECIAL)
def test_an_index_never_replaces_a_special_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "j"
    write_numbered(path, 3)
    before = make_special(get_index_path(path), kind)
    with PageIndex(path) as index:
        index.open()
        assert not index.save()
    assert os.path.samestat(get_index_path(path).lstat(), before)


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "n" * 240])
def test_a_file_with_the_longest_name_can_be_replaced(name: str, tmp_path: Path) -> None:
    atomic_file.replace(tmp_path / name, b"old")
    atomic_file.replace(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1
    with journal.Writer(tmp_path / name[:-1]) as writer:
        writer.append(journal.events.core.ProcessExit(exit_code=3))
