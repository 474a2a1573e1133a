"""A journal gets its name only when it can be resumed, wherever start-up is killed."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

import journal
from tests.support.kill_bench import strace
from tests.support.killed_runs import STRACE, Plan, SyscallKill, Trial
from tests.support.programs import guest

__all__ = ["strace"]

PLAN = Plan(guest("exit7"), ("42",), b"")
AFTERWARDS = 5
#: System calls that make a journal durable and give it its name; `flock` is the first.
NAMES = "flock,pwrite64,fdatasync,fsync,link,linkat,unlink,rename,ftruncate,fallocate"


def calls_from_the_journal_on(trial: Trial) -> list[SyscallKill]:
    """Return the system calls from the creation of the unnamed journal file to its naming."""
    log = trial.folder / "calls"
    trial.run((*STRACE, "-o", str(log), "-e", f"trace={NAMES}"))
    lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    made: Counter[tuple[str, str]] = Counter()
    calls: list[SyscallKill] = []
    begun = named = False
    left = AFTERWARDS
    for thread, text in lines:
        name, paren, _ = text.partition("(")
        if not paren:
            continue
        made[thread, name] += 1
        begun = begun or name == "flock"
        named = named or name.startswith("link")
        if begun and left:
            calls.append(SyscallKill(name, made[thread, name]))
            left -= named
    return calls


@pytest.mark.deep
def test_a_journal_has_its_name_only_when_it_can_be_resumed(tmp_path: Path, strace: str) -> None:
    if strace:
        pytest.skip(strace)
    assert (
        Trial(PLAN, tmp_path / "first").session() == 42
    )  # This run compiles the module and caches it.
    whole = Trial(PLAN, tmp_path / "whole")
    calls = calls_from_the_journal_on(whole)
    assert whole.codes == [42]
    seen = Counter[bool]()
    for call in calls:
        trial = Trial(PLAN, tmp_path / "trial")
        if trial.session(call) != -signal.SIGKILL:
            continue  # This call was made by another thread, slightly later this time.
        seen[trial.journal.exists()] += 1
        if trial.journal.exists():
            with journal.Reader(trial.journal) as reader:
                assert not list(reader.verify()), f"killed at {call}"
        else:
            left = {path.name for path in trial.folder.iterdir() if "journal" in path.name}
            assert all(name.startswith(".") for name in left), f"killed at {call}: {left}"
        assert trial.session() == 42, f"killed at {call}: {trial.last_words()}"
        assert (trial.folder / "stdout").read_bytes() == b"leaving\n", f"killed at {call}"
    assert seen[False] >= 4, f"the kills miss the moment: {seen}"
    assert seen[True] >= 2, f"the kills miss the moment: {seen}"
