"""Rounds: the peers one after the other, again and again, so that all see the same machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import Measured, Peer, Plan, measure
from benchmarks.stopwatch import FOLDER, modules


def interleaved(plans: Sequence[Plan], rounds: int) -> dict[Peer, list[Measured]]:
    """Run each plan once in each round; every second round goes backwards.

    The first round only warms up. Ends the program where two peers come to other results.
    """
    modules()
    found: dict[Peer, list[Measured]] = {plan.peer: [] for plan in plans}
    for index in range(rounds + 1):
        for plan in plans if index % 2 else reversed(plans):
            measured = alone(plan)
            if index:
                found[plan.peer].append(measured)
    check(found)
    return found


def alone(plan: Plan) -> Measured:
    """One run in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        return measure(_in(plan, Path(folder)))


def _in(plan: Plan, folder: Path) -> Plan:
    return Plan(
        peer=plan.peer,
        wasm=plan.wasm,
        folder=str(folder),
        arguments=plan.arguments,
        script=plan.script,
        durability=plan.durability,
    )


def check(found: dict[Peer, list[Measured]]) -> None:
    """Whoever ran it and whenever: the same code, the same output, the same files."""
    ends = {(one.code, one.digest) for runs in found.values() for one in runs}
    if len(ends) > 1 or {code for code, _ in ends} != {0}:
        sys.exit(f"the peers do not agree: {ends}")
