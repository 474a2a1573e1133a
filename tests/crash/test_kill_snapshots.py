"""Kill campaign with snapshots: a resumed guest continues the same run after any crash.

As in `test_kill`, the seed determines each trial. Afterwards the journal is replayed and compared
at every snapshot, and the guest is resumed from some of them to the same end.
"""

from __future__ import annotations

import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

import journal
from journal.engine import ALL_NETWORK, NO_NETWORK
from journal.events.snapshots import Trigger
from tests.support.budget import Budget
from tests.support.kill_bench import Bench, bench, compare_run, kill_and_compare, strace
from tests.support.killed_runs import (
    CACHE,
    FunctionKill,
    Input,
    Outputs,
    Place,
    Plan,
    Trial,
    writes_of,
)
from tests.support.programs import guest
from tests.support.run_results import Ending
from tests.support.snapshot_guests import COMMANDS, LINES
from tests.support.snapshot_runs import resume_run, snapshots_in

__all__ = ["bench", "strace"]

GONE_ON_MAX = 4
STEPS = 25
BATCH = 5
SIGNAL_TRIALS_MAX = 40

#: Options that arm triggers; a plan has several of them.
ON = (
    ("--snapshot-on", "idle"),
    ("--snapshot-on", "first-stdin"),
    ("--snapshot-on", "bootstrap"),
    ("--snapshot-on", "non-deterministic-call"),
    ("--snapshot-period", "0.02"),
    ("--snapshot-events", "9"),
    ("--snapshot-events", "60"),
    ("--snapshot-bytes", "2KiB"),
    ("--snapshot-bytes", "64KiB"),
)
WAYS = ((), ("--dirty-pages", "compare"), ("--safe-points", "loops"), ("--stacks", "never"))
SIGNALS = (signal.SIGUSR1, signal.SIGALRM, signal.SIGTSTP, signal.SIGCONT)
BY_SIGNAL = ("--snapshot-on", "sigalrm", "--snapshot-on", "sigtstp", "--snapshot-on", "sigstop")


def worker(options: tuple[str, ...], sleep: int = 0) -> Plan:
    """A guest of this project: files, time, randomness, input and output at each step."""
    lines = b"".join(b"line %d\n" % number for number in range(STEPS - 5))
    arguments = ("/work", str(STEPS), str(sleep))
    return Plan(guest("worker"), arguments, lines, place=Place.MEMORY, options=options)


def small(name: str, *arguments: str, options: tuple[str, ...], stdin: bytes = b"") -> Plan:
    """A guest whose output alone shows its run."""
    return Plan(guest(name), arguments, stdin, place=Place.MEMORY, options=options)


def on(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--snapshot-on", name))


#: Guests whose actions fire a trigger.
DOING = {
    Trigger.IDLE: small("sleeper", "6", "150", options=on("idle")),
    Trigger.FIRST_ENVIRON: small("environ", options=on("first-environ")),
    Trigger.FIRST_STDIN: small("stdin", options=on("first-stdin"), stdin=LINES),
    Trigger.FIRST_LISTEN: small("listen", options=(*on("first-listen"), "--net", "all")),
    Trigger.EXPLICIT: small("explicit", "12", options=on("explicit")),
    Trigger.NON_DETERMINISTIC_CALL: small("clocks", "12", options=on("non-deterministic-call")),
    Trigger.PERIODIC_INTERVAL: small("sleeper", "12", "9", options=("--snapshot-period", "0.02")),
    Trigger.EVENT_COUNT: small("deep", "3000", "60", options=("--snapshot-events", "5")),
    Trigger.JOURNAL_SIZE: worker(("--snapshot-bytes", "2KiB"), 3000),
    Trigger.BOOTSTRAP: small(
        "prompt", options=on("bootstrap"), stdin=COMMANDS.replace(b"quit 4", b"quit 0")
    ),
}

#: Functions to kill a process in while it takes a snapshot or resumes from one.
TAKING = (
    *(
        f"journal.engine.runtime.asyncify_stack:AsyncifyStack.{name}"
        for name in ("unwind", "finish_unwind", "rewind")
    ),
    "journal.engine.runtime.asyncify_stack:AsyncifyStack.finish_rewind",
    "journal.engine.snapshot.suspension:SnapshotCoordinator._write_state",
    "journal.engine.snapshot.capture:SnapshotCapture._write_rest",
    "journal.engine.snapshot.capture:SnapshotCapture.commit",
    "journal.log.writer:Writer.sync",
    "journal.log.writer:Writer.append_frame",
)
GOING_ON = (
    "journal.engine.session.resume_plan:plan_resume",
    "journal.engine.snapshot.restore:read_parts",
    "journal.engine.snapshot.memory_image:find_image",
    "journal.engine.snapshot.memory_image:make_image",
    "journal.engine.snapshot.memory_image:_write_image",
    "journal.engine.snapshot.memory_image:_mark_as_verified",
    "journal.engine.snapshot.memory_image:_prune",
    "journal.fs.atomic_file:replace",
    "journal.engine.snapshot.restore:SnapshotRestorer.apply",
    "journal.engine.snapshot.restore:rebuild_state",
    "journal.engine.snapshot.restore:apply_positions",
    "journal.engine.snapshot.suspension:SnapshotCoordinator.begin",
    "journal.engine.runtime.asyncify_stack:AsyncifyStack.rewind",
    "journal.engine.runtime.asyncify_stack:AsyncifyStack.finish_rewind",
    "journal.engine.session.process:Process._continue_live",
)


def check_snapshots(trial: Trial, ending: Ending, told: str) -> None:
    """Replay the journal of a trial, and resume from its snapshots."""
    path = trial.journal
    for each in (False, True):
        found = journal.verify_replay(path, cache=CACHE, from_each_snapshot=each)
        wrong = [one for one in found.checks if one.matches is False]
        assert found.divergence is None, told
        assert not wrong, f"{told}{wrong}"
        assert found.result is not None, told
    if trial.plan.place is Place.HOST:
        return  # The directory has its final state.
    writes = writes_of(path)
    printed = [b"".join(data for stream, data in writes if stream == n) for n in (1, 2)]
    infos = [info for info in snapshots_in(path) if info.resumable]
    for info in infos[:: max(1, len(infos) // GONE_ON_MAX)]:
        network = ALL_NETWORK if "--net" in trial.plan.options else NO_NETWORK
        again = resume_run(path, info.seq, CACHE, stdin=trial.plan.stdin, network=network)
        assert again.outcome.code == ending.code, f"{told}from {info.seq}"
        assert [again.stdout, again.stderr] == printed, f"{told}from {info.seq}"
        assert again.files == ending.files, f"{told}from {info.seq}"


def run_and_check(plan: Plan, seed: str, bench: Bench, folder: Path) -> Trial:
    """Run one trial, and check the content of its journal."""
    trial = kill_and_compare(plan, seed, bench, folder)
    check_snapshots(trial, trial.ending(), f"seed {seed!r}, {plan}\n")
    return trial


def vary_plan(chance: random.Random) -> Plan:
    """Return a worker with random triggers and all other user options."""
    triggers = chance.sample(ON, chance.randint(1, 3))
    named = [pair for pair in triggers if pair[0] == "--snapshot-on"]
    counted = dict(pair for pair in triggers if pair[0] != "--snapshot-on")
    options = tuple(word for pair in (*named, *counted.items()) for word in pair)
    options += chance.choice(WAYS)
    asks = chance.random() < 0.3
    return replace(
        worker(options + (BY_SIGNAL if asks else ()), chance.choice([0, 0, 4000])),
        place=chance.choice(list(Place)),
        outputs=chance.choice(list(Outputs)),
        input=chance.choice(list(Input)),
        durability=chance.choice(["output", "output", "interval", "none"]),
        in_flight=chance.choice(["repeat", "drop"]),
        signals=SIGNALS if asks else (),
    )


def test_a_worker_with_snapshots_is_killed_and_ends_as_it_would(
    bench: Bench, tmp_path: Path
) -> None:
    plan = worker(("--snapshot-events", "30", *on("first-stdin")))
    trial = run_and_check(plan, "quick", bench, tmp_path)
    assert len(snapshots_in(trial.journal)) > 3


@pytest.mark.deep
@pytest.mark.parametrize("batch", range(3))
def test_a_worker_with_snapshots_may_be_killed_at_any_time(
    batch: int, bench: Bench, tmp_path: Path, budget: Budget
) -> None:
    for number in budget.spend(range(BATCH), 1):
        seed = f"snapshots {batch} {number}"
        run_and_check(vary_plan(random.Random(seed)), seed, bench, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("number", range(1))
@pytest.mark.parametrize("trigger", DOING, ids=lambda one: one.name)
def test_a_guest_may_be_killed_whatever_its_snapshots_are_taken_for(
    trigger: Trigger, number: int, bench: Bench, tmp_path: Path
) -> None:
    trial = run_and_check(DOING[trigger], f"{trigger.name} {number}", bench, tmp_path)
    assert {info.trigger for info in snapshots_in(trial.journal)} == {trigger}


@pytest.mark.deep
def test_a_guest_may_be_killed_while_it_is_sent_signals(bench: Bench, tmp_path: Path) -> None:
    plan = small("sleeper", "40", "15", options=BY_SIGNAL)
    wanted = {Trigger.EXPLICIT, Trigger.SIGALRM, Trigger.SIGTSTP, Trigger.SIGSTOP}
    taken: set[Trigger] = set()
    for number in range(SIGNAL_TRIALS_MAX):
        if number >= 4 and taken >= wanted:  # Chance decides which signals a process gets.
            break
        trial = run_and_check(replace(plan, signals=SIGNALS), f"signals {number}", bench, tmp_path)
        taken |= {info.trigger for info in snapshots_in(trial.journal)}
    assert taken == wanted


# -- kills during a snapshot and during a resume -------------------------------------------------


def kill_at(
    first: FunctionKill, second: FunctionKill, plan: Plan, bench: Bench, folder: Path
) -> int:
    """Kill a recording at one function and its resume at another, then finish; return the kills."""
    wanted, _, _ = bench.undisturbed(plan)
    trial = Trial(plan, folder / "trial")
    told = f"{first}, {second}, {plan}\n"
    for kill in (first, second, second, None):
        code = trial.session(kill)
        if code != -signal.SIGKILL:
            break
    assert trial.codes[-1] == wanted.code, told + "\n".join(trial.last_words())
    wrong = compare_run(trial, wanted)
    assert not wrong, told + wrong
    check_snapshots(trial, trial.ending(), told)
    return trial.kills


@pytest.mark.deep
def test_a_kill_while_a_snapshot_is_taken_and_while_it_is_gone_on_from_changes_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    first, second = (
        FunctionKill(TAKING[1], 3),
        FunctionKill("journal.engine.snapshot.memory_image:_write_image"),
    )
    assert kill_at(first, second, DOING[Trigger.EVENT_COUNT], bench, tmp_path) > 1


@pytest.mark.deep
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", TAKING)
def test_a_guest_may_be_killed_at_any_step_of_taking_a_snapshot(
    where: str, after: bool, bench: Bench, tmp_path: Path
) -> None:
    chance, kills = random.Random(f"{where} {after}"), 0
    for nth in (1, 5):
        plan = DOING[chance.choice([Trigger.EVENT_COUNT, Trigger.EXPLICIT])]
        second = FunctionKill(where, chance.randint(1, 3), after=chance.random() < 0.5)
        kills += kill_at(FunctionKill(where, nth, after), second, plan, bench, tmp_path)
    assert kills > 2


@pytest.mark.deep
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", GOING_ON)
def test_a_guest_may_be_killed_at_any_step_of_going_on_from_a_snapshot(
    where: str, after: bool, bench: Bench, tmp_path: Path
) -> None:
    trigger, nth = (Trigger.EVENT_COUNT, 7) if after else (Trigger.EXPLICIT, 4)
    first = FunctionKill("journal.engine.snapshot.capture:SnapshotCapture.commit", nth, after=True)
    kills = kill_at(first, FunctionKill(where, 1, after), DOING[trigger], bench, tmp_path)
    assert kills >= 2, "the second kill comes too"


# -- the state itself ------------------------------------------------------------------------------

DETERMINED = {
    "deep": small("deep", "3000", "60", options=("--snapshot-events", "1")),
    "pointers": small("pointers", "100", options=("--snapshot-events", "1")),
    "prompt": small(
        "prompt", options=("--snapshot-events", "1"), stdin=COMMANDS.replace(b"quit 4", b"quit 0")
    ),
    "growing": small("growing", options=("--snapshot-events", "1")),
}


@pytest.mark.deep
@pytest.mark.parametrize("number", range(1))
@pytest.mark.parametrize("name", DETERMINED)
def test_killed_or_not_the_whole_state_is_the_same_to_the_bit_at_each_call(
    name: str, number: int, bench: Bench, tmp_path: Path
) -> None:
    plan = DETERMINED[name]
    whole = Trial(plan, tmp_path / "whole")
    whole.session()
    wanted = {(info.calls, info.function): info.digest for info in snapshots_in(whole.journal)}
    trial = run_and_check(plan, f"state {name} {number}", bench, tmp_path)
    infos = snapshots_in(trial.journal)
    common = [info for info in infos if (info.calls, info.function) in wanted]
    assert len(common) > len(infos) // 2
    for info in common:
        assert info.digest == wanted[info.calls, info.function], f"{plan} at {info.calls}"
    last = max(wanted)
    assert common[-1].calls >= last[0] - 3, "the end was compared too"
