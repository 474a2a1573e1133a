"""Paused sessions: a journal as bytes, with everything that its resume needs."""

import shutil
from pathlib import Path

from journal.compaction import compact
from journal.engine.interactive.journal_place import make_folder
from journal.errors import JournalExists, StorageError, TornBlock
from journal.log.reader import Reader


def pack_journal(path: Path) -> bytes:
    """Return a closed journal as the bytes of one file.

    Events before the newest snapshot that no later state needs are left out.
    """
    folder = make_folder()
    try:
        packed = folder / "paused.journal"
        compact(path, packed)
        return packed.read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack_journal(data: bytes, path: Path) -> None:
    """Write the bytes of a paused session to the new file ``path``."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise JournalExists(f"{path} already exists", str(path)) from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror}", 0, str(path)) from error


def check_complete(path: Path) -> None:
    """Raise ``TornBlock`` if bytes are missing at the end of a journal that was complete.

    A resume accepts such an end, because it is normal after a crash.
    """
    with Reader(path) as reader:
        summary = reader.summary()
    if summary.torn_size:
        raise TornBlock("the bytes of the paused session are cut short", summary.tail)
