"""Runs that are killed again and again, compared with undisturbed runs."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.support.killed_runs import (
    APPENDING,
    BEFORE,
    SHARING,
    FunctionKill,
    Input,
    Kill,
    MomentKill,
    Outputs,
    Plan,
    SyscallKill,
    Trial,
    writes_of,
)
from tests.support.run_results import Ending, describe_difference, is_printed_once

#: System calls around all changes of the journal, the output and a host directory.
CALLS = (
    *("pwrite64", "fdatasync", "fsync", "write", "close", "openat", "linkat", "link", "mmap"),
    *("rename", "renameat", "unlink", "unlinkat", "mkdirat", "symlinkat", "ftruncate", "lseek"),
    *("rmdir", "readlinkat", "newfstatat", "poll", "getdents64", "pread64", "futex"),
)


KILLS_MAX = 4


ATTEMPTS = 8
"""Trials of a seed: on a busy machine a guest can end before the kills of a trial come."""

CERTAIN_KILL = FunctionKill("journal.log.writer:Writer.append_frame", 9)
"""Kill of the last trial. It comes at any speed."""


TICKET = re.compile(rb"ticket ([0-9a-f]{8})\b")


def strace_is_missing() -> str:
    """Return why no kill can target a system call here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt-get install strace)"
    tried = subprocess.run(
        ["strace", "-f", "-qqq", "-e", "inject=getpid:signal=KILL", "true"],
        capture_output=True,
        check=False,
    )
    return "" if tried.returncode == 0 else "strace is not allowed to trace here"


@pytest.fixture(scope="session")
def strace() -> str:
    """Return why kills can only target moments; empty if strace works."""
    return strace_is_missing()


@dataclass(slots=True)
class Bench:
    """Undisturbed runs for comparison, each made once."""

    folder: Path
    strace: bool
    known: dict[Plan, tuple[Ending, int, Counter[str]]] = field(default_factory=dict)

    def undisturbed(self, plan: Plan) -> tuple[Ending, int, Counter[str]]:
        """Return a plan's results, the size of its journal, and its system calls."""
        shared = plan.outputs in SHARING
        outputs = Outputs.SHARED if shared else Outputs.FILES
        key = replace(plan, outputs=outputs, input=Input.FILE, in_flight="repeat")
        if key not in self.known:
            trial = Trial(key, self.folder / "undisturbed")
            calls = trial.counted_session(CALLS) if self.strace else Counter[str]()
            if not self.strace:
                trial.session()
            assert trial.codes == [0], (self.folder / "undisturbed" / "stderr").read_text()
            self.known[key] = trial.ending(), trial.journal.stat().st_size, calls
        ending, size, calls = self.known[key]
        if plan.outputs in APPENDING:
            ending = replace(ending, stdout=BEFORE + ending.stdout, stderr=BEFORE + ending.stderr)
        return ending, size, calls


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, strace: str) -> Bench:
    """Return the directory of this session's trials."""
    return Bench(tmp_path_factory.mktemp("bench"), not strace)


def choose_kill(chance: random.Random, calls: Counter[str], first: bool) -> Kill:
    """Return a moment in the remaining run, or one of the system calls."""
    if calls and chance.random() < 0.5:
        name = chance.choice([name for name in CALLS if calls[name]])
        return SyscallKill(name, chance.randint(1, max(1, calls[name] * 9 // 10)))
    if not first and chance.random() < 0.3:
        return MomentKill(0.0, chance.uniform(0.0, 0.4))  # During the replay.
    return MomentKill(chance.random() * 0.95, chance.uniform(0.0, 0.02))


def kill_and_compare(plan: Plan, seed: str, bench: Bench, folder: Path) -> Trial:
    """Run a plan to its end with at least one kill from the seed; assert a correct result."""
    wanted, size, calls = bench.undisturbed(plan)
    for attempt in range(ATTEMPTS):
        chance = random.Random(f"{seed} {attempt}")
        trial, kills = Trial(plan, folder / "trial", size), list[Kill | None]()
        most = chance.randint(1, KILLS_MAX)
        for number in range(most + 1):
            kills.append(choose_kill(chance, calls, not number) if number < most else None)
            if not number and attempt == ATTEMPTS - 1:
                kills[-1] = CERTAIN_KILL
            if trial.session(kills[-1]) != -signal.SIGKILL:
                break
        if trial.kills:
            break
    told = f"seed {seed!r}, {plan}\nkills {kills}\nsessions ended with {trial.codes}\n"
    assert trial.kills, f"{told}no kill came before the end"
    assert trial.codes[-1] == wanted.code, told + "\n".join(trial.last_words())
    wrong = compare_run(trial, wanted)
    assert not wrong, told + wrong
    return trial


def compare_run(trial: Trial, wanted: Ending) -> str:
    """Return the differences from the expected result; random tickets differ in each run."""
    found = trial.ending()
    said = b"".join(trial.heard[0]) if trial.heard[0] else found.stdout
    tickets = set(TICKET.findall(said))
    if len(tickets) > 1:
        return f"the tickets {tickets} are not one"
    for ticket in tickets:
        wanted = replace(wanted, stdout=TICKET.sub(b"ticket " + ticket, wanted.stdout))
    if trial.plan.outputs is not Outputs.PIPES:
        return describe_difference(wanted, found)
    writes = writes_of(trial.journal)
    drop = trial.plan.in_flight == "drop"
    for number, whole in enumerate((wanted.stdout, wanted.stderr)):
        written = [data for stream, data in writes if stream == number + 1]
        if not is_printed_once(whole, trial.heard[number], written, drop):
            return f"the pipe of stream {number + 1} got {trial.heard[number]}, not {whole!r}"
    return describe_difference(wanted, replace(found, stdout=wanted.stdout, stderr=wanted.stderr))
