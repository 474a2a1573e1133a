"""Calls of the socket functions of WASIX by a remote guest."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import NamedTuple

import pytest

import journal
from journal.engine.wasi.network.guest_network import SocketLost
from journal.events.streams import StreamWrite
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    DATA_SIZE,
    Answer,
    Remote,
    Session,
    parse_answer,
)
from tests.support.rewrites import events_of

INET4, INET6, UNIX = 1, 2, 3


STREAM, DGRAM, RAW = 1, 2, 3


Sockets = Remote | Session


def inet4(port: int, address: str = "127.0.0.1") -> bytes:
    return struct.pack("<BxH4s", INET4, port, ip_address(address).packed)


def open_socket(guest: Sockets, family: int = INET4, kind: int = STREAM, protocol: int = 0) -> int:
    answer = guest("sock_open", family, kind, protocol, DATA)
    assert answer.errno == 0
    return answer.number


def port_of(guest: Sockets, fd: int) -> int:
    answer = guest("sock_addr_local", fd, DATA)
    assert answer.errno == 0
    return answer.port


def listen(guest: Sockets) -> tuple[int, int]:
    """Return a socket that listens on a free port, and that port."""
    fd = open_socket(guest)
    assert guest("sock_bind", fd, DATA, data=inet4(0)).errno == 0
    assert guest("sock_listen", fd, 5).errno == 0
    return fd, port_of(guest, fd)


class Receipt(NamedTuple):
    """Result of a receive: its errno, the bytes in the buffer, and the size and flags written."""

    errno: int
    data: bytes = b""
    size: int = 0
    flags: int = 0
    sender: bytes = b""


BUFFER = DATA + 48
BUFFER_SIZE = DATA_SIZE - 48
_IOV = struct.Struct("<IIIHxx")


def receive(guest: Sockets, fd: int, size: int = BUFFER_SIZE, flags: int = 0) -> Receipt:
    """Receive by sock_recv."""
    data = _IOV.pack(BUFFER, size, 0, 0)
    return read_receipt(guest("sock_recv", fd, DATA, 1, flags, DATA + 8, DATA + 12, data=data))


def receive_from(guest: Sockets, fd: int, size: int = BUFFER_SIZE, flags: int = 0) -> Receipt:
    """Receive a datagram and its sender."""
    data = _IOV.pack(BUFFER, size, 0, 0)
    answer = guest("sock_recv_from", fd, DATA, 1, flags, DATA + 8, DATA + 12, DATA + 16, data=data)
    return read_receipt(answer)


def read_receipt(answer: Answer) -> Receipt:
    """Return the result that a receive has left in the data of the guest."""
    if answer.errno:
        return Receipt(answer.errno)
    _, _, size, flags = _IOV.unpack_from(answer.data)
    return Receipt(0, answer.data[48 : 48 + size], size, flags, answer.data[16:44])


def read(guest: Sockets, fd: int, size: int = BUFFER_SIZE) -> Receipt:
    """Receive by fd_read."""
    answer = guest("fd_read", fd, DATA, 1, DATA + 8, data=_IOV.pack(BUFFER, size, 0, 0))
    return read_receipt(answer)


def send(guest: Sockets, fd: int, data: bytes, flags: int = 0, call: str = "sock_send") -> Answer:
    """Send by sock_send or fd_write; the number of the answer is the count of sent bytes."""
    packed = _IOV.pack(BUFFER, len(data), 0, 0).ljust(48, b"\0") + data
    more = (flags,) if call == "sock_send" else ()
    answer = guest(call, fd, DATA, 1, *more, DATA + 8, data=packed)
    return Answer(answer.errno, answer.data[8:])


def send_to(guest: Sockets, fd: int, data: bytes, address: bytes, flags: int = 0) -> Answer:
    """Send a datagram; the number of the answer is the count of sent bytes."""
    packed = _IOV.pack(BUFFER, len(data), 0, 0) + address
    packed = packed.ljust(48, b"\0") + data
    answer = guest("sock_send_to", fd, DATA, 1, flags, DATA + 16, DATA + 8, data=packed)
    return Answer(answer.errno, answer.data[8:])


def accept(guest: Sockets, fd: int, flags: int = 0) -> int:
    """Return the descriptor of the next connection."""
    answer = guest("sock_accept", fd, flags, DATA)
    assert answer.errno == 0, answer.errno
    return answer.number


def is_reached(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), timeout=DEADLINE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def full_listener() -> Iterator[int]:
    """Yield the port of a listener whose queue is full: nobody answers a request to connect."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        while True:
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            poll = select.poll()
            poll.register(client, select.POLLOUT)
            if not poll.poll(100):
                break
        yield full.getsockname()[1]


@contextmanager
def expect_note(match: str) -> Iterator[None]:
    """Expect one warning of a lost socket."""
    with pytest.warns(SocketLost, match=match) as warnings:
        yield
    assert len(warnings) == 1


def resume_remote(recorder: journal.Recorder) -> Remote:
    """Return the guest of a recorder after the replay."""
    said = sum(isinstance(event, StreamWrite) for event in events_of(recorder.path))
    wait_until(lambda: len(recorder.stdout) >= said * ANSWER_SIZE)
    return Remote(recorder)


def read_answers(recorder: journal.Recorder, count: int) -> list[Answer]:
    """Return the first answers once they are available."""
    wait_until(lambda: len(recorder.stdout) >= count * ANSWER_SIZE)
    return answers_in(recorder.stdout)


def answers_in(printed: bytes) -> list[Answer]:
    ends = range(ANSWER_SIZE, len(printed) + 1, ANSWER_SIZE)
    return [parse_answer(printed[end - ANSWER_SIZE : end]) for end in ends]
