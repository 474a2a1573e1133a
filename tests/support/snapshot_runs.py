"""What a run with snapshots has left, and going on from each of them: no tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import journal
from journal.snapshots.triggers import format_trigger
from tests.support.guest_runs import finished


class Ended(NamedTuple):
    """How a run ended, what it printed, and its files in memory."""

    outcome: journal.engine.RunResult
    stdout: bytes
    stderr: bytes
    files: dict[str, bytes]


def ended(recorder: journal.Recorder) -> Ended:
    """The end of a run, which must come."""
    return Ended(finished(recorder), recorder.stdout, recorder.stderr, recorder.files)


def snapshots_in(path: Path) -> list[journal.snapshots.SnapshotInfo]:
    """The snapshots of a journal."""
    with journal.Reader(path) as reader:
        return list(journal.list_snapshots(reader))


def triggers_in(path: Path) -> list[str]:
    """What the snapshots of a journal were taken for."""
    return [format_trigger(info.trigger) for info in snapshots_in(path)]


def gone_on(
    path: Path, at: int, cache: Path, *, stdin: bytes = b"", network: bool = False
) -> Ended:
    """The end of a run that goes on from one of its snapshots, in a journal of its own.

    ``stdin`` is all that the guest ever had.
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
            return ended(recorder)
    finally:
        fork.unlink(missing_ok=True)


def check_each(
    path: Path, wanted: Ended, cache: Path, *, stdin: bytes = b"", network: bool = False
) -> None:
    """From each of its snapshots a run comes to the same end."""
    infos = snapshots_in(path)
    assert infos
    for info in infos:
        assert info.resumable, info
        found = gone_on(path, info.seq, cache, stdin=stdin, network=network)
        assert found == wanted, f"from {info}"
