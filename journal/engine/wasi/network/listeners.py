"""Listening sockets that a guest has from its start."""

import socket as host
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from journal._arguments import check_text, refuse
from journal.engine.wasi.filesystem.reopening import with_more_descriptors
from journal.engine.wasi.network.addresses import (
    HOST_FAMILIES,
    format_address,
    from_host_address,
    to_host_address,
)
from journal.engine.wasi.network.socket import Socket
from journal.engine.wasm.producers import list_languages
from journal.errors import OptionError
from journal.events.process import Listener
from journal.events.sockets import AddressFamily, SocketType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import FdFlags

LISTENERS_COUNT_MAX = 256
"""Largest number of listeners that a guest has from its start."""

BACKLOG = 128
"""Length of the connection queue of such a listener."""

_PORT_MAX = 0xFFFF


def check_listener(name: str, value: Any) -> SocketAddress:
    """Return the address ``HOST:PORT`` of a listener; HOST is an IP address or ``localhost``.

    An IPv6 address is in brackets. Port 0 selects a free port.
    """
    host_name, _, port = check_text(name, value).rpartition(":")
    is_bracketed = host_name.startswith("[") and host_name.endswith("]")
    bare = host_name[1:-1] if is_bracketed else host_name
    try:
        address = ip_address("127.0.0.1" if bare == "localhost" else bare)
        is_valid = is_bracketed == (address.version == 6) and port.isdecimal() and port.isascii()
        is_valid = is_valid and int(port) <= _PORT_MAX and "%" not in bare
    except ValueError:
        is_valid = False
    if not is_valid:
        refuse(name, "ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:0", value)
    return SocketAddress(address, int(port))


@contextmanager
def open_listeners(addresses: Sequence[SocketAddress]) -> Iterator[list[host.socket]]:
    """Yield listening sockets of the host, and close them if the body fails.

    Raises ``OptionError`` for an address at which the host cannot listen.
    """
    if len(addresses) > LISTENERS_COUNT_MAX:
        raise OptionError(f"a guest has at most {LISTENERS_COUNT_MAX} listeners from its start")
    handles: list[host.socket] = []
    try:
        handles.extend(map(_open_listener, addresses))
        yield handles
    except BaseException:
        for handle in handles:
            handle.close()
        raise


def _open_listener(address: SocketAddress) -> host.socket:
    handle = None
    try:
        family = HOST_FAMILIES[_family_of(address)]
        handle = with_more_descriptors(lambda: host.socket(family, host.SOCK_STREAM))
        handle.setblocking(False)
        handle.setsockopt(host.SOL_SOCKET, host.SO_REUSEADDR, 1)
        handle.bind(to_host_address(address))
        handle.listen(BACKLOG)
    except OSError as error:
        if handle is not None:
            handle.close()
        raise OptionError(
            f"the guest cannot listen at {format_address(address)}: {error.strerror or error}"
        ) from error
    return handle


def _family_of(address: SocketAddress) -> AddressFamily:
    return AddressFamily.INET4 if address.address.version == 4 else AddressFamily.INET6


def make_listener_events(
    handles: Sequence[host.socket], first_fd: int, module: bytes
) -> list[Listener]:
    """Return the events of listeners, which the guest has as ``first_fd`` and the numbers after.

    All goroutines of a program in Go share one thread, and its runtime waits in poll_oneoff. It
    takes a listener as it is, and an accept that waits would stop them all. Other programs expect
    a listener that waits.
    """
    is_go = bool(handles) and "Go" in list_languages(module)
    return [
        Listener(fd=fd, addr=from_host_address(handle.getsockname()), non_blocking=is_go)
        for fd, handle in enumerate(handles, first_fd)
    ]


def make_listener(event: Listener) -> Socket:
    """Return the socket of a listener, without a socket of the host."""
    address = event.addr
    return Socket(
        _family_of(address),
        SocketType.STREAM,
        0,
        local=address,
        bound=address,
        asked=address,
        backlog=BACKLOG,
        flags=FdFlags.NONBLOCK if event.non_blocking else 0,
        is_preopened=True,
    )
