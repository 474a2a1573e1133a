"""The generation file: one file in a mount of its own, which tells a guest its generation."""

from typing import Any, TypeVar

from journal.events.paths import FilePlaced, FileType
from journal.vfs.backend import FileBackend

D = TypeVar("D")

GENERATION_MOUNT = "/run/journal"
"""Path of the mount in the guest."""

GENERATION_NAME = "generation"
"""Name of the file in its mount."""

GENERATION_FILE_SIZE = 33
"""Size of the file: 32 digits and a newline."""


def format_generation(generation: bytes) -> bytes:
    """Return the content of the file."""
    return f"{generation.hex()}\n".encode()


def make_generation_file(generation: bytes) -> FilePlaced:
    """Return the event that puts the file in its place."""
    return FilePlaced(
        kind=FileType.REGULAR_FILE,
        path=f"{GENERATION_MOUNT}/{GENERATION_NAME}",
        offset=0,
        data=format_generation(generation),
    )


def is_generation_file(event: FilePlaced, mount: str) -> bool:
    """Return whether an event puts such a file in its place in ``mount``."""
    return (
        event.kind is FileType.REGULAR_FILE
        and event.path == f"{mount}/{GENERATION_NAME}"
        and not event.offset
        and len(event.data) == GENERATION_FILE_SIZE
    )


def write_generation(backend: FileBackend[D, Any], generation: bytes) -> None:
    """Replace the content of the file in its mount, if it is there."""
    root = backend.root()
    node = backend.find(root, GENERATION_NAME)
    if node is None or node.filetype is not FileType.REGULAR_FILE:
        return
    file = backend.open_file(root, GENERATION_NAME)
    try:
        file.write(-1, 0, format_generation(generation))
    finally:
        file.close()
