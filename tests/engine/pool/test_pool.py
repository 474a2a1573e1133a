"""Pools in one process: sessions, limits, back-pressure and the end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import MEMORY, Ending, SessionLimits
from journal.errors import JournalExists, OptionError, PoolFull, WrongProcess
from tests.engine.pool.conftest import OpenPool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.forks import run_in_child


def test_a_session_feeds_the_guest_and_reads_its_output_and_files(open_pool: OpenPool) -> None:
    with open_pool() as pool, pool.checkout() as session:
        assert session.run(b"cc").stdout == b"1\n2\n"
        reply = session.run(b"cf")
        assert (reply.ending, reply.stdout) == (Ending.WAITING, b"3\n3\n")
        assert session.files == {"/mark": b""}
        assert session.read_file("/mark") == b""
        reply = session.run(b"cx")
        assert (reply.ending, reply.stdout, reply.exit_code) == (Ending.EXITED, b"4\n", 7)
        assert session.files == {"/mark": b""}


def test_each_session_begins_at_the_snapshot(open_pool: OpenPool) -> None:
    with open_pool() as pool:
        for _ in range(3):
            with pool.checkout() as session:
                assert session.run(b"cfm").stdout == b"1\n1\n1\n"
            with pool.checkout() as session:
                assert session.files == {}
                assert session.run(b"c").stdout == b"1\n"


@pytest.mark.parametrize(
    ("commands", "ending"),
    [(b"x", Ending.EXITED), (b"t", Ending.TRAPPED), (b"o", Ending.OUTPUT_LIMIT)],
)
def test_no_ending_is_seen_by_the_next_session(
    open_pool: OpenPool, commands: bytes, ending: Ending
) -> None:
    limits = SessionLimits(output_size_max=200)
    with open_pool(paranoid=True, limits=limits) as pool:
        with pool.checkout() as session:
            assert session.run(b"mcf" + commands).ending is ending
            with pytest.raises(OptionError, match=rf"the guest has ended \({ending.value}\)"):
                session.run(b"c")
        with pool.checkout() as session:
            assert session.run(b"c").stdout == b"1\n"


def test_the_input_of_a_session_can_end(open_pool: OpenPool) -> None:
    with open_pool() as pool, pool.checkout() as session:
        reply = session.run(b"c", end_input=True)
        assert (reply.ending, reply.exit_code) == (Ending.EXITED, 0)


def test_a_time_limit_ends_a_guest(open_pool: OpenPool) -> None:
    with open_pool(limits=SessionLimits(seconds_max=0.05)) as pool:
        with pool.checkout() as session:
            assert session.run(b"l").ending is Ending.TIMED_OUT
        patient = SessionLimits(seconds_max=DEADLINE_SECONDS)
        with pool.checkout(limits=patient) as session:
            assert session.run(b"c").stdout == b"1\n"


def test_another_thread_can_stop_a_guest(open_pool: OpenPool) -> None:
    with open_pool() as pool, pool.checkout() as session, ThreadPoolExecutor(1) as threads:
        call = threads.submit(session.run, b"l")
        # The request reaches a guest that runs, or is lost before: then another one follows.
        while not call.done():
            session.stop()
        assert call.result().ending is Ending.STOPPED


def test_a_missing_file_raises_what_the_system_raises(open_pool: OpenPool) -> None:
    with open_pool() as pool, pool.checkout() as session:
        with pytest.raises(FileNotFoundError):
            session.read_file("/missing")
        assert session.run(b"c").stdout == b"1\n"


# -- journals of sessions -------------------------------------------------------------------------


def test_a_session_in_a_file_can_be_resumed(
    open_pool: OpenPool, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "session.journal"
    with open_pool() as pool:
        with pool.checkout(journal=path) as session:
            assert session.journal == path
            assert session.run(b"cc").stdout == b"1\n2\n"
        with pytest.raises(JournalExists):
            pool.checkout(journal=path)
        with pool.checkout() as session:  # The slot of the refused session is free.
            assert session.journal is None
            assert session.run(b"c").stdout == b"1\n"
    with journal.resume(path, cache=cache_dir) as guest:
        guest.feed(b"cx")
        result = guest.wait(DEADLINE_SECONDS)
        assert result is not None
        assert (result.code, guest.stdout) == (7, b"1\n2\n3\n")


def test_a_session_in_memory_is_saved_when_its_user_wants_it(
    open_pool: OpenPool, tmp_path: Path
) -> None:
    path = tmp_path / "session.journal"
    with open_pool() as pool:
        with pool.checkout(journal=MEMORY) as session:
            session.run(b"cc")
            session.save_journal(path)
        with pool.checkout() as session, pytest.raises(OptionError, match="keeps no journal"):
            session.save_journal(tmp_path / "other.journal")
    with journal.Reader(path) as reader:
        host = journal.replay.ModelHost()
        journal.play(reader.frames(), host)
    assert host.stdout == b"1\n2\n"


# -- back-pressure --------------------------------------------------------------------------------


def test_a_checkout_waits_for_a_slot_and_not_for_ever(open_pool: OpenPool) -> None:
    with open_pool() as pool, ThreadPoolExecutor(1) as threads:
        with pool.checkout() as session:
            for seconds in (0, 0.01):
                with pytest.raises(PoolFull, match="all 1 slots of the pool are in use"):
                    pool.checkout(timeout_seconds=seconds)
            waiting = threads.submit(pool.checkout)
            wait_until(lambda: pool.status.waiting_checkouts == 1)
            session.run(b"c")
        with waiting.result(DEADLINE_SECONDS) as session:
            assert session.run(b"c").stdout == b"1\n"


def test_many_threads_share_a_few_slots(open_pool: OpenPool) -> None:
    def run_session(number: int) -> bytes:
        with pool.checkout(affinity=number % 3) as session:
            return session.run(b"c" * (number % 5 + 1)).stdout

    with open_pool(slots=3) as pool, ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(run_session, range(20)))
        status = pool.status
    expected = [b"1\n", b"1\n2\n", b"1\n2\n3\n", b"1\n2\n3\n4\n", b"1\n2\n3\n4\n5\n"]
    assert outputs == expected * 4
    assert (status.session_count, status.death_count) == (20, 0)


def test_a_session_that_is_never_used_gives_its_slot_back(open_pool: OpenPool) -> None:
    with open_pool() as pool:
        for _ in range(3):
            with pool.checkout(timeout_seconds=0):
                assert pool.status.used_slots == 1
        assert pool.status.free_slots == 1


def test_a_forgotten_session_gives_its_slot_back_with_a_warning(open_pool: OpenPool) -> None:
    with open_pool() as pool:
        sessions = [pool.checkout()]
        sessions[0].run(b"c")
        with pytest.warns(ResourceWarning, match="a session of a pool was not closed"):
            sessions.clear()
        with pool.checkout(timeout_seconds=DEADLINE_SECONDS) as session:
            assert session.run(b"c").stdout == b"1\n"


# -- the end --------------------------------------------------------------------------------------


def test_a_draining_close_lets_sessions_finish(open_pool: OpenPool) -> None:
    pool = open_pool()
    with pool.checkout() as session:
        closing = threading.Thread(target=pool.close)
        closing.start()
        wait_until(lambda: is_closed(pool))
        assert session.run(b"c").stdout == b"1\n"
        assert closing.is_alive()
    closing.join(DEADLINE_SECONDS)
    assert not closing.is_alive()


def is_closed(pool: journal.Pool) -> bool:
    try:
        pool.checkout(timeout_seconds=0).close()
    except OptionError as error:
        return "the pool is closed" in str(error)
    except PoolFull:
        return False
    return False


def test_a_close_that_does_not_drain_ends_sessions(open_pool: OpenPool) -> None:
    pool = open_pool()
    with pool.checkout() as session:
        session.run(b"c")
        pool.close(drain=False)
        with pytest.raises(journal.WorkerDied, match="ended with its pool"):
            session.run(b"c")
    with pytest.raises(OptionError, match="the session is closed"):
        session.run(b"c")


def test_a_close_ends_checkouts_that_wait(open_pool: OpenPool) -> None:
    pool = open_pool()
    with pool.checkout(), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.checkout)
        wait_until(lambda: pool.status.waiting_checkouts == 1)
        pool.close(timeout_seconds=0)
        with pytest.raises(OptionError, match="the pool is closed"):
            waiting.result(DEADLINE_SECONDS)


def test_a_journal_without_a_snapshot_is_refused_at_the_start(
    tmp_path: Path, cache_dir: Path
) -> None:
    with journal.Writer(tmp_path / "plain.journal") as writer:
        writer.append_payloads(224, [b"one"])
    pool = journal.Pool(tmp_path / "plain.journal", workers=0, cache=cache_dir)
    with pytest.raises(journal.JournalError):
        pool.start()
    with pytest.raises(OptionError, match="the pool is closed"):
        pool.checkout()


def test_a_missing_journal_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises((OSError, journal.JournalError), match=r"missing\.journal"):
        journal.Pool(tmp_path / "missing.journal", workers=0).start()


def test_a_forked_child_gets_a_sentence(open_pool: OpenPool) -> None:
    with open_pool() as pool, pool.checkout() as session:
        session.run(b"c")

        def use() -> list[str]:
            found = []
            for call in (pool.checkout, lambda: session.run(b"c")):
                try:
                    call()
                except WrongProcess as error:
                    found.append(str(error))
            session.close()
            pool.close()
            return found

        messages = run_in_child(use)
        assert len(messages) == 2
        assert "cannot be used in process" in messages[0]
        assert session.run(b"c").stdout == b"2\n"  # The child has closed nothing of the parent's.


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout_seconds": -1},
        {"timeout_seconds": "1"},
        {"journal": 7},
        {"journal": ""},
        {"limits": {}},
        {"limits": SessionLimits(output_size_max=1 << 40)},
        {"affinity": []},
    ],
)
def test_a_wrong_argument_of_a_checkout_gets_a_sentence(arguments: dict[str, Any]) -> None:
    pool = journal.Pool("x.journal", workers=0)
    with pytest.raises(OptionError, match=next(iter(arguments)) + "|output_size_max"):
        pool.checkout(**arguments)
    with pytest.raises(OptionError, match=next(iter(arguments)) + "|output_size_max"):
        asyncio.run(enter(pool.checkout_async(**arguments)))


async def enter(context: AbstractAsyncContextManager[object]) -> None:
    async with context:
        pass


def test_a_wrong_argument_of_a_session_gets_a_sentence_and_changes_nothing(
    open_pool: OpenPool,
) -> None:
    wrong: Any = None
    with open_pool() as pool, pool.checkout() as session:
        for call, name in (
            (lambda: session.run("text"), "data"),  # type: ignore[arg-type]
            (lambda: session.run(b"c", end_input=1), "end_input"),  # type: ignore[arg-type]
            (lambda: session.read_file(wrong), "path"),
            (lambda: session.save_journal(wrong), "path"),
        ):
            with pytest.raises(OptionError, match=f"{name} must be"):
                call()
        assert session.run(b"c").stdout == b"1\n"
