"""Fork of a running guest: children start from its memory, and each has a journal of its own."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import HostMount
from journal.engine import SnapshotOptions, Stacks
from journal.engine.session import forking
from journal.engine.snapshot import forked_state
from journal.errors import NotResumable, OptionError, WrongKey
from journal.events.process import ParentLink, Reseeded, SessionStart
from journal.events.streams import StreamWrite
from journal.log import RollPolicy
from journal.snapshots import Trigger
from tests.support.asking_guest import ANSWER_SIZES, ask, asking_guest, to_number
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.rewrites import events_of
from tests.support.sealed_journals import process_key

EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


@pytest.fixture
def parent(tmp_path: Path, cache_dir: Path) -> Any:
    """A running guest that waits for input."""
    with journal.record(
        asking_guest(), tmp_path / "parent.journal", cache=cache_dir, snapshots=EXPLICIT
    ) as recorder:
        yield recorder


def fork(recorder: journal.Recorder, count: int, stack: ExitStack, **options: Any) -> Any:
    """Fork a guest, and close the children with ``stack``."""
    options.setdefault("into", recorder.path.with_name("child.journal"))
    children = recorder.fork(count, timeout_seconds=DEADLINE_SECONDS, **options)
    for child in children:
        stack.enter_context(child)
    return children


def test_children_continue_where_their_parent_is_and_go_their_own_ways(
    parent: journal.Recorder, cache_dir: Path
) -> None:
    random, before = ask(parent, "rc")
    with ExitStack() as stack:
        children = fork(parent, 3, stack)
        assert [child.path.name for child in children] == [f"child-{n}.journal" for n in (1, 2, 3)]
        answers = [ask(child, "kcr") for child in children]
        assert [known for known, _, _ in answers] == [random] * 3
        assert all(to_number(clock) > to_number(before) for _, clock, _ in answers)
        assert len({fresh for _, _, fresh in answers}) == 3
        assert ask(parent, "k", "rc") == [random], "the parent has not drawn anything since"
    for child in children:
        assert journal.verify_replay(child.path, cache=cache_dir).matches
        kinds = [type(event) for event in events_of(child.path)]
        assert kinds.count(ParentLink) == kinds.count(Reseeded) == 1
        assert kinds.index(ParentLink) < kinds.index(Reseeded)
        with journal.resume(child.path, cache=cache_dir) as recorder:
            assert ask(recorder, "k", "rckcr") == [answers[children.index(child)][2]]


def test_the_output_of_a_child_begins_at_the_fork(
    parent: journal.Recorder, cache_dir: Path
) -> None:
    ask(parent, "rc")
    with ExitStack() as stack:
        (child,) = fork(parent, 1, stack)
        ask(child, "c")
        assert len(child.stdout) == ANSWER_SIZES["c"]
    writes = [event for event in events_of(child.path) if isinstance(event, StreamWrite)]
    assert [event.offset for event in writes] == [0, 8, 16]
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        with os.fdopen(writer, "wb") as stdout:
            again = journal.resume(child.path, cache=cache_dir, stdout=stdout, stdin=b"rcc")
            with again:
                wait_for_end(again)
        assert pipe.read() == writes[-1].data, "the parent delivers what it wrote"


def test_children_can_be_forked_and_parents_go_on_from_the_same_journal(
    parent: journal.Recorder, tmp_path: Path, cache_dir: Path
) -> None:
    random, _ = ask(parent, "rc")
    with ExitStack() as stack:
        (child,) = fork(parent, 1, stack)
        (fresh,) = ask(child, "r")
        assert fresh != random
        first, second = fork(child, 2, stack, into=tmp_path / "grandchild")
        assert ask(first, "k") == ask(second, "k") == [fresh]
        assert ask(parent, "k", "rc") == [random]
        parent.close()
        child.close()
        parent.path.unlink()
        shutil.rmtree(child.path)
        assert ask(first, "k", "k") == [fresh]
    assert journal.verify_replay(first.path, cache=cache_dir).matches


def test_without_reseeding_the_children_have_no_mark(parent: journal.Recorder) -> None:
    ask(parent, "r")
    with ExitStack() as stack:
        (child,) = fork(parent, 1, stack, reseed=False)
        ask(child, "c")
    assert not any(isinstance(event, Reseeded) for event in events_of(child.path))


def test_a_guest_that_has_ended_is_not_forked(parent: journal.Recorder, tmp_path: Path) -> None:
    parent.close_stdin()
    wait_for_end(parent)
    with pytest.raises(NotResumable, match="has ended"):
        parent.fork(into=tmp_path / "child")
    assert not list(tmp_path.glob("child*"))


def test_no_child_is_left_when_one_of_them_cannot_be_made(
    parent: journal.Recorder, tmp_path: Path
) -> None:
    (tmp_path / "child-3").write_bytes(b"in the way")
    with pytest.raises(OptionError, match="already exists"):
        parent.fork(3, into=tmp_path / "child")
    assert [path.name for path in tmp_path.glob("child*")] == ["child-3"]
    assert len(ask(parent, "r")) == 1, "the parent runs on"


def test_a_failure_removes_the_children_before_it(
    parent: journal.Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def fail_at_the_third(journal_path: Path, *others: Any, **options: Any) -> None:
        made.append(journal_path)
        if len(made) == 3:
            raise OSError("the disk is full")

    monkeypatch.setattr(forking, "make_page_index", fail_at_the_third)
    ask(parent, "r")
    with pytest.raises(OSError, match="the disk is full"):
        parent.fork(3, into=tmp_path / "child", timeout_seconds=DEADLINE_SECONDS)
    assert len(made) == 3
    assert not list(tmp_path.glob("child*"))
    assert len(ask(parent, "k", "r")) == 1


@pytest.mark.parametrize(
    ("snapshots", "error", "reason"),
    [
        (SnapshotOptions(on=frozenset()), OptionError, "started without snapshots"),
        (
            SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stacks=Stacks.NEVER),
            NotResumable,
            "have no stacks",
        ),
    ],
)
def test_a_guest_without_snapshots_of_its_stack_is_not_forked(
    snapshots: SnapshotOptions, error: type[Exception], reason: str, tmp_path: Path, cache_dir: Path
) -> None:
    with (
        journal.record(
            asking_guest(), tmp_path / "j", cache=cache_dir, snapshots=snapshots
        ) as recorder,
        pytest.raises(error, match=reason),
    ):
        recorder.fork(into=tmp_path / "child")


def test_forks_from_several_threads_are_all_made(parent: journal.Recorder, tmp_path: Path) -> None:
    (random,) = ask(parent, "r")
    made: list[journal.Recorder] = []
    with ExitStack() as stack:
        threads = [
            threading.Thread(
                target=lambda name=name: made.extend(fork(parent, 1, stack, into=tmp_path / name))
            )
            for name in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 3
        assert all(ask(child, "k") == [random] for child in made)


def test_a_child_that_is_killed_at_once_can_be_resumed(
    parent: journal.Recorder, cache_dir: Path
) -> None:
    (random,) = ask(parent, "r")
    with ExitStack() as stack:
        (child,) = fork(parent, 1, stack)
        wait_until(lambda: any(isinstance(e, SessionStart) for e in events_of(child.path)[-4:]))
    with journal.resume(child.path, cache=cache_dir) as recorder:
        assert ask(recorder, "k", "r") == [random]


def test_a_later_fork_has_what_changed_since_the_first(
    parent: journal.Recorder, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the memories serves several forks; with other limits each fork makes its own."""
    asked = ""
    for number, limit in enumerate((1024, 1024, 0, 1024)):
        monkeypatch.setattr(forked_state, "CHANGED_PAGES_MAX", limit)
        (random,) = ask(parent, "r", asked)
        asked += "r"
        with ExitStack() as stack:
            (child,) = fork(parent, 1, stack, into=tmp_path / f"later{number}")
            assert ask(child, "k") == [random]
            assert child.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
            (grandchild,) = fork(child, 1, stack, into=tmp_path / f"grand{number}")
            assert ask(grandchild, "k") == [random]
        assert journal.verify_replay(child.path, cache=cache_dir).matches
    with journal.resume(child.path, cache=cache_dir) as recorder:
        assert ask(recorder, "k", f"{asked}k") == [random]


def test_children_have_the_open_host_files_and_the_segments_of_their_parent(
    tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "generation").write_bytes(bytes(range(33)))
    with (
        journal.record(
            asking_guest(),
            tmp_path / "parent",
            cache=cache_dir,
            approvals=tmp_path / "approvals",
            snapshots=EXPLICIT,
            mounts=[HostMount(str(tmp_path / "host"), "/host")],
            roll=RollPolicy(1 << 16),
        ) as parent,
        ExitStack() as stack,
    ):
        ask(parent, "o")
        (child,) = fork(parent, 1, stack)
        assert ask(child, "g") == ask(parent, "g", "o") == [bytes(range(33))]
    with journal.resume(child.path, cache=cache_dir, approvals=tmp_path / "approvals") as again:
        assert ask(again, "g", "og") == [bytes(range(33))]


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 16)], ids=["file", "directory"])
def test_children_of_a_sealed_journal_are_sealed_with_its_key(
    roll: RollPolicy | None, tmp_path: Path, cache_dir: Path
) -> None:
    with process_key():
        with (
            journal.record(
                asking_guest(),
                tmp_path / "parent",
                cache=cache_dir,
                snapshots=EXPLICIT,
                roll=roll,
            ) as parent,
            ExitStack() as stack,
        ):
            (random,) = ask(parent, "r")
            (child,) = fork(parent, 1, stack)
            assert ask(child, "k") == [random]
            (grandchild,) = fork(child, 1, stack, into=tmp_path / "grandchild")
            (fresh,) = ask(grandchild, "r")
            assert ask(parent, "k", "r") == [random], "the parent runs on"
        for forked in (child, grandchild):
            assert journal.verify_replay(forked.path, cache=cache_dir).matches
        with journal.resume(grandchild.path, cache=cache_dir) as recorder:
            assert ask(recorder, "k", "rkr") == [fresh]
    with pytest.raises(WrongKey), journal.Reader(child.path) as reader:
        list(reader)
