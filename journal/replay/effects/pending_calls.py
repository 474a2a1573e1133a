"""What a guest did to its former host, a directory or its network: it counts when answered so.

What is in such a directory is not in the journal. What is known of it is which descriptors were
opened there, and where writing left them.
"""

import struct

from journal.errors import FormatError
from journal.events import codec
from journal.events.definition import Event
from journal.events.descriptors import (
    FileDescriptorSetSize,
    FileDescriptorWrite,
    OpenFileDescriptor,
    OpenFileDescriptorWithFlags,
)
from journal.events.inputs import HostCall, HostResult
from journal.events.paths import FileType
from journal.events.sockets import SocketBind, SocketListen, SocketOpen
from journal.replay.host import Host
from journal.replay.limits import NotPlayable
from journal.replay.state.descriptor_table import HostNode, Socket, Thing

Opening = OpenFileDescriptor | OpenFileDescriptorWithFlags

_OPEN_DIRECTORY = 2
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")
_CALLS: dict[type[Event], HostCall] = {
    OpenFileDescriptor: HostCall.OPEN,
    OpenFileDescriptorWithFlags: HostCall.OPEN,
    FileDescriptorWrite: HostCall.WRITE,
    FileDescriptorSetSize: HostCall.SIZE,
    SocketOpen: HostCall.SOCKET,
    SocketBind: HostCall.BIND,
    SocketListen: HostCall.LISTEN,
}


def ask(event: Event, host: Host) -> None:
    """The guest asks its former host for ``event``; without answers, take it for done."""
    if host.process.has_answers:
        host.pending = event
    else:
        _done(event, None, host)


def ask_network(event: SocketOpen | SocketBind | SocketListen, host: Host) -> None:
    """The guest asks for ``event``; in a journal of another engine it was done before."""
    if host.process.start is not None and host.process.has_answers:
        host.pending = event
    else:
        _done(event, None, host)


def answer(event: HostResult, host: Host) -> None:
    """The former host has answered."""
    asked = host.pending
    if asked is not None and _CALLS[type(asked)] is event.call:
        host.pending = None
        if not event.errno:
            _done(asked, event.value, host)
    elif event.call is HostCall.SIZE and not event.errno:
        found = host.table.used.get(event.fd)
        if found is not None and isinstance(found.description.thing, HostNode):
            found.description.thing.size = _unpacked(_SIZE, event.value)


def _done(event: Event, value: bytes | None, host: Host) -> None:
    """Let ``event`` have its effect; ``value`` is the answer, if there is one."""
    if isinstance(event, Opening):
        _opened(event, value, host)
    elif isinstance(event, FileDescriptorWrite):
        size = len(event.data) if value is None else _unpacked(_COUNT, value)
        end = event.offset + min(size, len(event.data))
        node = host.table.thing(event.fd, HostNode)
        node.size = None if node.size is None else max(node.size, end)
        host.table.description(event.fd).position = end
    elif isinstance(event, FileDescriptorSetSize):
        host.table.thing(event.fd, HostNode).size = event.st_size
    elif isinstance(event, SocketOpen):
        is_certain = value is not None or host.process.start is None
        host.table.add(event.fd, Socket(event, is_certain))
    elif isinstance(event, (SocketBind, SocketListen)):
        socket = host.table.thing(event.fd, Socket)
        if isinstance(event, SocketListen):
            socket.listening = event
        if value is not None:
            socket.bound = _bound(event.fd, value)
        elif isinstance(event, SocketBind):
            socket.bound = event


def _opened(event: Opening, value: bytes | None, host: Host) -> None:
    if value is not None:
        kind = _kind(value)
    else:
        is_directory = event.o_flags & _OPEN_DIRECTORY
        kind = FileType.DIRECTORY if is_directory else FileType.UNKNOWN
    open_at(event, HostNode(kind, certain=value is not None), host)


def _bound(fd: int, value: bytes) -> Event:
    """The binding to the address that the host answered."""
    try:
        return codec.decode(SocketBind.tag, fd.to_bytes(4, "little") + value)
    except FormatError as error:
        raise NotPlayable("the host's answer is no address of a socket") from error


def _kind(value: bytes) -> FileType:
    """A node's type, with which the answer to an opening begins."""
    if not value or value[0] not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
        raise NotPlayable("the host's answer does not say what was opened")
    return FileType(value[0])


def _unpacked(layout: struct.Struct, value: bytes) -> int:
    if len(value) != layout.size:
        raise NotPlayable(f"the host's answer has {len(value)} bytes, not {layout.size}")
    (found,) = layout.unpack(value)
    return int(found)


def open_at(event: Opening, thing: Thing, host: Host) -> None:
    """Give an opening its number."""
    fd_flags = event.fd_flags if isinstance(event, OpenFileDescriptorWithFlags) else 0
    rights = (event.fs_rights_base, event.fs_rights_inheriting)
    host.table.add(event.fd, thing, flags=event.fs_flags, fd_flags=fd_flags, rights=rights)
