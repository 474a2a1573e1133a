"""Trials of strategies of allocation, in a child process that wasmtime may abort.

The child prints the number of each trial before it begins, and its outcome afterwards. So the
number without an outcome is the trial that ended the process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import ROOT


@dataclass(frozen=True)
class Trial:
    """A strategy as a text, and a module in text form whose function ``run`` is called.

    ``addresses_max`` is the limit of addresses from this trial on.
    """

    strategy: str
    module: str = '(module (func (export "run") (result i32) (i32.const 7)))'
    addresses_max: int | None = None


def run_trials(trials: Sequence[Trial], cache: Path) -> list[str]:
    """Return the outcome of each trial: a result, or the name of an exception and its text."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.allocation_trials", cache],
        cwd=ROOT,
        input=json.dumps([asdict(trial) for trial in trials]),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    lines = done.stdout.splitlines()
    outcomes: list[str] = [json.loads(line) for line in lines[1::2]]
    assert len(outcomes) == len(trials), (trials[len(outcomes)], done.stderr[-500:])
    return outcomes


def _run(trial: Trial, cache: Path) -> str:
    from journal.engine import InstancePool, parse_allocation
    from journal.errors import JournalError

    if trial.addresses_max is not None:
        resource.setrlimit(resource.RLIMIT_AS, (trial.addresses_max, resource.RLIM_INFINITY))
    try:
        strategy = parse_allocation(trial.strategy)
        with InstancePool(trial.module.encode(), allocation=strategy, cache=cache) as pool:
            return str([pool.call("run") for _ in range(2)][1])
    except JournalError as error:
        return f"{type(error).__name__}: {error}"


def _main() -> None:
    for number, values in enumerate(json.load(sys.stdin)):
        print(number, flush=True)
        print(json.dumps(_run(Trial(**values), Path(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    _main()
