"""Names of the sockets inside one guest: ports of its loopback addresses, and Unix names.

Unix names are a namespace of their own: a name that looks like a path is no file. It is free again
when its socket is closed.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from journal.engine.wasi.socket_calls import AnyAddress
from journal.events.sockets import AddressFamily, SocketOption, SocketType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.objects.named_socket import NamedSocket

#: Ports that a socket without a port gets, the lowest free one first. A port depends only on the
#: sockets that exist, so a restored guest gets the same.
FREE_PORTS = range(32768, 61000)

#: Longest name of a Unix socket in bytes, as in the structure of WASIX.
NAME_SIZE_MAX = 108

_ABSTRACT_NAMES_MAX = 1 << 20  # Names of five hexadecimal digits, as on Linux.

IpAddress = IPv4Address | IPv6Address


class InnerNetwork:
    """The bound sockets of one guest, by port and by name.

    ``numbers`` has the lowest descriptor of each socket by its identity, while a snapshot is saved.
    While one is restored, ``peers`` has sockets with the descriptors of their peers, and
    ``requests`` has listeners with the descriptors of sockets that wait to connect.
    """

    def __init__(self) -> None:
        self._names: dict[bytes, NamedSocket] = {}
        self._ports: dict[tuple[SocketType, int], list[NamedSocket]] = {}
        self.numbers: dict[int, int] = {}
        self.peers: list[tuple[NamedSocket, int]] = []
        self.requests: list[tuple[NamedSocket, int]] = []

    def clear(self) -> None:
        """Forget all sockets."""
        for each in (self._names, self._ports, self.numbers, self.peers, self.requests):
            each.clear()

    def choose_address(self, socket: "NamedSocket", address: AnyAddress) -> AnyAddress:
        """Return the address that a socket gets if it is bound to ``address``.

        Raises ``WasiError`` if the address is in use or is none of the guest.
        """
        if isinstance(address, bytes):
            if socket.family is not AddressFamily.UNIX or len(address) > NAME_SIZE_MAX:
                raise WasiError(Errno.INVAL)
            if address in self._names:
                raise WasiError(Errno.ADDRINUSE)
            return address or self._choose_name()
        check_family(socket.family, address)
        ip = to_plain(address.address)
        if not (ip.is_loopback or ip.is_unspecified):
            raise WasiError(Errno.ADDRNOTAVAIL)
        if address.port:
            if self._is_used(socket, address.address, address.port):
                raise WasiError(Errno.ADDRINUSE)
            return address
        for port in FREE_PORTS:
            if not self._is_used(socket, address.address, port):
                return SocketAddress(address.address, port, address.flow, address.scope)
        raise WasiError(Errno.ADDRINUSE)

    def _choose_name(self) -> bytes:
        for number in range(_ABSTRACT_NAMES_MAX):
            name = b"\0%05x" % number
            if name not in self._names:
                return name
        raise WasiError(Errno.NOSPC)

    def _is_used(self, socket: "NamedSocket", ip: IpAddress, port: int) -> bool:
        others = self._ports.get((socket.kind, port), ())
        only_v6 = is_only_v6(socket)
        return any(
            _covers(ip, to_plain(_ip_of(other)), only_v6=only_v6)
            or _covers(_ip_of(other), to_plain(ip), only_v6=is_only_v6(other))
            for other in others
        )

    def add(self, socket: "NamedSocket", address: AnyAddress) -> None:
        """Give ``socket`` an address of :meth:`choose_address`."""
        socket.local = address
        if isinstance(address, bytes):
            self._names[address] = socket
        else:
            self._ports.setdefault((socket.kind, address.port), []).append(socket)

    def remove(self, socket: "NamedSocket") -> None:
        """Free the address of a socket, if it has one of its own."""
        address = socket.local
        if isinstance(address, bytes):
            if self._names.get(address) is socket:
                del self._names[address]
        elif isinstance(address, SocketAddress):
            sockets = self._ports.get((socket.kind, address.port), [])
            if socket in sockets:
                sockets.remove(socket)
                if not sockets:
                    del self._ports[socket.kind, address.port]

    def find(self, kind: SocketType, address: AnyAddress) -> "NamedSocket | None":
        """Return the socket of a type at an address, None if there is none."""
        if isinstance(address, bytes):
            return self._names.get(address)
        ip = to_plain(address.address)
        found = None
        for socket in self._ports.get((kind, address.port), ()):
            if _covers(_ip_of(socket), ip, only_v6=is_only_v6(socket)):
                is_exact = not _ip_of(socket).is_unspecified
                found = socket if found is None or is_exact else found
        return found


def check_family(family: AddressFamily, address: AnyAddress) -> None:
    """Raise ``WasiError`` unless a socket of ``family`` can have or reach an address."""
    if isinstance(address, bytes) or family is AddressFamily.UNIX:
        if not isinstance(address, bytes) or family is not AddressFamily.UNIX:
            raise WasiError(Errno.INVAL if family is AddressFamily.UNIX else Errno.AFNOSUPPORT)
    elif (address.address.version == 4) != (family is AddressFamily.INET4):
        raise WasiError(Errno.AFNOSUPPORT)


def to_plain(ip: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address stands for, else the address itself."""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped


def to_target(address: SocketAddress) -> SocketAddress:
    """Return the address that a connection to ``address`` reaches: the unspecified is loopback.

    Raises ``WasiError`` with ``ACCES`` for any other, because a socket inside reaches no host.
    """
    if to_plain(address.address).is_loopback:
        return address
    if not to_plain(address.address).is_unspecified:
        raise WasiError(Errno.ACCES)
    ip: IpAddress = IPv4Address("127.0.0.1")
    if address.address.version == 6:
        ip = IPv6Address("::1")
    return SocketAddress(ip, address.port, address.flow, address.scope)


def to_family(address: AnyAddress | None, family: AddressFamily) -> AnyAddress | None:
    """Return an address as a socket of ``family`` sees it: IPv4 in IPv6 is mapped."""
    if not isinstance(address, SocketAddress) or family is AddressFamily.UNIX:
        return address
    ip = to_plain(address.address)
    if family is AddressFamily.INET6 and isinstance(ip, IPv4Address):
        ip = IPv6Address(b"\0" * 10 + b"\xff\xff" + ip.packed)
    return SocketAddress(ip, address.port, address.flow, address.scope)


def make_any(family: AddressFamily) -> SocketAddress:
    """Return the unspecified address with port 0."""
    return SocketAddress(IPv4Address(0) if family is AddressFamily.INET4 else IPv6Address(0), 0)


def get_source(local: AnyAddress | None, target: SocketAddress) -> AnyAddress | None:
    """Return the address that a receiver sees: an unspecified one becomes that of the target."""
    if isinstance(local, SocketAddress) and local.address.is_unspecified:
        return SocketAddress(target.address, local.port)
    return local


def is_only_v6(socket: "NamedSocket") -> bool:
    """Return whether an IPv6 socket does not receive IPv4."""
    return bool(socket.options.get(SocketOption.ONLY_V6))


def _ip_of(socket: "NamedSocket") -> IpAddress:
    assert isinstance(socket.local, SocketAddress)
    return socket.local.address


def _covers(bound: IpAddress, ip: IpAddress, *, only_v6: bool) -> bool:
    """Return whether a socket bound to ``bound`` receives what is sent to ``ip``."""
    if not bound.is_unspecified:
        return to_plain(bound) == ip
    return bound.version == ip.version or (bound.version == 6 and not only_v6)
