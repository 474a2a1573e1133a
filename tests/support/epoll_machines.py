"""The same operations on pipes, counters and epoll sets, in a guest's table and in Linux itself."""

from __future__ import annotations

import errno
import os
import select
from typing import Any

from journal.engine.session.journal_writer import NullWriter
from journal.engine.tape import Tape
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions.channels import create_event, create_pipe
from journal.engine.wasi.functions.descriptors import fd_close, renumber
from journal.engine.wasi.functions.duplicates import duplicate
from journal.engine.wasi.functions.epolls import control, create_epoll
from journal.engine.wasi.objects.epoll import EpollSet
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.events.descriptors import EpollEvent
from journal.wasi_abi import Errno, FdFlags, WasiError

IN, OUT, RDHUP, ERR, HUP, EDGE, ONESHOT = 1, 2, 4, 16, 32, 64, 128
ADD, MODIFY, DELETE = 0, 1, 2

Events = list[tuple[int, int]]
"""Descriptors of watches and their events, sorted."""


def make_context() -> CallContext:
    """Return the context of a guest of WASIX without descriptors, which records nothing."""
    nothing: Any = None
    context = CallContext(Tape(NullWriter()), nothing, Interrupter(), [], [])
    context.descriptors.is_lowest_first = True
    return context


class GuestMachine:
    """Objects inside a guest. A failed operation returns the name of its error."""

    def __init__(self) -> None:
        self.context = make_context()

    def pipe(self, reader: int, writer: int) -> str:
        create_pipe(self.context, reader, writer)
        for fd in (reader, writer):
            self.context.descriptors.used[fd].flags = FdFlags.NONBLOCK  # type: ignore[union-attr]
        return ""

    def counter(self, fd: int, value: int) -> str:
        create_event(self.context, value, int(FdFlags.NONBLOCK), fd)
        return ""

    def epoll(self, fd: int) -> str:
        create_epoll(self.context, fd)
        return ""

    def write(self, fd: int, data: bytes) -> str:
        channel: Any = self.context.descriptors.get(fd)
        return _name_error(lambda: channel.write(self.context, fd, data))

    def read(self, fd: int, size: int) -> str:
        channel: Any = self.context.descriptors.get(fd)
        return _name_error(lambda: channel.read(self.context, fd, size))

    def close(self, fd: int) -> str:
        fd_close(self.context, fd)
        return ""

    def duplicate(self, fd: int, copied: int) -> str:
        duplicate(self.context, fd, copied)
        return ""

    def renumber(self, fd: int, moved: int) -> str:
        renumber(self.context, fd, moved)
        return ""

    def control(self, epfd: int, operation: int, fd: int, events: int) -> str:
        event = None if operation == DELETE else EpollEvent(events, 0, fd, 0, 0)
        return _name_error(lambda: control(self.context, epfd, operation, fd, event))

    def wait(self, epfd: int, count: int = 1000) -> Events:
        epoll = self.context.descriptors.get_channel(epfd, EpollSet)
        found = epoll.report(epoll.collect(count))
        return sorted((event.fd, events) for events, event in found)

    def end(self) -> None:
        for fd in list(self.context.descriptors.used):
            self.context.descriptors.close(fd)
        self.context.interrupter.close()


def _name_error(call: Any) -> str:
    try:
        call()
    except WasiError as error:
        return "E" + Errno(error.errno).name
    return ""


_BITS = {
    IN: select.EPOLLIN,
    OUT: select.EPOLLOUT,
    RDHUP: select.EPOLLRDHUP,
    ERR: select.EPOLLERR,
    HUP: select.EPOLLHUP,
    EDGE: select.EPOLLET,
    ONESHOT: select.EPOLLONESHOT,
}
BASE = 400
"""Number of the host for descriptor 0 of the machine, above the descriptors of the tests."""


class LinuxMachine:
    """The same objects of the host, each with the number of the guest plus ``BASE``."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def _place(self, fd: int, made: int) -> None:
        os.dup2(made, BASE + fd, inheritable=False)
        os.close(made)
        self._used.add(fd)

    def pipe(self, reader: int, writer: int) -> str:
        for fd, made in zip((reader, writer), os.pipe2(os.O_NONBLOCK), strict=True):
            self._place(fd, made)
        return ""

    def counter(self, fd: int, value: int) -> str:
        self._place(fd, os.eventfd(value, os.EFD_NONBLOCK))
        return ""

    def epoll(self, fd: int) -> str:
        with select.epoll() as made:
            self._place(fd, os.dup(made.fileno()))
        return ""

    def write(self, fd: int, data: bytes) -> str:
        return _name_host_error(lambda: os.write(BASE + fd, data))

    def read(self, fd: int, size: int) -> str:
        return _name_host_error(lambda: os.read(BASE + fd, size))

    def close(self, fd: int) -> str:
        os.close(BASE + fd)
        self._used.discard(fd)
        return ""

    def duplicate(self, fd: int, copied: int) -> str:
        os.dup2(BASE + fd, BASE + copied, inheritable=False)
        self._used.add(copied)
        return ""

    def renumber(self, fd: int, moved: int) -> str:
        if fd != moved:
            self.duplicate(fd, moved)
            self.close(fd)
        return ""

    def control(self, epfd: int, operation: int, fd: int, events: int) -> str:
        mask = sum(theirs for ours, theirs in _BITS.items() if events & ours)
        with _borrow(epfd) as epoll:
            if operation == ADD:
                return _name_host_error(lambda: epoll.register(BASE + fd, mask))
            if operation == MODIFY:
                return _name_host_error(lambda: epoll.modify(BASE + fd, mask))
            return _name_host_error(lambda: epoll.unregister(BASE + fd))

    def wait(self, epfd: int, count: int = 1000) -> Events:
        with _borrow(epfd) as epoll:
            found = epoll.poll(0, count)
        return sorted(
            (fd - BASE, sum(ours for ours, theirs in _BITS.items() if mask & theirs))
            for fd, mask in found
        )

    def end(self) -> None:
        for fd in list(self._used):
            self.close(fd)


def _borrow(epfd: int) -> select.epoll:
    """Return an epoll object on a copy of a descriptor, which closing it closes."""
    return select.epoll.fromfd(os.dup(BASE + epfd))


def _name_host_error(call: Any) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""
