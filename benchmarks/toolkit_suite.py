"""The parts of the suite that are about what is made of a journal when it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from benchmarks import toolkit_online, toolkit_snapshots, toolkit_work
from benchmarks.figures import Figure
from benchmarks.toolkit_journal import FULL_SIZE, Size


class Counts(NamedTuple):
    """How large the journals are: that of a service, and the one with snapshots alone."""

    size: Size
    mebibytes: int
    snapshots: int


FULL = Counts(size=FULL_SIZE, mebibytes=64, snapshots=100)
QUICK = Counts(size=FULL_SIZE.scaled(1 / 20), mebibytes=16, snapshots=20)


def scaled(share: float) -> Counts:
    """As much less work as a share says."""
    count = max(2, round(FULL.snapshots * share))
    return Counts(size=FULL.size.scaled(share), mebibytes=FULL.mebibytes, snapshots=count)


def parts(rounds: int, counts: Counts) -> dict[str, Callable[[], Iterator[Figure]]]:
    """All parts by name."""
    size, mebibytes, snapshots = counts
    return {
        "toolkit-compact": partial(toolkit_work.compaction, rounds, size),
        "toolkit-filter": partial(toolkit_work.filters, rounds, size),
        "toolkit-pieces": partial(toolkit_work.pieces, rounds, size),
        "toolkit-export": partial(toolkit_work.lines, rounds, size),
        "toolkit-online": partial(toolkit_online.figures, rounds, size),
        "toolkit-snapshots": partial(toolkit_snapshots.figures, mebibytes, snapshots),
    }


def absent() -> Iterator[str]:
    """A sentence for each tool that does not take part."""
    yield from toolkit_snapshots.absent()
