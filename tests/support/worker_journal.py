"""The journal of a guest that writes files, with snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import Reader
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

ORDERS = b"".join(b"order %d\n" % number for number in range(40))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The journal of a guest that writes files, with snapshots."""
    path = tmp_path_factory.mktemp("recorded") / "run.journal"
    with journal.record(
        guest("worker"),
        path,
        args=["worker", "/work", "6"],
        mounts=[journal.MemoryMount("/work")],
        stdin=ORDERS,
        cache=cache_dir,
        durability=journal.engine.Durability.NONE,
        snapshots=journal.engine.SnapshotOptions(
            on=frozenset({journal.snapshots.Trigger.BOOTSTRAP}), every_events=60
        ),
    ) as recorder:
        assert wait_for_end(recorder).code == 0
    return path


def snapshot_seqs(path: Path) -> list[int]:
    with Reader(path) as reader:
        return [info.seq for info in journal.list_snapshots(reader)]
