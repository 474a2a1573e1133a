"""Stores of the log benchmarks that are installed."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.log_levels import Level, Rocks
from benchmarks.log_lmdb import Lmdb, LmdbOneSync
from benchmarks.log_mcap import Mcap
from benchmarks.log_ours import OurCommits, Ours
from benchmarks.log_raw import Raw, RawCommits
from benchmarks.log_sqlite import Sqlite
from benchmarks.log_stores import AppendStore, CommitStore, LookupStore, ReadStore, Store


def appenders() -> list[AppendStore]:
    """Return the stores to fill."""
    return [store for store in _installed_stores() if isinstance(store, AppendStore) and store.ways]


def readers() -> list[ReadStore]:
    """Return the stores to read in order."""
    return [store for store in appenders() if isinstance(store, ReadStore)]


def finders() -> list[LookupStore]:
    """Return the stores that find an event by its sequence number."""
    return [store for store in readers() if isinstance(store, LookupStore)]


def committers() -> list[CommitStore]:
    """Return the stores with durable commits."""
    return [store for store in _installed_stores() if isinstance(store, CommitStore)]


def list_absent() -> Iterator[str]:
    """Yield a sentence for each module that is not installed."""
    for name in dict.fromkeys(store.module for store in _list_stores() if not store.is_installed()):
        yield f"{name} is not installed, so its rows are omitted: install the extra `bench`"


def _installed_stores() -> list[Store]:
    return [store for store in _list_stores() if store.is_installed()]


def _list_stores() -> list[Store]:
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
