"""Tests of the code scanner: it knows every instruction and stops at the notable instructions."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from journal.engine.wasm.binary import CODE, MAGIC, add_size_prefix, encode_leb128
from journal.engine.wasm.feature_check import ModuleFeatures, find_features, unsupported_reason
from journal.engine.wasm.function_bodies import (
    FunctionBody,
    iter_bodies,
    iter_instructions,
    iter_notable,
)
from journal.engine.wasm.module_info import read_module_info
from journal.engine.wasm.opcodes import IMMEDIATES, INSTRUCTION_CLASSES, PREFIXES, Opcode
from journal.errors import JournalError, ModuleRefused
from tests.support.programs import program
from tests.support.wasm_modules import ALL_GUESTS, damaged_guests, make_full_engine
from tests.support.wat import module

#: Opcodes of exceptions before their standard. Wasmtime knows their names and refuses them.
OLD_EXCEPTIONS = {(0x06, -1), (0x07, -1), (0x09, -1), (0x18, -1), (0x19, -1)}


def of_code(body: bytes, before: bytes = b"") -> bytes:
    """Return a module with one function that has this body."""
    return before + bytes([CODE]) + add_size_prefix(encode_leb128(1) + add_size_prefix(body))


def walk_functions(data: bytes, *, slowly: bool = False) -> list[tuple[Opcode, int, int]]:
    """Return the notable instructions of all functions."""
    code = read_module_info(data).code
    walk = iter_instructions if slowly else iter_notable
    found: list[tuple[Opcode, int, int]] = []
    for body in iter_bodies(data, code) if code is not None else ():
        found += walk(data, body)
    return found


# -- wasmtime as the oracle: which instructions there are, and how long each is -----------------


def sections_before_code() -> bytes:
    """Return the sections before the code, with at least one declaration of each kind."""
    text = """(module
        (type (func)) (type (struct (field (mut i8) (mut i32)))) (type (array (mut i8)))
        (type (array (mut funcref)))
        (memory 1 1 shared) (table 1 funcref) (tag) (global (mut i32) (i32.const 0))
        (func (type 0) (local i32)) (elem funcref (ref.func 0)) (data "x"))"""
    made = module(text)
    start = next(one.start for one in read_module_info(made).sections if one.id == CODE)
    count = b"\x0c\x01\x01"  # memory.init requires a data count.
    return made[:start] + count


BEFORE = sections_before_code()
BEHIND = b"\x0b\x03\x01\x01\x00"  # An empty data segment.
MARK = 0xFF
"""An undefined opcode: if wasmtime rejects it, everything before it was decoded."""
ROOMS = (
    b"\x00\x04\x40",  # unreachable; if
    b"\x02\x6e\x00",  # block (result anyref); unreachable
    b"\x02\x70\x00",  # block (result funcref); unreachable
)
ENCODINGS = {
    "u": [b"\0", b"\1", b"\2", b"\3"],
    "l": [b"\0"],
    "m": [b"\0\0", b"\1\0", b"\2\0", b"\3\0", b"\4\0"],
    "b": [b"\0"],
    "4": [b"\0" * 4],
    "8": [b"\0" * 8],
    "x": [b"\0" * 16],
    "t": [b"\x40"],
    "h": [b"\x70", b"\x6e"],
    "L": [b"\1\0\0"],
    "T": [b"\1\x7f"],
    "C": [b"\1\2\0", b"\0"],
}


def encode_opcode(code: Opcode) -> bytes:
    first, second = code
    return bytes([first]) + (encode_leb128(second) if first in PREFIXES else b"")


def is_one_instruction(oracle: Any, instruction: bytes) -> bool:
    """Return whether wasmtime decodes the bytes as exactly one instruction."""
    for room in ROOMS:
        body = b"\1\1\x7f" + room + instruction + bytes([MARK])
        data = of_code(body, BEFORE) + BEHIND
        at = data.rindex(instruction + bytes([MARK])) + len(instruction)
        try:
            wasmtime.Module.validate(oracle, data)
        except wasmtime.WasmtimeError as error:
            if f"illegal opcode: 0xff (at offset {at:#x})" in str(error):
                return True
    return False


def every_code() -> Iterator[Opcode]:
    for first in range(256):
        if first not in PREFIXES:
            yield first, -1
    for first in PREFIXES:
        yield from ((first, second) for second in range(0x140))


def test_each_instruction_is_as_long_as_wasmtime_says() -> None:
    oracle = make_full_engine()
    wrong = []
    for code, shape in IMMEDIATES.items():
        ways = itertools.product(*(ENCODINGS[letter] for letter in shape))
        known = any(is_one_instruction(oracle, encode_opcode(code) + b"".join(way)) for way in ways)
        if known == (code in OLD_EXCEPTIONS):
            wrong.append(code)
    assert wrong == []


def test_what_is_unknown_here_is_unknown_to_wasmtime() -> None:
    oracle = make_full_engine()
    unknown = set(every_code()) - IMMEDIATES.keys() - {(MARK, -1)}
    assert len(unknown) > 900
    ways = [b"", b"\0", b"\0\0", b"\2\0"]
    assert not [
        code
        for code in unknown
        if any(is_one_instruction(oracle, encode_opcode(code) + way) for way in ways)
    ]


@pytest.mark.parametrize("code", [(0xE0, -1), (0xC5, -1), (0xFD, 0x9A), (0xFC, 18), (0xFE, 0x4F)])
def test_an_unknown_instruction_is_named(code: Opcode) -> None:
    data = of_code(b"\0" + encode_opcode(code) + b"\x0b", MAGIC)
    with pytest.raises(ModuleRefused, match=f"unknown instruction {code[0]:#x}"):
        walk_functions(data)


# -- Binaryen as the oracle: how many functions and loops there are ------------------------------

PRINTING = """
import ctypes, sys
library, data = ctypes.CDLL(sys.argv[1]), open(sys.argv[2], "rb").read()
library.BinaryenModuleRead.restype = ctypes.c_void_p
library.BinaryenModuleRead.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
library.BinaryenModulePrint.argtypes = [ctypes.c_void_p]
library.BinaryenModulePrint(library.BinaryenModuleRead(data, len(data)))
"""


def print_module(path: Path) -> str:
    """Return a module as Binaryen's text."""
    lib = pytest.importorskip("icpp_binaryen._lib")
    command = [sys.executable, "-c", PRINTING, str(lib._path), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "path",
    [*ALL_GUESTS, pytest.param("quickjs", marks=pytest.mark.deep)],
    ids=lambda path: Path(path).stem,
)
def test_loops_and_functions_are_those_that_binaryen_sees(path: Path | str) -> None:
    found = program(path) if isinstance(path, str) else path
    seen = find_features(found.read_bytes())
    try:
        text = print_module(found)
    except subprocess.CalledProcessError:
        pytest.skip("Binaryen cannot read it")
    assert seen.functions == len(re.findall(r"^ \(func ", text, re.M))
    assert seen.loops == len(re.findall(r"\(loop\b", text))


@pytest.mark.parametrize("path", ALL_GUESTS, ids=lambda path: path.stem)
def test_the_walk_sees_what_a_walk_by_single_steps_sees(path: Path) -> None:
    data = path.read_bytes()
    assert walk_functions(data) == [
        one for one in walk_functions(data, slowly=True) if one[0] in INSTRUCTION_CLASSES
    ]


# -- code made here -------------------------------------------------------------------------------


def long_leb(number: int, size: int) -> bytes:
    """Return a number in LEB128 with more bytes than necessary."""
    short = encode_leb128(number)
    missing = max(0, size - len(short))
    if not missing:
        return short
    return short[:-1] + bytes([short[-1] | 0x80]) + b"\x80" * (missing - 1) + b"\0"


@st.composite
def instruction(draw: st.DrawFn) -> tuple[Opcode, bytes]:
    """Generate an instruction, whose numbers may be encoded with more bytes than necessary."""
    code = draw(st.sampled_from(sorted(IMMEDIATES)))
    number = st.builds(long_leb, st.integers(0, 0x3FFF), st.integers(1, 5))
    made = bytes([code[0]])
    if code[0] in PREFIXES:
        made += long_leb(code[1], draw(st.integers(1, 5)))
    parts = {
        "u": number,
        "l": st.builds(long_leb, st.integers(0, 2**60), st.integers(1, 10)),
        "m": st.builds(
            lambda align, memory, offset: (
                long_leb(align | (0x40 if memory else 0), 2) + (memory or b"") + offset
            ),
            st.integers(0, 4),
            st.none() | number,
            st.builds(long_leb, st.integers(0, 2**63), st.integers(1, 10)),
        ),
        "b": st.binary(min_size=1, max_size=1),
        "4": st.binary(min_size=4, max_size=4),
        "8": st.binary(min_size=8, max_size=8),
        "x": st.binary(min_size=16, max_size=16),
        "t": st.sampled_from([b"\x40", b"\x7f", b"\x63\x80\x01", b"\x64\x70", b"\x80\x01"]),
        "h": st.sampled_from([b"\x70", b"\x80\x7f", b"\x05"]),
        "L": st.lists(number, min_size=1).map(
            lambda all_: encode_leb128(len(all_) - 1) + b"".join(all_)
        ),
        "T": st.sampled_from([b"\x01\x7f", b"\x02\x63\x80\x01\x70", b"\x00"]),
        "C": st.sampled_from([b"\0", b"\x01\x02\x80\x00", b"\x02\x01\x07\x81\x00\x03\x05"]),
    }
    return code, made + b"".join(draw(parts[letter]) for letter in IMMEDIATES[code])


@given(st.lists(instruction(), max_size=40))
def test_code_is_cut_where_its_instructions_end(parts: list[tuple[Opcode, bytes]]) -> None:
    parts = [*parts, ((0x0B, -1), b"\x0b")]
    data = of_code(b"\0" + b"".join(text for _, text in parts), MAGIC)
    starts = list(itertools.accumulate((len(text) for _, text in parts), initial=0))
    first = len(data) - starts[-1]
    steps = [
        (code, first + start, first + stop)
        for (code, _), (start, stop) in zip(parts, itertools.pairwise(starts), strict=True)
    ]
    assert walk_functions(data, slowly=True) == steps
    assert walk_functions(data) == [step for step in steps if step[0] in INSTRUCTION_CLASSES]


def nested(depth: int) -> st.SearchStrategy[tuple[str, int]]:
    """Generate the text of code, and its number of loops."""
    leaf = st.sampled_from(["nop", "i32.const 3 drop", "i64.const -4 drop", "i32.const 0x303 drop"])
    return st.recursive(
        leaf.map(lambda text: (text, 0)),
        lambda inner: st.tuples(
            st.sampled_from(["block", "loop", "loop (result i32) i32.const 3", "i32.const 3 if"]),
            st.lists(inner, max_size=3),
        ).map(_wrapped),
        max_leaves=depth,
    )


def _wrapped(parts: tuple[str, list[tuple[str, int]]]) -> tuple[str, int]:
    head, inner = parts
    text = " ".join(one for one, _ in inner)
    loops = sum(count for _, count in inner) + head.startswith("loop")
    return (f"{head} {text} end" + (" drop" if "result" in head else "")), loops


@given(st.lists(nested(20), max_size=5))
def test_loops_are_counted(functions: list[tuple[str, int]]) -> None:
    text = "".join(f"(func {body})" for body, _ in functions)
    seen = find_features(module(f"(module {text})"))
    assert (seen.functions, seen.loops) == (len(functions), sum(count for _, count in functions))


# -- features of a module ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "changes_tables", "drops_segments"),
    [
        ("(table.set (i32.const 0) (ref.null func))", True, False),
        ("(drop (table.grow (ref.null func) (i32.const 1)))", True, False),
        ("(table.fill (i32.const 0) (ref.null func) (i32.const 1))", True, False),
        ("(table.init $e (i32.const 0) (i32.const 0) (i32.const 1))", True, False),
        ("(table.copy (i32.const 0) (i32.const 0) (i32.const 1))", True, False),
        ("(elem.drop $e)", False, True),
        ("(data.drop $d)", False, True),
        ("(drop (table.get (i32.const 0))) (drop (table.size))", False, False),
        ("(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))", False, False),
    ],
)
def test_what_a_snapshot_must_respect_is_seen(
    body: str, changes_tables: bool, drops_segments: bool
) -> None:
    text = f"""(module (table 1 funcref) (memory 1) (data $d "x") (elem $e funcref (ref.null func))
        (func) (func (export "_start") {body}))"""
    assert find_features(module(text)) == ModuleFeatures(
        functions=2,
        loops=0,
        changes_tables=changes_tables,
        drops_segments=drops_segments,
        has_start=False,
    )


def test_a_module_without_code_has_nothing() -> None:
    assert find_features(MAGIC) == ModuleFeatures(0, 0, False, False, False)


def test_a_start_function_is_seen() -> None:
    assert find_features(module("(module (func $f) (start $f))")).has_start


# -- hostile modules --------------------------------------------------------------------------


@given(damaged_guests())
def test_a_damaged_module_is_read_or_refused(data: bytes) -> None:
    for look in (find_features, unsupported_reason, lambda data: walk_functions(data, slowly=True)):
        with suppress(JournalError):
            look(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0asm\2\0\0\0",
        MAGIC + b"\x0a",
        MAGIC + b"\x0a" + b"\xff" * 1000,
        MAGIC + b"\x0a\xff\xff\xff\xff\x0f",
        MAGIC + b"\x0a\x05\xff\xff\xff\xff\x0f",
        MAGIC + b"\x01\x05\xff\xff\xff\xff\x0f",
        MAGIC + b"\x0a\x02\x01\x00",
        of_code(b"\0\x10", MAGIC),
        of_code(b"\0\x42" + b"\x80" * 10 + b"\0\x0b", MAGIC),
        of_code(b"\0\x0e\xff\xff\xff\xff\x0f\x0b", MAGIC),
        of_code(b"\xff\xff\xff\xff\x0f\x0b", MAGIC),
        of_code(b"\0\x0b", MAGIC)[:-3] + b"\x05\0\x0b",
    ],
)
def test_what_does_not_fit_the_format_is_refused(data: bytes) -> None:
    with pytest.raises(ModuleRefused):
        walk_functions(data)


def test_a_large_function_takes_no_memory_of_its_own() -> None:
    text = """if True:
        import tracemalloc
        from journal.engine.wasm import function_bodies
        some = bytes.fromhex("20818000 41ff00 fd0c") + b"x" * 16
        data = b"\\0" + some * 200_000 + b"\\x0b"
        body = function_bodies.FunctionBody(0, 1, len(data), frozenset())
        tracemalloc.start()
        assert list(function_bodies.iter_notable(data, body)) == []
        print(tracemalloc.get_traced_memory()[1])
    """
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1 << 20


def test_locals_are_seen() -> None:
    data = module("(module (func (local i32 i64 funcref)) (func))")
    code = read_module_info(data).code
    assert code is not None
    found: list[FunctionBody] = list(iter_bodies(data, code))
    assert [body.locals for body in found] == [{0x7F, 0x7E, 0x70}, set()]
