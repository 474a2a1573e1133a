"""Calls of epoll and of sockets inside the guest, by any guest that obeys the test."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.support.remote_guest import DATA, Answer
from tests.support.wasix_sockets import INET4, STREAM, UNIX, inet4

Call = Callable[..., Answer]

FOREVER = (1 << 32) - 1
"""A timeout of four seconds, the longest that an order can have."""
ROOM = 4
"""Events for which an answer has room."""
MILLISECOND = 1_000_000
_EVENT = struct.Struct("<I4xIII4xQ")
_SCRATCH, _BUFFER = 4000, 4096


def pack_event(events: int, *data: int) -> bytes:
    """Return an event with its data: a pointer, a descriptor and two numbers."""
    return _EVENT.pack(events, *(data or (0, 0, 0, 0)))


def create(guest: Call) -> int:
    answer = guest("epoll_create", DATA)
    assert answer.errno == 0
    return answer.number


def control(guest: Call, epfd: int, operation: int, fd: int, events: int = 0) -> int:
    """Watch ``fd`` with its number as data, and return the errno."""
    data = pack_event(events, 7, fd, 8, 9)
    return guest("epoll_ctl", epfd, operation, fd, DATA, data=data).errno


def wait(guest: Call, epfd: int, timeout: int = 0, count: int = ROOM) -> list[tuple[int, int]]:
    """Return the descriptors that are ready and their events."""
    answer = guest("epoll_wait", epfd, DATA, count, timeout, _SCRATCH)
    assert answer.errno == 0
    ready = []
    for events, pointer, fd, data1, data2 in _EVENT.iter_unpack(answer.data[: ROOM * _EVENT.size]):
        if pointer == 7:
            assert (data1, data2) == (8, 9)
            ready.append((fd, events))
    return sorted(ready)


def write(guest: Call, fd: int, data: bytes) -> int:
    iovec = struct.pack("<II", DATA + 8, len(data))
    return guest("fd_write", fd, DATA, 1, _SCRATCH, data=iovec + data).errno


def read(guest: Call, fd: int, size: int = 64) -> tuple[int, bytes]:
    """Return the errno and the bytes of a read."""
    answer = guest("fd_read", fd, DATA, 1, DATA + 8, data=struct.pack("<II", DATA + 16, size))
    count = int.from_bytes(answer.data[8:12], "little")
    return answer.errno, answer.data[16 : 16 + count] if not answer.errno else b""


def unix(name: bytes) -> bytes:
    return struct.pack("<Bx108s", UNIX, name)


def bound_listener(guest: Call, address: bytes, family: int = INET4, backlog: int = 8) -> int:
    """Return a stream socket that listens at an address."""
    fd = guest("sock_open", family, STREAM, 0, DATA).number
    assert guest("sock_bind", fd, DATA, data=address).errno == 0
    assert guest("sock_listen", fd, backlog).errno == 0
    return fd


def inner_listener(guest: Call) -> tuple[int, int]:
    """Return a listener of the internal loopback and its port."""
    fd = bound_listener(guest, inet4(0))
    return fd, guest("sock_addr_local", fd, DATA).port


def connected(guest: Call, address: bytes, family: int = INET4) -> int:
    """Return a stream socket that is connected to an address."""
    fd = guest("sock_open", family, STREAM, 0, DATA).number
    assert guest("sock_connect", fd, DATA, data=address).errno == 0
    return fd


def accept(guest: Call, fd: int) -> int:
    answer = guest("sock_accept_v2", fd, 0, DATA, DATA + 4)
    assert answer.errno == 0
    return answer.number
