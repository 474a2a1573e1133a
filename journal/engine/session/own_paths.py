"""Paths of this library's files that a guest does not reach through its mounts."""

from pathlib import Path

from journal.engine.program.user_cache import resolve_cache
from journal.engine.snapshot.memory_image import IMAGES_NAME
from journal.engine.trust.approvals import Approvals
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.fs import user_key


def find_own_files(journal: Path, cache: Path | None, approvals: Path | None = None) -> OwnFiles:
    """Return the journal, and the caches, keys and approvals in use and those of the user.

    A guest that could write approvals would grant other journals what it wants.
    """
    paths = [Approvals(approvals).directory, Approvals().directory]
    for modules in {resolve_cache(cache), resolve_cache(None)}:
        paths += [modules, modules.parent / IMAGES_NAME, modules.parent / user_key.NAME]
    own = OwnFiles(paths)
    own.add_journal(journal)
    return own
