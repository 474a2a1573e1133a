"""Allocation strategies: the knobs of wasmtime with their defaults, and the text form."""

from __future__ import annotations

from dataclasses import fields

import pytest
from wasmtime import _ffi

from journal.engine import ModuleLimits, OnDemand, Pooling, parse_allocation
from journal.engine.allocation import KNOBS
from journal.errors import OptionError

MIB = 1 << 20


def test_the_knobs_are_those_of_wasmtime() -> None:
    prefix, suffix = "wasmtime_pooling_allocation_config_", "_set"
    names = [name for name in dir(_ffi) if name.startswith(prefix) and name.endswith(suffix)]
    assert sorted(KNOBS) == sorted(name[len(prefix) : -len(suffix)] for name in names)


def test_a_text_gives_each_option_of_a_strategy() -> None:
    text = (
        "pooling:total_memories=10,max_memory_size=64MiB,memory_guard_size=0,copy_on_write=false,"
        "full_wait_seconds=0.5,module_limits.types=7"
    )
    assert parse_allocation(text) == Pooling(
        total_memories=10,
        max_memory_size=64 * MIB,
        memory_guard_size=0,
        copy_on_write=False,
        full_wait_seconds=0.5,
        module_limits=ModuleLimits(types=7),
    )
    assert parse_allocation("on-demand") == OnDemand()
    assert parse_allocation("pooling") == Pooling()


def test_every_option_has_a_text() -> None:
    for kind, name in ((OnDemand, "on-demand"), (Pooling, "pooling")):
        for each in fields(kind):
            value = {"copy_on_write": "true", "memory_reservation": "4GiB"}.get(each.name, "65536")
            if each.name != "module_limits":
                assert isinstance(parse_allocation(f"{name}:{each.name}={value}"), kind)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pool", "'pool' is not an allocation strategy: use on-demand or pooling"),
        ("pooling:total_memorys=3", "no option 'total_memorys': total_memories is similar"),
        ("on-demand:total_memories=3", "strategy on-demand has no option 'total_memories'"),
        ("pooling:total_memories=x", "total_memories must be a number, such as 1000 or 64MiB"),
        ("pooling:total_memories=1TiB", "total_memories must be a number"),
        ("pooling:total_memories", "total_memories must be a number"),
        ("pooling:total_tables=1,total_tables=2", "total_tables is given twice"),
        ("pooling:copy_on_write=1", "copy_on_write must be true or false, got '1'"),
        ("pooling:total_memories=2000000", "must be an integer from 0 to 1048576, got 2000000"),
        ("pooling:max_memory_size=70000", "must be a multiple of 65536 bytes, got 70000"),
        ("pooling:max_memory_size=0", "must be an integer from 65536 to 4294967296, got 0"),
        ("pooling:memory_reservation=1MiB", "must be at least max_memory_size (4294967296)"),
        ("pooling:full_wait_seconds=nan", "full_wait_seconds must be a number of seconds"),
        ("pooling:,", "the allocation strategy pooling has no option ''"),
    ],
)
def test_a_wrong_text_gets_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_allocation(text)
    assert reason in str(error.value)


def test_a_pool_of_many_slots_reserves_only_what_a_memory_can_use() -> None:
    assert Pooling().reservation == 4 << 30
    assert Pooling(total_memories=100_000, max_memory_size=MIB).reservation == MIB
    assert Pooling(total_memories=100_000, memory_reservation=4 << 30).reservation == 4 << 30


def test_module_limits_bound_growth_too() -> None:
    limits = ModuleLimits(memory_pages=3, table_elements=5)
    assert OnDemand(module_limits=limits).memory_size_max == 3 << 16
    assert OnDemand(module_limits=limits).table_elements_max == 5
    assert OnDemand().table_elements_max is None
    assert Pooling(max_memory_size=2 << 16, module_limits=limits).memory_size_max == 2 << 16
    assert Pooling(table_elements=4, module_limits=limits).table_elements_max == 4
