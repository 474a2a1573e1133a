"""Tests that run the guests of the snapshot tests to their ends, without snapshots.

They print the same as under wasmtime's own WASI, and a journal that is cut anywhere is executed
again to the same end. Snapshot tests compare with this end.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount
from journal.events.process import SessionStart
from tests.support.budget import Budget
from tests.support.deadlines import wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.killed_runs import count_consumed
from tests.support.oracle import TRAP_CODE, Mount, read_tree, run_with_wasmtime
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SNAPSHOT_PROGRAMS, Needs, SnapshotGuest
from tests.support.snapshot_runs import STAGES, check_guest_end


def is_known_to_wasmtime(one: SnapshotGuest) -> bool:
    """Return whether wasmtime's own WASI can run the guest, with its functions and on its stack."""
    return Needs.WASIX not in one.needs and one.title != "deeper"


# A journal that is cut continues in the directories of the whole run.
pytestmark = pytest.mark.filterwarnings("ignore::journal.engine.HostDiffers")

COMPARED = [one for one in SNAPSHOT_GUESTS if is_known_to_wasmtime(one)]
OURS_ALONE = [one for one in SNAPSHOT_GUESTS if not is_known_to_wasmtime(one)]
IN_MEMORY = [one for one in SNAPSHOT_GUESTS if not one.host]


def recorder_of(
    one: SnapshotGuest, folder: Path, cache: Path, *, stdin: bytes | None
) -> journal.Recorder:
    """Record a guest, with its journal and its host directories in a folder."""
    mounts: list[HostMount | MemoryMount] = [MemoryMount(name) for name in one.memory]
    for name in one.host:
        directory = folder / name.strip("/")
        directory.mkdir(parents=True)
        mounts.append(HostMount(str(directory), name))
    return journal.record(
        one.path,
        folder / "run.journal",
        args=one.argv,
        env=dict(one.env),
        mounts=mounts,
        stdin=stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
        network=one.network,
    )


def resume_with_input(one: SnapshotGuest, path: Path, cache: Path) -> journal.Recorder:
    """Resume a journal with the recorded input."""
    return journal.resume(path, stdin=one.stdin, cache=cache, network=one.network, strict=False)


def trees_of(one: SnapshotGuest, folder: Path) -> dict[str, bytes | str]:
    """Return the content of the guest's host directories."""
    return {
        f"{name}/{path}": content
        for name in one.host
        for path, content in read_tree(folder / name.strip("/")).items()
    }


def check_as_under_wasmtime(one: SnapshotGuest, folder: Path, cache: Path) -> None:
    mounts = []
    for name in (*one.memory, *one.host):
        directory = folder / "theirs" / name.strip("/")
        directory.mkdir(parents=True)
        mounts.append(Mount(host=directory, guest=name))
    theirs = run_with_wasmtime(one.path, one.argv, dict(one.env), mounts, one.stdin, cache=cache)
    with recorder_of(one, folder, cache, stdin=one.stdin) as recorder:
        outcome = wait_for_end(recorder)
        check_guest_end(one, outcome, recorder.stdout)
        assert (recorder.stdout, recorder.stderr) == (theirs.stdout, theirs.stderr)
        files = {name: recorder.files[name] for name in recorder.files}
    assert (TRAP_CODE if outcome.code is None else outcome.code) == theirs.code
    assert trees_of(one, folder) == trees_of(one, folder / "theirs")
    for name in one.memory:
        left = read_tree(folder / "theirs" / name.strip("/")).items()
        assert files == {f"{name}/{path}": data for path, data in left if isinstance(data, bytes)}


@pytest.mark.parametrize("one", COMPARED, ids=str)
def test_a_guest_ends_as_under_wasmtime(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    check_as_under_wasmtime(one, tmp_path, cache_dir)


@pytest.mark.parametrize("one", OURS_ALONE, ids=str)
def test_a_guest_that_wasmtime_does_not_run_ends_as_it_should(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    with recorder_of(one, tmp_path, cache_dir, stdin=one.stdin) as recorder:
        check_guest_end(one, wait_for_end(recorder), recorder.stdout)


def check_cuts(one: SnapshotGuest, folder: Path, cache: Path, parts: Iterable[float]) -> None:
    """Check that a journal reaches the same end if it is cut at these fractions of its session."""
    with recorder_of(one, folder, cache, stdin=one.stdin) as recorder:
        wanted = wait_for_end(recorder), recorder.stdout, recorder.stderr, recorder.files
    check_guest_end(one, wanted[0], wanted[1])
    data = (folder / "run.journal").read_bytes()
    with journal.Reader(folder / "run.journal") as reader:
        blocks = list(reader.blocks())
    first = next(i for i, block in enumerate(blocks) if SessionStart.tag in block.tags)
    begin = blocks[first + 1].offset if first + 1 < len(blocks) else len(data)
    for part in parts:
        cut = folder / "cut.journal"
        cut.write_bytes(data[: begin + int((len(data) - begin) * part)])
        with resume_with_input(one, cut, cache) as again:
            found = wait_for_end(again), again.stdout, again.stderr, again.files
        assert found == wanted, f"cut at {part} of the journal"


@pytest.mark.deep
@pytest.mark.parametrize("one", IN_MEMORY, ids=str)
def test_every_cut_journal_is_executed_to_the_same_end(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    parts = [number / 40 for number in range(41)]
    check_cuts(one, tmp_path, cache_dir, budget.spend(parts, 4))


def stop_at(
    one: SnapshotGuest, stage: int, folder: Path, cache: Path
) -> tuple[journal.engine.RunResult, bytes, dict[str, bytes], dict[str, bytes | str]]:
    """Return the end of a guest that is stopped at a stage and resumed."""
    path = folder / "run.journal"
    with recorder_of(one, folder, cache, stdin=None) as recorder:
        recorder.feed(b"x" * stage)
        wait_until(lambda: count_consumed(path) == stage)
        recorder.stop()
        assert wait_for_end(recorder).code is None
    with journal.resume(path, cache=cache, strict=one.lasts) as again:
        again.feed(b"x" * (STAGES - stage))
        return wait_for_end(again), again.stdout, again.files, trees_of(one, folder)


@pytest.mark.parametrize("stage", range(0, STAGES, 2))
def test_descriptors_of_the_host_are_brought_back_at_every_stage(
    stage: int, tmp_path: Path, cache_dir: Path
) -> None:
    one = next(one for one in SNAPSHOT_GUESTS if one.title == "descriptors of both")
    with recorder_of(one, tmp_path / "whole", cache_dir, stdin=b"x" * STAGES) as recorder:
        wanted = wait_for_end(recorder), recorder.stdout, recorder.files
        check_guest_end(one, wanted[0], wanted[1])
    found = stop_at(one, stage, tmp_path / "cut", cache_dir)
    assert found == (*wanted, trees_of(one, tmp_path / "whole"))


def test_a_file_of_the_host_that_was_unlinked_is_not_brought_back(
    tmp_path: Path, cache_dir: Path
) -> None:
    (one,) = (one for one in SNAPSHOT_GUESTS if not one.lasts)
    outcome, stdout, *_ = stop_at(one, 4, tmp_path, cache_dir)
    assert outcome.code == 1
    assert stdout.endswith(b"cannot read\n")


@pytest.mark.deep
@pytest.mark.parametrize("one", SNAPSHOT_PROGRAMS, ids=str)
def test_a_program_ends_as_under_wasmtime(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    check_as_under_wasmtime(one, tmp_path, cache_dir)
    (tmp_path / "cuts").mkdir()
    check_cuts(one, tmp_path / "cuts", cache_dir, (0.0, 0.2, 0.5, 0.9, 1.0))
