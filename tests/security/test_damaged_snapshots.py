"""Torn or corrupted snapshots are detected, skipped, and never used."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.engine import ExitKind, RecordingLevel, RunResult, SnapshotOptions
from journal.engine.program import binaryen
from journal.errors import Divergence, EngineError, NotResumable
from journal.events import codec
from journal.events.process import InstrumentedPart, ProcessStart
from journal.events.snapshots import SafePoint
from journal.events.threads import GlobalsSet
from journal.snapshots import SnapshotInfo
from tests.support.budget import Budget
from tests.support.damage import (
    CLOCKS,
    COMMANDS,
    DEEP,
    ENDS,
    GROWING,
    HEARING,
    MEMORIES,
    PROMPT,
    Change,
    Frames,
    Guest,
    RecordedRun,
    Take,
    check_replay,
    flip_page_bit,
    flip_payload_bit,
    is_in,
    is_mentioned,
    journal_events,
    keep_little_after,
    keep_upto,
    recompute_digests,
    resume_damaged,
    snapshot_options,
    taken,
)
from tests.support.programs import guest
from tests.support.rewrites import alter_event, events_of, frames_of, keep_first, rewrite
from tests.support.snapshot_runs import snapshots_in

__all__ = ["taken"]


def test_digests_made_by_the_words_of_the_spec_are_those_that_were_recorded(taken: Take) -> None:
    for one in (PROMPT, MEMORIES, GROWING):
        frames = frames_of(taken(one).path)
        assert list(recompute_digests(frames)) == frames


# -- torn ------------------------------------------------------------------------------------------


def block_of(path: Path, info: SnapshotInfo) -> tuple[int, int]:
    """Return the start and end offsets of the blocks of a snapshot."""
    assert info.first_seq is not None
    start = end = 0
    with journal.Reader(path) as reader:
        for block in reader.blocks():
            if info.first_seq in block.seqs:
                start = block.header.offset
            if info.seq in block.seqs:
                end = block.header.end
    assert 0 < start < end
    return start, end


def check_cut(one: RecordedRun, info: SnapshotInfo, size: int, cache: Path) -> None:
    """Truncate the journal to a size, and resume it."""
    path = one.path.with_name("cut.journal")
    path.write_bytes(one.path.read_bytes()[:size])
    there = [found.seq for found in snapshots_in(path)]
    known = [found.seq for found in one.infos if found.seq < info.seq]
    assert there in (known, [*known, info.seq]), "half a snapshot is none"
    found = resume_damaged(one.guest, path, cache, snapshots=snapshot_options(one.guest))
    assert found.is_like(one), f"cut after {size} bytes: {found}"
    assert found.notes == []
    infos = snapshots_in(path)
    assert [one.seq for one in infos[: len(there)]] == there
    path.unlink()


def cuts_of(one: RecordedRun, info: SnapshotInfo) -> range:
    start, end = block_of(one.path, info)
    return range(start, end + 1)


def test_a_snapshot_that_was_torn_is_none(taken: Take, cache_dir: Path) -> None:
    for one in (taken(PROMPT), taken(MEMORIES)):
        cuts = cuts_of(one, one.infos[2])
        for size in [*cuts[:: max(1, len(cuts) // 20)], cuts[-1], cuts[-2]]:
            check_cut(one, one.infos[2], size, cache_dir)


@pytest.mark.deep
def test_a_snapshot_may_be_torn_at_any_byte(taken: Take, cache_dir: Path, budget: Budget) -> None:
    one = taken(PROMPT)
    for info in one.infos[2:3]:
        for size in budget.spend(list(cuts_of(one, info)), 20):
            check_cut(one, info, size, cache_dir)


@pytest.mark.deep
def test_a_large_snapshot_may_be_torn_anywhere(taken: Take, cache_dir: Path) -> None:
    for one in (taken(GROWING), taken(Guest("bulk", ("20",), every_events=2))):
        for number, info in enumerate(one.infos[:4]):
            cuts = cuts_of(one, info)
            for size in sorted(random.Random(number).choices(cuts, k=15)):
                check_cut(one, info, size, cache_dir)


@pytest.mark.parametrize("one", [PROMPT, CLOCKS, GROWING], ids=lambda one: one.name)
def test_a_run_goes_on_from_a_snapshot_that_nothing_follows(
    one: Guest, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole = taken(one)
    for number, info in enumerate(whole.infos[:5]):
        path = rewrite(whole.path, tmp_path / f"{number}.journal", keep_upto(info))
        assert resume_damaged(one, path, cache_dir, snapshots=snapshot_options(one)).is_like(whole)
    check_replay(path, cache_dir)


def test_snapshots_taken_twice_of_one_call_are_all_compared(
    taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole = taken(CLOCKS)
    path = rewrite(whole.path, tmp_path / "run.journal", keep_upto(whole.infos[3]))
    for _ in range(3):
        snapshots = SnapshotOptions(on=HEARING, stop_after=True)
        ended = resume_damaged(CLOCKS, path, cache_dir, reexecute=True, snapshots=snapshots)
        assert ended.outcome == RunResult(ExitKind.STOPPED)
    calls = [info.calls for info in snapshots_in(path)[3:]]
    assert calls == calls[:1] * 4
    assert resume_damaged(CLOCKS, path, cache_dir).is_like(whole)
    check_replay(path, cache_dir)


# -- flipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_of_memory_is_noticed_and_the_snapshot_before_is_taken(
    seed: int, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    chance = random.Random(seed)
    whole = taken(chance.choice([PROMPT, MEMORIES, DEEP, CLOCKS]))
    number = chance.randrange(1, min(len(whole.infos), 6))
    info = whole.infos[number]
    path = rewrite(
        whole.path,
        tmp_path / "flipped.journal",
        lambda frames: flip_page_bit(list(keep_little_after(info)(frames)), info, chance),
    )
    found = journal.verify_replay(path, cache=cache_dir, from_each_snapshot=True)
    assert [one.info.seq for one in found.checks if one.matches is False] == [info.seq]
    assert not found.matches
    (bad,) = [one for one in found.checks if one.matches is False]
    assert "digest" in bad.reason
    result = resume_damaged(whole.guest, path, cache_dir)
    assert result.is_like(whole), result
    (note,) = result.notes
    assert note == (
        f"the digest of snapshot {info.seq} does not match: its state is damaged; "
        "an earlier snapshot is used"
    )


def test_where_all_snapshots_are_damaged_the_guest_is_executed_from_its_start(
    taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole = taken(PROMPT)

    def change(frames: Frames) -> Frames:
        for index, frame in enumerate(frames[:-1]):
            if frame.tag == GlobalsSet.tag:
                frames = flip_payload_bit(frames, index, 8 * (len(frame.payload) - 16))
        return frames[:-1]

    path = rewrite(whole.path, tmp_path / "flipped.journal", change)
    seqs = [info.seq for info in whole.infos]
    found = journal.verify_replay(path, cache=cache_dir, from_each_snapshot=True)
    assert [one.info.seq for one in found.checks if one.matches is False] == seqs
    result = resume_damaged(PROMPT, path, cache_dir, snapshots=snapshot_options(PROMPT))
    assert result.is_like(whole)
    assert len(result.notes) == len(seqs)
    assert all(map(is_mentioned, seqs, [result.notes] * len(seqs)))


@given(st.integers(min_value=0), st.integers(min_value=0), st.integers(min_value=0))
def test_whatever_bit_of_a_snapshot_is_flipped_the_end_is_the_same_or_an_error(
    taken: Take, cache_dir: Path, number: int, event: int, bit: int
) -> None:
    whole = taken(PROMPT)
    info = whole.infos[number % len(whole.infos)]

    def change(frames: Frames) -> Frames:
        indexes = [at for at, frame in enumerate(frames) if is_in(info, frame)]
        return flip_payload_bit(keep_little_after(info)(frames), indexes[event % len(indexes)], bit)  # type: ignore[arg-type]

    path = whole.path.with_name("flipped.journal")
    path.unlink(missing_ok=True)
    rewrite(whole.path, path, change)
    ended = [type(one) for one in journal_events(path) if isinstance(one, ENDS)]
    result = resume_damaged(PROMPT, path, cache_dir)
    if result.error is not None:
        assert not isinstance(result.error, Divergence)
        assert [type(one) for one in journal_events(path) if isinstance(one, ENDS)] == ended
    else:
        assert result.is_like(whole), result


# -- other engines and other tools -----------------------------------------------------------------


def with_start(**changes: Any) -> Change:
    """Return a change of the ProcessStart event."""

    def change(frames: Frames) -> Frames:
        event = codec.decode(frames[0].tag, frames[0].payload)
        assert isinstance(event, ProcessStart)
        values = {name: new(event) if callable(new) else new for name, new in changes.items()}
        frame = frames[0]._replace(payload=codec.encode(alter_event(event, **values)))
        return [frame, *frames[1:-1]]

    return change


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "another"},
        {"engine_version": "1.0.0"},
        {"platform": "plan9-vax"},
        {"host_revision": 999},
        {"configuration": (("gravity", "9"),)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_snapshots_are_of_no_use_to_another_engine(
    changes: dict[str, Any], taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    path = rewrite(taken(PROMPT).path, tmp_path / "other.journal", with_start(**changes))
    before = path.read_bytes()
    assert isinstance(resume_damaged(PROMPT, path, cache_dir).error, journal.EngineMismatch)
    with pytest.raises(journal.EngineMismatch):
        journal.verify_replay(path, cache=cache_dir)
    assert [frame[:3] for frame in frames_of(path)] == [
        frame[:3] for frame in frames_of(rewrite(path, tmp_path / "same.journal"))
    ]
    assert path.read_bytes()[: len(before)] == before


def other_tool(event: Any) -> tuple[tuple[str, str], ...]:
    told = dict(event.configuration)
    assert told["instrumentation"]
    return tuple((told | {"instrumentation": "icpp-binaryen 999"}).items())


def other_code(frames: Frames) -> Frames:
    """Return a change to an instrumented module that this machine cannot produce."""
    found = []
    for frame in with_start(configuration=other_tool)(frames):
        if frame.tag == SafePoint.tag:
            event = codec.decode(frame.tag, frame.payload)
            code = b"other" * 6 + b"xx"
            frame = frame._replace(payload=codec.encode(alter_event(event, code=code)))
        found.append(frame)
    return found


def test_where_the_tool_is_not_here_the_guest_is_executed_again_and_then_has_new_snapshots(
    taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole = taken(PROMPT)
    path = rewrite(
        whole.path,
        tmp_path / "other.journal",
        lambda frames: other_code([*keep_little_after(whole.infos[2])(frames), frames[-1]]),
    )
    result = resume_damaged(PROMPT, path, cache_dir, snapshots=snapshot_options(PROMPT))
    assert result.is_like(whole)
    (note,) = result.notes
    assert f"the module variant of snapshot {whole.infos[2].seq} is not available" in note
    infos = snapshots_in(path)
    assert len(infos) > 3
    cut = rewrite(path, tmp_path / "cut.journal", keep_first(infos[-1].seq + 2))
    result = resume_damaged(PROMPT, cut, cache_dir)
    assert result.is_like(whole)
    assert result.notes == [], "those of the second session can be had"
    found = journal.verify_replay(path, cache=cache_dir)
    assert found.divergence is None
    assert [one.matches for one in found.checks[:3]] == [None] * 3
    assert found.checks[0].reason == "its module variant is not available"


# -- level state -----------------------------------------------------------------------------------

STATE = Guest("prompt", stdin=COMMANDS, every_events=2, level=RecordingLevel.STATE)


@pytest.fixture
def no_binaryen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Remove the instrumentation tool."""
    return lambda: monkeypatch.setattr(binaryen, "list_tools", list)


def test_a_journal_of_states_goes_on_where_nothing_was_done_behind_its_snapshot(
    taken: Take, tmp_path: Path, cache_dir: Path, no_binaryen: Callable[[], None]
) -> None:
    whole = taken(STATE)
    no_binaryen()
    nowhere = tmp_path / "empty" / "modules"
    for number, info in enumerate(whole.infos):
        path = rewrite(whole.path, tmp_path / f"{number}.journal", keep_upto(info))
        result = resume_damaged(STATE, path, nowhere)
        assert result.is_like(whole), result
        assert result.notes == []


def test_a_journal_of_states_goes_on_from_what_was_done_behind_its_snapshot_in_a_new_one(
    taken: Take, tmp_path: Path, cache_dir: Path, no_binaryen: Callable[[], None]
) -> None:
    whole = taken(STATE)
    no_binaryen()
    info = whole.infos[3]
    path = rewrite(whole.path, tmp_path / "cut.journal", keep_little_after(info))
    before = frames_of(path)
    refused = resume_damaged(STATE, path, tmp_path / "empty" / "modules")
    assert isinstance(refused.error, NotResumable)
    assert f"after snapshot {info.seq}" in str(refused.error)
    assert f"resume from snapshot {info.seq} in a new journal" in str(refused.error)
    assert frames_of(path) == before
    new = tmp_path / "new.journal"
    result = resume_damaged(STATE, path, tmp_path / "empty" / "modules", into=new)
    assert result.is_like(whole)
    older = whole.infos[2].seq
    result = resume_damaged(STATE, path, cache_dir, into=tmp_path / "older.journal", at=older)
    assert result.is_like(whole)


def test_a_journal_of_states_whose_newest_snapshot_is_damaged_tells_of_the_one_before(
    taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole, chance = taken(STATE), random.Random(1)
    info, before = whole.infos[3], whole.infos[2]
    path = rewrite(
        whole.path,
        tmp_path / "flipped.journal",
        lambda frames: flip_page_bit(list(keep_upto(info)(frames)), info, chance),
    )
    result = resume_damaged(STATE, path, cache_dir)
    assert is_mentioned(info.seq, result.notes)
    assert isinstance(result.error, NotResumable)
    assert f"resume from snapshot {before.seq} in a new journal" in str(result.error)
    result = resume_damaged(STATE, path, cache_dir, at=before.seq, into=tmp_path / "new.journal")
    assert result.is_like(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0asm\1\0\0\0",
        b"no module at all",
        guest("cat").read_bytes(),
        guest("prompt").read_bytes(),
    ],
    ids=["nothing", "empty", "nonsense", "another", "not instrumented"],
)
def test_a_module_that_is_not_the_instrumented_one_is_not_run(
    data: bytes, taken: Take, tmp_path: Path, cache_dir: Path
) -> None:
    whole = taken(STATE)

    def change(frames: Frames) -> Frames:
        found = []
        for frame in keep_upto(whole.infos[3])(frames):
            event = codec.decode(frame.tag, frame.payload)
            if isinstance(event, InstrumentedPart):
                event = alter_event(event, data=data)
            elif isinstance(event, SafePoint):
                event = alter_event(event, code=hashlib.sha256(data).digest())
            found.append(frame._replace(payload=codec.encode(event)))
        return found

    path = rewrite(whole.path, tmp_path / "forged.journal", change)
    result = resume_damaged(STATE, path, cache_dir)
    assert isinstance(result.error, EngineError), result
    assert not [one for one in events_of(path) if isinstance(one, ENDS)]
