"""Forged snapshots with valid digests: a clear error, or a sound run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import ExitKind, RunResult, SnapshotOptions
from journal.errors import EngineError, NotResumable
from journal.events.memory import MemoryPages
from journal.events.snapshots import DescriptorPositions, DirectoryListing, SafePoint, Snapshot
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.snapshots import SnapshotInfo, Trigger
from tests.support.damage import (
    DEEP,
    ENDS,
    PROMPT,
    Change,
    Guest,
    RecordedRun,
    Take,
    drop,
    find_page_ends,
    forge,
    insert,
    is_in,
    record_snapshots,
    resume_damaged,
    set_fields,
    taken,
)
from tests.support.guest_runs import wait_for_end
from tests.support.rewrites import events_of, frames_of
from tests.support.snapshot_runs import snapshots_in
from tests.support.wat import module as wat

__all__ = ["taken"]


def move_positions(event: Any) -> tuple[tuple[int, int], ...]:
    return tuple((fd + 3, position) for fd, position in event.positions)


def huge(event: Any) -> tuple[tuple[int, int], ...]:
    return tuple((fd, (1 << 64) - 1) for fd, _ in event.positions)


LISTING = {"fd": 3, "entries": (b"name",), "inodes": (1,), "kinds": b"\4"}
MEMORY = {"size": 65536, "numbers": (), "kinds": b"", "data": b""}

#: Changes, each with a text that an error or a note must contain.
FORGED: dict[str, tuple[Callable[[SnapshotInfo], Change], str]] = {
    "no such entry": (
        set_fields(SafePoint, entry="nothing"),
        "'nothing': this is not an entry function",
    ),
    "asyncify's entry": (
        set_fields(SafePoint, entry="asyncify_start_unwind"),
        "this is not an entry function",
    ),
    "another function": (set_fields(SafePoint, function="fd_tell"), "stack cannot be rewound"),
    "no such function": (set_fields(SafePoint, function="nonsense"), "stack cannot be rewound"),
    "a loop": (set_fields(SafePoint, function=""), "stack cannot be rewound"),
    "no calls": (set_fields(SafePoint, calls=0), "an impossible call count or clock"),
    "too many calls": (
        set_fields(SafePoint, calls=(1 << 64) - 1),
        "an impossible call count or clock",
    ),
    "a late clock": (
        set_fields(SafePoint, monotonic=(1 << 64) - 1),
        "an impossible call count or clock",
    ),
    "another module's": (set_fields(SafePoint, code=b"x" * 32), "is not available"),
    "no digest": (set_fields(Snapshot, digest=b""), "digest of snapshot"),
    "a short digest": (set_fields(Snapshot, digest=b"short"), "digest of snapshot"),
    "no globals": (drop(GlobalsSet), "lacks its globals or its positions"),
    "fewer globals": (set_fields(GlobalsSet, globals=()), "do not match the globals of the module"),
    "other types": (
        set_fields(GlobalsSet, globals=lambda e: tuple((i, 0x7E, v) for i, _, v in e.globals)),
        "do not match the globals of the module",
    ),
    "no type": (
        set_fields(GlobalsSet, globals=lambda e: tuple((i, 1, v) for i, _, v in e.globals)),
        "do not match the globals of the module",
    ),
    "other globals": (
        set_fields(GlobalsSet, globals=lambda e: tuple((i + 9, t, v) for i, t, v in e.globals)),
        "do not match the globals of the module",
    ),
    "a table": (insert(TableSet(table=0, start=0, functions=(1, 2, 3))), "its tables differ"),
    "half a table": (
        insert(TableSet(table=0, start=5, functions=(1,))),
        "but continues at element 5",
    ),
    "an empty stack": (set_fields(SetThread, call_stack=b""), "stack cannot be rewound"),
    "a stack of zeros": (set_fields(SetThread, call_stack=bytes(4000)), "cannot be rewound"),
    "a stack of ones": (set_fields(SetThread, call_stack=b"\xff" * 4000), "cannot be rewound"),
    "an odd stack": (set_fields(SetThread, call_stack=b"\3" * 1001), "cannot be rewound"),
    "a large stack": (
        set_fields(SetThread, call_stack=b"\1" * ((16 << 20) - 200)),
        "cannot be rewound",
    ),
    "half a stack": (
        set_fields(SetThread, call_stack=lambda e: e.call_stack[: len(e.call_stack) // 2]),
        "cannot be rewound",
    ),
    "a stack twice": (
        set_fields(SetThread, call_stack=lambda e: e.call_stack * 2),
        "cannot be rewound",
    ),
    "a thread": (set_fields(SetThread, id=1), "thread 1; only thread 0 can be resumed"),
    "no positions": (drop(DescriptorPositions), "lacks its globals or its positions"),
    "fewer positions": (
        set_fields(DescriptorPositions, positions=()),
        "positions of 0 descriptors",
    ),
    "other descriptors": (
        set_fields(DescriptorPositions, positions=move_positions),
        "which do not match the",
    ),
    "positions twice": (
        set_fields(DescriptorPositions, positions=lambda e: e.positions * 2),
        "which do not match the",
    ),
    "far positions": (set_fields(DescriptorPositions, positions=huge), "has a stream position of"),
    "a stream's listing": (
        insert(DirectoryListing(**(LISTING | {"fd": 1}))),  # type: ignore[arg-type]
        "which is not an open directory",
    ),
    "a short listing": (
        insert(DirectoryListing(**(LISTING | {"inodes": ()}))),  # type: ignore[arg-type]
        "listing of descriptor 3",
    ),
    "a smaller memory": (set_fields(MemoryPages, size=0), "cannot be resized to 0 bytes"),
    "a huge memory": (set_fields(MemoryPages, size=1 << 33), f"cannot be resized to {1 << 33}"),
    "a part of a page": (
        set_fields(MemoryPages, size=lambda e: e.size + 1),
        "memory size must be a multiple of",
    ),
    "a part of wasm's page": (
        set_fields(MemoryPages, size=lambda e: e.size + 4096),
        "cannot be resized",
    ),
    "another memory": (
        insert(MemoryPages(memory=7, **MEMORY)),  # type: ignore[arg-type]
        "its memories differ",
    ),
    "many memories": (
        insert(*(MemoryPages(memory=100 + i, **MEMORY) for i in range(200))),  # type: ignore[arg-type]
        "more than",
    ),
    "pages that overlap": (
        set_fields(MemoryPages, numbers=lambda e: (1,) * len(e.numbers) or (1, 1)),
        "invalid pages",
    ),
    "pages out of range": (
        set_fields(
            MemoryPages, numbers=lambda e: tuple(number + (1 << 20) for number in e.numbers)
        ),
        "is outside a memory of",
    ),
    "pages of another kind": (
        set_fields(MemoryPages, kinds=lambda e: b"\7" * len(e.kinds)),
        "kind 7",
    ),
    "pages cut short": (set_fields(MemoryPages, data=lambda e: e.data[:-1]), "invalid pages"),
    "too many bytes": (
        set_fields(MemoryPages, data=lambda e: e.data + b"x"),
        "bytes follow the last page",
    ),
}


def forge_snapshot(whole: RecordedRun, name: str, path: Path) -> SnapshotInfo:
    """Forge the last snapshot of a journal that ends with it."""
    info = next(
        one for one in reversed(whole.infos) if one.has_stacks and _has_pages(whole.path, one)
    )

    forge(whole, info, FORGED[name][0], path, digest=not name.endswith("digest"))
    return info


def _has_pages(path: Path, info: SnapshotInfo) -> bool:
    return any(
        frame.tag == MemoryPages.tag and is_in(info, frame) and len(find_page_ends(frame)) > 1
        for frame in frames_of(path)
    )


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_told_in_a_sentence_and_nothing_comes_of_it(
    name: str, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole, path = taken(PROMPT), tmp_path / "forged.journal"
    forge_snapshot(whole, name, path)
    result = resume_damaged(PROMPT, path, cache_dir)
    told = FORGED[name][1]
    if result.error is None:
        assert result.is_like(whole), result
        assert told in " ".join(result.notes)
    else:
        assert isinstance(result.error, EngineError)
        assert told in str(result.error)
        assert not [one for one in events_of(path) if isinstance(one, ENDS)]
    with journal.Reader(path) as reader:
        found = journal.list_snapshots(reader)
        assert len(list(found)) == len(snapshots_in(path))


@pytest.mark.deep
@pytest.mark.parametrize("name", FORGED)
def test_a_forged_snapshot_is_named_when_a_journal_is_verified(
    name: str, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole, path = taken(PROMPT), tmp_path / "forged.journal"
    forge_snapshot(whole, name, path)
    last = snapshots_in(path)[-1].seq
    found = journal.verify_replay(path, cache=cache_dir, from_each_snapshot=True)
    for one in found.checks:
        assert one.matches is (True if one.info.seq != last else one.matches)
    assert found.checks[-1].info.seq == last
    assert found.checks[-1].matches is not True, "it is another than the guest was"
    assert found.checks[-1].reason


@pytest.mark.parametrize("seed", range(20))
def test_a_stack_of_garbage_ends_no_guest(
    seed: int, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    """A stack of the right length may rewind to the same call, with a forged state."""
    chance, path = random.Random(seed), tmp_path / "forged.journal"
    whole = taken(DEEP)
    info = whole.infos[-1]

    def garbled(event: Any) -> bytes:
        return chance.randbytes(len(event.call_stack) + 8 * chance.randrange(3))

    forge(whole, info, set_fields(SetThread, call_stack=garbled), path)
    result = resume_damaged(DEEP, path, cache_dir)
    assert isinstance(result.error, EngineError)
    assert not [one for one in events_of(path) if isinstance(one, ENDS)]
    assert resume_damaged(DEEP, path, cache_dir, reexecute=True).is_like(whole)


def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    one = Guest("tables in a program", program=wat(TABLES), every_events=1)
    whole = record_snapshots(one, tmp_path / "run.journal", cache_dir)
    info = whole.infos[-1]
    for number, (functions, told) in enumerate(
        [
            ((1, 1 << 20), "has no function 1048576, only"),
            ((1,), "has 2 elements, but only 1 in the snapshot"),
            ((1, 2) + (0xFFFFFFFF,) * 3000, "table"),
        ]
    ):
        path = tmp_path / f"{number}.journal"
        forge(whole, info, set_fields(TableSet, functions=functions), path)
        result = resume_damaged(one, path, cache_dir)
        assert isinstance(result.error, NotResumable), result
        assert told in str(result.error)
    path = tmp_path / "none.journal"
    forge(whole, info, drop(TableSet), path)
    assert "its tables differ" in str(resume_damaged(one, path, cache_dir).error)


TABLES = """(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\08\\00\\00\\00\\05\\00\\00\\00said\\n")
    (table $t 2 2000 funcref)
    (elem (i32.const 0) $one $two)
    (elem declare func $say)
    (func $one) (func $two)
    (func $say (drop (call $write
        (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
    (func (export "_start") (local $i i32)
        (loop $again
            (call $say)
            (table.set $t (i32.const 1) (ref.func $say))
            (call_indirect $t (i32.const 1))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 4))))))"""


def test_a_stack_that_no_event_can_have_is_told(tmp_path: Path, cache_dir: Path) -> None:
    module, path = wat(recursion(90_000)), tmp_path / "run.journal"
    limits = journal.engine.Configuration(stack_size=200 << 20)
    snapshots = SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}), every_events=1)
    with (
        journal.record(
            module, path, cache=cache_dir, configuration=limits, snapshots=snapshots
        ) as recorder,
        pytest.raises(EngineError, match="the guest's stack is larger than the limit of"),
    ):
        wait_for_end(recorder)
    with journal.resume(path, cache=cache_dir) as resumed:
        assert wait_for_end(resumed) == RunResult(ExitKind.EXITED, 0)
        assert resumed.stdout == b"deep\n" * 3


def recursion(depth: int) -> str:
    """Return a program with this call depth, and 30 live values in each call.

    The values come from memory that changes, so a compiler cannot compute them again.
    """
    names = [f"$l{number}" for number in range(30)]
    declared = " ".join(f"(local {name} i64)" for name in names)
    given = "\n".join(
        f"(local.set {name} (i64.load (i32.add (local.get $n) (i32.const {64 + 8 * at}))))"
        for at, name in enumerate(names)
    )
    taken = "\n".join(
        f"(local.set $s (i64.add (local.get $s) (local.get {name})))" for name in names
    )
    return f"""(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 3)
        (data (i32.const 0) "\\08\\00\\00\\00\\05\\00\\00\\00deep\\n")
        (func $say (drop (call $write
            (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
        (func $f (param $n i32) (result i64) {declared} (local $s i64)
            {given}
            (i64.store (i32.add (local.get $n) (i32.const 70)) (local.get $l1))
            (if (i32.eqz (local.get $n)) (then (call $say) (return (i64.const 1))))
            (local.set $s (call $f (i32.sub (local.get $n) (i32.const 1))))
            {taken}
            (local.get $s))
        (func (export "_start")
            (call $say) (call $say)
            (i64.store (i32.const 40) (call $f (i32.const {depth})))))"""
