"""Network interface of a guest: a model that the guest alone changes, and that reaches nothing.

The addresses, the routes and the gateway are what the guest has set, whatever the host has. Each
change is an effect. The interface at any moment follows from the effects, as ``journal.replay``
computes it, too.
"""

from dataclasses import dataclass, replace

from journal.engine.tape import Tape
from journal.engine.wasi.network.address_ranges import IpAddress
from journal.events import codec
from journal.events.definition import Event
from journal.events.ports import (
    PortAddAddr,
    PortAddrClear,
    PortBridge,
    PortDelAddr,
    PortDhcpAcquire,
    PortGatewaySet,
    PortRouteAdd,
    PortRouteClear,
    PortRouteDel,
    PortUnbridge,
    Security,
)
from journal.events.wire_types import Network
from journal.wasi_abi import Errno, WasiError

ADDRESSES_COUNT_MAX = 256
ROUTES_COUNT_MAX = 1024
_TIME_MAX = (1 << 64) - 1

MAC_ADDRESS = bytes((0x02, 0, 0, 0, 0, 1))
"""Address of the interface in its link: one that no manufacturer assigns."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route to a network. The times are in nanoseconds since the epoch, None for no limit."""

    network: Network
    router: IpAddress
    preferred_until: int | None
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """Settings of an interface. ``bridge`` is the name of the network that the guest joined."""

    addresses: tuple[Network, ...] = ()
    routes: tuple[Route, ...] = ()
    gateway: IpAddress | None = None
    bridge: str | None = None
    has_requested_dhcp: bool = False


class NetworkInterface:
    """Interface of one guest. Each method that changes it records one effect."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.state = InterfaceState()

    def add_address(self, network: Network) -> None:
        """Add an address and its network. Adding it again changes nothing."""
        _check_network(network)
        addresses = tuple(dict.fromkeys((*self.state.addresses, network)))
        if len(addresses) > ADDRESSES_COUNT_MAX:
            raise WasiError(Errno.NOBUFS)
        self._record(PortAddAddr(cidr=network))
        self.state = replace(self.state, addresses=addresses)

    def remove_address(self, address: IpAddress) -> None:
        """Remove an address, if the interface has it."""
        self._record(PortDelAddr(addr=address))
        left = tuple(each for each in self.state.addresses if each.address != address)
        self.state = replace(self.state, addresses=left)

    def clear_addresses(self) -> None:
        """Remove all addresses."""
        self._record(PortAddrClear())
        self.state = replace(self.state, addresses=())

    def add_route(self, route: Route) -> None:
        """Add a route, or replace the route to the same network."""
        _check_network(route.network)
        if max(route.preferred_until or 0, route.expires_at or 0) > _TIME_MAX:
            raise WasiError(Errno.INVAL)
        routes = {each.network: each for each in self.state.routes} | {route.network: route}
        if len(routes) > ROUTES_COUNT_MAX:
            raise WasiError(Errno.NOBUFS)
        self._record(
            PortRouteAdd(
                cidr=route.network,
                via_router=route.router,
                preferred_until=route.preferred_until,
                expires_at=route.expires_at,
            )
        )
        self.state = replace(self.state, routes=tuple(routes.values()))

    def remove_routes(self, address: IpAddress) -> None:
        """Remove the routes to networks of this address."""
        self._record(PortRouteDel(ip=address))
        left = tuple(each for each in self.state.routes if each.network.address != address)
        self.state = replace(self.state, routes=left)

    def clear_routes(self) -> None:
        """Remove all routes."""
        self._record(PortRouteClear())
        self.state = replace(self.state, routes=())

    def set_gateway(self, address: IpAddress) -> None:
        """Set the default gateway."""
        self._record(PortGatewaySet(ip=address))
        self.state = replace(self.state, gateway=address)

    def request_dhcp(self) -> None:
        """Ask for an address by DHCP. No server answers, so the interface stays as it is."""
        self._record(PortDhcpAcquire())
        self.state = replace(self.state, has_requested_dhcp=True)

    def join(self, security: Security, network: str, token: str) -> None:
        """Join another network, which has no other members. The token is a secret."""
        self._record(PortBridge(security=security, network=network, token=token))
        self.state = replace(self.state, bridge=network)

    def leave(self) -> None:
        """Leave the other network."""
        self._record(PortUnbridge())
        self.state = replace(self.state, bridge=None)

    def _record(self, event: Event) -> None:
        self._tape.record_effect(event.tag, codec.encode(event))


def _check_network(network: Network) -> None:
    if network.prefix > network.address.max_prefixlen:
        raise WasiError(Errno.INVAL)
