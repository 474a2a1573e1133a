"""Reseeding: a guest that is one of several has its own inputs, and its clock moves on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import MemoryMount
from journal.engine import FileCopy, SnapshotOptions
from journal.errors import NotResumable, OptionError
from journal.events import codec
from journal.events.definition import Event, field_dict
from journal.events.inputs import HostResult
from journal.events.paths import FilePlaced
from journal.events.process import ParentLink, RecordingLevel, Reseeded, SessionStart
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


# -- the generation file --------------------------------------------------------------------------

FILE = "/run/journal/generation"
PERM = 63


def record_with_file(path: Path, cache: Path, letters: str) -> list[bytes]:
    """Record a guest with a generation file, which is asked and stopped after a snapshot."""
    with journal.record(
        asking_guest(4), path, cache=cache, snapshots=EXPLICIT, generation_file=True
    ) as recorder:
        answers = ask(recorder, letters)
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
        return answers


def content_of(event: Reseeded) -> bytes:
    return f"{event.generation.hex()}\n".encode()


def test_the_generation_file_changes_with_each_reseeding(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    opened, first, again = record_with_file(path, cache_dir, "ogg")
    assert to_number(opened) == 0
    assert first == again
    assert len(bytes.fromhex(first.decode())) == 16
    seen, asked = [first], "ogg"
    for reseed in (True, False, True):
        with journal.resume(path, cache=cache_dir, reseed=reseed) as recorder:
            assert ask(recorder, "g", asked) == [recorder.read_file(FILE)]
            seen.append(recorder.read_file(FILE))
        asked += "g"
    marks = [content_of(event) for event in reseedings_of(path)]
    assert seen == [first, marks[0], marks[0], marks[1]]
    assert journal.verify_replay(path, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir, reexecute=True) as recorder:
        assert ask(recorder, "g", asked) == [marks[1]]
    assert journal.extract_files(path, tmp_path / "files")
    assert (tmp_path / "files" / FILE.lstrip("/")).read_bytes() == marks[1]


def test_a_read_between_two_events_is_replayed_as_it_was(tmp_path: Path, cache_dir: Path) -> None:
    """The guest reads the file just before and just after the fork, with no event in between."""
    path, child = tmp_path / "j", tmp_path / "child"
    *_, before = record_with_file(path, cache_dir, "og")
    with journal.resume(path, into=child, cache=cache_dir) as recorder:
        (after,) = ask(recorder, "g", "og")
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    assert before != after
    journal.compact(child, tmp_path / "small")
    for path in (child, tmp_path / "small"):
        with journal.resume(path, cache=cache_dir) as recorder:
            assert ask(recorder, "g", "ogg") == [after]
    result = journal.verify_replay(child, cache=cache_dir, from_each_snapshot=True)
    assert result.matches
    assert len(result.checks) == 2


def test_children_of_a_running_guest_have_their_own_generations(
    tmp_path: Path, cache_dir: Path
) -> None:
    with (
        journal.record(
            asking_guest(4),
            tmp_path / "j",
            cache=cache_dir,
            snapshots=EXPLICIT,
            generation_file=True,
        ) as parent,
        ExitStack() as stack,
    ):
        _, own = ask(parent, "og")
        children = parent.fork(2, into=tmp_path / "child")
        (same,) = parent.fork(1, into=tmp_path / "same", reseed=False)
        for child in (*children, same):
            stack.enter_context(child)
        contents = [ask(child, "g")[0] for child in children]
        assert ask(same, "g") == ask(parent, "g", "og") == [own]
        assert len({own, *contents}) == 3
        assert [content_of(*reseedings_of(child.path)) for child in children] == contents
        (grandchild,) = children[0].fork(1, into=tmp_path / "grandchild", reseed=False)
        with grandchild:
            assert ask(grandchild, "g") == contents[:1]


def test_the_guest_cannot_change_the_generation_file(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    _, first, *refused, last = record_with_file(path, cache_dir, "ogwtug")
    assert [to_number(answer) for answer in refused] == [PERM] * 3
    assert first == last


def test_a_journal_without_inputs_has_the_newest_generation(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(
        asking_guest(4),
        path,
        cache=cache_dir,
        snapshots=EXPLICIT,
        generation_file=True,
        level=RecordingLevel.STATE,
    ) as recorder:
        ask(recorder, "og")
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    with journal.resume(path, cache=cache_dir, into=tmp_path / "child") as recorder:
        (content,) = ask(recorder, "g", "og")
    assert [content] == [content_of(event) for event in reseedings_of(tmp_path / "child")]


def test_no_copied_file_takes_the_place_of_the_generation_file(
    tmp_path: Path, cache_dir: Path
) -> None:
    for content, name in ((bytes(33), FILE), (b"x", "/run/journal/other")):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(OptionError, match="the mount has one file"):
            journal.record(
                asking_guest(4),
                tmp_path / "j",
                cache=cache_dir,
                generation_file=True,
                copies=[FileCopy(str(tmp_path / "file"), name)],
            )
    with pytest.raises(OptionError, match="used twice"):
        journal.record(
            asking_guest(4),
            tmp_path / "j",
            cache=cache_dir,
            generation_file=True,
            mounts=[MemoryMount("/run/journal")],
        )
    assert not (tmp_path / "j").exists()


def forge(path: Path, kind: type[Event], **fields: Any) -> Path:
    """Return a copy of a journal in which the events of a kind have other values."""

    def change(frames: list[Frame]) -> list[Frame]:
        changed = []
        for frame in frames:
            event = codec.decode(frame.tag, frame.payload)
            if isinstance(event, kind):
                forged = kind(**(field_dict(event) | fields))
                frame = frame._replace(payload=codec.encode(forged))
            changed.append(frame)
        return changed

    return rewrite(path, path.with_name("forged"), change)


@pytest.mark.parametrize("size", [0, 32, 34, 1 << 20])
def test_a_forged_generation_file_is_refused(size: int, tmp_path: Path, cache_dir: Path) -> None:
    record_with_file(tmp_path / "j", cache_dir, "o")
    forged = forge(tmp_path / "j", FilePlaced, data=bytes(size))
    with (
        pytest.raises(NotResumable, match="the mount has one file"),
        journal.resume(forged, cache=cache_dir) as recorder,
    ):
        recorder.wait(DEADLINE_SECONDS)


def test_a_forged_read_of_the_generation_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    record_with_file(tmp_path / "j", cache_dir, "og")
    forged = forge(tmp_path / "j", HostResult, value=bytes(1 << 20))
    with (
        pytest.raises(NotResumable, match="recorded read of the generation"),
        journal.resume(forged, cache=cache_dir, reexecute=True) as recorder,
    ):
        recorder.wait(DEADLINE_SECONDS)
