"""Parts of the suite about snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from benchmarks import snap_find, snap_period, snap_restore, snap_resume, snap_take
from benchmarks.figures import Figure


class Counts(NamedTuple):
    """Amount of work in one round; sizes are in MiB."""

    found_in: int
    taken_of: int
    taken: int
    calls: int
    restored: tuple[int, ...]
    starts: int


FULL = Counts(
    found_in=256, taken_of=64, taken=30, calls=400, restored=(16, 64, 256, 1024), starts=15
)
QUICK = Counts(found_in=256, taken_of=64, taken=10, calls=200, restored=(16, 64), starts=5)


def parts(rounds: int, counts: Counts) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Return all parts by name."""
    made: dict[str, Callable[[], Iterator[Figure]]] = {
        "snap-find": partial(snap_find.figures, rounds, counts.found_in),
        "snap-take": partial(snap_take.figures, rounds, counts.taken_of, counts.taken),
        "snap-period": partial(snap_period.figures, rounds, counts.taken_of, counts.calls),
        "snap-restore": partial(snap_restore.figures, 3 * rounds, counts.restored),
    }
    for name in snap_resume.MILLISECONDS_MAX:
        made[f"snap-resume-{name}"] = partial(snap_resume.figures, name, counts.starts)
    return made
