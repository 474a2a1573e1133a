"""Generated histories of WASI calls, and a guest that makes the calls."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from journal.engine import ALL_NETWORK
from journal.engine.runtime.bindings import GuestMemory
from journal.engine.tape import Tape, TapeRow
from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.functions import PREVIEW_1, WASIX
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.engine.wasi.terminal import SIDE_MAX
from journal.events.process import Mount, MountKind
from journal.wasi_abi import MemoryFault, WasiError
from tests.support.engine_state import Described, Fresh, batches_of

FILES_SIZE_MAX = 40_000


FUNCTIONS = PREVIEW_1 | WASIX


TTY = struct.Struct("<4I6B2x")


PATH, DATA, RESULT = 1024, 4096, 512


EVERYTHING = (1 << 30) - 1


IN_MEMORY, ON_HOST, READ_ONLY, FIRST = 3, 4, 5, 6


names = st.sampled_from(
    ["a", "a", "b", "b", "d", "d/a", "d/b", "d/c", "e", "d/", ".", "d/../a", ".."]
)


fds = st.sampled_from([*range(FIRST, FIRST + 8)] * 3 + [0, 1, 3, 4, 5])


socket_fds = st.sampled_from([FIRST, *[FIRST + 6] * 3, FIRST + 7, FIRST + 8])


bases = st.sampled_from([3, 3, 4, 4, 4, 5, FIRST, FIRST + 1])


numbers = st.sampled_from([0, 1, 7, 100, 20_000, 50_000])


oflags = st.sampled_from([1, 1, 1, 1, 0, 2, 5, 8, 9, 4])


rights = st.sampled_from([EVERYTHING, EVERYTHING, 0, 2, 64, 66])


fdflags = st.sampled_from([0, 0, 0, 1, 4, 2])


lookups = st.sampled_from([0, 1])


contents = st.binary(min_size=0, max_size=9)


times = st.integers(0, 1 << 40)


fstflags = st.sampled_from([1, 2, 4, 5, 8, 10, 15])


#: WASIX addresses: the first exists on every machine, the second on none.
LOOPBACK = bytes([1, 0, 0, 0, 127, 0, 0, 1])


NOWHERE = bytes([1, 0, 0, 0, 192, 0, 2, 1])


#: Arguments of each call, and its relative frequency.
CALLS: dict[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "open": (5, (bases, lookups, names, oflags, rights, fdflags)),
    "fd_write": (4, (fds, contents)),
    "fd_pwrite": (2, (fds, contents, numbers)),
    "fd_read": (1, (fds, numbers)),
    "fd_close": (2, (fds,)),
    "fd_renumber": (1, (fds, fds)),
    "fd_seek": (1, (fds, numbers, st.sampled_from([0, 1, 2]))),
    "fd_filestat_set_size": (1, (fds, numbers)),
    "fd_filestat_set_times": (1, (fds, times, times, fstflags)),
    "fd_fdstat_set_flags": (1, (fds, fdflags)),
    "fd_advise": (1, (fds, numbers, numbers, st.just(1))),
    "fd_sync": (1, (fds,)),
    "fd_readdir": (1, (bases, st.sampled_from([0, 0, 2]))),
    "path_create_directory": (1, (bases, names)),
    "path_remove_directory": (1, (bases, names)),
    "path_unlink_file": (3, (bases, names)),
    "path_filestat_get": (1, (bases, lookups, names)),
    "path_readlink": (1, (bases, names)),
    "path_filestat_set_times": (1, (bases, lookups, names, times, times, fstflags)),
    "path_rename": (5, (bases, names, bases, names)),
    "path_link": (3, (bases, lookups, names, bases, names)),
    "path_symlink": (2, (names, bases, names)),
    "sock_open": (1, (st.sampled_from([0, 1, 2]), st.sampled_from([1, 2]), st.just(0))),
    "sock_bind": (2, (socket_fds, st.sampled_from([LOOPBACK, NOWHERE]))),
    "sock_listen": (2, (socket_fds, st.integers(0, 9))),
    "tty_set": (1, (st.tuples(*[st.integers(0, SIDE_MAX + 1)] * 4, *[st.integers(0, 1)] * 6),)),
}


Operation = tuple[Any, ...]


operations = st.sampled_from(
    [name for name, (count, _) in CALLS.items() for _ in range(count)]
).flatmap(lambda name: st.tuples(st.just(name), *CALLS[name][1]))


#: Calls at the start of every history, so that files and descriptors exist.
BEGINNING: list[Operation] = [
    *(
        operation
        for mount in (ON_HOST, IN_MEMORY)
        for operation in (
            ("path_create_directory", mount, "d"),
            ("open", mount, 1, "d", 2, 2, 0),
            ("open", mount, 1, "d/a", 1, EVERYTHING, 0),
            ("open", mount, 1, "b", 1, EVERYTHING, 0),
        )
    ),
    ("sock_open", 1, 1, 0),
]


histories = st.lists(operations, min_size=8, max_size=40).map(lambda history: BEGINNING + history)


@dataclass
class Rows:
    """A writer that keeps rows in a list, one microsecond apart."""

    kept: list[TapeRow] = field(default_factory=list)

    @property
    def time(self) -> int:
        return 1_000_000 + len(self.kept)

    def append_frame(self, tag: int, payload: bytes) -> int:
        seq = len(self.kept)
        self.kept.append((seq, tag, payload, self.time + 1))
        return seq


class Guest:
    """Calls as a guest makes them, with a memory for their arguments and three mounts."""

    def __init__(self, folder: Path, rows: Rows, recorded: list[TapeRow] | None = None) -> None:
        self.rows = rows
        tape = Tape(rows, None if recorded is None else batches_of(recorded))
        self.process = Fresh(mounts_of(folder), (), FILES_SIZE_MAX, tape)
        self.continue_with(self.process)
        self.seen: list[tuple[int, Described]] = []
        tape.start()

    def live(self, history: list[Operation]) -> None:
        """Make all calls."""
        try:
            for operation in history:
                self.do(operation)
            self.look()
        finally:
            self.process.context.close()
            self.process.mounts.close()

    def continue_with(self, process: Fresh) -> None:
        """Continue with this process."""
        self.process = process
        process.context.network = GuestNetwork(
            process.tape, process.context.descriptors, policy=ALL_NETWORK
        )
        memory = GuestMemory()
        memory.view, memory.size = memoryview(bytearray(1 << 16)), 1 << 16
        process.context.memory = memory

    def do(self, operation: Operation) -> None:
        """Observe the state, then make one call and ignore its result."""
        if not self.process.tape.replaying:
            self.look()
        name, *values = operation
        getattr(self, f"_{name}", lambda *given: self._call(name, *given))(*values)

    def look(self) -> None:
        """Observe the state."""
        self.seen.append((len(self.rows.kept) - 1, self.process.described()))

    def _call(self, name: str, *values: Any) -> int:
        """Call a function; strings are written to memory, and the result has its own address."""
        arguments: list[int] = []
        at = PATH
        for value in values:
            if isinstance(value, str):
                self.process.context.memory.write(at, value.encode())
                arguments += [at, len(value.encode())]
                at += 256
            else:
                arguments.append(value)
        (parameters, _), function = FUNCTIONS[name]
        arguments += [RESULT] * (len(parameters) - len(arguments))
        try:
            return function(self.process.context, *arguments) or 0
        except WasiError as refusal:
            return refusal.errno
        except MemoryFault:
            return -1

    def _open(self, dirfd: int, lookup: int, path: str, flags: int, right: int, fdf: int) -> int:
        return self._call("path_open", dirfd, lookup, path, flags, right, right, fdf, RESULT)

    def _buffer(self, size: int) -> None:
        memory = self.process.context.memory
        memory.write_u32(RESULT + 8, DATA)
        memory.write_u32(RESULT + 12, size)

    def _fd_write(self, fd: int, data: bytes) -> None:
        self._outputs(lambda: self._data("fd_write", fd, data))

    def _fd_pwrite(self, fd: int, data: bytes, offset: int) -> None:
        self._data("fd_pwrite", fd, data, offset)

    def _data(self, name: str, fd: int, data: bytes, *offset: int) -> None:
        self.process.context.memory.write(DATA, data)
        self._buffer(len(data))
        self._call(name, fd, RESULT + 8, 1, *offset, RESULT)

    def _fd_read(self, fd: int, size: int) -> None:
        if isinstance(self.process.context.descriptors.used.get(fd), ByteChannel):
            return  # It could wait for ever.
        self._buffer(size)
        self._call("fd_read", fd, RESULT + 8, 1, RESULT)

    def _fd_readdir(self, fd: int, cookie: int) -> None:
        self._call("fd_readdir", fd, DATA, 1000, cookie, RESULT)

    def _path_readlink(self, fd: int, path: str) -> None:
        self._call("path_readlink", fd, path, DATA, 100, RESULT)

    def _sock_bind(self, fd: int, address: bytes) -> None:
        self.process.context.memory.write(DATA, address)
        self._call("sock_bind", fd, DATA)

    def _tty_set(self, values: tuple[int, ...]) -> None:
        self.process.context.memory.write(DATA, TTY.pack(*values))
        self._call("tty_set", DATA)

    def _outputs(self, call: Callable[[], None]) -> None:
        methods = {"put": _nothing, "requeue": _nothing, "is_writable": lambda *_: True}
        nowhere: Any = type("Nowhere", (), methods)()
        self.process.context.outbox = nowhere
        call()


def _nothing(*_: object) -> None:
    pass


def mounts_of(folder: Path) -> list[Mount]:
    """Return one mount of each kind."""
    return [
        Mount(fd=IN_MEMORY, kind=MountKind.MEMORY, guest="/", host=""),
        Mount(fd=ON_HOST, kind=MountKind.HOST, guest="/host", host=str(folder / "host")),
        Mount(fd=READ_ONLY, kind=MountKind.HOST_READ_ONLY, guest="/seen", host=str(folder)),
    ]


@contextmanager
def somewhere() -> Iterator[Path]:
    """Create a directory with the host directories of the mounts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "host").mkdir()
        (folder / "a").write_bytes(b"to be read")
        yield folder


def fresh(folder: Path) -> Fresh:
    """Return the process of a history before its first call."""
    return Fresh(mounts_of(folder), (), FILES_SIZE_MAX)


def run_history(folder: Path, history: list[Operation]) -> Guest:
    """Return a guest that has made all these calls."""
    guest = Guest(folder, Rows())
    guest.live(history)
    return guest
