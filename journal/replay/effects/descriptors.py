"""Effects of events of open descriptors."""

from journal.events import descriptors
from journal.events.descriptors import EpollOperation, Whence
from journal.replay.dispatch import apply
from journal.replay.effects.pending_calls import Opening, ask, open_at
from journal.replay.filesystem.directory_ops import Directory, Times
from journal.replay.host import Host
from journal.replay.limits import NotPlayable, check_count
from journal.replay.state.descriptor_table import (
    Counter,
    Description,
    Epoll,
    HostNode,
    OpenDirectory,
    OpenFile,
    Pipe,
    PipeEnd,
    Stream,
)

POSITION_MAX = (1 << 63) - 1


@apply.register
def _(event: Opening, host: Host) -> None:
    host.table.check_free(event.fd)
    directory = host.table.directory(event.dirfd)
    if directory is None:
        ask(event, host)
        return
    opened = directory.open(event.path, event.o_flags, event.dirflags, host.now)
    thing = OpenDirectory(opened) if isinstance(opened, Directory) else OpenFile(opened)
    open_at(event, thing, host)


@apply.register
def _(event: descriptors.CloseFileDescriptor, host: Host) -> None:
    host.table.close(event.fd)


@apply.register
def _(event: descriptors.RenumberFileDescriptor, host: Host) -> None:
    host.table.renumber(event.old_fd, event.new_fd)


@apply.register
def _(event: descriptors.DuplicateFileDescriptor, host: Host) -> None:
    host.table.duplicate(event.original_fd, event.copied_fd, 0)


@apply.register
def _(event: descriptors.DuplicateFileDescriptorWithFlags, host: Host) -> None:
    host.table.duplicate(event.original_fd, event.copied_fd, int(event.cloexec))


@apply.register
def _(event: descriptors.FileDescriptorWrite, host: Host) -> None:
    description = host.table.description(event.fd)
    thing = description.thing
    if isinstance(thing, HostNode):
        ask(event, host)
    elif isinstance(thing, Stream):
        host.streams.write(thing.number, event.data)
    elif isinstance(thing, PipeEnd):
        thing.pipe.written += len(event.data)
    elif not isinstance(thing, Counter):
        end = event.offset + len(event.data)
        if end > POSITION_MAX:
            raise NotPlayable(f"no file has {end} bytes")
        file = host.table.thing(event.fd, OpenFile).file
        file.write(event.offset, event.data, host.now)
        description.position = end


@apply.register
def _(event: descriptors.FileDescriptorSeek, host: Host) -> None:
    description = host.table.description(event.fd)
    description.position = _sought(event, description)


@apply.register
def _(event: descriptors.FileDescriptorSetTimes, host: Host) -> None:
    thing = host.table.description(event.fd).thing
    times = Times(event.st_atim, event.st_mtim, event.fst_flags)
    if isinstance(thing, OpenDirectory):
        thing.directory.set_times(times, host.now)
    elif not isinstance(thing, HostNode):
        host.table.thing(event.fd, OpenFile).file.set_times(times, host.now)


@apply.register
def _(event: descriptors.FileDescriptorSetSize, host: Host) -> None:
    if isinstance(host.table.description(event.fd).thing, HostNode):
        ask(event, host)
    else:
        host.table.thing(event.fd, OpenFile).file.set_size(event.st_size, host.now)


@apply.register
def _(event: descriptors.FileDescriptorAllocate, host: Host) -> None:
    if isinstance(host.table.description(event.fd).thing, HostNode):
        return
    file = host.table.thing(event.fd, OpenFile).file
    if event.offset + event.len > file.size():
        file.lengthen(event.offset + event.len, host.now)


@apply.register
def _(event: descriptors.FileDescriptorSetFlags, host: Host) -> None:
    host.table.description(event.fd).flags = event.flags


@apply.register
def _(event: descriptors.FileDescriptorSetFdFlags, host: Host) -> None:
    host.table.number(event.fd).fd_flags = event.flags


@apply.register
def _(event: descriptors.FileDescriptorSetRights, host: Host) -> None:
    host.table.number(event.fd).rights = (event.fs_rights_base, event.fs_rights_inheriting)


@apply.register
def _(event: descriptors.FileDescriptorAdvise, host: Host) -> None:
    host.table.number(event.fd)  # it changes nothing, and must be open all the same


@apply.register
def _(event: descriptors.EpollCreate, host: Host) -> None:
    host.table.add(event.fd, Epoll())


@apply.register
def _(event: descriptors.EpollCtl, host: Host) -> None:
    watched = host.table.thing(event.epfd, Epoll).watched
    if event.op is EpollOperation.DELETE:
        watched.pop(event.fd, None)
    elif event.op is EpollOperation.UNKNOWN:
        raise NotPlayable(f"nobody knows what was done to descriptor {event.epfd}")
    else:
        check_count("watched descriptors", len(watched) + (event.fd not in watched))
        watched[event.fd] = event.event


@apply.register
def _(event: descriptors.CreatePipe, host: Host) -> None:
    if event.read_fd == event.write_fd:
        raise NotPlayable(f"descriptor {event.read_fd} cannot be both ends of a pipe")
    pipe = Pipe()
    host.table.check_free(event.write_fd)
    host.table.add(event.read_fd, PipeEnd(pipe, writes=False))
    host.table.add(event.write_fd, PipeEnd(pipe, writes=True))


@apply.register
def _(event: descriptors.CreateEvent, host: Host) -> None:
    host.table.add(event.fd, Counter(event.initial_val, event.flags))


def _sought(event: descriptors.FileDescriptorSeek, description: Description) -> int | None:
    """Where a seek leads; None where only the guest knows."""
    base: int | None = 0
    if event.whence is Whence.CURRENT:
        base = description.position
    elif event.whence is Whence.END:
        thing = description.thing
        base = thing.file.size() if isinstance(thing, OpenFile) else None
        if isinstance(thing, HostNode):
            base = thing.size
    elif event.whence is Whence.UNKNOWN:
        base = None
    if base is None or base + event.offset < 0:
        return None  # it had read further than events say
    return base + event.offset
