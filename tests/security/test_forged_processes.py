"""Runs of several processes whose journals have right hashes, and events that make no sense."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import journal
from journal import Frame, JournalError
from journal.engine import verify_replay
from journal.events import BY_TAG, processes
from journal.log import Writer
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.mutated_events import Mutation, mutate_events
from tests.support.programs import guest
from tests.support.rewrites import frames_of

PROCESSES = guest("processes")
COMMANDS = {"processes": PROCESSES}
OWN_TAGS = frozenset(tag for tag, cls in BY_TAG.items() if cls.__module__ == processes.__name__)
MESSAGE_SIZE_MAX = 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The journal of a run with a pipe to a child, cut before the child was joined."""
    path = tmp_path_factory.mktemp("run") / "a.journal"
    with journal.record(
        PROCESSES, path, args=["processes", "handles"], commands=COMMANDS, cache=cache_dir
    ) as recorder:
        recorder.wait(DEADLINE_SECONDS)
    frames = frames_of(path)
    end = next(i for i, frame in enumerate(frames) if frame.tag == processes.ChildEnded.tag)
    write(path, frames[:end])
    return path


def write(path: Path, frames: list[Frame]) -> None:
    """Replace a journal by one with the same id and other events."""
    with journal.Reader(path) as reader:
        journal_id = reader.journal_id
    path.unlink()
    with Writer(path, journal_id=journal_id) as writer:
        for frame in frames:
            writer.append_frame(frame.tag, frame.payload)


def resume(path: Path, cache: Path) -> None:
    """Resume a run, for a short time; it ends, runs, or is refused with one line."""
    with (
        accepting_refusals(),
        warnings.catch_warnings(action="ignore"),
        journal.resume(path, commands=COMMANDS, cache=cache, strict=False) as recorder,
    ):
        recorder.wait(0.3)


@contextmanager
def accepting_refusals() -> Iterator[None]:
    """Accept a JournalError with one line of bounded size."""
    refusal = ""
    try:
        yield
    except JournalError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) <= MESSAGE_SIZE_MAX


@pytest.mark.deep
@pytest.mark.parametrize("name", ["a.journal", "a.children/2.journal"])
def test_a_forged_event_of_a_process_is_refused_in_one_line_or_believed(
    name: str, run: Path, tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    frames = frames_of(run.parent / name)
    own = [index for index, frame in enumerate(frames) if frame.tag in OWN_TAGS]
    changes = select(frames, own)
    for count, mutation in enumerate(budget.spend(changes, minimum=4)):
        folder = tmp_path / str(count)
        shutil.copytree(run.parent, folder)
        write(folder / name, mutation.change(frames))
        with accepting_refusals():
            verify_replay(folder / name, cache=cache_dir)
        resume(folder / "a.journal", cache_dir)
        shutil.rmtree(folder)


def select(frames: list[Frame], own: list[int]) -> list[Mutation]:
    """Return the mutations of the events at these places."""
    names = {f"{index} {BY_TAG[frames[index].tag].__name__}" for index in own}
    return [each for each in mutate_events(frames) if any(name in each.name for name in names)]
