"""Campaigns over recorded runs: crashes at every moment, several at each."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.rigs import api, workloads
from tests.rigs.disk import State, digest, lay_out
from tests.rigs.faults import Fault, Faults
from tests.rigs.promise import Promise, check
from tests.rigs.recorder import Recorder, crash_points

Work = Callable[[Path, api.Plan, Promise, int], None]
NAME = "a.journal"
_MEMORY = Path("/dev/shm")
_MOMENTS_MAX = 200
"""Approximate number of moments tried per run: some runs write byte by byte."""


class Field:
    """An empty directory on the fastest file system, for short-lived journals."""

    def __init__(self) -> None:
        parent = _MEMORY if _MEMORY.is_dir() else None
        self.root = Path(tempfile.mkdtemp(prefix="journal-rigs-", dir=parent)).resolve()
        self._count = 0

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def fresh(self) -> Path:
        """Return an empty directory."""
        self._count += 1
        path = self.root / str(self._count)
        path.mkdir()
        return path


def record(
    field: Field, plan: api.Plan, seed: int, faults: Faults, work: Work = workloads.write
) -> tuple[Recorder, Promise]:
    """Run a workload and record all its system calls."""
    root, promise = field.fresh(), Promise()
    with Recorder(root, faults) as recorder:
        recorder.listen_to(promise)
        work(root / NAME, plan, promise, seed)
    recorder.check()
    promise.listener = None
    shutil.rmtree(root)
    return recorder, promise


def try_states(
    field: Field,
    plan: api.Plan,
    seed: int,
    each: int,
    *faults: Fault,
    work: Work = workloads.write,
    chance: float = 1.0,
) -> int:
    """Crash a recorded run at every moment, in up to ``each`` ways; return the number of crashes.

    Each moment is tried with probability ``chance``. No state is tried twice.
    """
    recorder, promise = record(field, plan, seed, Faults(*faults), work)
    rng = random.Random(seed)
    seen: set[tuple[bytes, int, bool]] = set()
    chance = min(chance, _MOMENTS_MAX / (len(recorder.notes) + 1))
    for number, point in enumerate(crash_points(recorder)):
        if rng.random() >= chance:
            continue
        for _ in range(each):
            state = point.disk.crash(rng)
            key = (digest(state), point.acknowledged, point.created)
            if key in seen:
                continue
            seen.add(key)
            partly = Promise(promise.rows, promise.tried, point.acknowledged, point.created)
            told = f"{plan}, seed {seed}, faults {list(map(str, faults))}, call {number}"
            _try_state(field, state, partly, plan, told)
    return len(seen)


def _try_state(field: Field, state: State, promise: Promise, plan: api.Plan, told: str) -> None:
    root = field.fresh()
    lay_out(state, root)
    copy = {path: content and content.copy() for path, content in state.items()}
    try:
        check(root / NAME, promise, plan)
    except Exception as error:
        error.add_note(f"{told}; left: {_told(copy)}")
        raise
    shutil.rmtree(root)


def _told(state: State) -> str:
    return ", ".join(
        f"{path} of {content.size} bytes" if content else f"{path}/"
        for path, content in state.items()
    )
