"""Field of the log benchmarks: all stores, as far as installed."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.log_levels import Level, Rocks
from benchmarks.log_lmdb import Lmdb, LmdbOneSync
from benchmarks.log_mcap import Mcap
from benchmarks.log_ours import OurCommits, Ours
from benchmarks.log_raw import Raw, RawCommits
from benchmarks.log_sqlite import Sqlite
from benchmarks.log_stores import Appends, Commits, Finds, Reads, Store


def appenders() -> list[Appends]:
    """Return the stores to fill."""
    return [one for one in _all() if isinstance(one, Appends) and one.ways]


def readers() -> list[Reads]:
    """Return the stores to read in order."""
    return [one for one in appenders() if isinstance(one, Reads)]


def finders() -> list[Finds]:
    """Return the stores that find an event by number."""
    return [one for one in readers() if isinstance(one, Finds)]


def committers() -> list[Commits]:
    """Return the stores with durable commits."""
    return [one for one in _all() if isinstance(one, Commits)]


def list_absent() -> Iterator[str]:
    """Return a sentence for each module that is not installed."""
    for name in dict.fromkeys(one.module for one in _known() if not one.installed()):
        yield f"{name} is not installed, and its rows are left out (the extra `bench` has it)"


def _all() -> list[Store]:
    return [one for one in _known() if one.installed()]


def _known() -> list[Store]:
    return [
        Ours(compress=False),
        Ours(compress=True),
        OurCommits(),
        Raw(),
        RawCommits(preallocated=True),
        RawCommits(preallocated=False),
        Lmdb(),
        LmdbOneSync(),
        Rocks(),
        Level(),
        Sqlite(),
        Mcap(compress=False),
        Mcap(compress=True),
    ]
