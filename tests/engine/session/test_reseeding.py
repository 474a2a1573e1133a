"""Reseeding: a guest that is one of several has its own inputs, and its clock moves on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import SnapshotOptions
from journal.errors import OptionError
from journal.events.process import ParentLink, Reseeded, SessionStart
from journal.format.frame import Frame
from journal.snapshots import Trigger
from tests.support.asking_guest import ask, asking_guest, to_number
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.rewrites import events_of, rewrite

SECOND = 1_000_000_000
AGE_SECONDS = 3600
EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


def record_asked(path: Path, cache: Path, letters: str = "rc") -> list[bytes]:
    """Record a guest that is asked, takes a snapshot and is stopped; return its answers."""
    with journal.record(asking_guest(), path, cache=cache, snapshots=EXPLICIT) as recorder:
        answers = ask(recorder, letters)
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
        return answers


def age(path: Path) -> Path:
    """Return a copy of a journal whose events happened an hour earlier."""

    def shift(frames: list[Frame]) -> list[Frame]:
        return [frame._replace(time=frame.time - AGE_SECONDS * 1_000_000) for frame in frames]

    return rewrite(path, path.with_name(f"{path.name}-old"), shift)


def reseedings_of(path: Path) -> list[Reseeded]:
    return [event for event in events_of(path) if isinstance(event, Reseeded)]


@pytest.mark.parametrize("reseed", [None, False, True])
def test_the_clock_of_a_reseeded_guest_counts_the_time_between_sessions(
    reseed: bool | None, tmp_path: Path, cache_dir: Path
) -> None:
    _, before = record_asked(tmp_path / "j", cache_dir)
    path = age(tmp_path / "j")
    with journal.resume(path, cache=cache_dir, reseed=reseed) as recorder:
        (after,) = ask(recorder, "c", "rc")
    passed = to_number(after) - to_number(before)
    assert (passed >= AGE_SECONDS * SECOND) == bool(reseed)
    assert 0 < passed < 2 * AGE_SECONDS * SECOND
    assert len(reseedings_of(path)) == bool(reseed)
    with journal.resume(path, cache=cache_dir) as recorder:
        (later,) = ask(recorder, "c", "rcc")
    assert to_number(after) < to_number(later) < to_number(after) + AGE_SECONDS * SECOND
    assert len(reseedings_of(path)) == bool(reseed), "a later session is not reseeded again"
    assert journal.verify_replay(path, cache=cache_dir).matches


@pytest.mark.parametrize("reseed", [None, False, True])
def test_a_run_that_continues_in_a_new_journal_is_reseeded_unless_refused(
    reseed: bool | None, tmp_path: Path, cache_dir: Path
) -> None:
    random, before = record_asked(tmp_path / "j", cache_dir)
    path = age(tmp_path / "j")
    answers, generations = [], set()
    for name in ("one", "two"):
        new = tmp_path / name
        with journal.resume(path, into=new, reseed=reseed, cache=cache_dir) as recorder:
            answers.append(ask(recorder, "ckr", "rc"))
        kinds = [type(event) for event in events_of(new)]
        if reseed is not False:
            assert kinds.index(ParentLink) < kinds.index(Reseeded)
            assert Reseeded in kinds[: len(kinds) - kinds[::-1].index(SessionStart)]
        generations |= {event.generation for event in reseedings_of(new)}
        assert journal.verify_replay(new, cache=cache_dir).matches
    assert len(generations) == (0 if reseed is False else 2)
    for clock, known, _ in answers:
        assert known == random, "what the guest knew before the fork is the same in each child"
        passed = to_number(clock) - to_number(before)
        assert (passed >= AGE_SECONDS * SECOND) == (reseed is not False)
    assert answers[0][2] != answers[1][2]
    assert reseedings_of(path) == []


def test_a_crash_after_the_mark_leaves_it_in_force(tmp_path: Path, cache_dir: Path) -> None:
    """A fork, or a resume that was killed before its session, has the mark and no session."""
    _, before = record_asked(tmp_path / "j", cache_dir)
    path = age(tmp_path / "j")
    mark = Reseeded(generation=bytes(16), realtime=1)
    with journal.Writer(path, clock=lambda: 0) as writer:
        writer.append(mark)
    with journal.resume(path, cache=cache_dir) as recorder:
        (after,) = ask(recorder, "c", "rc")
    assert to_number(after) - to_number(before) >= AGE_SECONDS * SECOND
    assert reseedings_of(path) == [mark]


def test_compaction_keeps_each_mark(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    record_asked(path, cache_dir)
    for asked in ("rc", "rcr"):
        with journal.resume(path, cache=cache_dir, reseed=True) as recorder:
            ask(recorder, "r", asked)
            assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    marks = reseedings_of(path)
    assert len(marks) == 2
    journal.compact(path, tmp_path / "small")
    assert reseedings_of(tmp_path / "small") == marks
    with journal.resume(tmp_path / "small", cache=cache_dir) as recorder:
        ask(recorder, "r", "rcrr")


@pytest.mark.parametrize("reseed", ["yes", 1])
def test_another_value_is_refused(reseed: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="reseed must be"):
        journal.resume(tmp_path / "j", reseed=reseed)
