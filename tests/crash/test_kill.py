"""Kill campaign: a guest killed at any moment ends as if nothing had happened.

The seed determines each trial: the options of the run, and the moments of one or more kills while
the guest runs or resumes. A quick version runs with every `make test`, the whole campaign is marked
`deep`.
"""

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

from tests.support.budget import Budget
from tests.support.killed_runs import (
    APPENDING,
    BEFORE,
    SHARING,
    Call,
    Input,
    Kill,
    Moment,
    Outputs,
    Place,
    Plan,
    Trial,
    writes_of,
)
from tests.support.programs import ROOT, guest
from tests.support.run_results import Ending, difference, is_told_once

#: System calls around all changes of the journal, the output and a host directory.
CALLS = (
    *("pwrite64", "fdatasync", "fsync", "write", "close", "openat", "linkat", "link", "mmap"),
    *("rename", "renameat", "unlink", "unlinkat", "mkdirat", "symlinkat", "ftruncate", "lseek"),
    *("rmdir", "readlinkat", "newfstatat", "poll", "getdents64", "pread64", "futex"),
)
KILLS_MAX = 4
ATTEMPTS = 8
STEPS = 40
BATCH = 10
ORDERS = 16
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


def worker() -> Plan:
    """A guest of this project: files, time, randomness, input and output at each step."""
    lines = b"".join(b"line %d\n" % number for number in range(STEPS - 10))
    return Plan(guest("worker"), ("/work", str(STEPS)), lines)


def story(quickjs: Path) -> Plan:
    """The script of the demonstration under QuickJS."""
    orders = b"".join(b"order %d\n" % number for number in range(ORDERS))
    copies = ((ROOT / "demo" / "story.js", "/story.js"),)
    arguments = ("--std", "/story.js")
    return Plan(quickjs, arguments, orders, copies=copies, guest_directory="/window")


def varied(plan: Plan, chance: random.Random) -> Plan:
    """The plan with every user option set."""
    return replace(
        plan,
        place=chance.choice(list(Place)),
        outputs=chance.choice(list(Outputs)),
        input=chance.choice(list(Input)),
        durability=chance.choice(["output", "output", "interval", "none"]),
        in_flight=chance.choice(["repeat", "drop"]),
    )


def a_kill(chance: random.Random, calls: Counter[str], first: bool) -> Kill:
    """Return a moment in the remaining run, or one of the system calls."""
    if calls and chance.random() < 0.5:
        name = chance.choice([name for name in CALLS if calls[name]])
        return Call(name, chance.randint(1, max(1, calls[name] * 9 // 10)))
    if not first and chance.random() < 0.3:
        return Moment(0.0, chance.uniform(0.0, 0.4))  # During the replay.
    return Moment(chance.random() * 0.95, chance.uniform(0.0, 0.02))


def tell(plan: Plan, seed: str, bench: Bench, folder: Path) -> Trial:
    """Run a plan to its end with at least one kill from the seed; assert a correct result."""
    wanted, size, calls = bench.undisturbed(plan)
    for attempt in range(ATTEMPTS):
        chance = random.Random(f"{seed} {attempt}")
        trial, kills = Trial(plan, folder / "trial", size), list[Kill | None]()
        most = chance.randint(1, KILLS_MAX)
        for number in range(most + 1):
            kills.append(a_kill(chance, calls, not number) if number < most else None)
            if trial.session(kills[-1]) != -signal.SIGKILL:
                break
        if trial.kills:
            break
    told = f"seed {seed!r}, {plan}\nkills {kills}\nsessions ended with {trial.codes}\n"
    assert trial.kills, f"{told}no kill came before the end"
    assert trial.codes[-1] == wanted.code, told + "\n".join(trial.last_words())
    wrong = compared(trial, wanted)
    assert not wrong, told + wrong
    return trial


def compared(trial: Trial, wanted: Ending) -> str:
    """Return the differences from the expected result; random tickets differ in each run."""
    found = trial.ending()
    said = b"".join(trial.heard[0]) if trial.heard[0] else found.stdout
    tickets = set(TICKET.findall(said))
    if len(tickets) > 1:
        return f"the tickets {tickets} are not one"
    for ticket in tickets:
        wanted = replace(wanted, stdout=TICKET.sub(b"ticket " + ticket, wanted.stdout))
    if trial.plan.outputs is not Outputs.PIPES:
        return difference(wanted, found)
    writes = writes_of(trial.journal)
    drop = trial.plan.in_flight == "drop"
    for number, whole in enumerate((wanted.stdout, wanted.stderr)):
        written = [data for stream, data in writes if stream == number + 1]
        if not is_told_once(whole, trial.heard[number], written, drop):
            return f"the pipe of stream {number + 1} got {trial.heard[number]}, not {whole!r}"
    return difference(wanted, replace(found, stdout=wanted.stdout, stderr=wanted.stderr))


QUICK = [
    ("moments", Outputs.FILES, Place.HOST, Input.FILE, "output", "repeat"),
    ("moments", Outputs.APPEND, Place.MEMORY, Input.PIPE, "output", "repeat"),
    ("moments", Outputs.PIPES, Place.HOST, Input.PIPE, "output", "repeat"),
    ("moments", Outputs.SHARED_APPEND, Place.MEMORY, Input.FILE, "none", "repeat"),
    ("calls", Outputs.FRESH, Place.HOST, Input.FILE, "output", "repeat"),
    ("calls", Outputs.PIPES, Place.MEMORY, Input.FILE, "output", "drop"),
    ("calls", Outputs.SHARED, Place.HOST, Input.PIPE, "interval", "repeat"),
    ("calls", Outputs.FILES, Place.HOST, Input.PIPE, "none", "repeat"),
]


@pytest.mark.parametrize(
    ("aim", "outputs", "place", "source", "durability", "in_flight"),
    [pytest.param(*one, marks=[pytest.mark.deep] * (at % 3 != 2)) for at, one in enumerate(QUICK)],
    ids=[" ".join((aim, kind.value.split(",")[0])) for aim, kind, *_ in QUICK],
)
def test_a_worker_that_is_killed_leaves_what_one_that_was_not_leaves(
    aim: str,
    outputs: Outputs,
    place: Place,
    source: Input,
    durability: str,
    in_flight: str,
    bench: Bench,
    strace: str,
    tmp_path: Path,
) -> None:
    if aim == "calls" and strace:
        pytest.skip(strace)
    plan = replace(
        worker(),
        outputs=outputs,
        place=place,
        input=source,
        durability=durability,
        in_flight=in_flight,
    )
    tell(plan, f"quick {aim} {plan}", bench, tmp_path)


@pytest.mark.parametrize("number", range(4))
def test_a_script_that_is_killed_leaves_what_one_that_was_not_leaves(
    number: int, quickjs: Path, bench: Bench, tmp_path: Path
) -> None:
    places = [Place.HOST, Place.MEMORY, Place.HOST, Place.HOST]
    outputs = [Outputs.FILES, Outputs.APPEND, Outputs.PIPES, Outputs.FRESH]
    plan = replace(story(quickjs), place=places[number], outputs=outputs[number])
    tell(plan, f"quick story {number}", bench, tmp_path)


def campaign(plan: Plan, name: str, batch: int, bench: Bench, folder: Path, budget: Budget) -> None:
    """Run up to ``BATCH`` trials, each with at least one kill."""
    for number in budget.spend(range(BATCH), 2):
        seed = f"{name} {batch} {number}"
        tell(varied(plan, random.Random(seed)), seed, bench, folder)


@pytest.mark.deep
@pytest.mark.parametrize("batch", range(6))
def test_a_worker_may_be_killed_at_any_time(
    batch: int, bench: Bench, tmp_path: Path, budget: Budget
) -> None:
    campaign(worker(), "worker", batch, bench, tmp_path, budget)


@pytest.mark.deep
@pytest.mark.parametrize("batch", range(8))
def test_a_script_may_be_killed_at_any_time(
    batch: int, quickjs: Path, bench: Bench, tmp_path: Path, budget: Budget
) -> None:
    campaign(story(quickjs), "script", batch, bench, tmp_path, budget)


# -- the campaign itself can fail ---------------------------------------------------------------


def test_the_comparison_tells_what_is_not_the_same() -> None:
    ending = Ending(0, b"one\ntwo\n", b"", {"a": b"1", "b": b"a directory"}, {"/c": b"2"})
    assert difference(ending, ending) == ""
    for other, told in (
        (replace(ending, code=1), "ended with 1"),
        (replace(ending, stdout=b"one\none\ntwo\n"), "stdout: 8 bytes wanted, 12 found"),
        (replace(ending, stderr=b"Traceback"), "stderr"),
        (replace(ending, tree={"b": b"a directory"}), "tree: a is missing"),
        (replace(ending, files={"/c": b"2", "/d": b""}), "files: /d is too much"),
        (replace(ending, files={"/c": b"3"}), "files: /c"),
    ):
        assert told in difference(ending, other)


@pytest.mark.parametrize(
    ("sessions", "repeat", "drop"),
    [
        (["aaabbbccc"], True, True),
        (["aaa", "bbbccc"], True, True),
        (["aaa", "aaabbbccc"], True, False),
        (["aaabb", "bbbccc"], True, False),
        (["aaabbb", "", "bbbccc"], True, False),
        (["aaabbb", "", "aaabbbccc"], False, False),
        (["aaabbb", "aaabbbccc"], False, False),
        (["aaa", "ccc"], False, True),
        (["aaab", "ccc"], False, True),
        (["aaabbbcc"], False, False),
        (["aaabbbc", ""], False, True),
        (["aaa", ""], False, False),
        (["", "", "ccc"], False, True),
        (["", "ccc"], False, False),
        (["", "aaabbbccc", "ccc"], True, False),
        (["", "aaabbbccc", "bbbccc"], False, False),
    ],
)
def test_only_the_write_in_flight_may_be_told_twice_or_dropped(
    sessions: list[str], repeat: bool, drop: bool
) -> None:
    writes = [b"aaa", b"bbb", b"ccc"]
    said = [session.encode() for session in sessions]
    assert is_told_once(b"aaabbbccc", said, writes, False) is repeat
    assert is_told_once(b"aaabbbccc", said, writes, True) is drop
