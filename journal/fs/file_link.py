"""Hard links to open files, or copies of their beginnings where no link is possible."""

import errno
import os

from journal.fs.atomic_file import FILE_MODE

_NO_LINK = (
    errno.EXDEV,  # another file system
    errno.EMLINK,  # the file has as many names as the file system allows
    errno.EPERM,  # the file system has no hard links, or the user does not own the file
    errno.EACCES,
    errno.ENOENT,  # the file was removed, or there is no /proc
    errno.EOPNOTSUPP,
    errno.ENOSYS,
)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_COPY_SIZE = 1 << 20


def link_or_copy(
    descriptor: int, name: str, directory: int, size: int, *, durable: bool = True
) -> bool:
    """Give an open file the name ``name`` in the open directory, and return True.

    Where no hard link is possible, write its first ``size`` bytes to a new file of that name, and
    return False; with ``durable``, sync that file. Raises OSError.
    """
    try:
        # With a descriptor of a directory, the system follows the link in /proc to the file.
        os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(descriptor, name, directory, size, durable=durable)
        return False
    return True


def _copy(source: int, name: str, directory: int, size: int, *, durable: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(name, flags, FILE_MODE, dir_fd=directory)
    try:
        copied = 0
        while copied < size:
            count = _copy_range(source, target, copied, size - copied)
            if not count:
                raise OSError(errno.EIO, f"the file ends after {copied} of {size} bytes")
            copied += count
        if durable:
            os.fdatasync(target)
    finally:
        os.close(target)


def _copy_range(source: int, target: int, offset: int, size: int) -> int:
    """Copy a part of a file to the same offset of another one; return the size of that part."""
    try:
        return os.copy_file_range(source, target, size, offset, offset)
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
    return os.pwrite(target, os.pread(source, min(size, _COPY_SIZE), offset), offset)
