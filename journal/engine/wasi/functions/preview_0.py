"""Functions of WASI preview 0 (``wasi_unstable``) whose arguments or structures differ.

Programs of 2019 import this module. The names and the types of its functions are those of preview
1. They differ in the numbers of ``whence``, in the size of a link count, and in a field of a clock
subscription (witx, ``wasi_unstable``).
"""

import struct

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import read_filestat
from journal.engine.wasi.functions import paths, polling, streams
from journal.wasi_abi import EVENT_CLOCK, WHENCE_CURRENT, WHENCE_END, WHENCE_SET, FileStat

MODULE = "wasi_unstable"

#: Functions that preview 0 does not have.
ABSENT = frozenset({"sock_accept"})

_WHENCE = (WHENCE_CURRENT, WHENCE_END, WHENCE_SET)
_LINKS_MAX = (1 << 32) - 1
_FILESTAT = struct.Struct("<QQBxxxIQQQQ")  # as FILESTAT, with 32 bits for the links
# userdata, type, descriptor or identifier of the clock, clock id, then as SUBSCRIPTION
_SUBSCRIPTION = struct.Struct("<QBxxxxxxxIxxxxIxxxxQQHxxxxxx")
assert _FILESTAT.size == 56
assert _SUBSCRIPTION.size == 56


def fd_seek(context: CallContext, fd: int, offset: int, whence: int, result: int) -> None:
    """Move the position of a descriptor."""
    streams.fd_seek(context, fd, offset, _WHENCE[whence], result)


def fd_filestat_get(context: CallContext, fd: int, result: int) -> None:
    """Write the attributes of an open descriptor."""
    context.memory.write(result, _pack_filestat(read_filestat(fd, context.descriptors.get(fd))))


def path_filestat_get(
    context: CallContext, fd: int, lookup: int, pointer: int, size: int, result: int
) -> None:
    """Write the attributes of the file at a path."""
    stat = paths.read_filestat_at(context, fd, lookup, pointer, size)
    context.memory.write(result, _pack_filestat(stat))


def poll_oneoff(context: CallContext, pointer: int, events: int, count: int, result: int) -> None:
    """Wait until at least one of the subscribed events happens."""
    polling.check_count(count)
    subscriptions = (
        (userdata, kind, clock if kind == EVENT_CLOCK else fd, timeout, precision, flags)
        for userdata, kind, fd, clock, timeout, precision, flags in context.memory.unpack_many(
            _SUBSCRIPTION, pointer, count
        )
    )
    polling.poll(context, subscriptions, events, count, result)


def _pack_filestat(stat: FileStat) -> bytes:
    return _FILESTAT.pack(*stat._replace(links=min(stat.links, _LINKS_MAX)))


#: Handlers that replace those of preview 1, by name.
HANDLERS: dict[str, Handler] = {
    "fd_filestat_get": fd_filestat_get,
    "fd_seek": fd_seek,
    "path_filestat_get": path_filestat_get,
    "poll_oneoff": poll_oneoff,
}
