"""Paths of new journals and files, and the replacement of old ones."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

Result = TypeVar("Result")


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


def write_file(
    source: Path, target: Path, write: Callable[[BinaryIO], Result], *, force: bool = False
) -> Result:
    """Write data of a journal to a file, which gets its name when it is complete and durable.

    Raises ``OptionError`` if ``target`` exists. With ``force`` an old file is replaced, unless it
    is the journal, or a journal that is being written.
    """
    from journal import OptionError
    from journal.fs import atomic_file
    from journal.rewrite.block_copier import check_output_path

    if not (force and target.is_file() and not target.is_symlink()):
        check_output_path(target, [source])
    elif target.samefile(source):
        raise OptionError(f"{target} is the exported journal: choose another target")
    else:
        _check_unlocked(target)
    results: list[Result] = []

    def fill(file: BinaryIO) -> None:
        results.append(write(file))
        if not force and os.path.lexists(target):
            raise OptionError(f"{target} already exists")

    atomic_file.replace(target, fill)
    return results[0]


def _check_unlocked(path: Path) -> None:
    """Raise ``JournalLocked`` or ``OptionError`` if a file belongs to a journal that must stay."""
    from journal.log import journal_lock

    with path.open("rb") as file:
        journal_lock.lock(file.fileno(), path)
    journal_lock.check_not_segment(path)


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
    from journal import NotAJournal, OptionError, Reader
    from journal.log import journal_lock

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
    journal_lock.lock(descriptor, path)
    journal_lock.check_not_segment(path)
