"""Pool: worker processes with clones that wait for sessions."""

import asyncio
import threading
from collections.abc import AsyncIterator, Hashable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from journal._arguments import (
    check_choice,
    check_flag,
    check_int,
    check_optional,
    check_path,
    check_seconds,
    check_type,
    refuse,
)
from journal.engine.allocation import InstanceAllocationStrategy
from journal.engine.clones.session_journal import JournalKind
from journal.engine.clones.template import check_on_demand
from journal.engine.pool.messages import MESSAGE_SIZE_MAX
from journal.engine.pool.pool_options import PoolOptions, read_keys
from journal.engine.pool.pooled_session import AsyncPooledSession, PooledSession
from journal.engine.pool.slot_lease import SlotLease
from journal.engine.pool.slots import CLOSED, Slot, SlotQueue, SlotSelection
from journal.engine.pool.supervisor import Supervisor
from journal.engine.session.run_config import StrPath
from journal.engine.session.secret_environment import SecretValue, check_secrets
from journal.engine.session.session_limits import SessionLimits
from journal.engine.trust.grants import Grants
from journal.errors import OptionError
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, close_unclosed

WORKERS_MAX = 1024
SLOTS_MAX = 1024
QUEUE_MAX = 1024
"""Default number of checkouts that may wait for a slot."""
OUTPUT_SIZE_MAX = MESSAGE_SIZE_MAX // 2
"""Largest limit of the output of a session. A reply is one message."""
GRACE_SECONDS = 5.0
"""Default time that a worker may take beyond the time limit of a guest."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """Numbers of a pool at one moment.

    ``used_slots`` have a session, and ``free_slots`` are clean or are being cleaned.
    ``waiting_checkouts`` wait for a slot. ``session_count`` counts the sessions so far, and
    ``death_count`` the workers that died and were replaced. ``process_ids`` are the processes of
    the workers.
    """

    used_slots: int
    free_slots: int
    waiting_checkouts: int
    session_count: int
    death_count: int
    process_ids: tuple[int, ...]


class Pool:  # long: each option is a keyword with its documentation
    """Worker processes with clones of a snapshot, for many short sessions; a context manager, also
    for ``async with``.

    ``path`` is a journal, and ``at`` the sequence number of its snapshot (default: the newest that
    can be resumed). Each of ``workers`` processes has one engine and ``slots`` clones, which serve
    one session after another. With ``workers=0`` the clones run in threads of this process:
    nothing can end a guest that hangs inside one instruction, and there is nothing to start.

    ``limits`` bounds each session. A worker that does not answer ``grace_seconds`` after the time
    limit is killed. ``selection`` chooses the slot of a session. ``queue_max`` bounds the number of
    checkouts that wait. A worker retires after ``recycle_after`` sessions. With ``paranoid`` the
    whole state of a clone is compared with the snapshot after each session, which takes as long
    as reading its memory.

    A slot keeps at most ``resident_size_max`` bytes of the pages that its sessions wrote (default:
    twice the most that the guest wrote between two snapshots of the journal). ``allocation`` must
    be :class:`journal.engine.OnDemand`: slots are made in advance, with memories that are mapped
    from the snapshot.

    ``grants``, ``secrets``, ``cache`` and ``approvals`` are those of :func:`journal.resume`. The
    workers read a sealed journal with the key that this process uses when the pool is created.

    A worker that dies is replaced, and its sessions raise ``WorkerDied``. All methods may be
    called from any thread. In a forked child each call raises ``WrongProcess``.
    """

    _is_closed = True

    def __init__(
        self,
        path: StrPath,
        *,
        at: int | None = None,
        workers: int = 1,
        slots: int = 1,
        limits: SessionLimits | None = None,
        selection: SlotSelection = SlotSelection.AFFINITY,
        queue_max: int = QUEUE_MAX,
        recycle_after: int | None = None,
        grace_seconds: float = GRACE_SECONDS,
        paranoid: bool = False,
        resident_size_max: int | None = None,
        allocation: InstanceAllocationStrategy | None = None,
        grants: Grants | None = None,
        secrets: Mapping[str, str | SecretValue] | None = None,
        cache: StrPath | None = None,
        approvals: StrPath | None = None,
    ) -> None:
        self._options = PoolOptions(
            path=check_path("path", path).absolute(),
            at=check_optional("at", at, check_int),
            slot_count=check_int("slots", slots, 1, SLOTS_MAX),
            limits=_check_limits("limits", SessionLimits() if limits is None else limits),
            is_paranoid=check_flag("paranoid", paranoid),
            grants=Grants() if grants is None else check_type("grants", grants, Grants),
            secrets=check_secrets(secrets),
            cache=check_optional("cache", cache, check_path),
            approvals=check_optional("approvals", approvals, check_path),
            resident_size_max=check_optional("resident_size_max", resident_size_max, check_int),
            allocation=check_on_demand("allocation", allocation),
            **read_keys(),
        )
        self._worker_count = check_int("workers", workers, 0, WORKERS_MAX)
        self._grace_seconds = check_seconds("grace_seconds", grace_seconds)
        self._queue = SlotQueue(
            check_choice("selection", selection, SlotSelection),
            check_int("queue_max", queue_max),
            check_optional("recycle_after", recycle_after, check_int, 1),
        )
        self._home = HomeProcess()
        self._supervisor: Supervisor | None = None
        self._started: Future[None] | None = None
        self._start_lock = threading.Lock()
        self._is_closed = False
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        await asyncio.wrap_future(self._start_supervisor())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close, drain=kind is None))

    @property
    def path(self) -> Path:
        """Return the path of the journal."""
        return self._options.path

    @property
    def limits(self) -> SessionLimits:
        """Return the limits of a session that has none of its own."""
        return self._options.limits

    def start(self) -> None:
        """Start the workers, and wait until all their slots are ready.

        A checkout does this too, unless the pool was entered. Raises what
        :func:`journal.resume` raises for a journal from which no clone can be made.
        """
        try:
            self._start_supervisor().result()
        except BaseException:
            self.close(drain=False)
            raise

    def _start_supervisor(self) -> "Future[None]":
        self._check_process()
        with self._start_lock:
            if self._is_closed:
                raise OptionError(CLOSED)
            if self._started is None:
                self._supervisor = Supervisor(
                    self._options, self._worker_count, self._grace_seconds, self._queue
                )
                self._started = self._supervisor.start()
            return self._started

    # -- checkouts --------------------------------------------------------------------------------

    def checkout(
        self,
        *,
        timeout_seconds: float | None = None,
        journal: JournalKind | StrPath | None = None,
        affinity: Hashable = None,
        limits: SessionLimits | None = None,
    ) -> PooledSession:
        """Return a session with a clone. It begins with its first call.

        Waits for a free slot for ``timeout_seconds`` at most, and without a limit if it is None.
        With a path as ``journal`` the session is recorded in a new journal there, which begins with
        the history up to the snapshot. With ``MEMORY`` its events are kept until it ends, for
        :meth:`PooledSession.save_journal`. ``affinity`` is a key: sessions with equal keys prefer
        the same slot. ``limits`` replaces the limits of the pool.

        Raises ``PoolFull`` if no slot becomes free in time or too many checkouts wait already,
        ``WorkerDied`` if the workers have died and no other can be started, and ``OptionError`` if
        the pool is closed.
        """
        begin, kept, used_limits = self._check_session(journal, affinity, limits)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        self._check_process()
        if self._started is None or not self._started.done():
            self.start()
        supervisor = self._get_supervisor()
        while True:
            slot = self._queue.request(affinity, can_wait=timeout_seconds != 0)
            if isinstance(slot, Future):
                slot = self._wait(slot, timeout_seconds)
            if slot.channel.is_idle():
                break
            supervisor.drop(slot)  # Its worker has just died.
        lease = SlotLease(supervisor, self._check_process, slot, begin, used_limits.seconds_max)
        session = PooledSession(lease, kept)
        return _begin(session) if isinstance(kept, Path) else session

    @asynccontextmanager
    async def checkout_async(
        self,
        *,
        timeout_seconds: float | None = None,
        journal: JournalKind | StrPath | None = None,
        affinity: Hashable = None,
        limits: SessionLimits | None = None,
    ) -> AsyncIterator[AsyncPooledSession]:
        """Yield a session with a clone, as :meth:`checkout` does, for ``async with``."""
        begin, kept, used_limits = self._check_session(journal, affinity, limits)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        await asyncio.wrap_future(self._start_supervisor())
        supervisor = self._get_supervisor()
        while True:
            slot = self._queue.request(affinity, can_wait=timeout_seconds != 0)
            if isinstance(slot, Future):
                slot = await self._wait_async(slot, timeout_seconds)
            if slot.channel.is_idle():
                break
            supervisor.drop(slot)
        lease = SlotLease(supervisor, self._check_process, slot, begin, used_limits.seconds_max)
        try:
            session = AsyncPooledSession(lease, kept)
            if isinstance(kept, Path):
                await session.begin()
            yield session
        finally:
            lease.close()

    def _wait(self, future: "Future[Slot]", timeout_seconds: float | None) -> Slot:
        """Return the slot of a future. Raises PoolFull after the timeout."""
        try:
            return future.result(timeout_seconds)
        except BaseException as error:
            return self._end_wait(future, timeout_seconds, error)

    async def _wait_async(self, future: "Future[Slot]", timeout_seconds: float | None) -> Slot:
        """Return the slot of a future, as ``_wait`` does, without blocking the event loop."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.wrap_future(future)
        except BaseException as error:
            return self._end_wait(future, timeout_seconds, error)

    def _end_wait(
        self, future: "Future[Slot]", timeout_seconds: float | None, error: BaseException
    ) -> Slot:
        """End a wait that ``error`` has ended, and return a slot that came in that moment."""
        slot = self._queue.withdraw(future)
        if isinstance(error, TimeoutError):
            if slot is None:
                raise self._queue.make_timeout_error(timeout_seconds or 0) from None
            return slot
        if slot is not None:
            self._get_supervisor().give_back(slot)
        raise error

    def _get_supervisor(self) -> Supervisor:
        assert self._supervisor is not None  # The pool has been started.
        return self._supervisor

    def _check_session(
        self,
        journal: JournalKind | StrPath | None,
        affinity: Hashable,
        limits: SessionLimits | None,
    ) -> tuple[dict[str, Any], JournalKind | Path | None, SessionLimits]:
        """Return what a session sends to begin, its journal, and its limits."""
        begin: dict[str, Any] = {}
        if isinstance(journal, JournalKind):
            begin["keeps_journal"] = True
        elif journal is not None:
            journal = check_path("journal", journal).absolute()
            begin["journal"] = str(journal)
        try:
            hash(affinity)
        except TypeError:
            refuse("affinity", "hashable", affinity)
        if limits is None:
            return begin, journal, self._options.limits
        begin["limits"] = asdict(_check_limits("limits", limits))
        return begin, journal, limits

    # -- the end ----------------------------------------------------------------------------------

    def close(self, *, drain: bool = True, timeout_seconds: float | None = None) -> None:
        """End all workers. Does nothing the second time.

        New and waiting checkouts raise ``OptionError``. With ``drain`` the sessions may go on until
        they end, for ``timeout_seconds`` at most. Then sessions that are left are lost: their
        calls raise ``WorkerDied``.
        """
        check_flag("drain", drain)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        with self._start_lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._queue.close()
        if self._supervisor is None:
            return
        if drain:
            self._queue.wait_until_idle(timeout_seconds)
        self._supervisor.stop()

    @property
    def status(self) -> PoolStatus:
        """Return the numbers of this moment."""
        used, free, waiting = self._queue.count()
        supervisor = self._supervisor
        return PoolStatus(
            used,
            free,
            waiting,
            self._queue.session_count,
            supervisor.death_count if supervisor is not None else 0,
            supervisor.process_ids if supervisor is not None else (),
        )

    def _check_process(self) -> None:
        """Raise WrongProcess in a forked child."""
        self._home.check(self._options.path)

    def __del__(self) -> None:
        if not self._is_closed and self._supervisor is not None:
            close_unclosed(self, f"the pool of {self._options.path}")

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)
        if not self._is_closed and self._supervisor is not None:
            self._supervisor.abandon()
        self._is_closed = True


def _begin(session: PooledSession) -> PooledSession:
    """Let a session begin, and return it. A session that cannot begin is closed."""
    try:
        session.begin()
    except BaseException:
        session.close()
        raise
    return session


def _check_limits(name: str, value: Any) -> SessionLimits:
    """Return limits whose replies fit into messages."""
    limits = check_type(name, value, SessionLimits)
    if limits.output_size_max > OUTPUT_SIZE_MAX:
        raise OptionError(
            f"output_size_max of a pool must be at most {OUTPUT_SIZE_MAX} bytes, "
            f"got {limits.output_size_max}"
        )
    return limits
