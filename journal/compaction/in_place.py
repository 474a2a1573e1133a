"""Compaction in place: the new journal is whole and durable beside the old one, and then is it."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journal import durable, segments
from journal.appender import Roll
from journal.commit import Commit
from journal.compaction.compacting import Compaction, Planning
from journal.compaction.policy import Policy
from journal.compaction.writing import Nobody
from journal.errors import JournalLocked, NotAJournal, StorageError
from journal.mending import Progress, nobody
from journal.reader import Reader
from journal.writer import Writer


def compact_in_place(
    path: str | os.PathLike[str],
    *,
    policy: Policy = Policy(),  # noqa: B008 - it is a value
    progress: Progress | None = None,
    dry_run: bool = False,
) -> Compaction:
    """Put in the place of a journal what its states are made of; see ``compact``.

    Whatever crash comes, there is the old one or the new one; what a crash leaves beside it is
    hidden, and of no use. Where nothing goes, nothing is written. Raises JournalLocked while
    another process writes the journal.

    A ``Reader`` that has a file open goes on with the old one. One that reads a directory finds
    its segments by their names: it raises NotAJournal, and is to be opened again.
    """
    target = Path(os.path.realpath(path))
    with _locked(target) as old, Reader(target) as reader:
        planning = Planning(reader, policy, progress or nobody)
        if dry_run:
            return planning.carried_out(Nobody, target.parent)
        beside = durable.temporary_beside(target)
        roll = Roll() if stat.S_ISDIR(old.st_mode) else None

        def begin() -> Writer:
            journal_id = reader.journal_id
            return Writer(
                beside, publish=False, journal_id=journal_id, commit=Commit.NONE, roll=roll
            )

        try:
            found = planning.carried_out(begin, target.parent, even_needless=False)
            if not found.is_needless:
                _put(beside, target, old)
        except BaseException as error:
            _clear(beside, old, has_failed=isinstance(error, StorageError))
            raise
        return found


@contextmanager
def _locked(path: Path) -> Iterator[os.stat_result]:
    """Be the one who writes a journal; gives what is known of it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise NotAJournal(f"{path} is not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalLocked(f"{path} is being written by another process") from None
        if not segments.is_at(path, found):
            raise JournalLocked(f"{path} is being replaced by another process")
        segments.check_alone(path)
        yield found
    finally:
        os.close(descriptor)


def _put(beside: Path, target: Path, old: os.stat_result) -> None:
    """Let what stands beside take the name of a journal."""
    known = beside.stat()
    try:
        segments.dress(beside, old)
        durable.take_place(beside, target)
    except OSError as error:
        placed = segments.is_at(target, known)
        what = "is replaced, but a power cut may undo that" if placed else "cannot be replaced"
        raise StorageError(f"{target} {what}: {error.strerror or error}", 0) from error
    if stat.S_ISDIR(old.st_mode):
        segments.remove(beside)  # the old one


def _clear(beside: Path, old: os.stat_result, *, has_failed: bool) -> None:
    """Leave nothing beside a journal, but for an old directory that a power cut may bring back."""
    if segments.is_at(beside, old):
        if has_failed:
            return
        durable.sync_directory(beside.parent)
    segments.remove(beside)
