"""Generated calls on sockets, pipes, counters and epoll sets, and a guest that makes them.

No call waits: each new object is made non-blocking. The sockets are real ones, and connect to
listeners of the same guest.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import journal
from journal.engine.snapshot.contents import capture_contents
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.wasi_abi import FdFlags
from tests.support.call_histories import DATA, FIRST, RESULT, Guest, Operation, Rows
from tests.support.engine_state import Described

fds = st.integers(0, 9)
"""Places among the open descriptors after the mounts."""
LOOPBACK = bytes([1, 0, 0, 0, 127, 0, 0, 1])
EVENT = struct.Struct("<I4xI4xIIQ")  # Events, pointer, descriptor and two words of data.

CALLS: dict[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "open_socket": (3, (st.sampled_from([1, 1, 2]),)),
    "bind": (2, (fds,)),
    "listen": (2, (fds,)),
    "connect": (4, (fds, st.integers(0, 3))),
    "fd_status": (2, (fds,)),
    "accept": (4, (fds,)),
    "send": (3, (fds, st.binary(min_size=1, max_size=9))),
    "send_to": (2, (fds, st.integers(0, 3))),
    "receive": (2, (fds,)),
    "sock_shutdown": (1, (fds, st.sampled_from([1, 2, 3]))),
    "sock_set_opt_flag": (2, (fds, st.sampled_from([2, 3, 12]), st.integers(0, 1))),
    "sock_set_opt_size": (1, (fds, st.sampled_from([15, 16]), st.sampled_from([4096, 8192]))),
    "pipe": (1, ()),
    "fd_event": (1, (st.integers(0, 3), st.integers(0, 1))),
    "pair": (1, (st.sampled_from([1, 2]),)),
    "write": (3, (fds, st.sampled_from([b"\1" + bytes(7), b"12345678"]))),
    "read": (2, (fds,)),
    "fd_dup": (2, (fds,)),
    "fd_dup2": (1, (fds, st.integers(FIRST, FIRST + 9), st.integers(0, 1))),
    "fd_fdflags_set": (1, (fds, st.integers(0, 1))),
    "fd_renumber": (1, (fds, fds)),
    "fd_close": (3, (fds,)),
    "epoll_create": (1, ()),
    "control": (4, (fds, st.integers(0, 2), fds, st.sampled_from([1, 3, 129]))),
    "wait": (2, (fds,)),
}
operations = st.sampled_from(
    [name for name, (count, _) in CALLS.items() for _ in range(count)]
).flatmap(lambda name: st.tuples(st.just(name), *CALLS[name][1]))

BEGINNING: list[Operation] = [
    *(("epoll_create",), ("open_socket", 1), ("bind", 1), ("listen", 1), ("open_socket", 1)),
    *(("connect", 2, 0), ("accept", 1), ("fd_status", 2), ("send", 3, b"abc"), ("pipe",)),
    *(("control", 0, 0, 3, 1), ("open_socket", 2), ("send_to", 6, 1), ("control", 0, 0, 4, 1)),
]
histories = st.lists(operations, min_size=15, max_size=60).map(lambda history: BEGINNING + history)


class NetworkGuest(Guest):
    """Calls of a guest of WASIX on the objects through which bytes pass."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        super().__init__(folder, rows)
        self.process.context.descriptors.is_lowest_first = True

    def do(self, operation: Operation) -> None:
        """Make a call on descriptors that are open."""
        name, *values = operation
        used = [fd for fd in sorted(self.process.context.descriptors.used) if fd >= FIRST]
        strategies = CALLS[name][1]
        super().do(
            (
                name,
                *(
                    used[value % len(used)] if used and strategy is fds else value
                    for value, strategy in zip(values, strategies, strict=True)
                ),
            )
        )

    def look(self) -> None:
        """Observe the state, and the contents of the objects inside the guest."""
        context = self.process.context
        contents = [journal.encode(event) for event in capture_contents(context)]
        state: Described = self.process.described() | {"contents": contents}
        self.seen.append((len(self.rows.kept) - 1, state))

    def _result(self) -> int:
        return int.from_bytes(self.process.context.memory.read(RESULT, 4), "little")

    def _settle(self, *fds: int) -> None:
        """Make new descriptors non-blocking."""
        for fd in fds:
            self._call("fd_fdstat_set_flags", fd, FdFlags.NONBLOCK)

    def _addresses(self, *, is_stream: bool) -> list[bytes]:
        """Return the addresses of bound sockets, as a guest passes them."""
        used = self.process.context.descriptors.used
        sockets = [found for _, found in sorted(used.items()) if isinstance(found, HostSocketState)]
        ports = [one.bound.port for one in sockets if one.bound and one.is_stream is is_stream]
        return [bytes([1, 0]) + port.to_bytes(2, "little") + LOOPBACK[4:] for port in ports]

    def _open_socket(self, kind: int) -> None:
        if not self._call("sock_open", 1, kind, 0, RESULT):
            self._settle(self._result())

    def _bind(self, fd: int) -> None:
        self.process.context.memory.write(DATA, LOOPBACK)
        self._call("sock_bind", fd, DATA)

    def _listen(self, fd: int) -> None:
        self._call("sock_listen", fd, 8)

    def _connect(self, fd: int, which: int) -> None:
        used = self.process.context.descriptors.used.get(fd)
        is_stream = isinstance(used, HostSocketState) and used.is_stream
        found = [*self._addresses(is_stream=is_stream), bytes([1, 0, 9, 0]) + LOOPBACK[4:]]
        self.process.context.memory.write(DATA, found[which % len(found)])
        self._call("sock_connect", fd, DATA)

    def _fd_status(self, fd: int) -> None:
        self._call("sock_status", fd, RESULT)

    def _accept(self, fd: int) -> None:
        if not self._call("sock_accept_v2", fd, FdFlags.NONBLOCK, RESULT, DATA):
            self._settle(self._result())

    def _send(self, fd: int, data: bytes) -> None:
        if self._is_channel(fd):
            self.process.context.memory.write(DATA, data)
            self._buffer(len(data))
            self._call("sock_send", fd, RESULT + 8, 1, 1, RESULT)

    def _send_to(self, fd: int, which: int) -> None:
        found = [*self._addresses(is_stream=False), bytes([1, 0, 9, 0]) + LOOPBACK[4:]]
        memory = self.process.context.memory
        memory.write(DATA, b"datagram")
        memory.write(DATA + 64, found[which % len(found)])
        self._buffer(8)
        self._call("sock_send_to", fd, RESULT + 8, 1, 1, DATA + 64, RESULT)

    def _receive(self, fd: int) -> None:
        if self._is_channel(fd):
            self._buffer(100)
            self._call("sock_recv", fd, RESULT + 8, 1, 8, RESULT, RESULT + 4)

    def _pipe(self) -> None:
        if not self._call("fd_pipe", RESULT, RESULT + 4):
            second = int.from_bytes(self.process.context.memory.read(RESULT + 4, 4), "little")
            self._settle(self._result(), second)

    def _fd_event(self, value: int, flags: int) -> None:
        if not self._call("fd_event", value, flags, RESULT):
            self._settle(self._result())

    def _pair(self, kind: int) -> None:
        if not self._call("sock_pair", 3, kind, 0, RESULT, RESULT + 4):
            second = int.from_bytes(self.process.context.memory.read(RESULT + 4, 4), "little")
            self._settle(self._result(), second)

    def _write(self, fd: int, data: bytes) -> None:
        if self._is_channel(fd):
            self._data("fd_write", fd, data)

    def _read(self, fd: int) -> None:
        if self._is_channel(fd):
            self._buffer(100)
            self._call("fd_read", fd, RESULT + 8, 1, RESULT)

    def _is_channel(self, fd: int) -> bool:
        """Return whether a call on the descriptor returns at once."""
        found = self.process.context.descriptors.used.get(fd)
        return isinstance(found, ByteChannel) and bool(found.flags & FdFlags.NONBLOCK)

    def _control(self, epfd: int, operation: int, fd: int, events: int) -> None:
        self.process.context.memory.write(DATA, EVENT.pack(events, 0, fd, 0, fd))
        self._call("epoll_ctl", epfd, operation, fd, DATA)

    def _wait(self, epfd: int) -> None:
        self._call("epoll_wait", epfd, DATA, 4, 0, RESULT)
