"""Guests of the snapshot benchmarks. Each changes its memory in one way, on command."""

from __future__ import annotations

from pathlib import Path

import wasmtime

from benchmarks.stopwatch import module_folder

MEBIBYTE = 1 << 20
WASM_PAGE = 1 << 16
PAGE_SIZE = 1 << 12
RESERVED_SIZE = WASM_PAGE
"""Bytes at the start of memory for iovecs and for data that is read and written."""

# 0: iovec of 1 byte at 64; 8: iovec of 8 bytes at 72; 16: results; 80 and 88: two times.
_MODULE = """
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasix_32v1" "proc_snapshot" (func $snapshot (result i32)))
  (memory (export "memory") MEMORY)
  (data (i32.const 0) "\\40\\00\\00\\00\\01\\00\\00\\00\\48\\00\\00\\00\\08\\00\\00\\00")
  (global $random (mut i64) (i64.const 0x2545F4914F6CDD1D))
  (global $turn (mut i32) (i32.const 0))

  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (i32.const 1)))))

  (func $next (result i64)
    (global.set $random (i64.xor (global.get $random)
      (i64.shl (global.get $random) (i64.const 13))))
    (global.set $random (i64.xor (global.get $random)
      (i64.shr_u (global.get $random) (i64.const 7))))
    (global.set $random (i64.xor (global.get $random)
      (i64.shl (global.get $random) (i64.const 17))))
    (global.get $random))

  ;; random bytes from $at to before $end
  (func $fill (param $at i32) (param $end i32)
    (loop $more
      (i64.store (local.get $at) (call $next))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end)))))

  ;; $size random bytes in each of $pages pages, $step pages apart; the set changes with the turn
  (func $dirty (param $pages i32) (param $step i32) (param $size i32)
    (local $at i32)
    (global.set $turn (i32.add (global.get $turn) (i32.const 1)))
    (local.set $at (i32.add (i32.const 65536)
      (i32.mul (i32.const 4096)
        (i32.rem_u (i32.div_u (global.get $turn) (i32.const TURNS)) (local.get $step)))))
    (loop $more
      (call $fill (local.get $at) (i32.add (local.get $at) (local.get $size)))
      (local.set $at (i32.add (local.get $at) (i32.mul (local.get $step) (i32.const 4096))))
      (br_if $more (local.tee $pages (i32.sub (local.get $pages) (i32.const 1))))))

  (func $now (result i64)
    (call $check (call $clock (i32.const 1) (i64.const 0) (i32.const 80)))
    (i64.load (i32.const 80)))

  ;; one byte of standard input; 0 at its end
  (func $order (result i32)
    (call $check (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (if (result i32) (i32.load (i32.const 16))
      (then (i32.load8_u (i32.const 64))) (else (i32.const 0))))

  (func $say (param $number i64)
    (i64.store (i32.const 72) (local.get $number))
    (call $check (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))

  (func $compute (param $times i32)
    (loop $more
      (drop (call $next))
      (br_if $more (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))

  (func (export "_start") (local $order i32) (local $begin i64) (local $times i32)
    BODY))
"""

# A command is a byte: r and p change pages, wholly or partly, and s requests a snapshot.
_PAUSING = """
    (call $fill (i32.const 65536) (i32.const SIZE))
    (drop (call $snapshot))
    (loop $orders
      (call $say (i64.sub (call $now) (local.get $begin)))
      (local.set $order (call $order))
      (if (i32.eqz (local.get $order)) (then (return)))
      (if (i32.eq (local.get $order) (i32.const 0x72))
        (then (call $dirty (i32.const PAGES) (i32.const STEP) (i32.const 4096))))
      (if (i32.eq (local.get $order) (i32.const 0x70))
        (then (call $dirty (i32.const PAGES) (i32.const STEP) (i32.const 64))))
      (local.set $begin (call $now))
      (if (i32.eq (local.get $order) (i32.const 0x73)) (then (drop (call $snapshot))))
      (br $orders))
"""

# The guest waits for the end of input, so that a snapshot of its whole memory can be taken first.
_COMPUTING = """
    (call $fill (i32.const 65536) (i32.const SIZE))
    (drop (call $order))
    (local.set $times (i32.const TIMES))
    (loop $more
      (call $compute (i32.const WORK))
      (call $dirty (i32.const PAGES) (i32.const STEP) (i32.const 64))
      (drop (call $now))
      (br_if $more (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
"""

# The first call after a restore is the call that the snapshot suspended.
_TOUCHING = """
    (local.set $times (i32.const 65536))
    (loop $more
      (call $fill (local.get $times) (i32.add (local.get $times) (i32.const 64)))
      (local.set $times (i32.add (local.get $times) (i32.const 4096)))
      (br_if $more (i32.lt_u (local.get $times) (i32.const SIZE))))
    (drop (call $snapshot))
    (drop (call $now))
    (call $dirty (i32.const FEW) (i32.const FEW_STEP) (i32.const 8))
    (drop (call $now))
    (call $dirty (i32.const MANY) (i32.const MANY_STEP) (i32.const 8))
    (drop (call $now))
"""


def _build(name: str, body: str, mebibytes: int, **numbers: int) -> Path:
    size = mebibytes * MEBIBYTE
    text = _MODULE.replace("BODY", body).replace("MEMORY", str(size // WASM_PAGE))
    for word, number in {"SIZE": size, "TURNS": 1, **numbers}.items():
        text = text.replace(word, str(number))
    path = module_folder() / f"{name}-{'-'.join(map(str, [mebibytes, *numbers.values()]))}.wasm"
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def count_hundredth(mebibytes: int) -> int:
    """Return the number of pages in one percent of a memory."""
    return round(mebibytes * MEBIBYTE / PAGE_SIZE / 100)


def _step(mebibytes: int, pages: int) -> int:
    """Return the distance between pages that are spread evenly over a memory."""
    return (mebibytes * MEBIBYTE - RESERVED_SIZE) // PAGE_SIZE // pages


def make_pausing_guest(mebibytes: int, pages: int) -> Path:
    """Return a guest that changes pages and takes a snapshot on command.

    The guest prints how long the snapshot suspended it, in nanoseconds.
    """
    return _build("pausing", _PAUSING, mebibytes, PAGES=pages, STEP=_step(mebibytes, pages))


def make_computing_guest(mebibytes: int, pages: int, *, work: int, turns: int, times: int) -> Path:
    """Return a guest that waits for end of input, then repeats: compute, change pages, read the
    clock.

    After ``turns`` turns the guest changes other pages.
    """
    return _build(
        "computing",
        _COMPUTING,
        mebibytes,
        PAGES=pages,
        STEP=_step(mebibytes, pages),
        WORK=work,
        TURNS=turns,
        TIMES=times,
    )


def make_touching_guest(mebibytes: int, few: int, many: int) -> Path:
    """Return a guest that takes a snapshot, and then changes first few, then many pages.

    The guest reads its clock before, between and after these changes.
    """
    return _build(
        "touching",
        _TOUCHING,
        mebibytes,
        FEW_STEP=_step(mebibytes, few),
        MANY_STEP=_step(mebibytes, many),
        FEW=few,
        MANY=many,
    )
