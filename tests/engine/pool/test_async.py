"""Pools and asyncio: nothing blocks the event loop, and a cancelled call ends only its session."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from journal.engine import Ending
from journal.errors import OptionError, PoolFull
from tests.engine.pool.conftest import OpenPool
from tests.support.deadlines import DEADLINE_SECONDS


def test_sessions_run_side_by_side(open_pool: OpenPool) -> None:
    async def run_session(number: int) -> bytes:
        async with pool.checkout_async(affinity=number) as session:
            reply = await session.run(b"c" * number)
            return reply.stdout

    async def run_all() -> list[bytes]:
        async with pool:
            return await asyncio.gather(*map(run_session, [1, 2] * 4))

    pool = open_pool(slots=2)
    assert asyncio.run(run_all()) == [b"1\n", b"1\n2\n"] * 4


def test_a_session_reads_files_and_keeps_a_journal(open_pool: OpenPool, tmp_path: Path) -> None:
    async def use() -> None:
        path = tmp_path / "session.journal"
        async with open_pool() as pool, pool.checkout_async(journal=path) as session:
            assert (await session.run(b"f")).ending is Ending.WAITING
            assert await session.read_files() == {"/mark": b""}
            assert await session.read_file("/mark") == b""
            assert session.journal == path
            assert path.exists()

    asyncio.run(use())


def test_a_timeout_ends_the_session_and_stops_its_guest(open_pool: OpenPool) -> None:
    async def use() -> None:
        async with open_pool() as pool:
            async with pool.checkout_async() as session:
                await session.run(b"c")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await session.run(b"l")
                with pytest.raises(OptionError, match="a call of the session was interrupted"):
                    await session.run(b"c")
            async with pool.checkout_async(timeout_seconds=DEADLINE_SECONDS) as session:
                assert (await session.run(b"c")).stdout == b"1\n"
            assert pool.status.death_count == 0

    asyncio.run(use())


def test_a_large_input_that_is_cancelled_half_way_mixes_nothing(open_pool: OpenPool) -> None:
    async def use() -> None:
        async with open_pool() as pool:
            async with pool.checkout_async() as session:
                task = asyncio.create_task(session.run(b"x" + bytes(4 << 20)))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with pool.checkout_async(timeout_seconds=DEADLINE_SECONDS) as session:
                assert (await session.run(b"c")).stdout == b"1\n"

    asyncio.run(use())


def test_a_checkout_that_waits_can_be_cancelled_or_time_out(open_pool: OpenPool) -> None:
    async def check_out(seconds: float | None) -> None:
        async with pool.checkout_async(timeout_seconds=seconds):
            pass

    async def use() -> None:
        async with pool, pool.checkout_async() as session:
            with pytest.raises(PoolFull):
                await check_out(0)
            with pytest.raises(PoolFull):
                await check_out(0.01)
            task = asyncio.create_task(check_out(None))
            while not pool.status.waiting_checkouts:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.status.waiting_checkouts == 0
            assert (await session.run(b"c")).stdout == b"1\n"

    pool = open_pool()
    asyncio.run(use())


def test_another_task_can_stop_a_guest(open_pool: OpenPool) -> None:
    async def use() -> None:
        async with open_pool() as pool, pool.checkout_async() as session:
            call = asyncio.create_task(session.run(b"l"))
            while not call.done():  # A request before the guest runs is lost.
                await asyncio.sleep(0.001)
                session.stop()
            assert (await call).ending is Ending.STOPPED

    asyncio.run(use())
