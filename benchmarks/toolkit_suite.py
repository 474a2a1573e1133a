"""Parts of the suite about operations on existing journals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from benchmarks import toolkit_online, toolkit_snapshots, toolkit_work
from benchmarks.figures import Figure
from benchmarks.toolkit_journal import FULL_SIZE, Size


class Counts(NamedTuple):
    """Sizes of the two journals: of the service, and of the process with snapshots."""

    size: Size
    mebibytes: int
    snapshots: int


FULL = Counts(size=FULL_SIZE, mebibytes=64, snapshots=100)
QUICK = Counts(size=FULL_SIZE.scale(1 / 20), mebibytes=16, snapshots=20)


def scale_counts(share: float) -> Counts:
    """Return the amount of work multiplied by ``share``."""
    count = max(2, round(FULL.snapshots * share))
    return Counts(size=FULL.size.scale(share), mebibytes=FULL.mebibytes, snapshots=count)


def parts(rounds: int, counts: Counts) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Return all parts by name."""
    size, mebibytes, snapshots = counts
    return {
        "toolkit-compact": partial(toolkit_work.compaction, rounds, size),
        "toolkit-filter": partial(toolkit_work.filters, rounds, size),
        "toolkit-pieces": partial(toolkit_work.pieces, rounds, size),
        "toolkit-export": partial(toolkit_work.lines, rounds, size),
        "toolkit-online": partial(toolkit_online.figures, rounds, size),
        "toolkit-snapshots": partial(toolkit_snapshots.figures, mebibytes, snapshots),
    }


def list_absent() -> Iterator[str]:
    """Yield a sentence for each tool that does not take part."""
    yield from toolkit_snapshots.list_absent()
