"""Effects of events of the network interface."""

from journal.events import ports
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host


@apply_effect.register
def _(event: ports.PortAddAddr, host: Host) -> None:
    host.network.add_address(event.cidr)


@apply_effect.register
def _(event: ports.PortDelAddr, host: Host) -> None:
    addresses = host.network.addresses
    host.network.addresses = {cidr: None for cidr in addresses if cidr.address != event.addr}


@apply_effect.register
def _(event: ports.PortAddrClear, host: Host) -> None:
    host.network.addresses.clear()


@apply_effect.register
def _(event: ports.PortBridge, host: Host) -> None:
    host.network.bridge = event


@apply_effect.register
def _(event: ports.PortUnbridge, host: Host) -> None:
    host.network.bridge = None


@apply_effect.register
def _(event: ports.PortDhcpAcquire, host: Host) -> None:
    host.network.has_requested_dhcp = True


@apply_effect.register
def _(event: ports.PortGatewaySet, host: Host) -> None:
    host.network.gateway = event.ip


@apply_effect.register
def _(event: ports.PortRouteAdd, host: Host) -> None:
    host.network.add_route(event)


@apply_effect.register
def _(event: ports.PortRouteClear, host: Host) -> None:
    host.network.routes.clear()


@apply_effect.register
def _(event: ports.PortRouteDel, host: Host) -> None:
    routes = host.network.routes.items()
    host.network.routes = {cidr: route for cidr, route in routes if cidr.address != event.ip}
