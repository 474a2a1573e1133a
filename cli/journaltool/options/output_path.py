"""Paths of new journals and files, and the replacement of old ones."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

Result = TypeVar("Result")

_NUMBER_MAX = 100_000


def create_numbered(path: Path, create: Callable[[Path], Result]) -> tuple[Path, Result]:
    """Create a journal at ``path``, or at the first of ``NAME-2.journal``, ... that is free.

    Return its path, and the result of ``create``. A creation that raises ``JournalExists`` is
    repeated with the next name, so that two processes never use the same.
    """
    from journal import JournalExists

    for number in range(1, _NUMBER_MAX):
        name = path.name if number == 1 else f"{path.stem}-{number}{path.suffix}"
        candidate = path.with_name(name)
        if not os.path.lexists(candidate):
            with suppress(JournalExists):
                return candidate, create(candidate)
    raise JournalExists(f"{path} and {_NUMBER_MAX} more names exist: name a journal with -j")


@contextmanager
def prepare_output(path: Path, force: bool) -> Iterator[Path]:
    """Yield the path to write a new journal to. It is named ``path`` when the block ends.

    Raises ``JournalExists`` if ``path`` exists. With ``force``, the old journal keeps its name
    until the block ends without an exception. A link stays: what it leads to is replaced.
    """
    from journal import JournalExists, OptionError
    from journal.fs import file_kind

    if not path.parent.is_dir():
        raise OptionError(f"cannot create {path.name}: {path.parent} is not a directory")
    if not os.path.lexists(path):
        yield path
        return
    if not force:
        if path.is_file():
            remedy = "resume it, or replace it with --force"
            raise JournalExists(f"{path} already exists: {remedy}", str(path))
        if path.is_dir():
            remedy = "resume it, or choose another path"
            raise JournalExists(f"{path} already exists: {remedy}", str(path))
        file_kind.check_absent(path)
    target = file_kind.find_replaceable(path)
    if not target.exists():  # A link to nothing: the journal is created where the link leads.
        yield target
        return
    old, status = file_kind.open_source(target, OptionError)
    try:
        _check_replaceable(path, old, status)
        yield from _replace_at_end(target)
    finally:
        os.close(old)


def write_file(
    source: Path, target: Path, write: Callable[[BinaryIO], Result], *, force: bool = False
) -> Result:
    """Write data of a journal to a file, which gets its name when it is complete and durable.

    Raises ``OptionError`` if ``target`` exists. With ``force`` an old file is replaced, and a link
    to it stays, unless it is a journal.
    """
    from journal.fs import atomic_file, file_kind
    from journal.rewrite.block_copier import check_output_path

    if force and os.path.lexists(target):
        _check_no_journal(target)
        target = file_kind.find_replaceable(target)
    else:
        check_output_path(target, [source])
    results: list[Result] = []

    def fill(file: BinaryIO) -> None:
        results.append(write(file))
        if not force:
            file_kind.check_absent(target)

    atomic_file.replace(target, fill)
    return results[0]


def _check_no_journal(path: Path) -> None:
    """Raise ``JournalLocked`` or ``OptionError`` if a file belongs to a journal, which must stay.

    The file may also not exist.
    """
    from journal import OptionError
    from journal.format.segment_header import SEGMENT_MAGIC
    from journal.fs import file_kind
    from journal.log import journal_lock

    if not file_kind.find_replaceable(path).exists():
        journal_lock.check_not_segment(path)
        return
    descriptor, _ = file_kind.open_source(path, OptionError)
    with open(descriptor, "rb") as file:  # noqa: PTH123 (this is a descriptor)
        journal_lock.lock(file.fileno(), path)
        journal_lock.check_not_segment(path)
        if file.read(len(SEGMENT_MAGIC)) == SEGMENT_MAGIC:
            raise OptionError(f"{path} is a journal, which this command does not replace")


def _replace_at_end(path: Path) -> Iterator[Path]:
    from journal.fs import atomic_file

    new = atomic_file.make_temporary_path(path)
    yield new
    new.replace(path)
    atomic_file.sync_directory(path.parent)


def _check_replaceable(path: Path, descriptor: int, status: os.stat_result) -> None:
    """Lock the old journal, or raise ``OptionError`` or ``JournalLocked`` if it must stay.

    A writer holds this lock as long as it runs.
    """
    from journal import NotAJournal, OptionError, Reader
    from journal.log import journal_lock

    if status.st_size:
        try:
            Reader(path).close()
        except NotAJournal:
            raise OptionError(
                f"{path} is not a journal, so --force does not replace it: choose another path"
            ) from None
    journal_lock.lock(descriptor, path)
    journal_lock.check_not_segment(path)
