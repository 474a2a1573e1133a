"""Forks of recorded runs: each child goes on as its parent could, and both live on."""

from __future__ import annotations

from pathlib import Path

import journal
from journal.compaction import CompactionSchedule
from journal.engine import SnapshotOptions
from journal.engine.session.recorder import Recorder
from journal.events.process import ParentLink, Reseeded
from journal.snapshots import Trigger
from tests.support.deadlines import wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.worker_journal import ORDERS, recorded, snapshot_seqs

__all__ = ["recorded"]


def resume(path: Path, cache: Path) -> bytes:
    """Resume a child to its end, with compactions in place, and return its whole output."""
    schedule = CompactionSchedule(every_events=50)
    with journal.resume(path, stdin=ORDERS, cache=cache, compaction=schedule) as recorder:
        assert wait_for_end(recorder).code == 0
        return recorder.stdout


def test_a_child_reaches_the_end_of_its_parent_from_each_snapshot(
    recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.resume(recorded, cache=cache_dir) as recorder:
        whole = recorder.stdout
    seqs = snapshot_seqs(recorded)
    for seq in (seqs[0], seqs[-1]):
        made = journal.fork(recorded, tmp_path / f"child{seq}", at=seq)
        grandchild = journal.fork(made.path, tmp_path / f"grandchild{seq}", reseed=False)
        assert grandchild.seq == seq
        with journal.Reader(made.path) as reader:
            assert [frame.tag for frame in reader.last(2)] == [ParentLink.tag, Reseeded.tag]
        assert resume(made.path, cache_dir) == whole
        assert resume(grandchild.path, cache_dir) == whole
        journal.compact_in_place(made.path)
        assert all(file.stat().st_nlink == 1 for file in made.path.iterdir())
        with journal.resume(made.path, cache=cache_dir) as recorder:
            assert (recorder.ended_before, recorder.stdout) == (True, whole)
        assert journal.verify_replay(grandchild.path, cache=cache_dir).matches


def ask(recorder: Recorder, line: bytes, answer: bytes) -> None:
    recorder.feed(line)
    wait_until(lambda: recorder.stdout.endswith(answer))


def test_a_running_guest_and_its_children_go_on_apart(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "prompt"
    options = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    with journal.record(
        guest("prompt"), path, args=["prompt"], cache=cache_dir, snapshots=options
    ) as parent:
        ask(parent, b"set x one\n", b"2> ")
        seq = parent.snapshot(timeout_seconds=60)
        ask(parent, b"set x two\n", b"3> ")
        children = journal.fork(path, tmp_path / "child", at=seq, count=2)
        for number, made in enumerate(children):
            with journal.resume(made.path, cache=cache_dir) as child:
                ask(child, b"get x\n", b"one\n3> ")
                ask(child, b"set x child\n", b"4> ")
                ask(parent, b"get x\n", b"two\n%d> " % (number + 4))
    for made in children:
        with journal.resume(made.path, cache=cache_dir) as child:
            ask(child, b"get x\n", b"child\n5> ")
        assert journal.verify_replay(made.path, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir) as parent:
        ask(parent, b"get x\n", b"two\n6> ")
