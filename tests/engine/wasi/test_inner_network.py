"""Sockets inside a guest: Unix sockets, and TCP and UDP of the internal loopback."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import NetworkPolicy, SnapshotOptions
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.events.inputs import HostCall, HostResult
from journal.events.snapshots import Trigger
from journal.events.sockets import SocketInside
from journal.replay import ModelHost, play
from journal.wasi_abi import Errno
from tests.support.epoll_machines import ADD, EDGE, HUP, IN, OUT, RDHUP
from tests.support.guest_epolls import (
    Call,
    accept,
    bound_listener,
    connected,
    control,
    create,
    inner_listener,
    read,
    unix,
    wait,
    write,
)
from tests.support.local_guest import LocalGuest
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import events_of, frames_of
from tests.support.snapshot_runs import snapshots_in
from tests.support.wasix_sockets import (
    DGRAM,
    INET4,
    INET6,
    STREAM,
    UNIX,
    inet4,
    resume_remote,
)

LOOPBACK = NetworkPolicy.parse(["loopback"])
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
SEQPACKET = 4
NONBLOCK = 4


@pytest.fixture
def guest() -> Iterator[LocalGuest]:
    """Run a guest that has nothing but its own loopback."""
    local = LocalGuest()
    context = local.context
    context.network = GuestNetwork(context.tape, context.descriptors, policy=LOOPBACK)
    yield local
    local.end()
    context.network.close()


def inet6(port: int, address: str = "::1") -> bytes:
    return struct.pack("<BxH16s8x", INET6, port, IPv6Address(address).packed)


def local_of(guest: Call, fd: int, size: int = 8) -> bytes:
    answer = guest("sock_addr_local", fd, DATA)
    assert answer.errno == 0
    return answer.data[:size]


def peer_of(guest: Call, fd: int, size: int = 8) -> bytes:
    answer = guest("sock_addr_peer", fd, DATA)
    assert answer.errno == 0
    return answer.data[:size]


def send_to(guest: Call, fd: int, data: bytes, address: bytes) -> int:
    """Send the first bytes of an address as a datagram: orders have room for one of both."""
    size = len(address)
    iovec = struct.pack("<II", DATA + 8, size)
    place = DATA + 8
    return guest("sock_send_to", fd, DATA, 1, 0, place, 4000, data=iovec + address).errno


def receive_from(guest: Call, fd: int) -> tuple[int, bytes, bytes]:
    """Return the errno, the bytes and the sender of a datagram."""
    iovec = struct.pack("<II", DATA + 8, 40)
    arguments = DATA, 1, 8, DATA + 48, DATA + 52, DATA + 56
    answer = guest("sock_recv_from", fd, *arguments, data=iovec)
    size = int.from_bytes(answer.data[48:52], "little")
    return answer.errno, answer.data[8 : 8 + size], answer.data[56:64]


# -- TCP ------------------------------------------------------------------------------------------


def test_a_guest_talks_to_itself_over_tcp(guest: LocalGuest) -> None:
    listener, port = inner_listener(guest)
    client = connected(guest, inet4(port))
    assert peer_of(guest, client) == inet4(port) == local_of(guest, listener)
    assert write(guest, client, b"before it is accepted") == 0
    server = accept(guest, listener)
    assert peer_of(guest, server) == local_of(guest, client)
    assert local_of(guest, server) == inet4(port)
    assert read(guest, server) == (0, b"before it is accepted")
    assert write(guest, server, b"answer") == 0
    assert guest("sock_shutdown", server, 2).errno == 0
    assert read(guest, client) == (0, b"answer")
    assert read(guest, client) == (0, b"")
    assert write(guest, client, b"more") == 0
    assert guest("fd_close", client).errno == 0
    assert read(guest, server) == (0, b"more")
    assert read(guest, server) == (0, b"")


def test_errors_of_connections_are_those_of_linux(guest: LocalGuest) -> None:
    fd = guest("sock_open", INET4, STREAM, 0, DATA).number
    listener, port = inner_listener(guest)
    assert guest("sock_connect", fd, DATA, data=inet4(port + 1)).errno == Errno.CONNREFUSED
    assert guest("sock_connect", fd, DATA, data=inet4(port, "10.0.0.1")).errno == Errno.ACCES
    assert read(guest, fd)[0] == Errno.NOTCONN
    assert guest("sock_addr_peer", fd, DATA).errno == Errno.NOTCONN
    assert guest("sock_connect", fd, DATA, data=inet4(port, "127.9.9.9")).errno == Errno.CONNREFUSED
    assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == 0
    assert guest("sock_connect", fd, DATA, data=inet4(port)).errno == Errno.ISCONN
    assert guest("sock_listen", fd, 1).errno == Errno.INVAL
    other = guest("sock_open", INET4, STREAM, 0, DATA).number
    assert guest("sock_bind", other, DATA, data=inet4(port)).errno == Errno.ADDRINUSE
    assert guest("sock_bind", other, DATA, data=inet4(port, "0.0.0.0")).errno == Errno.ADDRINUSE
    assert guest("sock_bind", other, DATA, data=inet4(port, "127.0.0.2")).errno == 0
    assert guest("sock_bind", other, DATA, data=inet4(port)).errno == Errno.INVAL
    assert guest("fd_close", listener).errno == 0
    assert read(guest, fd)[0] == Errno.CONNRESET
    assert guest("sock_bind", listener, DATA, data=inet4(port)).errno == Errno.BADF


def test_a_full_queue_lets_a_request_wait(guest: LocalGuest) -> None:
    address = inet4(5000)
    listener = bound_listener(guest, address, backlog=0)
    assert guest("fd_fdstat_set_flags", listener, NONBLOCK).errno == 0
    first = connected(guest, address)
    waiting = [guest("sock_open", INET4, STREAM, 0, DATA).number for _ in range(2)]
    epfd = create(guest)
    for fd in waiting:
        assert guest("fd_fdstat_set_flags", fd, NONBLOCK).errno == 0
        assert guest("sock_connect", fd, DATA, data=address).errno == Errno.INPROGRESS
        assert guest("sock_connect", fd, DATA, data=address).errno == Errno.ALREADY
        assert guest("sock_status", fd, DATA).data[0] == 0
        assert control(guest, epfd, ADD, fd, OUT) == 0
    assert wait(guest, epfd) == []
    accept(guest, listener)
    assert wait(guest, epfd) == [(waiting[0], OUT)]
    assert guest("sock_status", waiting[0], DATA).data[0] == 1
    assert guest("fd_close", listener).errno == 0
    assert (waiting[1], OUT | 16 | HUP) in wait(guest, epfd)
    assert guest("sock_connect", waiting[1], DATA, data=address).errno == Errno.CONNREFUSED
    assert write(guest, first, b"accepted") == 0


def test_one_listener_of_ipv6_is_reached_over_both_versions(guest: LocalGuest) -> None:
    listener = bound_listener(guest, inet6(6000, "::"), INET6)
    connected(guest, inet6(6000), INET6)
    assert peer_of(guest, accept(guest, listener), 28)[4:20] == inet6(0)[4:20]
    connected(guest, inet4(6000))
    mapped = inet6(0, "::ffff:127.0.0.1")
    assert peer_of(guest, accept(guest, listener), 28)[4:20] == mapped[4:20]
    assert guest("sock_open", INET4, STREAM, 0, DATA).errno == 0


def test_addresses_of_the_host_stay_refused(guest: LocalGuest) -> None:
    for address in (inet4(80, "192.0.2.1"), inet4(0, "10.0.0.1")):
        fd = guest("sock_open", INET4, STREAM, 0, DATA).number
        assert guest("sock_bind", fd, DATA, data=address).errno == Errno.ACCES
        assert guest("sock_connect", fd, DATA, data=address).errno == Errno.ACCES


# -- UDP ------------------------------------------------------------------------------------------


def test_datagrams_have_their_sender_and_may_be_lost(guest: LocalGuest) -> None:
    one, two = (guest("sock_open", INET4, DGRAM, 0, DATA).number for _ in range(2))
    assert guest("sock_bind", one, DATA, data=inet4(7000)).errno == 0
    assert send_to(guest, two, b"", inet4(7000)) == 0
    assert local_of(guest, two)[4:8] == bytes(4), "it has a port, and no address of its own"
    errno, data, sender = receive_from(guest, one)
    port = int.from_bytes(local_of(guest, two)[2:4], "little")
    assert (errno, data, sender) == (0, inet4(7000), inet4(port))
    assert send_to(guest, one, b"", sender) == 0
    assert receive_from(guest, two) == (0, inet4(port), inet4(7000))
    assert send_to(guest, one, b"", inet4(7999)) == 0, "nobody receives it"
    assert guest("sock_connect", two, DATA, data=inet4(7999)).errno == 0
    assert write(guest, two, b"x") == 0
    assert write(guest, two, b"x") == Errno.CONNREFUSED
    assert send_to(guest, one, b"", inet4(port)) == 0
    assert receive_from(guest, two)[0] == Errno.AGAIN, "it receives from its peer only"


# -- Unix sockets ---------------------------------------------------------------------------------


def test_unix_sockets_have_paths_and_abstract_names(guest: LocalGuest) -> None:
    for name in (b"/run/service", b"\0service"):
        listener = bound_listener(guest, unix(name), UNIX)
        client = connected(guest, unix(name), UNIX)
        server = accept(guest, listener)
        assert write(guest, client, b"hello") == 0
        assert read(guest, server) == (0, b"hello")
        assert local_of(guest, server, 110) == peer_of(guest, client, 110) == unix(name)
        assert peer_of(guest, server, 110) == unix(b"")
        assert guest("fd_close", listener).errno == 0
        late = guest("sock_open", UNIX, STREAM, 0, DATA).number
        gone = Errno.NOENT if name[0] else Errno.CONNREFUSED
        assert guest("sock_connect", late, DATA, data=unix(name)).errno == gone
        assert guest("sock_bind", late, DATA, data=unix(name)).errno == 0, "the name is free"


def test_unix_sockets_of_other_types_keep_messages_apart(guest: LocalGuest) -> None:
    listener = guest("sock_open", UNIX, SEQPACKET, 0, DATA).number
    assert guest("sock_bind", listener, DATA, data=unix(b"/s")).errno == 0
    assert guest("sock_listen", listener, 1).errno == 0
    client = guest("sock_open", UNIX, SEQPACKET, 0, DATA).number
    stream = guest("sock_open", UNIX, STREAM, 0, DATA).number
    assert guest("sock_connect", stream, DATA, data=unix(b"/s")).errno == Errno.PROTOTYPE
    assert guest("sock_connect", client, DATA, data=unix(b"/s")).errno == 0
    server = accept(guest, listener)
    for message in (b"one", b"two"):
        assert write(guest, client, message) == 0
    assert [read(guest, server), read(guest, server)] == [(0, b"one"), (0, b"two")]
    one, two = (guest("sock_open", UNIX, DGRAM, 0, DATA).number for _ in range(2))
    assert guest("sock_bind", one, DATA, data=unix(b"/d")).errno == 0
    assert guest("sock_connect", two, DATA, data=unix(b"/d")).errno == 0
    assert write(guest, two, b"letter") == 0
    assert read(guest, one) == (0, b"letter")
    assert guest("fd_close", one).errno == 0
    assert write(guest, two, b"letter") == Errno.CONNREFUSED
    assert guest("sock_bind", two, DATA, data=unix(b"")).errno == 0
    assert local_of(guest, two, 8) == b"\3\0\x0000000"


def test_sendfile_sends_what_the_queue_can_take(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(REMOTE, tmp_path / "j", cache=cache_dir) as recorder:
        guest = Remote(recorder)
        pair = guest("sock_pair", UNIX, STREAM, 0, DATA, DATA + 4)
        one, two = struct.unpack_from("<2I", pair.data)
        opened = guest("path_open", 3, 0, DATA, 1, 1, 66, 66, 0, DATA + 8, data=b"f")
        file = int.from_bytes(opened.data[8:12], "little")
        assert write(guest, file, b"0123456789") == 0
        sent = guest("sock_send_file", one, file, 2, 5, DATA)
        assert (sent.errno, sent.number) == (0, 5)
        assert read(guest, two) == (0, b"23456")
        assert guest("sock_send_file", one, two, 0, 5, DATA).errno == Errno.BADF
        guest.end()
    assert journal.verify_replay(tmp_path / "j", cache=cache_dir).matches


# -- journals -------------------------------------------------------------------------------------


def talk(guest: Call, listener: int, client: int) -> None:
    """Accept a connection that waits, and pass bytes in both directions."""
    assert write(guest, client, b"before it is accepted") == 0
    accepted = accept(guest, listener)
    assert read(guest, accepted) == (0, b"before it is accepted")
    assert write(guest, accepted, b"hi") == 0
    assert read(guest, client) == (0, b"hi")


def test_sockets_inside_survive_a_snapshot_and_a_resume(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(
        REMOTE, path, snapshots=EXPLICIT, network=LOOPBACK, cache=cache_dir
    ) as recorder:
        guest = Remote(recorder)
        listener, port = inner_listener(guest)
        client, gone = connected(guest, inet4(port)), connected(guest, inet4(port))
        server = accept(guest, listener)
        assert write(guest, client, b"to the server") == write(guest, gone, b"last words") == 0
        assert guest("fd_close", gone).errno == 0
        named = bound_listener(guest, unix(b"/n"), UNIX)
        talker = connected(guest, unix(b"/n"), UNIX)
        datagrams = guest("sock_open", INET4, DGRAM, 0, DATA).number
        assert guest("sock_bind", datagrams, DATA, data=inet4(7000)).errno == 0
        assert send_to(guest, datagrams, b"", inet4(7000)) == 0
        epfd = create(guest)
        for fd in (listener, client, server, named, talker, datagrams):
            assert control(guest, epfd, ADD, fd, IN | RDHUP | EDGE) == 0
        assert guest("proc_snapshot").errno == 0
        assert read(guest, server) == (0, b"to the server")
    events = events_of(path)
    assert sum(isinstance(event, SocketInside) for event in events) == 4
    calls = {event.call for event in events if isinstance(event, HostResult)}
    assert calls == {HostCall.SOCKET}
    play(frames_of(path), host := ModelHost())
    state: Any = host.descriptors[server].object
    assert state.is_inside
    (info,) = snapshots_in(path)
    for start in (None, info.seq):
        assert journal.verify_replay(path, start=start, cache=cache_dir).matches
    compacted = tmp_path / "compacted"
    journal.compact(path, compacted)
    for copy in (compacted, path):
        with journal.resume(copy, network=LOOPBACK, cache=cache_dir) as recorder:
            again = resume_remote(recorder)
            ready = {fd for fd, _ in wait(again, epfd)}
            assert ready >= {listener, named, datagrams}
            assert write(again, server, b"answer") == 0
            assert read(again, client) == (0, b"answer")
            orphan = accept(again, listener)
            assert read(again, orphan) == (0, b"last words")
            assert read(again, orphan) == (0, b"")
            talk(again, named, talker)
            assert receive_from(again, datagrams) == (0, inet4(7000), inet4(7000))
            late = again("sock_open", INET4, STREAM, 0, DATA).number
            assert again("sock_bind", late, DATA, data=inet4(port)).errno == Errno.ADDRINUSE
            again.end()
