"""Sessions: calls, output, limits, forks, and the journals that they leave."""

from __future__ import annotations

import threading
from inspect import signature
from pathlib import Path

import pytest

import journal
from journal import OptionError
from journal.engine import (
    Ending,
    OutputChunk,
    ResumedSessionOptions,
    SessionLimits,
    SessionOpener,
    SessionOptions,
    SnapshotOptions,
)
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.forks import error_of, run_in_child
from tests.support.programs import guest
from tests.support.wat import program

SPIN = program("(loop $again (br $again))")
"""A guest that computes for ever."""
TALK = program(
    """(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4096))
    (loop $again (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $again))"""
)
"""A guest that writes for ever."""
NO_SNAPSHOTS = SnapshotOptions()


@pytest.fixture
def prompt(cache_dir: Path) -> SessionOpener:
    return journal.session(guest("prompt"), args=["prompt"], cache=cache_dir)


def open_plain(module: bytes, cache: Path, limits: SessionLimits | None = None) -> SessionOpener:
    return journal.session(module, limits=limits, cache=cache, snapshots=NO_SNAPSHOTS)


def test_a_call_returns_when_the_guest_waits_for_input(prompt: SessionOpener) -> None:
    with prompt as session:
        assert session.run().stdout == b"1> "
        reply = session.run(b"set bread rye\nget bread\nwhat\n")
        assert (reply.ending, reply.is_alive) == (Ending.WAITING, True)
        assert (reply.stdout, reply.stderr) == (b"2> rye\n3> 4> ", b"what is what?\n")
        reply = session.run(b"quit 3\n")
        assert (reply.ending, reply.exit_code, reply.stdout) == (Ending.EXITED, 3, b"")
        assert not session.is_alive
        with pytest.raises(OptionError, match="the guest has ended"):
            session.run(b"get bread\n")


def test_the_end_of_the_input_ends_the_guest(prompt: SessionOpener) -> None:
    with prompt as session:
        reply = session.run(b"get x\n", end_input=True)
        assert reply.stdout == b"1> there is none\n2> \nno more commands\n"
        assert reply.ending is Ending.EXITED


def test_a_trap_is_a_reply(cache_dir: Path) -> None:
    with open_plain(program("unreachable"), cache_dir) as session:
        reply = session.run()
        assert (reply.ending, reply.message) == (Ending.TRAPPED, "unreachable")


def test_a_timeout_leaves_the_guest_running(cache_dir: Path) -> None:
    with open_plain(SPIN, cache_dir) as session:
        with pytest.raises(TimeoutError, match="neither ended nor waited"):
            session.run(timeout_seconds=0.01)
        assert session.is_alive
        with pytest.raises(TimeoutError):
            session.run(timeout_seconds=0)


def test_a_call_beyond_its_time_stops_the_guest(cache_dir: Path) -> None:
    with open_plain(SPIN, cache_dir, SessionLimits(seconds_max=0.05)) as session:
        reply = session.run()
        assert reply.ending is Ending.TIMED_OUT
        assert reply.message == "the call took longer than 0.05 seconds"


def test_the_time_limit_holds_for_each_call_and_not_between_calls(cache_dir: Path) -> None:
    limits = SessionLimits(seconds_max=DEADLINE_SECONDS)
    with journal.session(
        guest("prompt"), args=["prompt"], cache=cache_dir, limits=limits
    ) as session:
        session.run()
        timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
        wait_until(lambda: not any(timer.is_alive() for timer in timers))
        assert session.run(b"get x\n").ending is Ending.WAITING


def test_too_much_output_stops_the_guest(cache_dir: Path) -> None:
    with open_plain(TALK, cache_dir, SessionLimits(output_size_max=100_000)) as session:
        reply = session.run()
        assert reply.ending is Ending.OUTPUT_LIMIT
        assert reply.message == "the guest has written more than 100000 bytes"
        assert len(reply.stdout) > 100_000


def test_a_guest_that_waits_after_too_much_output_has_ended(cache_dir: Path) -> None:
    limits = SessionLimits(output_size_max=20)
    with journal.session(
        guest("prompt"), args=["prompt"], cache=cache_dir, limits=limits
    ) as session:
        assert session.run(b"get a\n").ending is Ending.WAITING  # 20 bytes.
        assert session.run(b"\n").ending is Ending.OUTPUT_LIMIT


def test_a_session_that_continues_elsewhere_has_the_path_of_its_journal(
    tmp_path: Path, cache_dir: Path
) -> None:
    path, new = tmp_path / "a.journal", tmp_path / "b.journal"
    with journal.session(guest("prompt"), path, args=["prompt"], cache=cache_dir) as session:
        session.run()
        session.snapshot()
    with journal.resume_session(path, into=new, cache=cache_dir) as session:
        assert session.path == new
        assert len(session.pause()) > 0


def test_limits_of_memory_and_files_are_those_of_the_recording(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    limits = SessionLimits(memory_size_max=32 << 20, files_size_max=1 << 16)
    with journal.session(guest("prompt"), path, cache=cache_dir, limits=limits) as session:
        session.run()
    grow = program("(call $exit (memory.grow (i32.const 512)))")
    with journal.session(grow, cache=cache_dir, limits=limits) as session:
        assert session.run().exit_code == 0xFFFFFFFF
    less = SessionLimits(files_size_max=100)
    with (
        pytest.raises(journal.ResourceRefused),
        journal.resume_session(path, cache=cache_dir, limits=less),
    ):
        pass
    with journal.resume_session(path, cache=cache_dir, limits=limits) as session:
        assert session.run(b"quit 1\n").exit_code == 1


def test_an_iteration_has_the_output_that_no_reply_had(prompt: SessionOpener) -> None:
    with prompt as session:
        session.feed(b"set bread rye\nget bread\n")
        chunks = list(session.output(until_waiting=True))
        assert b"".join(chunk.data for chunk in chunks) == b"1> 2> rye\n3> "
        assert session.run(b"what\n").stdout == b"4> "
        session.feed(b"quit 0\n")
        assert list(session.output()) == []


def test_an_iteration_and_the_replies_meanwhile_have_the_same_output(
    prompt: SessionOpener,
) -> None:
    found: list[OutputChunk] = []
    with prompt as session:
        session.run()
        chunks = session.output()
        thread = threading.Thread(target=lambda: found.extend(chunks))
        thread.start()
        assert session.run(b"get a\n").stdout == b"there is none\n2> "
        assert session.run(b"", end_input=True).stdout == b"\nno more commands\n"
        thread.join(DEADLINE_SECONDS)
    output = b"".join(chunk.data for chunk in found)
    assert output == b"there is none\n2> \nno more commands\n"


def test_an_abandoned_iteration_keeps_no_output(prompt: SessionOpener) -> None:
    with prompt as session:
        session.run(b"get a\nget b\n")
        for _ in session.output(until_waiting=True):
            pass
        iteration = session.output()
        session.run(b"get a\n")
        assert len(session._state._log._chunks) > 0
        del iteration
        session.run(b"get a\n")
        assert len(session._state._log._chunks) == 0


def test_a_child_continues_at_the_state_of_its_parent(prompt: SessionOpener) -> None:
    with prompt as parent:
        parent.run(b"set bread rye\n")
        children = parent.fork(2)
        for number, child in enumerate(children):
            with child:
                assert child.run(b"get bread\n").stdout == b"rye\n3> "
                child.run(b"set bread %d\n" % number)
                (grandchild,) = child.fork()
                with grandchild:
                    assert grandchild.run(b"get bread\n").stdout == b"%d\n5> " % number
        assert parent.run(b"get bread\n").stdout == b"rye\n3> "


def test_children_get_numbered_paths_and_their_journals_stay(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "parent.journal"
    with journal.session(guest("prompt"), path, args=["prompt"], cache=cache_dir) as parent:
        parent.run(b"set a 1\n")
        for child in parent.fork(2, into=tmp_path / "child.journal"):
            child.run(b"set a 2\n")
            child.close()
    assert (tmp_path / "child-1.journal").exists()
    with journal.resume_session(tmp_path / "child-2.journal", cache=cache_dir) as child:
        assert child.run(b"get a\n").stdout == b"2\n4> "
    with journal.resume_session(path, cache=cache_dir) as parent:
        assert parent.run(b"get a\n").stdout == b"1\n3> "


def test_a_failed_fork_leaves_no_child(tmp_path: Path, prompt: SessionOpener) -> None:
    (tmp_path / "child-2.journal").touch()
    with prompt as session:
        session.run()
        with pytest.raises(OptionError, match="already exists"):
            session.fork(2, into=tmp_path / "child.journal")
        assert [path.name for path in tmp_path.iterdir()] == ["child-2.journal"]
        assert session.run(b"get a\n").stdout == b"there is none\n2> "


def test_functions_of_a_session_do_not_reach_its_children(cache_dir: Path) -> None:
    parts: list[bytes] = []
    frames: list[journal.Frame] = []
    with journal.session(
        guest("prompt"),
        args=["prompt"],
        cache=cache_dir,
        on_output=lambda stream, data: parts.append(data),
        on_event=frames.append,
    ) as session:
        session.run()
        (child,) = session.fork()
        count = len(frames)
        with child:
            assert child.run(b"get a\n").stdout == b"there is none\n2> "
        assert (len(frames), parts) == (count, [b"1> "])


def test_an_ended_guest_is_not_forked_and_leaves_nothing(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with journal.session(program(""), cache=cache_dir) as session:
        session.run()
        with pytest.raises(journal.NotResumable, match="has ended"):
            session.fork(3)
    assert list(tmp_path.iterdir()) == []


def test_a_session_continues_an_ended_run_with_its_end(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    with journal.session(guest("prompt"), path, args=["prompt"], cache=cache_dir) as session:
        session.run(end_input=True)
    with journal.resume_session(path, cache=cache_dir) as session:
        reply = session.run()
        assert (reply.ending, reply.exit_code, reply.stdout) == (Ending.EXITED, 0, b"")


def test_a_temporary_journal_is_removed(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with journal.session(guest("prompt"), cache=cache_dir) as session:
        assert session.path.exists()
        session.run()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(journal.ModuleRefused), journal.session(b"\0asm", cache=cache_dir):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_call_runs_at_a_time(cache_dir: Path) -> None:
    with open_plain(SPIN, cache_dir) as session:
        thread = threading.Thread(target=lambda: error_of(session.run))
        thread.start()
        wait_until(lambda: session._state._is_calling)
        with pytest.raises(OptionError, match="another call"):
            session.run()
        session.recorder.stop()
        thread.join(DEADLINE_SECONDS)


def test_closing_ends_a_call_of_another_thread(cache_dir: Path) -> None:
    session = open_plain(SPIN, cache_dir).open()
    replies: list[journal.engine.Reply] = []
    thread = threading.Thread(target=lambda: replies.append(session.run()))
    thread.start()
    wait_until(lambda: session._state._is_calling)
    session.close()
    thread.join(DEADLINE_SECONDS)
    assert [reply.ending for reply in replies] == [Ending.STOPPED]
    with pytest.raises(OptionError, match="closed"):
        session.run()


def test_a_session_begins_once(prompt: SessionOpener) -> None:
    with prompt:
        pass
    with pytest.raises(OptionError, match="has begun before"):
        prompt.open()


def test_sessions_have_the_options_of_record_and_resume() -> None:
    streams = {"stdin", "stdout", "stderr", "config", "path"}
    one_file = {"module", "embed", "roll"}
    options = set(SessionOptions.__annotations__)
    assert options == set(signature(journal.record).parameters) - streams - one_file
    options = set(ResumedSessionOptions.__annotations__)
    assert options == set(signature(journal.resume).parameters) - streams - {"on_input_wait"}


def test_an_unknown_option_is_refused(cache_dir: Path) -> None:
    with pytest.raises(OptionError, match="no option 'stdin'"):
        journal.session(guest("prompt"), stdin=b"")  # type: ignore[call-arg]


def test_a_forked_process_cannot_use_a_session(tmp_path: Path, prompt: SessionOpener) -> None:
    with prompt as session:
        session.run()

        def use() -> list[str]:
            calls = (session.run, lambda: session.feed(b"x"), session.snapshot, session.close)
            return [type(error_of(call)).__name__ for call in calls]

        assert run_in_child(use) == ["WrongProcess"] * 3 + ["NoneType"]
        assert session.run(b"get a\n").stdout == b"there is none\n2> "


def test_a_session_that_nobody_closed_is_closed_with_a_warning(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = journal.session(guest("prompt"), cache=cache_dir).open()
    session.run()
    with pytest.warns(ResourceWarning, match="the session of .* was not closed"):
        del session
    assert list(tmp_path.iterdir()) == []


def test_secrets_and_mounts_reach_the_children(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "shared").mkdir()
    opener = journal.session(
        guest("prompt"),
        tmp_path / "a.journal",
        args=["prompt"],
        env={"KEY": journal.engine.SecretValue("x")},
        mounts=[journal.MemoryMount("/"), journal.HostMount(str(tmp_path / "shared"), "/s")],
        cache=cache_dir,
    )
    with opener as session:
        session.run(b"set a 1\n")
        (child,) = session.fork()
        with child:
            assert child.run(b"get a\n").stdout == b"1\n3> "
    with (
        pytest.raises(journal.NotResumable, match="set KEY again"),
        journal.resume_session(tmp_path / "a.journal", cache=cache_dir),
    ):
        pass
