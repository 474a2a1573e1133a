"""A journal that cannot be resumed is refused in one sentence and is not changed."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal.events.core import ProcessExit
from journal.events.process import Mount
from tests.support.guest_runs import record_output, wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import alter_event, events_of, keep_first, replace_event, rewrite


def test_another_module_than_the_journals_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    record_output("chatty", tmp_path / "j", cache_dir, "10")
    cut = rewrite(tmp_path / "j", tmp_path / "cut", keep_first(-1))
    with pytest.raises(journal.ModuleMismatch, match="is not the recorded module"):
        journal.resume(cut, module=guest("cat"), cache=cache_dir)
    with journal.resume(cut, module=guest("chatty"), cache=cache_dir) as again:
        assert wait_for_end(again).code == 0


def test_a_module_that_is_not_embedded_must_be_where_it_was(
    tmp_path: Path, cache_dir: Path
) -> None:
    module = tmp_path / "program.wasm"
    module.write_bytes(guest("chatty").read_bytes())
    with journal.record(
        module, tmp_path / "j", args=["chatty", "10"], embed=False, cache=cache_dir
    ) as first:
        wait_for_end(first)
        printed = first.stdout
    cut = rewrite(tmp_path / "j", tmp_path / "cut", keep_first(-1))
    module.rename(tmp_path / "moved.wasm")
    with pytest.raises(journal.ModuleMismatch, match="does not contain its module"):
        journal.resume(cut, cache=cache_dir)
    module.write_bytes(guest("cat").read_bytes())
    with pytest.raises(journal.ModuleMismatch, match="is not the recorded module"):
        journal.resume(cut, cache=cache_dir)
    with journal.resume(cut, module=tmp_path / "moved.wasm", cache=cache_dir) as again:
        wait_for_end(again)
        assert again.stdout == printed


def test_a_module_given_as_bytes_must_be_embedded(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(journal.JournalError, match="embedded"):
        journal.record(guest("chatty").read_bytes(), tmp_path / "j", embed=False, cache=cache_dir)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"engine": "another"}, "another"),
        ({"engine_version": "1.0.0"}, "1.0.0"),
        ({"platform": "plan9-vax"}, "plan9-vax"),
        ({"host_revision": 999}, "999"),
        ({"configuration": (("gravity", "9"),)}, "gravity"),
        ({"configuration": (("stack_size", "much"),)}, "much"),
    ],
)
def test_an_engine_that_would_not_give_the_same_run_is_refused(
    change: dict[str, object], told: str, tmp_path: Path, cache_dir: Path
) -> None:
    record_output("chatty", tmp_path / "j", cache_dir, "10")
    other = alter_event(events_of(tmp_path / "j")[0], **change)
    path = rewrite(
        tmp_path / "j", tmp_path / "other", lambda frames: replace_event(frames[:-1], 0, other)
    )
    before = path.read_bytes()
    with pytest.raises(journal.EngineMismatch, match=told):
        journal.resume(path, cache=cache_dir)
    assert path.read_bytes() == before


def test_a_mount_with_a_forged_descriptor_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    record_output("chatty", tmp_path / "j", cache_dir, "10")
    index = next(at for at, each in enumerate(events_of(tmp_path / "j")) if isinstance(each, Mount))
    forged = alter_event(events_of(tmp_path / "j")[index], fd=9)
    path = rewrite(
        tmp_path / "j", tmp_path / "other", lambda frames: replace_event(frames[:-1], index, forged)
    )
    with pytest.raises(journal.NotResumable, match="descriptor 9: it must be 3"):
        journal.resume(path, cache=cache_dir)


def test_a_guest_that_may_have_more_memory_than_is_allowed_is_refused(
    tmp_path: Path, cache_dir: Path
) -> None:
    record_output("chatty", tmp_path / "j", cache_dir, "10")
    cut = rewrite(tmp_path / "j", tmp_path / "cut", keep_first(-1))
    policy = journal.engine.ResourcePolicy(memory_size_max=1 << 20)
    with pytest.raises(journal.ResourceRefused, match="bytes of memory"):
        journal.resume(cut, policy=policy, cache=cache_dir)


def test_a_journal_without_inputs_cannot_be_resumed(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(
        guest("chatty"),
        tmp_path / "j",
        args=["chatty", "1000000000"],  # The guest cannot end before it is stopped.
        level=journal.engine.RecordingLevel.STATE,
        cache=cache_dir,
    ) as first:
        first.stop()
    with pytest.raises(journal.NotResumable, match="level state"):
        journal.resume(tmp_path / "j", cache=cache_dir)


def test_a_journal_of_no_process_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    with journal.Writer(tmp_path / "j") as writer:
        writer.append(ProcessExit(exit_code=0))
    with pytest.raises(journal.NotResumable, match="does not record a process"):
        journal.resume(tmp_path / "j", cache=cache_dir)
    (tmp_path / "text").write_text("no journal at all, but a text of some length" * 4)
    with pytest.raises(journal.NotAJournal):
        journal.resume(tmp_path / "text", cache=cache_dir)
    with pytest.raises(journal.OptionError, match="does not exist"):
        journal.resume(tmp_path / "missing", cache=cache_dir)
    assert not (tmp_path / "missing").exists()


def test_a_journal_that_is_being_written_is_locked(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(guest("cat"), tmp_path / "j", cache=cache_dir) as running:
        with pytest.raises(journal.JournalLocked):
            journal.resume(tmp_path / "j", cache=cache_dir)
        running.close_stdin()
        assert wait_for_end(running).code == 0
    with journal.resume(tmp_path / "j", cache=cache_dir) as again:
        assert again.ended_before


def test_a_journal_that_is_there_is_not_recorded_over(tmp_path: Path, cache_dir: Path) -> None:
    record_output("chatty", tmp_path / "j", cache_dir, "10")
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(journal.OptionError, match="already exists"):
        journal.record(guest("chatty"), tmp_path / "j", cache=cache_dir)
    assert (tmp_path / "j").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
