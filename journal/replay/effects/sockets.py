"""Effects of events of sockets: what each is, and what it was asked to be."""

from journal.events import sockets
from journal.events.definition import Event
from journal.events.sockets import Shutdown
from journal.replay.dispatch import apply
from journal.replay.effects.pending_calls import ask_network
from journal.replay.host import Host
from journal.replay.limits import NotPlayable, check_count
from journal.replay.state.descriptor_table import Socket

Membership = (
    sockets.SocketJoinIpv4Multicast
    | sockets.SocketJoinIpv6Multicast
    | sockets.SocketLeaveIpv4Multicast
    | sockets.SocketLeaveIpv6Multicast
)


@apply.register
def _(event: sockets.SocketOpen, host: Host) -> None:
    host.table.check_free(event.fd)
    ask_network(event, host)


@apply.register
def _(event: sockets.SocketPair, host: Host) -> None:
    if event.fd1 == event.fd2:
        raise NotPlayable(f"descriptor {event.fd1} cannot be both sockets of a pair")
    host.table.check_free(event.fd2)
    for fd in (event.fd1, event.fd2):
        host.table.add(fd, Socket(event))


@apply.register
def _(event: sockets.SocketListen, host: Host) -> None:
    host.table.thing(event.fd, Socket)
    ask_network(event, host)


@apply.register
def _(event: sockets.SocketBind, host: Host) -> None:
    host.table.thing(event.fd, Socket)
    ask_network(event, host)


@apply.register
def _(event: sockets.SocketConnected, host: Host) -> None:
    host.table.thing(event.fd, Socket).connected = event


@apply.register
def _(event: sockets.SocketAccepted, host: Host) -> None:
    host.table.thing(event.listen_fd, Socket)
    host.table.add(event.fd, Socket(event), flags=event.fd_flags)


@apply.register
def _(event: sockets.SocketJoinIpv4Multicast, host: Host) -> None:
    _join(event, host)


@apply.register
def _(event: sockets.SocketJoinIpv6Multicast, host: Host) -> None:
    _join(event, host)


@apply.register
def _(event: sockets.SocketLeaveIpv4Multicast, host: Host) -> None:
    _leave(event, host)


@apply.register
def _(event: sockets.SocketLeaveIpv6Multicast, host: Host) -> None:
    _leave(event, host)


@apply.register
def _(event: sockets.SocketSendFile, host: Host) -> None:
    host.table.number(event.file_fd)
    host.table.thing(event.socket_fd, Socket).sent += event.count


@apply.register
def _(event: sockets.SocketSendTo, host: Host) -> None:
    host.table.thing(event.fd, Socket).sent += len(event.data)


@apply.register
def _(event: sockets.SocketSend, host: Host) -> None:
    host.table.thing(event.fd, Socket).sent += len(event.data)


@apply.register
def _(event: sockets.SocketSetOptFlag, host: Host) -> None:
    _set_option(event.fd, int(event.opt), event, host)


@apply.register
def _(event: sockets.SocketSetOptSize, host: Host) -> None:
    _set_option(event.fd, int(event.opt), event, host)


@apply.register
def _(event: sockets.SocketSetOptTime, host: Host) -> None:
    _set_option(event.fd, int(event.ty), event, host)


@apply.register
def _(event: sockets.SocketShutdown, host: Host) -> None:
    both = {Shutdown.READ, Shutdown.WRITE}
    shut = both if event.how is Shutdown.BOTH else {event.how}
    host.table.thing(event.fd, Socket).shut |= shut


def _join(event: Membership, host: Host) -> None:
    groups, group = host.table.thing(event.fd, Socket).groups, (event.multiaddr, event.iface)
    check_count("multicast groups", len(groups) + (group not in groups))
    groups[group] = None


def _leave(event: Membership, host: Host) -> None:
    groups = host.table.thing(event.fd, Socket).groups
    groups.pop((event.multiaddr, event.iface), None)


def _set_option(fd: int, option: int, event: Event, host: Host) -> None:
    """Keep the last event of its kind for each option."""
    host.table.thing(fd, Socket).options[event.tag, option] = event
