"""The guests behave as documented under WASI of wasmtime, so they can serve as a reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.oracle import TRAP_CODE, Mount, Outcome, read_tree, run_with_wasmtime
from tests.support.programs import guest

WASI_FUNCTIONS = 46


def run_families(folder: Path) -> tuple[Outcome, dict[str, bytes | str]]:
    (folder / "work").mkdir(parents=True)
    (folder / "fixed" / "dir").mkdir(parents=True)
    (folder / "fixed" / "old").write_text("old content")
    (folder / "fixed" / "dir" / "f").write_text("f")
    outcome = run_with_wasmtime(
        guest("families"),
        ["families", "work", "fixed"],
        {"NAME": "value", "EMPTY": ""},
        [
            Mount(host=folder / "work", guest="work"),
            Mount(host=folder / "fixed", guest="fixed", writable=False),
        ],
        b"first line\nsecond line\n",
    )
    return outcome, read_tree(folder)


def imports_of(wasm: Path) -> set[str]:
    import wasmtime

    module = wasmtime.Module.from_file(wasmtime.Engine(), str(wasm))
    return {str(item.name) for item in module.imports}


def test_families_and_faults_make_every_call_there_is() -> None:
    assert len(imports_of(guest("families")) | imports_of(guest("faults"))) == WASI_FUNCTIONS


def test_families_say_the_same_in_every_run(tmp_path: Path) -> None:
    first, first_tree = run_families(tmp_path / "one")
    second, second_tree = run_families(tmp_path / "two")
    assert first == second
    assert first_tree == second_tree
    assert first.code == 3
    assert first.stdout.endswith(b"-- end\n")
    assert first.stderr == b"to stderr\n"


@pytest.mark.deep
def test_a_worker_s_end_depends_on_its_input_alone(tmp_path: Path) -> None:
    def work(name: str, stdin: bytes) -> tuple[Outcome, dict[str, bytes | str]]:
        folder = tmp_path / name
        folder.mkdir()
        args = ["worker", "work", "25", "100", "200"]
        outcome = run_with_wasmtime(
            guest("worker"), args, {}, [Mount(host=folder, guest="work")], stdin
        )
        return outcome, read_tree(folder)

    first = work("one", b"some\nlines\nof input\n")
    assert first == work("two", b"some\nlines\nof input\n")
    assert first[0].code == 0
    assert b"done: 25 steps" in first[0].stdout
    assert first != work("three", b"other\nlines\nof input\n")


def test_no_guest_escapes_from_its_directory(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("canary")
    (tmp_path / "inside").mkdir()
    outcome = run_with_wasmtime(
        guest("escape"), ["escape", "w"], {}, [Mount(host=tmp_path / "inside", guest="w")]
    )
    assert outcome.stdout.endswith(b"still inside\n")
    assert outcome.code == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unreachable", "unreachable"),
        ("divide", "divide by zero"),
        ("overflow", "integer overflow"),
        ("outside", "out of bounds memory access"),
        ("indirect", "undefined element"),
        ("abort", "unreachable"),
    ],
)
def test_a_trap_is_a_trap(kind: str, reason: str) -> None:
    outcome = run_with_wasmtime(guest("trap"), ["trap", kind])
    assert outcome.code == TRAP_CODE
    assert reason in outcome.trap
    assert outcome.stdout == f"about to trap: {kind}\n".encode()


def test_an_exit_code_comes_through() -> None:
    assert run_with_wasmtime(guest("exit7"), ["exit7"]).code == 7
    assert run_with_wasmtime(guest("exit7"), ["exit7", "125"]).code == 125
    assert "invalid exit status" in run_with_wasmtime(guest("exit7"), ["exit7", "126"]).trap


def test_endless_recursion_ends_in_a_trap() -> None:
    outcome = run_with_wasmtime(guest("recurse"), ["recurse"])
    assert "call stack exhausted" in outcome.trap


def test_sleeping_takes_as_long_as_asked() -> None:
    outcome = run_with_wasmtime(guest("sleepy"), ["sleepy", "4", "1000"])
    assert outcome.stdout.endswith(b"back=0 early=0 errors=0\n")


def test_what_goes_in_comes_out_of_cat() -> None:
    text = bytes(range(256)) * 9
    outcome = run_with_wasmtime(guest("cat"), ["cat", "100"], stdin=text)
    assert outcome == Outcome(code=0, stdout=text, stderr=b"2304 bytes\n")


@pytest.mark.deep
def test_real_programs_run(quickjs: Path, cpython: Path, cache_dir: Path) -> None:
    script = ["qjs", "-e", "console.log(6 * 7)"]
    assert run_with_wasmtime(quickjs, script, cache=cache_dir).stdout == b"42\n"
    script = ["python", "-c", "print(6 * 7)"]
    assert run_with_wasmtime(cpython, script, cache=cache_dir).stdout == b"42\n"
