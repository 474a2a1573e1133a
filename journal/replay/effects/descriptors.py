"""Effects of events of open descriptors."""

from journal.events import descriptors
from journal.events.descriptors import EpollOperation, Whence
from journal.events.paths import TimeFlags
from journal.replay.dispatch import apply_effect
from journal.replay.effects.pending_calls import Opening, add_descriptor, request_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import (
    Epoll,
    EventCounter,
    HostNode,
    OpenFileDescription,
    OpenMountDirectory,
    OpenMountFile,
    Pipe,
    PipeEnd,
    StandardStream,
)
from journal.vfs.directory import MountDirectory
from journal.vfs.open_request import OpenRequest
from journal.vfs.times import TimeUpdate

POSITION_MAX = (1 << 63) - 1

_TOUCH = TimeUpdate(0, 0, TimeFlags.MTIME_NOW)


@apply_effect.register
def _(event: Opening, host: Host) -> None:
    host.table.check_free(event.fd)
    directory = host.table.directory(event.dirfd)
    if directory is None:
        request_effect(event, host)
        return
    node = directory.open(
        OpenRequest(
            fd=event.fd,
            dirfd=event.dirfd,
            lookup=event.dirflags,
            flags=event.o_flags,
            fdflags=event.fs_flags,
            rights=event.fs_rights_base,
            inheriting=event.fs_rights_inheriting,
            path=event.path,
        )
    )
    open_object = (
        OpenMountDirectory(node) if isinstance(node, MountDirectory) else OpenMountFile(node)
    )
    add_descriptor(event, open_object, host)


@apply_effect.register
def _(event: descriptors.CloseFileDescriptor, host: Host) -> None:
    host.table.close(event.fd)


@apply_effect.register
def _(event: descriptors.RenumberFileDescriptor, host: Host) -> None:
    host.table.renumber(event.old_fd, event.new_fd)


@apply_effect.register
def _(event: descriptors.DuplicateFileDescriptor, host: Host) -> None:
    host.table.duplicate(event.original_fd, event.copied_fd, 0)


@apply_effect.register
def _(event: descriptors.DuplicateFileDescriptorWithFlags, host: Host) -> None:
    host.table.duplicate(event.original_fd, event.copied_fd, int(event.cloexec))


@apply_effect.register
def _(event: descriptors.FileDescriptorWrite, host: Host) -> None:
    description = host.table.description(event.fd)
    open_object = description.object
    if isinstance(open_object, HostNode):
        request_effect(event, host)
    elif isinstance(open_object, StandardStream):
        host.streams.write(open_object.number, event.data)
    elif isinstance(open_object, PipeEnd):
        open_object.pipe.written += len(event.data)
    elif not isinstance(open_object, EventCounter):
        end = event.offset + len(event.data)
        if end > POSITION_MAX:
            raise ReplayError(f"write ends at {end}, above the limit of {POSITION_MAX} bytes")
        file = host.table.object_of(event.fd, OpenMountFile).file
        if event.data:
            file.write(event.fd, event.offset, event.data)
        else:  # Other engines record empty writes, which change only the times.
            file.set_times(event.fd, _TOUCH)
        description.position = end


@apply_effect.register
def _(event: descriptors.FileDescriptorSeek, host: Host) -> None:
    description = host.table.description(event.fd)
    description.position = _seek_position(event, description)


@apply_effect.register
def _(event: descriptors.FileDescriptorSetTimes, host: Host) -> None:
    open_object = host.table.description(event.fd).object
    times = TimeUpdate(event.st_atim, event.st_mtim, event.fst_flags)
    if isinstance(open_object, OpenMountDirectory):
        open_object.directory.set_times(event.fd, times)
    elif not isinstance(open_object, HostNode):
        host.table.object_of(event.fd, OpenMountFile).file.set_times(event.fd, times)


@apply_effect.register
def _(event: descriptors.FileDescriptorSetSize, host: Host) -> None:
    if isinstance(host.table.description(event.fd).object, HostNode):
        request_effect(event, host)
    else:
        host.table.object_of(event.fd, OpenMountFile).file.set_size(event.fd, event.st_size)


@apply_effect.register
def _(event: descriptors.FileDescriptorAllocate, host: Host) -> None:
    if isinstance(host.table.description(event.fd).object, HostNode):
        return
    file = host.table.object_of(event.fd, OpenMountFile).file
    if event.offset + event.len > file.size(event.fd):
        file.extend(event.offset + event.len, host.now)


@apply_effect.register
def _(event: descriptors.FileDescriptorSetFlags, host: Host) -> None:
    host.table.description(event.fd).flags = event.flags


@apply_effect.register
def _(event: descriptors.FileDescriptorSetFdFlags, host: Host) -> None:
    host.table.entry(event.fd).fd_flags = event.flags


@apply_effect.register
def _(event: descriptors.FileDescriptorSetRights, host: Host) -> None:
    host.table.entry(event.fd).rights = (event.fs_rights_base, event.fs_rights_inheriting)


@apply_effect.register
def _(event: descriptors.FileDescriptorAdvise, host: Host) -> None:
    host.table.entry(event.fd)  # The advice has no effect, but the descriptor must be open.


@apply_effect.register
def _(event: descriptors.EpollCreate, host: Host) -> None:
    host.table.add(event.fd, Epoll())


@apply_effect.register
def _(event: descriptors.EpollCtl, host: Host) -> None:
    host.table.object_of(event.epfd, Epoll)
    if event.op is EpollOperation.DELETE:
        host.table.end_watch(host.table.description(event.epfd), host.table.find_watch(event.fd))
    elif event.op is EpollOperation.UNKNOWN:
        raise ReplayError(f"unknown operation on epoll descriptor {event.epfd}")
    else:
        host.table.put_watch(event.epfd, event.fd, event.event)


@apply_effect.register
def _(event: descriptors.CreatePipe, host: Host) -> None:
    if event.read_fd == event.write_fd:
        raise ReplayError(f"both ends of a pipe have the descriptor {event.read_fd}")
    pipe = Pipe()
    host.table.check_free(event.write_fd)
    host.table.add(event.read_fd, PipeEnd(pipe, is_write_end=False))
    host.table.add(event.write_fd, PipeEnd(pipe, is_write_end=True))


@apply_effect.register
def _(event: descriptors.CreateEvent, host: Host) -> None:
    host.table.add(event.fd, EventCounter(event.initial_val, event.flags))


def _seek_position(
    event: descriptors.FileDescriptorSeek, description: OpenFileDescription
) -> int | None:
    """Return the position after a seek; None if only the guest knows it."""
    base: int | None = 0
    if event.whence is Whence.CURRENT:
        base = description.position
    elif event.whence is Whence.END:
        open_object = description.object
        base = open_object.file.size(event.fd) if isinstance(open_object, OpenMountFile) else None
        if isinstance(open_object, HostNode):
            base = open_object.size
    elif event.whence is Whence.UNKNOWN:
        base = None
    if base is None or base + event.offset < 0:
        return None  # The guest had read further than events record.
    return base + event.offset
