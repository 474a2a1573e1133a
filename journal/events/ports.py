"""Events of the guest's network interface: its addresses and routes."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Role, event
from journal.events.wire_types import Cidr, Enumerated, Ip, MaybeDuration, Text


class Security(IntEnum):
    """Encryption of a bridge to another network."""

    UNENCRYPTED = 0
    ANY_ENCRYPTION = 1
    CLASSIC_ENCRYPTION = 2
    DOUBLE_ENCRYPTION = 3
    UNKNOWN = 255


SecurityField = Annotated[Security, Enumerated(cs.Int8ul, Security)]


@event(tag=33, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortAddAddr(Event):
    """The guest added an address to the interface with port_addr_add."""

    cidr: Cidr


@event(tag=34, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortDelAddr(Event):
    """The guest removed an address from the interface with port_addr_remove."""

    addr: Ip


@event(tag=35, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortAddrClear(Event):
    """The guest removed all addresses from the interface with port_addr_clear."""


@event(tag=36, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortBridge(Event):
    """The guest joined another network with port_bridge. The ``token`` is a secret."""

    security: SecurityField
    network: Text
    token: Text


@event(tag=37, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortUnbridge(Event):
    """The guest left the other network with port_unbridge."""


@event(tag=38, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortDhcpAcquire(Event):
    """The guest requested an address by DHCP with port_dhcp_acquire."""


@event(tag=39, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortGatewaySet(Event):
    """The guest set the default gateway with port_gateway_set."""

    ip: Ip


@event(tag=40, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortRouteAdd(Event):
    """The guest added a route with port_route_add.

    ``preferred_until`` and ``expires_at`` are in nanoseconds since the epoch, None for no limit.
    """

    cidr: Cidr
    via_router: Ip
    preferred_until: MaybeDuration
    expires_at: MaybeDuration


@event(tag=41, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortRouteClear(Event):
    """The guest removed all routes with port_route_clear."""


@event(tag=42, group=Group.SOCKETS, role=Role.EFFECT, rule=Keep())
class PortRouteDel(Event):
    """The guest removed the route to an address with port_route_remove."""

    ip: Ip
