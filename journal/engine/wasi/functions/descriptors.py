"""Descriptor functions: attributes, renumbering, and listing of directories."""

import struct

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import (
    DESCRIPTORS_MAX,
    InputStream,
    OpenDirectory,
    OpenFile,
    OutputStream,
    pack_fdstat,
    read_filestat,
)
from journal.engine.wasi.functions.duplicates import duplicate
from journal.events import codec
from journal.events.descriptors import (
    CloseFileDescriptor,
    FileDescriptorAdvise,
    FileDescriptorSetFlags,
    RenumberFileDescriptor,
)
from journal.events.paths import FileType
from journal.events.wire_types import encode_path
from journal.vfs.times import make_time_update
from journal.wasi_abi import (
    DIRENT,
    SYNC_FLAGS,
    DirectoryEntry,
    Errno,
    WasiError,
)

_SIZE_MAX = (1 << 63) - 1
_PRESTAT = struct.Struct("<BxxxI")
_pack_advise = codec.make_packer(FileDescriptorAdvise)
_pack_close = codec.make_packer(CloseFileDescriptor)
_pack_flags = codec.make_packer(FileDescriptorSetFlags)
_pack_renumber = codec.make_packer(RenumberFileDescriptor)


def fd_advise(context: CallContext, fd: int, offset: int, size: int, advice: int) -> None:
    """Record how the guest intends to use a file. The advice has no other effect."""
    context.descriptors.get_file(fd, Errno.SPIPE)
    if size > _SIZE_MAX:
        raise WasiError(Errno.INVAL)
    effect = _pack_advise(fd, offset, size, advice)
    context.tape.record_effect(FileDescriptorAdvise.tag, effect)


def fd_allocate(context: CallContext, fd: int, offset: int, size: int) -> int:
    """Refuse with ``NOTSUP``: space cannot be reserved."""
    context.descriptors.get_file(fd, Errno.SPIPE)
    return Errno.NOTSUP


def fd_close(context: CallContext, fd: int) -> None:
    """Close a descriptor."""
    context.descriptors.get(fd)
    context.tape.record_effect(CloseFileDescriptor.tag, _pack_close(fd))
    context.descriptors.close(fd)


def fd_sync(context: CallContext, fd: int) -> None:
    """Synchronize the data and metadata of a file to disk."""
    context.descriptors.get_file(fd, Errno.INVAL).file.sync(fd, data_only=False)


def fd_datasync(context: CallContext, fd: int) -> None:
    """Synchronize the data of a file to disk."""
    context.descriptors.get_file(fd, Errno.INVAL).file.sync(fd, data_only=True)


def fd_fdstat_get(context: CallContext, fd: int, result: int) -> None:
    """Write the type, flags and rights of a descriptor."""
    context.memory.write(result, pack_fdstat(context.descriptors.get(fd)))


def fd_fdstat_set_flags(context: CallContext, fd: int, flags: int) -> None:
    """Set the append flag of a file, or the flags of a channel.

    A guest of WASIX sets those of a standard stream, too.
    """
    descriptor = context.descriptors.get(fd)
    has_stream_flags = context.descriptors.is_lowest_first
    if isinstance(descriptor, (InputStream, OutputStream)) and not has_stream_flags:
        raise WasiError(Errno.BADF)
    if isinstance(descriptor, OpenDirectory):
        raise WasiError(Errno.BADF)
    if flags & SYNC_FLAGS:
        raise WasiError(Errno.INVAL)
    context.tape.record_effect(FileDescriptorSetFlags.tag, _pack_flags(fd, flags))
    descriptor.flags = flags


def fd_fdstat_set_rights(context: CallContext, fd: int, base: int, inheriting: int) -> int:
    """Refuse with ``NOTSUP``: the mount determines the rights, and a guest cannot drop them."""
    if not isinstance(context.descriptors.get(fd), (OpenFile, OpenDirectory)):
        return Errno.BADF
    return Errno.NOTSUP


def fd_filestat_get(context: CallContext, fd: int, result: int) -> None:
    """Write the attributes of an open descriptor."""
    context.memory.write(result, read_filestat(fd, context.descriptors.get(fd)).pack())


def fd_filestat_set_size(context: CallContext, fd: int, size: int) -> None:
    """Truncate a file, or extend it with zeros."""
    descriptor = context.descriptors.get_file(fd, Errno.INVAL)
    if not descriptor.file.writable:
        raise WasiError(Errno.PERM)
    if size > _SIZE_MAX or not descriptor.is_writable:
        raise WasiError(Errno.INVAL)
    descriptor.file.set_size(fd, size)


def fd_filestat_set_times(
    context: CallContext, fd: int, atime: int, mtime: int, flags: int
) -> None:
    """Set the access and modification times of an open file or directory."""
    times = make_time_update(atime, mtime, flags)
    descriptor = context.descriptors.get(fd)
    if not isinstance(descriptor, (OpenFile, OpenDirectory)):
        raise WasiError(Errno.BADF)
    target = descriptor.file if isinstance(descriptor, OpenFile) else descriptor.directory
    if not target.writable:
        raise WasiError(Errno.PERM)
    target.set_times(fd, times)


def fd_prestat_get(context: CallContext, fd: int, result: int) -> int:
    """Write the length of the name of a preopened directory."""
    descriptor = context.descriptors.get(fd)
    if not isinstance(descriptor, OpenDirectory) or descriptor.preopen is None:
        return Errno.BADF
    context.memory.write(result, _PRESTAT.pack(0, len(encode_path(descriptor.preopen))))
    return 0


def fd_prestat_dir_name(context: CallContext, fd: int, pointer: int, size: int) -> int:
    """Write the name of a preopened directory."""
    descriptor = context.descriptors.get(fd)
    if not isinstance(descriptor, OpenDirectory) or descriptor.preopen is None:
        return Errno.NOTDIR
    name = encode_path(descriptor.preopen)
    if len(name) > size:
        return Errno.NAMETOOLONG
    context.memory.write(pointer, name)
    return 0


def fd_renumber(context: CallContext, old: int, new: int) -> None:
    """Move descriptor ``old`` to the number ``new``, and close the previous descriptor there.

    For a guest of WASIX, ``old`` stays open and ``new`` may be free, because its library implements
    dup2 so.
    """
    if context.descriptors.is_lowest_first:
        _copy_to(context, old, new)
        return
    context.descriptors.get(new)
    renumber(context, old, new)


def _copy_to(context: CallContext, old: int, new: int) -> None:
    """Make ``new`` another descriptor of the object of ``old``, without flags of its own."""
    context.descriptors.get(old)
    if old == new:
        return
    if new >= DESCRIPTORS_MAX:
        raise WasiError(Errno.BADF)
    if new in context.descriptors.used:
        fd_close(context, new)
    duplicate(context, old, new)


def renumber(context: CallContext, old: int, new: int) -> None:
    """Move descriptor ``old`` to the number ``new``, which may be free."""
    context.descriptors.get(old)
    context.tape.record_effect(RenumberFileDescriptor.tag, _pack_renumber(old, new))
    context.descriptors.renumber(old, new)


def fd_readdir(
    context: CallContext, fd: int, pointer: int, size: int, cookie: int, result: int
) -> None:
    """Write the directory entries from ``cookie`` on.

    The buffer receives as many entries as fit. The last entry may be cut off.
    """
    descriptor = context.descriptors.get_directory(fd)
    if cookie == 0 or not descriptor.listing:
        descriptor.listing = _read_listing(fd, descriptor)
    parts: list[bytes] = []
    space_left = size
    for index in range(cookie, len(descriptor.listing)):
        if space_left <= 0:
            break
        name, inode, filetype = descriptor.listing[index]
        encoded = encode_path(name)
        entry = DIRENT.pack(index + 1, inode, len(encoded), filetype) + encoded
        parts.append(entry[:space_left])
        space_left -= len(entry)
    data = b"".join(parts)
    context.memory.write(pointer, data)
    context.memory.write_u32(result, len(data))


def _read_listing(fd: int, descriptor: OpenDirectory) -> list[DirectoryEntry]:
    inode = descriptor.directory.stat(fd).inode
    dots = [DirectoryEntry(name, inode, FileType.DIRECTORY) for name in (".", "..")]
    return dots + descriptor.directory.entries(fd)
