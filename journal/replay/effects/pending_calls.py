"""Effects of requests to the former host, on a directory or the network.

Such an effect is applied when the host's result reports success. The contents of a host directory
are not in the journal; only the open descriptors and their positions after writes are.
"""

import struct
from collections.abc import Callable
from typing import Any

from journal.events.definition import Event
from journal.events.descriptors import (
    FileDescriptorSetSize,
    FileDescriptorWrite,
    OpenFileDescriptor,
    OpenFileDescriptorWithFlags,
)
from journal.events.inputs import HostCall, HostResult
from journal.events.paths import FileType
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import HostNode, OpenObject
from journal.wasi_abi import STILL_PENDING

Opening = OpenFileDescriptor | OpenFileDescriptorWithFlags

RequestedEffect = Callable[[Any, bytes | None, Host], None]
"""Function that applies a request, with the value of the host's result, or None without a result.
"""

_OPEN_DIRECTORY = 2
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")
_REQUESTS: dict[type[Event], tuple[HostCall, RequestedEffect]] = {}


def requests(call: HostCall, *kinds: type[Event]) -> Callable[[RequestedEffect], RequestedEffect]:
    """Return a decorator for the function that applies requests of these kinds."""

    def register(effect: RequestedEffect) -> RequestedEffect:
        for kind in kinds:
            _REQUESTS[kind] = call, effect
        return effect

    return register


def request_effect(event: Event, host: Host) -> None:
    """Make ``event`` the pending request, or apply it at once in a journal without results."""
    if host.process.has_host_results:
        host.pending = event
    else:
        apply_request(event, None, host)


def apply_request(event: Event, value: bytes | None, host: Host) -> None:
    """Apply a request. ``value`` is that of the host's result, None without a result."""
    _, effect = _REQUESTS[type(event)]
    effect(event, value, host)


def is_accepted(event: HostResult) -> bool:
    """Return whether the host did what it was asked to do, or has started to do it."""
    is_started = event.call is HostCall.CONNECT and event.errno in STILL_PENDING
    return not event.errno or is_started


def apply_host_result(event: HostResult, host: Host) -> None:
    """Apply the pending request if ``event`` is its successful result.

    A successful size request also updates the size of its file.
    """
    request = host.pending
    if request is not None and _REQUESTS[type(request)][0] is event.call:
        host.pending = None
        if is_accepted(event):
            apply_request(request, event.value, host)
    elif event.call is HostCall.SIZE and not event.errno:
        entry = host.table.entries.get(event.fd)
        if entry is not None and isinstance(entry.description.object, HostNode):
            entry.description.object.size = _unpack(_SIZE, event.value)


@requests(HostCall.OPEN, OpenFileDescriptor, OpenFileDescriptorWithFlags)
def _(event: Opening, value: bytes | None, host: Host) -> None:
    if value is not None:
        kind = _decode_file_type(value)
    else:
        is_directory = event.o_flags & _OPEN_DIRECTORY
        kind = FileType.DIRECTORY if is_directory else FileType.UNKNOWN
    add_descriptor(event, HostNode(kind, is_certain=value is not None), host)


@requests(HostCall.WRITE, FileDescriptorWrite)
def _(event: FileDescriptorWrite, value: bytes | None, host: Host) -> None:
    size = len(event.data) if value is None else unpack_count(value)
    end = event.offset + min(size, len(event.data))
    node = host.table.object_of(event.fd, HostNode)
    node.size = None if node.size is None else max(node.size, end)
    host.table.description(event.fd).position = end


@requests(HostCall.SIZE, FileDescriptorSetSize)
def _(event: FileDescriptorSetSize, value: bytes | None, host: Host) -> None:
    host.table.object_of(event.fd, HostNode).size = event.st_size


def _decode_file_type(value: bytes) -> FileType:
    """Return the file type with which the result of an open starts."""
    if not value or value[0] not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
        raise ReplayError("the host's result of an open has no type of file or directory")
    return FileType(value[0])


def unpack_count(value: bytes) -> int:
    """Return the number of bytes that the host accepted, from its result."""
    return _unpack(_COUNT, value)


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
