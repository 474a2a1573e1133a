"""Signals of guests: order, waits, timers, exits; their places in a replay and in snapshots."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import journal
from journal import Divergence, NotResumable
from journal.engine import ExitKind, RunResult, SnapshotOptions, verify_replay
from journal.engine.runtime.bindings import Instance
from journal.engine.wasi.functions import IMPORTS
from journal.engine.wasi.signals import GuestSignals
from journal.engine.wasi.stdio.stdin import FedSource
from journal.errors import OptionError
from journal.events.inputs import IntervalStarted, SignalDelivered, StreamRead
from journal.events.snapshots import IntervalTimer, SignalState, Snapshot, Trigger
from journal.wasi_abi import Signal
from tests.support.deadlines import wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import (
    alter_event,
    events_of,
    frames_of,
    keep_first,
    replace_event,
    rewrite,
)
from tests.support.snapshot_runs import snapshots_in, triggers_in
from tests.support.wasmer_oracle import Outcome, require_wasmer, run_with_wasmer

WITHOUT_SNAPSHOTS = SnapshotOptions(on=frozenset())
TAKING = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))

ORDER = """\
proc_signals_sizes_get 0
of 0
proc_raise 0
signal 10
handled 1
proc_raise 0
signal 12
handled 1
proc_signal 0
signal 15
handled 1
thread_signal 0
signal 10
signal 12
handled 2
raised 0
handled 1
proc_raise 0
proc_raise 0
proc_raise 0
proc_raise 0
signal 12
handled 1
signal 2
handled 1
unblocked 7
another 1
proc_raise 0
signal 27
size 80 25
handled 1
proc_raise 0
"""

ALARM = """\
fd_pipe 0
once 1
poll_oneoff 27
pipe 27
input 27
stopped 0
"""


@contextmanager
def started(
    path: Path, cache: Path, *args: str, snapshots: SnapshotOptions | None = None, **options: Any
) -> Iterator[journal.Recorder]:
    with journal.record(
        guest("signals"), path, args=["signals", *args], cache=cache, snapshots=snapshots, **options
    ) as recorder:
        yield recorder


def run(path: Path, cache: Path, *args: str, **options: Any) -> tuple[RunResult, str]:
    """Record a run to its end, and replay it."""
    with started(path, cache, *args, **options) as recorder:
        result = wait_for_end(recorder)
        output = recorder.stdout.decode()
    check_replay(path, cache)
    return result, output


def check_replay(path: Path, cache: Path) -> None:
    replay = verify_replay(path, cache=cache)
    assert replay.matches, (replay.divergence, replay.checks)


def arrivals(path: Path) -> list[SignalDelivered]:
    return [event for event in events_of(path) if isinstance(event, SignalDelivered)]


def wait_for_output(recorder: journal.Recorder, text: bytes) -> None:
    wait_until(lambda: text in recorder.stdout, f"{text!r} is not printed")


class Waiting:
    """A guest that waits for its input, again and again."""

    def __init__(self, recorder: journal.Recorder, source: FedSource) -> None:
        self._recorder, self._source = recorder, source

    def signal(self, number: int) -> None:
        """Interrupt the guest while it waits."""
        wait_until(lambda: self._source.is_awaited)
        assert self._recorder.signal(number)


# -- signals of the guest to itself ----------------------------------------------------------------


def test_signals_to_oneself_are_handled_before_the_call_returns(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    assert run(path, cache_dir, "order") == (RunResult(ExitKind.EXITED, 0), ORDER)
    assert arrivals(path) == []  # What the guest does itself is not recorded.


@pytest.mark.parametrize("number", [Signal.TERM, Signal.INT, Signal.KILL])
def test_a_signal_without_a_handler_ends_the_guest(
    number: Signal, tmp_path: Path, cache_dir: Path
) -> None:
    result, output = run(tmp_path / "j", cache_dir, "default", str(int(number)))
    assert (result.kind, result.code, output) == (ExitKind.EXITED, 128 + number, "")


@pytest.mark.parametrize(
    "number", [Signal.CHLD, Signal.URG, Signal.WINCH, Signal.CONT, Signal.STOP]
)
def test_some_signals_do_nothing_without_a_handler(
    number: Signal, tmp_path: Path, cache_dir: Path
) -> None:
    result, output = run(tmp_path / "j", cache_dir, "default", str(int(number)))
    assert (result.code, output) == (0, "proc_raise 0\n")


def test_an_exit_in_a_handler_ends_the_guest(tmp_path: Path, cache_dir: Path) -> None:
    result, output = run(tmp_path / "j", cache_dir, "exit", "5")
    assert (result.kind, result.code, output) == (ExitKind.EXITED, 5, "signal 10\n")


def test_a_trap_in_a_handler_ends_the_guest_with_the_whole_backtrace(
    tmp_path: Path, cache_dir: Path
) -> None:
    result, output = run(tmp_path / "j", cache_dir, "trap")
    assert (result.kind, result.reason, output) == (ExitKind.TRAPPED, "unreachable", "signal 10\n")
    assert len(result.backtrace.splitlines()) > 2  # The handler, and what called the host.


@pytest.mark.deep
def test_signals_to_oneself_are_handled_as_in_wasmer(tmp_path: Path) -> None:
    require_wasmer()
    assert run_with_wasmer(guest("signals"), ("order",), tmp_path) == Outcome(0, ORDER.encode())


@pytest.mark.deep
@pytest.mark.parametrize(
    ("arguments", "wasmers", "own"),
    [
        (("exit", "5"), 5, 5),
        # Wasmer ends with WASI's errno INTR, whatever the signal is, and ignores SIGTERM.
        (("default", "2"), 27, 130),
        (("default", "9"), 27, 137),
        (("default", "6"), 134, 134),
        (("default", "15"), 0, 143),
    ],
)
def test_exit_codes_of_signals_are_those_of_posix(
    arguments: tuple[str, ...], wasmers: int, own: int, tmp_path: Path, cache_dir: Path
) -> None:
    require_wasmer()
    assert run_with_wasmer(guest("signals"), arguments, tmp_path).code == wasmers
    assert run(tmp_path / "j", cache_dir, *arguments)[0].code == own


# -- waits and timers ------------------------------------------------------------------------------


def test_a_timer_interrupts_every_wait(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    result, output = run(path, cache_dir, "alarm")
    assert (result.code, output) == (0, ALARM)
    assert all(event.signal == Signal.ALRM and event.expired for event in arrivals(path))
    assert sum(event.interrupts for event in arrivals(path)) >= 3
    assert sum(isinstance(event, IntervalStarted) for event in events_of(path)) == 2


def test_a_signal_interrupts_a_read_of_input(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    source = FedSource()
    with started(path, cache_dir, "wait", stdin=source) as recorder:
        guest_waits = Waiting(recorder, source)
        guest_waits.signal(signal.SIGUSR1)
        wait_for_output(recorder, b"signal 10\nhandled 1\ninterrupted 1\n")
        source.feed(b"four")
        wait_for_output(recorder, b"read 4\n")
        guest_waits.signal(signal.SIGWINCH)
        wait_for_output(recorder, b"signal 27\nsize 80 25\nhandled 1\ninterrupted 2\n")
        guest_waits.signal(signal.SIGTERM)
        assert wait_for_end(recorder).code == 3
    check_replay(path, cache_dir)
    assert [(event.signal, event.interrupts) for event in arrivals(path)] == [
        (Signal.USR1, True),
        (Signal.WINCH, True),
        (Signal.TERM, True),
    ]


def test_a_guest_takes_only_signals_that_it_handles(tmp_path: Path, cache_dir: Path) -> None:
    with started(tmp_path / "hang", cache_dir, "hang") as recorder:
        wait_for_output(recorder, b"ready 0\n")
        assert not recorder.signal(signal.SIGKILL)
        assert recorder.signal(signal.SIGINT)
        wait_for_output(recorder, b"signal 2\n")
        assert not recorder.signal(signal.SIGINT)  # Its handler does not return.
        with pytest.raises(OptionError, match="a guest cannot receive signal 16: WASI"):
            recorder.signal(signal.SIGSTKFLT)
    with journal.record(
        guest("stdin"), tmp_path / "stdin", args=["stdin"], cache=cache_dir
    ) as recorder:
        wait_until(lambda: recorder.stdout)
        assert not recorder.signal(signal.SIGTERM)
        assert recorder.wait(0) is None


def test_a_guest_without_functions_of_signals_calls_the_host_directly(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: dict[str, set[bool]] = {}
    define = Instance.define

    def note(instance: Instance, import_: Any, signature: Any, handler: Any, state: Any) -> None:
        is_plain = handler is IMPORTS[import_.module][import_.name][1]
        handlers.setdefault(path.name, set()).add(is_plain)
        define(instance, import_, signature, handler, state)

    monkeypatch.setattr(Instance, "define", note)
    for name in ("listen", "signals"):
        path = tmp_path / name
        with journal.record(guest(name), path, args=[name], cache=cache_dir) as recorder:
            wait_for_end(recorder)
    assert handlers == {"listen": {True}, "signals": {False}}


# -- resumes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, bytes]:
    """A journal in which the guest has got three signals and waits for input, and its output."""
    path = tmp_path_factory.mktemp("signals") / "j"
    source = FedSource()
    with started(path, cache_dir, "wait", snapshots=WITHOUT_SNAPSHOTS, stdin=source) as recorder:
        guest_waits = Waiting(recorder, source)
        for count, number in enumerate((signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP), 1):
            guest_waits.signal(number)
            wait_for_output(recorder, b"interrupted %d\n" % count)
        return path, recorder.stdout


def test_a_resume_delivers_signals_at_the_same_calls(
    stopped: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, output = stopped
    copy = rewrite(path, tmp_path / "j")
    source = FedSource()
    with journal.resume(copy, snapshots=TAKING, stdin=source, cache=cache_dir) as recorder:
        Waiting(recorder, source).signal(signal.SIGUSR1)
        wait_for_output(recorder, b"interrupted 4\n")
        recorder.close_stdin()
        wait_for_end(recorder)
        assert recorder.stdout == output + b"signal 10\nhandled 1\ninterrupted 4\nend 4\n"
    check_replay(copy, cache_dir)


def test_a_journal_that_is_cut_anywhere_is_resumed(
    stopped: tuple[Path, bytes], tmp_path: Path, cache_dir: Path
) -> None:
    path, _ = stopped
    seqs = [frame.seq for frame in frames_of(path) if frame.tag == SignalDelivered.tag]
    for seq in seqs:
        for count in (seq, seq + 1):
            cut = rewrite(path, tmp_path / f"{count}", keep_first(count))
            with journal.resume(cut, cache=cache_dir) as recorder:
                wait_until(lambda: recorder.signal(signal.SIGTERM))
                assert wait_for_end(recorder).code == 3
            check_replay(cut, cache_dir)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"signal": 0}, NotResumable, "recorded signal 0 does not exist"),
        ({"signal": 31}, NotResumable, "recorded signal 31 does not exist"),
        ({"calls": 2}, Divergence, "request for StreamRead"),
        ({"interrupts": False}, Divergence, "request for StreamRead"),
    ],
)
def test_a_forged_signal_is_refused(
    changes: dict[str, object],
    error: type[Exception],
    text: str,
    stopped: tuple[Path, bytes],
    tmp_path: Path,
    cache_dir: Path,
) -> None:
    path, _ = stopped
    frames = frames_of(path)
    index = next(at for at, frame in enumerate(frames) if frame.tag == SignalDelivered.tag)
    event = alter_event(arrivals(path)[0], **changes)
    forged = rewrite(path, tmp_path / "j", lambda frames: replace_event(frames, index, event))
    with journal.resume(forged, cache=cache_dir) as recorder, pytest.raises(error, match=text):
        wait_for_end(recorder)


# -- snapshots -------------------------------------------------------------------------------------


def states(path: Path) -> list[SignalState]:
    return [event for event in events_of(path) if isinstance(event, SignalState)]


def test_a_snapshot_waits_for_the_end_of_a_handler(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    first = SnapshotOptions(on=frozenset({Trigger.EXPLICIT, Trigger.FIRST_STDIN}))
    result, output = run(path, cache_dir, "handler", snapshots=first, stdin=b"a")
    assert (result.code, output) == (
        0,
        "signal 10\nsnapshot 0\nread 1\nhandled 1\nproc_raise 0\nend 1\n",
    )
    assert triggers_in(path) == ["explicit", "first-stdin"]
    events = events_of(path)
    taken = [at for at, event in enumerate(events) if isinstance(event, Snapshot)]
    read = next(at for at, event in enumerate(events) if isinstance(event, StreamRead))
    assert taken[0] > read  # The guest had read in its handler, which had ended.
    assert [state.handler for state in states(path)] == ["__wasm_signal"] * 2


def handled(output: str) -> list[int]:
    """Return the numbers of the signals whose handler has run."""
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith("signal ")]


def test_signals_survive_a_snapshot(tmp_path: Path, cache_dir: Path) -> None:
    path, after = tmp_path / "j", tmp_path / "after"
    result, output = run(path, cache_dir, "keep", snapshots=TAKING)
    assert (result.code, sorted(handled(output))) == (0, [10, 12, 14])
    (state,) = states(path)
    assert (state.handler, state.pending[:2]) == ("__wasm_signal_blocked", bytes((12, 10)))
    # On a slow machine the timer has ended already.
    assert (*state.pending[2:], *(timer.signal for timer in state.timers)) == (Signal.ALRM,)
    (info,) = snapshots_in(path)
    assert verify_replay(path, start=info.seq, cache=cache_dir).matches
    with journal.resume(path, at=info.seq, into=after, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert sorted(handled(recorder.stdout.decode())) == [10, 12, 14]
    check_replay(after, cache_dir)


def test_a_timer_continues_after_a_resume(tmp_path: Path, cache_dir: Path) -> None:
    path, cut = tmp_path / "j", tmp_path / "cut"
    with started(path, cache_dir, "alarm", snapshots=TAKING) as recorder:
        wait_for_end(recorder)
    frames = frames_of(path)
    at = next(index for index, frame in enumerate(frames) if frame.tag == IntervalStarted.tag)
    rewrite(path, cut, keep_first(at + 1))
    with journal.resume(cut, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout.decode() == ALARM
    check_replay(cut, cache_dir)


@pytest.mark.parametrize(
    "changes",
    [
        {"pending": b"\0"},
        {"pending": b"\x1f"},
        {"timers": (IntervalTimer(0, False, 1, 1),)},
        {"timers": (IntervalTimer(14, True, 0, 1),)},
    ],
)
def test_impossible_signals_of_a_snapshot_are_refused(changes: dict[str, Any]) -> None:
    state = SignalState(has_handler=True, handler="h", pending=b"", timers=())
    signals = GuestSignals(SimpleNamespace())  # type: ignore[arg-type]
    signals.load(state, 1)
    with pytest.raises(NotResumable, match="signals or interval timers that cannot exist"):
        signals.load(alter_event(state, **changes), 1)  # type: ignore[arg-type]


@pytest.mark.deep
def test_signals_fire_their_triggers(tmp_path: Path, cache_dir: Path) -> None:
    path, source = tmp_path / "j", FedSource()
    options = SnapshotOptions(on=frozenset({Trigger.FIRST_SIGINT, Trigger.SIGINT}))
    with started(path, cache_dir, "wait", snapshots=options, stdin=source) as recorder:
        guest_waits = Waiting(recorder, source)
        for count in (1, 2):
            guest_waits.signal(signal.SIGINT)
            wait_until(lambda count=count: len(triggers_in(path)) == count)  # type: ignore[misc]
    assert triggers_in(path) == ["first-sigint", "sigint"]
    check_replay(path, cache_dir)
    alarm, options = tmp_path / "alarm", SnapshotOptions(on=frozenset({Trigger.SIGALRM}))
    run(alarm, cache_dir, "alarm", snapshots=options)
    assert set(triggers_in(alarm)) == {"sigalrm"}
