"""Replacement of a journal by a new one that was written and synced beside it.

After a crash either the old or the new journal is complete. The crash can leave the other journal
under a hidden name; that file can be deleted.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Self

from journal._platform import NO_FOLLOW, OPEN_FLAGS, require_linux
from journal.errors import JournalLocked, NotAJournal, StorageError
from journal.fs import atomic_file, file_kind
from journal.log import journal_lock, segment_files
from journal.log.journal_lock import JournalLock


class InPlaceReplacement:
    """Lock on a journal that is to be replaced by another one. A context manager.

    ``target`` is the path of the journal with links resolved. ``sibling`` is the path for the new
    journal, which is removed at the end unless ``replace`` succeeded. Raises JournalLocked while
    another process writes the journal, NotAJournal if the path is not a journal, and OptionError
    for a directory that contains other files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        require_linux("writing a journal")
        self.target = Path(os.path.realpath(path))
        self.sibling = atomic_file.make_temporary_path(self.target)
        self._segment_lock: JournalLock | None = None
        descriptor, self._old = file_kind.open_source(self.target, NotAJournal, directory=True)
        self._lock = JournalLock(descriptor)
        try:
            self._acquire_locks()
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and self._lock.is_open:  # A forked child removes nothing.
                self._clean_up(has_failed=issubclass(kind, StorageError))
        finally:
            self._unlock()

    @property
    def is_directory(self) -> bool:
        """Return whether the journal is a directory; its replacement must be a directory too."""
        return stat.S_ISDIR(self._old.st_mode)

    def make_output_path(self) -> Path:
        """Return the path for the new journal's file. In a directory it is the only segment."""
        if not self.is_directory:
            return self.sibling
        self.sibling.mkdir(mode=stat.S_IRWXU)
        return self.sibling / segment_files.segment_name(0)

    def replace(self) -> None:
        """Move the synced new journal to ``target``, with the owner and mode of the old one.

        Raises StorageError, which reports whether the old or the new journal is in place.
        """
        status = self.sibling.stat()
        try:
            segment_files.copy_ownership(self.sibling, self._old)
            atomic_file.move_into_place(self.sibling, self.target)
        except OSError as error:
            is_in_place = segment_files.is_same_file(self.target, status)
            what = (
                "was replaced, but a power cut may undo it" if is_in_place else "cannot be replaced"
            )
            raise StorageError(
                f"{self.target} {what}: {error.strerror or error}", 0, str(self.target)
            ) from error
        if self.is_directory:
            segment_files.remove_journal(self.sibling)  # This is the old journal.

    def _acquire_locks(self) -> None:
        """Take the writer's lock of the journal, in a directory also that of its last segment."""
        self._lock.acquire(self.target)
        if not segment_files.is_same_file(self.target, self._old):
            raise JournalLocked(f"{self.target} is being replaced already", str(self.target))
        segment_files.check_only_segments(self.target)
        if not self.is_directory:
            journal_lock.check_not_segment(self.target)
        elif names := segment_files.list_segments(self._lock.descriptor):
            with suppress(OSError):  # A reader reports a link or an unreadable file.
                flags = OPEN_FLAGS | NO_FOLLOW
                segment = os.open(names[-1], flags, dir_fd=self._lock.descriptor)
                self._segment_lock = JournalLock(segment)
            if self._segment_lock is not None:
                self._segment_lock.acquire(self.target)

    def _unlock(self) -> None:
        if self._segment_lock is not None:
            self._segment_lock.release()
        self._lock.release()

    def _clean_up(self, *, has_failed: bool) -> None:
        """Remove the sibling, except an old directory that a power cut may bring back."""
        if segment_files.is_same_file(self.sibling, self._old):
            if has_failed:
                return
            atomic_file.sync_directory(self.sibling.parent)
        segment_files.remove_journal(self.sibling)
