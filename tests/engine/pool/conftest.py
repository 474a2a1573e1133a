"""Journal of a guest that waits for commands, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from journal import Pool
from tests.support.obedient_guest import record_waiting


class OpenPool(Protocol):
    """Function that opens a pool of the obedient guest."""

    def __call__(self, **options: Any) -> Pool: ...


@pytest.fixture(scope="session")
def waiting_journal(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """Return the journal of a guest that waits for its first command."""
    return record_waiting(tmp_path_factory.mktemp("pool") / "waiting.journal", cache_dir)


@pytest.fixture
def open_pool(waiting_journal: Path, cache_dir: Path) -> Iterator[OpenPool]:
    """Return a function that opens a pool, in threads of this process unless told otherwise."""
    pools = []

    def open_it(**options: Any) -> Pool:
        values: dict[str, Any] = {"workers": 0, "cache": cache_dir} | options
        pool = Pool(waiting_journal, **values)
        pools.append(pool)
        return pool

    yield open_it
    for pool in pools:
        pool.close(drain=False)
