"""Guest under remote control: it reads orders from stdin, and prints the result of each call."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import journal
from journal.engine.wasi.functions import IMPORTS, PREVIEW_1, WASIX
from journal.engine.wasi.functions.wasix import MODULE as WASIX_MODULE
from journal.wasi_abi import MODULE as PREVIEW_1_MODULE
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import ROOT
from tests.support.wat import module

_LETTERS = {"i32": "i", "i64": "l"}


def _list_calls() -> dict[str, tuple[str, str]]:
    """Return each function of WASIX and preview 1 that the host has: its module and parameters.

    An i64 (l) is extended from an i32 (i). A function with one name in both is that of preview 1.
    """
    functions = dict(WASIX) | dict(PREVIEW_1)
    return {
        name: (
            PREVIEW_1_MODULE if name in PREVIEW_1 else WASIX_MODULE,
            "".join(_LETTERS[kind] for kind in signature[0]),
        )
        for name, (signature, _) in functions.items()
    }


CALLS = _list_calls()
NUMBERS = {name: number for number, name in enumerate(CALLS, 1)}

#: Offset and size of the data of an order in the guest's memory, and the size of that memory.
DATA = 64
DATA_SIZE = 128
MEMORY_SIZE = 65536

_ARGUMENTS_MAX = 14
# Number of the call (0 ends the guest), arguments, data.
_ORDER = struct.Struct(f"<I{_ARGUMENTS_MAX}I{DATA_SIZE}s")
_HEAD_SIZE = _ORDER.size - DATA_SIZE
_ERRNO = 60  # Offset of the errno in memory.
assert _HEAD_SIZE <= _ERRNO < DATA
_ANSWER = struct.Struct(f"<I{DATA_SIZE}s")  # Errno, and the data after the call.


_TYPES = {"i": "i32", "l": "i64"}


def _argument(at: int, letter: str) -> str:
    loaded = f"(i32.load (i32.const {4 * at}))"
    return f"(i64.extend_i32_u {loaded})" if letter == "l" else loaded


def _make_program(names: Iterable[str]) -> bytes:
    imports, cases = [], []
    for name in names:
        source, parameters = CALLS[name]
        types = " ".join(_TYPES[letter] for letter in parameters)
        has_result = bool(IMPORTS[source][name][0][1])
        result = "(result i32)" if has_result else ""
        imports.append(f'(import "{source}" "{name}" (func ${name} (param {types}) {result}))')
        given = " ".join(_argument(at, letter) for at, letter in enumerate(parameters, 1))
        call = f"(call ${name} {given})"
        made = f"(i32.store (i32.const {_ERRNO}) {call if has_result else f'(i32.const 0) {call}'})"
        cases.append(f"""(if (i32.eq (i32.load (i32.const 0)) (i32.const {NUMBERS[name]}))
            (then {made}))""")
    orders = struct.pack("<4I", 0, _HEAD_SIZE, DATA, DATA_SIZE)
    answers = struct.pack("<4I", _ERRNO, 4, DATA, DATA_SIZE)
    buffers = "".join(f"\\{byte:02x}" for byte in orders + answers)
    return module(f"""(module {"".join(imports)}
        (memory (export "memory") 1 1) (data (i32.const 300) "{buffers}")
        (func (export "on_signal") (param i32))
        (func (export "_start") (local $errno i32) (loop $again
            (local.set $errno
                (call $fd_read (i32.const 0) (i32.const 300) (i32.const 2) (i32.const 340)))
            (br_if $again (i32.eq (local.get $errno) (i32.const {Errno.INTR})))
            (if (local.get $errno) (then (call $proc_exit (i32.const 81))))
            (if (i32.ne (i32.load (i32.const 340)) (i32.const {_ORDER.size}))
                (then (call $proc_exit (i32.const 82))))
            (if (i32.eqz (i32.load (i32.const 0))) (then (call $proc_exit (i32.const 0))))
            (i32.store (i32.const {_ERRNO}) (i32.const 0xffffffff))
            {"".join(cases)}
            (drop (call $fd_write (i32.const 1) (i32.const 316) (i32.const 2) (i32.const 340)))
            (br $again))))""")


REMOTE = _make_program(CALLS)
_CALLS_ALONE = {"proc_exit", "proc_snapshot"}
REMOTE_ALONE = _make_program(
    name for name in CALLS if not name.startswith("proc_") or name in _CALLS_ALONE
)
"""The guest without the calls by which a guest starts processes and shares its pipes with them."""


class Answer(NamedTuple):
    """Errno of a call, and the data after the call."""

    errno: int
    data: bytes

    @property
    def number(self) -> int:
        """Return the number that the call stored at the start of the data."""
        return int.from_bytes(self.data[:4], "little")

    @property
    def port(self) -> int:
        """Return the port of the address at the start of the data."""
        return int.from_bytes(self.data[2:4], "little")


def encode_order(name: str, *arguments: int, data: bytes = b"") -> bytes:
    """Return the order that makes the guest call ``name``."""
    padded = (*arguments, *[0] * (_ARGUMENTS_MAX - len(arguments)))
    return _ORDER.pack(NUMBERS[name], *padded, data.ljust(DATA_SIZE, b"\0"))


END = bytes(_ORDER.size)
ANSWER_SIZE = _ANSWER.size


def parse_answer(data: bytes) -> Answer:
    """Return an answer, given the bytes that the guest printed."""
    return Answer(*_ANSWER.unpack(data))


class Remote:
    """Guest of a recorder, as a function that calls one host function.

    ``pending`` is the count of orders whose answers are not there yet.
    """

    def __init__(self, recorder: journal.Recorder, pending: int = 0) -> None:
        self.recorder = recorder
        self._count = len(recorder.stdout) // ANSWER_SIZE + pending

    def __call__(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        """Make the guest call a function, and return the answer."""
        self.recorder.feed(encode_order(name, *arguments, data=data))
        self._count += 1
        end = self._count * ANSWER_SIZE
        wait_until(lambda: len(self.recorder.stdout) >= end or self._is_over())
        return parse_answer(self.recorder.stdout[end - ANSWER_SIZE : end])

    def end(self) -> None:
        """End the guest with exit code 0."""
        self.recorder.feed(END)
        assert self.recorder.wait(DEADLINE_SECONDS) == journal.engine.RunResult(
            journal.engine.ExitKind.EXITED, 0
        )

    def _is_over(self) -> bool:
        outcome = self.recorder.wait(0)
        assert outcome is None, outcome
        return False


_SESSION = """
import sys
from collections.abc import Iterable
from pathlib import Path

import journal

how, path, cache, module = sys.argv[1:]
options = {"stdin": 0, "stdout": 1, "stderr": 2, "cache": Path(cache)}
options["network"] = journal.engine.ALL_NETWORK
if how == "record":
    recorder = journal.record(module, path, **options)
else:
    recorder = journal.resume(path, in_flight=journal.engine.InFlightPolicy.DROP, **options)
with recorder:
    sys.exit(recorder.wait().code)
"""


class Session:
    """Guest in its own process, which can be killed; called like a ``Remote``.

    ``terminal`` becomes the stderr of the process.
    """

    def __init__(self, how: str, path: Path, cache: Path, terminal: int | None = None) -> None:
        program = path.with_name("remote.wasm")
        program.write_bytes(REMOTE)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SESSION, how, str(path), str(cache), str(program)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=terminal,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def __call__(self, name: str, *arguments: int, data: bytes = b"") -> Answer:
        """Make the guest call a function, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(encode_order(name, *arguments, data=data))
        found = b""
        while len(found) < ANSWER_SIZE:
            part = self._process.stdout.read(ANSWER_SIZE - len(found))
            assert part, "the process has ended"
            found += part
        return parse_answer(found)

    def end(self) -> None:
        """End the guest with exit code 0."""
        assert self._process.stdin is not None
        self._process.stdin.write(END)
        assert self._process.wait(DEADLINE_SECONDS) == 0

    def kill(self) -> None:
        """Kill the process by SIGKILL."""
        self._process.kill()
        self._process.wait()
