"""Rules for the kinds of files that a path can lead to: links, directories and special files.

| kind | as a source | as a new target | as a target that may be replaced |
|---|---|---|---|
| nothing | error of the system | created | created |
| regular file | read | refused | replaced |
| link | followed | refused | followed: the link stays |
| link to nothing | error of the system | refused | created where the link leads |
| directory | read only if it can be a journal | refused | refused |
| FIFO, socket, device | refused, without waiting | refused | refused |

Two kinds of files differ: a page index and a file of the cache. They can be made again, nobody
names them, and links to them are not followed. See ``atomic_file.replace``.
"""

import errno
import os
import stat
from pathlib import Path

from journal._platform import OPEN_FLAGS
from journal.errors import JournalError, OptionError

PathLike = str | os.PathLike[str]

_NAMES = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def describe_kind(mode: int) -> str:
    """Return the name of the kind of a file with this mode, such as ``a directory``."""
    return _NAMES.get(stat.S_IFMT(mode), "a special file")


def open_source(
    path: PathLike, error: type[JournalError], *, directory: bool = False, flags: int = OPEN_FLAGS
) -> tuple[int, os.stat_result]:
    """Open a regular file, or with ``directory`` also a directory, and return its status too.

    Other kinds raise ``error``. The open does not wait for the other end of a FIFO.
    """
    try:
        descriptor = os.open(path, flags)
    except OSError as cause:
        if cause.errno != errno.ENXIO:
            raise
        raise error(_describe_wrong(path, Path(path).stat().st_mode, directory)) from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or (directory and stat.S_ISDIR(status.st_mode)):
        return descriptor, status
    os.close(descriptor)
    raise error(_describe_wrong(path, status.st_mode, directory))


def check_absent(path: PathLike) -> None:
    """Raise OptionError if the name of a new file is taken, also by a link to nothing."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISREG(mode):
        raise OptionError(f"{os.fspath(path)} already exists")
    reason = f"{os.fspath(path)} already exists: it is {describe_kind(mode)}"
    if stat.S_ISLNK(mode):
        reason += f" to {Path(path).readlink()}"
        reason += "" if Path(path).exists() else ", where nothing is"
    raise OptionError(reason)


def find_replaceable(path: PathLike) -> Path:
    """Return the file that a replacement of ``path`` replaces or creates: links are followed.

    Raises OptionError unless it is a regular file or does not exist.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (the path may be bytes)
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        reason = "is a symbolic link that leads to itself, so it is not replaced"
        raise OptionError(f"{os.fspath(path)} {reason}") from None
    if not stat.S_ISREG(mode):
        kind = describe_kind(mode)
        raise OptionError(
            f"{os.fspath(path)} is {kind}, which is not replaced: choose another path"
        )
    return Path(os.path.realpath(path))


def _describe_wrong(path: PathLike, mode: int, directory: bool) -> str:
    kind = describe_kind(mode)
    if directory:
        return f"{os.fspath(path)} is {kind}: it is neither a regular file nor a directory"
    return f"{os.fspath(path)} is {kind}: it is not a regular file"
