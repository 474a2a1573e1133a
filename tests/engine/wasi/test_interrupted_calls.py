"""A signal ends the wait of every call that can wait with INTR, and a replay repeats it."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK, verify_replay
from journal.events.inputs import HostCall, HostResult, SignalDelivered
from journal.wasi_abi import Errno
from tests.support.deadlines import wait_until
from tests.support.remote_guest import ANSWER_SIZE, DATA, REMOTE, Remote, encode_order, parse_answer
from tests.support.rewrites import events_of
from tests.support.wasix_sockets import (
    DGRAM,
    STREAM,
    UNIX,
    full_listener,
    inet4,
    listen,
    open_socket,
)

NONBLOCK = 4
IOV = struct.pack("<II", DATA + 64, 8)
WHOLE_MEMORY = struct.pack("<II", 0, 65536)
IN = 1


class Interrupted:
    """A remote guest with a handler, whose calls are interrupted while they wait."""

    def __init__(self, recorder: journal.Recorder) -> None:
        self.call = Remote(recorder)
        self._recorder = recorder
        assert recorder._process is not None
        self._context = recorder._process.context
        self._waits: list[str] = []
        self._context.on_wait = lambda function, idle: self._waits.append(function)
        assert self.call("callback_signal", DATA, 9, data=b"on_signal").errno == 0

    def numbers(self, name: str, *arguments: int, data: bytes = b"") -> tuple[int, ...]:
        answer = self.call(name, *arguments, data=data)
        assert answer.errno == 0, (name, answer.errno)
        return struct.unpack_from("<2I", answer.data)

    def interrupt(self, name: str, *arguments: int, data: bytes = b"") -> int:
        """Make a call, send a signal while it waits, and return its errno."""
        source, end = self._recorder._streams.source, len(self._recorder.stdout) + ANSWER_SIZE
        self._recorder.feed(encode_order(name, *arguments, data=data))
        wait_until(lambda: not source.is_ready())  # The guest has read the order.
        self._waits.clear()
        wait_until(lambda: self._is_waiting(end), f"{name} does not wait")
        assert self._recorder.signal(signal.SIGUSR1)
        wait_until(lambda: len(self._recorder.stdout) >= end, f"{name} is not interrupted")
        self.call._count += 1
        return parse_answer(self._recorder.stdout[end - ANSWER_SIZE : end]).errno

    def _is_waiting(self, end: int) -> bool:
        """Return whether the call waits, or has returned."""
        self._context.interrupter.wake()
        return bool(self._waits) or len(self._recorder.stdout) >= end


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> Iterator[tuple[Interrupted, Path]]:
    path = tmp_path_factory.mktemp("interrupted") / "j"
    with journal.record(REMOTE, path, network=ALL_NETWORK, cache=cache_dir) as recorder:
        yield Interrupted(recorder), path


def test_calls_that_wait_are_interrupted(
    recorded: tuple[Interrupted, Path], cache_dir: Path
) -> None:
    guest, path = recorded
    reader, writer = guest.numbers("fd_pipe", DATA, DATA + 4)
    found = {"read of a pipe": guest.interrupt("fd_read", reader, DATA, 1, DATA + 8, data=IOV)}
    full = guest.call("fd_write", writer, DATA, 1, DATA + 8, data=WHOLE_MEMORY)
    assert full.errno == 0
    found["write to a pipe"] = guest.interrupt("fd_write", writer, DATA, 1, DATA + 8, data=IOV)
    empty, _ = guest.numbers("fd_event", 0, 0, DATA)
    found["read of a counter"] = guest.interrupt("fd_read", empty, DATA, 1, DATA + 8, data=IOV)
    one, _ = guest.numbers("sock_pair", UNIX, STREAM, 0, DATA, DATA + 4)
    found["receive in a pair"] = guest.interrupt(
        "sock_recv", one, DATA, 1, 0, DATA + 8, DATA + 12, data=IOV
    )
    subscription = struct.pack("<QBxxxxxxxI", 7, 1, empty).ljust(48, b"\0")
    found["poll_oneoff"] = guest.interrupt(
        "poll_oneoff", DATA, DATA + 48, 1, DATA + 96, data=subscription
    )
    epoll, _ = guest.numbers("epoll_create", DATA)
    watch = struct.pack("<IxxxxIIIxxxxQ", IN, 0, empty, 0, 0)
    assert guest.call("epoll_ctl", epoll, 0, empty, DATA, data=watch).errno == 0
    found["epoll_wait"] = guest.interrupt("epoll_wait", epoll, DATA, 1, 0xFFFFFFFF, DATA + 64)
    listener, port = listen(guest.call)
    found["accept"] = guest.interrupt("sock_accept_v2", listener, 0, DATA, DATA + 4)
    client = open_socket(guest.call)
    assert guest.call("sock_connect", client, DATA, data=inet4(port)).errno == 0
    found["receive"] = guest.interrupt(
        "sock_recv", client, DATA, 1, 0, DATA + 8, DATA + 12, data=IOV
    )
    datagrams = open_socket(guest.call, kind=DGRAM)
    assert guest.call("sock_bind", datagrams, DATA, data=inet4(0)).errno == 0
    found["receive a datagram"] = guest.interrupt(
        "sock_recv_from", datagrams, DATA, 1, 0, DATA + 8, DATA + 12, DATA + 16, data=IOV
    )
    found["send"] = fill(guest, client)
    with full_listener() as port:
        pending = open_socket(guest.call)
        for name in ("connect", "connect again"):
            found[name] = guest.interrupt("sock_connect", pending, DATA, data=inet4(port))
        assert guest.call("sock_status", pending, DATA).data[0] == 0, "it is still opening"
    assert found == dict.fromkeys(found, Errno.INTR)
    guest.call.end()
    events = events_of(path)
    assert sum(isinstance(event, SignalDelivered) for event in events) >= len(found)
    waits = [each for each in events if isinstance(each, HostResult) and each.call is HostCall.WAIT]
    assert {each.errno for each in waits} == {Errno.INTR}
    replay = verify_replay(path, cache=cache_dir)
    assert replay.matches, replay.divergence


def fill(guest: Interrupted, fd: int) -> int:
    """Send until the buffers are full, and return the errno of a send that waits."""
    process = guest._recorder._process
    assert process is not None
    assert guest.call("fd_fdstat_set_flags", fd, NONBLOCK).errno == 0
    send = ("sock_send", fd, DATA, 1, 0, DATA + 8)
    while guest.call(*send, data=WHOLE_MEMORY).errno != Errno.AGAIN:
        pass
    assert guest.call("fd_fdstat_set_flags", fd, 0).errno == 0
    while (errno := guest.interrupt(*send, data=WHOLE_MEMORY)) == 0:
        pass  # The system has moved bytes to the other end meanwhile.
    return errno
