"""Effects of events of sockets: their state and their options."""

from journal.events import sockets
from journal.events.definition import Event
from journal.events.sockets import Shutdown
from journal.replay.dispatch import apply_effect
from journal.replay.effects.pending_calls import request_network_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError, check_count
from journal.replay.state.descriptor_table import SocketState

Membership = (
    sockets.SocketJoinIpv4Multicast
    | sockets.SocketJoinIpv6Multicast
    | sockets.SocketLeaveIpv4Multicast
    | sockets.SocketLeaveIpv6Multicast
)


@apply_effect.register
def _(event: sockets.SocketOpen, host: Host) -> None:
    host.table.check_free(event.fd)
    request_network_effect(event, host)


@apply_effect.register
def _(event: sockets.SocketPair | sockets.SocketPairOfType, host: Host) -> None:
    if event.fd1 == event.fd2:
        raise ReplayError(f"both sockets of a pair have the descriptor {event.fd1}")
    host.table.check_free(event.fd2)
    for fd in (event.fd1, event.fd2):
        host.table.add(fd, SocketState(event))


@apply_effect.register
def _(event: sockets.SocketListen, host: Host) -> None:
    host.table.object_of(event.fd, SocketState)
    request_network_effect(event, host)


@apply_effect.register
def _(event: sockets.SocketBind, host: Host) -> None:
    host.table.object_of(event.fd, SocketState)
    request_network_effect(event, host)


@apply_effect.register
def _(event: sockets.SocketConnect, host: Host) -> None:
    host.table.object_of(event.fd, SocketState)
    request_network_effect(event, host)


@apply_effect.register
def _(event: sockets.SocketConnected, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).connected = event


@apply_effect.register
def _(event: sockets.SocketAccepted, host: Host) -> None:
    host.table.object_of(event.listen_fd, SocketState)
    host.table.add(event.fd, SocketState(event), flags=event.fd_flags)


@apply_effect.register
def _(event: sockets.SocketJoinIpv4Multicast, host: Host) -> None:
    _join(event, host)


@apply_effect.register
def _(event: sockets.SocketJoinIpv6Multicast, host: Host) -> None:
    _join(event, host)


@apply_effect.register
def _(event: sockets.SocketLeaveIpv4Multicast, host: Host) -> None:
    _leave(event, host)


@apply_effect.register
def _(event: sockets.SocketLeaveIpv6Multicast, host: Host) -> None:
    _leave(event, host)


@apply_effect.register
def _(event: sockets.SocketSendFile, host: Host) -> None:
    host.table.entry(event.file_fd)
    host.table.object_of(event.socket_fd, SocketState).sent += event.count


@apply_effect.register
def _(event: sockets.SocketSendTo, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).sent += len(event.data)


@apply_effect.register
def _(event: sockets.SocketSend, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).sent += len(event.data)


@apply_effect.register
def _(event: sockets.SocketSetOptFlag, host: Host) -> None:
    _set_option(event.fd, int(event.opt), event, host)


@apply_effect.register
def _(event: sockets.SocketSetOptSize, host: Host) -> None:
    _set_option(event.fd, int(event.opt), event, host)


@apply_effect.register
def _(event: sockets.SocketSetOptTime, host: Host) -> None:
    _set_option(event.fd, int(event.ty), event, host)


@apply_effect.register
def _(event: sockets.SocketShutdown, host: Host) -> None:
    both = {Shutdown.READ, Shutdown.WRITE}
    directions = both if event.how is Shutdown.BOTH else {event.how}
    host.table.object_of(event.fd, SocketState).shut |= directions


def _join(event: Membership, host: Host) -> None:
    groups, group = (
        host.table.object_of(event.fd, SocketState).groups,
        (event.multiaddr, event.iface),
    )
    check_count("multicast groups", len(groups) + (group not in groups))
    groups[group] = None


def _leave(event: Membership, host: Host) -> None:
    groups = host.table.object_of(event.fd, SocketState).groups
    groups.pop((event.multiaddr, event.iface), None)


def _set_option(fd: int, option: int, event: Event, host: Host) -> None:
    """Store an option event, which replaces an earlier event of its kind for the same option."""
    host.table.object_of(fd, SocketState).options[event.tag, option] = event
