"""Cost of one host call, measured with loops of only that call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import wasmtime

from benchmarks.figures import Figure
from benchmarks.peers import Measurement, Peer, Plan
from benchmarks.rounds import run_interleaved
from benchmarks.stopwatch import module_folder

COUNT = 200_000
QUICK_COUNT = 50_000

# 0: iovec of 64 bytes at 256; 8: iovec of 64000 bytes at 1024; 16: file name; 32: results
_MODULE = """
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\00\\01\\00\\00\\40\\00\\00\\00\\00\\04\\00\\00\\00\\fa\\00\\00file")
  (data (i32.const 256) "sixty-four bytes, as a line of a log may have them, and its end\\0a")

  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (i32.const 1)))))

  (func $open_file (result i32)
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4)
      (i32.const 1) (i64.const 102) (i64.const 0) (i32.const 0) (i32.const 32)))
    (i32.load (i32.const 32)))

  (func $fill (param $fd i32) (param $count i32)
    (loop $next
      (call $check (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 32)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1000)))
      (br_if $next (i32.gt_s (local.get $count) (i32.const 0))))
    (call $check (call $seek (local.get $fd) (i64.const 0) (i32.const 0) (i32.const 40))))

  (func (export "_start")
    (local $fd i32)
    (local $count i32)
    (local.set $count (i32.const COUNT))
    BEFORE
    (loop $next
      (call $check CALL)
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))))
"""
_OPEN = "(local.set $fd (call $open_file))"
_FILL = f"{_OPEN} (call $fill (local.get $fd) (local.get $count))"


class Loop(NamedTuple):
    """A call, the code before the loop, and the limit for one call, in µs."""

    call: str
    before: str = ""
    limit: float | None = None


LOOPS = {
    "yield": Loop("(call $yield)", limit=0.6),
    "clock": Loop("(call $clock (i32.const 1) (i64.const 1) (i32.const 32))", limit=1.5),
    "file-write": Loop(
        "(call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 32))", _OPEN, 3.0
    ),
    "file-read": Loop(
        "(call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 32))", _FILL
    ),
    "stdout": Loop("(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))"),
    "random": Loop("(call $random (i32.const 64) (i32.const 16))"),
}
_WORDS = {
    "yield": "sched_yield",
    "clock": "clock_time_get",
    "file-write": "64 bytes written to a file in memory",
    "file-read": "64 bytes read from a file in memory",
    "stdout": "64 bytes to standard output",
    "random": "16 random bytes",
}


def build_module(name: str, count: int) -> Path:
    """Return the module of a loop of ``count`` calls."""
    loop = LOOPS[name]
    text = _MODULE.replace("COUNT", str(count)).replace("BEFORE", loop.before)
    path = module_folder() / f"{name}-{count}.wasm"
    path.write_bytes(wasmtime.wat2wasm(text.replace("CALL", loop.call)))
    return path


def figures(name: str, rounds: int, count: int) -> Iterator[Figure]:
    """Yield the microseconds per call of one loop."""
    wasm = str(build_module(name, count))
    peers = (Peer.RECORDED, Peer.UNWRITTEN, Peer.WASI)
    plans = [Plan(peer=peer, wasm=wasm, folder="") for peer in peers]
    runs = run_interleaved(plans, rounds)
    for peer in peers:
        limit = LOOPS[name].limit if peer is Peer.RECORDED else None
        yield _per_call(_WORDS[name], f"{peer}, CPU", runs[peer], "cpu", count, limit)
    for peer in (Peer.RECORDED, Peer.WASI):
        yield _per_call(_WORDS[name], f"{peer}, wall", runs[peer], "wall", count, None)


def _per_call(
    group: str, name: str, runs: list[Measurement], kind: str, count: int, limit: float | None
) -> Figure:
    values = tuple(
        (run.running.cpu if kind == "cpu" else run.running.wall) / count * 1e6 for run in runs
    )
    return Figure(group=f"call: {group}", name=name, unit="µs", values=values, limit=limit)
