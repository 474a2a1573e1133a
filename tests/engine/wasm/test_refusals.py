"""A module that is refused gets one line, which names the cause and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal.engine.program.refusal import join_causes
from tests.support.command_line import run_inside
from tests.support.wat import module

SHARED_MEMORY = '(module (memory (export "memory") 1 1 shared) (func (export "_start")))'
PROGRAM = '(memory (export "memory") 1) (func (export "_start"))'
COMPONENT = b"\0asm\x0d\0\1\0"


def import_functions(count: int) -> bytes:
    imports = "".join(f'(import "env" "f{number}" (func))' for number in range(count))
    return module(f"(module {imports} {PROGRAM})")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (bytes(100), r"does not begin with \\0asm"),
        (b"\x7fELF\xff", r"does not begin with \\0asm"),
        (COMPONENT, r"is a component: .*wasm32-wasip1"),
        (b"hello\n", r"which is text, is not valid: expected `\(` at line 1$"),
        (SHARED_MEMORY.encode(), "text, is not valid: threads must be enabled for shared memories"),
        (module(f"(module {PROGRAM})")[:-3], "not valid: unexpected end-of-file"),
        (import_functions(2), "env.f0, env.f1; .* --unknown-imports trap$"),
        (import_functions(30), "and 22 more; "),
        (
            module(f'(module (import "env" "table" (table 1 funcref)) {PROGRAM})'),
            "env.table; only functions can be imported$",
        ),
        (
            module(f'(module (import "wasi_snapshot_preview1" "fd_write" (func)) {PROGRAM})'),
            r"fd_write \(another type\); ",
        ),
    ],
)
def test_a_refusal_names_its_cause(data: bytes, told: str, tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(journal.ModuleRefused, match=told) as refused:
        journal.record(data, tmp_path / "j", cache=cache_dir)
    assert "\n" not in str(refused.value)
    assert "Caused by" not in str(refused.value)
    assert not (tmp_path / "j").exists()


def test_a_journal_given_as_a_module_names_resume(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "work.journal") as writer:
        writer.append(journal.events.core.ProcessExit(exit_code=0))
    before = (tmp_path / "work.journal").read_bytes()
    for options, told in (
        ((), "work.journal has the name of a journal: use resume"),
        (("--force",), "work.journal has the name of a journal: use resume"),
        (("-j", "new"), "work.journal is a journal, not a module: use resume"),
    ):
        done = run_inside("run", *options, "work.journal", at=tmp_path)
        assert done.returncode == 125
        assert told in done.stderr.decode()
        assert (tmp_path / "work.journal").read_bytes() == before


def test_a_module_in_text_is_refused_with_snapshots_and_runs_without(
    tmp_path: Path, cache_dir: Path
) -> None:
    text = f"(module {PROGRAM})".encode()
    options = journal.engine.SnapshotOptions(every_events=1)
    with pytest.raises(journal.ModuleRefused, match=r"is text, .* wat2wasm"):
        journal.record(text, tmp_path / "j", cache=cache_dir, snapshots=options)
    with journal.record(text, tmp_path / "j", cache=cache_dir) as recorder:
        outcome = recorder.wait()
    assert outcome is not None
    assert outcome.code == 0


def test_a_journal_that_exists_names_what_to_do(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "j").write_bytes(b"")
    with pytest.raises(journal.OptionError, match="already exists: resume it, or choose another"):
        journal.record(module(f"(module {PROGRAM})"), tmp_path / "j", cache=cache_dir)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("failed to parse\n\nCaused by:\n    a reason\n", "failed to parse: a reason"),
        ("x\n\nCaused by:\n    0: first\n    1: second", "x: first: second"),
        ("bad\n     --> <anon>:7:3\n      |\n    7 | (x\n", "bad at line 7"),
        ("\n --> <anon>:1:1\n", " at line 1"),
        ("", "wasmtime gives no reason"),
        ("a\x1b[31m", "a?[31m"),
    ],
)
def test_causes_are_joined_in_one_line(message: str, line: str) -> None:
    assert join_causes(message) == line
