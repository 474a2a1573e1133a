"""Pools with worker processes: what happens when one dies, hangs, or loses its pool."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from journal import Pool
from journal.engine import Ending, SessionLimits
from journal.errors import WorkerDied
from tests.engine.pool.conftest import OpenPool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import ROOT


def read_state(process: int) -> str:
    """Return the letter of the state of a process, Z for one that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


def is_alive(process: int) -> bool:
    return read_state(process) != "Z"


def freeze(process: int) -> None:
    """Stop a process, and wait until none of its threads runs."""
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: read_state(process) == "T")


def test_workers_die_hang_and_are_replaced(open_pool: OpenPool) -> None:
    """One test, because each start of a worker takes its time."""
    limits = SessionLimits(seconds_max=0.05)
    with open_pool(workers=1, slots=2, limits=limits, grace_seconds=DEADLINE_SECONDS) as pool:
        (first,) = pool.status.process_ids
        with pool.checkout() as session, pool.checkout() as other:
            assert session.run(b"c").stdout == b"1\n"
            assert other.run(b"cc").stdout == b"1\n2\n"
            assert other.run(b"l").ending is Ending.TIMED_OUT
            os.kill(first, signal.SIGKILL)
            for one in (session, other):
                for _ in range(2):
                    with pytest.raises(
                        WorkerDied, match="the session is lost: worker 0 was killed by SIGKILL"
                    ):
                        one.read_file("/mark")
        # A checkout waits for the new worker.
        with pool.checkout(timeout_seconds=DEADLINE_SECONDS) as session:
            assert session.run(b"c").stdout == b"1\n"
        assert pool.status.death_count == 1
        (second,) = pool.status.process_ids
        assert second != first
    assert not is_alive(second)


@pytest.mark.deep
def test_a_worker_that_does_not_answer_is_killed(open_pool: OpenPool) -> None:
    limits = SessionLimits(seconds_max=0.01)
    with open_pool(workers=1, limits=limits, grace_seconds=0.2) as pool:
        (process,) = pool.status.process_ids
        with pool.checkout() as session:
            freeze(process)
            with pytest.raises(WorkerDied, match=r"did not answer within 0\.21 s"):
                session.run(b"c")
        wait_until(lambda: not is_alive(process))


@pytest.mark.deep
def test_a_worker_that_stays_in_an_abandoned_session_is_killed(open_pool: OpenPool) -> None:
    async def abandon() -> None:
        async with pool.checkout_async() as session:
            await session.run(b"c")
            freeze(process)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await session.run(b"c")

    with open_pool(workers=1, grace_seconds=0.2) as pool:
        (process,) = pool.status.process_ids
        asyncio.run(abandon())
        wait_until(lambda: not is_alive(process))
        with pool.checkout(timeout_seconds=DEADLINE_SECONDS) as session:
            assert session.run(b"c").stdout == b"1\n"


@pytest.mark.deep
def test_a_worker_retires_after_its_sessions(open_pool: OpenPool) -> None:
    processes: list[int] = []
    with open_pool(workers=1, slots=2, recycle_after=3) as pool:
        for _ in range(7):
            with pool.checkout(timeout_seconds=DEADLINE_SECONDS) as session:
                assert session.run(b"c").stdout == b"1\n"
                processes += pool.status.process_ids
        assert pool.status.death_count == 0
    first, second, third = dict.fromkeys(processes)
    assert processes == [first] * 3 + [second] * 3 + [third]
    assert not any(map(is_alive, processes))


@pytest.mark.deep
def test_a_pool_that_lost_its_journal_says_so_and_recovers(
    waiting_journal: Path, tmp_path: Path, cache_dir: Path
) -> None:
    path, moved = tmp_path / "waiting.journal", tmp_path / "moved.journal"
    path.write_bytes(waiting_journal.read_bytes())
    with Pool(path, cache=cache_dir) as pool:
        (process,) = pool.status.process_ids
        path.rename(moved)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: not pool.status.process_ids)
        with pytest.raises(WorkerDied, match=r"no other starts: .*waiting\.journal"):
            pool.checkout(timeout_seconds=DEADLINE_SECONDS)
        moved.rename(path)
        wait_until(lambda: pool.status.process_ids)
        with pool.checkout() as session:
            assert session.run(b"c").stdout == b"1\n"


@pytest.mark.deep
def test_workers_end_with_a_pool_that_is_killed(waiting_journal: Path, cache_dir: Path) -> None:
    code = f"""if True:
        import os, signal
        from journal import Pool
        pool = Pool({str(waiting_journal)!r}, workers=2, cache={str(cache_dir)!r})
        pool.start()
        session = pool.checkout()
        session.run(b"c")
        print(*pool.status.process_ids, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == -signal.SIGKILL, found.stderr
    for process in map(int, found.stdout.split()):
        wait_until(lambda process=process: not is_alive(process))  # type: ignore[misc]


@pytest.mark.deep
def test_threads_get_their_own_answers_while_workers_die(open_pool: OpenPool) -> None:
    def run_session(number: int) -> bytes | None:
        size = number % 7 + 1
        if number % 20 == 19:
            with suppress(IndexError, ProcessLookupError):
                os.kill(pool.status.process_ids[0], signal.SIGKILL)
        with suppress(WorkerDied), pool.checkout() as session:
            output = session.run(b"c" * size).stdout
            assert output == b"".join(b"%d\n" % each for each in range(1, size + 1))
            return output
        return None

    with open_pool(workers=2, slots=2) as pool, ThreadPoolExecutor(6) as threads:
        outputs = list(threads.map(run_session, range(100)))
        assert pool.status.death_count > 0
    assert sum(each is not None for each in outputs) > 50
