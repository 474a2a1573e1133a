"""Parts of the suite about the log without an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from benchmarks import (
    log_appends,
    log_checks,
    log_durable,
    log_field,
    log_forks,
    log_info,
    log_limits,
    log_reads,
    log_sealed,
)
from benchmarks.figures import Figure


class Counts(NamedTuple):
    """Amount of work in one round."""

    events: int
    pages: int
    lookups: int
    commits: int
    mebibytes: int
    starts: int


FULL = Counts(events=500_000, pages=24_576, lookups=5000, commits=1000, mebibytes=128, starts=15)
QUICK = Counts(events=100_000, pages=8192, lookups=1000, commits=100, mebibytes=32, starts=5)


def parts(rounds: int, counts: Counts) -> dict[str, Callable[[], Iterator[Figure]]]:
    """Return all parts by name."""
    events, pages, lookups, commits, mebibytes, starts = counts
    return {
        "log-limits": partial(log_limits.figures, rounds, mebibytes, commits),
        "log-append": partial(log_appends.figures, rounds, events),
        "log-pages": partial(log_appends.pages, rounds, pages),
        "log-read": partial(log_reads.figures, rounds, events, lookups),
        "log-durable-1": partial(log_durable.single, rounds, commits, 1),
        "log-durable-100": partial(log_durable.single, rounds, commits // 2, 100),
        "log-durable-threads": partial(log_durable.threaded, rounds, commits // 4),
        "log-check": partial(log_checks.figures, rounds, events, pages, mebibytes),
        "log-sealed": partial(log_sealed.figures, rounds, events, pages // 4, commits * 4),
        "log-info": partial(log_info.figures, starts, events),
        "log-forks": partial(log_forks.figures, rounds, mebibytes),
    }


def list_absent() -> Iterator[str]:
    """Yield a sentence for each peer that does not take part."""
    yield from log_field.list_absent()
