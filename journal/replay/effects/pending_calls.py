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
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import HostNode, OpenObject, SocketState

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


def request_effect(event: Event, host: Host) -> None:
    """The guest asks its former host for ``event``; without answers, take it for done."""
    if host.process.has_host_results:
        host.pending = event
    else:
        _apply_effect(event, None, host)


def request_network_effect(event: SocketOpen | SocketBind | SocketListen, host: Host) -> None:
    """The guest asks for ``event``; in a journal of another engine it was done before."""
    if host.process.start is not None and host.process.has_host_results:
        host.pending = event
    else:
        _apply_effect(event, None, host)


def apply_host_result(event: HostResult, host: Host) -> None:
    """The former host has answered."""
    asked = host.pending
    if asked is not None and _CALLS[type(asked)] is event.call:
        host.pending = None
        if not event.errno:
            _apply_effect(asked, event.value, host)
    elif event.call is HostCall.SIZE and not event.errno:
        found = host.table.entries.get(event.fd)
        if found is not None and isinstance(found.description.object, HostNode):
            found.description.object.size = _unpack(_SIZE, event.value)


def _apply_effect(event: Event, value: bytes | None, host: Host) -> None:
    """Let ``event`` have its effect; ``value`` is the answer, if there is one."""
    if isinstance(event, Opening):
        _apply_opening(event, value, host)
    elif isinstance(event, FileDescriptorWrite):
        size = len(event.data) if value is None else _unpack(_COUNT, value)
        end = event.offset + min(size, len(event.data))
        node = host.table.object_of(event.fd, HostNode)
        node.size = None if node.size is None else max(node.size, end)
        host.table.description(event.fd).position = end
    elif isinstance(event, FileDescriptorSetSize):
        host.table.object_of(event.fd, HostNode).size = event.st_size
    elif isinstance(event, SocketOpen):
        is_certain = value is not None or host.process.start is None
        host.table.add(event.fd, SocketState(event, is_certain))
    elif isinstance(event, (SocketBind, SocketListen)):
        socket = host.table.object_of(event.fd, SocketState)
        if isinstance(event, SocketListen):
            socket.listening = event
        if value is not None:
            socket.bound = _decode_binding(event.fd, value)
        elif isinstance(event, SocketBind):
            socket.bound = event


def _apply_opening(event: Opening, value: bytes | None, host: Host) -> None:
    if value is not None:
        kind = _decode_file_type(value)
    else:
        is_directory = event.o_flags & _OPEN_DIRECTORY
        kind = FileType.DIRECTORY if is_directory else FileType.UNKNOWN
    add_opened(event, HostNode(kind, is_certain=value is not None), host)


def _decode_binding(fd: int, value: bytes) -> Event:
    """The binding to the address that the host answered."""
    try:
        return codec.decode(SocketBind.tag, fd.to_bytes(4, "little") + value)
    except FormatError as error:
        raise ReplayError("the host's answer is no address of a socket") from error


def _decode_file_type(value: bytes) -> FileType:
    """A node's type, with which the answer to an opening begins."""
    if not value or value[0] not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
        raise ReplayError("the host's answer does not say what was opened")
    return FileType(value[0])


def _unpack(layout: struct.Struct, value: bytes) -> int:
    if len(value) != layout.size:
        raise ReplayError(f"the host's answer has {len(value)} bytes, not {layout.size}")
    (found,) = layout.unpack(value)
    return int(found)


def add_opened(event: Opening, thing: OpenObject, host: Host) -> None:
    """Give an opening its number."""
    fd_flags = event.fd_flags if isinstance(event, OpenFileDescriptorWithFlags) else 0
    rights = (event.fs_rights_base, event.fs_rights_inheriting)
    host.table.add(event.fd, thing, flags=event.fs_flags, fd_flags=fd_flags, rights=rights)
