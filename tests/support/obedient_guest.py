"""Guest that obeys commands of one letter, good and bad, and its journal at the first command.

The commands: `c` counts and prints the count, `f` creates the file /mark and prints a line, `m`
fills its memory with canaries and prints a line, `x` exits with 7, `t` traps, `l` loops for ever,
`g` grows its memory until that fails and exits with 9, `o` prints for ever.
"""

from __future__ import annotations

from pathlib import Path

import journal
from journal.engine import Configuration, SnapshotOptions
from journal.events.snapshots import Trigger
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.wat import CREATE, path_open, program

MEMORY_SIZE_MAX = 64 << 20
"""Limit of the memory of the guest, so that `g` comes to its end."""
_BYTE, _COUNT, _LINE = 64, 68, 72
"""Addresses of the command, of the digit of the count, and of a line."""
_CANARIES, _CANARIES_SIZE = 65536, 65536

_FUNCTIONS = f"""
(data (i32.const 32) "\\40\\00\\00\\00\\01\\00\\00\\00")
(data (i32.const 48) "\\44\\00\\00\\00\\02\\00\\00\\00")
(data (i32.const {_COUNT}) "0\\0a")
(func $print
  (call $check (call $fd_write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 8))))
(func $is (param $letter i32) (result i32)
  (i32.eq (i32.load8_u (i32.const {_BYTE})) (local.get $letter)))
(func $count
  (i32.store8 (i32.const {_COUNT}) (i32.add (i32.load8_u (i32.const {_COUNT})) (i32.const 1))))
(func $fill (memory.fill (i32.const {_CANARIES}) (i32.const 0xAA) (i32.const {_CANARIES_SIZE})))
"""


def _when(letter: str, body: str) -> str:
    return f"(if (call $is (i32.const {ord(letter)})) (then {body}))"


_BODY = f"""
(loop $next
  (call $check (call $fd_read (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 8)))
  (if (i32.eqz (i32.load (i32.const 8))) (then (call $exit (i32.const 0))))
  {_when("c", "(call $count) (call $print)")}
  {_when("f", f"(call $check {path_open(4, CREATE)}) (call $print)")}
  {_when("m", "(call $fill) (call $print)")}
  {_when("x", "(call $exit (i32.const 7))")}
  {_when("t", "unreachable")}
  {_when("l", "(loop $ever (br $ever))")}
  {
    _when(
        "g",
        '''(loop $more
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (call $exit (i32.const 9))))
      (i32.store8 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)) (i32.const 1))
      (br $more))''',
    )
}
  {_when("o", "(loop $ever (call $print) (br $ever))")}
  (br $next))
"""


def make_module() -> bytes:
    """Return the module of the guest."""
    return program(_BODY, data="mark", pages=2, more=_FUNCTIONS)


def record_waiting(path: Path, cache: Path) -> Path:
    """Record the guest until it waits for its first command, with a snapshot there."""
    with journal.record(
        make_module(),
        path,
        cache=cache,
        configuration=Configuration(memory_size_max=MEMORY_SIZE_MAX),
        durability=journal.engine.Durability.NONE,
        snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT})),
    ) as recorder:
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    return path
