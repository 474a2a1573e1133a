"""Runs of guests with snapshots, and resumes from each snapshot."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import journal
from journal import HostMount, MemoryMount
from journal.engine import NO_NETWORK, NetworkPolicy, SnapshotOptions
from journal.engine.session.api import record
from journal.snapshots import Trigger
from journal.snapshots.triggers import format_trigger
from tests.support.guest_runs import wait_for_end
from tests.support.snapshot_guests import SnapshotGuest


class FinishedRun(NamedTuple):
    """Result of a run, its output, and its files in memory."""

    outcome: journal.engine.RunResult
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]


def finish_run(recorder: journal.Recorder) -> FinishedRun:
    """Wait for the end of a run, and return its result and output."""
    return FinishedRun(wait_for_end(recorder), recorder.stdout, recorder.stderr, recorder.files)


def snapshots_in(path: Path) -> list[journal.snapshots.SnapshotInfo]:
    """Return the snapshots of a journal."""
    with journal.Reader(path) as reader:
        return list(journal.list_snapshots(reader))


def triggers_in(path: Path) -> list[str]:
    """Return the triggers of the snapshots of a journal."""
    return [format_trigger(info.trigger) for info in snapshots_in(path)]


def resume_run(
    path: Path, at: int, cache: Path, *, stdin: bytes = b"", network: NetworkPolicy = NO_NETWORK
) -> FinishedRun:
    """Resume a run from a snapshot into a new journal, and return its end.

    ``stdin`` is the whole input of the guest from its start on.
    """
    fork = path.with_name(f"{path.stem}-{at}.journal")
    try:
        with journal.resume(
            path,
            at=at,
            into=fork,
            stdin=stdin,
            network=network,
            cache=cache,
            durability=journal.engine.Durability.NONE,
        ) as recorder:
            assert not recorder.ended_before
            return finish_run(recorder)
    finally:
        shutil.rmtree(fork, ignore_errors=True)


def check_resumes(
    path: Path,
    wanted: FinishedRun,
    cache: Path,
    *,
    stdin: bytes = b"",
    network: NetworkPolicy = NO_NETWORK,
) -> None:
    """Check that a resume from each snapshot comes to the same end."""
    infos = snapshots_in(path)
    assert infos
    for info in infos:
        assert info.resumable, info
        found = resume_run(path, info.seq, cache, stdin=stdin, network=network)
        assert found == wanted, f"from {info}"


STAGES = 8


def check_guest_end(one: SnapshotGuest, outcome: journal.engine.RunResult, stdout: bytes) -> None:
    assert outcome.code == one.code, outcome
    assert b"FAILED" not in stdout
    assert len(stdout.splitlines()) > 1


RESUMED_MAX = 3
"""Number of snapshots of one run from which a test resumes, at most."""


#: Approximate number of snapshots of one run, which bounds their cost.
TAKEN_MAX = 40


Run = tuple[journal.engine.RunResult, bytes, bytes, dict[str, bytes]]


def record_guest(
    one: SnapshotGuest, path: Path, cache: Path, snapshots: SnapshotOptions | None = None
) -> Run:
    mounts: list[HostMount | MemoryMount] = [MemoryMount(name) for name in one.memory]
    with record(
        one.path,
        path,
        args=one.argv,
        env=dict(one.env),
        mounts=mounts,
        stdin=one.stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
        network=one.network,
        snapshots=snapshots,
    ) as recorder:
        return wait_for_end(recorder), recorder.stdout, recorder.stderr, recorder.files


def resume_guest(
    one: SnapshotGuest, path: Path, cache: Path, *, at: int, notes: list[str] | None = None
) -> Run:
    """Resume a guest from a snapshot in a new journal, without further snapshots."""
    into = path.with_name(f"at-{at}.journal")
    with journal.resume(
        path,
        at=at,
        into=into,
        stdin=one.stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
        network=one.network,
        snapshots=SnapshotOptions(),
        note=(notes if notes is not None else []).append,
    ) as recorder:
        return wait_for_end(recorder), recorder.stdout, recorder.stderr, recorder.files


def record_often(one: SnapshotGuest, path: Path, cache: Path, **wanted: object) -> tuple[Run, Run]:
    """Record a guest without snapshots, and with a snapshot at regular numbers of events."""
    plain = record_guest(one, path.with_name("plain.journal"), cache)
    check_guest_end(one, plain[0], plain[1])
    with journal.Reader(path.with_name("plain.journal")) as reader:
        events = reader.summary().events
    snapshots = SnapshotOptions(
        on=frozenset({Trigger.BOOTSTRAP}),
        every_events=max(events // TAKEN_MAX, 1),
        **wanted,  # type: ignore[arg-type]
    )
    return plain, record_guest(one, path, cache, snapshots)


def pick_evenly(
    infos: list[journal.snapshots.SnapshotInfo], count: int
) -> list[journal.snapshots.SnapshotInfo]:
    """Return this many items, evenly from the first to the last."""
    step = max(1, len(infos) // count)
    return infos[::step]
