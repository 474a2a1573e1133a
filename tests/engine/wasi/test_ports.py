"""The guest's own network interface: calls, events, and the same state in a replay and a resume."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.engine import NO_NETWORK, SnapshotOptions
from journal.engine.runtime.bindings import GuestMemory
from journal.engine.wasi.functions import names
from journal.engine.wasi.functions import ports as port_functions
from journal.engine.wasi.network import interface as interfaces
from journal.engine.wasi.network.interface import (
    MAC_ADDRESS,
    NetworkInterface,
    Route,
)
from journal.engine.wasi.network.resolver import Resolver
from journal.events import BY_TAG, codec, ports
from journal.events.ports import Security
from journal.events.wire_types import Network
from journal.replay import ModelHost, play
from journal.replay.dispatch import apply_effect
from journal.snapshots import Trigger
from journal.wasi_abi import Errno, MemoryFault, WasiError
from tests.support.deadlines import wait_until
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import events_of, frames_of

NET_4, NET_6 = Network(IPv4Address("10.0.0.7"), 24), Network(IPv6Address("fd00::7"), 64)
GATEWAY = ip_address("10.0.0.1")
TIMES, LIST = DATA + 64, 4096
FUNCTIONS = port_functions.FUNCTIONS | names.FUNCTIONS
PORTS = tuple(cls for tag, cls in BY_TAG.items() if 33 <= tag <= 42)
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


def pack_address(address: IPv4Address | IPv6Address) -> bytes:
    return struct.pack("<Bx", 1 if address.version == 4 else 2) + address.packed


def pack_cidr(network: Network) -> bytes:
    if network.address.version == 4:
        return (pack_address(network.address) + bytes([network.prefix])).ljust(28, b"\0")
    return pack_address(network.address) + bytes(8) + bytes([network.prefix, 0])


def add_route(guest: Remote, network: Network, times: bytes = bytes(32)) -> int:
    data = (pack_cidr(network) + pack_address(GATEWAY)).ljust(64, b"\0") + times
    return guest("port_route_add", DATA, DATA + 28, TIMES, TIMES + 16, data=data).errno


def list_addresses(guest: Remote, room: int = 4) -> tuple[int, int, bytes]:
    """Return the errno, the count, and the entries that fit the answer."""
    answer = guest("port_addr_list", DATA + 8, DATA, data=room.to_bytes(4, "little"))
    return answer.errno, answer.number, answer.data[8:]


def list_routes(guest: Remote, room: int = 1) -> tuple[int, int]:
    answer = guest("port_route_list", LIST, DATA, data=room.to_bytes(4, "little"))
    return answer.errno, answer.number


def set_up(guest: Remote) -> None:
    """Let the guest set everything that an interface has."""
    for network in (NET_4, NET_6, NET_4):
        assert guest("port_addr_add", DATA, data=pack_cidr(network)).errno == 0
    until = struct.pack("<B7xQB7xQ", 0, 9, 1, 5_000_000_007)
    assert add_route(guest, NET_4, until) == 0
    assert guest("port_gateway_set", DATA, data=pack_address(GATEWAY)).errno == 0
    bridge = (DATA, 3, DATA + 3, 5, 2 | 4)
    assert guest("port_bridge", *bridge, data=b"nettoken").errno == 0
    assert guest("port_dhcp_acquire").errno == 0


def test_a_guest_sees_what_it_has_set_after_a_snapshot_too(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, snapshots=EXPLICIT, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        assert list_addresses(guest)[:2] == (0, 0)
        set_up(guest)
        assert guest("port_mac", DATA).data[:8] == MAC_ADDRESS + bytes(2)
        seq = recorder.snapshot()
        assert seq is not None
        printed = len(recorder.stdout)
    with journal.resume(path, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) >= printed)
        guest = Remote(recorder)
        errno, count, entries = list_addresses(guest)
        assert (errno, count) == (0, 2)
        assert entries[:56] == pack_cidr(NET_4) + pack_cidr(NET_6)
        assert list_addresses(guest, room=1)[:2] == (Errno.OVERFLOW, 2)
        assert list_routes(guest, room=0) == (Errno.OVERFLOW, 1)
        assert list_routes(guest) == (0, 1)
        removed = pack_address(NET_4.address).ljust(110, b"\0")
        for call in ("port_addr_remove", "port_route_remove"):
            assert guest(call, DATA, data=removed).errno == 0
        assert list_addresses(guest)[1] == 1
        assert list_routes(guest) == (0, 0)
        for call in ("port_addr_clear", "port_route_clear", "port_unbridge"):
            assert guest(call).errno == 0
        assert list_addresses(guest)[:2] == (0, 0)
        guest.end()
    found = [event for event in events_of(path) if isinstance(event, PORTS)]
    assert found == [
        *(ports.PortAddAddr(cidr=network) for network in (NET_4, NET_6, NET_4)),
        ports.PortRouteAdd(
            cidr=NET_4, via_router=GATEWAY, preferred_until=None, expires_at=5_000_000_007
        ),
        ports.PortGatewaySet(ip=GATEWAY),
        ports.PortBridge(security=Security.CLASSIC_ENCRYPTION, network="net", token="token"),
        ports.PortDhcpAcquire(),
        ports.PortDelAddr(addr=NET_4.address),
        ports.PortRouteDel(ip=NET_4.address),
        ports.PortAddrClear(),
        ports.PortRouteClear(),
        ports.PortUnbridge(),
    ]
    host = ModelHost()
    play(frames_of(path), host)
    assert (host.network.gateway, host.network.has_requested_dhcp) == (GATEWAY, True)


IMPOSSIBLE = (
    ("port_addr_add", (DATA,), b"\0", Errno.INVAL),
    ("port_addr_add", (DATA,), b"\3", Errno.INVAL),
    ("port_addr_add", (DATA,), b"\7", Errno.INVAL),
    ("port_addr_add", (DATA,), pack_cidr(Network(NET_4.address, 33)), Errno.INVAL),
    ("port_addr_add", (DATA,), pack_cidr(Network(NET_6.address, 129)), Errno.INVAL),
    ("port_gateway_set", (DATA,), b"\3", Errno.INVAL),
    ("port_bridge", (DATA, 1, DATA, 1, 0), b"", Errno.INVAL),
    ("port_bridge", (DATA, 1, DATA, 1, 16), b"", Errno.INVAL),
    ("port_bridge", (DATA, 1, DATA + 1, 1, 1), b"n\xff", Errno.INVAL),
    ("port_bridge", (DATA, 4097, DATA, 1, 1), b"", Errno.NAMETOOLONG),
    ("port_route_add", (DATA, DATA, TIMES, TIMES), pack_cidr(NET_4).ljust(64) + b"\2", 28),
)


def test_an_impossible_setting_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for call, arguments, data, errno in IMPOSSIBLE:
            assert guest(call, *arguments, data=data).errno == errno
        guest.end()
    assert not any(isinstance(event, PORTS) for event in events_of(path))


# -- the same state as a replay -------------------------------------------------------------------


class Recorded:
    """A tape that applies each effect to the model of a replay."""

    def __init__(self) -> None:
        self.host = ModelHost()

    def record_effect(self, tag: int, payload: bytes) -> int:
        apply_effect(codec.decode(tag, payload), self.host)
        return 0


ADDRESSES = st.sampled_from([ip_address(f"10.0.0.{n}") for n in range(4)] + [ip_address("fd00::1")])
NETWORKS = st.builds(Network, ADDRESSES, st.integers(8, 32))
LIMITS = st.one_of(st.none(), st.integers(0, (1 << 64) - 1))
OPERATIONS = st.one_of(
    st.tuples(st.just("add_address"), NETWORKS),
    st.tuples(st.just("remove_address"), ADDRESSES),
    st.tuples(st.just("add_route"), st.builds(Route, NETWORKS, ADDRESSES, LIMITS, LIMITS)),
    st.tuples(st.just("remove_routes"), ADDRESSES),
    st.tuples(st.just("set_gateway"), ADDRESSES),
    st.tuples(st.just("join"), st.sampled_from(Security), st.just("net"), st.just("token")),
    st.tuples(st.sampled_from(["clear_addresses", "clear_routes", "request_dhcp", "leave"])),
)


@given(st.lists(OPERATIONS, max_size=20))
def test_the_interface_is_that_of_a_replay(operations: list[tuple[Any, ...]]) -> None:
    tape: Any = Recorded()
    interface = NetworkInterface(tape)
    for name, *values in operations:
        getattr(interface, name)(*values)
    state, replayed = interface.state, tape.host.network
    assert state.addresses == tuple(replayed.addresses)
    assert [(route.network, route.router) for route in state.routes] == [
        (network, event.via_router) for network, event in replayed.routes.items()
    ]
    assert (state.gateway, state.has_requested_dhcp) == (
        replayed.gateway,
        replayed.has_requested_dhcp,
    )
    assert state.bridge == (replayed.bridge.network if replayed.bridge else None)


POINTERS = st.sampled_from([0, 8, 1000, 65_400, 65_535, 65_536, (1 << 32) - 1])
NUMBERS = st.one_of(POINTERS, st.integers(0, (1 << 32) - 1), st.integers(0, 40))
CALLS = st.tuples(
    st.sampled_from(sorted(FUNCTIONS)),
    st.lists(NUMBERS, min_size=6, max_size=6),
    st.binary(max_size=200),
)


class FixedMemory(GuestMemory):
    """A memory of one page, without an instance."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.size = memoryview(bytearray(65_536)), 65_536

    def refresh(self) -> int:
        return self.size


@given(st.lists(CALLS, max_size=10))
def test_whatever_a_guest_passes_is_answered_or_its_own_fault(
    calls: list[tuple[str, list[int], bytes]],
) -> None:
    context: Any = SimpleNamespace(memory=FixedMemory())
    tape: Any = Recorded()
    context.interface = NetworkInterface(tape)
    context.network = SimpleNamespace(resolver=Resolver(tape, NO_NETWORK))
    tape.request_input = lambda tag, prefix, live: live()
    for name, numbers, data in calls:
        context.memory.view[: len(data)] = data
        parameters, handler = FUNCTIONS[name]
        with suppress(WasiError, MemoryFault):
            handler(context, *numbers[: len(parameters)])
    assert tuple(tape.host.network.addresses) == context.interface.state.addresses


def test_an_interface_has_largest_numbers_of_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "ADDRESSES_COUNT_MAX", 3)
    monkeypatch.setattr(interfaces, "ROUTES_COUNT_MAX", 5)
    tape: Any = Recorded()
    interface = NetworkInterface(tape)
    for number in range(5):
        network = Network(IPv4Address(number + 1), 32)
        if number < 3:
            interface.add_address(network)
        interface.add_route(Route(network, GATEWAY, None, None))
    more = Network(IPv4Address(1 << 30), 32)
    with pytest.raises(WasiError) as refused:
        interface.add_address(more)
    assert refused.value.errno == Errno.NOBUFS
    with pytest.raises(WasiError) as refused:
        interface.add_route(Route(more, GATEWAY, None, None))
    assert refused.value.errno == Errno.NOBUFS
    interface.add_route(Route(network, GATEWAY, None, 1))
    assert tape.host.network.routes[network].expires_at == 1
