"""Rounds: run the peers in turn, several times, so that all run under the same machine load."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import Measurement, Peer, Plan, measure
from benchmarks.stopwatch import FOLDER, module_folder


def run_interleaved(plans: Sequence[Plan], rounds: int) -> dict[Peer, list[Measurement]]:
    """Run each plan once in each round; every second round runs backwards.

    The first round only warms up. Ends the program if two peers produce different results.
    """
    module_folder()
    runs_by_peer: dict[Peer, list[Measurement]] = {plan.peer: [] for plan in plans}
    for index in range(rounds + 1):
        for plan in plans if index % 2 else reversed(plans):
            measurement = run_alone(plan)
            if index:
                runs_by_peer[plan.peer].append(measurement)
    check_agreement(runs_by_peer)
    return runs_by_peer


def run_alone(plan: Plan) -> Measurement:
    """Make one run in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        return measure(_with_folder(plan, Path(folder)))


def _with_folder(plan: Plan, folder: Path) -> Plan:
    return Plan(
        peer=plan.peer,
        wasm=plan.wasm,
        folder=str(folder),
        arguments=plan.arguments,
        script=plan.script,
        durability=plan.durability,
    )


def check_agreement(runs_by_peer: dict[Peer, list[Measurement]]) -> None:
    """End the program unless all runs have the same exit code, output and files."""
    results = {(run.code, run.digest) for runs in runs_by_peer.values() for run in runs}
    if len(results) > 1 or {code for code, _ in results} != {0}:
        sys.exit(f"the peers do not agree: {results}")
