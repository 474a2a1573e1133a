"""Terminal of WASIX: reading, changing and restoring its settings."""

from __future__ import annotations

import os
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.events.core import TtySet
from journal.events.inputs import StreamRead, TtyRead
from journal.events.snapshots import Trigger
from journal.replay import ModelHost, play
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.remote_guest import (
    ANSWER_SIZE,
    DATA,
    END,
    MEMORY_SIZE,
    REMOTE,
    Remote,
    Session,
    encode_order,
    parse_answer,
)
from tests.support.rewrites import events_of, frames_of, keep_first, rewrite
from tests.support.wasix_terminals import _TTY, QUIET, Terminal, Tty, get_tty, set_tty
from tests.support.wat import module


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


@pytest.fixture
def another() -> Iterator[Terminal]:
    found = Terminal(132, 43)
    yield found
    found.close()


# -- reading the settings -----------------------------------------------------------------------


def test_a_guest_without_a_terminal_has_one_of_its_own(tmp_path: Path, cache_dir: Path) -> None:
    with journal.record(REMOTE, tmp_path / "j", cache=cache_dir) as recorder:
        guest = Remote(recorder)
        assert get_tty(guest) == Tty()
        set_tty(guest, QUIET._replace(stdin=1, line_feeds=0))
        assert get_tty(guest) == QUIET._replace(line_feeds=0), "which streams it is does not change"
        guest.end()


def test_a_guest_is_told_of_the_terminal_it_runs_in(
    tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    with journal.record(REMOTE, tmp_path / "j", stderr=terminal.slave, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        assert get_tty(guest) == Tty(80, 24, stderr=1)
        terminal.resize(90, 40)
        attributes = termios.tcgetattr(terminal.slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(terminal.slave, termios.TCSANOW, attributes)
        assert get_tty(guest) == Tty(90, 40, stderr=1, echo=0)


def test_what_a_guest_was_told_comes_from_the_journal(
    tmp_path: Path, cache_dir: Path, terminal: Terminal, another: Terminal
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, stderr=terminal.slave, cache=cache_dir) as recorder:
        first = get_tty(Remote(recorder))
    with journal.resume(path, stderr=another.slave, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) >= ANSWER_SIZE)
        assert Tty(*_TTY.unpack_from(parse_answer(recorder.stdout).data)) == first
        assert get_tty(Remote(recorder)) == first._replace(columns=132, rows=43)
    with journal.resume(path, cache=cache_dir) as recorder:
        wait_until(lambda: len(recorder.stdout) >= 2 * ANSWER_SIZE)
        assert get_tty(Remote(recorder)).stderr, "a guest sees the terminal of its first session"
    reads = [event for event in events_of(path) if isinstance(event, TtyRead)]
    assert [(event.cols, event.rows) for event in reads] == [(80, 24), (132, 43), (80, 25)]


def test_an_answer_of_another_size_is_refused_in_a_sentence(
    tmp_path: Path, cache_dir: Path
) -> None:
    whole = tmp_path / "whole"
    with journal.record(REMOTE, whole, cache=cache_dir) as recorder:
        get_tty(Remote(recorder))
    for number, payload in enumerate((b"", bytes(21), bytes(23), b"\xff" * 22)):
        target = rewrite(
            whole,
            tmp_path / f"{number}",
            lambda frames, payload=payload: [  # type: ignore[misc]
                frame._replace(payload=payload) if frame.tag == TtyRead.tag else frame
                for frame in frames
            ],
        )
        with (
            journal.resume(target, cache=cache_dir) as recorder,
            pytest.raises(journal.JournalError) as caught,
        ):
            recorder.wait(DEADLINE_SECONDS)
        assert len(str(caught.value).splitlines()) == 1


# -- changing the settings ----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["exit", "stop", "trap"])
def test_what_a_guest_makes_of_its_terminal_is_undone_at_the_end(
    ending: str, tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    before = terminal.attributes, terminal.size
    with journal.record(REMOTE, tmp_path / "j", stderr=terminal.slave, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        set_tty(guest, QUIET)
        assert terminal.modes == (False, False)
        assert terminal.size == QUIET[:4]
        assert get_tty(guest) == QUIET._replace(stderr=1)
        set_tty(guest, QUIET._replace(echo=1))
        assert terminal.modes == (True, False)
        if ending == "exit":
            guest.end()
        elif ending == "trap":
            recorder.feed(encode_order("fd_fdstat_get", 1, 0xFFFFFFFF))
            assert wait_for_end(recorder).kind is journal.engine.ExitKind.TRAPPED
        else:
            recorder.stop()
            assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
        assert (terminal.attributes, terminal.size) == before


def test_a_window_that_somebody_resized_keeps_its_size(
    tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    with journal.record(REMOTE, tmp_path / "j", stderr=terminal.slave, cache=cache_dir) as recorder:
        set_tty(Remote(recorder), QUIET)
        terminal.resize(200, 60)
    assert terminal.size[:2] == (200, 60)


def test_a_guest_that_does_not_wait_for_lines_reads_each_byte_as_it_is_typed(
    tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    program = module("""(module
        (import "wasix_32v1" "tty_set" (func $set (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "\\30\\00\\00\\00\\01\\00\\00\\00")
        (func (export "_start")
            (drop (call $set (i32.const 0)))
            (drop (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 80)))
            (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80)))))""")
    with journal.record(program, tmp_path / "j", stdin=terminal.slave, cache=cache_dir) as recorder:
        wait_until(lambda: terminal.modes == (False, False))
        os.write(terminal.master, b"x")
        assert wait_for_end(recorder) == journal.engine.RunResult(journal.engine.ExitKind.EXITED, 0)
        assert recorder.stdout == b"x"
    assert terminal.modes == (True, True)
    assert terminal.size[:2] == (80, 24), "no size is none"


def test_sizes_that_no_terminal_has_are_refused(
    tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    with journal.record(REMOTE, tmp_path / "j", stderr=terminal.slave, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        for index in range(4):
            sides = [0xFFFF] * 4
            sides[index] += 1
            answer = guest("tty_set", DATA, data=_TTY.pack(*sides, *[0] * 6))
            assert answer.errno == Errno.INVAL
        assert terminal.modes == (True, True)
        set_tty(guest, Tty(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 200, 2, 3, 4, 5, 6))
        assert get_tty(guest) == Tty(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0, 0, 1, 1, 1, 1)
    assert not [event for event in events_of(recorder.path) if isinstance(event, TtySet)][1:]


def test_a_terminal_that_hung_up_is_no_error(tmp_path: Path, cache_dir: Path) -> None:
    terminal = Terminal()
    with journal.record(REMOTE, tmp_path / "j", stderr=terminal.slave, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        set_tty(guest, QUIET)
        os.close(terminal.master)
        set_tty(guest, QUIET._replace(echo=1))
        assert get_tty(guest).echo == 1
        guest.end()
    os.close(terminal.slave)


# -- after a resume -----------------------------------------------------------------------------


def test_after_a_kill_a_terminal_is_as_the_guest_made_it(
    tmp_path: Path, cache_dir: Path, terminal: Terminal, another: Terminal
) -> None:
    path, before = tmp_path / "j", (another.attributes, another.size)
    with Session("record", path, cache_dir, terminal.slave) as first:
        set_tty(first, Tty(70, 20))
        set_tty(first, QUIET)
        first.kill()
    assert terminal.modes == (False, False), "what is killed cannot undo anything"
    with Session("resume", path, cache_dir, another.slave) as again:
        wait_until(lambda: (another.modes, another.size) == ((False, False), QUIET[:4]))
        assert get_tty(again) == QUIET._replace(stderr=1)
        again.end()
    assert (another.attributes, another.size) == before


def test_every_cut_behind_a_change_brings_the_change_back(
    tmp_path: Path, cache_dir: Path, terminal: Terminal
) -> None:
    whole = tmp_path / "whole"
    with journal.record(REMOTE, whole, stderr=terminal.slave, cache=cache_dir) as recorder:
        set_tty(Remote(recorder), QUIET)
    frames = frames_of(whole)
    asked = next(frame.seq for frame in frames if frame.tag == StreamRead.tag)
    for count in range(asked, len(frames) + 1):
        cut = rewrite(whole, tmp_path / f"{count}", keep_first(count))
        with journal.resume(cut, stderr=terminal.slave, cache=cache_dir) as recorder:
            if count == asked:
                time.sleep(0.1)
                assert terminal.modes == (True, True)
                continue
            wait_until(lambda: (terminal.modes, terminal.size) == ((False, False), QUIET[:4]))
        assert (terminal.modes, terminal.size[:2]) == ((True, True), (80, 24))


def test_a_guest_that_has_ended_changes_no_terminal(
    tmp_path: Path, cache_dir: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    with journal.record(REMOTE, path, stderr=terminal.slave, cache=cache_dir) as recorder:
        guest = Remote(recorder)
        set_tty(guest, QUIET)
        guest.end()

    def unheard_of(*_: object) -> None:
        raise AssertionError("a replay changed a terminal")

    monkeypatch.setattr(termios, "tcsetattr", unheard_of)
    with journal.resume(
        path, stdin=terminal.slave, stderr=terminal.slave, cache=cache_dir
    ) as recorder:
        assert recorder.files == {}  # Reading the files replays the journal.
    host = ModelHost()
    with journal.Reader(path) as reader:
        play(reader.frames(), host)
    assert host.process.tty is not None
    assert (host.process.tty.cols, host.process.tty.echo) == (QUIET.columns, False)


POINTERS = st.one_of(st.integers(0, MEMORY_SIZE + 64), st.integers(0, 0xFFFFFFFF))
ORDERS = st.lists(
    st.tuples(st.sampled_from(["tty_get", "tty_set"]), POINTERS, st.binary(max_size=40)),
    max_size=8,
)


@given(orders=ORDERS)
def test_whatever_a_guest_makes_of_its_terminal_is_answered_or_its_own_fault(
    orders: list[tuple[str, int, bytes]], tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "j"
    # The orders, below 4096, are not overwritten: the guest would otherwise execute other orders.
    asked = [encode_order(name, at if at > 4096 else DATA, data=data) for name, at, data in orders]
    terminal = Terminal()
    before = terminal.attributes, terminal.size
    with journal.record(
        REMOTE, path, stdin=b"".join(asked) + END, stderr=terminal.slave, cache=cache_dir
    ) as recorder:
        outcome = wait_for_end(recorder)
        printed = recorder.stdout
        assert (terminal.attributes, terminal.size) == before
    terminal.close()
    ends = range(0, len(printed), ANSWER_SIZE)
    errnos = [parse_answer(printed[at : at + ANSWER_SIZE]).errno for at in ends]
    are_bad = [at > MEMORY_SIZE - _TTY.size for _, at, _ in orders]
    assert [errno == Errno.MEMVIOLATION for errno in errnos] == are_bad
    assert set(errnos) <= {0, Errno.INVAL, Errno.MEMVIOLATION}
    assert outcome.kind is journal.engine.ExitKind.EXITED
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again) == outcome
        assert again.files == {}
        assert again.stdout == printed


@pytest.mark.parametrize("reexecute", [True, False])
def test_a_terminal_of_another_size_keeps_it_unless_the_guest_has_set_one(
    reexecute: bool, tmp_path: Path, cache_dir: Path, terminal: Terminal, another: Terminal
) -> None:
    path = tmp_path / "j"
    on_request = journal.engine.SnapshotOptions(
        on=frozenset({Trigger.EXPLICIT}), stacks=journal.engine.Stacks.ALWAYS
    )
    with journal.record(
        REMOTE, path, stderr=terminal.slave, snapshots=on_request, cache=cache_dir
    ) as recorder:
        guest = Remote(recorder)
        set_tty(guest, get_tty(guest)._replace(echo=0))  # As a library sets one mode.
        assert recorder.snapshot(timeout_seconds=DEADLINE_SECONDS) is not None
    size = another.size
    with journal.resume(
        path, stderr=another.slave, reexecute=reexecute, cache=cache_dir
    ) as recorder:
        wait_until(lambda: len(recorder.stdout) == 2 * ANSWER_SIZE)
        guest = Remote(recorder)
        found = get_tty(guest)
        assert (found.columns, found.echo) == (132, 0)
        assert another.size == size
        set_tty(guest, found._replace(columns=90))
        assert another.size[0] == 90
