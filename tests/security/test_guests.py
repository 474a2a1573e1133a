"""Malicious guests: each ends in a defined way, the host continues, and no event is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import journal
from journal.engine import ExitKind, RunResult
from tests.support import wat
from tests.support.deadlines import wait_until
from tests.support.guest_runs import record_output, run, run_limited_tool, wait_for_end
from tests.support.programs import guest

# -- exits and traps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unreachable", "unreachable"),
        ("divide", "integer division by zero"),
        ("overflow", "integer overflow"),
        ("outside", "memory out of bounds"),
        ("indirect", "table out of bounds"),
        ("abort", "unreachable"),
    ],
)
def test_a_trap_is_told_with_its_name_and_nothing_said_before_is_lost(
    kind: str, reason: str, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(guest("trap"), path, args=["trap", kind], cache=cache_dir) as recorder:
        outcome = wait_for_end(recorder)
        assert recorder.stdout == f"about to trap: {kind}\n".encode()
    assert outcome.kind is ExitKind.TRAPPED
    assert reason in outcome.reason
    assert "wasm function" in outcome.backtrace
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again) == outcome


@pytest.mark.parametrize("code", [0, 7, 255, 256, -1])
def test_every_exit_code_is_kept(code: int, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(
        guest("exit7"), path, args=["exit7", str(code)], cache=cache_dir
    ) as recorder:
        assert wait_for_end(recorder) == RunResult(ExitKind.EXITED, code & 0xFFFFFFFF)


def test_a_recursion_without_end_ends_where_the_stack_does(tmp_path: Path, cache_dir: Path) -> None:
    depths = set()
    for number in range(2):
        path = tmp_path / f"{number}"
        with journal.record(guest("recurse"), path, cache=cache_dir) as recorder:
            outcome = wait_for_end(recorder)
            assert recorder.stdout == b"going down\n"
        assert outcome.kind is ExitKind.TRAPPED
        assert "stack overflow" in outcome.reason
        depths.add(outcome.backtrace)
    assert len(depths) == 1


def test_a_guest_that_never_ends_can_be_stopped_and_resumed_and_stopped(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(guest("spin"), path, cache=cache_dir) as recorder:
        wait_until(lambda: recorder.stdout == b"spinning\n")
        recorder.stop()
        assert wait_for_end(recorder).kind is ExitKind.STOPPED
    for _ in range(2):
        with journal.resume(path, cache=cache_dir) as again:
            assert not again.ended_before
            wait_until(lambda again=again: again.stdout == b"spinning\n")  # type: ignore[misc]
            assert again.wait(0.01) is None
            again.stop()
            assert wait_for_end(again).kind is ExitKind.STOPPED


def test_a_module_that_never_comes_to_its_start_can_be_stopped(
    tmp_path: Path, cache_dir: Path
) -> None:
    spin = wat.module('(module (func $f (loop $l (br $l))) (start $f) (func (export "_start")))')
    with journal.record(spin, tmp_path / "j", cache=cache_dir) as recorder:
        assert recorder.wait(0.05) is None
        recorder.stop()
        assert wait_for_end(recorder).kind is ExitKind.STOPPED


# -- invalid modules ----------------------------------------------------------------------------

NO_PROGRAMS = {
    "nothing": (b"", "is empty"),
    "a text": (b"#!/bin/sh\necho hello\n", "not valid"),
    "another version": (b"\0asm\x02\0\0\0", "not valid"),
    "a component": (b"\0asm\x0d\0\x01\0", "is a component"),
    "no _start": (wat.module('(module (memory (export "memory") 1))'), "_start"),
    "_start that is no function": (
        wat.module('(module (global (export "_start") i32 (i32.const 1)))'),
        "_start",
    ),
    "_start with parameters": (
        wat.module('(module (func (export "_start") (param i32)))'),
        "_start",
    ),
    "an unknown import": (wat.module('(module (import "env" "evil" (func)))'), "env.evil"),
    "a function of WASI with another type": (
        wat.module('(module (import "wasi_snapshot_preview1" "fd_close" (func)))'),
        "fd_close",
    ),
    "more memory than is allowed": (
        wat.module('(module (memory (export "memory") 65536) (func (export "_start")))'),
        "memory",
    ),
    "a memory from outside": (
        wat.module('(module (import "env" "memory" (memory 1)) (func (export "_start")))'),
        "env.memory",
    ),
}


@pytest.mark.parametrize("what", NO_PROGRAMS)
def test_what_is_no_program_is_refused_in_a_sentence_and_leaves_nothing(
    what: str, tmp_path: Path
) -> None:
    data, told = NO_PROGRAMS[what]
    (tmp_path / "odd.wasm").write_bytes(data)
    done = run_limited_tool("run", "--max-memory", "1GiB", "odd.wasm", folder=tmp_path)
    assert (done.returncode, done.stdout) == (125, "")
    assert re.fullmatch(r"journaltool: error: [^\n]+\n", done.stderr), done.stderr
    assert told in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["odd.wasm"]


def test_a_module_that_is_cut_is_refused_wherever_it_is_cut(
    tmp_path: Path, cache_dir: Path
) -> None:
    whole = guest("cat").read_bytes()
    for size in range(0, len(whole), len(whole) // 40):
        with pytest.raises(journal.ModuleRefused) as caught:
            journal.record(whole[:size], tmp_path / "j", cache=cache_dir)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_program_without_memory_may_run_as_long_as_it_asks_for_none(
    tmp_path: Path, cache_dir: Path
) -> None:
    quiet = wat.module('(module (func (export "_start")))')
    assert run(quiet, tmp_path / "quiet", cache_dir).code == 0
    asks = wat.module(
        """(module (import "wasi_snapshot_preview1" "fd_write" (func $w
        (param i32 i32 i32 i32) (result i32)))
        (func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1)
        (i32.const 0)))))"""
    )
    assert run(asks, tmp_path / "asks", cache_dir).kind is ExitKind.TRAPPED


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((guest("trap"), "outside"), 134, "the guest trapped: memory out of bounds"),
        ((guest("recurse"),), 134, "the guest trapped: stack overflow"),
        (("--timeout", "0.2", guest("spin")), 124, r"stopped after \d+\.\d s; "),
        ((guest("exit7"),), 7, ""),
    ],
)
def test_the_command_says_it_without_a_traceback(
    arguments: tuple[str | Path, ...], code: int, told: str, tmp_path: Path
) -> None:
    done = run_limited_tool("run", "--journal", "j", *arguments, folder=tmp_path)
    assert done.returncode == code
    assert re.search(told, done.stderr)
    assert "Traceback" not in done.stderr
    limit = ("--timeout", "0.2") if code == 124 else ()
    again = run_limited_tool("resume", *limit, "j", folder=tmp_path)
    assert again.returncode == code
    assert re.search(told, again.stderr)
    # An ended run is not repeated. A stopped run prints the rest.
    printed = recorded_output(tmp_path / "j")
    assert printed in (done.stdout, done.stdout + again.stdout)


def recorded_output(path: Path) -> str:
    """Return the recorded output of the guest; a pipe does not receive it again."""
    with journal.Reader(path) as reader:
        writes = [e for e in reader if isinstance(e, journal.events.streams.StreamWrite)]
    return b"".join(event.data for event in writes if event.stream == 1).decode()


def test_the_host_runs_the_next_guest_as_if_nothing_had_been(
    tmp_path: Path, cache_dir: Path
) -> None:
    for number, name in enumerate(("recurse", "trap", "bigmem", "exit7")):
        record_output(name, tmp_path / f"hostile{number}", cache_dir)
        printed = record_output("cat", tmp_path / f"calm{number}", cache_dir, stdin=b"still here\n")
        assert printed == b"still here\n"
