"""Redaction of an export: contents are replaced by their sizes and salted hashes.

The order, place, time and size of every operation remain. Equal contents of one export have equal
hashes.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import construct as cs

from journal._arguments import check_bytes, check_choice, check_each, check_type
from journal.errors import MalformedEvent
from journal.events.definition import Event, field_dict
from journal.events.inputs import HostCall, HostResult
from journal.events.memory import MemoryPages, PageKind
from journal.events.paths import FilePlaced, FileType
from journal.events.ports import PortBridge
from journal.events.process import ProcessStart
from journal.events.snapshots import Snapshot
from journal.events.threads import GlobalsSet
from journal.events.wire_types import SOCKET_ADDRESS, Network, Secret, SocketAddress
from journal.export.json_values import BytePieces, RedactedBytes
from journal.pages.encoding import decode_pages
from journal.snapshots.resume_flags import SECRET_ENVIRONMENT, list_secret_names

IpAddress = IPv4Address | IPv6Address

_SALT_SIZE = 32
_HASH_SIZE = 16
_NETWORK_4, _NETWORK_6 = 10 << 24, 0xFC << 120
_WITH_ADDRESSES = frozenset(
    (HostCall.BIND, HostCall.LISTEN, HostCall.CONNECT, HostCall.ACCEPT, HostCall.ADDRESS)
)
"""Requests whose results consist of addresses."""
_ADDRESSES = cs.FocusedSeq("addresses", "addresses" / cs.GreedyRange(SOCKET_ADDRESS), cs.Terminated)


class Redaction:
    """Redaction of selected kinds of contents, with a random salt that is never stored.

    If any kind is redacted, so are bytes that may hold any contents: events of unknown kinds,
    malformed payloads, and the tokens of networks.
    """

    def __init__(self, selected: Iterable[Secret] = ()) -> None:
        kinds = check_each(
            "selected", selected, lambda name, kind: check_choice(name, kind, Secret)
        )
        self.secrets = tuple(sorted(set(kinds)))
        self._salt = secrets.token_bytes(_SALT_SIZE)

    def __bool__(self) -> bool:
        return bool(self.secrets)

    def redact(self, data: bytes) -> RedactedBytes:
        """Return the size and salted hash of bytes."""
        data = check_bytes("data", data)
        digest = blake2b(data, key=self._salt, digest_size=_HASH_SIZE)
        return RedactedBytes(len(data), digest.hexdigest())

    def redact_fields(self, event: Event) -> dict[str, Any]:
        """Return the fields of an event with selected contents redacted."""
        values = field_dict(check_type("event", event, Event))
        if not self:
            return values
        if isinstance(event, PortBridge):
            return values | {"token": self.redact(event.token.encode())}
        secrets = {name for name, secret in event.secrets.items() if secret in self.secrets}
        rule = _RULES.get(type(event)) if secrets else None
        if isinstance(event, HostResult):  # The kind of its contents depends on the request.
            rule = _redact_host_result
        if rule is not None:
            return values | rule(self, event)
        return values | {name: self.redact_value(values[name]) for name in secrets}

    def redact_address(self, address: IpAddress) -> IpAddress:
        """Return an address in place of another one: the same one for equal addresses.

        It is in 10.0.0.0/8 or fc00::/8. The unspecified and the loopback addresses remain.
        """
        if address.is_unspecified or address.is_loopback:
            return address
        digest = blake2b(address.packed, key=self._salt, digest_size=_HASH_SIZE).digest()
        if address.version == 4:
            return IPv4Address(_NETWORK_4 | int.from_bytes(digest[:3], "big"))
        return IPv6Address(_NETWORK_6 | int.from_bytes(digest[:15], "big"))

    def redact_value(self, value: Any) -> Any:
        """Return a value with its bytes, its text or its addresses redacted."""
        if isinstance(value, tuple):
            return tuple(map(self.redact_value, value))
        if isinstance(value, IPv4Address | IPv6Address):
            return self.redact_address(value)
        if isinstance(value, SocketAddress | Network):
            return replace(value, address=self.redact_address(value.address))
        if isinstance(value, str):
            return self.redact(value.encode())
        return None if value is None else self.redact(value)


def _redact_pages(redaction: Redaction, event: MemoryPages) -> dict[str, Any]:
    """Redact page by page. The offsets of patches remain."""
    try:
        pages = [(kind, data) for _, kind, data in decode_pages(event)]
    except MalformedEvent:
        return {"data": redaction.redact(event.data)}
    parts: list[bytes | RedactedBytes] = []
    for kind, data in pages:
        if kind is PageKind.PATCHED:
            size = 2 + 4 * int.from_bytes(data[:2], "little")
            parts += [data[:size], redaction.redact(data[size:])]
        elif kind in (PageKind.WHOLE, PageKind.SAME):
            # A reference contains a hash of the contents.
            parts.append(redaction.redact(data))
    return {"data": BytePieces(tuple(parts))}


def _redact_globals(redaction: Redaction, event: GlobalsSet) -> dict[str, Any]:
    rows = [(index, kind, redaction.redact(bits)) for index, kind, bits in event.globals]
    return {"globals": tuple(rows)}


def _remove_digest(redaction: Redaction, event: Snapshot) -> dict[str, Any]:
    """Remove the digest, which would not match the redacted contents."""
    return {"digest": b""}


def _redact_placed_file(redaction: Redaction, event: FilePlaced) -> dict[str, Any]:
    is_link = event.kind is FileType.SYMBOLIC_LINK  # The target of a link is a name.
    return {} if is_link else {"data": redaction.redact(event.data)}


def _redact_host_result(redaction: Redaction, event: HostResult) -> dict[str, Any]:
    if event.call is HostCall.READ and Secret.FILES in redaction.secrets:
        return {"value": redaction.redact(event.value)}
    if event.call in _WITH_ADDRESSES and Secret.ADDRESSES in redaction.secrets:
        return {"value": _redact_addresses(redaction, event.value)}
    return {}


def _redact_addresses(redaction: Redaction, value: bytes) -> bytes | RedactedBytes:
    """Redact the addresses of which the value of a host result consists."""
    try:
        addresses = _ADDRESSES.parse(value)
    except (cs.ConstructError, ValueError):
        return redaction.redact(value)
    return bytes(_ADDRESSES.build(list(redaction.redact_value(tuple(addresses)))))


def _redact_process_start(redaction: Redaction, event: ProcessStart) -> dict[str, Any]:
    first, rest = event.arguments[:1], event.arguments[1:]
    hidden = {name.encode("utf-8", "surrogateescape") for name in list_secret_names(event)}
    variables: list[bytes | BytePieces] = []
    for variable in event.environment:
        if variable in hidden:  # It has no value.
            variables.append(variable)
            continue
        name, sign, value = variable.partition(b"=")
        prefix = name + sign if sign else b""
        variables.append(BytePieces((prefix, redaction.redact(value if sign else variable))))
    return {
        "arguments": (*first, *map(redaction.redact, rest)),
        "environment": tuple(variables),
        # The hash of secret values helps to guess them.
        "configuration": tuple(
            (name, "redacted" if name == SECRET_ENVIRONMENT else text)
            for name, text in event.configuration
        ),
    }


_RULES: dict[type[Event], Callable[[Redaction, Any], dict[str, Any]]] = {
    MemoryPages: _redact_pages,
    GlobalsSet: _redact_globals,
    Snapshot: _remove_digest,
    FilePlaced: _redact_placed_file,
    ProcessStart: _redact_process_start,
}
"""Functions for the kinds with secret fields of which a part remains visible."""
