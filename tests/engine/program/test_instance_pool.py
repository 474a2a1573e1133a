"""Instances of a pool: calls, values, limits, waiting, and what one instance sees of another."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from journal.engine import (
    InstanceAllocationStrategy,
    InstancePool,
    ModuleLimits,
    OnDemand,
    Pooling,
)
from journal.engine.runtime.epoch_ticker import EpochTicker
from journal.errors import EngineError, InstanceTrapped, ModuleRefused, OptionError, PoolFull
from tests.support.deadlines import wait_until
from tests.support.forks import run_in_child
from tests.support.wat import module

MODULE = module("""(module
    (memory (export "memory") 16) (table $t (export "table") 5 funcref)
    (global $g (mut i32) (i32.const 3))
    (data (i32.const 0) "hello") (data (i32.const 70000) "x")
    (func (export "touch") (result i32) (i32.store (i32.const 4096) (i32.const 7))
        (i32.load (i32.const 4096)))
    (func (export "look") (result i32) (i32.load (i32.const 4096)))
    (func (export "count") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1)))
        (global.get $g))
    (func (export "values") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
        (local.get 3) (local.get 2) (local.get 1) (local.get 0))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "extend") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
    (func (export "divide") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
    (func (export "spin") (loop (br 0)))
    (func (export "recurse") (call 8))
    (func (export "nothing")) (func (export "vector") (param v128)))""")
SMALL = Pooling(
    total_core_instances=2,
    total_memories=2,
    total_tables=2,
    total_stacks=2,
    max_memory_size=2 << 20,
    table_elements=10,
    linear_memory_keep_resident=1 << 16,
)


@pytest.fixture(params=[SMALL, OnDemand()], ids=["pooling", "on demand"])
def pool(request: pytest.FixtureRequest, cache_dir: Path) -> Iterator[InstancePool]:
    with InstancePool(MODULE, allocation=request.param, cache=cache_dir) as found:
        yield found


def test_each_call_has_a_new_instance(pool: InstancePool) -> None:
    assert pool.call("touch") == 7
    assert pool.call("look") == 0
    assert [pool.call("count") for _ in range(5)] == [4] * 5
    assert pool.call_many("count", [()] * 3) == [4] * 3


def test_an_instance_keeps_its_state_until_it_is_closed(pool: InstancePool) -> None:
    with pool.instantiate() as instance, pool.instantiate() as other:
        assert [instance.call("count"), instance.call("count"), other.call("count")] == [4, 5, 4]
        assert instance.read(0, 5) == b"hello"
        instance.write(70000, b"yz")
        assert instance.read(70000, 2) == b"yz"
        assert other.read(70000, 2) == b"x\0"
        assert instance.get_memory_size() == 1 << 20
        assert instance.call("grow", 16) == 16
        instance.write((2 << 20) - 1, b"end"[:1])
        assert instance.get_memory_size() == 2 << 20
    with pytest.raises(OptionError, match="the instance is closed"):
        instance.call("count")
    with pool.instantiate() as instance:
        assert instance.read(70000, 2) == b"x\0"


def test_values_keep_their_bits(pool: InstancePool) -> None:
    assert pool.call("values", -1, 1 << 63, 0.5, 0.1) == (0.1, 0.5, -(1 << 63), -1)
    assert pool.call("values", (1 << 32) - 1, -1, 1, 2) == (2.0, 1.0, -1, -1)
    assert pool.call("nothing") is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("values", 1), r"'values' takes \(i32, i64, f32, f64\), got \(1\)"),
        (("values", 1 << 32, 0, 0, 0), "got .4294967296, 0, 0, 0."),
        (("values", 0.5, 0, 0, 0), "got .0.5, 0, 0, 0."),
        (("values", 0, 0, "x", 0), "got .0, 0, 'x', 0."),
        (("nothing", 1), r"'nothing' takes \(\), got \(1\)"),
        (("missing",), "exports no function 'missing'"),
        (("memory",), "exports no function 'memory'"),
        (("vector", 0), "'vector' cannot be called: its values are not all numbers"),
        ((7,), "name must be a text, got 7"),
    ],
)
def test_a_wrong_call_gets_one_sentence(
    pool: InstancePool, arguments: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(OptionError, match=reason):
        pool.call(*arguments)
    assert pool.call("count") == 4


def test_a_trap_ends_only_its_instance(pool: InstancePool) -> None:
    for _ in range(3):
        with pytest.raises(InstanceTrapped, match="integer division by zero") as error:
            pool.call("divide", 0)
        assert "!" in error.value.backtrace
        with pytest.raises(InstanceTrapped, match="stack overflow"):
            pool.call("recurse")
    assert pool.call("divide", 1) == 1


def test_memories_and_tables_grow_to_the_limit_of_the_strategy(cache_dir: Path) -> None:
    limits = ModuleLimits(memory_pages=32, table_elements=10)
    for strategy in (SMALL, OnDemand(module_limits=limits)):
        with InstancePool(MODULE, allocation=strategy, cache=cache_dir) as pool:
            assert pool.call("grow", 16) == 16
            assert pool.call("grow", 17) == -1
            assert pool.call("extend", 5) == 5
            assert pool.call("extend", 6) == -1


KEEPER = """(module (tag $t (param i32)) (table $kept 20000 exnref)
    (func $keep (param $at i32) (local $error exnref)
        (block $caught (result i32 exnref)
            (try_table (catch_ref $t $caught) (throw $t (local.get $at))) (unreachable))
        (local.set $error) (drop) (table.set $kept (local.get $at) (local.get $error)))
    (func (export "keep") (param $count i32) (local $at i32)
        (loop $next (call $keep (local.get $at))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (local.get $count))))))"""
"""Module that keeps so many exceptions at a time."""


def test_the_heap_of_objects_is_full_at_the_same_point(cache_dir: Path) -> None:
    def count_kept(allocation: InstanceAllocationStrategy) -> int:
        with InstancePool(KEEPER.encode(), allocation=allocation, cache=cache_dir) as pool:

            def is_full(count: int) -> bool:
                try:
                    pool.call("keep", count)
                except EngineError as error:
                    return "GC heap out of memory" in str(error)
                return False

            return bisect_left(range(20000), True, key=is_full)

    pooled = count_kept(replace(SMALL, max_memory_size=1 << 16, table_elements=20000))
    assert 0 < pooled < 20000
    assert pooled == count_kept(OnDemand(module_limits=ModuleLimits(memory_pages=1)))


def test_a_full_pool_raises_and_goes_on(cache_dir: Path) -> None:
    with InstancePool(MODULE, allocation=SMALL, cache=cache_dir) as pool:
        with pool.instantiate(), pool.instantiate():
            for _ in range(3):
                with pytest.raises(PoolFull, match="total_core_instances=2 are in use"):
                    pool.call("count")
        assert pool.call_many("count", [()] * 5) == [4] * 5


def test_a_full_pool_waits_for_a_slot(cache_dir: Path) -> None:
    strategy = Pooling(total_core_instances=1, total_memories=1, full_wait_seconds=600)
    with InstancePool(MODULE, allocation=strategy, cache=cache_dir) as pool:
        instance = pool.instantiate()
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda: results.append(pool.call("count"))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: pool._waiting == 3)
        assert results == []
        instance.close()
        for thread in threads:
            thread.join()
        assert results == [4, 4, 4]
        with pool.instantiate():
            short = Pooling(total_core_instances=1, total_memories=1, full_wait_seconds=0.01)
            pool._wait_seconds = short.full_wait_seconds
            with pytest.raises(PoolFull):
                pool.call("count")


def test_a_long_call_ends(cache_dir: Path) -> None:
    with InstancePool(MODULE, allocation=SMALL, seconds_max=0.05, cache=cache_dir) as pool:
        with pytest.raises(InstanceTrapped, match="interrupt"):
            pool.call("spin")
        with pool.instantiate() as instance:
            ticks: list[float] = []
            clock = EpochTicker(lambda: ticks.append(0), 0.1)
            clock.start()
            wait_until(lambda: len(ticks) == 2)  # An open instance may be older than a call.
            clock.close()
            assert instance.call("count") == 4
            with pytest.raises(InstanceTrapped, match="interrupt"):
                instance.call("spin")
        assert pool.call("count") == 4


def test_threads_share_the_slots_of_a_pool(cache_dir: Path) -> None:
    strategy = replace(SMALL, full_wait_seconds=600)
    with InstancePool(MODULE, allocation=strategy, cache=cache_dir) as pool:

        def work() -> None:
            for _ in range(50):
                results.append(pool.call("values", 1, 2, 3, 4))
                results.extend(pool.call_many("values", [(1, 2, 3, 4)] * 5))

        results: list[object] = []
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [(4.0, 3.0, 2, 1)] * 1200


def test_a_module_with_imports_is_refused(cache_dir: Path) -> None:
    data = module('(module (import "a" "b" (func)))')
    with pytest.raises(ModuleRefused, match="the module has imports"):
        InstancePool(data, cache=cache_dir)


def test_a_closed_pool_and_a_forked_child_are_refused(cache_dir: Path) -> None:
    pool = InstancePool(MODULE, allocation=SMALL, cache=cache_dir)
    with pytest.raises(OptionError, match="belongs to another process"):
        run_in_child(lambda: pool.call("count"))
    pool.close()
    pool.close()
    with pytest.raises(OptionError, match="the instance pool is closed"):
        pool.call("count")
