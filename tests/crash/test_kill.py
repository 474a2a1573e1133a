"""Kill campaign: a guest killed at any moment ends as if nothing had happened.

The seed determines each trial: the options of the run, and the moments of one or more kills while
the guest runs or resumes. A quick version runs with every `make test`, the whole campaign is marked
`deep`.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.budget import Budget
from tests.support.kill_bench import Bench, bench, kill_and_compare, strace
from tests.support.killed_runs import Input, Outputs, Place, Plan
from tests.support.programs import ROOT, guest
from tests.support.run_results import Ending, describe_difference, is_printed_once

__all__ = ["bench", "strace"]


STEPS = 40
BATCH = 10
ORDERS = 16


def worker() -> Plan:
    """A guest of this project: files, time, randomness, input and output at each step."""
    lines = b"".join(b"line %d\n" % number for number in range(STEPS - 10))
    return Plan(guest("worker"), ("/work", str(STEPS)), lines)


def story(quickjs: Path) -> Plan:
    """The script of the demonstration under QuickJS."""
    orders = b"".join(b"order %d\n" % number for number in range(ORDERS))
    copies = ((ROOT / "demo" / "story.js", "/story.js"),)
    arguments = ("--std", "/story.js")
    return Plan(quickjs, arguments, orders, copies=copies, guest_directory="/window")


def vary_plan(plan: Plan, chance: random.Random) -> Plan:
    """The plan with every user option set."""
    return replace(
        plan,
        place=chance.choice(list(Place)),
        outputs=chance.choice(list(Outputs)),
        input=chance.choice(list(Input)),
        durability=chance.choice(["output", "output", "interval", "none"]),
        in_flight=chance.choice(["repeat", "drop"]),
    )


QUICK = [
    ("moments", Outputs.FILES, Place.HOST, Input.FILE, "output", "repeat"),
    ("moments", Outputs.APPEND, Place.MEMORY, Input.PIPE, "output", "repeat"),
    ("moments", Outputs.PIPES, Place.HOST, Input.PIPE, "output", "repeat"),
    ("moments", Outputs.SHARED_APPEND, Place.MEMORY, Input.FILE, "none", "repeat"),
    ("calls", Outputs.FRESH, Place.HOST, Input.FILE, "output", "repeat"),
    ("calls", Outputs.PIPES, Place.MEMORY, Input.FILE, "output", "drop"),
    ("calls", Outputs.SHARED, Place.HOST, Input.PIPE, "interval", "repeat"),
    ("calls", Outputs.FILES, Place.HOST, Input.PIPE, "none", "repeat"),
]


@pytest.mark.parametrize(
    ("aim", "outputs", "place", "source", "durability", "in_flight"),
    [pytest.param(*one, marks=[pytest.mark.deep] * (at % 3 != 2)) for at, one in enumerate(QUICK)],
    ids=[" ".join((aim, kind.value.split(",")[0])) for aim, kind, *_ in QUICK],
)
def test_a_worker_that_is_killed_leaves_what_one_that_was_not_leaves(
    aim: str,
    outputs: Outputs,
    place: Place,
    source: Input,
    durability: str,
    in_flight: str,
    bench: Bench,
    strace: str,
    tmp_path: Path,
) -> None:
    if aim == "calls" and strace:
        pytest.skip(strace)
    plan = replace(
        worker(),
        outputs=outputs,
        place=place,
        input=source,
        durability=durability,
        in_flight=in_flight,
    )
    kill_and_compare(plan, f"quick {aim} {plan}", bench, tmp_path)


@pytest.mark.parametrize("number", range(4))
def test_a_script_that_is_killed_leaves_what_one_that_was_not_leaves(
    number: int, quickjs: Path, bench: Bench, tmp_path: Path
) -> None:
    places = [Place.HOST, Place.MEMORY, Place.HOST, Place.HOST]
    outputs = [Outputs.FILES, Outputs.APPEND, Outputs.PIPES, Outputs.FRESH]
    plan = replace(story(quickjs), place=places[number], outputs=outputs[number])
    kill_and_compare(plan, f"quick story {number}", bench, tmp_path)


def campaign(plan: Plan, name: str, batch: int, bench: Bench, folder: Path, budget: Budget) -> None:
    """Run up to ``BATCH`` trials, each with at least one kill."""
    for number in budget.spend(range(BATCH), 2):
        seed = f"{name} {batch} {number}"
        kill_and_compare(vary_plan(plan, random.Random(seed)), seed, bench, folder)


@pytest.mark.deep
@pytest.mark.parametrize("batch", range(6))
def test_a_worker_may_be_killed_at_any_time(
    batch: int, bench: Bench, tmp_path: Path, budget: Budget
) -> None:
    campaign(worker(), "worker", batch, bench, tmp_path, budget)


@pytest.mark.deep
@pytest.mark.parametrize("batch", range(8))
def test_a_script_may_be_killed_at_any_time(
    batch: int, quickjs: Path, bench: Bench, tmp_path: Path, budget: Budget
) -> None:
    campaign(story(quickjs), "script", batch, bench, tmp_path, budget)


# -- the campaign itself can fail ---------------------------------------------------------------


def test_the_comparison_tells_what_is_not_the_same() -> None:
    ending = Ending(0, b"one\ntwo\n", b"", {"a": b"1", "b": b"a directory"}, {"/c": b"2"})
    assert describe_difference(ending, ending) == ""
    for other, told in (
        (replace(ending, code=1), "ended with 1"),
        (replace(ending, stdout=b"one\none\ntwo\n"), "stdout: 8 bytes wanted, 12 found"),
        (replace(ending, stderr=b"Traceback"), "stderr"),
        (replace(ending, tree={"b": b"a directory"}), "tree: a is missing"),
        (replace(ending, files={"/c": b"2", "/d": b""}), "files: /d is too much"),
        (replace(ending, files={"/c": b"3"}), "files: /c"),
    ):
        assert told in describe_difference(ending, other)


@pytest.mark.parametrize(
    ("sessions", "repeat", "drop"),
    [
        (["aaabbbccc"], True, True),
        (["aaa", "bbbccc"], True, True),
        (["aaa", "aaabbbccc"], True, False),
        (["aaabb", "bbbccc"], True, False),
        (["aaabbb", "", "bbbccc"], True, False),
        (["aaabbb", "", "aaabbbccc"], False, False),
        (["aaabbb", "aaabbbccc"], False, False),
        (["aaa", "ccc"], False, True),
        (["aaab", "ccc"], False, True),
        (["aaabbbcc"], False, False),
        (["aaabbbc", ""], False, True),
        (["aaa", ""], False, False),
        (["", "", "ccc"], False, True),
        (["", "ccc"], False, False),
        (["", "aaabbbccc", "ccc"], True, False),
        (["", "aaabbbccc", "bbbccc"], False, False),
    ],
)
def test_only_the_write_in_flight_may_be_told_twice_or_dropped(
    sessions: list[str], repeat: bool, drop: bool
) -> None:
    writes = [b"aaa", b"bbb", b"ccc"]
    said = [session.encode() for session in sessions]
    assert is_printed_once(b"aaabbbccc", said, writes, False) is repeat
    assert is_printed_once(b"aaabbbccc", said, writes, True) is drop
