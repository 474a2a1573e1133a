"""Resolver of a guest: addresses of host names, which are inputs of the guest."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from journal.engine.tape import Tape
from journal.engine.wasi.network.address_ranges import LOOPBACK_IPV4, LOOPBACK_IPV6, IpAddress
from journal.engine.wasi.network.host_names import is_localhost, normalize_name
from journal.engine.wasi.network.lookup import ADDRESSES_COUNT_MAX, Answer, Lookup
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.engine.wasi.network.resolved_names import NameTable
from journal.events import codec
from journal.events.inputs import Resolved
from journal.events.snapshots import ResolvedNames
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

LOOKUPS_COUNT_MAX = 8
"""Largest number of lookups that a guest has begun, and waits for no more."""

_pack = codec.make_late_packer(Resolved)
_unpack = codec.make_late_unpacker(Resolved)
_REST_SIZE = 2 + 4  # Size of the error number and of an empty list of addresses.


class Resolver:
    """Resolver of one guest. ``names`` are the names that it has resolved.

    An address as text and the names of this machine need no host. Other names are asked of the host
    as far as the policy grants it, and recorded. ``trusts_history`` says whether the names of a
    recording count for the policy.
    """

    def __init__(self, tape: Tape, policy: NetworkPolicy) -> None:
        self._tape, self._policy = tape, policy
        self.trusts_history = True
        self.names = NameTable()
        self._lookups: dict[str, Lookup] = {}

    def resolve(self, context: "CallContext", host: str, port: int) -> tuple[IpAddress, ...]:
        """Return the addresses of a host. Raises ``WasiError`` if there are none.

        ``port`` is recorded only: no service is looked up.
        """
        literal = _parse_literal(host)
        if literal is not None:
            return (literal,)
        name = normalize_name(host)
        if name is None:
            raise WasiError(Errno.INVAL)
        if is_localhost(name):
            return LOOPBACK_IPV4, LOOPBACK_IPV6
        is_live = False

        def ask() -> bytes:
            nonlocal is_live
            is_live = True
            try:
                errno, addresses = self._ask(context, name)
            except WasiError as error:
                errno, addresses = Errno(error.errno), ()
            return _pack(host, port, errno, addresses)

        prefix = _pack(host, port, 0, ())[:-_REST_SIZE]
        payload = self._tape.request_input(Resolved.tag, prefix, ask)
        _, _, errno, addresses = _unpack(payload)
        if len(addresses) > ADDRESSES_COUNT_MAX or bool(errno) == bool(addresses):
            raise ValueError(f"recorded name has error {errno} and {len(addresses)} addresses")
        if errno:
            raise WasiError(errno)
        self.names.add(name, addresses, is_verified=is_live or self.trusts_history)
        return tuple(addresses)

    def _ask(self, context: "CallContext", name: str) -> Answer:
        """Return the answer of the host to a guest that is live."""
        if not self._policy.may_resolve(name):
            raise WasiError(Errno.ACCES)
        lookup = self._lookups.get(name)  # A call is made again after a snapshot.
        if lookup is None:
            lookup = self._begin(name)
        context.wait("resolve", lookup)
        assert lookup.answer is not None
        self._lookups.pop(name).close()
        return lookup.answer

    def _begin(self, name: str) -> Lookup:
        for other, lookup in list(self._lookups.items()):
            if lookup.is_ready():
                self._lookups.pop(other).close()
        if len(self._lookups) >= LOOKUPS_COUNT_MAX:
            raise WasiError(Errno.AGAIN)
        try:
            lookup = self._lookups[name] = Lookup(name)
        except (OSError, RuntimeError):  # The host lacks a descriptor or a thread.
            raise WasiError(Errno.AGAIN) from None
        return lookup

    def load(self, saved: ResolvedNames | None) -> None:
        """Restore the names of a snapshot."""
        self.names.load(saved, is_verified=self.trusts_history)

    def close(self) -> None:
        """Wait for no lookup any more."""
        for lookup in self._lookups.values():
            lookup.close()
        self._lookups.clear()


def _parse_literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a text is. One with a scope is no host that a guest can name."""
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None
