"""Network policy: the addresses and names of the host's network that a guest may use.

A guest has no network but what the rules of its user grant. A rule is one of

* ``listen=HOST:PORT`` and ``connect=HOST:PORT``, for TCP and UDP, or for one of them, as in
  ``listen=udp:HOST:PORT``. HOST is an address, a network such as ``10.0.0.0/8``, or ``*``. To
  connect, it can also be a host name, or ``*.example.org`` for all names below a domain. PORT is a
  port, a range such as ``8000-8010``, or ``*``.
* ``resolve`` and ``resolve=NAME``, to ask for the addresses of host names. A rule that grants
  connections to a name also grants to ask for the name.
* ``loopback``: sockets at loopback addresses work inside the guest, and never reach the host.
* ``all``: everything.

The text ``none``, alone, stands for no rules.

A rule with a name holds for the addresses that the guest resolved from the name. It never grants
addresses that are not public, because whoever controls a name chooses its addresses.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from journal._arguments import check_each, check_text
from journal.engine.wasi.network.address_ranges import IpAddress, find_destinations
from journal.engine.wasi.network.host_names import is_localhost, normalize_name
from journal.engine.wasi.network.rules import Action, NetworkRule
from journal.errors import OptionError
from journal.events.sockets import SocketType
from journal.events.wire_types import SocketAddress

_NONE = "none"

RULES_COUNT_MAX = 256
"""Largest number of rules. Each datagram of a guest is judged by all of them."""

FREE_PORT_MIN = 1024
"""Lowest port that a host selects for port 0."""


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Rules of what a guest may do in the host's network. Without rules it may do nothing.

    Make it with :meth:`parse`, or use :data:`NO_NETWORK` or :data:`ALL_NETWORK`. ``texts`` are the
    rules in their normal form, as :meth:`parse` and ``--net`` take them.
    """

    texts: tuple[str, ...] = ()
    _rules: tuple[NetworkRule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = dict.fromkeys(check_each("rules", self.texts, check_text, what="texts"))
        if len(texts) > RULES_COUNT_MAX:  # A journal may have any number.
            raise OptionError(f"a network policy has at most {RULES_COUNT_MAX} rules")
        rules = tuple(dict.fromkeys(map(NetworkRule.parse, texts)))
        object.__setattr__(self, "_rules", rules)
        object.__setattr__(self, "texts", tuple(rule.text for rule in rules))

    @classmethod
    def parse(cls, rules: Iterable[str]) -> "NetworkPolicy":
        """Return the policy of the texts of its rules.

        Raises ``OptionError`` for a text that is no rule, and for too many rules.
        """
        texts = check_each("rules", rules, check_text, what="texts")
        return cls() if texts == [_NONE] else cls(tuple(texts))

    @property
    def is_empty(self) -> bool:
        """Return whether the guest has no network."""
        return not self._rules

    @property
    def has_loopback(self) -> bool:
        """Return whether the guest has loopback addresses of its own.

        They are for addresses that no other rule grants: ask :meth:`may_listen` and
        :meth:`may_connect` first.
        """
        return self._has(Action.LOOPBACK)

    def may_listen(self, address: SocketAddress, kind: SocketType) -> bool:
        """Return whether the guest may bind a socket of the host to ``address``.

        The unspecified address needs a rule for all addresses of its port. IPv6's needs one for
        those of IPv4, too, because the socket receives both. Port 0, for which the host selects a
        port, needs a rule that covers it.
        """
        if self._has(Action.ALL):
            return True
        rules = self._select(Action.LISTEN, kind, address.port)
        mapped = getattr(address.address, "ipv4_mapped", None)
        host: IpAddress = address.address if mapped is None else mapped
        if not int(host):
            versions = (4,) if host.version == 4 else (4, 6)
            return all(any(rule.covers_all(version) for rule in rules) for version in versions)
        return _is_covered(host, rules, ())

    def may_listen_again(
        self, asked: SocketAddress, address: SocketAddress, kind: SocketType
    ) -> bool:
        """Return whether a socket that the guest had bound to ``asked`` may get ``address`` again.

        The port can be one that the host selected for port 0.
        """
        is_selected = not asked.port and address.port >= FREE_PORT_MIN
        if is_selected and asked.address == address.address and self.may_listen(asked, kind):
            return True
        return self.may_listen(address, kind)

    def may_connect(
        self, address: SocketAddress, kind: SocketType, names: Collection[str] = ()
    ) -> bool:
        """Return whether the guest may connect or send to ``address``.

        ``names`` are the names that the guest resolved to the address, in their normal form. The
        unspecified address is judged as loopback, an IPv4-mapped one as IPv4. Other IPv6 addresses
        that contain an IPv4 address, such as those of NAT64, need a rule for each of both.
        """
        if self._has(Action.ALL):
            return True
        return _is_covered(address.address, self._select(Action.CONNECT, kind, address.port), names)

    def may_resolve(self, host: str) -> bool:
        """Return whether the guest may ask the host for the addresses of a name.

        A name that always means this machine needs no rule, because the host is not asked.
        """
        if self._has(Action.ALL):
            return True
        name = normalize_name(host)
        if name is None:
            return False
        return is_localhost(name) or any(
            rule.names.matches(name) if rule.names is not None else rule.action is Action.RESOLVE
            for rule in self._rules
        )

    def _has(self, action: Action) -> bool:
        return any(rule.action is action for rule in self._rules)

    def _select(self, action: Action, kind: SocketType, port: int) -> list[NetworkRule]:
        return [
            rule for rule in self._rules if rule.action is action and rule.covers_port(kind, port)
        ]


def _is_covered(address: IpAddress, rules: list[NetworkRule], names: Collection[str]) -> bool:
    return all(
        any(rule.covers_address(each, names) for rule in rules)
        for each in find_destinations(address)
    )


NO_NETWORK = NetworkPolicy()
"""The policy of a guest without a network."""
ALL_NETWORK = NetworkPolicy.parse(["all"])
"""The policy of a guest that may use the network of the host without limits."""
