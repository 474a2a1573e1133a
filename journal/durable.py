"""The one way a file gets its name or is replaced: whole and durable, or not at all."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_FILE_MODE = 0o600  # a journal holds a guest's memory, and with it secrets

PathLike = str | os.PathLike[str]


def sync_directory(path: PathLike) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: PathLike) -> Path:
    """Name a hidden file that does not exist yet, in the directory of ``path``."""
    target = Path(path)
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def create(path: PathLike) -> int:
    """Open a new file that only its owner may read, refusing one that exists."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE)


def publish(temporary: PathLike, path: PathLike) -> None:
    """Give a synced file its name for good; FileExistsError when the name is taken."""
    os.link(temporary, path, follow_symlinks=False)
    Path(temporary).unlink()
    sync_directory(Path(path).parent)


def replace(path: PathLike, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Put new content in the place of a file, keeping the old when anything goes wrong."""
    target = Path(path)
    temporary = temporary_beside(target)
    try:
        with os.fdopen(create(temporary), "w+b") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(target.parent)
