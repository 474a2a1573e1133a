"""Sessions that are cancelled at random moments: the guest and its output continue exactly."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

import journal
from journal.engine import AsyncSession, Ending
from journal.events.inputs import StreamRead
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import guest

SESSIONS = 4
pytestmark = pytest.mark.deep


class Interrupted:
    """A run of several sessions, each of which is cancelled at a random moment."""

    def __init__(self, path: Path, cache: Path, seed: int) -> None:
        self._path, self._cache = path, cache
        self._chance = random.Random(seed)
        self.output = bytearray()

    async def run(self) -> None:
        for _ in range(SESSIONS):
            begun = asyncio.Event()
            task = asyncio.create_task(self._talk(begun))
            await begun.wait()
            await asyncio.sleep(self._chance.random() * 0.02)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        async with self._open() as session:
            assert (await session.run(end_input=True)).ending is Ending.EXITED

    def _open(self) -> journal.engine.SessionOpener:
        if self._path.exists():
            return journal.resume_session(self._path, cache=self._cache, on_output=self._put)
        return journal.session(
            guest("prompt"), self._path, args=["prompt"], cache=self._cache, on_output=self._put
        )

    def _put(self, stream: int, data: bytes) -> None:
        if stream == 1:
            self.output += data

    async def _talk(self, begun: asyncio.Event) -> None:
        async with self._open() as session:
            begun.set()
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._chance.random() * 0.003):
                        await self._step(session)

    async def _step(self, session: AsyncSession) -> None:
        choice = self._chance.random()
        if choice < 0.1:
            await session.snapshot()
        elif choice < 0.2:
            for child in await session.fork(1):
                async with child:
                    await child.run(b"get a\n")
        else:
            lines = (b"set k%d v\nget k%d\n" % (n, n) for n in range(self._chance.randrange(60)))
            await session.run(b"".join(lines))


def test_output_and_state_continue_after_any_cancellation(
    tmp_path: Path, cache_dir: Path, budget: Budget
) -> None:
    for seed in budget.spend(range(200), 3):
        path = tmp_path / f"{seed}.journal"
        interrupted = Interrupted(path, cache_dir, seed)
        asyncio.run(asyncio.wait_for(interrupted.run(), DEADLINE_SECONDS))
        with journal.Reader(path) as reader:
            reads = (
                journal.decode(frame.tag, frame.payload)
                for frame in reader.frames(tags={StreamRead.tag})
            )
            data = b"".join(read.data for read in reads if isinstance(read, StreamRead))
        with journal.session(guest("prompt"), args=["prompt"], cache=cache_dir) as undisturbed:
            assert undisturbed.run(data, end_input=True).stdout == bytes(interrupted.output)
