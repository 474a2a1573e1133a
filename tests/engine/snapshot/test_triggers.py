"""Tests of triggers with real guests: each trigger fires as often as it should, and the guest
resumes exactly.

The guests call their host, wait and write. They are notified of signals, by a signal to the command
line or by `notify`. `tests/snapshots/test_triggers.py` tests the triggers without guests.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import ALL_NETWORK, NO_NETWORK, NetworkPolicy, SnapshotOptions
from journal.events.inputs import ClockRead, RandomBytes
from journal.snapshots import Trigger
from journal.snapshots.triggers import DEFAULTS, ONCE, format_trigger
from tests.support.command_line import (
    read_line,
    read_process_state,
    run_tool,
    run_uninterrupted,
    start_tool,
    wait_for_snapshots,
    write_input,
)
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import events_of
from tests.support.snapshot_runs import (
    FinishedRun,
    check_resumes,
    finish_run,
    resume_run,
    snapshots_in,
    triggers_in,
)

LINES = b"".join(b"line %d\n" % number for number in range(30))
NOISE = random.Random(8).randbytes(500_000)
NEVER = Trigger.SIGSTOP
"""Trigger that none of these guests fires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A guest that fires a trigger, and the expected count; None is more than one.

    ``more`` holds further snapshot options, ``options`` all options of the command line, and
    ``functions`` the host functions at which the guest is suspended.
    """

    trigger: Trigger
    guest: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    count: int | None
    functions: frozenset[str]
    more: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return format_trigger(self.trigger)

    @property
    def snapshots(self) -> SnapshotOptions:
        """Return the snapshot options."""
        return SnapshotOptions(on=frozenset({self.trigger}), **self.more)

    @property
    def network(self) -> NetworkPolicy:
        """Return what the guest may do in the network of the host."""
        return ALL_NETWORK if self.trigger is Trigger.FIRST_LISTEN else NO_NETWORK

    def record(self, path: Path, cache: Path, snapshots: SnapshotOptions) -> journal.Recorder:
        """Record a run."""
        return journal.record(
            guest(self.guest),
            path,
            args=[self.guest, *self.args],
            env={"NAME": "value"},
            stdin=self.stdin,
            cache=cache,
            network=self.network,
            durability=journal.engine.Durability.NONE,
            snapshots=snapshots,
        )

    def run(self, path: Path, cache: Path, snapshots: SnapshotOptions) -> FinishedRun:
        """Return the end of a run."""
        with self.record(path, cache, snapshots) as recorder:
            return finish_run(recorder)

    def resume(self, path: Path, cache: Path, **given: Any) -> FinishedRun:
        """Return the end of a resume."""
        with journal.resume(
            path, stdin=self.stdin, cache=cache, network=self.network, **given
        ) as recorder:
            return finish_run(recorder)

    def check_count(self, path: Path, minimum: int = 2) -> None:
        """Check the number, the triggers and the functions of the snapshots."""
        infos = snapshots_in(path)
        assert {info.trigger for info in infos} == {self.trigger}
        assert {info.function for info in infos} <= self.functions
        assert len(infos) >= minimum if self.count is None else len(infos) == self.count


CASES = (
    Case(
        trigger=Trigger.IDLE,
        guest="sleeper",
        args=("4", "180"),
        count=4,
        functions=frozenset({"poll_oneoff"}),
        options=("--snapshot-on", "idle"),
    ),
    Case(
        trigger=Trigger.FIRST_LISTEN,
        guest="listen",
        count=1,
        functions=frozenset({"sock_listen"}),
        options=("--net", "all", "--snapshot-on", "first-listen"),
    ),
    Case(
        trigger=Trigger.FIRST_ENVIRON,
        guest="environ",
        count=1,
        functions=frozenset({"environ_sizes_get"}),
        options=("--env", "NAME=value", "--snapshot-on", "first-environ"),
    ),
    Case(
        trigger=Trigger.FIRST_STDIN,
        guest="stdin",
        stdin=LINES,
        count=1,
        functions=frozenset({"fd_read"}),
        options=("--snapshot-on", "first-stdin"),
    ),
    Case(
        trigger=Trigger.PERIODIC_INTERVAL,
        guest="sleeper",
        args=("20", "20"),
        count=None,
        functions=frozenset({"poll_oneoff", "fd_write"}),
        more={"period_seconds": 0.06},
        options=("--snapshot-period", "0.06"),
    ),
    Case(
        trigger=Trigger.NON_DETERMINISTIC_CALL,
        guest="clocks",
        args=("9",),
        count=27,
        functions=frozenset({"clock_time_get", "random_get"}),
        options=("--snapshot-on", "non-deterministic-call"),
    ),
    Case(
        trigger=Trigger.EXPLICIT,
        guest="explicit",
        args=("5",),
        count=5,
        functions=frozenset({"proc_snapshot"}),
        options=("--snapshot-on", "explicit"),
    ),
    Case(
        trigger=Trigger.BOOTSTRAP,
        guest="deep",
        args=("300", "60"),
        count=1,
        functions=frozenset({""}),
        options=("--snapshot-on", "bootstrap"),
    ),
    Case(
        trigger=Trigger.EVENT_COUNT,
        guest="chatty",
        args=("200",),
        count=None,
        functions=frozenset({"fd_write"}),
        more={"every_events": 30},
        options=("--snapshot-events", "30"),
    ),
    Case(
        trigger=Trigger.JOURNAL_SIZE,
        guest="cat",
        args=("4096",),
        stdin=NOISE,
        count=None,
        functions=frozenset({"fd_read", "fd_write"}),
        more={"every_bytes": 40_000},
        options=("--snapshot-bytes", "40000"),
    ),
)

#: Triggers that only the host can fire.
TOLD = (
    Trigger.FIRST_SIGINT,
    Trigger.SIGINT,
    Trigger.SIGALRM,
    Trigger.SIGTSTP,
    Trigger.SIGSTOP,
    Trigger.TRANSACTION,
)


def test_every_trigger_has_a_guest() -> None:
    assert {case.trigger for case in CASES} | set(TOLD) == set(Trigger)


# -- from the library -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_guest_does_sets_off_a_trigger_and_each_snapshot_resumes(
    case: Case, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    plain = case.run(tmp_path / "plain.journal", cache_dir, SnapshotOptions())
    run = case.run(path, cache_dir, case.snapshots)
    assert plain.outcome.code == 0
    assert run == plain
    case.check_count(path)
    check_resumes(path, run, cache_dir, stdin=case.stdin, network=case.network)


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_not_armed_does_not_fire(case: Case, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "run.journal"
    case.run(path, cache_dir, SnapshotOptions(on=frozenset({NEVER})))
    assert triggers_in(path) == []
    rest = frozenset(Trigger) - {case.trigger, Trigger.EVENT_COUNT, Trigger.JOURNAL_SIZE}
    case.run(tmp_path / "rest.journal", cache_dir, SnapshotOptions(on=rest))
    assert format_trigger(case.trigger) not in triggers_in(tmp_path / "rest.journal")


def test_a_call_that_is_told_something_sets_off_its_trigger_each_time(
    tmp_path: Path, cache_dir: Path
) -> None:
    (case,) = (case for case in CASES if case.trigger is Trigger.NON_DETERMINISTIC_CALL)
    path = tmp_path / "run.journal"
    case.run(path, cache_dir, case.snapshots)
    told = [one for one in events_of(path) if isinstance(one, ClockRead | RandomBytes)]
    assert len(told) == len(snapshots_in(path)) == case.count


@pytest.mark.parametrize(
    "reexecute",
    [False, pytest.param(True, marks=pytest.mark.deep)],
    ids=["from it", "from the start"],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_that_stops_with_its_snapshot_goes_on_and_once_is_once(
    case: Case, reexecute: bool, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    plain = case.run(tmp_path / "plain.journal", cache_dir, SnapshotOptions())
    stopping = SnapshotOptions(on=frozenset({case.trigger}), **case.more, stop_after=True)
    for session in range(1, 4):
        if session == 1:
            found = case.run(path, cache_dir, stopping)
        else:
            found = case.resume(path, cache_dir, snapshots=stopping, reexecute=reexecute)
        if found.outcome.kind is not journal.engine.ExitKind.STOPPED:
            break
        assert triggers_in(path) == [format_trigger(case.trigger)] * session
        events = events_of(path)
        assert type(events[-1]).__name__ == "Snapshot", "there it ends"
        assert found.stdout == plain.stdout[: len(found.stdout)]
    if case.trigger in ONCE or case.trigger is Trigger.BOOTSTRAP:
        assert session == 2
        assert found == plain
    else:
        assert found.outcome.kind is journal.engine.ExitKind.STOPPED
        assert session == 3, "what may be repeated stops each session"
        rest = case.resume(path, cache_dir, snapshots=case.snapshots, reexecute=reexecute)
        assert rest == plain
        assert set(triggers_in(path)) == {format_trigger(case.trigger)}


def start_fed_guest(path: Path, cache: Path, snapshots: SnapshotOptions) -> journal.Recorder:
    """Run a guest that waits for lines."""
    return journal.record(
        guest("stdin"),
        path,
        args=["stdin"],
        cache=cache,
        durability=journal.engine.Durability.NONE,
        snapshots=snapshots,
    )


def feed_line(recorder: journal.Recorder, line: bytes, number: int) -> None:
    """Send line ``number``, counted from 0, to the guest, and wait for its reaction.

    The guest prints one line at its start and one for each line. A resumed guest prints all of them
    again.
    """
    wait_until(lambda: recorder.stdout.count(b"\n") == number + 1)
    recorder.feed(line)
    wait_until(lambda: recorder.stdout.count(b"\n") == number + 2)


@pytest.mark.parametrize("trigger", TOLD, ids=format_trigger)
def test_who_is_told_of_a_trigger_takes_its_snapshot_once_or_each_time(
    trigger: Trigger, tmp_path: Path, cache_dir: Path
) -> None:
    path, snapshots = tmp_path / "j", SnapshotOptions(on=frozenset({trigger}))
    count, others = 0, set(Trigger) - {trigger}
    lines = [b"line %d\n" % number for number in range(6)]
    with start_fed_guest(path, cache_dir, snapshots) as recorder:
        for number, line in enumerate(lines[:3]):
            feed_line(recorder, line, number)
            assert recorder.notify(trigger) == (number == 0 or trigger not in ONCE)
            assert not any(map(recorder.notify, others))
            count += number == 0 or trigger not in ONCE
            wait_for_snapshots(path, count)
    with journal.resume(path, cache=cache_dir, snapshots=snapshots) as recorder:
        for number, line in enumerate(lines[3:], 3):
            feed_line(recorder, line, number)
            assert recorder.notify(trigger) == (trigger not in ONCE), "once in a journal's life"
            count += trigger not in ONCE
            wait_for_snapshots(path, count)
        recorder.close_stdin()
        wanted = finish_run(recorder)
    assert triggers_in(path) == [format_trigger(trigger)] * count
    assert count == (1 if trigger in ONCE else len(lines))
    check_resumes(path, wanted, cache_dir, stdin=b"".join(lines))


def test_a_transaction_ends_with_a_snapshot_that_has_its_work(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with start_fed_guest(
        path, cache_dir, SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    ) as recorder:
        for number in range(3):
            with recorder.transaction():
                feed_line(recorder, b"order %d\n" % number, number)
                assert triggers_in(path) == ["transaction"] * number
            assert triggers_in(path) == ["transaction"] * (number + 1), "it was waited for"
        with pytest.raises(ZeroDivisionError), recorder.transaction():
            raise ZeroDivisionError
        assert len(triggers_in(path)) == 3, "work that fails has none"
        printed = recorder.stdout
        recorder.close_stdin()
        wanted = finish_run(recorder)
    last = snapshots_in(path)[-1]
    orders = b"".join(b"order %d\n" % number for number in range(3))
    with journal.resume(path, at=last.seq, into=tmp_path / "k", cache=cache_dir) as recorder:
        wait_until(lambda: recorder.stdout == printed)
    check_resumes(path, wanted, cache_dir, stdin=orders)


def test_a_snapshot_that_is_asked_for_has_the_name_that_it_is_asked_by(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with start_fed_guest(
        path, cache_dir, SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    ) as recorder:
        seqs = [recorder.snapshot(trigger, DEADLINE_SECONDS) for trigger in Trigger]
        assert recorder.snapshot() is not None
    infos = snapshots_in(path)
    assert [(info.seq, info.trigger) for info in infos][:-1] == list(
        zip(seqs, Trigger, strict=True)
    )
    assert infos[-1].trigger is Trigger.EXPLICIT


def test_many_runs_go_on_from_the_snapshot_that_a_run_has_stopped_with(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "warm.journal"
    stopping = SnapshotOptions(on=frozenset({Trigger.FIRST_STDIN}), stop_after=True)
    with start_fed_guest(path, cache_dir, stopping) as recorder:
        assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
    (info,), before = snapshots_in(path), path.read_bytes()
    inputs = [LINES[: 40 * number] + b"%d\n" % number for number in range(6)]
    found: dict[bytes, bytes] = {}

    def go_on(number: int) -> None:
        into = tmp_path / f"{number}.journal"
        at = info.seq if number % 2 else None  # the newest one is that one
        given = inputs[number]
        with journal.resume(path, at=at, into=into, stdin=given, cache=cache_dir) as recorder:
            assert wait_for_end(recorder).code == 0
            found[given] = recorder.stdout

    threads = [threading.Thread(target=go_on, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, given in enumerate(inputs):
        plain = tmp_path / f"plain-{number}.journal"
        with journal.record(
            guest("stdin"), plain, args=["stdin"], stdin=given, cache=cache_dir
        ) as recorder:
            wait_for_end(recorder)
            assert found[given] == recorder.stdout
    assert path.read_bytes() == before
    with journal.resume(path, stdin=LINES, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0


# -- from the command line ------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_command_line_takes_snapshots_for_what_a_guest_does_and_each_resumes(
    case: Case, tmp_path: Path, cache_dir: Path
) -> None:
    arguments: list[str | Path] = [*case.options, guest(case.guest), *case.args]
    done = run_tool("run", "-j", "run.journal", *arguments, at=tmp_path, stdin=case.stdin)
    assert done.returncode == 0, done.stderr
    case.check_count(tmp_path / "run.journal")
    wanted = FinishedRun(
        journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0), done.stdout, done.stderr, {}
    )
    check_resumes(
        tmp_path / "run.journal", wanted, cache_dir, stdin=case.stdin, network=case.network
    )


@pytest.mark.parametrize(
    ("name", "options", "trigger"),
    [
        ("sleeper", (), Trigger.IDLE),
        ("environ", (), Trigger.FIRST_ENVIRON),
        ("listen", ("--net", "all"), Trigger.FIRST_LISTEN),
        ("stdin", (), Trigger.FIRST_STDIN),
        ("explicit", (), Trigger.EXPLICIT),
    ],
)
def test_where_nothing_is_said_the_reference_s_defaults_are_armed_and_nothing_else(
    name: str, options: tuple[str, ...], trigger: Trigger, tmp_path: Path
) -> None:
    arguments: list[str | Path] = ["--stacks", "always", *options, guest(name)]
    steps = ("3", "200") if name == "sleeper" else ()
    done = run_tool("run", "-j", "j", *arguments, *steps, at=tmp_path, stdin=LINES)
    assert done.returncode == 0, done.stderr
    found = set(triggers_in(tmp_path / "j"))
    assert format_trigger(trigger) in found
    assert found <= {format_trigger(trigger) for trigger in DEFAULTS}


SIGNALS = {
    "first-sigint": signal.SIGINT,
    "sigint": signal.SIGINT,
    "sigalrm": signal.SIGALRM,
    "sigtstp": signal.SIGTSTP,
    "sigstop": signal.SIGSTOP,
}


def send_signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal, and continue a process that the signal stops."""
    process.send_signal(number)
    if number in (signal.SIGTSTP, signal.SIGSTOP):
        wait_until(lambda: read_process_state(process) == "T")
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_sets_off_its_trigger_in_the_middle_and_each_snapshot_resumes(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    whole = run_uninterrupted(tmp_path, guest("stdin"), stdin=b"one\ntwo\n")
    path = tmp_path / "stdin.journal"
    count = 1 if name == "first-sigint" else 2
    with start_tool(tmp_path, "run", "--snapshot-on", name, guest("stdin")) as process:
        said = read_line(process)
        for number, line in enumerate((b"one\n", b"two\n")):
            if number < count:
                send_signal(process, SIGNALS[name])
                wait_for_snapshots(path, number + 1)
            write_input(process, line)
            said += read_line(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        said += process.stdout.read()
        assert process.wait(DEADLINE_SECONDS) == 0
    assert said == whole
    assert triggers_in(path) == [name] * count
    for info in snapshots_in(path):
        found = resume_run(path, info.seq, cache_dir, stdin=b"one\ntwo\n")
        assert (found.outcome.code, found.stdout) == (0, whole)


@pytest.mark.deep
@pytest.mark.parametrize("name", [name for name in SIGNALS if name != "sigstop"])
def test_a_run_that_a_signal_stops_with_its_snapshot_goes_on(name: str, tmp_path: Path) -> None:
    whole = run_uninterrupted(tmp_path, guest("stdin"), stdin=LINES)
    command = ("run", "--snapshot-on", name, "--stop-after-snapshot", guest("stdin"))
    with start_tool(tmp_path, *command) as process:
        said = read_line(process)
        process.send_signal(SIGNALS[name])
        assert process.wait(DEADLINE_SECONDS) == 0
    assert triggers_in(tmp_path / "stdin.journal") == [name]
    done = run_tool("resume", "stdin.journal", at=tmp_path, stdin=LINES)
    assert (done.returncode, said + done.stdout) == (0, whole)


def test_a_period_is_what_is_said(tmp_path: Path, cache_dir: Path) -> None:
    path, period = tmp_path / "j", 0.25
    on = SnapshotOptions(on=frozenset({Trigger.PERIODIC_INTERVAL}), period_seconds=period)
    began = time.monotonic()
    with journal.record(
        guest("sleeper"), path, args=["sleeper", "150", "10"], cache=cache_dir, snapshots=on
    ) as recorder:
        wait_for_end(recorder)
    took = time.monotonic() - began
    infos = snapshots_in(path)
    assert 2 < len(infos) <= took / period
    gaps = [b.time - a.time for a, b in pairwise(infos)]
    assert min(gaps) >= period * 1e6 * 0.99
