"""Cost of one recorded ``epoll_wait`` of a set with 1,000 event counters.

The peer is an epoll instance of the host with as many counters, asked by plain Python.
"""

from __future__ import annotations

import gc
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import wasmtime

import journal
from benchmarks.figures import RATIO, Figure
from benchmarks.stopwatch import module_folder

WATCHES = 1_000
READY = (1, WATCHES)
COUNT = 20_000
QUICK_COUNT = 4_000

# 0: epoll descriptor; 4: new counter; 8: count of events; 64: the event to watch; 4096: the events.
_MODULE = r"""
(module
  (import "wasix_32v1" "fd_event" (func $event (param i64 i32 i32) (result i32)))
  (import "wasix_32v1" "epoll_create" (func $create (param i32) (result i32)))
  (import "wasix_32v1" "epoll_ctl" (func $control (param i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "epoll_wait" (func $wait (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "\01")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func (export "_start") (local $count i32)
    (call $check (call $create (i32.const 0)))
    (local.set $count (i32.const WATCHES))
    (loop $next
      (call $check (call $event (i64.extend_i32_u (i32.le_u (local.get $count) (i32.const READY)))
        (i32.const 0) (i32.const 4)))
      (call $check (call $control (i32.load (i32.const 0)) (i32.const 0)
        (i32.load (i32.const 4)) (i32.const 64)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))
    (local.set $count (i32.const COUNT))
    (loop $again
      (call $check (call $wait (i32.load (i32.const 0)) (i32.const 4096) (i32.const WATCHES)
        (i64.const -1) (i32.const 8)))
      (if (i32.ne (i32.load (i32.const 8)) (i32.const READY)) (then (call $exit (i32.const 99))))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $again (local.get $count)))))
"""


def _record(path: Path, ready: int, count: int) -> float:
    """Return the processor time of a recorded run with ``count`` waits, in seconds."""
    source = _MODULE.replace("WATCHES", str(WATCHES)).replace("READY", str(ready))
    module = bytes(wasmtime.wat2wasm(source.replace("COUNT", str(count))))
    path.unlink(missing_ok=True)
    gc.collect()
    start = time.process_time()
    with journal.record(module, path) as recorder:
        result = recorder.wait()
    assert result is not None
    assert result.code == 0, result
    seconds = time.process_time() - start
    path.unlink()
    return seconds


def _poll(ready: int, count: int) -> float:
    """Return the processor time of ``count`` waits of plain Python, in seconds."""
    with ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        for number in range(WATCHES):
            counter = os.eventfd(number < ready)
            stack.callback(os.close, counter)
            epoll.register(counter, select.EPOLLIN)
        start = time.process_time()
        for _ in range(count):
            assert len(epoll.poll(-1, WATCHES)) == ready
        return time.process_time() - start


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield the microseconds of a wait that finds one or all of 1,000 counters ready."""
    path = module_folder() / "epoll.journal"
    for ready in READY:
        group = f"epoll: {ready} of {WATCHES} counters ready"
        waits = max(count // ready, 50)
        recorded, plain = [], []
        _record(path, ready, 1)  # The first run of a process imports modules.
        for _ in range(rounds):
            start = _record(path, ready, 1)
            recorded.append((_record(path, ready, waits + 1) - start) / waits * 1e6)
            plain.append(_poll(ready, waits) / waits * 1e6)
        yield Figure(group=group, name="recorded, CPU", unit="µs", values=tuple(recorded))
        yield Figure(group=group, name="plain Python, CPU", unit="µs", values=tuple(plain))
        ratios = tuple(one / other for one, other in zip(recorded, plain, strict=True))
        yield Figure(group=group, name="recorded / plain", unit=RATIO, values=ratios)
