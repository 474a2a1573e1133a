"""A guest sees the same terminal in the next session, even if that session has none."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest
import wasmtime

import journal
from journal.events.core import ProcessExit

#: Prints the file type of standard output: WASI's file type 2 is a terminal.
ASKING = wasmtime.wat2wasm("""
(module
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\20\\00\\00\\00\\09\\00\\00\\00\\30\\00\\00\\00\\05\\00\\00\\00")
  (data (i32.const 32) "terminal\\n")
  (data (i32.const 48) "none\\n")
  (func (export "_start")
    (drop (call $stat (i32.const 1) (i32.const 64)))
    (drop (call $write (i32.const 1)
      (select (i32.const 0) (i32.const 8)
        (i32.eq (i32.load8_u (i32.const 64)) (i32.const 2)))
      (i32.const 1) (i32.const 80)))))
""")


def without_the_end(path: Path, target: Path) -> None:
    """Return a copy of a journal as a crash just before the end would have left it."""
    with journal.Writer(target) as writer, journal.Reader(path) as reader:
        for frame in reader.frames():
            if frame.tag == ProcessExit.tag:
                break
            writer.append_frame(frame.tag, frame.payload)


@pytest.mark.parametrize(("first", "says"), [("terminal", b"terminal\n"), ("file", b"none\n")])
def test_a_guest_sees_the_terminal_of_its_first_session(
    tmp_path: Path, cache_dir: Path, first: str, says: bytes
) -> None:
    try:
        master, slave = pty.openpty()
    except OSError as error:
        pytest.skip(f"this machine gives no terminals: {error}")
    plain = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    here, there = (slave, plain) if first == "terminal" else (plain, slave)
    whole = tmp_path / "whole"
    with journal.record(bytes(ASKING), whole, stdout=here, cache=cache_dir) as recorder:
        assert recorder.wait() == journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0)
    without_the_end(whole, tmp_path / "cut")
    with journal.resume(tmp_path / "cut", stdout=there, cache=cache_dir) as recorder:
        assert recorder.wait() == journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0)
    shown = os.read(master, 100).replace(b"\r\n", b"\n")
    for descriptor in (master, slave, plain):
        os.close(descriptor)
    assert (shown, (tmp_path / "out").read_bytes()) == (says, says)
