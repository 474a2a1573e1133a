"""Calls of a remote guest on its pipes, counters, socket pairs and descriptors."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import journal
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    DATA_SIZE,
    REMOTE_ALONE,
    Answer,
    Remote,
    encode_order,
    parse_answer,
)

NONBLOCK = 4
UNIX, INET4 = 3, 1
STREAM, DATAGRAM, SEQPACKET = 1, 2, 4
READ, WRITE, BOTH = 1, 2, 3

#: Bytes that fit into one order, after a buffer's pointer and size and the result.
BYTES_MAX = DATA_SIZE - 16
_HEAD = struct.Struct("<3Ixxxx")  # Pointer and size of the buffer, and the result.
_BYTES = DATA + _HEAD.size
_RESULT = DATA + 8
BIG = 8192
"""Memory of the guest that no order uses, for a large buffer."""


class Outcome(NamedTuple):
    """Errno of a call, and its bytes or its number if it succeeded."""

    errno: int
    value: bytes | int | tuple[int, int] | None


class GuestObjects:
    """A remote guest, as the functions of a POSIX process. ``call`` makes one host call."""

    def __init__(self, call: Callable[..., Answer]) -> None:
        self.call = call

    def _numbers(self, answer: Answer, count: int) -> Outcome:
        numbers = struct.unpack_from(f"<{count}I", answer.data)
        if answer.errno:
            return Outcome(answer.errno, None)
        return Outcome(0, numbers[0] if count == 1 else (numbers[0], numbers[1]))

    def block_signals(self) -> None:
        """Let SIGPIPE stay pending: no such function handles signals."""
        assert self.call("callback_signal", DATA, 7, data=b"nothing").errno == 0

    def pipe(self) -> Outcome:
        return self._numbers(self.call("fd_pipe", DATA, DATA + 4), 2)

    def event(self, value: int, flags: int = 0) -> Outcome:
        return self._numbers(self.call("fd_event", value, flags, DATA), 1)

    def pair(self, kind: int = STREAM, family: int = UNIX, protocol: int = 0) -> Outcome:
        return self._numbers(self.call("sock_pair", family, kind, protocol, DATA, DATA + 4), 2)

    def dup(self, fd: int) -> Outcome:
        return self._numbers(self.call("fd_dup", fd, DATA), 1)

    def dup_from(self, fd: int, lowest: int, cloexec: bool = False) -> Outcome:
        return self._numbers(self.call("fd_dup2", fd, lowest, int(cloexec), DATA), 1)

    def fd_flags(self, fd: int) -> Outcome:
        answer = self.call("fd_fdflags_get", fd, DATA)
        return Outcome(answer.errno, None if answer.errno else answer.number)

    def set_fd_flags(self, fd: int, flags: int) -> Outcome:
        return Outcome(self.call("fd_fdflags_set", fd, flags).errno, None)

    def set_flags(self, fd: int, flags: int) -> Outcome:
        return Outcome(self.call("fd_fdstat_set_flags", fd, flags).errno, None)

    def close(self, fd: int) -> Outcome:
        return Outcome(self.call("fd_close", fd).errno, None)

    def renumber(self, old: int, new: int) -> Outcome:
        return Outcome(self.call("fd_renumber", old, new).errno, None)

    def read(self, fd: int, size: int) -> Outcome:
        """Read at most ``BYTES_MAX`` bytes, or the count of more bytes."""
        at = _BYTES if size <= BYTES_MAX else BIG
        answer = self.call("fd_read", fd, DATA, 1, _RESULT, data=_HEAD.pack(at, size, 0))
        if answer.errno:
            return Outcome(answer.errno, None)
        count = _HEAD.unpack_from(answer.data)[2]
        if at == BIG:
            return Outcome(0, count)
        return Outcome(0, answer.data[_HEAD.size : _HEAD.size + count])

    def write(self, fd: int, data: bytes) -> Outcome:
        assert len(data) <= BYTES_MAX
        head = _HEAD.pack(_BYTES, len(data), 0)
        answer = self.call("fd_write", fd, DATA, 1, _RESULT, data=head + data)
        return Outcome(answer.errno, None if answer.errno else _HEAD.unpack_from(answer.data)[2])

    def write_zeros(self, fd: int, size: int) -> Outcome:
        """Write zero bytes of the guest's memory; above 32 KiB the same bytes several times."""
        count = -(-size // 32768)
        sizes = [min(32768, size - 32768 * index) for index in range(count)]
        iovs = b"".join(struct.pack("<II", BIG, each) for each in sizes)
        at = DATA + len(iovs)
        answer = self.call("fd_write", fd, DATA, count, at, data=iovs)
        if answer.errno:
            return Outcome(answer.errno, None)
        return Outcome(0, int.from_bytes(answer.data[len(iovs) : len(iovs) + 4], "little"))

    def send(self, fd: int, data: bytes) -> Outcome:
        head = _HEAD.pack(_BYTES, len(data), 0)
        answer = self.call("sock_send", fd, DATA, 1, 0, _RESULT, data=head + data)
        return Outcome(answer.errno, None if answer.errno else _HEAD.unpack_from(answer.data)[2])

    def receive(self, fd: int, size: int, flags: int) -> tuple[Outcome, bool]:
        """Receive with the flags of sock_recv; return also whether a message was cut."""
        assert size <= BYTES_MAX
        head = _HEAD.pack(_BYTES, size, 0)
        answer = self.call("sock_recv", fd, DATA, 1, flags, _RESULT, _RESULT + 4, data=head)
        if answer.errno:
            return Outcome(answer.errno, None), False
        count, is_cut = _HEAD.unpack_from(answer.data)[2], answer.data[_HEAD.size - 4]
        return Outcome(0, answer.data[_HEAD.size : _HEAD.size + count]), bool(is_cut)

    def shutdown(self, fd: int, how: int) -> Outcome:
        return Outcome(self.call("sock_shutdown", fd, how).errno, None)

    def chdir(self, path: bytes) -> Outcome:
        return Outcome(self.call("chdir", DATA, len(path), data=path).errno, None)

    def getcwd(self, size: int = 100) -> Outcome:
        head = struct.pack("<I", size)
        answer = self.call("getcwd", DATA + 4, DATA, data=head)
        if answer.errno:
            return Outcome(answer.errno, answer.number)
        return Outcome(0, answer.data[4 : 4 + answer.number])


def fds(outcome: Outcome) -> tuple[int, int]:
    """Return the two descriptors of a pipe or a pair."""
    assert outcome.errno == 0
    assert isinstance(outcome.value, tuple)
    return outcome.value


def fd_of(outcome: Outcome) -> int:
    """Return the descriptor of a call."""
    assert outcome.errno == 0
    assert isinstance(outcome.value, int)
    return outcome.value


def number(value: int) -> bytes:
    """Return a number as an event counter transfers it."""
    return struct.pack("<Q", value)


ROOT_FD = 3
RIGHTS = 0x1FFFFFFF
ENDED = journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0)


@contextmanager
def record_objects(path: Path, cache: Path) -> Iterator[GuestObjects]:
    """Record a guest with a root in memory, which keeps its pipes to itself."""
    root = journal.engine.MemoryMount("/")
    with journal.record(REMOTE_ALONE, path, mounts=[root], cache=cache) as recorder:
        guest = GuestObjects(Remote(recorder))
        guest.block_signals()
        yield guest
        recorder.stop()
        assert recorder.wait(DEADLINE_SECONDS) is not None


class Script:
    """Orders for a guest whose descriptors are known before it runs."""

    def __init__(self) -> None:
        self.orders = b""
        self.guest = GuestObjects(self._add)

    def _add(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        self.orders += encode_order(name, *arguments, data=data)
        return Answer(0, bytes(DATA_SIZE))


def answers_in(printed: bytes) -> list[Answer]:
    """Return the answers that a guest printed."""
    ends = range(0, len(printed), ANSWER_SIZE)
    return [parse_answer(printed[at : at + ANSWER_SIZE]) for at in ends]


def make_tree(guest: GuestObjects) -> None:
    """Create directories and links in the root of a guest, unless they exist."""
    for path in (b"dir", b"dir/inner"):
        assert guest.call("path_create_directory", ROOT_FD, DATA, len(path), data=path).errno in (
            0,
            Errno.EXIST,
        )
    for target, path in ((b"dir/inner", b"link"), (b"..", b"dir/up"), (b"../..", b"dir/out")):
        data = target + path
        arguments = (DATA, len(target), ROOT_FD, DATA + len(target), len(path))
        assert guest.call("path_symlink", *arguments, data=data).errno in (0, Errno.EXIST)
