"""What an event sets of descriptors and of what they stand for, besides opening and closing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL
from journal.compaction.liveness.descriptor_provenance import TrackedDescription, TrackedDescriptor
from journal.compaction.liveness.file_provenance import ProvenanceFile
from journal.events import descriptors, sockets
from journal.events.definition import Event
from journal.events.descriptors import EpollOperation, Whence
from journal.replay.state.descriptor_table import HostNode, OpenMountFile, StandardStream

if TYPE_CHECKING:
    from journal.compaction.liveness.provenance_host import ProvenanceHost


def record_attributes(event: Event, host: "ProvenanceHost") -> None:
    """Note what ``event`` has set, whose effect was done just now."""
    found = _SETTERS.get(type(event))
    if found is not None:
        setter, fd = found
        number = host.table.entries[getattr(event, fd)]
        assert isinstance(number, TrackedDescriptor)
        description = number.description
        assert isinstance(description, TrackedDescription)
        setter(event, number, description, host)


def _record_seek(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    if event.whence is Whence.CURRENT:
        host.graph.add_dependency(description.position_owner)
    elif event.whence is Whence.END and isinstance(description.object, OpenMountFile):
        assert isinstance(description.object.file, ProvenanceFile)
        host.graph.add_dependency(description.object.file.node.size_owner)
        host.graph.add_dependency(description.object.file.node.intervals.last_truncation)
    elif event.whence is Whence.END:
        host.graph.add_dependency(description.attributes.latest.get("size", BEFORE_JOURNAL))
    description.position_owner = host.seq
    host.graph.is_pinned = False  # it counts as long as it is not told anew where the guest is


def _record_write(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    if isinstance(description.object, StandardStream):
        host.graph.is_pinned = True  # it is the output
    elif isinstance(description.object, HostNode):
        _record_size(event, number, description, host)
        description.position_owner = host.seq
    elif isinstance(description.object, OpenMountFile):
        description.position_owner = host.seq
    else:
        description.attributes.all.append(host.seq)


def _record_size(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    """A file of the host has another size, which counts on what it had been told to have."""
    if not isinstance(description.object, HostNode) or description.object.size is None:
        return
    before = description.attributes.latest.get("size", BEFORE_JOURNAL)
    if isinstance(event, descriptors.FileDescriptorWrite):
        host.graph.add_dependency(before)
    description.attributes.latest["size"] = host.seq


def _record_flags(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    description.flags_owner = host.seq


def _record_fd_flags(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    number.flags_owner = host.seq


def _record_rights(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    number.rights_owner = host.seq


def _record_event(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    description.attributes.all.append(host.seq)


def _record_watch(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    key = "watched", event.fd
    host.graph.add_reverse_dependency(description.attributes.latest.pop(key, None))
    if event.op is not EpollOperation.DELETE:
        description.attributes.latest[key] = host.seq


def _record_join(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    key = "group", event.multiaddr, event.iface
    host.graph.add_reverse_dependency(description.attributes.latest.pop(key, None))
    description.attributes.latest[key] = host.seq


def _record_leave(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    host.graph.add_reverse_dependency(
        description.attributes.latest.pop(("group", event.multiaddr, event.iface), None)
    )


def _record_connection(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    description.attributes.latest["connected"] = host.seq


def _record_option(
    event: Any, number: TrackedDescriptor, description: TrackedDescription, host: "ProvenanceHost"
) -> None:
    which = event.ty if isinstance(event, sockets.SocketSetOptTime) else event.opt
    description.attributes.latest["option", event.tag, int(which)] = host.seq


Setter = Callable[[Any, TrackedDescriptor, TrackedDescription, "ProvenanceHost"], None]
_SETTERS: dict[type[Event], tuple[Setter, str]] = {
    descriptors.FileDescriptorSeek: (_record_seek, "fd"),
    descriptors.FileDescriptorWrite: (_record_write, "fd"),
    descriptors.FileDescriptorSetSize: (_record_size, "fd"),
    descriptors.FileDescriptorSetFlags: (_record_flags, "fd"),
    descriptors.FileDescriptorSetFdFlags: (_record_fd_flags, "fd"),
    descriptors.FileDescriptorSetRights: (_record_rights, "fd"),
    descriptors.EpollCtl: (_record_watch, "epfd"),
    sockets.SocketListen: (_record_event, "fd"),
    sockets.SocketBind: (_record_event, "fd"),
    sockets.SocketConnected: (_record_connection, "fd"),
    sockets.SocketJoinIpv4Multicast: (_record_join, "fd"),
    sockets.SocketJoinIpv6Multicast: (_record_join, "fd"),
    sockets.SocketLeaveIpv4Multicast: (_record_leave, "fd"),
    sockets.SocketLeaveIpv6Multicast: (_record_leave, "fd"),
    sockets.SocketSendFile: (_record_event, "socket_fd"),
    sockets.SocketSendTo: (_record_event, "fd"),
    sockets.SocketSend: (_record_event, "fd"),
    sockets.SocketSetOptFlag: (_record_option, "fd"),
    sockets.SocketSetOptSize: (_record_option, "fd"),
    sockets.SocketSetOptTime: (_record_option, "fd"),
    sockets.SocketShutdown: (_record_event, "fd"),
}
