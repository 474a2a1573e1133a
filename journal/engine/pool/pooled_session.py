"""Sessions with the clones of a pool, for threads and for asyncio."""

import asyncio
import threading
from pathlib import Path
from typing import Self, TypeVar

from journal.engine.clones.session_journal import JournalKind
from journal.engine.pool.channel import ChannelClosed
from journal.engine.pool.messages import MalformedMessage
from journal.engine.pool.slot_lease import Request, SlotLease
from journal.engine.session.reply import Reply
from journal.engine.session.run_config import StrPath
from journal.fs.open_resources import close_unclosed

T = TypeVar("T")


class PooledSession:
    """A session with a clone of a pool; a context manager. :meth:`Pool.checkout` returns it.

    The clone is at the snapshot, and begins with the first call. Leaving gives the slot back: the
    worker returns the clone to the snapshot, and nobody waits for it.

    ``stop`` may be called from any thread. Calls from several threads follow one another. After the
    death of its worker every call of a session raises ``WorkerDied``.
    """

    def __init__(self, lease: SlotLease, journal: JournalKind | Path | None) -> None:
        self._lease = lease
        self._journal = journal
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, data: bytes = b"", *, end_input: bool = False) -> Reply:
        """Feed ``data`` to the guest, and return its output when it waits for more or ends.

        With ``end_input`` the input of the guest ends after ``data``. Raises ``OptionError`` if the
        guest has ended.
        """
        with self._lock:
            return self._ask(self._lease.make_run(data, end_input))

    def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest.

        Raises what :meth:`Recorder.read_file` raises.
        """
        with self._lock:
            return self._ask(self._lease.make_read_file(path))

    @property
    def files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        with self._lock:
            return self._ask(self._lease.make_list_files())

    @property
    def journal(self) -> JournalKind | Path | None:
        """Return the path of the journal of this session, ``MEMORY``, or None without one."""
        return self._journal

    def save_journal(self, path: StrPath) -> None:
        """Write the journal of a session that keeps it in memory, as it is now, to ``path``.

        Raises ``OptionError`` for another session, and ``JournalExists``.
        """
        with self._lock:
            self._ask(self._lease.make_save_journal(path))

    def begin(self) -> None:
        """Let the session begin now, and raise the error of a journal that cannot be made."""
        with self._lock:
            self._ask(self._lease.make_begin())

    def _ask(self, request: Request[T]) -> T:
        lease, timeout = self._lease, request.timeout_seconds
        try:
            lease.slot.channel.send(request.data, timeout)
            message = lease.slot.channel.receive(timeout)
        except ChannelClosed:
            lease.lose()
        except TimeoutError:
            lease.lose(lease.describe_timeout(timeout))
        except MalformedMessage as error:
            lease.lose(f"was killed: {error}")
        else:
            return lease.accept(request, message)
        raise lease.make_lost_error()

    def stop(self) -> None:
        """Request the guest to stop: the call of another thread returns.

        Returns at once.
        """
        self._lease.stop()

    def close(self) -> None:
        """Give the slot back. Does nothing the second time."""
        self._lease.close()

    def __del__(self) -> None:
        lease = getattr(self, "_lease", None)
        if lease is not None and not lease.is_closed:
            close_unclosed(self, "a session of a pool")


class AsyncPooledSession:
    """The twin of :class:`PooledSession` for asyncio. :meth:`Pool.checkout_async` yields it.

    A call that is cancelled, as by ``asyncio.timeout``, ends the session: its guest is stopped, and
    further calls raise ``OptionError``.
    """

    def __init__(self, lease: SlotLease, journal: JournalKind | Path | None) -> None:
        self._lease = lease
        self._journal = journal
        self._lock = asyncio.Lock()

    async def run(self, data: bytes = b"", *, end_input: bool = False) -> Reply:
        """Feed ``data`` to the guest, and return its output as :meth:`PooledSession.run` does."""
        async with self._lock:
            return await self._ask(self._lease.make_run(data, end_input))

    async def read_file(self, path: str) -> bytes:
        """Return the data of a file as :meth:`PooledSession.read_file` does."""
        async with self._lock:
            return await self._ask(self._lease.make_read_file(path))

    async def read_files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        async with self._lock:
            return await self._ask(self._lease.make_list_files())

    @property
    def journal(self) -> JournalKind | Path | None:
        """Return the path of the journal of this session, ``MEMORY``, or None without one."""
        return self._journal

    async def save_journal(self, path: StrPath) -> None:
        """Write the journal of a session as :meth:`PooledSession.save_journal` does."""
        async with self._lock:
            await self._ask(self._lease.make_save_journal(path))

    async def begin(self) -> None:
        """Let the session begin now, and raise the error of a journal that cannot be made."""
        async with self._lock:
            await self._ask(self._lease.make_begin())

    async def _ask(self, request: Request[T]) -> T:
        lease, timeout = self._lease, request.timeout_seconds
        channel = lease.slot.channel
        try:
            async with asyncio.timeout(timeout) as deadline:
                await channel.send_async(request.data)
                message = await channel.receive_async()
        except ChannelClosed:
            lease.lose()
        except TimeoutError:
            if not deadline.expired():
                raise
            lease.lose(lease.describe_timeout(timeout))
        except MalformedMessage as error:
            lease.lose(f"was killed: {error}")
        else:
            return lease.accept(request, message)
        await asyncio.to_thread(lease.slot.worker.describe_end)  # It waits for the process.
        raise lease.make_lost_error()

    def stop(self) -> None:
        """Request the guest to stop: a call that is awaited returns."""
        self._lease.stop()
