"""Options of a pool travel to its workers: they arrive as they were, and no text shows a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import journal
from journal import HostMount
from journal.engine import Grants, ModuleLimits, OnDemand, Pooling, SessionLimits
from journal.engine.pool.pool_options import PoolOptions, read_keys
from journal.log import using_key

OPTIONS = PoolOptions(
    path=Path("/warm.journal"),
    at=7,
    slot_count=3,
    limits=SessionLimits(seconds_max=0.5, memory_size_max=1 << 20),
    is_paranoid=True,
    grants=Grants(directories=[HostMount("/host", "/guest", read_only=True)], module_files=["/m"]),
    secrets={"TOKEN": "a secret"},
    cache=Path("/cache"),
    allocation=OnDemand(memory_guard_size=1 << 20, module_limits=ModuleLimits(tables=2)),
    resident_size_max=1 << 20,
)


def test_options_arrive_as_they_were() -> None:
    assert PoolOptions.from_values(json.loads(json.dumps(OPTIONS.to_values()))) == OPTIONS


def test_no_text_of_the_options_has_a_secret() -> None:
    assert "a secret" not in repr(OPTIONS)


def test_slots_cannot_come_from_a_pooling_allocator() -> None:
    with pytest.raises(journal.OptionError, match="allocation must be OnDemand"):
        journal.Pool("warm.journal", allocation=Pooling())


def test_the_key_of_this_process_travels_with_the_options() -> None:
    key = journal.SealKey.generate()
    assert read_keys() == {"reading_key": "", "writing_key": ""}
    with using_key(key):
        assert read_keys() == {"reading_key": key.serialize().hex(), "writing_key": ""}


@pytest.mark.deep
def test_workers_open_a_sealed_journal(
    waiting_journal: Path, tmp_path: Path, cache_dir: Path
) -> None:
    key = journal.SealKey.generate()
    with using_key(None, writing=key):
        journal.filter(waiting_journal, tmp_path / "sealed.journal", journal.Query())
    with using_key(key):
        pool = journal.Pool(tmp_path / "sealed.journal", workers=1, cache=cache_dir)
    with pool, pool.checkout() as session:
        assert session.run(b"c").stdout == b"1\n"
