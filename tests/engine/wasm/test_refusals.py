"""A module that is refused gets one line, which names the cause and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal.engine import ExitKind, SnapshotOptions, Stacks
from journal.engine.program.refusal import join_causes
from journal.events.snapshots import Trigger
from tests.support.command_line import run_inside
from tests.support.guest_runs import wait_for_end
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


@pytest.mark.parametrize("stacks", list(Stacks))
def test_an_unknown_import_that_is_not_used_is_refused_with_and_without_snapshots(
    stacks: Stacks, tmp_path: Path, cache_dir: Path
) -> None:
    told = []
    for on in (frozenset[Trigger](), frozenset({Trigger.EXPLICIT})):
        snapshots = SnapshotOptions(on=on, stacks=stacks)
        with pytest.raises(journal.ModuleRefused) as caught:
            journal.record(import_functions(1), tmp_path / "j", snapshots=snapshots)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("value", ["externref", "v128", "i64"])
def test_an_unknown_import_of_any_type_traps_only_when_it_is_called(
    value: str, tmp_path: Path, cache_dir: Path
) -> None:
    trapping = journal.engine.Configuration(unknown_imports=journal.engine.UnknownImports.TRAP)
    constant = {"externref": "(ref.null extern)", "v128": "(v128.const i64x2 0 0)"}
    call = f"(drop (call 0 {constant.get(value, '(i64.const 0)')}))"
    for body, kind in (("", ExitKind.EXITED), (call, ExitKind.TRAPPED)):
        text = f"""(module (import "env" "f" (func (param {value}) (result {value})))
            (memory (export "memory") 1) (func (export "_start") {body}))"""
        path = tmp_path / kind.name
        with journal.record(
            module(text), path, configuration=trapping, cache=cache_dir
        ) as recorder:
            assert wait_for_end(recorder).kind is kind


VECTORS = """(module
    (rec (type $s (sub (struct (field (mut i8)) (field v128)))) (type $a (array (mut (ref $s)))))
    (type $plain (func)) (type $vector (func (param i32) (result v128)))
    (import "env" "table" (table 1 2 funcref)) (import "env" "global" (global v128))
    (import "env" "vector" (func (type $vector))) {imports}
    (memory (export "memory") 1) (func (export "_start")))"""


@pytest.mark.parametrize(
    ("imports", "told"),
    [
        ("", "env.global, env.table, env.vector; only functions"),
        (
            '(import "wasi_snapshot_preview1" "fd_write" (func (type $plain)))',
            r"fd_write \(another type\)",
        ),
        (
            '(import "env" "tag" (tag)) (import "wasi_unstable" "fd_write" (func (type $vector)))',
            r"the module imports wasi_unstable.fd_write with a vector",
        ),
    ],
)
def test_a_function_of_wasi_with_a_vector_is_refused(
    imports: str, told: str, tmp_path: Path
) -> None:
    text = VECTORS.format(imports=imports)
    for data in (text.encode(), module(text)):
        for triggers in (frozenset[Trigger](), frozenset({Trigger.EXPLICIT})):
            if triggers and data == text.encode():
                continue  # A module that is text cannot have snapshots.
            snapshots = SnapshotOptions(on=triggers)
            with pytest.raises(journal.ModuleRefused, match=told):
                journal.record(data, tmp_path / "j", snapshots=snapshots)
