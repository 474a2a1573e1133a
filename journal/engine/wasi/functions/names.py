"""Function of WASIX that resolves a host name."""

import struct

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network.lookup import ADDRESSES_COUNT_MAX
from journal.events.sockets import AddressFamily
from journal.wasi_abi import Errno, WasiError

_ADDRESS = struct.Struct("<Bx16s")  # The family, and the octets at the start of their space.
_HOST_SIZE_MAX = 1024
"""Longest text of a host. Its normal form has at most 253 characters."""
_PORT_MAX = 0xFFFF


def resolve(
    context: CallContext, host: int, size: int, port: int, array: int, room: int, result: int
) -> None:
    """Write the addresses of a host, as many as there is room for, and their number."""
    memory = context.memory
    room = min(room, ADDRESSES_COUNT_MAX)
    memory.check(array, room * _ADDRESS.size)
    memory.check(result, 4)
    if size > _HOST_SIZE_MAX:
        memory.check(host, size)
        raise WasiError(Errno.NAMETOOLONG)
    try:
        name = memory.read(host, size).decode()
    except UnicodeDecodeError:
        raise WasiError(Errno.INVAL) from None
    if port > _PORT_MAX:
        raise WasiError(Errno.INVAL)
    found = context.network.resolver.resolve(context, name, port)[:room]
    for index, address in enumerate(found):
        family = AddressFamily.INET4 if address.version == 4 else AddressFamily.INET6
        entry = _ADDRESS.pack(family, address.packed)
        memory.write(array + index * _ADDRESS.size, entry)
    memory.write_u32(result, len(found))


FUNCTIONS: dict[str, tuple[str, Handler]] = {"resolve": ("iiiiii", resolve)}
"""Parameter types and handler of each function of WASIX in this module."""
