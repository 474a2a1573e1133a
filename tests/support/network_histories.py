"""Generated events of sockets, pipes, event counters and epoll sets, with the host's results."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from journal import Event
from journal.events import codec, descriptors, inputs, sockets
from journal.events.descriptors import EpollEvent, EpollOperation
from journal.events.inputs import HostCall, ReadyDescriptor
from journal.events.snapshots import DescriptorContents
from journal.events.sockets import AddressFamily, Shutdown, SocketOption, SocketType, TimeType
from journal.events.wire_types import SocketAddress
from journal.replay.state.descriptor_table import (
    Epoll,
    EventCounter,
    OpenMountFile,
    PipeEnd,
    SocketState,
)
from journal.wasi_abi import Errno
from tests.support.sample_events import host_result

if TYPE_CHECKING:
    from tests.support.compaction_histories import Making

GROUP, HERE = IPv4Address("224.0.0.1"), IPv4Address("127.0.0.1")
GROUP_6 = IPv6Address("ff02::1")


def address(number: int) -> SocketAddress:
    """Return one of a few addresses of both families."""
    if number % 3:
        return SocketAddress(IPv4Address("192.0.2.0") + number, 8000 + number)
    return SocketAddress(IPv6Address("2001:db8::") + number, 8000 + number, number, 1)


def address_value(*addresses: SocketAddress) -> bytes:
    """Return addresses as a host result has them."""
    return b"".join(codec.encode(sockets.SocketBind(fd=0, addr=one))[4:] for one in addresses)


def of_kind(make: Making, *kinds: type) -> int:
    """Return a descriptor of one of these kinds, or any if there is none."""
    found = [fd for fd, one in make.host.table if isinstance(one.description.object, kinds)]
    return make.random.choice(found) if found else make.fd()


def network_step(make: Making) -> None:
    """Add a change of the objects through which bytes pass."""
    make.random.choice(_STEPS)(make)


def contents_of(make: Making) -> list[DescriptorContents]:
    """Return contents of some objects inside the guest, for a snapshot."""
    found = []
    for fd, entry in make.host.table:
        thing = entry.description.object
        is_inside = isinstance(thing, SocketState) and thing.is_inside
        if (is_inside or isinstance(thing, (PipeEnd, EventCounter))) and make.below(2):
            parts = tuple(make.random.randbytes(make.below(9)) for _ in range(make.below(3)))
            value = make.below(1000)
            found.append(DescriptorContents(fd=fd, value=value, flags=make.below(4), parts=parts))
    return found


def _errno(make: Making, *errors: Errno) -> int:
    """Return mostly success, else one of ``errors``."""
    return make.random.choice([0, 0, 0, make.random.choice(errors)])


def _request(make: Making, event: Event, call: HostCall, fd: int, value: bytes = b"") -> None:
    """Add a request with its result. Most succeed, and some move their socket inside the guest."""
    errno = _errno(make, Errno.ACCES, Errno.INVAL)
    if not make.below(12):
        make.add(sockets.SocketInside(fd=fd))
    thing = make.thing(fd)
    if isinstance(thing, SocketState) and thing.is_inside:
        make.add(event)
    else:
        make.add(event, host_result(call, fd, b"" if errno else value, errno))


def _open(make: Making) -> None:
    fd = make.new_fd()
    family = make.random.choice([AddressFamily.INET4, AddressFamily.INET6, AddressFamily.UNIX])
    ty = make.random.choice([SocketType.STREAM, SocketType.STREAM, SocketType.DGRAM])
    event = sockets.SocketOpen(af=family, ty=ty, pt=0, fd=fd)
    if family is AddressFamily.UNIX:
        make.add(event)
    else:
        make.add(event, host_result(HostCall.SOCKET, fd, b"", _errno(make, Errno.ACCES)))


def _bind(make: Making) -> None:
    fd, asked = of_kind(make, SocketState), address(make.below(9))
    value = address_value(asked)
    _request(make, sockets.SocketBind(fd=fd, addr=asked), HostCall.BIND, fd, value)


def _listen(make: Making) -> None:
    fd = of_kind(make, SocketState)
    event = sockets.SocketListen(fd=fd, backlog=make.below(9))
    _request(make, event, HostCall.LISTEN, fd, address_value(address(make.below(9))))


def _connect(make: Making) -> None:
    fd, peer, local = of_kind(make, SocketState), address(make.below(9)), address(make.below(9))
    errno = make.random.choice([0, 0, Errno.INPROGRESS, Errno.CONNREFUSED, Errno.ACCES])
    value = b"" if errno else address_value(local, peer)
    event = sockets.SocketConnect(fd=fd, addr=peer)
    make.add(event, host_result(HostCall.CONNECT, fd, value, errno))
    if not errno:
        make.add(sockets.SocketConnected(fd=fd, local_addr=local, peer_addr=peer))


def _learn_outcome(make: Making) -> None:
    """Let the guest ask for the outcome of a connection that the host has started."""
    pending = [
        fd
        for fd, entry in make.host.table
        if isinstance(entry.description.object, SocketState)
        and entry.description.object.requested is not None
        and entry.description.object.connected is None
    ]
    if not pending:
        return
    fd, local, peer = make.random.choice(pending), address(1), address(2)
    errno = make.random.choice([0, Errno.INPROGRESS, Errno.TIMEDOUT])
    make.add(host_result(HostCall.CONNECT, fd, b"" if errno else address_value(local, peer), errno))
    if not errno:
        make.add(sockets.SocketConnected(fd=fd, local_addr=local, peer_addr=peer))


def _accept(make: Making) -> None:
    fd, new, local, peer = of_kind(make, SocketState), make.new_fd(), address(1), address(2)
    if not make.below(5):
        make.add(host_result(HostCall.ACCEPT, fd, b"", Errno.AGAIN))
        return
    accepted = sockets.SocketAccepted(
        listen_fd=fd,
        fd=new,
        fd_flags=make.below(5),
        non_blocking=False,
        local_addr=local,
        peer_addr=peer,
    )
    make.add(host_result(HostCall.ACCEPT, fd, address_value(local, peer)), accepted)


def _send(make: Making) -> None:
    fd, data = of_kind(make, SocketState), make.random.randbytes(make.below(9))
    file_fd = of_kind(make, OpenMountFile)
    event: Event = make.random.choice(
        [
            sockets.SocketSend(fd=fd, flags=0, data=data),
            sockets.SocketSend(fd=fd, flags=1, data=data),
            sockets.SocketSendTo(fd=fd, flags=0, addr=address(make.below(9)), data=data),
            sockets.SocketSendFile(socket_fd=fd, file_fd=file_fd, offset=0, count=7),
        ]
    )
    errno = _errno(make, Errno.AGAIN, Errno.PIPE, Errno.CONNRESET)
    value = b"" if errno else make.below(len(data) + 1).to_bytes(4, "little")
    make.add(event, host_result(HostCall.SEND, fd, value, errno))


def _receive(make: Making) -> None:
    fd = of_kind(make, SocketState)
    errno = _errno(make, Errno.AGAIN, Errno.CONNRESET)
    data = b"" if errno else make.random.randbytes(make.below(9))
    sender = make.random.choice([None, address(make.below(9))])
    make.add(inputs.BytesReceived(fd=fd, errno=errno, flags=0, sender=sender, data=data))


def _shut_down(make: Making) -> None:
    fd, how = of_kind(make, SocketState), make.random.choice(list(Shutdown))
    _request(make, sockets.SocketShutdown(fd=fd, how=how), HostCall.SHUTDOWN, fd)


def _set_option(make: Making) -> None:
    fd, number = of_kind(make, SocketState), make.below(1000)
    option = make.random.choice([SocketOption.NO_DELAY, SocketOption.REUSE_ADDR, SocketOption.TTL])
    limit = make.random.choice([None, number])
    event: Event = make.random.choice(
        [
            sockets.SocketSetOptFlag(fd=fd, opt=option, flag=bool(number % 2)),
            sockets.SocketSetOptSize(fd=fd, opt=option, size=number),
            sockets.SocketSetOptTime(
                fd=fd, ty=make.random.choice([TimeType.READ, TimeType.LINGER]), time=limit
            ),
        ]
    )
    _request(make, event, HostCall.SET_OPTION, fd)


def _set_group(make: Making) -> None:
    fd = of_kind(make, SocketState)
    event: Event = make.random.choice(
        [
            sockets.SocketJoinIpv4Multicast(fd=fd, multiaddr=GROUP, iface=HERE),
            sockets.SocketLeaveIpv4Multicast(fd=fd, multiaddr=GROUP, iface=HERE),
            sockets.SocketJoinIpv6Multicast(fd=fd, multiaddr=GROUP_6, iface=make.below(2)),
            sockets.SocketLeaveIpv6Multicast(fd=fd, multiaddr=GROUP_6, iface=make.below(2)),
        ]
    )
    _request(make, event, HostCall.MULTICAST, fd)


def _ask(make: Making) -> None:
    fd = make.fd()
    make.add(
        make.random.choice(
            [
                host_result(HostCall.GET_OPTION, fd, bytes(8)),
                host_result(HostCall.STATUS, fd, b"\1"),
                host_result(HostCall.ADDRESS, fd, address_value(address(1))),
                host_result(HostCall.WAIT, fd, b"", Errno.INTR),
                inputs.Resolved(host="example.org", port=80, errno=0, addresses=(HERE,)),
                inputs.EpollResult(
                    epfd=of_kind(make, Epoll), ready=(ReadyDescriptor(fd, make.below(64)),)
                ),
                inputs.PollResult(events=bytes(32)),
            ]
        )
    )


def _pipe(make: Making) -> None:
    make.add(descriptors.CreatePipe(read_fd=make.new_fd(), write_fd=make.new_fd()))


def _counter(make: Making) -> None:
    event = descriptors.CreateEvent(
        initial_val=make.below(9), flags=make.below(2), fd=make.new_fd()
    )
    make.add(event)


def _pair(make: Making) -> None:
    make.add(sockets.SocketPair(fd1=make.new_fd(), fd2=make.new_fd()))


def _epoll(make: Making) -> None:
    if not make.below(4):
        make.add(descriptors.EpollCreate(fd=make.new_fd()))
    watched = of_kind(make, SocketState, PipeEnd, EventCounter, Epoll)
    event = make.random.choice([None, EpollEvent(1, 2, watched, 4, make.below(9))])
    op = make.random.choice(list(EpollOperation)[:3])
    make.add(descriptors.EpollCtl(epfd=of_kind(make, Epoll), op=op, fd=watched, event=event))


def _copy(make: Making) -> None:
    fd = of_kind(make, SocketState, PipeEnd, EventCounter, Epoll)
    event: Event = make.random.choice(
        [
            descriptors.DuplicateFileDescriptor(original_fd=fd, copied_fd=make.new_fd()),
            descriptors.DuplicateFileDescriptorWithFlags(
                original_fd=fd, copied_fd=make.new_fd(), cloexec=bool(make.below(2))
            ),
            descriptors.FileDescriptorSetFdFlags(fd=fd, flags=make.below(2)),
            descriptors.FileDescriptorSetFlags(fd=fd, flags=make.below(5)),
            descriptors.RenumberFileDescriptor(old_fd=fd, new_fd=make.fd()),
        ]
    )
    make.add(event)


def _close(make: Making) -> None:
    fd = of_kind(make, SocketState, PipeEnd, EventCounter, Epoll)
    make.add(descriptors.CloseFileDescriptor(fd=fd))


_STEPS: tuple[Callable[[Making], None], ...] = (
    *(_open, _open, _bind, _listen, _connect, _connect, _learn_outcome, _accept, _accept),
    *(_send, _send, _receive, _receive, _shut_down, _set_option, _set_group, _ask),
    *(_pipe, _counter, _pair, _epoll, _epoll, _copy, _copy, _close, _close, _close),
)
