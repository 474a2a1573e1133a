"""What an event sets of descriptors and of what they stand for, besides opening and closing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from journal.compaction.liveness.dependency_graph import BASE
from journal.compaction.liveness.descriptor_provenance import OwnedDescription, OwnedNumber
from journal.compaction.liveness.file_provenance import SpanFile
from journal.events import descriptors, sockets
from journal.events.definition import Event
from journal.events.descriptors import EpollOperation, Whence
from journal.replay.state.descriptor_table import HostNode, OpenFile, Stream

if TYPE_CHECKING:
    from journal.compaction.liveness.provenance_host import SpanHost


def set_by(event: Event, host: "SpanHost") -> None:
    """Note what ``event`` has set, whose effect was done just now."""
    found = _SETTERS.get(type(event))
    if found is not None:
        setter, fd = found
        number = host.table.used[getattr(event, fd)]
        assert isinstance(number, OwnedNumber)
        about = number.description
        assert isinstance(about, OwnedDescription)
        setter(event, number, about, host)


def _sought(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    if event.whence is Whence.CURRENT:
        host.ledger.need(about.positioned)
    elif event.whence is Whence.END and isinstance(about.thing, OpenFile):
        assert isinstance(about.thing.file, SpanFile)
        host.ledger.need(about.thing.file.node.sized)
        host.ledger.need(about.thing.file.node.spans.last_cut)
    elif event.whence is Whence.END:
        host.ledger.need(about.trail.cells.get("size", BASE))
    about.positioned = host.seq
    host.ledger.is_pinned = False  # it counts as long as it is not told anew where the guest is


def _written(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    if isinstance(about.thing, Stream):
        host.ledger.is_pinned = True  # it is the output
    elif isinstance(about.thing, HostNode):
        _resized(event, number, about, host)
        about.positioned = host.seq
    elif isinstance(about.thing, OpenFile):
        about.positioned = host.seq
    else:
        about.trail.all.append(host.seq)


def _resized(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    """A file of the host has another size, which counts on what it had been told to have."""
    if not isinstance(about.thing, HostNode) or about.thing.size is None:
        return
    before = about.trail.cells.get("size", BASE)
    if isinstance(event, descriptors.FileDescriptorWrite):
        host.ledger.need(before)
    about.trail.cells["size"] = host.seq


def _flagged(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    about.flagged = host.seq


def _fd_flagged(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    number.flagged = host.seq


def _limited(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    number.limited = host.seq


def _counts(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    about.trail.all.append(host.seq)


def _watched(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    key = "watched", event.fd
    host.ledger.ends(about.trail.cells.pop(key, None))
    if event.op is not EpollOperation.DELETE:
        about.trail.cells[key] = host.seq


def _joined(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    key = "group", event.multiaddr, event.iface
    host.ledger.ends(about.trail.cells.pop(key, None))
    about.trail.cells[key] = host.seq


def _left(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    host.ledger.ends(about.trail.cells.pop(("group", event.multiaddr, event.iface), None))


def _connected(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    about.trail.cells["connected"] = host.seq


def _option_set(event: Any, number: OwnedNumber, about: OwnedDescription, host: "SpanHost") -> None:
    which = event.ty if isinstance(event, sockets.SocketSetOptTime) else event.opt
    about.trail.cells["option", event.tag, int(which)] = host.seq


Setter = Callable[[Any, OwnedNumber, OwnedDescription, "SpanHost"], None]
_SETTERS: dict[type[Event], tuple[Setter, str]] = {
    descriptors.FileDescriptorSeek: (_sought, "fd"),
    descriptors.FileDescriptorWrite: (_written, "fd"),
    descriptors.FileDescriptorSetSize: (_resized, "fd"),
    descriptors.FileDescriptorSetFlags: (_flagged, "fd"),
    descriptors.FileDescriptorSetFdFlags: (_fd_flagged, "fd"),
    descriptors.FileDescriptorSetRights: (_limited, "fd"),
    descriptors.EpollCtl: (_watched, "epfd"),
    sockets.SocketListen: (_counts, "fd"),
    sockets.SocketBind: (_counts, "fd"),
    sockets.SocketConnected: (_connected, "fd"),
    sockets.SocketJoinIpv4Multicast: (_joined, "fd"),
    sockets.SocketJoinIpv6Multicast: (_joined, "fd"),
    sockets.SocketLeaveIpv4Multicast: (_left, "fd"),
    sockets.SocketLeaveIpv6Multicast: (_left, "fd"),
    sockets.SocketSendFile: (_counts, "socket_fd"),
    sockets.SocketSendTo: (_counts, "fd"),
    sockets.SocketSend: (_counts, "fd"),
    sockets.SocketSetOptFlag: (_option_set, "fd"),
    sockets.SocketSetOptSize: (_option_set, "fd"),
    sockets.SocketSetOptTime: (_option_set, "fd"),
    sockets.SocketShutdown: (_counts, "fd"),
}
