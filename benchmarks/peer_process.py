"""Process of one run: `python -m benchmarks.peer_process PLAN` prints its measurement as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

from benchmarks import journal_runs, wasmtime_runs
from benchmarks.peers import Measurement, Peer, Plan

RUNS: dict[Peer, Callable[[Plan], Measurement]] = {
    Peer.RECORDED: journal_runs.record,
    Peer.UNWRITTEN: journal_runs.run_unwritten,
    Peer.WASI: wasmtime_runs.run_plain,
    Peer.WASI_REPEATABLE: wasmtime_runs.run_repeatable,
    Peer.RESUMED: journal_runs.resume,
}


def main() -> None:
    """Run the plan and print its measurement."""
    values = json.loads(sys.argv[1])
    values["peer"] = Peer(values["peer"])
    values["arguments"] = tuple(values["arguments"])
    plan = Plan(**values)
    print(json.dumps(asdict(RUNS[plan.peer](plan))))


if __name__ == "__main__":
    main()
