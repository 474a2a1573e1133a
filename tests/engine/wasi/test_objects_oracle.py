"""Objects inside a guest against those of Linux, over random histories of calls."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from journal.engine.wasi.channel import ByteChannel, from_poll_mask
from journal.engine.wasi.objects.event_counter import CounterChannel
from journal.engine.wasi.objects.inner_socket import InnerSocket
from journal.events.sockets import SocketType
from journal.wasi_abi import to_wasi_errno
from tests.support.guest_objects import (
    BYTES_MAX,
    DATAGRAM,
    NONBLOCK,
    SEQPACKET,
    STREAM,
    GuestObjects,
    Outcome,
)
from tests.support.local_guest import LocalGuest
from tests.support.object_histories import HISTORIES, History

_SOCKETS = {
    STREAM: socket.SOCK_STREAM,
    DATAGRAM: socket.SOCK_DGRAM,
    SEQPACKET: socket.SOCK_SEQPACKET,
}
_RECEIVE = {1: socket.MSG_PEEK, 2: socket.MSG_WAITALL, 8: socket.MSG_DONTWAIT}
_HOWS = {1: socket.SHUT_RD, 2: socket.SHUT_WR, 3: socket.SHUT_RDWR}


class LinuxObjects:
    """The calls of :class:`GuestObjects` on objects of the host, which do not block."""

    def __init__(self) -> None:
        self.used: dict[int, int] = {}

    def _add(self, made: int, lowest: int = 0) -> int:
        fd = next(fd for fd in range(lowest, 1 << 16) if fd not in self.used)
        self.used[fd] = made
        return fd

    def _try(self, call: Callable[[], bytes | int | tuple[int, int] | None]) -> Outcome:
        try:
            return Outcome(0, call())
        except OSError as error:
            return Outcome(to_wasi_errno(error), None)

    def _host(self, fd: int) -> int:
        if fd not in self.used:
            raise OSError(9, "bad descriptor")
        return self.used[fd]

    def pipe(self) -> Outcome:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return Outcome(0, (self._add(reader), self._add(writer)))

    def event(self, value: int, flags: int) -> Outcome:
        semaphore = os.EFD_SEMAPHORE if flags & 1 else 0
        return Outcome(
            0, self._add(os.eventfd(value, semaphore | os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        )

    def pair(self, kind: int) -> Outcome:
        ends = socket.socketpair(socket.AF_UNIX, _SOCKETS[kind])
        for end in ends:
            end.setblocking(False)
        return Outcome(0, (self._add(ends[0].detach()), self._add(ends[1].detach())))

    def dup(self, fd: int) -> Outcome:
        return self._try(lambda: self._add(os.dup(self._host(fd))))

    def dup_from(self, fd: int, lowest: int, cloexec: bool = False) -> Outcome:
        return self._try(lambda: self._add(os.dup(self._host(fd)), lowest))

    def renumber(self, old: int, new: int) -> Outcome:
        def call() -> None:
            made = os.dup(self._host(old))
            if new in self.used:
                os.close(self.used.pop(new))
            self.used[new] = made

        return self._try(call)

    def close(self, fd: int) -> Outcome:
        def call() -> None:
            os.close(self._host(fd))
            del self.used[fd]

        return self._try(call)

    def read(self, fd: int, size: int) -> Outcome:
        outcome = self._try(lambda: os.read(self._host(fd), size))
        if size <= BYTES_MAX or outcome.errno:
            return outcome
        assert isinstance(outcome.value, bytes)
        return Outcome(0, len(outcome.value))

    def write(self, fd: int, data: bytes) -> Outcome:
        return self._try(lambda: os.write(self._host(fd), data))

    def write_zeros(self, fd: int, size: int) -> Outcome:
        return self.write(fd, bytes(size))

    @contextmanager
    def _open(self, fd: int) -> Iterator[socket.socket]:
        copy = os.dup(self._host(fd))
        try:
            end = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            raise
        with end:
            yield end

    def shutdown(self, fd: int, how: int) -> Outcome:
        def call() -> None:
            with self._open(fd) as end:
                end.shutdown(_HOWS[how])

        return self._try(call)

    def send(self, fd: int, data: bytes) -> Outcome:
        def call() -> int:
            with self._open(fd) as end:
                return end.send(data, socket.MSG_NOSIGNAL)

        return self._try(call)

    def receive(self, fd: int, size: int, flags: int) -> tuple[Outcome, bool]:
        is_cut = False

        def call() -> bytes:
            nonlocal is_cut
            with self._open(fd) as end:
                data, _, found, _ = end.recvmsg(
                    size, 0, sum(_RECEIVE[bit] for bit in flags_of(flags))
                )
            is_cut = bool(found & socket.MSG_TRUNC)
            return data

        return self._try(call), is_cut

    def readiness(self) -> Iterator[tuple[int, int]]:
        poll = select.poll()
        for host in self.used.values():
            poll.register(host, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        masks = dict(poll.poll(0))
        for fd, host in sorted(self.used.items()):
            yield fd, _settle(from_poll_mask(masks.get(host, 0)))

    def end(self) -> None:
        for fd in self.used.values():
            os.close(fd)


def flags_of(flags: int) -> list[int]:
    return [bit for bit in _RECEIVE if flags & bit]


def _settle(mask: int) -> int:
    """Return a mask without OUT beside ERR: Linux says of a broken pipe whether it was full."""
    return mask & ~2 if mask & 16 else int(mask)


class Both:
    """A guest and Linux, which make each call and must agree."""

    def __init__(self) -> None:
        self.local = LocalGuest()
        self.guest, self.linux = GuestObjects(self.local), LinuxObjects()
        self.guest.block_signals()

    def __call__(self, name: str, *arguments: object) -> None:
        outcome = getattr(self.guest, name)(*arguments)
        expected = getattr(self.linux, name)(*arguments)
        assert outcome == expected, (name, arguments)
        if name in ("pipe", "pair"):
            for fd in outcome.value:
                self.guest.set_flags(fd, NONBLOCK)

    def knows(self, name: object, *arguments: object) -> bool:
        """Return whether each Linux has the same outcome.

        Old ones add the start of a long write to a counter. New ones do not reset a connection for
        an empty message.
        """
        if name not in ("write", "send"):
            return True
        fd, data = arguments
        assert isinstance(fd, int)
        assert isinstance(data, bytes)
        descriptor = self.local.context.descriptors.used.get(fd)
        if isinstance(descriptor, InnerSocket) and descriptor.kind is SocketType.SEQPACKET:
            return bool(data)
        return not isinstance(descriptor, CounterChannel) or len(data) <= 8

    def compare_readiness(self) -> None:
        found = []
        for fd, channel in sorted(self.local.context.descriptors.used.items()):
            assert isinstance(channel, ByteChannel)
            found.append((fd, _settle(int(channel.readiness()))))
        assert found == list(self.linux.readiness())

    def end(self) -> None:
        self.local.end()
        self.linux.end()


@given(history=HISTORIES)
def test_objects_do_what_those_of_linux_do(history: History) -> None:
    both = Both()
    try:
        for name, *arguments in history:
            if both.knows(name, *arguments):
                both(str(name), *arguments)
                both.compare_readiness()
    finally:
        both.end()


PAGES = st.integers(1, 17).map(lambda count: 4096 * count)


@given(sizes=st.lists(st.tuples(st.booleans(), PAGES), max_size=40))
def test_a_pipe_is_full_when_one_of_linux_is(sizes: list[tuple[bool, int]]) -> None:
    """Sizes are whole pages, because Linux counts the pages of a pipe."""
    both = Both()
    try:
        both("pipe")
        for is_read, size in sizes:
            both("read" if is_read else "write_zeros", 0 if is_read else 1, min(size, 57344))
            both.compare_readiness()
    finally:
        both.end()
