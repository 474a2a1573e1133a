"""Warm programs, recorded once for all tests of a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.warm_programs import (
    WARM_PROGRAMS,
    ReachedState,
    WarmJournal,
    WarmProgram,
    run_resume,
)


@pytest.fixture(scope="session", params=WARM_PROGRAMS, ids=str)
def warm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> WarmJournal:
    """Return a warm program."""
    program = request.param
    assert isinstance(program, WarmProgram)
    path = tmp_path_factory.mktemp(program.name) / "warm.journal"
    return WarmJournal(program, path, program.record(path, cache_dir))


@pytest.fixture(scope="session")
def whole(
    warm: WarmJournal, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> ReachedState:
    """Return the state that a resume of the program reaches with all its input."""
    path = tmp_path_factory.mktemp("whole") / "fork.journal"
    pieces = warm.program.pieces
    state = run_resume(warm.path, path, pieces, cache_dir, warm.seq)
    assert all(
        output.endswith(piece.end) for output, piece in zip(state.outputs, pieces, strict=True)
    )
    return state
