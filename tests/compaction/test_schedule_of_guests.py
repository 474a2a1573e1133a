"""Guests with scheduled compaction: same results as without, even after kills."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import journal
from journal import OptionError
from journal.compaction import CompactionSchedule, RetentionPolicy
from journal.engine import SnapshotOptions, Stacks
from tests.support.compaction_histories import frames_of
from tests.support.deadlines import wait_until
from tests.support.kill_bench import Bench, bench, compare_run, strace
from tests.support.killed_runs import CACHE, FunctionKill, Place, Plan, Trial
from tests.support.programs import guest
from tests.support.snapshot_runs import check_resumes, finish_run, resume_run, snapshots_in

__all__ = ["bench", "strace"]

SNAPSHOTS = SnapshotOptions(every_events=40, stacks=Stacks.ALWAYS)
LINES = [b"line %d\n" % number for number in range(400)]

#: Functions at which a process is killed during a compaction.
COMPACTING = (
    "journal.compaction.online:compact_online",
    "journal.log.writer:Writer.switch_to",
    "journal.log.switchover:SwitchoverTarget.catch_up",
    "journal.log.switchover:SwitchoverTarget.finish",
    "journal.fs.atomic_file:move_into_place",
    "journal.log.switchover:SwitchoverTarget.close",
)


def test_a_guest_goes_on_while_its_journal_is_compacted_and_from_what_is_left(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    schedule = CompactionSchedule(RetentionPolicy(keep_last=3), every_events=150)
    with journal.record(
        guest("cat"), path, cache=cache_dir, snapshots=SNAPSHOTS, compaction=schedule
    ) as recorder:
        for nth in (1, 2):
            for line in LINES[200 * (nth - 1) : 200 * nth]:
                recorder.feed(line)
            wait_until(lambda n=nth: recorder.stdout.count(b"\n") == 200 * n)  # type: ignore[misc]
            wait_until(lambda n=nth: recorder.compaction_count >= n)  # type: ignore[misc]
        recorder.close_stdin()
        said = b"".join(LINES)
        end = finish_run(recorder)
        assert end.stdout == said
    frames = frames_of(path)
    assert len(frames) < frames[-1].seq - 100
    with journal.Reader(path) as reader:
        assert not list(reader.verify())
    check_resumes(path, end, cache_dir, stdin=said)
    with journal.resume(path, cache=cache_dir) as again:
        assert again.ended_before


def test_a_run_that_is_stopped_is_compacted_when_it_is_closed_and_goes_on(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, schedule = tmp_path / "j", CompactionSchedule(on_close=True)
    with journal.record(
        guest("cat"), path, cache=cache_dir, snapshots=SNAPSHOTS, compaction=schedule
    ) as recorder:
        for line in LINES[:100]:
            recorder.feed(line)
        wait_until(lambda: recorder.stdout.count(b"\n") == 100)
    assert len(snapshots_in(path)) == 1
    with journal.resume(path, cache=cache_dir, stdin=b"".join(LINES)) as recorder:
        end = finish_run(recorder)
    assert end.stdout == b"".join(LINES)


def test_a_run_ends_well_whatever_comes_of_compacting_it(tmp_path: Path, cache_dir: Path) -> None:
    path, notes = tmp_path / "j", list[str]()
    with journal.record(
        guest("exit7"),
        path,
        cache=cache_dir,
        compaction=CompactionSchedule(on_close=True),
        note=notes.append,
    ) as recorder:
        assert finish_run(recorder).outcome.code == 7
        (tmp_path / "gone").mkdir()
        path.rename(tmp_path / "gone" / "j")
    assert notes == ["the journal was not compacted and stays unchanged: No such file or directory"]
    assert frames_of(tmp_path / "gone" / "j")


def test_an_ended_run_that_is_resumed_notes_a_failing_compaction_too(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, notes = tmp_path / "j", list[str]()
    with journal.record(guest("exit7"), path, cache=cache_dir) as recorder:
        finish_run(recorder)
    schedule = CompactionSchedule(on_close=True)
    with journal.resume(path, cache=cache_dir, compaction=schedule, note=notes.append) as again:
        assert again.ended_before
        path.rename(tmp_path / "elsewhere")
    assert notes == ["the journal was not compacted and stays unchanged: No such file or directory"]


def test_what_cannot_be_compacted_is_told_and_the_run_goes_on(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "journal.compaction.worker_process.sys.executable", str(tmp_path / "nothing")
    )
    path, notes = tmp_path / "j", list[str]()
    with journal.record(
        guest("cat"),
        path,
        cache=cache_dir,
        compaction=CompactionSchedule(every_events=10),
        note=notes.append,
    ) as recorder:
        for line in LINES[:20]:
            recorder.feed(line)
        wait_until(lambda: bool(notes))
        recorder.feed(b"and on\n")
        recorder.close_stdin()
        assert finish_run(recorder).stdout == b"".join(LINES[:20]) + b"and on\n"
        assert recorder.compaction_count == 0
    assert "was not compacted" in notes[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]


def test_what_a_page_index_names_stays_so_both_are_refused(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(OptionError, match="a page index and compaction cannot be combined"):
        journal.record(
            guest("cat"),
            tmp_path / "j",
            cache=cache_dir,
            snapshots=SnapshotOptions(page_index=True),
            compaction=CompactionSchedule(factor=2),
        )
    assert not (tmp_path / "j").exists()


# -- killed ----------------------------------------------------------------------------------------


def worker() -> Plan:
    """Return a guest that works with files, input and output."""
    lines = b"".join(b"line %d\n" % number for number in range(20))
    options = ("--snapshot-events", "9", "--compact-events", "60", "--compact-keep", "2")
    arguments = ("/work", "25")
    return Plan(guest("worker"), arguments, lines, place=Place.MEMORY, options=options)


def kill_at(where: str, after: bool, nth: int, bench: Bench, folder: Path) -> int:
    """Kill a recording during a compaction, and its resume, too. Return the number of kills."""
    plan = worker()
    wanted, _, _ = bench.undisturbed(plan)
    trial = Trial(plan, folder / "trial")
    for kill in (FunctionKill(where, nth, after), FunctionKill(where, 1, after), None):
        if trial.session(kill) != -signal.SIGKILL:
            break
    told = f"{where} {after} {nth}\n"
    assert trial.codes[-1] == wanted.code, told + "\n".join(trial.last_words())
    wrong = compare_run(trial, wanted)
    assert not wrong, told + wrong
    ending = trial.ending()
    for info in snapshots_in(trial.journal)[-2:]:
        again = resume_run(trial.journal, info.seq, CACHE, stdin=plan.stdin)
        assert (again.outcome.code, again.stdout) == (ending.code, ending.stdout), told
        assert again.files == ending.files, told
    return trial.kills


@pytest.mark.deep
def test_a_guest_that_is_killed_as_its_journal_is_replaced_leaves_what_one_that_was_not_leaves(
    bench: Bench, tmp_path: Path
) -> None:
    assert kill_at("journal.fs.atomic_file:move_into_place", True, 1, bench, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("where", "after"), [(where, bool(at % 2)) for at, where in enumerate(COMPACTING)]
)
def test_a_guest_may_be_killed_at_any_step_of_compacting_its_journal(
    where: str, after: bool, bench: Bench, tmp_path: Path
) -> None:
    assert kill_at(where, after, 1 + after, bench, tmp_path)
