"""Provenance of descriptor attributes: the event that set each, besides open and close."""

from collections.abc import Callable, Iterable
from typing import Any

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.descriptor_provenance import (
    ProvenanceTable,
    TrackedDescription,
    TrackedDescriptor,
)
from journal.compaction.liveness.file_provenance import ProvenanceFile
from journal.events import descriptors, sockets
from journal.events.definition import Event
from journal.events.descriptors import Whence
from journal.events.inputs import HostResult
from journal.replay.effects.sockets import DIRECTIONS
from journal.replay.state.descriptor_table import (
    HostNode,
    OpenMountFile,
    SocketState,
    StandardStream,
)


def record_attributes(event: Event, table: ProvenanceTable) -> None:
    """Record the attributes that ``event`` has set, after its effect was applied to ``table``."""
    rule = _SETTERS.get(type(event))
    if rule is not None:
        setter, fd = rule
        entry = table.entries[getattr(event, fd)]
        assert isinstance(entry, TrackedDescriptor)
        description = entry.description
        assert isinstance(description, TrackedDescription)
        setter(event, entry, description, table.graph)


def record_outcome(event: HostResult, table: ProvenanceTable) -> None:
    """Record the outcome of a request for a connection: a failed result, or one that comes later.

    The outcome of a pending connection ends what its request began, and depends on it.
    """
    entry = table.entries.get(event.fd)
    if entry is None or not isinstance(entry.description.object, SocketState):
        return
    description = entry.description
    assert isinstance(description, TrackedDescription)
    latest, graph = description.attributes.latest, table.graph
    if "requested" in latest:
        graph.add_dependency(latest["requested"])
        graph.add_reverse_dependency(latest["requested"])
    if event.errno == 0:
        latest["outcome"] = graph.seq
    elif not entry.description.object.is_datagram:
        for name in ("requested", "outcome"):
            latest.pop(name, None)
        latest["refused"] = graph.seq


def _record_seek(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    if event.whence is Whence.CURRENT:
        graph.add_dependency(description.position_owner)
    elif event.whence is Whence.END and isinstance(description.object, OpenMountFile):
        assert isinstance(description.object.file, ProvenanceFile)
        graph.add_dependency(description.object.file.node.size_owner)
        graph.add_dependency(description.object.file.node.intervals.last_truncation)
    elif event.whence is Whence.END:
        graph.add_dependency(description.attributes.latest.get("size", BEFORE_JOURNAL))
    description.position_owner = graph.seq
    graph.is_pinned = False  # The next event that sets the position supersedes the seek.


def _record_write(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    if isinstance(description.object, StandardStream):
        graph.is_pinned = True  # The write is output of the guest.
    elif isinstance(description.object, HostNode):
        _record_size(event, entry, description, graph)
        description.position_owner = graph.seq
    elif isinstance(description.object, OpenMountFile):
        description.position_owner = graph.seq
    else:
        description.attributes.all.append(graph.seq)


def _record_size(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Record a new size of a host file. A write depends on the last reported size."""
    if not isinstance(description.object, HostNode) or description.object.size is None:
        return
    before = description.attributes.latest.get("size", BEFORE_JOURNAL)
    if isinstance(event, descriptors.FileDescriptorWrite):
        graph.add_dependency(before)
    description.attributes.latest["size"] = graph.seq


def _record_flags(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    description.flags_owner = graph.seq


def _record_fd_flags(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    entry.flags_owner = graph.seq


def _record_rights(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    entry.rights_owner = graph.seq


def _record_join(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    key = "group", event.multiaddr, event.iface
    graph.add_reverse_dependency(description.attributes.latest.pop(key, None))
    description.attributes.latest[key] = graph.seq


def _record_leave(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    graph.add_reverse_dependency(
        description.attributes.latest.pop(("group", event.multiaddr, event.iface), None)
    )


def _record_move_inside(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    description.attributes.latest.setdefault("inside", graph.seq)


def _record_binding(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    description.attributes.latest["bound"] = graph.seq


def _record_listening(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Record that a socket listens. It gets an address if it has none."""
    description.attributes.latest.setdefault("bound", graph.seq)
    description.attributes.latest["listening"] = graph.seq


def _record_request(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    latest = description.attributes.latest
    for name in ("outcome", "refused"):
        latest.pop(name, None)
    latest["requested"] = graph.seq


def _record_connection(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Record a connection, which depends on its request and on the outcome of it."""
    _depend_on(_REQUEST, description, graph)
    description.attributes.latest["connected"] = graph.seq


def _record_acceptance(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Make an accepted connection depend on the address and the state of its listener."""
    _depend_on(("inside", "bound", "listening"), description, graph)


def _record_send(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Record the first datagram, for which the host has chosen a port.

    No other state depends on bytes that have left the guest.
    """
    graph.is_pinned = False
    assert isinstance(description.object, SocketState)
    if description.object.is_datagram:
        latest = description.attributes.latest
        if latest.setdefault("sent", graph.seq) == graph.seq:
            _depend_on(_CONNECTION, description, graph)


def _record_shutdown(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Record the directions that the event has shut. A second shutdown changes nothing."""
    _depend_on(_CONNECTION, description, graph)
    for direction in DIRECTIONS[event.how]:
        description.attributes.latest.setdefault(("shut", direction), graph.seq)


def _record_option(
    event: Any, entry: TrackedDescriptor, description: TrackedDescription, graph: DependencyGraph
) -> None:
    option = event.ty if isinstance(event, sockets.SocketSetOptTime) else event.opt
    description.attributes.latest["option", event.tag, int(option)] = graph.seq


def _depend_on(
    names: Iterable[str], description: TrackedDescription, graph: DependencyGraph
) -> None:
    """Make the current event depend on the owners of some attributes."""
    for name in names:
        graph.add_dependency(description.attributes.latest.get(name, BEFORE_JOURNAL))


_REQUEST = ("requested", "outcome")
_CONNECTION = (*_REQUEST, "connected")

Setter = Callable[[Any, TrackedDescriptor, TrackedDescription, DependencyGraph], None]
_SETTERS: dict[type[Event], tuple[Setter, str]] = {
    descriptors.FileDescriptorSeek: (_record_seek, "fd"),
    descriptors.FileDescriptorWrite: (_record_write, "fd"),
    descriptors.FileDescriptorSetSize: (_record_size, "fd"),
    descriptors.FileDescriptorSetFlags: (_record_flags, "fd"),
    descriptors.FileDescriptorSetFdFlags: (_record_fd_flags, "fd"),
    descriptors.FileDescriptorSetRights: (_record_rights, "fd"),
    sockets.SocketListen: (_record_listening, "fd"),
    sockets.SocketInside: (_record_move_inside, "fd"),
    sockets.SocketBind: (_record_binding, "fd"),
    sockets.UnixSocketBind: (_record_binding, "fd"),
    sockets.UnixSocketConnect: (_record_request, "fd"),
    sockets.SocketConnect: (_record_request, "fd"),
    sockets.SocketConnected: (_record_connection, "fd"),
    sockets.SocketAccepted: (_record_acceptance, "listen_fd"),
    sockets.SocketJoinIpv4Multicast: (_record_join, "fd"),
    sockets.SocketJoinIpv6Multicast: (_record_join, "fd"),
    sockets.SocketLeaveIpv4Multicast: (_record_leave, "fd"),
    sockets.SocketLeaveIpv6Multicast: (_record_leave, "fd"),
    sockets.SocketSendFile: (_record_send, "socket_fd"),
    sockets.SocketSendTo: (_record_send, "fd"),
    sockets.SocketSend: (_record_send, "fd"),
    sockets.SocketSetOptFlag: (_record_option, "fd"),
    sockets.SocketSetOptSize: (_record_option, "fd"),
    sockets.SocketSetOptTime: (_record_option, "fd"),
    sockets.SocketShutdown: (_record_shutdown, "fd"),
}
