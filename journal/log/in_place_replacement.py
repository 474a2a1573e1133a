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
from journal.log import segment_files as segments


class Exchange:
    """One journal in the place of another, which nobody writes meanwhile. A context manager.

    ``target`` is the journal that is at ``path``, through links; ``beside`` is where another is to
    be written. It is gone in the end, if ``put`` does not let it take the place. Raises
    JournalLocked while another process writes the journal, NotAJournal where there is something
    else, and OptionError for a directory that has something else in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.target = Path(os.path.realpath(path))
        self.beside = durable.temporary_beside(self.target)
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
                self._clear(has_failed=issubclass(kind, StorageError))
        finally:
            os.close(self._descriptor)

    @property
    def is_directory(self) -> bool:
        """Whether the journal is a directory: what takes its place must be one too."""
        return stat.S_ISDIR(self._old.st_mode)

    def file(self) -> Path:
        """Where to write the one file that takes the place: a directory's only segment, if so."""
        if not self.is_directory:
            return self.beside
        self.beside.mkdir(mode=stat.S_IRWXU)
        return self.beside / segments.name_of(0)

    def put(self) -> None:
        """Let what stands beside, synced, be the journal, for whoever had the old one.

        Raises StorageError that says which of them is there.
        """
        known = self.beside.stat()
        try:
            segments.dress(self.beside, self._old)
            durable.take_place(self.beside, self.target)
        except OSError as error:
            placed = segments.is_at(self.target, known)
            what = "is replaced, but a power cut may undo that" if placed else "cannot be replaced"
            raise StorageError(f"{self.target} {what}: {error.strerror or error}", 0) from error
        if self.is_directory:
            segments.remove(self.beside)  # the old one

    def _lock(self) -> None:
        """Be the one who writes it."""
        if not stat.S_ISREG(self._old.st_mode) and not self.is_directory:
            raise NotAJournal(f"{self.target} is not a regular file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalLocked(f"{self.target} is being written by another process") from None
        if not segments.is_at(self.target, self._old):
            raise JournalLocked(f"{self.target} is being replaced by another process")
        segments.check_alone(self.target)

    def _clear(self, *, has_failed: bool) -> None:
        """Leave nothing beside, but for an old directory that a power cut may bring back."""
        if segments.is_at(self.beside, self._old):
            if has_failed:
                return
            durable.sync_directory(self.beside.parent)
        segments.remove(self.beside)
