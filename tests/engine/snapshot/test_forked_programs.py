"""Forks of real programs go on as their parents would, and have random numbers of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from tests.support.snapshot_runs import snapshots_in
from tests.support.warm_programs import (
    ReachedState,
    WarmJournal,
    feed_piece,
    fork_twice,
    run_resume,
)

pytestmark = pytest.mark.deep


def test_a_fork_of_a_fork_goes_on_where_it_was_forked(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    first, grandchild, rest = fork_twice(warm, tmp_path, cache_dir)
    found = run_resume(grandchild, None, rest, cache_dir)
    found = found._replace(outputs=first.outputs + found.outputs)
    assert found.without_clock(warm.program) == whole.without_clock(warm.program)


def test_a_fork_of_a_compacted_journal_is_the_same(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    path, child = tmp_path / "compact.journal", tmp_path / "child.journal"
    journal.compact(warm.path, path)
    journal.fork(path, child)
    found = run_resume(child, None, warm.program.pieces, cache_dir)
    assert found.without_clock(warm.program) == whole.without_clock(warm.program)


def test_reseeded_children_differ_only_after_their_first_random_byte(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    if not warm.program.random:
        pytest.skip(f"{warm.program} draws no random numbers from the host")
    children = [
        *journal.fork(warm.path, tmp_path / "child.journal", at=warm.seq, count=2),
        journal.fork(warm.path, tmp_path / "plain.journal", at=warm.seq, reseed=False),
    ]
    digests, numbers = [], []
    for child in children:
        with journal.resume(child.path, cache=cache_dir) as guest:
            guest.snapshot()  # The outputs before this moment are delivered.
            outputs = [feed_piece(guest, piece) for piece in warm.program.pieces]
            guest.snapshot()
            assert (outputs, guest.files) == (whole.outputs, whole.files)
            numbers.append([feed_piece(guest, piece) for piece in warm.program.random])
        digests.append(snapshots_in(child.path)[-1].digest)
    if not warm.program.has_clock:
        assert set(digests) == {whole.digest}
    assert numbers[0] != numbers[1] != numbers[2] != numbers[0]
