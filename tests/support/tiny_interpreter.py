"""A guest that takes requests for a sandbox and replies like a driver, in a few bytes of code."""

from __future__ import annotations

import wasmtime

# The nonce of a request is at 1026: ["nonce", ..., "code"]\n, and the command is the last letter of
# the code. Memory: 0 and 8 iovecs, 16 results, 32 the reply, 1024 the request.
_TEXT = r"""
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\04\00\00\00\40\00\00\20\00\00\00\1e\00\00\00")
  (data (i32.const 32) "\1e                 {\"value\":0}\n")
  (global $count (mut i32) (i32.const 0))
  (func (export "_start") (local $command i32)
    (loop $next
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
      (if (i32.eqz (i32.load (i32.const 16))) (then (return)))
      (local.set $command (i32.load8_u (i32.add (i32.const 1020) (i32.load (i32.const 16)))))
      (if (i32.eq (local.get $command) (i32.const 0x65)) (then (call $exit (i32.const 3))))
      (if (i32.eq (local.get $command) (i32.const 0x74)) (then (unreachable)))
      (if (i32.eq (local.get $command) (i32.const 0x6c)) (then (loop $endless (br $endless))))
      (if (i32.eq (local.get $command) (i32.const 0x73)) (then (br $next)))
      (memory.copy (i32.const 33) (i32.const 1026) (i32.const 16))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (i32.store8 (i32.const 59) (i32.add (i32.const 0x30) (global.get $count)))
      (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
      (br $next))))
"""

TINY_INTERPRETER: bytes = bytes(wasmtime.wat2wasm(_TEXT))
"""Replies to each request with the count of requests, one digit.

Code that ends with ``e`` exits, with ``t`` traps, with ``l`` never ends, and with ``s`` stays
without a reply.
"""
