"""The end of a running writer, at which a journal is forked without a scan."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from journal.errors import StorageError
from journal.log import RollPolicy, Writer
from journal.log.commit_policy import CommitPolicy
from journal.log.fork_end import find_end
from journal.log.fork_search import ForkPlace, find_fork_place
from journal.operations.fork import fork, open_fork
from tests.support.sealed_journals import KEY

TAG = 200


def describe(place: ForkPlace | None) -> Any:
    """Return what a place says, with the identities of its open files."""
    assert place is not None
    point = place.point
    assert point is not None
    files = [(name, os.fstat(file.descriptor).st_ino) for name, file in point.files.items()]
    link = (point.header, point.link, point.shift, point.next_seq, point.time, point.is_durable)
    return place._replace(point=None), files, link


def append(writer: Writer, count: int, size: int = 40) -> int:
    """Append events, and return the sequence number of the last one."""
    return [writer.append_frame(TAG, os.urandom(size)) for _ in range(count)][-1]


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 16)], ids=["file", "directory"])
def test_the_end_of_a_writer_is_the_place_that_a_scan_finds(
    roll: RollPolicy | None, tmp_path: Path
) -> None:
    path = tmp_path / "parent"
    with Writer(path, roll=roll) as writer:
        for count in (1, 300, 2, 5000):
            seq = append(writer, count)
            assert describe(find_end(writer, seq)) == describe(
                find_fork_place(path, seq, durable=False)
            )
            assert find_end(writer, seq - 1) is find_end(writer, seq + 1) is None
            writer.sync()
    assert find_end(writer, seq) is None, "the writer is closed"
    with Writer(path, roll=roll) as writer:
        assert find_end(writer, seq) is None, "this writer has written no block"
        seq = append(writer, 3)
        assert describe(find_end(writer, seq)) == describe(
            find_fork_place(path, seq, durable=False)
        )


def test_the_end_of_a_child_has_the_files_of_its_parent(tmp_path: Path) -> None:
    with Writer(tmp_path / "parent") as writer:
        seq = append(writer, 10)
    fork(tmp_path / "parent", tmp_path / "child", at=seq - 3)
    with Writer(tmp_path / "child") as writer:
        seq = append(writer, 5)
        place = find_end(writer, seq)
        found = find_fork_place(writer.path, seq, durable=False)
        assert describe(place) == describe(found)
        assert place is not None
        assert len(describe(place)[1]) == 2
        with open_fork(place, tmp_path / "grandchild", CommitPolicy.NONE, reseed=False) as child:
            child.publish()
            assert child.next_seq == seq + 2


def test_a_journal_that_another_one_has_replaced_is_scanned(tmp_path: Path) -> None:
    path = tmp_path / "parent"
    with Writer(path) as writer:
        seq = append(writer, 4)
        writer.flush()
        shutil.copy(path, tmp_path / "other")
        os.link(path, tmp_path / "own")
        (tmp_path / "other").replace(path)
        assert find_end(writer, seq) is None
        (tmp_path / "own").replace(path)
        assert find_end(writer, seq) is not None


def test_a_sealed_journal_is_scanned(tmp_path: Path) -> None:
    with Writer(tmp_path / "sealed", key=KEY) as writer:
        assert find_end(writer, append(writer, 4)) is None


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 16)], ids=["file", "directory"])
def test_blocks_that_a_failed_disk_may_have_lost_are_no_end(
    roll: RollPolicy | None, tmp_path: Path
) -> None:
    path = tmp_path / "parent"
    with Writer(path, roll=roll) as writer:
        append(writer, 3)
        writer.sync()
        seq = append(writer, 4)
        writer.flush()
        before = find_end(writer, seq)
        writer._pending.appender._fail_over(OSError(errno.EIO, "the disk fails"))
        assert before is not None
        assert before.point is not None
        assert find_end(writer, seq) is None, "the block was written again in another place"
        found = find_fork_place(path, seq, durable=False)
        assert found.point is not None
        assert found.point.link != before.point.link
        seq = append(writer, 1)
        assert describe(find_end(writer, seq)) == describe(
            find_fork_place(path, seq, durable=False)
        )


def test_a_child_learns_of_a_failed_sync_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reports the error to the files that were open then, and to no other."""
    with Writer(tmp_path / "parent") as writer:
        place = find_end(writer, append(writer, 4))
        assert place is not None
        assert place.point is not None
        (shared,) = place.point.files.values()
        sync = os.fdatasync

        def fail_if_open_then(descriptor: int) -> None:
            if descriptor == shared.descriptor:
                raise OSError(errno.EIO, "the disk fails")
            sync(descriptor)

        monkeypatch.setattr(os, "fdatasync", fail_if_open_then)
        child = open_fork(place, tmp_path / "child", CommitPolicy.EXPLICIT, reseed=False)
        child.publish()
        with pytest.raises(StorageError, match="the files of a fork cannot be synced"):
            child.sync()
        with pytest.raises(StorageError):
            child.close()
