"""The compiled build behaves as the plain build: its own code agrees with construct. A build is
plain unless a compiled build is requested, and a requested build that cannot be compiled fails.

What is compiled from the same source is held by the whole suite, run on it (``make
test-compiled``). Here is what only the compiled build uses, and how it is built.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import LimitExceeded, MalformedEvent
from journal.events import BY_TAG, codec, descriptors, inputs, memory
from journal.events.definition import Event, field_dict, field_values
from journal.events.wire_types import PAYLOAD_SIZE_MAX
from journal.format import block
from journal.format.block import Block, BlockPlacement, Frames, PackedFrames
from journal.format.columns import (
    BLOCK_SIZE_TARGET,
    COLUMNS_SIZE_PER_EVENT,
    PAGES_SIZE_TARGET,
    are_ends_valid,
    measure_payloads,
    split_payloads,
)
from tests.support.build_trees import copy_build_tree, run_setup
from tests.support.strategies import events_of

HAS_COMPILER = (
    shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
)
HAS_LIBRT = importlib.util.find_spec("librt") is not None
needs_librt = pytest.mark.skipif(not HAS_LIBRT, reason="librt, which comes with mypy, is missing")
needs_compiler = pytest.mark.skipif(
    not HAS_COMPILER, reason="there is no C compiler, or the headers of Python are missing"
)
PLACE = BlockPlacement(
    salt=99, first_seq=5, offset=128, previous_end=128, previous_hash=7, durable_upto=0
)
KINDS = [pytest.param(cls, id=cls.__name__) for cls in BY_TAG.values()]
PLAIN = [pytest.param(cls, id=cls.__name__) for cls in BY_TAG.values() if codec.row_codes(cls)]
WRITE = descriptors.FileDescriptorWrite


def pack_rows(cls: type[Event], rows: Sequence[Any]) -> list[list[bytes]]:
    """Pack rows with the batch packer, which is compiled in the compiled build."""
    from journal.events._native.batch_packer import BatchPacker

    packer = BatchPacker(codec.row_codes(cls), codec.make_packer(cls))
    found, start = [], 0
    while start < len(rows):
        start = packer.add(list(rows), start)
        assert packer.is_full() or start == len(rows)
        raw, ends, count = packer.take()
        found.append(split_payloads(raw, len(raw), ends, count))
    return found


def payloads_of(packed: PackedFrames) -> list[bytes]:
    assert are_ends_valid(packed.ends, len(packed.raw))
    payloads = split_payloads(packed.raw, len(packed.raw), packed.ends, packed.frame_count)
    assert len(payloads) == packed.frame_count
    return payloads


def size_in_block(payloads: Sequence[bytes]) -> int:
    return sum(map(len, payloads)) + COLUMNS_SIZE_PER_EVENT * len(payloads)


@pytest.mark.parametrize("cls", KINDS)
@given(st.data())
def test_rows_of_every_kind_are_packed_as_construct_builds_them(
    cls: type[Event], data: st.DataObject
) -> None:
    events = data.draw(st.lists(events_of(cls), max_size=4))
    expected = [cls.layout.build(field_dict(event)) for event in events]
    rows = [field_values(event) for event in events]
    found = list(codec.pack_rows(cls, iter(rows), 17))
    assert [payload for packed in found for payload in payloads_of(packed)] == expected
    assert {(packed.tags, packed.time_first) for packed in found} <= {(bytes([cls.tag]), 17)}
    if HAS_LIBRT and codec.row_codes(cls):
        assert [payload for part in pack_rows(cls, rows) for payload in part] == expected


def test_the_kinds_that_come_in_masses_are_plain() -> None:
    assert len(PLAIN) > 30
    for cls in (inputs.ClockRead, inputs.RandomBytes, WRITE, memory.UpdateMemoryRegion):
        assert codec.row_codes(cls), cls


@needs_librt
@pytest.mark.parametrize("cls", PLAIN)
@given(st.data())
def test_a_value_that_is_not_plain_is_left_to_the_packer_of_its_kind(
    cls: type[Event], data: st.DataObject
) -> None:
    numbers = [-1, 2**8, 2**16, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, -(2**31) - 1, -(2**63)]
    others = [
        None,
        True,
        1.5,
        "text",
        "\ud800",
        b"bytes",
        bytearray(b"array"),
        memoryview(b"v"),
        (),
    ]
    odd = st.sampled_from([*numbers, *others])
    row = list(field_values(data.draw(events_of(cls))))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(odd)
    before = field_values(data.draw(events_of(cls)))
    try:
        expected = codec.make_packer(cls)(*row)
    except Exception as error:
        with pytest.raises(type(error)):
            pack_rows(cls, [before, tuple(row)])
    else:
        first = codec.make_packer(cls)(*before)
        assert pack_rows(cls, [before, tuple(row), before]) == [[first, expected, first]]


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_librt), False])
def test_packed_blocks_are_full_but_for_the_last(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(codec, "NATIVE", native)
    rows = [(3, n * 9, True, b"x" * (n % 300)) for n in range(3000)]
    found = list(map(payloads_of, codec.pack_rows(WRITE, rows, 5)))
    assert [payload for part in found for payload in part] == [
        codec.make_packer(WRITE)(*row) for row in rows
    ]
    assert len(found) > 5
    for part in found:
        assert size_in_block(part[:-1]) < BLOCK_SIZE_TARGET
    for part in found[:-1]:
        assert size_in_block(part) >= BLOCK_SIZE_TARGET


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_librt), False])
@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ((3, 2**64, True, b""), MalformedEvent),
        ((3, 0, True, "text"), MalformedEvent),
        ((3, 0, True), MalformedEvent),
        ((3, 0, True, bytes(PAYLOAD_SIZE_MAX)), LimitExceeded),
    ],
)
def test_a_row_that_does_not_fit_comes_after_the_blocks_before_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, row: tuple[Any, ...], kind: type[Exception]
) -> None:
    monkeypatch.setattr(codec, "NATIVE", native)
    good = [(3, 0, True, bytes(983))] * 200
    found = codec.pack_rows(WRITE, [*good, row, *good], 5)
    full = next(found), next(found), next(found)
    assert sum(packed.frame_count for packed in full) > 180
    with pytest.raises(kind):
        next(found)


@given(st.lists(st.binary(max_size=40), max_size=30), st.data())
def test_a_block_reads_one_or_some_as_it_reads_all(
    payloads: list[bytes], data: st.DataObject
) -> None:
    count = len(payloads)
    tags = data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    steps = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    holes = data.draw(st.none() | st.lists(st.integers(1, 9), min_size=count, max_size=count))
    times = list(accumulate(steps, initial=100))[1:]
    numbers = None if holes is None else list(accumulate(holes, initial=4))[1:]
    packer = block.make_compressor() if data.draw(st.booleans()) else None
    place = PLACE if not numbers else PLACE._replace(first_seq=numbers[0])
    raw, header = block.encode(place, Frames(tags, payloads, times), packer, numbers, 100)
    found = Block(header, raw[block.BLOCK_HEADER_SIZE :], header.first_seq, 128)
    found.check()
    rows = list(zip(found.seqs, tags, payloads, strict=True))
    assert list(found.rows()) == rows
    for index in range(count):
        one = (found.seq(index), found.tags[index], found.payload(index))
        assert one == rows[index]
        assert found.time(index) == times[index]
        assert found.index(found.seq(index)) == index
    assert found.index(found.first_seq - 1) is None
    assert found.index(found.first_seq + 1000) is None
    for wanted in ({1}, {2, 4}, {1, 2, 3, 4}, {77}, set[int]()):
        indices = found.select(wanted)
        assert indices == [index for index, tag in enumerate(tags) if tag in wanted]
        assert list(found.rows(indices)) == [rows[index] for index in indices]


@given(st.lists(st.binary(max_size=9) | st.just(bytes(40_000)), min_size=1, max_size=40))
def test_a_block_takes_what_fills_it(payloads: list[bytes]) -> None:
    tags = [1 + n % 5 for n in range(len(payloads))]
    sizes = measure_payloads(payloads)
    start = 0
    while start < len(payloads):
        packed, stop = block.pack_block(bytes(tags), payloads, sizes, start, 9)
        assert stop == block.find_block_end(payloads, start)
        assert payloads_of(packed) == payloads[start:stop]
        assert list(packed.tags) in (tags[start:stop], tags[start:stop][:1])
        pages = set(map(len, payloads[start : start + 7])) == {40_000}
        target = PAGES_SIZE_TARGET if pages else BLOCK_SIZE_TARGET
        assert size_in_block(payloads[start : stop - 1]) < target
        assert stop == len(payloads) or size_in_block(payloads[start:stop]) >= target
        same = block.encode(PLACE, Frames(tags[start:stop], payloads[start:stop], [9]))
        assert block.encode(PLACE, packed) == same
        start = stop


def test_a_payload_that_no_block_takes_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        block.find_block_end([b"x"] * 3 + [bytes(PAYLOAD_SIZE_MAX + 1)])
    assert block.find_block_end([bytes(PAYLOAD_SIZE_MAX)] * 2) == 1


def test_parts_are_the_block() -> None:
    for size in (0, 10, 5000, 70_000):
        frames = Frames([3], [os.urandom(size)] * 2, [7])
        parts, header = block.encode_parts(PLACE, frames)
        assert (b"".join(parts), header) == block.encode(PLACE, frames)
        assert sum(map(len, parts)) == header.size


# -- the build ---------------------------------------------------------------------------------


def build(target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a copy of the tree into ``target``, as pip does."""
    folders = [f"--build-base={target / 'base'}", f"--build-lib={target / 'lib'}"]
    return run_setup(copy_build_tree(target / "tree"), "build", *folders, **environment)


def compiled_names(target: Path, done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the names of the compiled modules of a build that must have succeeded."""
    assert done.returncode == 0, done.stderr
    assert (target / "lib" / "journal" / "format" / "block.py").exists()
    return {path.name.split(".")[0] for path in (target / "lib").rglob("*.so")}


def assert_refused(target: Path, done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Check that a build failed with one sentence, and built nothing that could be installed."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (sentence,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert sentence == done.stderr.splitlines()[-1]
    assert reason in sentence
    assert sentence.endswith("; unset JOURNAL_COMPILED to build pure Python")
    assert not list((target / "lib").rglob("*.so"))


@pytest.mark.parametrize("environment", [{}, {"JOURNAL_COMPILED": "0"}, {"JOURNAL_COMPILED": ""}])
def test_a_build_is_plain_and_calls_no_compiler_unless_one_is_requested(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    calls, compiler = tmp_path / "calls", tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec cc "$@"\n')
    compiler.chmod(0o755)
    done = build(tmp_path, CC=str(compiler), **environment)
    assert compiled_names(tmp_path, done) == set()
    assert not calls.exists()


def test_without_a_compiler_a_plain_build_is_silent(tmp_path: Path) -> None:
    done = build(tmp_path, CC=str(tmp_path / "none"))
    assert compiled_names(tmp_path, done) == set()
    assert str(tmp_path / "none") not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_compiled_build_without_a_compiler_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, CC=str(tmp_path / "none"), JOURNAL_COMPILED="1")
    assert_refused(tmp_path, done, "a C compiler and the headers of Python are needed")


def test_an_unknown_value_of_the_switch_is_refused(tmp_path: Path) -> None:
    done = build(tmp_path, JOURNAL_COMPILED="yes")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "error: JOURNAL_COMPILED must be 0 or 1, got 'yes'"


@needs_compiler
@pytest.mark.deep
def test_a_compiler_that_fails_half_way_ends_a_compiled_build(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *probe.c*) exec cc "$@" ;; esac\nexit 1\n')
    compiler.chmod(0o755)
    done = build(tmp_path, CC=str(compiler), JOURNAL_COMPILED="1")
    assert_refused(tmp_path, done, "the compiler failed")


@needs_compiler
@pytest.mark.deep
def test_a_requested_build_compiles_the_hot_part(tmp_path: Path) -> None:
    compiled = compiled_names(tmp_path, build(tmp_path, JOURNAL_COMPILED="1"))
    assert {"_compiled", "block", "block_encoder", "block_header", "columns"} <= compiled
    assert {"batch_packer", "codec", "descriptor_table", "memory_backend"} <= compiled
    assert {"dependency_graph", "fast_path", "file_provenance", "interval_map"} <= compiled
    assert {"descriptor_provenance", "seq_bitset"} <= compiled
    code = "import journal; from journal.events import codec; "
    code += "print(journal.is_compiled, codec.NATIVE)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 2, done.stderr
