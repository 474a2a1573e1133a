"""Calls of the socket functions of WASIX by a remote guest."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

import journal
from journal.engine.wasi.sockets import SocketLost
from journal.events.streams import StreamWrite
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.remote_guest import ANSWER_SIZE, DATA, Answer, Remote, Session, parse_answer
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


def is_reached(port: int, address: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((address, port), timeout=DEADLINE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


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
