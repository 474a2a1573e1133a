"""Compacted journals of real guests: a replay gives the same states, a resume the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount, NotResumable
from journal.compaction import RetentionPolicy
from journal.engine import SnapshotOptions
from journal.engine.snapshot.positions import apply_listing, apply_positions
from journal.engine.snapshot.rebuild import rebuild_state
from journal.engine.snapshot.restore import read_parts
from journal.events.snapshots import SafePoint
from journal.replay import ReplayLimits
from journal.snapshots import Trigger
from tests.support import compaction_histories as compacted
from tests.support.compaction_histories import check, frames_of
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.engine_state import Described, Fresh, blocks_of
from tests.support.guest_runs import wait_for_end
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, STAGED_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import pick_evenly, record_often, resume_guest

RESUMED_MAX = 3


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted, "LIMITS", ReplayLimits(memory_size_max=1 << 32))


@pytest.fixture
def cache(tmp_path: Path, cache_dir: Path) -> Path:
    """Folder with the compiled modules of all tests, and images of this test only."""
    folder = tmp_path / "cache" / "modules"
    folder.parent.mkdir()
    folder.symlink_to(cache_dir)
    return folder


UNWOUND = [one for one in STAGED_GUESTS if one.stacks]
NOT_UNWOUND = [one for one in STAGED_GUESTS if not one.stacks]


@pytest.mark.parametrize("one", UNWOUND, ids=str)
def test_a_guest_goes_on_from_what_is_left(one: SnapshotGuest, tmp_path: Path, cache: Path) -> None:
    path, target = tmp_path / "run.journal", tmp_path / "compacted.journal"
    plain, _ = record_often(one, path, cache)
    found = check(path, target, RetentionPolicy(keep_last=2, keep_every=200))
    assert not found.reason
    assert sum(frame.tag == SafePoint.tag for frame in frames_of(target)) == len(found.snapshots)
    with journal.Reader(target) as reader:
        infos = list(journal.list_snapshots(reader))
    assert [info.seq for info in infos] == list(found.snapshots)
    assert all(info.resumable for info in infos)
    for info in pick_evenly(infos, RESUMED_MAX):
        assert resume_guest(one, target, cache, at=info.seq) == plain, f"from {info.seq}"
    again = check(target, tmp_path / "again.journal", RetentionPolicy(keep_last=2, keep_every=200))
    assert frames_of(tmp_path / "again.journal") == frames_of(target)
    assert again.kept_events == again.events


@pytest.mark.parametrize("one", NOT_UNWOUND, ids=str)
def test_what_a_guest_needs_that_is_executed_again_stays(
    one: SnapshotGuest, tmp_path: Path, cache: Path
) -> None:
    path, target = tmp_path / "run.journal", tmp_path / "compacted.journal"
    plain, _ = record_often(one, path, cache)
    found = check(path, target, RetentionPolicy())
    with journal.Reader(path) as reader:
        infos = list(journal.list_snapshots(reader))
    assert found.upto == infos[0].seq + 1, "nothing had run yet"
    assert list(found.snapshots) == [info.seq for info in infos]
    assert resume_guest(one, target, cache, at=infos[-1].seq) == plain
    assert journal.verify_replay(target, cache=cache).matches


def test_what_is_left_is_not_executed_from_its_start(tmp_path: Path, cache: Path) -> None:
    one = next(one for one in STAGED_GUESTS if one.title == "deep")
    path, killed, target = (tmp_path / name for name in ("run.journal", "killed", "compacted"))
    plain, _ = record_often(one, path, cache)
    with journal.Reader(path) as reader:
        seqs = [info.seq for info in journal.list_snapshots(reader)]
    journal.fork(path, killed, at=seqs[-1])
    found = check(killed, target, RetentionPolicy(keep_last=2))
    match = f"was compacted: inputs before snapshot {found.snapshots[0]} are missing"
    with pytest.raises(NotResumable, match=match):
        journal.resume(target, cache=cache, reexecute=True)
    with pytest.raises(NotResumable, match=match):
        journal.verify_replay(target, cache=cache)
    assert journal.verify_replay(target, start=found.snapshots[-1], cache=cache).matches
    with journal.resume(target, cache=cache) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == plain[0]
        assert recorder.stdout == plain[1]


# -- comparison by the engine's own rebuild -------------------------------------------------------

FOLDED = [one for one in SNAPSHOT_GUESTS if one.stacks and one.elder and (one.host or one.memory)]


def rebuild_from_journal(path: Path, seq: int) -> Described:
    """Return the state that the engine rebuilds from a journal up to one of its snapshots."""
    fresh = Fresh.of(path)
    with journal.Reader(path) as reader:
        (info,) = [info for info in journal.list_snapshots(reader) if info.seq == seq]
        rebuild_state(fresh.context, blocks_of(reader), seq)
        parts = read_parts(reader, info)
    assert parts.positions is not None
    apply_positions(fresh.context, parts.positions)
    for listing in parts.listings:
        apply_listing(fresh.context, listing)
    return fresh.described()


@pytest.mark.parametrize("one", FOLDED, ids=str)
def test_the_engine_makes_the_same_of_what_is_left(
    one: SnapshotGuest, tmp_path: Path, cache: Path
) -> None:
    path, target = tmp_path / "guest.journal", tmp_path / "compacted.journal"
    mounts: list[HostMount | MemoryMount] = [MemoryMount(name) for name in one.memory]
    for name in one.host:
        (tmp_path / name.strip("/")).mkdir()
        mounts.append(HostMount(str(tmp_path / name.strip("/")), name))
    with journal.record(
        one.path,
        path,
        args=one.argv,
        env=dict(one.env),
        mounts=mounts,
        stdin=one.stdin,
        cache=cache,
        network=one.network,
        snapshots=SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}), every_events=20),
    ) as recorder:
        wait_for_end(recorder)
    found = check(path, target, RetentionPolicy(keep_last=3, keep_every=100))
    assert not found.reason
    for seq in found.snapshots:
        assert rebuild_from_journal(target, seq) == rebuild_from_journal(path, seq)
