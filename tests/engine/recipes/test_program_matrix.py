"""Sessions of a pool with real programs are resumes, bit for bit: QuickJS, CPython, SQLite and Go.

A session is recorded, so that its journal can be resumed at its end: the digest there covers the
whole state of the guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import journal
from journal.engine import Pool
from journal.engine.session.reply import Ending
from tests.support.snapshot_runs import snapshots_in
from tests.support.warm_programs import (
    Piece,
    ReachedState,
    WarmJournal,
    fork_twice,
    run_resume,
    wait_for_output,
)

pytestmark = pytest.mark.deep


def run_sessions(
    warm: Path, paths: Sequence[Path], pieces: Sequence[Piece], cache: Path
) -> list[ReachedState]:
    """Run pieces in a session for each path, where it is recorded, and resume each at its end."""
    answers = []
    with Pool(warm, workers=0, cache=cache) as pool:
        for path in paths:
            with pool.checkout(journal=path) as session:
                replies = [session.run(piece.data) for piece in pieces]
                assert {reply.ending for reply in replies} == {Ending.WAITING}
                answers.append(([reply.stdout for reply in replies], session.files))
    states = []
    for path, (outputs, files) in zip(paths, answers, strict=True):
        start = snapshots_in(path)[-1].seq
        assert journal.verify_replay(path, start=start, cache=cache).matches
        end = run_resume(path, None, (), cache)
        assert end.files == files
        states.append(ReachedState(outputs, files, end.digest))
    return states


def test_each_session_equals_a_resume_from_the_same_snapshot(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    paths = [tmp_path / f"session-{number}.journal" for number in range(3)]
    for found in run_sessions(warm.path, paths, warm.program.pieces, cache_dir):
        assert found.without_clock(warm.program) == whole.without_clock(warm.program)


def test_the_journal_of_a_session_repeats_its_random_numbers(
    warm: WarmJournal, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "session.journal"
    pieces = [*warm.program.pieces, *warm.program.random]
    (found,) = run_sessions(warm.path, [path], pieces, cache_dir)
    outputs = b"".join(found.outputs)
    with journal.resume(path, into=tmp_path / "again.journal", cache=cache_dir) as guest:
        wait_for_output(guest, lambda output: output.endswith(outputs))


def test_a_session_from_a_fork_of_a_fork_goes_on_where_it_was_forked(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    first, grandchild, rest = fork_twice(warm, tmp_path, cache_dir)
    path = tmp_path / "session.journal"
    (found,) = run_sessions(grandchild, [path], rest, cache_dir)
    found = found._replace(outputs=first.outputs + found.outputs)
    assert found.without_clock(warm.program) == whole.without_clock(warm.program)


def test_a_session_from_a_compacted_journal_and_its_fork_is_the_same(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    path, child = tmp_path / "compact.journal", tmp_path / "child.journal"
    journal.compact(warm.path, path)
    journal.fork(path, child)
    for source in (path, child):
        into = tmp_path / f"session-of-{source.stem}.journal"
        (found,) = run_sessions(source, [into], warm.program.pieces, cache_dir)
        assert found.without_clock(warm.program) == whole.without_clock(warm.program)
