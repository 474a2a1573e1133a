"""Commands that write a new journal, killed at each system call with an effect.

Afterwards the old files are unchanged, and each new file is complete or absent.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from journal import NotAJournal, Writer
from journal.log import RollPolicy
from journal.log.segment_files import list_segments
from tests.rigs import needs
from tests.rigs.campaign import Field
from tests.rigs.stracing import Forking, Inject
from tests.support.budget import Budget
from tests.support.command_line import run_inside
from tests.support.compaction_histories import START, frames_of, history

pytestmark = needs.mark(needs.why_no_strace())
Count = Callable[[int], None]
Seen = dict[str, object]
INTERRUPTED = (1, 130)
"""Exit codes of an interrupted command: 1 while it parses its options."""
LOOKING = (
    *("access", "brk", "close", "exit_group", "fcntl", "flock", "getcwd", "getdents64"),
    *("getrandom", "ioctl", "lseek", "newfstatat", "pread64", "read", "rt_sigaction", "mmap"),
    *("munmap", "fstat", "futex", "madvise"),
)
"""Calls without an effect: a kill at one leaves the same state as a kill at the next other call."""


class Work(NamedTuple):
    """A command, its inputs and its outputs. An in-place command has the same path for both."""

    title: str
    source: str
    target: str
    command: tuple[str, ...]


WORKS = [
    Work("compact", "a", "b", ("compact", "a", "-o", "b")),
    Work("compact a directory", "parts", "b", ("compact", "parts", "-o", "b", "--keep-last=2")),
    Work("compact in place", "a", "a", ("compact", "a", "--in-place")),
    Work("compact a directory in place", "parts", "parts", ("compact", "parts", "--in-place")),
    Work("compact and replace", "a", "old", ("compact", "a", "-o", "old", "--force")),
    Work("filter", "a", "b", ("filter", "a", "-o", "b", "--group", "files")),
    Work("filter in place", "a", "a", ("filter", "a", "--in-place", "--group", "files")),
    Work(
        "filter a directory in place",
        *("parts", "parts"),
        ("filter", "parts", "--in-place", "--group", "files"),
    ),
    Work("split", "a", "b", ("split", "a", "-o", "b", "--at", "50", "--at", "99")),
    Work("cut", "a", "b", ("cut", "a", "-o", "b", "--at", "60")),
    Work("fork", "a", "b", ("fork", "a", "--into", "b", "--at", "64", "--no-reseed")),
    Work(
        "fork a directory",
        *("parts", "b"),
        ("fork", "parts", "--into", "b", "--at", "40", "--no-reseed"),
    ),
    Work("concat", "parts", "b", ("concat", "parts", "old", "-o", "b")),
    Work("import", "a.jsonl", "b", ("import", "a.jsonl", "-o", "b")),
    Work("export", "a", "b", ("export", "a", "-o", "b")),
    Work("extract files", "a", "b", ("extract", "a", "--files", "b")),
    Work("extract an archive", "a", "b", ("extract", "a", "--tar", "b")),
    Work("extract memory", "a", "b", ("extract", "a", "--memory", "b")),
]
REPLACING = [work for work in WORKS if work.command[0] in ("compact", "filter")]


def read_entries(folder: Path) -> Seen:
    """Return all entries of a directory, journals as their events; skip hidden names."""
    found: Seen = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not list_segments(path):
            found[path.name] = read_entries(path)
            continue
        try:
            found[path.name] = frames_of(path)
        except NotAJournal:
            found[path.name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    with Field() as field:
        yield field


@pytest.fixture(scope="module")
def origin(field: Field) -> Path:
    """Return a directory with all inputs: a file, a directory, an older file, and lines."""
    folder = field.fresh()
    clock = iter(range(START, 1 << 62)).__next__
    story = history(5, 60, 9)
    for name, roll, count in (("a", None, 1 << 20), ("parts", RollPolicy(2 << 10), 1 << 20),
                              ("old", None, 30)):  # fmt: skip
        with Writer(folder / name, roll=roll, clock=clock) as writer:
            for at, (tag, payload, _) in enumerate(story[:count]):
                writer.append_frame(tag, payload)
                if at % 10 == 9:
                    writer.flush()
    assert len(list_segments(folder / "parts")) > 2
    assert run_inside("export", "a", "-o", "a.jsonl", at=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def forks(field: Field, origin: Path) -> Iterator[Forking]:
    runs = []
    for work in WORKS:
        folder = field.fresh() / "work"
        shutil.copytree(origin, folder)
        runs.append((str(folder), [*work.command, "--quiet"]))
    with Forking(field.root, "tests.rigs.tooled", runs) as forks:
        yield forks


class Trial(NamedTuple):
    """The exit of a command, its calls, and the resulting files."""

    code: int
    calls: dict[str, int]
    left: Seen
    folder: Path


def run(forks: Forking, field: Field, origin: Path, work: Work, *injects: Inject) -> Trial:
    """Run a command on copies of its inputs."""
    folder = field.fresh() / "work"
    shutil.copytree(origin, folder)
    said = field.root / "said"
    arguments = [*work.command, "--quiet"]
    child = forks.ask("start", at=str(folder), arguments=arguments, said=str(said))
    code, calls = forks.follow(child, injects)
    assert code in (0, -signal.SIGKILL, *INTERRUPTED), f"{work.title}: {said.read_text()}"
    return Trial(code, dict(calls), read_entries(folder), folder)


def kill_at_each(
    forks: Forking,
    field: Field,
    origin: Path,
    work: Work,
    step: int,
    budget: Budget | None = None,
) -> int:
    """Kill a command at each ``step``-th call with an effect; return the number of kills."""
    whole = run(forks, field, origin, work)
    before, after = read_entries(origin), whole.left
    assert whole.code == 0
    assert {name for name in after if after[name] != before.get(name)} == {work.target}
    names = [name for name in sorted(whole.calls) if name not in LOOKING]
    kills = [Inject(name, nth) for name in names for nth in range(1, whole.calls[name] + 1)]
    chosen: Iterable[Inject] = kills[::step]
    if budget is not None:
        chosen = budget.spend(kills[::step], 12)
    tried, killed, begun = 0, 0, 0
    for kill in chosen:
        tried += 1
        trial = run(forks, field, origin, work, kill)
        is_either = trial.left in (before, after)
        assert is_either, f"{work.title}: {kill} left {sorted(trial.left)}"
        killed += trial.code < 0
        if trial.left == before:
            begun += 1
            done = run_inside(*work.command, "--quiet", at=trial.folder)
            assert (done.returncode, read_entries(trial.folder)) == (0, after), (
                "what is left is in the way"
            )
        shutil.rmtree(trial.folder.parent)
    assert killed > tried * 0.7, f"{killed} of {tried} kills came true"
    assert begun, "it has to be killed before its work is done, too"
    return killed


def interrupt_often(
    forks: Forking,
    field: Field,
    origin: Path,
    work: Work,
    count: int,
    budget: Budget | None = None,
) -> int:
    """Interrupt a command at about ``count`` calls with an effect; return the number of kills."""
    whole = run(forks, field, origin, work)
    before, after = read_entries(origin), whole.left
    names = [name for name in sorted(whole.calls) if name not in LOOKING]
    pairs = [(name, nth) for name in names for nth in range(1, whole.calls[name] + 1)]
    calls = [Inject(*pair, "signal=INT") for pair in pairs]
    chosen: Iterable[Inject] = calls[:: max(1, len(calls) // count)]
    if budget is not None:
        chosen = budget.spend(list(chosen), 12)
    codes = []
    for call in chosen:
        trial = run(forks, field, origin, work, call)
        assert trial.code in (0, *INTERRUPTED)
        is_either = trial.left == after if not trial.code else trial.left in (before, after)
        assert is_either, f"{call} left {sorted(trial.left)}"
        hidden = sorted(path.name for path in trial.folder.rglob(".*"))
        assert not hidden, f"{call} left {hidden}"
        codes.append(trial.code)
    assert 130 in codes
    return len(codes)


@pytest.mark.parametrize("work", REPLACING, ids=lambda work: work.title)
def test_what_a_killed_command_made_is_whole_or_not_there(
    forks: Forking, field: Field, origin: Path, work: Work, count_states: Count
) -> None:
    count_states(kill_at_each(forks, field, origin, work, 23))


@pytest.mark.deep
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.title)
def test_what_a_command_made_that_was_killed_at_any_call_is_whole_or_not_there(
    forks: Forking, field: Field, origin: Path, work: Work, count_states: Count, budget: Budget
) -> None:
    count_states(kill_at_each(forks, field, origin, work, 1, budget))


@pytest.mark.parametrize("work", REPLACING[:2], ids=lambda work: work.title)
def test_what_is_interrupted_leaves_nothing_behind(
    forks: Forking, field: Field, origin: Path, work: Work, count_states: Count
) -> None:
    count_states(interrupt_often(forks, field, origin, work, 20))


@pytest.mark.deep
@pytest.mark.parametrize("work", REPLACING, ids=lambda work: work.title)
def test_what_is_interrupted_at_many_calls_leaves_nothing_behind(
    forks: Forking, field: Field, origin: Path, work: Work, count_states: Count, budget: Budget
) -> None:
    count_states(interrupt_often(forks, field, origin, work, 120, budget))
