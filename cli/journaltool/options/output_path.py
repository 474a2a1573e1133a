"""Paths of new journals, and the replacement of old journals."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def prepare_output(path: Path, force: bool) -> Iterator[Path]:
    """Yield the path to write a new journal to. It is named ``path`` when the block ends.

    Raises ``OptionError`` if ``path`` exists. With ``force``, the old journal keeps its name until
    the block ends without an exception.
    """
    from journal import OptionError

    if not path.parent.is_dir():
        raise OptionError(f"cannot create {path.name}: {path.parent} is not a directory")
    if not os.path.lexists(path):
        yield path
        return
    if not force:
        raise OptionError(f"{path} already exists: resume it, or replace it with --force")
    old = os.open(path, os.O_RDONLY)
    try:
        _check_replaceable(path, old)
        yield from _replace_at_end(path)
    finally:
        os.close(old)


def _replace_at_end(path: Path) -> Iterator[Path]:
    from journal.fs import atomic_file

    new = atomic_file.make_temporary_path(path)
    yield new
    new.replace(path)
    atomic_file.sync_directory(path.parent)


def _check_replaceable(path: Path, descriptor: int) -> None:
    """Lock the old journal, or raise ``OptionError`` or ``JournalLocked`` if it must stay.

    A writer holds this lock as long as it runs.
    """
    import fcntl  # Windows has no such module, and reads journals.

    from journal import JournalLocked, NotAJournal, OptionError, Reader

    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise OptionError(f"{path} is a directory, which --force does not replace: move it away")
    if stat.S_ISREG(found.st_mode) and found.st_size:
        try:
            Reader(path).close()
        except NotAJournal:
            raise OptionError(
                f"{path} is not a journal, so --force does not replace it: choose another path"
            ) from None
    elif not stat.S_ISREG(found.st_mode):
        raise OptionError(f"{path} is not a regular file, so --force does not replace it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalLocked(f"{path} is being written by another process") from None
