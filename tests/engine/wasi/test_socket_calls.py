"""Sockets of the host: connections, datagrams, options and multicast groups of a WASIX guest."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK, NetworkPolicy
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.events.inputs import HostCall, HostResult
from journal.events.sockets import (
    SocketConnect,
    SocketConnected,
    SocketOption,
    SocketSend,
)
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.remote_guest import ANSWER_SIZE, DATA, REMOTE, Remote, encode_order, parse_answer
from tests.support.rewrites import events_of
from tests.support.wasix_sockets import (
    BUFFER,
    DGRAM,
    INET6,
    accept,
    full_listener,
    inet4,
    listen,
    open_socket,
    port_of,
    receive,
    receive_from,
    send,
    send_to,
)

FIRST = 4  # After the standard streams and the memory root.
NONBLOCK, DONT_WAIT = 4, 8
OPENING, OPENED, CLOSED, FAILED = range(4)
MILLISECOND = 1_000_000

needs_ipv6 = pytest.mark.skipif(
    not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(),
    reason="this machine has no IPv6",
)


@pytest.fixture
def guest(tmp_path: Path, cache_dir: Path) -> Iterator[Remote]:
    """Run a guest that may use the network; replay it at the end, and compare what it printed."""
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        yield Remote(recorder)
        Remote(recorder).end()
        printed = recorder.stdout
    with journal.resume(path, cache=cache_dir) as again:
        assert again.files is not None  # Reading the files replays the journal.
        assert again.stdout == printed


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listen on a free port of the host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_SECONDS)
        yield listener


def inet6(port: int, address: str = "::1") -> bytes:
    return struct.pack("<BxH16s8x", INET6, port, ip_address(address).packed)


def connect(guest: Remote, server: socket.socket) -> tuple[int, socket.socket]:
    """Return a connected socket of the guest, and the other end."""
    fd = open_socket(guest)
    assert guest("sock_connect", fd, DATA, data=inet4(server.getsockname()[1])).errno == 0
    end, _ = server.accept()
    end.settimeout(DEADLINE_SECONDS)
    return fd, end


def status(guest: Remote, fd: int) -> int:
    answer = guest("sock_status", fd, DATA)
    assert answer.errno == 0
    return answer.data[0]


def handle_of(guest: Remote, fd: int) -> socket.socket:
    """Return the host's socket of a descriptor."""
    process = guest.recorder._process
    assert process is not None
    handle = process.context.descriptors.get_channel(fd, HostSocketState).handle
    assert handle is not None
    return handle


# -- connections ----------------------------------------------------------------------------------


def test_a_guest_connects_and_talks(guest: Remote, server: socket.socket) -> None:
    fd = open_socket(guest)
    assert status(guest, fd) == OPENING
    assert guest("sock_addr_peer", fd, DATA).errno == Errno.NOTCONN
    port = server.getsockname()[1]
    assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == 0
    end, address = server.accept()
    with end:
        assert status(guest, fd) == OPENED
        assert guest("sock_addr_local", fd, DATA).data[:8] == inet4(address[1])
        assert guest("sock_addr_peer", fd, DATA).data[:8] == inet4(port)
        assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.ISCONN
        assert send(guest, fd, b"question").number == 8
        assert end.recv(8, socket.MSG_WAITALL) == b"question"
        end.sendall(b"answer")
        received = receive_from(guest, fd)
        assert (received.data, received.sender[:8]) == (b"answer", inet4(port))
    assert receive(guest, fd).data == b""
    assert guest("sock_shutdown", fd, 3).errno == 0
    wait_until(lambda: status(guest, fd) == CLOSED)


def test_what_a_connection_recorded(tmp_path: Path, cache_dir: Path, server: socket.socket) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        fd, end = connect(Remote(recorder), server)
        with end:
            send(Remote(recorder), fd, b"bytes")
    kinds = (SocketConnect, SocketConnected, SocketSend, HostResult)
    events = [event for event in events_of(path) if isinstance(event, kinds)]
    named = [
        event.call.name if isinstance(event, HostResult) else type(event).__name__
        for event in events
    ]
    outcome = ["CONNECT"] * (named.count("CONNECT") - 1)
    sent = ["SocketSend", "SEND"]
    assert named == ["SOCKET", "SocketConnect", "CONNECT", *outcome, "SocketConnected", *sent]


def test_a_refused_connection_is_refused(guest: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fd = open_socket(guest)
    for _ in range(2):
        assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.CONNREFUSED
        assert status(guest, fd) == FAILED
    assert guest("sock_addr_local", fd, DATA).data[:8] == inet4(0, "0.0.0.0")


def test_a_connection_without_waiting_is_in_progress(guest: Remote, server: socket.socket) -> None:
    fd = open_socket(guest)
    assert guest("fd_fdstat_set_flags", fd, NONBLOCK).errno == 0
    address = inet4(server.getsockname()[1])
    assert guest("sock_connect", fd, DATA, data=address).errno in (0, Errno.INPROGRESS)
    end, _ = server.accept()
    with end:
        wait_until(lambda: status(guest, fd) == OPENED)
        assert last_error(guest, fd) == 0
        assert guest("sock_connect", fd, DATA, data=address).errno == Errno.ISCONN
        assert receive(guest, fd).errno == Errno.AGAIN
        end.sendall(b"x")
        wait_until(lambda: receive(guest, fd).data == b"x")


def last_error(guest: Remote, fd: int) -> int:
    answer = guest("sock_get_opt_size", fd, SocketOption.LAST_ERROR, DATA)
    assert answer.errno == 0
    return answer.number


def test_a_failed_connection_without_waiting_leaves_its_error(guest: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fd = open_socket(guest)
    guest("fd_fdstat_set_flags", fd, NONBLOCK)
    if guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.INPROGRESS:
        wait_until(lambda: last_error(guest, fd) == Errno.CONNREFUSED)
    assert status(guest, fd) == FAILED


def test_a_reset_connection_returns_the_errors_of_the_host(
    guest: Remote, server: socket.socket
) -> None:
    fd, end = connect(guest, server)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
    assert receive(guest, fd).errno == Errno.CONNRESET
    assert receive(guest, fd).data == b""
    assert send(guest, fd, b"x").errno == Errno.PIPE
    assert guest("sock_shutdown", fd, 3).errno == Errno.NOTCONN


def test_halves_of_a_connection_end_alone(guest: Remote, server: socket.socket) -> None:
    fd, end = connect(guest, server)
    with end:
        assert guest("sock_shutdown", fd, 2).errno == 0
        assert end.recv(1) == b""
        assert send(guest, fd, b"x").errno == Errno.PIPE
        end.sendall(b"still")
        assert receive(guest, fd).data == b"still"
        end.shutdown(socket.SHUT_WR)
        assert receive(guest, fd).data == b""
        assert guest("sock_shutdown", fd, 0).errno == Errno.INVAL


def test_a_guest_accepts_with_the_address_of_the_peer(guest: Remote) -> None:
    fd, port = listen(guest)
    with socket.create_connection(("127.0.0.1", port)) as client:
        answer = guest("sock_accept_v2", fd, NONBLOCK, DATA, DATA + 8)
        assert answer.errno == 0
        assert answer.data[8:16] == inet4(client.getsockname()[1])
        assert guest("fd_fdstat_get", answer.number, DATA).data[2] == NONBLOCK
        assert receive(guest, answer.number).errno == Errno.AGAIN
    assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.ISCONN
    assert guest("sock_get_opt_flag", fd, SocketOption.LISTENING, DATA).data[0] == 1


@needs_ipv6
def test_version_6_works_as_version_4_does(guest: Remote) -> None:
    fd = open_socket(guest, INET6)
    assert guest("sock_bind", fd, DATA, data=inet6(0)).errno == 0
    assert guest("sock_listen", fd, 1).errno == 0
    port = port_of(guest, fd)
    other = open_socket(guest, INET6)
    assert guest("sock_connect", other, DATA, data=inet4(port)).errno == Errno.AFNOSUPPORT
    assert guest("sock_connect", other, DATA, data=inet6(port)).errno == 0
    accepted = accept(guest, fd)
    assert guest("sock_addr_peer", other, DATA).data[:28] == inet6(port)
    assert send(guest, other, b"six").number == 3
    assert receive(guest, accepted).data == b"six"


def test_what_the_policy_does_not_grant_is_refused_and_visible(
    tmp_path: Path, cache_dir: Path, server: socket.socket
) -> None:
    path, port = tmp_path / "j", server.getsockname()[1]
    policy = NetworkPolicy.parse(["connect=192.0.2.1:1"])
    with journal.record(REMOTE, path, network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        stream, datagrams = open_socket(guest), open_socket(guest, kind=DGRAM)
        assert guest("sock_connect", stream, DATA, data=inet4(port)).errno == Errno.ACCES
        assert guest("sock_bind", stream, DATA, data=inet4(0)).errno == Errno.ACCES
        assert guest("sock_connect", datagrams, DATA, data=inet4(port)).errno == Errno.ACCES
        assert send_to(guest, datagrams, b"x", inet4(port)).errno == Errno.ACCES
    refused = [
        event.call
        for event in events_of(path)
        if isinstance(event, HostResult) and event.errno == Errno.ACCES
    ]
    assert refused == [HostCall.CONNECT, HostCall.BIND, HostCall.CONNECT, HostCall.SEND]


# -- transfers ------------------------------------------------------------------------------------


PARTS = struct.pack("<24I", *[0, 65000] * 12)  # Twelve buffers: the first bytes of the memory.
PARTS_SIZE = 12 * 65000
SEND_PARTS = ("sock_send", DATA, 12, 0, DATA + 100)


def feed_send(guest: Remote, fd: int) -> Remote:
    """Let the guest send without waiting for its answer; return the guest for later calls."""
    name, *arguments = SEND_PARTS
    guest.recorder.feed(encode_order(name, fd, *arguments, data=PARTS))
    return Remote(guest.recorder, pending=1)


def test_a_send_that_waits_sends_everything(guest: Remote, server: socket.socket) -> None:
    fd, end = connect(guest, server)
    with end:
        assert guest("sock_set_opt_size", fd, SocketOption.SEND_BUF_SIZE, 20_000).errno == 0
        later = feed_send(guest, fd)
        wait_until(lambda: is_stuck(guest, fd))
        received = 0
        while received < PARTS_SIZE:
            received += len(end.recv(1 << 16))
        answer = later("fd_fdstat_set_flags", fd, NONBLOCK)
        sent = parse_answer(later.recorder.stdout[-2 * ANSWER_SIZE : -ANSWER_SIZE])
        assert int.from_bytes(sent.data[100:104], "little") == received
        sizes = []
        name, *arguments = SEND_PARTS
        while not answer.errno:  # Until the host accepts no more.
            answer = later(name, fd, *arguments, data=PARTS)
            sizes.append(int.from_bytes(answer.data[100:104], "little"))
        assert answer.errno == Errno.AGAIN
        assert sizes[0] < PARTS_SIZE


def test_a_peer_that_never_reads_does_not_keep_a_guest_from_stopping(
    tmp_path: Path, cache_dir: Path, server: socket.socket
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        fd, end = connect(guest, server)
        with end:
            for _ in range(12):
                feed_send(guest, fd)
            wait_until(lambda: sum_sent(path) and is_stuck(guest, fd))
            recorder.stop()
            assert recorder.wait(DEADLINE_SECONDS) is not None
    assert sum_sent(path) < 12 * PARTS_SIZE


def sum_sent(path: Path) -> int:
    return sum(len(event.data) for event in events_of(path) if isinstance(event, SocketSend))


def is_stuck(guest: Remote, fd: int) -> bool:
    """Return whether the host accepts no more bytes."""
    poll = select.poll()
    poll.register(handle_of(guest, fd), select.POLLOUT)
    return not poll.poll(0)


def test_datagrams_keep_their_boundaries_and_senders(guest: Remote) -> None:
    fd = open_socket(guest, kind=DGRAM)
    assert status(guest, fd) == OPENED
    assert send(guest, fd, b"x").errno == Errno.DESTADDRREQ
    assert guest("sock_bind", fd, DATA, data=inet4(0)).errno == 0
    port = port_of(guest, fd)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(DEADLINE_SECONDS)
        here = inet4(other.getsockname()[1])
        for data in (b"one", b"", b"a long one"):
            other.sendto(data, ("127.0.0.1", port))
        received = receive_from(guest, fd)
        assert (received.data, received.sender[:8]) == (b"one", here)
        assert receive(guest, fd)[1:3] == (b"", 0)
        assert receive(guest, fd, 6, flags=1)[1:4] == (b"a long", 6, 1)
        whole = receive(guest, fd, 6, flags=1 | 4)
        assert (whole.data[:6], whole.size, whole.flags) == (b"a long", 10, 1)
        assert receive(guest, fd, 6)[1:4] == (b"a long", 6, 1)
        assert receive(guest, fd, flags=DONT_WAIT).errno == Errno.AGAIN
        assert send_to(guest, fd, b"back", here).number == 4
        assert other.recvfrom(9) == (b"back", ("127.0.0.1", port))
        assert guest("sock_connect", fd, DATA, data=here).errno == 0
        assert guest("sock_addr_peer", fd, DATA).data[:8] == here
        assert send(guest, fd, b"again").number == 5
        assert other.recv(9) == b"again"
    other_fd = open_socket(guest, kind=DGRAM)
    assert guest("sock_connect", other_fd, DATA, data=here).errno == 0
    send(guest, other_fd, b"to nobody")
    assert receive(guest, other_fd).errno == Errno.CONNREFUSED


def test_a_socket_that_has_sent_has_the_port_that_the_host_chose(guest: Remote) -> None:
    fd = open_socket(guest, kind=DGRAM)
    assert port_of(guest, fd) == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        assert send_to(guest, fd, b"x", inet4(other.getsockname()[1])).number == 1
        assert port_of(guest, fd) == handle_of(guest, fd).getsockname()[1] != 0


def test_a_datagram_that_is_too_large_is_refused(guest: Remote) -> None:
    fd = open_socket(guest, kind=DGRAM)
    for size in (0x10000, 65_530):
        data = (struct.pack("<II", 0, size) + inet4(9)).ljust(48)
        answer = guest("sock_send_to", fd, DATA, 1, 0, DATA + 8, DATA + 40, data=data)
        assert answer.errno == Errno.MSGSIZE


def test_bytes_of_a_file_are_sent(guest: Remote, server: socket.socket) -> None:
    rights = (1 << 30) - 1
    opened = guest(
        "path_open", 3, 0, DATA + 8, 1, 1, 66 | rights, rights, 0, DATA, data=b"12345678f"
    )
    file = opened.number
    iov = struct.pack("<II", BUFFER, 10).ljust(48, b"\0")
    assert guest("fd_write", file, DATA, 1, DATA + 8, data=iov + b"0123456789").errno == 0
    fd, end = connect(guest, server)
    with end:
        answer = guest("sock_send_file", fd, file, 2, 5, DATA)
        assert (answer.errno, answer.number) == (0, 5)
        assert guest("sock_send_file", fd, file, 8, 99, DATA).number == 2
        assert end.recv(7, socket.MSG_WAITALL) == b"2345689"
        assert guest("sock_send_file", fd, file, 10, 5, DATA).number == 0
        assert guest("sock_send_file", fd, fd, 0, 5, DATA).errno == Errno.BADF
        assert guest("sock_send_file", file, fd, 0, 5, DATA).errno == Errno.NOTSOCK
    assert guest("fd_tell", file, DATA).number == 10


# -- time limits ----------------------------------------------------------------------------------


def set_time(guest: Remote, fd: int, option: SocketOption, nanoseconds: int | None) -> int:
    packed = struct.pack("<B7xQ", nanoseconds is not None, nanoseconds or 0)
    return guest("sock_set_opt_time", fd, option, DATA, data=packed).errno


def test_time_limits_end_waits(guest: Remote, server: socket.socket) -> None:
    fd, end = connect(guest, server)
    with end:
        limit = 20 * MILLISECOND
        assert set_time(guest, fd, SocketOption.RECV_TIMEOUT, limit) == 0
        answer = guest("sock_get_opt_time", fd, SocketOption.RECV_TIMEOUT, DATA)
        assert struct.unpack_from("<B7xQ", answer.data) == (1, limit)
        start = time.monotonic_ns()
        assert receive(guest, fd).errno == Errno.TIMEDOUT
        assert time.monotonic_ns() - start >= limit
        assert set_time(guest, fd, SocketOption.RECV_TIMEOUT, None) == 0
        answer = guest("sock_get_opt_time", fd, SocketOption.RECV_TIMEOUT, DATA)
        assert answer.data[0] == 0
    listener, _ = listen(guest)
    assert set_time(guest, listener, SocketOption.ACCEPT_TIMEOUT, limit) == 0
    assert guest("sock_accept", listener, 0, DATA).errno == Errno.TIMEDOUT


def test_a_connection_that_nobody_answers_times_out(guest: Remote) -> None:
    with full_listener() as port:
        fd = open_socket(guest)
        assert set_time(guest, fd, SocketOption.CONNECT_TIMEOUT, 20 * MILLISECOND) == 0
        assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.TIMEDOUT
        assert status(guest, fd) == FAILED


# -- options --------------------------------------------------------------------------------------

FLAGS = {
    SocketOption.REUSE_PORT: (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    SocketOption.KEEP_ALIVE: (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    SocketOption.DONT_ROUTE: (socket.SOL_SOCKET, socket.SO_DONTROUTE),
    SocketOption.OOB_INLINE: (socket.SOL_SOCKET, socket.SO_OOBINLINE),
    SocketOption.NO_DELAY: (socket.IPPROTO_TCP, socket.TCP_NODELAY),
}
DATAGRAM_FLAGS = {
    SocketOption.REUSE_ADDR: (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    SocketOption.BROADCAST: (socket.SOL_SOCKET, socket.SO_BROADCAST),
    SocketOption.MULTICAST_LOOP_V4: (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP),
}
SIZES = {
    SocketOption.RECV_BUF_SIZE: (socket.SOL_SOCKET, socket.SO_RCVBUF, 9000),
    SocketOption.SEND_BUF_SIZE: (socket.SOL_SOCKET, socket.SO_SNDBUF, 9000),
    SocketOption.RECV_LOWAT: (socket.SOL_SOCKET, socket.SO_RCVLOWAT, 3),
    SocketOption.TTL: (socket.IPPROTO_IP, socket.IP_TTL, 9),
}


def test_flags_are_those_of_the_host(guest: Remote) -> None:
    for kind, options in ((1, FLAGS), (DGRAM, DATAGRAM_FLAGS)):
        fd = open_socket(guest, kind=kind)
        for option, name in options.items():
            for value in (1, 0, 1):
                assert guest("sock_set_opt_flag", fd, option, value).errno == 0, option
                assert bool(handle_of(guest, fd).getsockopt(*name)) is bool(value), option
                answer = guest("sock_get_opt_flag", fd, option, DATA)
                assert (answer.errno, answer.data[0]) == (0, value), option


def test_sizes_are_those_of_the_host(guest: Remote) -> None:
    fd = open_socket(guest)
    for option, (level, name, value) in SIZES.items():
        assert guest("sock_set_opt_size", fd, option, value).errno == 0, option
        answer = guest("sock_get_opt_size", fd, option, DATA)
        found = handle_of(guest, fd).getsockopt(level, name)
        assert (answer.errno, answer.number) == (0, found), option
        assert found in (value, 2 * value)
    datagrams = open_socket(guest, kind=DGRAM)
    assert guest("sock_set_opt_size", datagrams, SocketOption.MULTICAST_TTL_V4, 7).errno == 0
    handle = handle_of(guest, datagrams)
    assert handle.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
    assert guest("sock_get_opt_size", fd, SocketOption.TYPE, DATA).number == 1
    assert guest("sock_get_opt_size", datagrams, SocketOption.PROTO, DATA).number == 17


def test_the_host_s_refusals_of_options_are_passed_on(guest: Remote) -> None:
    fd = open_socket(guest)
    assert guest("sock_set_opt_size", fd, SocketOption.SEND_LOWAT, 3).errno == Errno.NOPROTOOPT
    assert guest("sock_set_opt_flag", fd, SocketOption.LISTENING, 1).errno == Errno.NOPROTOOPT
    assert guest("sock_set_opt_flag", fd, SocketOption.PROMISCUOUS, 1).errno == Errno.NOPROTOOPT
    assert guest("sock_set_opt_flag", fd, SocketOption.RECV_BUF_SIZE, 1).errno == Errno.INVAL
    assert guest("sock_set_opt_size", fd, SocketOption.KEEP_ALIVE, 1).errno == Errno.INVAL
    assert guest("sock_set_opt_flag", fd, 27, 1).errno == Errno.INVAL
    assert guest("sock_set_opt_flag", fd, SocketOption.KEEP_ALIVE, 2).errno == Errno.INVAL
    assert guest("sock_get_opt_flag", 0, SocketOption.KEEP_ALIVE, DATA).errno == Errno.NOTSOCK
    assert guest("sock_set_opt_size", fd, SocketOption.TTL, 0).errno == Errno.INVAL
    # A stream always has it on the host, so that a killed session can be resumed at once.
    assert guest("sock_get_opt_flag", fd, SocketOption.REUSE_ADDR, DATA).data[0] == 0
    assert guest("sock_set_opt_flag", fd, SocketOption.REUSE_ADDR, 1).errno == 0
    assert guest("sock_get_opt_flag", fd, SocketOption.REUSE_ADDR, DATA).data[0] == 1


def test_a_close_waits_as_long_as_the_guest_has_said(guest: Remote) -> None:
    fd = open_socket(guest)
    handle = handle_of(guest, fd)
    for time_ns, expected in ((2_500_000_000, (1, 3)), (None, (0, 0))):
        assert set_time(guest, fd, SocketOption.LINGER, time_ns) == 0
        found = handle.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        assert struct.unpack("ii", found)[: 1 + bool(time_ns)] == expected[: 1 + bool(time_ns)]


@needs_ipv6
def test_options_of_version_6_are_those_of_the_host(guest: Remote) -> None:
    fd = open_socket(guest, INET6)
    assert guest("sock_set_opt_flag", fd, SocketOption.ONLY_V6, 1).errno == 0
    handle = handle_of(guest, fd)
    assert handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert guest("sock_set_opt_size", fd, SocketOption.TTL, 5).errno == 0
    assert handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 5
    datagrams = open_socket(guest, INET6, DGRAM)
    assert guest("sock_set_opt_flag", datagrams, SocketOption.MULTICAST_LOOP_V6, 0).errno == 0
    handle = handle_of(guest, datagrams)
    assert handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP) == 0


# -- multicast ------------------------------------------------------------------------------------

GROUP, LOOPBACK = ip_address("239.1.2.3").packed, ip_address("127.0.0.1").packed


def test_a_guest_joins_and_leaves_a_group(guest: Remote) -> None:
    fd = open_socket(guest, kind=DGRAM)
    assert guest("sock_bind", fd, DATA, data=inet4(0, "0.0.0.0")).errno == 0
    port = port_of(guest, fd)
    call = ("sock_join_multicast_v4", fd, DATA, DATA + 4)
    assert guest(*call, data=GROUP + LOOPBACK).errno == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, LOOPBACK)
        sender.sendto(b"to all", ("239.1.2.3", port))
        assert receive(guest, fd).data == b"to all"
        leave = ("sock_leave_multicast_v4", fd, DATA, DATA + 4)
        assert guest(*leave, data=GROUP + LOOPBACK).errno == 0
        assert guest(*leave, data=GROUP + LOOPBACK).errno == Errno.ADDRNOTAVAIL
    stream = open_socket(guest)
    assert guest(call[0], stream, *call[2:], data=GROUP + LOOPBACK).errno == Errno.NOTSUP
    assert guest("sock_join_multicast_v6", fd, DATA, 1).errno == Errno.AFNOSUPPORT
    assert guest(*call, data=LOOPBACK + LOOPBACK).errno == Errno.INVAL


@needs_ipv6
def test_a_guest_joins_a_group_of_version_6(guest: Remote) -> None:
    fd = open_socket(guest, INET6, DGRAM)
    group = ip_address("ff01::1234").packed
    index = socket.if_nametoindex("lo")
    assert guest("sock_join_multicast_v6", fd, DATA, index, data=group).errno == 0
    assert guest("sock_leave_multicast_v6", fd, DATA, index, data=group).errno == 0
