"""Lookup of a host name by the resolver of the host, which a guest can wait for and leave."""

import os
import select
import socket as host
import threading
from contextlib import suppress
from ipaddress import ip_address

from journal.engine.wasi.network.address_ranges import IpAddress
from journal.wasi_abi import Errno

ADDRESSES_COUNT_MAX = 64
"""Largest number of addresses of one name."""

_ERRNOS = {
    host.EAI_NONAME: Errno.NOENT,
    host.EAI_NODATA: Errno.NOENT,
    host.EAI_AGAIN: Errno.AGAIN,
    host.EAI_MEMORY: Errno.NOMEM,
}

Answer = tuple[Errno, tuple[IpAddress, ...]]
"""An error number, and the addresses of a name."""


class Lookup:
    """Lookup in a thread of its own, because nothing interrupts the resolver of the host.

    A guest that stops waiting leaves the thread behind, which ends with the resolver's own time
    limit. A lookup is a ``WaitSource``.
    """

    def __init__(self, name: str) -> None:
        self.answer: Answer | None = None
        self._name = name
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_closed = False
        try:
            threading.Thread(target=self._run, name=f"lookup of {name}", daemon=True).start()
        except RuntimeError:  # The machine has no more threads.
            self.close()
            raise

    def is_ready(self) -> bool:
        """Return whether the answer is there."""
        return self.answer is not None

    def poll_events(self) -> list[tuple[int, int]]:
        """Return the descriptor that becomes readable with the answer."""
        return [(self._event, select.POLLIN)]

    def close(self) -> None:
        """Release the descriptor. The answer is of no use any more."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                os.close(self._event)

    def _run(self) -> None:
        answer = ask_host(self._name)
        with self._lock:
            self.answer = answer
            if not self._is_closed:
                os.eventfd_write(self._event, 1)


def ask_host(name: str) -> Answer:
    """Return the addresses of a name in the order of the host, without duplicates."""
    try:
        found = host.getaddrinfo(name, None, type=host.SOCK_STREAM)
    except host.gaierror as error:
        return _ERRNOS.get(error.errno or 0, Errno.IO), ()
    except (OSError, UnicodeError):
        return Errno.IO, ()
    addresses: dict[IpAddress, None] = {}
    for _, _, _, _, location in found:
        with suppress(ValueError):
            # An address of a link has the name of its interface, which a guest does not know.
            addresses[ip_address(str(location[0]).partition("%")[0])] = None
    return (Errno.SUCCESS if addresses else Errno.NOENT), tuple(addresses)[:ADDRESSES_COUNT_MAX]
