"""Files that a process opens before its program starts, as its parent requested."""

from collections.abc import Sequence

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import OpenFile
from journal.engine.wasi.functions.descriptors import fd_close
from journal.engine.wasi.functions.duplicates import duplicate
from journal.engine.wasi.functions.paths import open_path
from journal.events import codec
from journal.events.descriptors import FileDescriptorSeek, Whence
from journal.events.process import Mount
from journal.events.processes import StartFile
from journal.vfs.open_request import OpenRequest
from journal.vfs.path_resolution import find_mount
from journal.wasi_abi import Errno, ProcExit, WasiError

_pack_seek = codec.make_late_packer(FileDescriptorSeek)

NOT_STARTED = 127
"""Exit code of a process that cannot open a file which it should have from its start."""


def open_start_files(context: CallContext, mounts: Sequence[Mount]) -> None:
    """Open the files of a new process, and make the duplicates of these.

    Raises ``ProcExit`` if a file cannot be opened: the parent learns it as an exit code, as from a
    shell.
    """
    processes = context.processes
    try:
        for file in processes.start_files:
            _open(context, mounts, file)
        for copy in processes.start_copies:
            _make_free(context, copy.fd)
            duplicate(context, copy.source, copy.fd)
    except WasiError as error:
        raise ProcExit(NOT_STARTED) from error


def _open(context: CallContext, mounts: Sequence[Mount], file: StartFile) -> None:
    found = find_mount([mount.guest for mount in mounts], file.path)
    if found is None:
        raise WasiError(Errno.NOENT)
    guest, names = found
    dirfd = next(mount.fd for mount in mounts if mount.guest == guest)
    _make_free(context, file.fd)
    request = OpenRequest(
        file.fd,
        dirfd,
        file.dirflags,
        file.o_flags,
        file.fs_flags,
        file.rights,
        file.rights,
        "/".join(names) or ".",
    )
    context.descriptors.reserve(file.fd)
    open_path(context, context.descriptors.get_directory(dirfd).directory, request)
    opened = context.descriptors.get(file.fd)
    if file.position and isinstance(opened, OpenFile):
        payload = _pack_seek(file.fd, file.position, Whence.SET)
        context.tape.record_effect(FileDescriptorSeek.tag, payload)
        opened.position = file.position


def _make_free(context: CallContext, fd: int) -> None:
    if fd in context.descriptors.used:
        fd_close(context, fd)
