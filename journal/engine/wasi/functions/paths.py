"""Path functions. Each path is relative to an open directory and cannot leave it."""

from collections.abc import Iterator
from contextlib import contextmanager

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext, is_utf8
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.descriptors import (
    CLOSE_ON_EXEC,
    Descriptor,
    GuestDirectory,
    GuestFile,
    InputStream,
    OpenDirectory,
    OpenFile,
    OutputStream,
    file_rights,
)
from journal.events.wire_types import encode_path
from journal.vfs.open_request import OpenRequest
from journal.vfs.times import make_time_update
from journal.wasi_abi import (
    SYMLINK_FOLLOW,
    SYNC_FLAGS,
    Errno,
    FileStat,
    OpenFlags,
    Rights,
    WasiError,
)

# Operations on enum flags take longer than all other steps of an open.
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)
_CHANGES = _CREATE | _EXCLUSIVE | _TRUNCATE
_SYNC_FLAGS = int(SYNC_FLAGS)
_FD_WRITE = int(Rights.FD_WRITE)


def path_open(
    context: CallContext,
    dirfd: int,
    lookup: int,
    pointer: int,
    size: int,
    oflags: int,
    rights: int,
    inheriting: int,
    fdflags: int,
    result: int,
) -> None:
    """Open a file or a directory; create the file if the flags request it."""
    path_open2(
        context, dirfd, lookup, pointer, size, oflags, rights, inheriting, fdflags, 0, result
    )


def path_open2(
    context: CallContext,
    dirfd: int,
    lookup: int,
    pointer: int,
    size: int,
    oflags: int,
    rights: int,
    inheriting: int,
    fdflags: int,
    fd_flags: int,
    result: int,
) -> None:
    """Open a path, as ``path_open``, with flags of the descriptor itself.

    Unknown flags of the descriptor are ignored.
    """
    read_path = context.read_new_path if oflags & _CREATE else context.read_path
    path = read_path(pointer, size)
    directory = _base_directory(context.descriptors.get(dirfd))
    context.memory.check(result, 4)
    request = OpenRequest(
        fd=context.descriptors.next_fd(),
        dirfd=dirfd,
        lookup=lookup,
        flags=oflags,
        fdflags=fdflags,
        rights=rights,
        inheriting=inheriting,
        path=path,
        fd_flags=fd_flags & CLOSE_ON_EXEC,
    )
    with _finding(path):
        open_path(context, directory, request)
    context.memory.write_u32(result, request.fd)


@contextmanager
def _finding(path: str) -> Iterator[None]:
    """Raise ``ILSEQ`` instead of ``NOENT`` for a path that is not UTF-8, as wasmtime does.

    Only a host directory or a copied directory has such names: a guest cannot create them.
    """
    try:
        yield
    except WasiError as error:
        if error.errno == Errno.NOENT and not is_utf8(path):
            raise WasiError(Errno.ILSEQ) from error
        raise


def open_path(context: CallContext, directory: GuestDirectory, request: OpenRequest) -> None:
    """Open a path and add it to the descriptor table under the number in ``request``."""
    _check_open_request(request, directory)
    descriptor = _make_descriptor(request, directory.open(request))
    fd = context.descriptors.add(descriptor, fd_flags=request.fd_flags)
    assert fd == request.fd


def _base_directory(descriptor: Descriptor) -> GuestDirectory:
    if isinstance(descriptor, (OpenFile, ByteChannel)):
        raise WasiError(Errno.NOTDIR)
    if isinstance(descriptor, (InputStream, OutputStream)):
        raise WasiError(Errno.BADF)
    return descriptor.directory


def _check_open_request(request: OpenRequest, directory: GuestDirectory) -> None:
    if not directory.writable and request.is_writable:
        raise WasiError(Errno.PERM)
    if request.fdflags & _SYNC_FLAGS:
        raise WasiError(Errno.NOTSUP)
    if request.flags & _DIRECTORY and request.flags & _CHANGES:
        raise WasiError(Errno.INVAL)


def _make_descriptor(request: OpenRequest, target: GuestFile | GuestDirectory) -> Descriptor:
    if isinstance(target, GuestDirectory):
        return OpenDirectory(target)
    # TRUNCATE alone opens the file for writing but does not add the right to write.
    has_write_right = bool(request.rights & _FD_WRITE or request.flags & _CREATE)
    return OpenFile(
        target,
        is_readable=request.is_readable,
        is_writable=request.is_writable,
        rights=file_rights(is_readable=request.is_readable, is_writable=has_write_right),
        flags=request.fdflags,
    )


def path_create_directory(context: CallContext, fd: int, pointer: int, size: int) -> None:
    """Create a directory."""
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_new_path(pointer, size)
    check_writable(directory)
    directory.create_directory(fd, path)


def path_remove_directory(context: CallContext, fd: int, pointer: int, size: int) -> None:
    """Remove an empty directory."""
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_path(pointer, size)
    check_writable(directory)
    with _finding(path):
        directory.remove_directory(fd, path)


def path_unlink_file(context: CallContext, fd: int, pointer: int, size: int) -> None:
    """Unlink a file or a symbolic link."""
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_path(pointer, size)
    check_writable(directory)
    with _finding(path):
        directory.unlink(fd, path)


def path_filestat_get(
    context: CallContext, fd: int, lookup: int, pointer: int, size: int, result: int
) -> None:
    """Write the attributes of the file at a path."""
    context.memory.write(result, read_filestat_at(context, fd, lookup, pointer, size).pack())


def read_filestat_at(
    context: CallContext, fd: int, lookup: int, pointer: int, size: int
) -> FileStat:
    """Return the attributes of the file at a path."""
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_path(pointer, size)
    with _finding(path):
        return directory.stat_at(fd, path, follow=bool(lookup & SYMLINK_FOLLOW))


def path_filestat_set_times(
    context: CallContext,
    fd: int,
    lookup: int,
    pointer: int,
    size: int,
    atime: int,
    mtime: int,
    flags: int,
) -> None:
    """Set the access and modification times of the file at a path."""
    times = make_time_update(atime, mtime, flags)
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_path(pointer, size)
    check_writable(directory)
    with _finding(path):
        directory.set_times_at(fd, path, lookup, times)


def path_link(
    context: CallContext,
    old_fd: int,
    lookup: int,
    old_pointer: int,
    old_size: int,
    new_fd: int,
    new_pointer: int,
    new_size: int,
) -> None:
    """Create a hard link."""
    old, new = context.descriptors.get_directory(old_fd), context.descriptors.get_directory(new_fd)
    old_path = context.read_path(old_pointer, old_size)
    new_path = context.read_new_path(new_pointer, new_size)
    check_writable(old.directory, new.directory)
    with _finding(old_path):
        old.directory.link(old_fd, lookup, old_path, new.directory, new_fd, new_path)


def path_rename(
    context: CallContext,
    old_fd: int,
    old_pointer: int,
    old_size: int,
    new_fd: int,
    new_pointer: int,
    new_size: int,
) -> None:
    """Rename a file or a directory."""
    old, new = context.descriptors.get_directory(old_fd), context.descriptors.get_directory(new_fd)
    old_path = context.read_path(old_pointer, old_size)
    new_path = context.read_new_path(new_pointer, new_size)
    check_writable(old.directory, new.directory)
    with _finding(old_path):
        old.directory.rename(old_fd, old_path, new.directory, new_fd, new_path)


def path_symlink(
    context: CallContext, old_pointer: int, old_size: int, fd: int, new_pointer: int, new_size: int
) -> None:
    """Create a symbolic link."""
    directory = context.descriptors.get_directory(fd).directory
    target = context.read_new_path(old_pointer, old_size)
    path = context.read_new_path(new_pointer, new_size)
    check_writable(directory)
    directory.symlink(fd, target, path)


def path_readlink(
    context: CallContext,
    fd: int,
    pointer: int,
    size: int,
    buffer: int,
    buffer_size: int,
    result: int,
) -> None:
    """Write the target of a symbolic link, truncated to the size of the buffer."""
    directory = context.descriptors.get_directory(fd).directory
    path = context.read_path(pointer, size)
    with _finding(path):
        target = encode_path(directory.read_link(fd, path))[:buffer_size]
    context.memory.write(buffer, target)
    context.memory.write_u32(result, len(target))


def check_writable(*directories: GuestDirectory) -> None:
    """Raise ``WasiError`` with ``PERM`` unless all directories are in writable mounts."""
    if not all(directory.writable for directory in directories):
        raise WasiError(Errno.PERM)


FUNCTIONS: dict[str, tuple[str, Handler]] = {"path_open2": ("iiiiilliii", path_open2)}
"""Parameter types and handler of each function of WASIX in this module."""
