"""Limits of a strategy at, below and above the need of modules: refused by name, or run.

No configuration ends the process: each is tried in a child process, which tells the trial that
ended it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from journal.engine import ModuleLimits, OnDemand, Pooling
from journal.engine.allocation import KNOBS
from journal.engine.program.module import GuestModule
from journal.engine.program.module_limits import check_limits
from journal.errors import ModuleRefused
from tests.support.allocation_trials import Trial, run_trials
from tests.support.budget import Budget
from tests.support.wat import module

RUN = '(func (export "run") (result i32) (i32.const 7))'
MEMORIES = f"(module (memory 3) (memory 1) {RUN})"
TABLES = f"(module (table 7 funcref) (table 1 funcref) {RUN})"
HEAP = f"(module (global externref (ref.null extern)) {RUN})"
EXCEPTION = """(module (tag $t (param i32)) (func (export "run") (result i32)
    (block $caught (result i32)
        (try_table (catch $t $caught) (throw $t (i32.const 7))) (i32.const 0))))"""
PAGE = 65536

NEEDS = {
    "total_core_instances": (1, 1, MEMORIES),
    "max_memories_per_module": (2, 1, MEMORIES),
    "total_memories": (2, 1, MEMORIES),
    "max_memory_size": (3 * PAGE, PAGE, MEMORIES),
    "max_tables_per_module": (2, 1, TABLES),
    "total_tables": (2, 1, TABLES),
    "table_elements": (7, 1, TABLES),
    "total_gc_heaps": (1, 1, HEAP),
}
"""Knobs with the need of a module, the step to the next value, and the module."""
WITHOUT_NEED = [knob for knob in KNOBS if knob not in NEEDS and knob != "max_core_instance_size"]
"""Knobs that bound nothing of a module: components, stacks, and what is kept after a drop."""

_ROOM = "total_stacks=0,max_memories_per_module=2,max_tables_per_module=2"


def make_strategy(knob: str, value: int) -> str:
    others = [each for each in _ROOM.split(",") if not each.startswith(knob)]
    return "pooling:" + ",".join([*others, f"{knob}={value}"])


RECORD_KNOB = "max_core_instance_size"
REFUSED_POOLS = [
    "total_memories=1048576,memory_reservation=4GiB",
    "total_memories=1000000,max_memory_size=64KiB,memory_guard_size=4GiB",
    "total_tables=1048576,table_elements=4294967295",
    "total_stacks=40000",
    "total_stacks=1048576",
]
ACCEPTED_POOLS = [
    "total_memories=100000,max_memory_size=64KiB,memory_guard_size=0,total_stacks=0",
    "total_memories=1,memory_reservation=64KiB,max_memory_size=64KiB,memory_guard_size=64KiB",
    "total_memories=0,total_tables=0,total_stacks=0,total_gc_heaps=0,total_component_instances=0",
    "total_gc_heaps=1048576,total_tables=1048576,table_elements=1",
    "copy_on_write=false,decommit_batch_size=0,max_unused_warm_slots=4294967295",
    f"linear_memory_keep_resident={1 << 47},table_keep_resident={1 << 47}",
    f"async_stack_keep_resident={1 << 47},max_component_instance_size={1 << 47}",
    f"max_core_instance_size={1 << 47}",
]
ONE_SLOT = "pooling:total_memories=1,total_tables=1,total_stacks=1"
ADDRESSES = 12 << 30
LIMITED, REFUSED = Trial(ONE_SLOT, addresses_max=ADDRESSES), Trial("pooling:total_gc_heaps=999")


def list_needs() -> Iterator[tuple[Trial, str]]:
    """Yield a trial of each knob below, at and above the need, and the pattern of the outcome."""
    for knob, (need, step, text) in NEEDS.items():
        for value in (need - step, need, need + step):
            refusal = f"ModuleRefused: .* has {knob}={value}, but the module needs {need}: "
            yield Trial(make_strategy(knob, value), text), refusal if value < need else "7$"
    for knob in WITHOUT_NEED:
        for value in (0, 1, 1 << 10):
            yield Trial(make_strategy(knob, value), MEMORIES), "7$"
    yield Trial("pooling", EXCEPTION), "7$"
    yield Trial("on-demand", EXCEPTION), "7$"
    for knob in ("total_memories", "total_gc_heaps"):
        refusal = f"ModuleRefused: .* has {knob}=0, but the module needs 1: "
        yield Trial(f"pooling:{knob}=0", EXCEPTION), refusal
    for text in REFUSED_POOLS:
        yield Trial(f"pooling:{text}"), "OptionError: the pool .*lower (one of|total_)"
    for text in ACCEPTED_POOLS:
        yield Trial(f"pooling:{text}"), "7$"


@pytest.fixture(scope="module")
def outcomes(cache_dir: Path) -> dict[Trial, str]:
    """The outcomes of all trials, which one child makes. The last ones have fewer addresses."""
    trials = [*(trial for trial, _ in list_needs()), Trial(make_strategy(RECORD_KNOB, 0), TABLES)]
    trials += [Trial(ONE_SLOT), LIMITED, REFUSED]
    return dict(zip(trials, run_trials(trials, cache_dir), strict=True))


def test_each_pool_refuses_by_name_or_runs(outcomes: dict[Trial, str]) -> None:
    for trial, pattern in list_needs():
        assert re.match(pattern, outcomes[trial]), (trial.strategy, outcomes[trial])


def test_the_record_of_an_instance_must_fit(outcomes: dict[Trial, str], cache_dir: Path) -> None:
    refusal = outcomes[Trial(make_strategy(RECORD_KNOB, 0), TABLES)]
    found = re.search(rf"has {RECORD_KNOB}=0, but the module needs (\d+): the size of", refusal)
    assert found is not None, refusal
    need = int(found[1])
    sizes = (need - 16, need, need + 16)
    trials = [Trial(make_strategy(RECORD_KNOB, size), TABLES) for size in sizes]
    below, *others = run_trials(trials, cache_dir)
    assert f"needs {need}: " in below
    assert others == ["7", "7"]


def test_a_pool_fits_into_the_limit_of_addresses_or_is_refused(
    outcomes: dict[Trial, str],
) -> None:
    assert outcomes[Trial(ONE_SLOT)] == outcomes[LIMITED] == "7"
    reason = rf"OptionError: .*\(ulimit -v\), which is {ADDRESSES} bytes: "
    assert re.match(reason, outcomes[REFUSED]), outcomes[REFUSED]


DECLARATIONS = module("""(module
    (rec (type (func)) (type (struct (field i32)))) (type (func (param i32)))
    (import "m" "f" (func (type 0))) (import "m" "g" (func (type 0)))
    (import "m" "t" (table 9 funcref)) (import "m" "m" (memory 5))
    (import "m" "i" (global i32)) (import "m" "j" (global i64)) (import "m" "k" (global f32))
    (func (type 0)) (func (type 0)) (func (type 0)) (func (type 0))
    (table 3 funcref) (table 2 externref)
    (memory 1) (memory 2) (memory 4) (global i32 (i32.const 1)))""")
DECLARED = {
    "types": 3,
    "imported_functions": 2,
    "imported_tables": 1,
    "imported_memories": 1,
    "imported_globals": 3,
    "functions": 4,
    "tables": 2,
    "memories": 3,
    "globals": 1,
    "table_elements": 9,
    "memory_pages": 5,
}


@pytest.mark.parametrize("name", [each.name for each in fields(ModuleLimits)])
def test_each_limit_of_the_rfc_is_checked_from_the_declarations(name: str) -> None:
    need = DECLARED[name]
    loaded = GuestModule(DECLARATIONS)
    for value in (need, need + 1):
        check_limits(loaded, OnDemand(module_limits=ModuleLimits(**{name: value})))
    limits = ModuleLimits(**{name: need - 1})
    refusal = rf"has module_limits\.{name}={need - 1}, but the module needs {need}: "
    for strategy in (OnDemand(module_limits=limits), Pooling(module_limits=limits)):
        with pytest.raises(ModuleRefused, match=refusal):
            check_limits(loaded, strategy)


@pytest.mark.deep
def test_no_random_pool_aborts_the_process(cache_dir: Path, budget: Budget) -> None:
    """The values of all knobs are random, near powers of two."""
    for round_ in budget.spend(range(1000), 2):
        source = random.Random(round_)
        trials = []
        for _ in range(10):
            knobs = source.sample(KNOBS, source.randint(1, len(KNOBS)))
            values = [max(0, (1 << source.randint(0, 33)) + source.randint(-1, 1)) for _ in knobs]
            options = ",".join(f"{knob}={value}" for knob, value in zip(knobs, values, strict=True))
            trials.append(Trial(f"pooling:{options}", source.choice([MEMORIES, TABLES, HEAP])))
        for outcome in run_trials(trials, cache_dir):
            assert re.match(r"7$|OptionError: |ModuleRefused: the allocation strategy", outcome)
