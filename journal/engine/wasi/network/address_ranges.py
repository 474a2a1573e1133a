"""Ranges of IP addresses, and the addresses to which a packet for an address may go."""

from bisect import bisect_right
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

ANY_IPV4 = IPv4Network("0.0.0.0/0")
ANY_IPV6 = IPv6Network("::/0")
LOOPBACK_IPV4 = IPv4Address("127.0.0.1")
LOOPBACK_IPV6 = IPv6Address("::1")

_LOOPBACK_RANGES: tuple[IpNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

_SPECIAL_RANGES: tuple[IpNetwork, ...] = tuple(
    map(
        ip_network,
        (
            # IPv4: the registry of special addresses (RFC 6890), multicast, and reserved ones.
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
            # IPv6: everything outside of 2000::/3, and special ranges inside it.
            *("::/3", "2001::/23", "2001:db8::/32", "3fff::/20", "4000::/2", "8000::/1"),
        ),
    )
)
"""Ranges of addresses that are not public, in ascending order for each version."""
_PUBLIC_RANGES = (IPv6Network("64:ff9b::/96"), IPv6Network("2001::/32"))
"""Ranges inside special ones, of NAT64 and Teredo: the IPv4 address in each address decides."""

_COMPATIBLE = IPv6Network("::/96")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_LOW_32_BITS = (1 << 32) - 1


def find_destinations(address: IpAddress) -> list[IpAddress]:
    """Return the addresses to which a packet for ``address`` may go.

    An IPv4-mapped address is an IPv4 address. The unspecified address is this machine. A packet for
    another IPv6 address that contains an IPv4 address (6to4, NAT64, Teredo, IPv4-compatible) may
    reach either.
    """
    if isinstance(address, IPv4Address):
        return [address if int(address) else LOOPBACK_IPV4]
    if address.ipv4_mapped is not None:
        return find_destinations(address.ipv4_mapped)
    value = int(address)
    plain = IPv6Address(value)  # Without a scope, which could not be compared.
    if value <= 1:
        return [LOOPBACK_IPV6]
    if address.sixtofour is not None:
        return [plain, address.sixtofour]
    if address.teredo is not None:
        return [plain, *address.teredo]
    if plain in _COMPATIBLE or any(plain in network for network in _NAT64):
        return [plain, IPv4Address(value & _LOW_32_BITS)]
    return [plain]


def is_loopback(address: IpAddress) -> bool:
    """Return whether an address stays on this machine, the unspecified address included."""
    return any(
        each in network for each in find_destinations(address) for network in _LOOPBACK_RANGES
    )


def is_public(address: IpAddress) -> bool:
    """Return whether an address is one of the public internet.

    Loopback, link-local, private, shared, reserved, multicast and unspecified addresses are not.
    """
    first, last = _SPECIAL_BOUNDS[address.version]
    index = bisect_right(first, int(address)) - 1
    if index < 0 or int(address) > last[index]:
        return True
    return any(address in network for network in _PUBLIC_RANGES)


def _find_bounds(version: int) -> tuple[list[int], list[int]]:
    """Return the first and the last addresses of the special ranges of a version."""
    networks = [network for network in _SPECIAL_RANGES if network.version == version]
    first = [int(network.network_address) for network in networks]
    return first, [int(network.broadcast_address) for network in networks]


_SPECIAL_BOUNDS = {version: _find_bounds(version) for version in (4, 6)}
assert all(first == sorted(first) for first, _ in _SPECIAL_BOUNDS.values()), "bisect needs order"
