"""Cost of one recorded send and receipt through a socket of the host.

A datagram socket of the guest is connected to itself, so that one thread does both. The peer is the
same loop of plain Python.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import wasmtime

import journal
from benchmarks.figures import RATIO, Figure
from benchmarks.stopwatch import module_folder
from journal.engine import ALL_NETWORK, Durability

COUNT = 20_000
QUICK_COUNT = 5_000
SIZE = 64

# 0: iovec of 64 bytes at 1024; 32: descriptor, sizes and flags; 512: the address 127.0.0.1, port 0
_MODULE = r"""
(module
  (import "wasix_32v1" "sock_open" (func $open (param i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "sock_bind" (func $bind (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_addr_local" (func $local (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_connect" (func $connect (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_send"
    (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_recv"
    (func $receive (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\04\00\00\40\00\00\00")
  (data (i32.const 512) "\01\00\00\00\7f\00\00\01")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func (export "_start") (local $fd i32) (local $count i32)
    (call $check (call $open (i32.const 1) (i32.const 2) (i32.const 0) (i32.const 32)))
    (local.set $fd (i32.load (i32.const 32)))
    (call $check (call $bind (local.get $fd) (i32.const 512)))
    (call $check (call $local (local.get $fd) (i32.const 512)))
    (call $check (call $connect (local.get $fd) (i32.const 512)))
    (local.set $count (i32.const COUNT))
    (loop $next
      (call $check (call $send (local.get $fd)
        (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 40)))
      (call $check (call $receive (local.get $fd)
        (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 40) (i32.const 44)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))))
"""


def _record(path: Path, count: int, durability: Durability) -> float:
    """Return the processor time of a recorded run of ``count`` transfers, in seconds."""
    module = bytes(wasmtime.wat2wasm(_MODULE.replace("COUNT", str(count))))
    path.unlink(missing_ok=True)
    gc.collect()
    start = time.process_time()
    with journal.record(module, path, network=ALL_NETWORK, durability=durability) as recorder:
        result = recorder.wait()
    assert result is not None
    assert result.code == 0, result
    seconds = time.process_time() - start
    path.unlink()
    return seconds


def _transfer(count: int) -> float:
    """Return the processor time of ``count`` transfers of plain Python, in seconds."""
    data = bytes(SIZE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.connect(peer.getsockname())
        start = time.process_time()
        for _ in range(count):
            peer.send(data)
            peer.recv(SIZE)
        return time.process_time() - start


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield the microseconds of one send and receipt, and their ratio to plain Python."""
    group, path = f"socket: {SIZE} bytes sent and received", module_folder() / "socket.journal"
    recorded, plain = [], []
    for _ in range(rounds):
        start = _record(path, 1, Durability.INTERVAL)
        recorded.append((_record(path, count, Durability.INTERVAL) - start) / count * 1e6)
        plain.append(_transfer(count) / count * 1e6)
    yield Figure(
        group=group,
        name="recorded, CPU",
        unit="µs",
        values=tuple(recorded),
        limit=10.0,
        note="half of it is the block that reaches the kernel before each send",
    )
    yield Figure(group=group, name="plain Python, CPU", unit="µs", values=tuple(plain))
    ratios = tuple(one / other for one, other in zip(recorded, plain, strict=True))
    yield Figure(group=group, name="recorded / plain", unit=RATIO, values=ratios)
