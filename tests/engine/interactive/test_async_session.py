"""Asynchronous sessions: the event loop runs on, and a cancellation loses nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import journal
from journal import OptionError
from journal.engine import AsyncSession, Ending, SessionLimits, SessionOpener, SnapshotOptions
from journal.engine.interactive.event_loop import finish_in_thread, run_in_thread
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import guest
from tests.support.wat import program

T = TypeVar("T")
SPIN = program("(loop $again (br $again))")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await main

    return asyncio.run(limited())


def open_prompt(cache: Path, path: Path | None = None) -> SessionOpener:
    return journal.session(guest("prompt"), path, args=["prompt"], cache=cache)


def open_spinning(cache: Path, path: Path | None = None) -> SessionOpener:
    return journal.session(SPIN, path, cache=cache, snapshots=SnapshotOptions())


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_call_returns_when_the_guest_waits_for_input(cache_dir: Path) -> None:
    async def main() -> None:
        async with open_prompt(cache_dir) as session:
            assert (await session.run(b"set bread rye\nget bread\n")).stdout == b"1> 2> rye\n3> "
            assert await session.read_files() == {}
            reply = await session.run(b"quit 3\n")
            assert (reply.ending, reply.exit_code) == (Ending.EXITED, 3)
            with pytest.raises(OptionError, match="has ended"):
                await session.run()

    run(main())


def test_many_sessions_run_at_once(cache_dir: Path) -> None:
    async def talk(number: int) -> bytes:
        async with open_prompt(cache_dir) as session:
            await session.run(b"set a %d\n" % number)
            return (await session.run(b"get a\n")).stdout

    async def main() -> list[bytes]:
        return await asyncio.gather(*map(talk, range(12)))

    assert run(main()) == [b"%d\n3> " % number for number in range(12)]


def test_the_event_loop_runs_while_a_guest_computes(cache_dir: Path) -> None:
    async def main() -> None:
        async with open_spinning(cache_dir) as session:
            call = asyncio.create_task(session.run())
            for _ in range(100):
                await asyncio.sleep(0)
            assert not call.done()
            await cancel(call)

    run(main())


def test_a_timeout_leaves_a_session_that_goes_on_and_a_journal_that_is_resumed(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"

    async def main() -> None:
        async with open_prompt(cache_dir, path) as session:
            await session.run(b"set a 1\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await session.run(b"set b 2\n")
            assert (await session.run(b"get b\n")).stdout == b"3> 2\n4> "
        async with journal.resume_session(path, cache=cache_dir) as session:
            assert (await session.run(b"get a\n")).stdout == b"1\n5> "

    run(main())


def test_a_cancelled_program_leaves_a_journal_that_is_resumed(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"

    async def work(has_begun: asyncio.Event) -> None:
        async with open_spinning(cache_dir, path) as session:
            has_begun.set()
            await session.run()

    async def main() -> None:
        has_begun = asyncio.Event()
        task = asyncio.create_task(work(has_begun))
        await has_begun.wait()
        await cancel(task)
        async with journal.resume_session(path, cache=cache_dir) as session:
            assert session.is_alive

    run(main())
    assert not [each for each in threading.enumerate() if each.name == "journal-guest"]


def test_a_cancelled_opening_leaves_nothing(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main() -> None:
        opening = asyncio.ensure_future(open_prompt(cache_dir).__aenter__())
        await asyncio.sleep(0)
        await cancel(opening)
        while any(each.name.startswith("journal-") for each in threading.enumerate()):
            await asyncio.sleep(0.001)

    run(main())
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_output_is_iterated_over_as_it_comes(cache_dir: Path) -> None:
    async def main() -> None:
        async with open_prompt(cache_dir) as session:
            session.feed(b"get a\n")
            first = [chunk.data async for chunk in session.output(until_waiting=True)]
            assert b"".join(first) == b"1> there is none\n2> "

            async def gather() -> bytes:
                return b"".join([chunk.data async for chunk in session.output()])

            task = asyncio.create_task(gather())
            await asyncio.sleep(0)
            assert (await session.run(b"get b\n")).stdout == b"there is none\n3> "
            session.end_input()
            assert await task == b"there is none\n3> \nno more commands\n"

    run(main())


def test_a_closed_session_ends_an_iteration(cache_dir: Path) -> None:
    async def main() -> None:
        session = await open_prompt(cache_dir)
        output = session.output()  # It begins here, not where the task runs first.

        async def gather() -> list[int]:
            return [chunk.stream async for chunk in output]

        task = asyncio.create_task(gather())
        await session.run()
        await session.aclose()
        assert await task == [1]

    run(main())


def test_children_and_paused_sessions_are_asynchronous_too(cache_dir: Path) -> None:
    async def main() -> None:
        async with open_prompt(cache_dir) as session:
            await session.run(b"set a 1\n")
            assert await session.snapshot() is not None
            for child in await session.fork(2):
                async with child:
                    assert isinstance(child, AsyncSession)
                    assert (await child.run(b"get a\n")).stdout == b"1\n3> "
            data = await session.pause()
        session = await journal.unpause(data, cache=cache_dir)
        assert (await session.run(b"get a\n")).stdout == b"1\n3> "
        await session.aclose()

    run(main())


def test_a_call_beyond_its_time_stops_the_guest(cache_dir: Path) -> None:
    async def main() -> None:
        limits = SessionLimits(seconds_max=0.05)
        async with journal.session(
            SPIN, cache=cache_dir, limits=limits, snapshots=SnapshotOptions()
        ) as session:
            assert (await session.run()).ending is Ending.TIMED_OUT

    run(main())


def test_a_cancelled_thread_passes_its_result_to_the_undoing() -> None:
    undone: list[str] = []
    may_end = threading.Event()

    def work() -> str:
        may_end.wait(DEADLINE_SECONDS)
        return "result"

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(work, undo=undone.append))
        await asyncio.sleep(0)
        await cancel(task)
        may_end.set()
        while not undone:
            await asyncio.sleep(0.001)

    run(main())
    assert undone == ["result"]


def test_a_thread_of_a_closed_loop_undoes_its_result() -> None:
    undone: list[str] = []
    may_end = threading.Event()

    def work() -> str:
        may_end.wait(DEADLINE_SECONDS)
        return "result"

    async def main() -> None:
        task = asyncio.create_task(run_in_thread(work, undo=undone.append))
        await asyncio.sleep(0)
        await cancel(task)

    run(main())
    may_end.set()
    wait_until(lambda: undone == ["result"])


def test_a_cancellation_waits_for_a_brief_thread() -> None:
    may_end = threading.Event()
    ended: list[bool] = []

    def work() -> None:
        may_end.wait(DEADLINE_SECONDS)
        ended.append(True)

    async def main() -> None:
        task = asyncio.create_task(finish_in_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ended == [True]


def test_an_error_of_a_thread_is_raised_in_the_task() -> None:
    def work() -> None:
        raise LookupError("no")

    async def main() -> None:
        for call in (run_in_thread, finish_in_thread):
            with pytest.raises(LookupError, match="no"):
                await call(work)

    run(main())
