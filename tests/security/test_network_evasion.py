"""Attempts of a guest to reach more of the network than its rules grant.

A server of the test stands for something that the guest must not reach: nobody connects to it, and
no datagram arrives.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

import journal
from journal.engine import Approvals, NetworkPolicy, read_request
from journal.events.inputs import HostCall, HostResult
from journal.wasi_abi import Errno
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import events_of
from tests.support.wasix_sockets import (
    DGRAM,
    INET4,
    INET6,
    STREAM,
    inet4,
    open_socket,
    port_of,
    resume_remote,
    send_to,
)

EVASIONS = (
    *("127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "::1", "::"),
    *("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    *("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::7f00:1"),
)
"""Addresses of this machine and of its neighbours, as a guest can write them."""
CONNECT = HostCall.CONNECT


def is_readable(connection: socket.socket) -> bool:
    """Return whether bytes or a connection have arrived."""
    poll = select.poll()  # select fails above descriptor 1023.
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class Target:
    """A TCP and a UDP server at one port of all loopback addresses."""

    def __init__(self, stack: ExitStack) -> None:
        self.tcp = stack.enter_context(
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        )
        self.port = self.tcp.getsockname()[1]
        self.udp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        self.udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.udp.bind(("::", self.port))

    @property
    def is_reached(self) -> bool:
        """Return whether a connection or a datagram has arrived."""
        return is_readable(self.tcp) or is_readable(self.udp)


@pytest.fixture
def target() -> Iterator[Target]:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with ExitStack() as stack:
        yield Target(stack)


def pack(host: str, port: int) -> bytes:
    address = ip_address(host)
    if address.version == 4:
        return inet4(port, host)
    return struct.pack("<BxH16s", INET6, port, address.packed)


def family_of(host: str) -> int:
    return INET6 if ":" in host else INET4


def try_connect(guest: Remote, host: str, port: int, kind: int = STREAM) -> int:
    fd = open_socket(guest, family_of(host), kind)
    errno = guest("sock_connect", fd, DATA, data=pack(host, port)).errno
    assert guest("fd_close", fd).errno == 0
    return errno


def try_send(guest: Remote, host: str, port: int) -> int:
    fd = open_socket(guest, family_of(host), DGRAM)
    errno = send_to(guest, fd, b"x", pack(host, port)).errno
    assert guest("fd_close", fd).errno == 0
    return errno


NARROW = (
    *("listen=127.0.0.1:0", "connect=8.8.8.8:*", "connect=[2606:4700::/32]:*"),
    *("connect=*.example.org:*", "resolve", "connect=[::/0]:1", "connect=10.0.0.0/8:*"),
)
"""Rules that grant none of the evasions."""


def test_no_form_of_an_address_reaches_more_than_the_rules_grant(
    target: Target, tmp_path: Path, cache_dir: Path
) -> None:
    path, policy = tmp_path / "j", NetworkPolicy.parse(NARROW)
    with journal.record(REMOTE, path, network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for host in EVASIONS:
            assert try_connect(guest, host, target.port) == Errno.ACCES, host
            assert try_connect(guest, host, target.port, DGRAM) == Errno.ACCES, host
            assert try_send(guest, host, target.port) == Errno.ACCES, host
        guest.end()
    assert not target.is_reached
    refused = [e.errno for e in events_of(path) if isinstance(e, HostResult) and e.call is CONNECT]
    assert refused == [Errno.ACCES] * (2 * len(EVASIONS)), "the journal shows each attempt"


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["0.0.0.0"]])
def test_a_name_that_resolves_to_this_machine_does_not_lead_there(
    answer: list[str],
    target: Target,
    tmp_path: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(0, 0, 0, "", (each, 0)) for each in answer]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    policy = NetworkPolicy.parse(["connect=*.example.org:*"])
    with journal.record(REMOTE, tmp_path / "j", network=policy, cache=cache_dir) as recorder:
        guest, name = Remote(recorder), b"rebound.example.org"
        call = (DATA, len(name), target.port, DATA + 64, 1, DATA + 56)
        assert guest("resolve", *call, data=name).errno == 0
        assert try_connect(guest, answer[0], target.port) == Errno.ACCES
        assert try_send(guest, answer[0], target.port) == Errno.ACCES
    assert not target.is_reached


def test_each_datagram_is_judged_by_its_own_target(
    target: Target, tmp_path: Path, cache_dir: Path
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as granted:
        granted.bind(("127.0.0.1", 0))
        port = granted.getsockname()[1]
        policy = NetworkPolicy.parse([f"connect=udp:127.0.0.1:{port}"])
        with journal.record(REMOTE, tmp_path / "j", network=policy, cache=cache_dir) as recorder:
            guest = Remote(recorder)
            fd = open_socket(guest, INET4, DGRAM)
            for _ in range(2):
                assert send_to(guest, fd, b"y", pack("127.0.0.1", port)).errno == 0
                assert send_to(guest, fd, b"n", pack("127.0.0.1", target.port)).errno == (
                    Errno.ACCES
                )
                assert send_to(guest, fd, b"n", pack("127.0.0.2", port)).errno == Errno.ACCES
            assert try_connect(guest, "127.0.0.1", port) == Errno.ACCES, "TCP is not granted"
            connect = guest("sock_connect", fd, DATA, data=pack("127.0.0.1", target.port))
            assert connect.errno == Errno.ACCES
        assert [granted.recv(9), granted.recv(9)] == [b"y", b"y"]
        assert not is_readable(granted)
    assert not target.is_reached


def test_a_guest_does_not_listen_where_no_rule_says(tmp_path: Path, cache_dir: Path) -> None:
    policy = NetworkPolicy.parse(["listen=127.0.0.1:0", "connect=*:*"])
    with journal.record(REMOTE, tmp_path / "j", network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for kind in (STREAM, DGRAM):
            for host in ("0.0.0.0", "127.0.0.2", "::", "::1", "::ffff:0.0.0.0"):
                fd = open_socket(guest, family_of(host), kind)
                assert guest("sock_bind", fd, DATA, data=pack(host, 0)).errno == Errno.ACCES, host
            fd = open_socket(guest, INET4, kind)
            assert guest("sock_bind", fd, DATA, data=pack("127.0.0.1", 40_000)).errno == 2
        unbound = open_socket(guest)
        assert guest("sock_listen", unbound, 5).errno == Errno.ACCES, "that is 0.0.0.0"
        # A refused socket can still be used as the rules say.
        assert guest("sock_bind", unbound, DATA, data=inet4(0)).errno == 0
        assert port_of(guest, unbound) > 0


def test_loopback_inside_does_not_reach_the_loopback_of_the_host(
    target: Target, tmp_path: Path, cache_dir: Path
) -> None:
    policy = NetworkPolicy.parse(["loopback"])
    with journal.record(REMOTE, tmp_path / "j", network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for host in ("127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"):
            assert try_connect(guest, host, target.port) == Errno.CONNREFUSED, host
        for host in ("::127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"):
            assert try_connect(guest, host, target.port) == Errno.ACCES, host
        bound = open_socket(guest)
        assert guest("sock_bind", bound, DATA, data=inet4(0)).errno == 0
        assert guest("sock_listen", bound, 5).errno == 0
        port = port_of(guest, bound)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0, "the host does not see it"
    assert not target.is_reached


def test_a_name_that_a_foreign_journal_states_grants_nothing(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger records that a name of the rule has the address of the stranger's choice."""
    found = [(0, 0, 0, "", ("8.8.8.8", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    policy = NetworkPolicy.parse(["connect=udp:*.example.org:9"])
    path, name = tmp_path / "j", b"www.example.org"
    call = (DATA, len(name), 9, DATA + 64, 1, DATA + 56)
    with journal.record(REMOTE, path, network=policy, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        assert guest("resolve", *call, data=name).errno == 0
        assert try_connect(guest, "8.8.8.8", 9, DGRAM) != Errno.ACCES
    for is_own in (True, False):
        if not is_own:
            Approvals().revoke(read_request(path).journal_id)
        with journal.resume(path, network=policy, cache=cache_dir) as recorder:
            guest = resume_remote(recorder)
            assert (try_connect(guest, "8.8.8.8", 9, DGRAM) == Errno.ACCES) is not is_own
            if not is_own:
                assert guest("resolve", *call, data=name).errno == 0
                assert try_connect(guest, "8.8.8.8", 9, DGRAM) != Errno.ACCES
