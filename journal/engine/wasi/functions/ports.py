"""Functions of WASIX that configure the network interface of the guest."""

import struct
from ipaddress import IPv4Address, IPv6Address

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network.address_ranges import IpAddress
from journal.engine.wasi.network.interface import MAC_ADDRESS, InterfaceState, Route
from journal.events.ports import Security
from journal.events.sockets import AddressFamily
from journal.events.wire_types import Network
from journal.wasi_abi import Errno, WasiError

_FAMILY = struct.Struct("<Bx")
_ADDRESS_SIZE = 110
_CIDR_4 = struct.Struct("<Bx4sB21x")
_CIDR_6 = struct.Struct("<Bx16s8xBx")  # The octets are followed by flow and scope.
_CIDR_SIZE = 28
_COUNT = struct.Struct("<I")
_TIME = struct.Struct("<B7xQ")
_VIA, _PREFERRED, _EXPIRES, _ROUTE_SIZE = 28, 144, 160, 176
assert _CIDR_4.size == _CIDR_6.size == _CIDR_SIZE
assert _EXPIRES + _TIME.size == _ROUTE_SIZE

_TEXT_SIZE_MAX = 4096
_SECURITY_MAX = 15
_SECURITY = (
    (8, Security.DOUBLE_ENCRYPTION),
    (4, Security.CLASSIC_ENCRYPTION),
    (2, Security.ANY_ENCRYPTION),
    (1, Security.UNENCRYPTED),
)
"""Bits of port_bridge, the strongest first: a guest may set several."""


def port_bridge(
    context: CallContext, network: int, network_size: int, token: int, token_size: int, bits: int
) -> None:
    """Join another network, which has no other members."""
    found = [security for bit, security in _SECURITY if bits & bit]
    if not found or bits > _SECURITY_MAX:
        raise WasiError(Errno.INVAL)
    name, secret = (
        _read_text(context, *text) for text in ((network, network_size), (token, token_size))
    )
    context.interface.join(found[0], name, secret)


def port_unbridge(context: CallContext) -> None:
    """Leave the other network."""
    context.interface.leave()


def port_dhcp_acquire(context: CallContext) -> None:
    """Ask for an address by DHCP. No server answers."""
    context.interface.request_dhcp()


def port_addr_add(context: CallContext, pointer: int) -> None:
    """Add an address to the interface."""
    context.interface.add_address(_read_cidr(context, pointer))


def port_addr_remove(context: CallContext, pointer: int) -> None:
    """Remove an address from the interface."""
    context.interface.remove_address(_read_address(context, pointer))


def port_addr_clear(context: CallContext) -> None:
    """Remove all addresses from the interface."""
    context.interface.clear_addresses()


def port_addr_list(context: CallContext, array: int, count: int) -> None:
    """Write the addresses of the interface."""
    entries = [_pack_cidr(network) for network in context.interface.state.addresses]
    _write_list(context, array, count, entries, _CIDR_SIZE)


def port_mac(context: CallContext, result: int) -> None:
    """Write the address of the interface in its link."""
    context.memory.write(result, MAC_ADDRESS)


def port_gateway_set(context: CallContext, pointer: int) -> None:
    """Set the default gateway."""
    context.interface.set_gateway(_read_address(context, pointer))


def port_route_add(
    context: CallContext, cidr: int, router: int, preferred: int, expires: int
) -> None:
    """Add a route."""
    context.interface.add_route(
        Route(
            _read_cidr(context, cidr),
            _read_address(context, router),
            _read_time(context, preferred),
            _read_time(context, expires),
        )
    )


def port_route_remove(context: CallContext, pointer: int) -> None:
    """Remove the routes to networks of an address."""
    context.interface.remove_routes(_read_address(context, pointer))


def port_route_clear(context: CallContext) -> None:
    """Remove all routes."""
    context.interface.clear_routes()


def port_route_list(context: CallContext, array: int, count: int) -> None:
    """Write the routes."""
    state: InterfaceState = context.interface.state
    entries = [_pack_route(route) for route in state.routes]
    _write_list(context, array, count, entries, _ROUTE_SIZE)


def _write_list(
    context: CallContext, array: int, count: int, entries: list[bytes], size: int
) -> None:
    """Write entries and their number. With too little room only the number is written."""
    memory = context.memory
    (room,) = memory.unpack(_COUNT, count)
    memory.check(array, min(room, len(entries)) * size)
    memory.write_u32(count, len(entries))
    if len(entries) > room:
        raise WasiError(Errno.OVERFLOW)
    memory.write(array, b"".join(entries))


def _read_text(context: CallContext, pointer: int, size: int) -> str:
    if size > _TEXT_SIZE_MAX:
        context.memory.check(pointer, size)
        raise WasiError(Errno.NAMETOOLONG)
    try:
        return context.memory.read(pointer, size).decode()
    except UnicodeDecodeError:
        raise WasiError(Errno.INVAL) from None


def _read_family(context: CallContext, pointer: int) -> AddressFamily:
    (family,) = context.memory.unpack(_FAMILY, pointer)
    if family not in (AddressFamily.INET4, AddressFamily.INET6):
        raise WasiError(Errno.INVAL)
    return AddressFamily(family)


def _read_address(context: CallContext, pointer: int) -> IpAddress:
    """Read the address at ``pointer``. Its flow and scope have no meaning for an interface."""
    context.memory.check(pointer, _ADDRESS_SIZE)
    if _read_family(context, pointer) is AddressFamily.INET4:
        return IPv4Address(context.memory.read(pointer + _FAMILY.size, 4))
    return IPv6Address(context.memory.read(pointer + _FAMILY.size, 16))


def _read_cidr(context: CallContext, pointer: int) -> Network:
    is_ipv4 = _read_family(context, pointer) is AddressFamily.INET4
    _, octets, prefix = context.memory.unpack(_CIDR_4 if is_ipv4 else _CIDR_6, pointer)
    return Network(IPv4Address(octets) if is_ipv4 else IPv6Address(octets), prefix)


def _read_time(context: CallContext, pointer: int) -> int | None:
    is_given, time = context.memory.unpack(_TIME, pointer)
    if is_given > 1:
        raise WasiError(Errno.INVAL)
    return time if is_given else None


def _pack_cidr(network: Network) -> bytes:
    if network.address.version == 4:
        return _CIDR_4.pack(AddressFamily.INET4, network.address.packed, network.prefix)
    return _CIDR_6.pack(AddressFamily.INET6, network.address.packed, network.prefix)


def _pack_route(route: Route) -> bytes:
    family = AddressFamily.INET4 if route.router.version == 4 else AddressFamily.INET6
    entry = _pack_cidr(route.network) + _FAMILY.pack(family) + route.router.packed
    times = [
        _TIME.pack(time is not None, time or 0)
        for time in (route.preferred_until, route.expires_at)
    ]
    return entry.ljust(_PREFERRED, b"\0") + b"".join(times)


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "port_addr_add": ("i", port_addr_add),
    "port_addr_clear": ("", port_addr_clear),
    "port_addr_list": ("ii", port_addr_list),
    "port_addr_remove": ("i", port_addr_remove),
    "port_bridge": ("iiiii", port_bridge),
    "port_dhcp_acquire": ("", port_dhcp_acquire),
    "port_gateway_set": ("i", port_gateway_set),
    "port_mac": ("i", port_mac),
    "port_route_add": ("iiii", port_route_add),
    "port_route_clear": ("", port_route_clear),
    "port_route_list": ("ii", port_route_list),
    "port_route_remove": ("i", port_route_remove),
    "port_unbridge": ("", port_unbridge),
}
"""Parameter types and handler of each function of WASIX in this module."""
