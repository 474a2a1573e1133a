"""In place: a new journal is whole and durable beside the old one, and then is it.

Whatever crash comes, there is the old one or the new one; what a crash leaves beside it is hidden,
and of no use.
"""

import fcntl
import os
import stat
from pathlib import Path
from typing import Self

from journal.errors import JournalLocked, NotAJournal, StorageError
from journal.fs import atomic_file as durable
from journal.log import segment_files


class InPlaceReplacement:
    """One journal in the place of another, which nobody writes meanwhile. A context manager.

    ``target`` is the journal that is at ``path``, through links; ``sibling`` is where another is to
    be written. It is gone in the end, if ``replace`` does not let it take the place. Raises
    JournalLocked while another process writes the journal, NotAJournal where there is something
    else, and OptionError for a directory that has something else in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.target = Path(os.path.realpath(path))
        self.sibling = durable.make_temporary_path(self.target)
        self._descriptor = os.open(self.target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._old = os.fstat(self._descriptor)
            self._lock()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._clean_up(has_failed=issubclass(kind, StorageError))
        finally:
            os.close(self._descriptor)

    @property
    def is_directory(self) -> bool:
        """Whether the journal is a directory: what takes its place must be one too."""
        return stat.S_ISDIR(self._old.st_mode)

    def make_output_path(self) -> Path:
        """Where to write the one file that takes the place: a directory's only segment, if so."""
        if not self.is_directory:
            return self.sibling
        self.sibling.mkdir(mode=stat.S_IRWXU)
        return self.sibling / segment_files.segment_name(0)

    def replace(self) -> None:
        """Let what stands beside, synced, be the journal, for whoever had the old one.

        Raises StorageError that says which of them is there.
        """
        known = self.sibling.stat()
        try:
            segment_files.copy_ownership(self.sibling, self._old)
            durable.move_into_place(self.sibling, self.target)
        except OSError as error:
            placed = segment_files.is_same_file(self.target, known)
            what = "is replaced, but a power cut may undo that" if placed else "cannot be replaced"
            raise StorageError(f"{self.target} {what}: {error.strerror or error}", 0) from error
        if self.is_directory:
            segment_files.remove_journal(self.sibling)  # the old one

    def _lock(self) -> None:
        """Be the one who writes it."""
        if not stat.S_ISREG(self._old.st_mode) and not self.is_directory:
            raise NotAJournal(f"{self.target} is not a regular file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalLocked(f"{self.target} is being written by another process") from None
        if not segment_files.is_same_file(self.target, self._old):
            raise JournalLocked(f"{self.target} is being replaced by another process")
        segment_files.check_only_segments(self.target)

    def _clean_up(self, *, has_failed: bool) -> None:
        """Leave nothing beside, but for an old directory that a power cut may bring back."""
        if segment_files.is_same_file(self.sibling, self._old):
            if has_failed:
                return
            durable.sync_directory(self.sibling.parent)
        segment_files.remove_journal(self.sibling)
