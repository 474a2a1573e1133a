"""Events of sockets with their host results, as a server and its clients cause them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from journal import Event
from journal.events import descriptors, inputs, process, sockets
from journal.events.inputs import HostCall
from journal.events.sockets import AddressFamily, SocketType
from journal.events.wire_types import SocketAddress
from tests.support.network_histories import address_value
from tests.support.sample_events import host_result

HERE = SocketAddress(IPv4Address("192.0.2.1"), 8080)
THERE = SocketAddress(IPv4Address("198.51.100.7"), 40_000)
HERE_6 = SocketAddress(IPv6Address("2001:db8::1"), 8080)
THERE_6 = SocketAddress(IPv6Address("2001:db8::7"), 40_000)
SESSION = process.SessionStart(
    realtime=0, monotonic=0, engine_version="", journal_version="", platform=""
)
REQUEST, ANSWER = b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello"


def open_socket(fd: int = 5, ty: SocketType = SocketType.STREAM) -> list[Event]:
    event = sockets.SocketOpen(af=AddressFamily.INET4, ty=ty, pt=0, fd=fd)
    return [event, host_result(HostCall.SOCKET, fd)]


def listen(here: SocketAddress = HERE, fd: int = 5) -> list[Event]:
    binding = host_result(HostCall.BIND, fd, address_value(here))
    listening = host_result(HostCall.LISTEN, fd, address_value(here))
    return [
        *open_socket(fd),
        sockets.SocketBind(fd=fd, addr=here),
        binding,
        sockets.SocketListen(fd=fd, backlog=1),
        listening,
    ]


def accept(here: SocketAddress = HERE, there: SocketAddress = THERE, fd: int = 6) -> list[Event]:
    return [
        host_result(HostCall.ACCEPT, 5, address_value(here, there)),
        sockets.SocketAccepted(
            listen_fd=5,
            fd=fd,
            fd_flags=0,
            non_blocking=False,
            local_addr=here,
            peer_addr=there,
        ),
    ]


def connect(
    errno: int = 0, here: SocketAddress = THERE, there: SocketAddress = HERE
) -> list[Event]:
    result = host_result(HostCall.CONNECT, 5, address_value(here, there), errno)
    connected = sockets.SocketConnected(fd=5, local_addr=here, peer_addr=there)
    return [sockets.SocketConnect(fd=5, addr=there), result, *([] if errno else [connected])]


def receive(data: bytes, errno: int = 0, fd: int = 6, flags: int = 0) -> Event:
    return inputs.BytesReceived(fd=fd, errno=errno, flags=flags, sender=None, data=data)


def send(data: bytes, fd: int = 6, count: int | None = None, errno: int = 0) -> list[Event]:
    size = len(data) if count is None else count
    value = b"" if errno else size.to_bytes(4, "little")
    return [
        sockets.SocketSend(fd=fd, flags=0, data=data),
        host_result(HostCall.SEND, fd, value, errno),
    ]


def close(fd: int) -> Event:
    return descriptors.CloseFileDescriptor(fd=fd)
