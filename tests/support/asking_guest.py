"""A guest that does one thing for each byte of its input, and prints the result.

``c`` prints the monotonic clock, ``r`` random bytes, ``k`` the bytes that the last ``r`` printed,
which are its own state. ``o`` opens the generation file and prints the error number, ``g`` prints
the file through the open descriptor, which leaves no other event. ``w``, ``t`` and ``u`` open the
file for writing, truncate it, and unlink it, and print the error number.
"""

from __future__ import annotations

import journal
from tests.support.deadlines import wait_until
from tests.support.wat import module

ANSWER_SIZES = {"c": 8, "r": 8, "k": 8, "o": 4, "g": 33, "w": 4, "t": 4, "u": 4}

_IMPORTS = {
    "fd_write": "i32 i32 i32 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_pread": "i32 i32 i32 i64 i32",
    "clock_time_get": "i32 i64 i32",
    "random_get": "i32 i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_unlink_file": "i32 i32 i32",
}


def asking_guest(directory: int = 3, pages: int = 2) -> bytes:
    """Return the guest. ``directory`` is the descriptor of the mount with the generation file."""
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) (result i32)))'
        for name, types in _IMPORTS.items()
    )

    def open_file(flags: int, rights: int, result: int) -> str:
        return (
            f"(call $path_open (i32.const {directory}) (i32.const 0) (i32.const 512) "
            f"(i32.const 10) (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0) "
            f"(i32.const {result}))"
        )

    calls = {
        "c": "(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 128)))",
        "r": "(drop (call $random_get (i32.const 256) (i32.const 8)))"
        "(i64.store (i32.const 128) (i64.load (i32.const 256)))",
        "k": "(i64.store (i32.const 128) (i64.load (i32.const 256)))",
        "o": f"(i32.store (i32.const 128) {open_file(0, 2, 24)})",
        "g": "(drop (call $fd_pread (i32.load (i32.const 24)) (i32.const 32) (i32.const 1) "
        "(i64.const 0) (i32.const 20)))",
        "w": f"(i32.store (i32.const 128) {open_file(0, 66, 28)})",
        "t": f"(i32.store (i32.const 128) {open_file(8, 2, 28)})",
        "u": f"(i32.store (i32.const 128) (call $path_unlink_file (i32.const {directory}) "
        "(i32.const 512) (i32.const 10)))",
    }
    branches = "".join(
        f"(if (i32.eq (i32.load8_u (i32.const 64)) (i32.const {ord(letter)})) (then {call} "
        f"(i32.store (i32.const 52) (i32.const {ANSWER_SIZES[letter]}))))"
        for letter, call in calls.items()
    )
    return module(f"""(module {imports}
        (memory (export "memory") {pages})
        (data (i32.const 0) "\\40\\00\\00\\00\\01\\00\\00\\00")
        (data (i32.const 32) "\\80\\00\\00\\00\\21\\00\\00\\00")
        (data (i32.const 48) "\\80\\00\\00\\00")
        (data (i32.const 512) "generation")
        (func (export "_start")
            (loop $next
                (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
                (if (i32.load (i32.const 16)) (then
                    {branches}
                    (drop (call $fd_write
                        (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 16)))
                    (br $next))))))""")


def ask(recorder: journal.Recorder, letters: str, earlier: str = "") -> list[bytes]:
    """Feed letters to a guest that waits for input, and return the answer to each.

    ``earlier`` are the letters to which its output has the answers already.
    """
    recorder.feed(letters.encode())
    asked = earlier + letters
    size = sum(ANSWER_SIZES[letter] for letter in asked)
    wait_until(lambda: len(recorder.stdout) >= size)
    return split_answers(asked, recorder.stdout)[len(earlier) :]


def to_number(answer: bytes) -> int:
    """Return an answer as a number."""
    return int.from_bytes(answer, "little")


def split_answers(letters: str, output: bytes) -> list[bytes]:
    """Return the answers in the output of a guest that was asked ``letters``."""
    answers = []
    for letter in letters:
        answers.append(output[: ANSWER_SIZES[letter]])
        output = output[ANSWER_SIZES[letter] :]
    assert not output
    return answers
