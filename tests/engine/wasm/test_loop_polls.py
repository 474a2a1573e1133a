"""Tests of polls at loop heads: the guest behaves as before, and can be suspended in any loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given

from journal.engine.configuration import Configuration
from journal.engine.program.engine import make_engine
from journal.engine.wasm.binary import CUSTOM, BinaryReader, add_size_prefix, encode_leb128
from journal.engine.wasm.feature_check import find_features
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE, insert_polls
from journal.engine.wasm.module_info import read_module_info
from journal.errors import JournalError, ModuleRefused
from tests.support.programs import GUESTS, guest
from tests.support.wasm_modules import ALL_GUESTS, damaged_guests, make_full_engine
from tests.support.wasmtime_polls import PolledGuest
from tests.support.wat import module

ADDED_SIZE_MAX = 16
COMPUTING = ("computing", "60")


def exports_of(data: bytes) -> dict[str, Any]:
    return {one.name: one.type for one in wasmtime.Module(make_full_engine(), data).exports}


def names_of_custom(data: bytes) -> list[str]:
    sections = read_module_info(data).sections
    return [
        BinaryReader(data, one.body, one.stop).read_name() for one in sections if one.id == CUSTOM
    ]


@pytest.mark.parametrize("path", ALL_GUESTS, ids=lambda path: path.stem)
def test_every_loop_gets_a_poll_and_nothing_gets_another_number(path: Path) -> None:
    data = path.read_bytes()
    polled = insert_polls(data)
    before, after = find_features(data), find_features(polled)
    assert after == before
    assert exports_of(polled).keys() == exports_of(data).keys() | {POLL_TABLE, POLL_FLAG}
    assert len(polled) - len(data) <= 100 + ADDED_SIZE_MAX * before.loops
    assert polled.count(poll_of(data)) == before.loops


def poll_of(data: bytes) -> bytes:
    """Return the inserted code for a module with these declarations."""
    found = read_module_info(data)
    types = next((data[one.body :] for one in found.sections if one.id == 1), b"\0")
    type_ = encode_leb128(BinaryReader(types, 0, len(types)).read_number())
    table, flag = encode_leb128(found.counts[1]), encode_leb128(found.counts[3])
    return b"\x23" + flag + b"\x04\x40\x41\0\x11" + type_ + table + b"\x0b"


def test_the_new_come_behind_what_there_is() -> None:
    data = module("""(module
        (import "env" "g" (global i64)) (import "env" "t" (table 1 funcref))
        (table $mine 3 funcref) (global $count (mut i32) (i32.const 40))
        (func $add (param i32) (result i32) (i32.add (local.get 0) (global.get $count)))
        (elem (table $mine) (i32.const 1) func $add)
        (func (export "run") (param i32) (result i32) (local i32)
            (loop $again (result i32)
                (local.set 1 (call_indirect $mine (param i32) (result i32)
                    (local.get 0) (i32.const 1)))
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br_if $again (local.get 0)) (local.get 1))))""")
    store = wasmtime.Store()
    given_: list[wasmtime.Global | wasmtime.Table] = [
        wasmtime.Global(store, wasmtime.GlobalType(wasmtime.ValType.i64(), False), 7),
        wasmtime.Table(
            store, wasmtime.TableType(wasmtime.ValType.funcref(), wasmtime.Limits(1, None)), None
        ),
    ]
    made = wasmtime.Module(store.engine, insert_polls(data))
    exports = wasmtime.Instance(store, made, given_).exports(store)
    run, flag, table = exports["run"], exports[POLL_FLAG], exports[POLL_TABLE]
    assert isinstance(run, wasmtime.Func)
    assert isinstance(flag, wasmtime.Global)
    assert isinstance(table, wasmtime.Table)
    assert run(store, 5) == 41
    polls = []
    none = wasmtime.FuncType([], [])
    table.set(store, 0, wasmtime.Func(store, none, lambda: polls.append(1)))
    flag.set_value(store, wasmtime.Val.i32(1))
    assert run(store, 5) == 41
    assert len(polls) == 5
    with pytest.raises(wasmtime.WasmtimeError):
        table.grow(store, 1, None)


@pytest.mark.parametrize("text", ["(module)", '(module (func (export "f") (loop)))'])
def test_a_module_that_has_next_to_nothing_gets_what_it_needs(text: str) -> None:
    polled = insert_polls(module(text))
    assert find_features(polled).loops == find_features(module(text)).loops
    assert {POLL_TABLE, POLL_FLAG} <= exports_of(polled).keys()


@pytest.mark.parametrize("name", [POLL_TABLE, POLL_FLAG])
def test_a_module_with_our_names_is_refused(name: str) -> None:
    with pytest.raises(ModuleRefused, match=f"already exports {name}, a reserved name"):
        insert_polls(module(f'(module (func (export "{name}")))'))


def test_names_are_kept_and_what_tells_of_places_is_not() -> None:
    data = module("(module (func $mine (loop)))")
    for name in (".debug_line", "metadata.code.branch_hint", "sourceMappingURL", "producers"):
        data += b"\0" + add_size_prefix(add_size_prefix(name.encode()) + b"\0")
    assert names_of_custom(insert_polls(data)) == ["name"]


@given(damaged_guests())
def test_a_damaged_module_gets_polls_or_is_refused(data: bytes) -> None:
    try:
        polled = insert_polls(data)
    except JournalError:
        return
    found = find_features(data)
    assert find_features(polled)[:2] == found[:2]


# -- at work -------------------------------------------------------------------------------------


def test_a_guest_that_is_polled_computes_the_same(tmp_path: Path) -> None:
    data = guest("computing").read_bytes()
    plain = PolledGuest(data, tmp_path, lambda _: None, COMPUTING)
    plain.run()
    expected = plain.stdout
    times = []
    polled = PolledGuest(insert_polls(data), tmp_path, lambda _: times.append(1), COMPUTING)
    polled.run()
    assert polled.stdout == expected
    assert len(times) > 2


def test_a_guest_that_spins_for_ever_can_be_stopped(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    polls = []

    def poll(_: PolledGuest) -> None:
        polls.append(1)
        if len(polls) == 5:
            raise Enough

    spinning = PolledGuest(insert_polls(guest("spin").read_bytes()), tmp_path, poll)
    with pytest.raises(Enough):
        spinning.run()
    assert spinning.stdout == b"spinning\n"


def test_what_is_made_is_compiled_by_our_engine() -> None:
    ours = make_engine(Configuration())
    for path in GUESTS.glob("*.wasm"):
        data = path.read_bytes()
        try:
            wasmtime.Module.validate(ours, data)
        except wasmtime.WasmtimeError:
            continue
        wasmtime.Module.validate(ours, insert_polls(data))
