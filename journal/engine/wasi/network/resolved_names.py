"""Names that a guest has resolved, by their addresses: what the policy knows of an address."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from itertools import groupby

from journal.engine.wasi.network.address_ranges import IpAddress, find_destinations
from journal.events.snapshots import HostName, ResolvedNames

NAMES_COUNT_MAX = 4096
"""Largest number of pairs of a name and an address. The oldest pairs make room for new ones."""


class NameTable:
    """Bounded table of the names that a guest has resolved.

    Its contents depend on the results of the guest's calls only, so a replay has the same table. A
    pair is *verified* if the host gave it in this session, or if the journal is one of the user.
    Only verified pairs count for the policy: a foreign journal can state any address for a name.
    """

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[IpAddress, str], None] = OrderedDict()
        self._verified: dict[IpAddress, set[str]] = {}

    def add(self, name: str, addresses: Iterable[IpAddress], *, is_verified: bool) -> None:
        """Note that a name has these addresses."""
        for address in addresses:
            self._pairs[address, name] = None
            self._pairs.move_to_end((address, name))
            if is_verified:
                self._verified.setdefault(_normalize(address), set()).add(name)
        while len(self._pairs) > NAMES_COUNT_MAX:
            (address, old_name), _ = self._pairs.popitem(last=False)
            self._forget(_normalize(address), old_name)

    def _forget(self, address: IpAddress, name: str) -> None:
        names = self._verified.get(address)
        if names is not None:
            names.discard(name)
            if not names:
                del self._verified[address]

    def find(self, address: IpAddress) -> Collection[str]:
        """Return the verified names of an address."""
        return self._verified.get(_normalize(address), ())

    def save(self) -> list[ResolvedNames]:
        """Return the table for a snapshot: one event, or none without names."""
        names = tuple(
            HostName(name, tuple(address for address, _ in pairs))
            for name, pairs in groupby(self._pairs, key=lambda pair: pair[1])
        )
        return [ResolvedNames(hosts=names)] if names else []

    def load(self, saved: ResolvedNames | None, *, is_verified: bool) -> None:
        """Replace the table by that of a snapshot."""
        self._pairs.clear()
        self._verified.clear()
        for each in () if saved is None else saved.hosts:
            self.add(each.name, each.addresses, is_verified=is_verified)


def _normalize(address: IpAddress) -> IpAddress:
    """Return the one form of an address that can be written in several ways."""
    return find_destinations(address)[0]
