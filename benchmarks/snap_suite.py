"""Parts of the suite about snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from benchmarks import snap_find, snap_period, snap_restore, snap_resume, snap_take
from benchmarks.figures import Figure


class Counts(NamedTuple):
    """Amount of work in one round."""

    find_mebibytes: int
    take_mebibytes: int
    snapshots: int
    calls: int
    restore_mebibytes: tuple[int, ...]
    starts: int


FULL = Counts(
    find_mebibytes=256,
    take_mebibytes=64,
    snapshots=30,
    calls=400,
    restore_mebibytes=(16, 64, 256, 1024),
    starts=15,
)
QUICK = Counts(
    find_mebibytes=256,
    take_mebibytes=64,
    snapshots=10,
    calls=200,
    restore_mebibytes=(16, 64),
    starts=5,
)


def parts(rounds: int, counts: Counts) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Return all parts by name."""
    result: dict[str, Callable[[], Iterator[Figure]]] = {
        "snap-find": partial(snap_find.figures, rounds, counts.find_mebibytes),
        "snap-take": partial(snap_take.figures, rounds, counts.take_mebibytes, counts.snapshots),
        "snap-period": partial(snap_period.figures, rounds, counts.take_mebibytes, counts.calls),
        "snap-restore": partial(snap_restore.figures, 3 * rounds, counts.restore_mebibytes),
    }
    for name in snap_resume.MILLISECONDS_MAX:
        result[f"snap-resume-{name}"] = partial(snap_resume.figures, name, counts.starts)
    return result
