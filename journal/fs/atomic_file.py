"""Atomic and durable creation and replacement of files."""

import ctypes
import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from journal._platform import HAS_DIRECTORY_DESCRIPTORS, NO_FOLLOW, OPEN_FLAGS

FILE_MODE = 0o600  # A journal holds the memory of a guest, and with it secrets.

_NAME_SIZE_MAX = 255
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows translates line ends without it.

PathLike = str | os.PathLike[str]


def sync_directory(path: PathLike) -> None:
    """Make the entries of a directory durable, where the system can open a directory."""
    if HAS_DIRECTORY_DESCRIPTORS:
        _sync(path, os.O_DIRECTORY)


def sync_file(path: PathLike) -> None:
    """Make the contents of a file durable. Refuse a symbolic link."""
    _sync(path, NO_FOLLOW)


def _sync(path: PathLike, flags: int) -> None:
    descriptor = os.open(path, OPEN_FLAGS | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_temporary_path(path: PathLike) -> Path:
    """Return the path of a new hidden file in the directory of ``path``.

    Its name begins with the name of ``path``, cut if the result would be too long for a file.
    """
    target = Path(path)
    end = f".{secrets.token_hex(6)}.tmp"
    name = os.fsdecode(os.fsencode(target.name)[: _NAME_SIZE_MAX - len(end) - 1])
    return target.with_name(f".{name}{end}")


def create_private(path: PathLike) -> int:
    """Create a file that only its owner may read, and return its descriptor.

    Raises FileExistsError if ``path`` exists.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, FILE_MODE)


def publish(temporary: PathLike, path: PathLike) -> None:
    """Link a synced temporary file to ``path`` durably. Raises FileExistsError if it exists."""
    os.link(temporary, path, follow_symlinks=False)
    Path(temporary).unlink()
    sync_directory(Path(path).parent)


def replace(path: PathLike, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace the content of a file atomically and durably. Any failure keeps the old content.

    ``content`` is the new content, or a function that writes it to the given file. A link is
    replaced by the file, not followed. Raises FileExistsError for a directory or a special file.

    > Why not for a device? A rename would take the name of the device, for all programs.
    """
    target = Path(path)
    check_replaceable(target)
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


def check_replaceable(path: PathLike) -> None:
    """Raise FileExistsError unless ``path`` is a regular file or a link, or does not exist."""
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            reason = "not a regular file, so it is not replaced"
            raise FileExistsError(errno.EEXIST, reason, os.fspath(path))


def move_into_place(replacement: PathLike, path: PathLike) -> None:
    """Rename ``replacement``, a synced sibling file or directory, to ``path`` durably.

    An old file is deleted; an old directory takes the name ``replacement``. After an exception,
    ``path`` may already refer to the new file, and a power cut may undo the rename.
    """
    if Path(path).is_dir():
        _exchange(os.fsencode(replacement), os.fsencode(path))
    else:
        Path(replacement).replace(path)
    sync_directory(Path(path).parent)


def _exchange(first: bytes, second: bytes) -> None:
    """Exchange the names of two directories atomically."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, "the C library cannot exchange directories") from None
    if call(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        reason = "the file system cannot exchange directories"
        raise OSError(code, reason if code in _CANNOT_EXCHANGE else os.strerror(code))
