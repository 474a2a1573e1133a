"""Signals in clones: each session begins with those of the snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.engine import Ending, SnapshotOptions, verify_replay
from journal.engine.clones.clone import Clone
from journal.engine.clones.template import CloneTemplate
from journal.engine.wasi.stdio.stdin import FedSource
from journal.errors import EngineError
from journal.events.snapshots import Trigger
from tests.support.deadlines import wait_until
from tests.support.programs import guest

pytestmark = pytest.mark.deep

HANDLED = b"read 1\nsignal 12\nhandled 1\nproc_raise 0\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[CloneTemplate]:
    path, source = tmp_path_factory.mktemp("signals") / "j", FedSource()
    snapshots = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    options = {"stdin": source, "snapshots": snapshots, "cache": cache_dir}
    with journal.record(guest("signals"), path, args=["signals", "wait"], **options) as recorder:  # type: ignore[arg-type]
        wait_until(lambda: source.is_awaited)
        assert recorder.snapshot() is not None
    with CloneTemplate.load(path, cache=cache_dir) as template:
        yield template


@pytest.fixture
def clone(template: CloneTemplate) -> Iterator[Clone]:
    with template.make_clone() as clone:
        yield clone


def test_a_signal_is_handled_in_each_session(clone: Clone, tmp_path: Path, cache_dir: Path) -> None:
    for count in range(3):
        path = tmp_path / f"{count}.journal"
        clone.begin(journal=path)
        assert clone.run(b"!").stdout == HANDLED
        assert clone.run(b"!").stdout == HANDLED
        reply = clone.run(end_input=True)
        assert (reply.ending, reply.stdout) == (Ending.EXITED, b"end 2\n")
        clone.reset()
        clone.check()
        assert verify_replay(path, cache=cache_dir).matches


def test_a_clone_cannot_wait_for_input_in_a_handler(clone: Clone) -> None:
    with pytest.raises(EngineError, match="waits for input in a handler of a signal"):
        clone.run(b"?")
    clone.reset()
    assert clone.run(b"!").stdout == HANDLED
