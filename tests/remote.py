"""A guest under remote control: what it is told on standard input it calls, and says what came."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import journal
from tests.running import until
from tests.wat import module

#: What it can call: by number, the module and the parameters, all i32.
CALLS = {
    "proc_snapshot": ("wasix_32v1", 0),
    "sock_open": ("wasix_32v1", 4),
    "sock_bind": ("wasix_32v1", 2),
    "sock_listen": ("wasix_32v1", 2),
    "sock_addr_local": ("wasix_32v1", 2),
    "tty_get": ("wasix_32v1", 1),
    "tty_set": ("wasix_32v1", 1),
    "fd_close": ("wasi_snapshot_preview1", 1),
    "fd_renumber": ("wasi_snapshot_preview1", 2),
    "fd_fdstat_get": ("wasi_snapshot_preview1", 2),
    "fd_fdstat_set_flags": ("wasi_snapshot_preview1", 2),
    "fd_filestat_get": ("wasi_snapshot_preview1", 2),
    "fd_tell": ("wasi_snapshot_preview1", 2),
    "sock_accept": ("wasi_snapshot_preview1", 3),
    "sock_recv": ("wasi_snapshot_preview1", 6),
    "sock_send": ("wasi_snapshot_preview1", 5),
    "sock_shutdown": ("wasi_snapshot_preview1", 2),
    "poll_oneoff": ("wasi_snapshot_preview1", 4),
    "fd_read": ("wasi_snapshot_preview1", 4),
    "fd_write": ("wasi_snapshot_preview1", 4),
    "path_create_directory": ("wasi_snapshot_preview1", 3),
}
NUMBERS = {name: number for number, name in enumerate(CALLS, 1)}

#: Where an order's data stand in memory, and where that memory ends.
DATA = 64
DATA_SIZE = 128
MEMORY_SIZE = 65536

_ORDER = struct.Struct(f"<7I{DATA_SIZE}s")  # the call's number (0 ends), six arguments, data
_ANSWER = struct.Struct(f"<I{DATA_SIZE}s")  # errno, and what the data are then


def _program() -> bytes:
    imports, cases = [], []
    for name, (source, count) in CALLS.items():
        types = f"(param {'i32 ' * count})" if count else ""
        imports.append(f'(import "{source}" "{name}" (func ${name} {types} (result i32)))')
        given = " ".join(f"(i32.load (i32.const {4 + 4 * index}))" for index in range(count))
        cases.append(f"""(if (i32.eq (i32.load (i32.const 0)) (i32.const {NUMBERS[name]}))
            (then (i32.store (i32.const 32) (call ${name} {given}))))""")
    orders = struct.pack("<4I", 0, 28, DATA, DATA_SIZE)
    answers = struct.pack("<4I", 32, 4, DATA, DATA_SIZE)
    buffers = "".join(f"\\{byte:02x}" for byte in orders + answers)
    return module(f"""(module {"".join(imports)}
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1 1) (data (i32.const 300) "{buffers}")
        (func (export "_start") (loop $again
            (if (call $fd_read (i32.const 0) (i32.const 300) (i32.const 2) (i32.const 340))
                (then (call $exit (i32.const 81))))
            (if (i32.ne (i32.load (i32.const 340)) (i32.const {_ORDER.size}))
                (then (call $exit (i32.const 82))))
            (if (i32.eqz (i32.load (i32.const 0))) (then (call $exit (i32.const 0))))
            (i32.store (i32.const 32) (i32.const 0xffffffff))
            {"".join(cases)}
            (drop (call $fd_write (i32.const 1) (i32.const 316) (i32.const 2) (i32.const 340)))
            (br $again))))""")


REMOTE = _program()


class Answer(NamedTuple):
    """What a call gave, and the data after it."""

    errno: int
    data: bytes

    @property
    def number(self) -> int:
        """The number that the call put where the data begin."""
        return int.from_bytes(self.data[:4], "little")


def order(name: str, *arguments: int, data: bytes = b"") -> bytes:
    """The bytes that have the guest call ``name``."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    return _ORDER.pack(NUMBERS[name], *padded, data.ljust(DATA_SIZE, b"\0"))


END = bytes(_ORDER.size)
ANSWER_SIZE = _ANSWER.size


def answer_of(data: bytes) -> Answer:
    """An answer from what the guest printed."""
    return Answer(*_ANSWER.unpack(data))


class Remote:
    """The guest of a recorder, called one function at a time."""

    def __init__(self, recorder: journal.Recorder) -> None:
        self.recorder = recorder
        self._count = len(recorder.stdout) // ANSWER_SIZE

    def __call__(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        """Have it call a function."""
        self.recorder.feed(order(name, *arguments, data=data))
        self._count += 1
        end = self._count * ANSWER_SIZE
        until(lambda: len(self.recorder.stdout) >= end or self._is_over())
        return answer_of(self.recorder.stdout[end - ANSWER_SIZE : end])

    def end(self) -> None:
        """Let it come to its end."""
        self.recorder.feed(END)
        assert self.recorder.wait(60) == journal.Outcome(journal.Ending.EXITED, 0)

    def _is_over(self) -> bool:
        outcome = self.recorder.wait(0)
        assert outcome is None, outcome
        return False


Call = Callable[..., Answer]
