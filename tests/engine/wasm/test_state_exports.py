"""Tests of exported state: the module runs as before, and its private state can be read."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from journal.engine.wasm.binary import MAGIC
from journal.engine.wasm.state_exports import PREFIX, START_EXPORT, ExportedState, export_state
from journal.errors import ModuleRefused
from tests.support.programs import ROOT
from tests.support.wasm_modules import damaged_guests

GUESTS = sorted((ROOT / "fixtures" / "guests").glob("*.wasm"))

RICH = """
(module
  (import "env" "shared" (global $imported (mut i64)))
  (import "env" "fixed" (global i32))
  (import "env" "f" (func $f (param i32)))
  (import "env" "t" (table 1 2 funcref))
  (import "env" "m" (memory 1))
  (type $pair (struct (field i32) (field i32)))
  (table $own 3 funcref)
  (table 5 10 externref)
  (memory $second 2 7)
  (global $a (mut i32) (i32.const -5))
  (global $constant i32 (i32.const 7))
  (global $b (mut i64) (i64.const 0x7fffffffffffffff))
  (global $c (mut f32) (f32.const 1.5))
  (global $d (mut f64) (f64.const -2.25))
  (global $e (mut v128) (v128.const i64x2 1 2))
  (global $f0 (mut funcref) (ref.null func))
  (global $f1 (mut funcref) (ref.func $g))
  (global $sum (mut i32) (i32.add (i32.const 3) (i32.mul (i32.const 4) (global.get 1))))
  (global $i31 (mut (ref null i31)) (ref.i31 (i32.const 9)))
  (global $obj (mut (ref null $pair)) (struct.new $pair (i32.const 1) (i32.const 2)))
  (func $g)
  (func (export "journal:global2") (result i32) (global.set $a (i32.const 40)) (global.get $a))
  (export "mine" (global $b))
)
"""


def engine() -> Any:
    config = wasmtime.Config()
    for name in (
        "wasm_multi_memory",
        "wasm_gc",
        "wasm_function_references",
        "wasm_reference_types",
    ):
        setattr(config, name, True)
    config.wasm_simd = True
    return wasmtime.Engine(config)


def exports_of(module: bytes) -> dict[str, Any]:
    found = wasmtime.Module(engine(), module)
    return {export.name: export.type for export in found.exports}


def compile_text(wat: str) -> bytes:
    return bytes(wasmtime.wat2wasm(wat))


def check_named(revealed: ExportedState) -> dict[str, Any]:
    exports = exports_of(revealed.data)
    assert all(isinstance(exports[name], wasmtime.MemoryType) for name in revealed.memories)
    assert all(isinstance(exports[name], wasmtime.TableType) for name in revealed.tables)
    for one in revealed.globals:
        assert exports[one.name].mutable
    return exports


def test_everything_that_changes_is_exported() -> None:
    module = compile_text(RICH)
    revealed = export_state(module)
    exports = check_named(revealed)
    assert exports_of(module).keys() <= exports.keys()
    assert len(revealed.memories) == 2
    assert len(revealed.tables) == 3
    kinds = [one.kind for one in revealed.globals]
    numbers = ["i64", "i32", "i64", "f32", "f64", "v128"]
    assert kinds == [*numbers, "ref", "ref", "i32", "ref", "ref"]
    assert [one.global_index for one in revealed.globals] == [0, *range(2, 3), *range(4, 13)]
    names = [one.name for one in revealed.globals]
    assert names[2] == "mine"
    assert names[1] == f"{PREFIX}global2'", "a name that the module has already is not ours"
    assert len({*names, *revealed.memories, *revealed.tables}) == 16


@pytest.mark.parametrize("path", GUESTS, ids=lambda path: path.stem)
def test_guests_show_their_stack_pointer(path: Path) -> None:
    module = path.read_bytes()
    revealed = export_state(module)
    exports = check_named(revealed)
    assert exports_of(module).keys() <= exports.keys()
    assert revealed.memories


def test_what_is_revealed_already_stays_as_it_is() -> None:
    once = export_state(compile_text(RICH))
    assert export_state(once.data) == once


def test_a_module_without_state_stays_as_it_is() -> None:
    module = compile_text('(module (func (export "f")))')
    assert export_state(module) == ExportedState(module, [], [], [], [], False)


@pytest.mark.parametrize(
    "wat",
    [
        "(module (memory 1))",
        "(module (global (mut i32) (i32.const 1)))",
        "(module (memory 1) (func $s) (start $s))",
        '(module (memory 1) (data "x"))',
        '(module (memory 1) (func (data.drop 0)) (data "x"))',
        "(module (table 1 funcref) (func $f) (elem (i32.const 0) $f))",
        '(module (import "a" "m" (memory 1)))',
    ],
)
def test_exports_are_put_where_they_belong(wat: str) -> None:
    revealed = export_state(compile_text(wat))
    assert len(check_named(revealed)) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["i32", "i64"]), st.integers(-(1 << 31), (1 << 31) - 1), st.booleans()
        ),
        max_size=200,
    )
)
def test_values_are_those_of_the_module(globals_: list[tuple[str, int, bool]]) -> None:
    text = "".join(
        f"(global {f'(mut {kind})' if mutable else kind} ({kind}.const {value}))"
        for kind, value, mutable in globals_
    )
    revealed = export_state(compile_text(f"(module {text})"))
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, revealed.data), [])
    found = []
    for one in revealed.globals:
        exported = instance.exports(store)[one.name]
        assert isinstance(exported, wasmtime.Global)
        found.append((one.kind, exported.value(store)))
    assert found == [(kind, value) for kind, value, mutable in globals_ if mutable]


def test_what_is_no_module_is_refused() -> None:
    for data in (b"", b"\0asm", b"\0asm\2\0\0\0", b"text"):
        with pytest.raises(ModuleRefused):
            export_state(data)


def test_a_module_that_is_cut_short_is_refused_or_has_nothing_behind() -> None:
    module = compile_text(RICH)
    whole = export_state(module)
    for size in range(8, len(module)):
        try:
            revealed = export_state(module[:size])
        except ModuleRefused:
            continue
        assert len(revealed.globals) <= len(whole.globals)


@given(damaged_guests())
def test_a_damaged_module_is_exported_or_refused(data: bytes) -> None:
    with suppress(ModuleRefused):
        export_state(data, functions=True, start=True)


@pytest.mark.parametrize(
    "sections",
    [
        b"\x04\x05\xff\xff\xff\xff\x0f",  # Tables: more than the section can hold.
        b"\x03\x05\xff\xff\xff\xff\x0f",  # Functions.
        b"\x05\x05\xff\xff\xff\xff\x0f",  # Memories.
        b"\x06\x05\xff\xff\xff\xff\x0f",  # Globals.
        b"\x06\x05\x01\x7f\x01\xff\x0b",  # A global whose value is not an instruction.
        b"\x06\x04\x01\x7f\x01\x41",  # A global whose value is cut short.
        b"\x02\x06\x01\x01a\x01b\x09",  # An import of an unknown kind.
    ],
)
def test_a_section_that_does_not_fit_the_format_is_refused(sections: bytes) -> None:
    with pytest.raises(ModuleRefused):
        export_state(MAGIC + sections, functions=True)


@pytest.mark.parametrize(
    "sections",
    [
        b"\x05\x03\x01\x00\x01" + b"\x07\x05\x00\x01a\x02\x00",  # An export after the last.
        b"\x08\x01\x00" + b"\x06\x06\x01\x7f\x01\x41\x00\x0b",  # The start before the globals.
    ],
)
def test_a_module_that_is_not_valid_does_not_become_valid(sections: bytes) -> None:
    one_function = b"\x01\x04\x01\x60\0\0" + b"\x03\x02\x01\0"
    module = MAGIC + one_function + sections + b"\x0a\x04\x01\x02\0\x0b"
    for data in (module, export_state(module, start=True).data):
        with pytest.raises(wasmtime.WasmtimeError):
            wasmtime.Module.validate(engine(), data)


def test_functions_are_shown_when_they_are_asked_for() -> None:
    module = compile_text(
        '(module (import "e" "f" (func)) (func $g) (func (export "h")) (memory (export "m") 1))'
    )
    assert export_state(module).functions == []
    revealed = export_state(module, functions=True)
    assert revealed.functions == [f"{PREFIX}function0", f"{PREFIX}function1", "h"]
    exports = exports_of(revealed.data)
    assert all(isinstance(exports[name], wasmtime.FuncType) for name in revealed.functions)


def test_a_start_function_is_called_and_not_run_by_itself_when_that_is_asked_for() -> None:
    module = compile_text(
        """(module (global (export "ran") (mut i32) (i32.const 0)) (memory 1)
        (func $s (global.set 0 (i32.add (global.get 0) (i32.const 1)))) (start $s)
        (data (i32.const 0) "x"))"""
    )
    assert not export_state(module).has_start
    revealed = export_state(module, start=True)
    assert revealed.has_start
    assert export_state(revealed.data, start=True).data == revealed.data
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, revealed.data), []).exports(
        store
    )
    ran, start = exports["ran"], exports[START_EXPORT]
    assert isinstance(ran, wasmtime.Global)
    assert isinstance(start, wasmtime.Func)
    assert ran.value(store) == 0
    start(store)
    assert ran.value(store) == 1
