"""Effects on the guest's network interface, repeated for a rebuild of its state."""

from collections.abc import Callable
from typing import Any

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network.interface import Route
from journal.events import ports
from journal.events.definition import Event


def _add_route(context: CallContext, *values: Any) -> None:
    context.interface.add_route(Route(*values))


HANDLERS: dict[type[Event], Callable[..., None]] = {
    ports.PortAddAddr: lambda context, network: context.interface.add_address(network),
    ports.PortDelAddr: lambda context, address: context.interface.remove_address(address),
    ports.PortAddrClear: lambda context: context.interface.clear_addresses(),
    ports.PortBridge: lambda context, *values: context.interface.join(*values),
    ports.PortUnbridge: lambda context: context.interface.leave(),
    ports.PortDhcpAcquire: lambda context: context.interface.request_dhcp(),
    ports.PortGatewaySet: lambda context, address: context.interface.set_gateway(address),
    ports.PortRouteAdd: _add_route,
    ports.PortRouteClear: lambda context: context.interface.clear_routes(),
    ports.PortRouteDel: lambda context, address: context.interface.remove_routes(address),
}
"""Functions that repeat an effect, with the context and the event's values as arguments."""
