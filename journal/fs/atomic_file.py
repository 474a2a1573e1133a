"""The one way a file gets its name or is replaced: whole and durable, or not at all."""

import ctypes
import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_FILE_MODE = 0o600  # a journal holds a guest's memory, and with it secrets

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

PathLike = str | os.PathLike[str]


def sync_directory(path: PathLike) -> None:
    """Make the names in a directory durable."""
    _sync(path, os.O_DIRECTORY)


def sync_file(path: PathLike) -> None:
    """Make what a file has durable; one that is a link is refused."""
    _sync(path, os.O_NOFOLLOW)


def _sync(path: PathLike, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_temporary_path(path: PathLike) -> Path:
    """Name a hidden file that does not exist yet, in the directory of ``path``."""
    target = Path(path)
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")


def create_private(path: PathLike) -> int:
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
    temporary = make_temporary_path(target)
    try:
        with os.fdopen(create_private(temporary), "w+b") as file:
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


def move_into_place(beside: PathLike, path: PathLike) -> None:
    """Let what stands ``beside``, synced, have the name of a file or a directory, for good.

    The old file is gone; an old directory has the other name then. Where it raises, the name may
    lead to the new one, and a power cut may undo that.
    """
    if Path(path).is_dir():
        _exchange(os.fsencode(beside), os.fsencode(path))
    else:
        Path(beside).replace(path)
    sync_directory(Path(path).parent)


def _exchange(one: bytes, other: bytes) -> None:
    """Let two directories change their names, at once."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, "this system cannot exchange directories") from None
    if call(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        reason = "its file system cannot exchange directories"
        raise OSError(code, reason if code in _CANNOT_EXCHANGE else os.strerror(code))
