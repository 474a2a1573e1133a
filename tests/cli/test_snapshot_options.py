"""Snapshot options, snapshots by signals, and resumes from a snapshot."""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path

import pytest
from journaltool.options import snapshot
from journaltool.processes import signals

import journal
from journal.errors import JournalError
from journal.snapshots.triggers import format_trigger
from tests.support.command_line import (
    parse_last_json,
    read_line,
    read_process_state,
    run_inside,
    run_tool,
    run_uninterrupted,
    start_tool,
    wait_for_snapshots,
    write_input,
)
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import guest
from tests.support.rewrites import events_of
from tests.support.snapshot_runs import snapshots_in, triggers_in

LINES = b"".join(b"line %d\n" % number for number in range(30))

NOISE = random.Random(5).randbytes(200_000)


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "triggers"),
    [
        ("stdin", (), []),  # The program itself requests no snapshots.
        ("stdin", ("--stacks", "always"), ["first-stdin"]),
        ("environ", ("--stacks", "always"), ["first-environ"]),
        ("explicit", (), ["explicit"] * 3),
        ("stdin", ("--no-snapshots",), []),
        ("stdin", ("--snapshot-on", "first-environ"), []),
        ("environ", ("--snapshot-on", "first-environ", "--stacks", "never"), ["first-environ"]),
        ("stdin", ("--snapshot-on", "BOOTSTRAP"), ["bootstrap"]),
        ("stdin", ("--snapshot-events", "1000000"), []),
        (
            "stdin",
            ("--snapshot-on", "first-stdin", "--snapshot-on", "bootstrap"),
            ["bootstrap", "first-stdin"],
        ),
    ],
)
def test_snapshots_are_taken_for_the_named_triggers_or_the_defaults(
    name: str, options: tuple[str, ...], triggers: list[str], tmp_path: Path
) -> None:
    done = run_tool("run", *options, guest(name), at=tmp_path, stdin=b"one\ntwo\n")
    assert done.returncode == 0, done.stderr
    assert triggers_in(tmp_path / f"{name}.journal") == triggers


@pytest.mark.parametrize(
    ("name", "options", "trigger"),
    [
        ("stdin", ("--snapshot-events", "8"), "event-count"),
        ("cat", ("--snapshot-bytes", "64KiB"), "journal-size"),
        ("sleeper", ("--snapshot-period", "0.04"), "periodic-interval"),
        ("clocks", ("--snapshot-on", "non-deterministic-call"), "non-deterministic-call"),
    ],
)
def test_snapshots_are_taken_repeatedly(
    name: str, options: tuple[str, ...], trigger: str, tmp_path: Path
) -> None:
    data, arguments = (LINES, ()) if name != "cat" else (NOISE, ("4096",))
    done = run_tool("run", *options, guest(name), *arguments, at=tmp_path, stdin=data)
    assert done.returncode == 0, done.stderr
    found = triggers_in(tmp_path / f"{name}.journal")
    assert len(found) >= 2
    assert set(found) == {trigger}


def test_a_guest_that_waits_for_long_is_idle(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "idle", guest("stdin")) as process:
        assert read_line(process)
        wait_for_snapshots(tmp_path / "stdin.journal", 1)
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")
    assert set(triggers_in(tmp_path / "stdin.journal")) == {"idle"}


def test_each_method_of_page_tracking_gives_the_same_snapshots(tmp_path: Path) -> None:
    digests = []
    for way in ("auto", "compare"):
        run = ("run", "-j", f"{way}.journal", "--dirty-pages", way, guest("explicit"))
        assert run_tool(*run, at=tmp_path).returncode == 0
        digests.append([one.digest for one in snapshots_in(tmp_path / f"{way}.journal")])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(digests[0]) == 3


@pytest.mark.parametrize("stacks", ["auto", "never"])
def test_stacks_are_in_snapshots_unless_disabled(stacks: str, tmp_path: Path) -> None:
    run = ("run", "--snapshot-on", "first-stdin", "--stacks", stacks, guest("stdin"))
    assert run_tool(*run, at=tmp_path, stdin=LINES).returncode == 0
    (one,) = snapshots_in(tmp_path / "stdin.journal")
    assert one.has_stacks == one.resumable == (stacks == "auto")


@pytest.mark.deep
@pytest.mark.parametrize("safe_points", ["calls", "loops"])
def test_a_computing_guest_is_suspended_in_loops_that_are_safe_points(
    safe_points: str, tmp_path: Path
) -> None:
    run = ("run", "--snapshot-period", "0.1", "--safe-points", safe_points)
    path = tmp_path / "spin.journal"
    if safe_points == "loops":
        with start_tool(tmp_path, *run, guest("spin")) as process:
            assert read_line(process)
            wait_for_snapshots(path, 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SECONDS) == 143
    else:
        assert run_tool(*run, "--timeout", "1", guest("spin"), at=tmp_path).returncode == 124
        assert triggers_in(path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--snapshot-on", "nothing", "a.wasm"),
        ("run", "--snapshot-on", "event-count", "a.wasm"),
        ("run", "--snapshot-period", "0", "a.wasm"),
        ("run", "--snapshot-period", "often", "a.wasm"),
        ("run", "--snapshot-events", "0", "a.wasm"),
        ("run", "--snapshot-bytes", "0", "a.wasm"),
        ("run", "--snapshot-bytes", "much", "a.wasm"),
        ("run", "--stacks", "perhaps", "a.wasm"),
        ("run", "--safe-points", "none", "a.wasm"),
        ("run", "--dirty-pages", "guess", "a.wasm"),
        ("run", "--no-snapshots", "--snapshot-on", "idle", "a.wasm"),
        ("run", "--no-snapshots", "--snapshot-period", "1", "a.wasm"),
        ("run", "--no-snapshots", "--stop-after-snapshot", "a.wasm"),
        ("resume", "--no-snapshots", "--snapshot-events", "1", "a.journal"),
        ("resume", "--at", "first", "--into", "b", "a.journal"),
        ("resume", "--at", "-1", "--into", "b", "a.journal"),
        ("resume", "--at", "7", "a.journal"),
    ],
)
def test_invalid_options_are_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_inside(*arguments, at=tmp_path)
    assert done.returncode == 2, done.stderr
    assert b"Error: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_trigger_is_refused_with_a_list(tmp_path: Path) -> None:
    done = run_inside("run", "--snapshot-on", "sometimes", "a.wasm", at=tmp_path)
    text = re.sub(r"\s+", " ", done.stderr.decode())
    assert all(name in text for name in ("first-stdin", "periodic-interval", "explicit"))


def test_the_help_names_every_trigger(tmp_path: Path) -> None:
    text = re.sub(r"\s+", "", run_inside("run", "--help", at=tmp_path).stdout.decode())
    counted = {"event-count", "journal-size"}  # These triggers have their own options.
    assert all(
        name in text
        for name in {format_trigger(one) for one in journal.snapshots.Trigger} - counted
    )


def test_the_choices_are_those_of_the_library() -> None:
    for choices, members in (
        (snapshot.StacksChoice, journal.engine.Stacks),
        (snapshot.SafePointsChoice, journal.engine.SafePoints),
        (snapshot.DirtyPagesChoice, journal.engine.DirtyPageTracking),
    ):
        assert {one.name: one.value for one in choices} == {one.name: one.value for one in members}


# -- stop after a snapshot, and resume from a snapshot -----------------------------------------


def test_a_run_stops_after_its_first_snapshot_and_a_resume_continues(tmp_path: Path) -> None:
    whole = run_uninterrupted(tmp_path, guest("stdin"), stdin=LINES)
    run = ("run", "--json", "--snapshot-on", "first-stdin", "--stop-after-snapshot")
    done = run_tool(*run, guest("stdin"), at=tmp_path, stdin=LINES)
    assert (done.returncode, done.stdout) == (0, whole[: len(done.stdout)])
    assert done.stdout.startswith(b"ready")
    assert done.stderr.startswith(
        b"journaltool: recording in stdin.journal\n"
        b"journaltool: stopped after its snapshot; "
        b"continue with: journaltool resume stdin.journal\n"
    )
    report = parse_last_json(done)
    assert (report["outcome"], report["stopped_with_snapshot"]) == ("stopped", True)
    resumed = run_tool("resume", "stdin.journal", at=tmp_path, stdin=LINES)
    assert (resumed.returncode, resumed.stderr) == (0, b"")
    assert done.stdout + resumed.stdout == whole
    assert triggers_in(tmp_path / "stdin.journal") == ["first-stdin"]


@pytest.mark.parametrize("options", [(), ("--reexecute",)])
def test_a_resume_continues_from_a_snapshot_or_executes_again(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    whole = run_uninterrupted(tmp_path, guest("stdin"), stdin=LINES)
    with start_tool(tmp_path, "run", "--snapshot-events", "10", guest("stdin")) as process:
        write_input(process, LINES[:100])
        output = b"".join(read_line(process) for _ in range(LINES[:100].count(b"\n") + 1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 143
    before = triggers_in(tmp_path / "stdin.journal")
    assert before
    done = run_tool("resume", *options, "stdin.journal", at=tmp_path, stdin=LINES[100:])
    assert (done.returncode, done.stderr) == (0, b"")
    assert output + done.stdout == whole


def test_a_resume_from_a_chosen_snapshot_writes_a_new_journal(tmp_path: Path) -> None:
    whole = run_uninterrupted(tmp_path, guest("stdin"), stdin=LINES)
    run = ("run", "--snapshot-events", "10", guest("stdin"))
    assert run_tool(*run, at=tmp_path, stdin=LINES).stdout == whole
    path = tmp_path / "stdin.journal"
    before, first = path.read_bytes(), snapshots_in(path)[0]
    at = ("resume", "--at", str(first.seq), "--into", "other.journal")
    done = run_tool(*at, "stdin.journal", at=tmp_path, stdin=b"something else\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not whole.endswith(done.stdout)
    assert path.read_bytes() == before
    assert events_of(tmp_path / "other.journal")
    refused = run_tool(*at, "stdin.journal", at=tmp_path)
    assert refused.returncode == 125
    assert b"other.journal already exists" in refused.stderr


# -- signals -----------------------------------------------------------------------------------


def test_ctrl_c_takes_snapshots_and_does_not_stop_if_it_is_a_trigger(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "ctrl-c", guest("stdin")) as process:
        for count in (1, 2, 3):
            assert read_line(process)
            process.send_signal(signal.SIGINT)
            wait_for_snapshots(tmp_path / "stdin.journal", count)
            write_input(process, b"a line\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 143
    assert triggers_in(tmp_path / "stdin.journal") == ["sigint"] * 3


def test_the_first_ctrl_c_takes_a_snapshot_and_the_second_stops(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "first-sigint", guest("stdin")) as process:
        assert read_line(process)
        process.send_signal(signal.SIGINT)
        wait_for_snapshots(tmp_path / "stdin.journal", 1)
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 130
    assert triggers_in(tmp_path / "stdin.journal") == ["first-sigint"]
    with start_tool(
        tmp_path, "resume", "--snapshot-on", "first-sigint", "stdin.journal"
    ) as process:  # The journal has its first SIGINT already.
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 2 ")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 130
    assert triggers_in(tmp_path / "stdin.journal") == ["first-sigint"]


def test_an_alarm_is_a_trigger_or_ends_the_process(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "timer", guest("stdin")) as process:
        assert read_line(process)
        for count in (1, 2):
            process.send_signal(signal.SIGALRM)
            wait_for_snapshots(tmp_path / "stdin.journal", count)
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")
    assert triggers_in(tmp_path / "stdin.journal") == ["sigalrm"] * 2
    with start_tool(tmp_path, "run", "-j", "b.journal", guest("stdin")) as process:
        assert read_line(process)
        process.send_signal(signal.SIGALRM)
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGALRM


def test_ctrl_z_takes_a_snapshot_and_suspends_until_sigcont(
    tmp_path: Path,
) -> None:
    names = ("--snapshot-on", "ctrl-z", "--snapshot-on", "sigstop")
    with start_tool(tmp_path, "run", *names, guest("stdin")) as process:
        assert read_line(process)
        for count in (1, 2):
            process.send_signal(signal.SIGTSTP)
            wait_until(lambda: read_process_state(process) == "T")
            assert triggers_in(tmp_path / "stdin.journal") == ["sigtstp"] * count
            write_input(process, b"a line\n")
            process.send_signal(signal.SIGCONT)
            assert read_line(process).startswith(b"line %d " % count)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: read_process_state(process) == "T")
        process.send_signal(signal.SIGCONT)
        wait_for_snapshots(tmp_path / "stdin.journal", 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 143
    assert triggers_in(tmp_path / "stdin.journal") == ["sigtstp", "sigtstp", "sigstop"]


@pytest.mark.deep
def test_ctrl_z_suspends_a_guest_that_reaches_no_safe_point(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "ctrl-z", guest("spin")) as process:
        assert read_line(process)
        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: read_process_state(process) == "T")
        assert triggers_in(tmp_path / "spin.journal") == []
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 143


def test_ctrl_z_has_its_default_effect_if_it_is_no_trigger(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", guest("stdin")) as process:
        assert read_line(process)
        before = triggers_in(tmp_path / "stdin.journal")
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: read_process_state(process) == "T")
        process.send_signal(signal.SIGCONT)
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")
        assert set(triggers_in(tmp_path / "stdin.journal")) <= {*before, "idle", "first-stdin"}


@pytest.mark.parametrize("by", ["journal", "number"])
def test_a_running_program_takes_a_requested_snapshot(by: str, tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--snapshot-on", "first-environ", guest("stdin")) as process:
        assert read_line(process)
        target = "stdin.journal" if by == "journal" else str(process.pid)
        done = run_inside("snapshot", "--quiet", target, at=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")
        assert run_inside("snapshot", "--quiet", target, at=tmp_path).returncode == 0
    assert triggers_in(tmp_path / "stdin.journal") == ["explicit"] * 2


def test_a_program_without_snapshots_receives_no_request(tmp_path: Path) -> None:
    with start_tool(tmp_path, "run", "--no-snapshots", guest("stdin")) as process:
        assert read_line(process)
        done = run_inside("snapshot", str(process.pid), at=tmp_path)
        assert done.returncode == 1
        assert b"does not handle requests for snapshots" in done.stderr
        write_input(process, b"a line\n")
        assert read_line(process).startswith(b"line 1 ")


def test_a_late_request_has_no_effect(tmp_path: Path) -> None:
    class Recorder:
        takes_snapshots = True

        def snapshot(self, *_: object) -> None:
            raise JournalError("the guest is over")

    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        with signals.watch_signals(
            Recorder(),  # type: ignore[arg-type]
            journal.engine.SnapshotOptions(on=frozenset(journal.snapshots.Trigger)),
        ):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        after = {number: signal.getsignal(number) for number in signal.valid_signals()}
        assert after == before | {signal.SIGUSR1: signal.SIG_IGN}
    finally:
        signal.signal(signal.SIGUSR1, before[signal.SIGUSR1])
