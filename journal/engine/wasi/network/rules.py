"""Rules of the network policy, and their texts, such as ``listen=127.0.0.1:8080``."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import NoReturn

from journal._arguments import quote
from journal.engine.wasi.network.address_ranges import (
    ANY_IPV4,
    ANY_IPV6,
    LOOPBACK_IPV4,
    LOOPBACK_IPV6,
    IpAddress,
    IpNetwork,
    is_public,
)
from journal.engine.wasi.network.host_names import LOCALHOST, NamePattern
from journal.errors import OptionError
from journal.events.sockets import SocketType

RULE_SIZE_MAX = 400
"""Longest text of a rule. A host name has at most 253 characters."""
PORT_MAX = 0xFFFF

_ANY = "*"
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_KINDS = {"tcp": SocketType.STREAM, "udp": SocketType.DGRAM}
_LOOPBACK = (ip_network(LOOPBACK_IPV4), ip_network(LOOPBACK_IPV6))


class Action(StrEnum):
    """What a rule grants."""

    LISTEN = "listen"
    CONNECT = "connect"
    RESOLVE = "resolve"
    LOOPBACK = "loopback"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """One rule of a policy.

    A rule to listen or connect has either ``networks`` or ``names``, and ``ports`` from the first
    to the last. Without ``kind`` it holds for TCP and UDP. A rule to resolve without ``names``
    holds for all names. ``text`` is the rule in its normal form.
    """

    action: Action
    text: str
    kind: SocketType | None = None
    networks: tuple[IpNetwork, ...] = ()
    names: NamePattern | None = None
    ports: tuple[int, int] = (0, PORT_MAX)

    @classmethod
    def parse(cls, text: str) -> "NetworkRule":
        """Return the rule of a text. Raises ``OptionError`` for a text that is no rule."""
        if len(text) > RULE_SIZE_MAX:
            _refuse(text, f"it has {len(text)} characters, at most {RULE_SIZE_MAX}")
        word, equals, rest = text.partition("=")
        if word not in list(Action):
            _refuse(text, "write listen=…, connect=…, resolve, loopback or all, or none alone")
        action = Action(word)
        if action in (Action.LISTEN, Action.CONNECT):
            return _parse_end(action, text, rest)
        if action is Action.RESOLVE and equals:
            names = _parse_names(text, rest)
            return cls(action, f"{action}={names}", names=names)
        if equals:
            _refuse(text, f"{action} has no value")
        return cls(action, text)

    def covers_port(self, kind: SocketType, port: int) -> bool:
        """Return whether the rule holds for a port."""
        return self.kind in (None, kind) and self.ports[0] <= port <= self.ports[1]

    def covers_address(self, address: IpAddress, names: Collection[str] = ()) -> bool:
        """Return whether the rule holds for an address, which ``names`` were resolved to."""
        if self.names is None:
            return any(address in network for network in self.networks)
        return any(map(self.names.matches, names)) and is_public(address)

    def covers_all(self, version: int) -> bool:
        """Return whether the rule holds for all addresses of a version of IP."""
        whole = ANY_IPV4 if version == 4 else ANY_IPV6
        return whole in self.networks


def _parse_end(action: Action, text: str, rest: str) -> NetworkRule:
    """Return a rule to listen or connect. ``rest`` is the part of its text after the action."""
    kind_text, colon, end = rest.partition(":")
    kind = _KINDS.get(kind_text)
    if kind is None or not colon:
        prefix, end = "", rest
    else:
        prefix = f"{kind_text}:"
    host, colon, port_text = end.rpartition(":")
    if not colon or not host:
        _refuse(text, f"write {action}=HOST:PORT, where * is any host or any port")
    ports = _parse_ports(text, port_text)
    networks, names, shown = _parse_host(action, text, host)
    normal = f"{action}={prefix}{shown}:{_format_ports(ports)}"
    return NetworkRule(action, normal, kind, networks, names, ports)


def _parse_ports(text: str, ports: str) -> tuple[int, int]:
    if ports == _ANY:
        return 0, PORT_MAX
    match = _PORTS.fullmatch(ports)
    if match is None:
        _refuse(text, f"{quote(ports)} is no port, no range such as 8000-8010, and not *")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if not first <= last <= PORT_MAX:
        _refuse(text, f"ports are from 0 to {PORT_MAX}, in ascending order")
    return first, last


def _format_ports(ports: tuple[int, int]) -> str:
    first, last = ports
    if ports == (0, PORT_MAX):
        return _ANY
    return str(first) if first == last else f"{first}-{last}"


def _parse_host(
    action: Action, text: str, host: str
) -> tuple[tuple[IpNetwork, ...], NamePattern | None, str]:
    """Return the networks or the pattern of a host, and its normal form."""
    if host == _ANY:
        return (ANY_IPV4, ANY_IPV6), None, _ANY
    if host.startswith("[") and host.endswith("]"):
        network = _parse_network(text, host[1:-1], 6)
    elif ":" in host:
        _refuse(text, "an IPv6 address is written in brackets, such as [::1]:80")
    elif host.replace(".", "").partition("/")[0].isdecimal():
        network = _parse_network(text, host, 4)
    else:
        return _parse_named_host(action, text, host)
    if not int(network.network_address) and network.prefixlen == network.max_prefixlen:
        return _parse_unspecified(action, text, network.version)
    return (network,), None, _format_network(network)


def _parse_named_host(
    action: Action, text: str, host: str
) -> tuple[tuple[IpNetwork, ...], NamePattern | None, str]:
    names = _parse_names(text, host)
    if str(names) == LOCALHOST:
        return _LOOPBACK, None, LOCALHOST
    if action is Action.LISTEN:
        _refuse(text, "a guest listens at an address of this machine: write the address")
    return (), names, str(names)


def _parse_unspecified(
    action: Action, text: str, version: int
) -> tuple[tuple[IpNetwork, ...], NamePattern | None, str]:
    """Return the networks of the unspecified address, which stands for all local addresses."""
    if action is Action.CONNECT:
        _refuse(text, "no peer has the unspecified address: write * for any host")
    if version == 4:
        return (ANY_IPV4,), None, "0.0.0.0"
    return (ANY_IPV4, ANY_IPV6), None, "[::]"  # A socket at :: accepts IPv4, too.


def _parse_network(text: str, host: str, version: int) -> IpNetwork:
    if "%" in host:
        _refuse(text, "an address of a rule has no scope: it holds for all interfaces")
    try:
        network = ip_network(host)
    except ValueError as error:
        _refuse(text, str(error))
    if network.version != version:
        _refuse(text, "only an IPv6 address is written in brackets")
    if getattr(network.network_address, "ipv4_mapped", None) is not None:
        _refuse(text, "write an IPv4-mapped address as an IPv4 address")
    return network


def _format_network(network: IpNetwork) -> str:
    is_single = network.prefixlen == network.max_prefixlen
    shown = str(network.network_address) if is_single else str(network)
    return f"[{shown}]" if network.version == 6 else shown


def _parse_names(text: str, host: str) -> NamePattern:
    names = NamePattern.parse(host)
    if names is None:
        _refuse(text, f"{quote(host)} is no host name, and none with *. before it")
    return names


def _refuse(text: str, reason: str) -> NoReturn:
    raise OptionError(f"{quote(text)} is no rule of the network: {reason}")
