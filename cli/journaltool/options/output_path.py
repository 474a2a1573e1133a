"""Where a new journal goes, and how it takes the place of an old one."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def prepare_output(path: Path, force: bool) -> Iterator[Path]:
    """Where to record a journal that is to stand at ``path``; it does, when the block ends.

    With ``force`` the old one stays whole until the new one takes its name.
    """
    from journal import OptionError

    if not path.parent.is_dir():
        raise OptionError(f"{path.parent} is not a directory, so {path.name} cannot be made there")
    if not os.path.lexists(path):
        yield path
        return
    if not force:
        raise OptionError(f"{path} exists already: resume it, or replace it with --force")
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
    """Hold the lock of the old journal, which its writer has as long as it runs."""
    from journal import JournalLocked, NotAJournal, OptionError, Reader

    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise OptionError(f"{path} is a directory, so --force does not replace it: move it away")
    if stat.S_ISREG(found.st_mode) and found.st_size:
        try:
            Reader(path).close()
        except NotAJournal:
            raise OptionError(f"{path} is not a journal, so --force does not replace it") from None
    elif not stat.S_ISREG(found.st_mode):
        raise OptionError(f"{path} is not a regular file, so --force does not replace it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalLocked(f"{path} is being written by another process") from None
