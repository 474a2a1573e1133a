"""Effects of requests to the former host, on a directory or the network.

Such an effect is applied when the host's result reports success. The contents of a host directory
are not in the journal; only the open descriptors and their positions after writes are.
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
from journal.events.sockets import SocketBind, SocketConnect, SocketListen, SocketOpen
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
    SocketConnect: HostCall.CONNECT,
}


def request_effect(event: Event, host: Host) -> None:
    """Make ``event`` the pending request, or apply it at once in a journal without results."""
    if host.process.has_host_results:
        host.pending = event
    else:
        _apply_effect(event, None, host)


NetworkRequest = SocketOpen | SocketBind | SocketListen | SocketConnect


def request_network_effect(event: NetworkRequest, host: Host) -> None:
    """Make ``event`` the pending request, or apply it at once.

    In a journal of another engine, the host had done the request before the event was written.
    """
    if host.process.start is not None and host.process.has_host_results:
        host.pending = event
    else:
        _apply_effect(event, None, host)


def apply_host_result(event: HostResult, host: Host) -> None:
    """Apply the pending request if ``event`` is its successful result.

    A successful size request also updates the size of its file.
    """
    request = host.pending
    if request is not None and _CALLS[type(request)] is event.call:
        host.pending = None
        if not event.errno:
            _apply_effect(request, event.value, host)
    elif event.call is HostCall.SIZE and not event.errno:
        entry = host.table.entries.get(event.fd)
        if entry is not None and isinstance(entry.description.object, HostNode):
            entry.description.object.size = _unpack(_SIZE, event.value)


def _apply_effect(event: Event, value: bytes | None, host: Host) -> None:
    """Apply the effect of ``event``. ``value`` is the host's result, None without a result."""
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
    add_descriptor(event, HostNode(kind, is_certain=value is not None), host)


def _decode_binding(fd: int, value: bytes) -> Event:
    """Return a SocketBind event with the address in the host's result."""
    try:
        return codec.decode(SocketBind.tag, fd.to_bytes(4, "little") + value)
    except FormatError as error:
        raise ReplayError(f"the host's result for socket {fd} is not an address") from error


def _decode_file_type(value: bytes) -> FileType:
    """Return the file type with which the result of an open starts."""
    if not value or value[0] not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
        raise ReplayError("the host's result of an open has no type of file or directory")
    return FileType(value[0])


def _unpack(layout: struct.Struct, value: bytes) -> int:
    if len(value) != layout.size:
        raise ReplayError(f"the host's result has {len(value)} bytes, expected {layout.size}")
    (number,) = layout.unpack(value)
    return int(number)


def add_descriptor(event: Opening, open_object: OpenObject, host: Host) -> None:
    """Add the descriptor of an open event for ``open_object``."""
    fd_flags = event.fd_flags if isinstance(event, OpenFileDescriptorWithFlags) else 0
    rights = (event.fs_rights_base, event.fs_rights_inheriting)
    host.table.add(event.fd, open_object, flags=event.fs_flags, fd_flags=fd_flags, rights=rights)
