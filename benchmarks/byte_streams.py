"""Bytes per second through a pipe and a socket pair of the guest, and a socket of the host.

One thread writes 32 KiB and reads them again. The peer is the same loop of plain Python, whose
pipes and sockets are all those of the kernel.
"""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import wasmtime

import journal
from benchmarks.figures import RATIO, Figure, ratios
from benchmarks.stopwatch import module_folder
from journal.engine import ALL_NETWORK, Durability

COUNT, QUICK_COUNT = 4000, 500
SIZE = 32 << 10
_MEBIBYTE = 1 << 20

# 0: iovec of 32 KiB at 4096; 32 and 36: descriptors; 40: size; 512: the address 127.0.0.1, port 0
_MODULE = r"""
(module
  (import "wasix_32v1" "fd_pipe" (func $pipe (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_pair" (func $pair (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "sock_open" (func $open (param i32 i32 i32 i32) (result i32)))
  (import "wasix_32v1" "sock_bind" (func $bind (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_addr_local" (func $local (param i32 i32) (result i32)))
  (import "wasix_32v1" "sock_connect" (func $connect (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\10\00\00\00\80\00\00")
  (data (i32.const 512) "\01\00\00\00\7f\00\00\01")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func (export "_start") (local $count i32)
    OPEN
    (local.set $count (i32.const COUNT))
    (loop $next
      (call $check (call $write (i32.load (i32.const 36))
        (i32.const 0) (i32.const 1) (i32.const 40)))
      (call $check (call $read (i32.load (i32.const 32))
        (i32.const 0) (i32.const 1) (i32.const 40)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))))
"""


class Case(NamedTuple):
    """A way of the bytes: its creation in the guest, and the same in Python."""

    open: str
    make: Callable[[], tuple[Callable[[bytes], object], Callable[[int], object], object]]


def _make_pipe() -> tuple[Callable[[bytes], object], Callable[[int], object], object]:
    reader, writer = os.pipe()
    ends = os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
    return ends[1].write, ends[0].read, ends


def _make_pair() -> tuple[Callable[[bytes], object], Callable[[int], object], object]:
    one, other = socket.socketpair()
    return one.sendall, other.recv, (one, other)


def _make_datagrams() -> tuple[Callable[[bytes], object], Callable[[int], object], object]:
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.connect(peer.getsockname())
    return peer.send, peer.recv, (peer,)


CASES = {
    "a pipe": Case(
        "(call $check (call $pipe (i32.const 32) (i32.const 36)))",
        _make_pipe,
    ),
    "a socket pair": Case(
        "(call $check (call $pair"
        " (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 32) (i32.const 36)))",
        _make_pair,
    ),
    "a socket of the host": Case(
        "(call $check (call $open (i32.const 1) (i32.const 2) (i32.const 0) (i32.const 32)))"
        "(i32.store (i32.const 36) (i32.load (i32.const 32)))"
        "(call $check (call $bind (i32.load (i32.const 32)) (i32.const 512)))"
        "(call $check (call $local (i32.load (i32.const 32)) (i32.const 512)))"
        "(call $check (call $connect (i32.load (i32.const 32)) (i32.const 512)))",
        _make_datagrams,
    ),
}


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield MiB per second of processor time for each case, and the ratio to plain Python."""
    path = module_folder() / "bytes.journal"
    for name, case in CASES.items():
        recorded: list[float] = []
        plain: list[float] = []
        _record(case, path, 1)  # Warms up.
        for _ in range(rounds):
            start = _record(case, path, 1)
            recorded.append(count * SIZE / _MEBIBYTE / (_record(case, path, count) - start))
            plain.append(count * SIZE / _MEBIBYTE / _transfer(case, count))
        group = f"bytes through {name}"
        for peer, rates in (("recorded", recorded), ("plain Python", plain)):
            yield Figure(group=group, name=f"{peer}, CPU", unit="MiB/s", values=tuple(rates))
        values = ratios(recorded, plain)
        yield Figure(group=group, name="recorded / plain", unit=RATIO, values=values)


def _record(case: Case, path: Path, count: int) -> float:
    """Return the processor time of a recorded run, in seconds."""
    text = _MODULE.replace("OPEN", case.open).replace("COUNT", str(count))
    module = bytes(wasmtime.wat2wasm(text))
    path.unlink(missing_ok=True)
    gc.collect()
    start = time.process_time()
    with journal.record(
        module, path, network=ALL_NETWORK, durability=Durability.INTERVAL
    ) as recorder:
        result = recorder.wait()
    assert result is not None
    assert result.code == 0, result
    seconds = time.process_time() - start
    path.unlink()
    return seconds


def _transfer(case: Case, count: int) -> float:
    """Return the processor time of the same in plain Python, in seconds."""
    data = bytes(SIZE)
    write, read, owners = case.make()
    start = time.process_time()
    for _ in range(count):
        write(data)
        read(SIZE)
    seconds = time.process_time() - start
    assert isinstance(owners, tuple)
    for owner in owners:
        owner.close()
    return seconds
