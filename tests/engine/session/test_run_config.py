"""One configuration for the sessions of a run: in ``config`` or as keywords."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import journal
from journal.compaction import CompactionSchedule, RetentionPolicy
from journal.engine import ALL_NETWORK, Durability, RunConfig, SnapshotOptions
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest


def test_record_and_resume_take_the_same_configuration(tmp_path: Path, cache_dir: Path) -> None:
    with (tmp_path / "output").open("wb") as stdout:
        config = RunConfig(
            stdin=b"one\ntwo\n", stdout=stdout, cache=cache_dir, durability=Durability.NONE
        )
        with journal.record(guest("cat"), tmp_path / "j", config=config) as recorder:
            wait_for_end(recorder)
        with journal.resume(tmp_path / "j", config=config) as recorder:
            assert recorder.ended_before
    assert (tmp_path / "output").read_bytes() == b"one\ntwo\n"


def test_an_option_in_the_configuration_and_as_a_keyword_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with pytest.raises(journal.OptionError, match="in config and as keywords"):
        journal.record(guest("cat"), path, config=RunConfig(), network=ALL_NETWORK)
    with pytest.raises(journal.OptionError, match="in config and as keywords"):
        journal.resume(path, config=RunConfig(), network=ALL_NETWORK)
    assert not path.exists()


def test_a_configuration_cannot_have_a_page_index_and_compaction() -> None:
    schedule = CompactionSchedule(RetentionPolicy(1), every_events=10)
    with pytest.raises(journal.OptionError, match="cannot be combined"):
        RunConfig(snapshots=SnapshotOptions(page_index=True), compaction=schedule)
    RunConfig(snapshots=SnapshotOptions(page_index=True))


@pytest.mark.parametrize("function", [journal.record, journal.resume])
def test_each_option_of_the_configuration_is_a_keyword_with_the_same_type(
    function: object,
) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    default = RunConfig()
    for option in fields(RunConfig):
        keyword = parameters[option.name]
        assert keyword.annotation == option.type, option.name
        assert keyword.default == getattr(default, option.name), option.name
