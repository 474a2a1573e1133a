"""Runs with a strategy of allocation: what is recorded, and which strategies continue exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import journal
from journal.engine import (
    Configuration,
    ExitKind,
    InstanceAllocationStrategy,
    ModuleLimits,
    OnDemand,
    Pooling,
    SnapshotOptions,
    Stacks,
    prepare_module,
)
from journal.engine.configuration import PAGE_SIZE, parse_configuration
from tests.support.command_line import run_inside
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.wat import program

SMALL = Pooling(
    total_core_instances=1,
    total_memories=1,
    total_tables=1,
    total_stacks=0,
    max_memory_size=64 << 20,
    table_elements=100,
)
GROWTH = program(
    """(call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)) (drop)
    (call $exit (i32.add
        (i32.mul (i32.const 16) (i32.eq (memory.grow (i32.const 4)) (i32.const -1)))
        (i32.eq (table.grow $t (ref.null func) (i32.const 4)) (i32.const -1))))""",
    more='(table $t (export "table") 1 funcref)',
)
"""Program that reads, grows its memory and its table, and tells which of it failed."""


def record(
    path: Path, cache: Path, allocation: InstanceAllocationStrategy, module: bytes = GROWTH
) -> int | None:
    with journal.record(module, path, stdin=b"", cache=cache, allocation=allocation) as guest_run:
        return wait_for_end(guest_run).code


@pytest.mark.parametrize(
    ("allocation", "code"),
    [
        (OnDemand(), 0),
        (Pooling(max_memory_size=4 * PAGE_SIZE), 16),
        (Pooling(table_elements=4), 1),
        (OnDemand(memory_reservation=4 * PAGE_SIZE), 16),
        (OnDemand(module_limits=ModuleLimits(memory_pages=4, table_elements=4)), 17),
        (Pooling(max_memory_size=5 * PAGE_SIZE, table_elements=5), 0),
    ],
)
def test_a_replay_with_any_strategy_sees_the_recorded_limits(
    allocation: InstanceAllocationStrategy, code: int, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    assert record(path, cache_dir, allocation) == code
    for other in (OnDemand(), Pooling(table_elements=10_000_000), allocation):
        replayed = journal.verify_replay(path, cache=cache_dir, allocation=other)
        assert replayed.matches
        assert replayed.result is not None
        assert replayed.result.code == code


def test_only_what_a_guest_can_observe_is_recorded(tmp_path: Path, cache_dir: Path) -> None:
    def read_pairs(name: str) -> dict[str, str]:
        with journal.Reader(tmp_path / name) as reader:
            start = next(iter(reader))
        assert isinstance(start, journal.events.process.ProcessStart)
        return dict(start.configuration)

    record(tmp_path / "demand", cache_dir, OnDemand(copy_on_write=False, memory_guard_size=0))
    record(tmp_path / "pool", cache_dir, Pooling(table_elements=7, max_memory_size=5 * PAGE_SIZE))
    plain, pooled = read_pairs("demand"), read_pairs("pool")
    assert plain == dict(Configuration().to_pairs())
    changed = {"memory_size_max": str(5 * PAGE_SIZE), "table_elements_max": "7"}
    assert pooled == plain | changed
    assert parse_configuration(tuple(pooled.items())).table_elements_max == 7


def test_a_strategy_that_gives_less_than_the_recording_is_refused(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    assert record(path, cache_dir, OnDemand()) == 0
    before = path.read_bytes()
    for allocation, limit in (
        (Pooling(max_memory_size=5 * PAGE_SIZE, table_elements=10_000_000), "max_memory_size"),
        (OnDemand(memory_reservation=PAGE_SIZE), "grow a memory to 4294967296 bytes"),
        (Pooling(), "grow a table to 10000000 elements, .* allows 20000: raise table_elements"),
    ):
        with pytest.raises(journal.OptionError, match=limit):
            journal.verify_replay(path, cache=cache_dir, allocation=allocation)
    assert path.read_bytes() == before


@pytest.mark.parametrize("first", [OnDemand(), SMALL], ids=["on demand", "pooling"])
@pytest.mark.parametrize("second", [OnDemand(), SMALL], ids=["on demand", "pooling"])
def test_a_guest_is_restored_with_another_strategy(
    first: InstanceAllocationStrategy,
    second: InstanceAllocationStrategy,
    tmp_path: Path,
    cache_dir: Path,
) -> None:
    path, limits = tmp_path / "j", Configuration(memory_size_max=64 << 20, table_elements_max=100)
    with journal.record(
        guest("cat"),
        path,
        stdin=b"hello\n",
        cache=cache_dir,
        configuration=limits,
        allocation=first,
        snapshots=SnapshotOptions(every_events=1, stop_after=True),
    ) as recorder:
        assert wait_for_end(recorder).kind is ExitKind.STOPPED
    with journal.resume(path, stdin=b"hello\n", cache=cache_dir, allocation=second) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == b"hello\n"
    assert journal.verify_replay(path, cache=cache_dir, allocation=first).matches


def test_a_module_that_does_not_fit_is_refused_before_its_journal(
    tmp_path: Path, cache_dir: Path
) -> None:
    limits = ModuleLimits(imported_functions=2)
    for allocation, limit in (
        (Pooling(max_tables_per_module=0), "has max_tables_per_module=0, but the module needs 1"),
        (OnDemand(module_limits=limits), "has module_limits.imported_functions=2, but the module"),
    ):
        with pytest.raises(journal.ModuleRefused, match=limit):
            record(tmp_path / "j", cache_dir, allocation)
    assert list(tmp_path.iterdir()) == []


def test_prepare_and_a_run_share_the_code_of_a_strategy(tmp_path: Path, cache_dir: Path) -> None:
    strategy = Pooling(memory_guard_size=0, copy_on_write=False)
    first = prepare_module(GROWTH, cache=cache_dir, allocation=strategy)
    assert first.code != prepare_module(GROWTH, cache=cache_dir).code
    assert prepare_module(GROWTH, cache=cache_dir, allocation=strategy).compile_seconds == 0


def test_the_option_of_the_commands_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "grow.wasm").write_bytes(GROWTH)
    small = "pooling:total_core_instances=1,max_memory_size=256KiB"
    done = run_inside("run", "-q", "--allocation", small, "grow.wasm", at=tmp_path)
    assert done.returncode == 16
    for strategy in (small, "on-demand"):
        replay = ("replay", "-q", "--allocation", strategy, "grow.journal")
        assert run_inside(*replay, at=tmp_path).returncode == 0
    for command in ("run", "replay", "prepare"):
        target = "grow.journal" if command == "replay" else "grow.wasm"
        done = run_inside(command, "--allocation", "pooling:slots=3", target, at=tmp_path)
        assert done.returncode != 0
        assert b"has no option 'slots'" in done.stderr
    done = run_inside("resume", "--allocation", "heap", "grow.journal", at=tmp_path)
    assert b"'heap' is not an allocation strategy" in done.stderr


def test_a_guest_frees_its_slot_at_its_end(tmp_path: Path, cache_dir: Path) -> None:
    two = replace(SMALL, total_core_instances=2, total_memories=2, total_tables=2)
    with journal.record(
        guest("cat"),
        tmp_path / "j",
        cache=cache_dir,
        allocation=two,
        snapshots=SnapshotOptions(stacks=Stacks.ALWAYS, every_events=1),
    ) as recorder:
        recorder.feed(b"first\n")
        children = []  # One slot is that of the parent. An ended child is not freed itself.
        for number in range(3):
            [child] = recorder.fork(1, into=tmp_path / f"child {number}")
            children.append(child)
            with child:
                child.close_stdin()
                assert wait_for_end(child).code == 0
        with recorder.fork(1, into=tmp_path / "running")[0] as running:
            assert running.snapshot() is not None, "it has its slot"
            [refused] = recorder.fork(1, into=tmp_path / "refused")
            with refused, pytest.raises(journal.PoolFull, match="core_instances=2 are in use"):
                wait_for_end(refused)
    with journal.resume(refused.path, cache=cache_dir, stdin=b"first\n") as again:
        assert wait_for_end(again).code == 0, "the journal of the refused child is whole"
