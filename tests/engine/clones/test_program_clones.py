"""Clones of real programs are resumes, bit for bit: QuickJS, CPython, SQLite and Go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import journal
from journal.engine.clones.clone import Clone
from journal.engine.clones.template import CloneTemplate
from journal.engine.session.reply import Ending
from tests.support.warm_programs import (
    Piece,
    ReachedState,
    WarmJournal,
    fork_twice,
    run_resume,
    wait_for_output,
)

pytestmark = pytest.mark.deep


@pytest.fixture(scope="session")
def template(warm: WarmJournal, cache_dir: Path) -> Iterator[CloneTemplate]:
    """Return the template of a warm program."""
    with CloneTemplate.load(warm.path, cache=cache_dir) as template:
        yield template


def run_clone(clone: Clone, pieces: Sequence[Piece]) -> ReachedState:
    """Run pieces in a clone."""
    outputs = []
    for piece in pieces:
        reply = clone.run(piece.data)
        assert reply.ending is Ending.WAITING
        outputs.append(reply.stdout)
    return ReachedState(outputs, clone.files, clone.compute_digest())


def test_a_clone_equals_a_resume_from_the_same_snapshot(
    warm: WarmJournal, template: CloneTemplate, whole: ReachedState
) -> None:
    with template.make_clone() as clone:
        for _ in range(3):
            found = run_clone(clone, warm.program.pieces)
            assert found.without_clock(warm.program) == whole.without_clock(warm.program)
            clone.reset()
            clone.check()


def test_the_journal_of_a_session_leads_to_the_state_of_the_clone(
    warm: WarmJournal, template: CloneTemplate, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "session.journal"
    with template.make_clone() as clone:
        clone.begin(journal=path)
        found = run_clone(clone, [*warm.program.pieces, *warm.program.random])
        clone.reset()
        clone.check()
    assert journal.verify_replay(path, cache=cache_dir).matches
    resumed = run_resume(path, None, (), cache_dir)
    assert (resumed.files, resumed.digest) == (found.files, found.digest)
    whole = b"".join(found.outputs)
    with journal.resume(path, into=tmp_path / "again.journal", cache=cache_dir) as guest:
        wait_for_output(guest, lambda output: output.endswith(whole))


def test_a_clone_of_a_fork_of_a_fork_goes_on_where_it_was_forked(
    warm: WarmJournal, whole: ReachedState, tmp_path: Path, cache_dir: Path
) -> None:
    first, grandchild, rest = fork_twice(warm, tmp_path, cache_dir)
    with (
        CloneTemplate.load(grandchild, cache=cache_dir) as template,
        template.make_clone() as clone,
    ):
        assert clone.files == first.files
        found = run_clone(clone, rest)
        found = found._replace(outputs=first.outputs + found.outputs)
        assert found.without_clock(warm.program) == whole.without_clock(warm.program)
    with CloneTemplate.load(warm.path, cache=cache_dir) as template, template.make_clone() as clone:
        found = run_clone(clone, warm.program.pieces)
        assert found.without_clock(warm.program) == whole.without_clock(warm.program)


def test_a_clone_of_a_compacted_journal_is_the_same(
    warm: WarmJournal, template: CloneTemplate, tmp_path: Path, cache_dir: Path
) -> None:
    path, fork = tmp_path / "compact.journal", tmp_path / "fork.journal"
    journal.compact(warm.path, path)
    journal.fork(path, fork)
    with template.make_clone() as clone:
        wanted = run_clone(clone, warm.program.pieces)
    for source in (path, fork):
        with CloneTemplate.load(source, cache=cache_dir) as other, other.make_clone() as clone:
            found = run_clone(clone, warm.program.pieces)
            assert found.without_clock(warm.program) == wanted.without_clock(warm.program)
