"""Small modules in text form, which call WASI in ways that no C library does."""

from __future__ import annotations

import wasmtime

RIGHTS = "(i64.const 0x1fffffff)"
DIRECTORY_RIGHTS = "(i64.const 0x4000)"
CREATE, IS_DIRECTORY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8

_IMPORTS = {
    "fd_write": "i32 i32 i32 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_pwrite": "i32 i32 i32 i64 i32",
    "fd_close": "i32",
    "fd_filestat_set_size": "i32 i64",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_create_directory": "i32 i32 i32",
    "path_unlink_file": "i32 i32 i32",
    "poll_oneoff": "i32 i32 i32 i32",
    "random_get": "i32 i32",
}


def module(text: str) -> bytes:
    """Return the binary of a module."""
    return bytes(wasmtime.wat2wasm(text))


def program(body: str, *, data: str = "", at: int = 16, pages: int = 1, more: str = "") -> bytes:
    """Return a program whose ``_start`` is ``body``, with ``data`` in its memory.

    It can call some functions of WASI by name, and ``$exit`` with a code. It has two locals.
    """
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) (result i32)))'
        for name, types in _IMPORTS.items()
    )
    return module(f"""(module {imports}
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") {pages}) {more} (data (i32.const {at}) "{data}")
        (func $check (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
        (func (export "_start") (local $i i32) (local $e i32) {body}))""")


def times(count: int, body: str) -> str:
    """Return a loop that runs ``body`` ``count`` times, with ``$i`` from 0 on."""
    return f"""(local.set $i (i32.const 0)) (loop $again {body}
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))"""


def path_open(size: int, flags: int, *, fd: str = "(i32.const 3)", rights: str = RIGHTS) -> str:
    """Return a call that opens the path of ``size`` bytes at 16, and stores the descriptor at 0."""
    return f"""(call $path_open {fd} (i32.const 1) (i32.const 16) (i32.const {size})
        (i32.const {flags}) {rights} {RIGHTS} (i32.const 0) (i32.const 0))"""
