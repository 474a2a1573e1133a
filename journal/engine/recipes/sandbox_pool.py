"""Pool of a sandbox: sessions with clones of a warm interpreter, for threads and for asyncio."""

from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from journal._arguments import check_flag, check_int, check_optional, check_seconds, check_type
from journal.engine.pool.pool import Pool
from journal.engine.pool.pooled_session import AsyncPooledSession, PooledSession
from journal.engine.recipes.conversation import VALUE_SIZE_MAX, Conversation, check_code
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.session.run_config import StrPath
from journal.engine.session.session_limits import SessionLimits

SANDBOX_LIMITS = SessionLimits(seconds_max=60.0, output_size_max=16 << 20)
"""Default limits of a session with a sandbox, besides those of its warm journal."""
_VALUE_SIZE_LOW, _VALUE_SIZE_HIGH = 1 << 10, 64 << 20
"""Bounds of the limit of a value. An error message needs some space, too."""


class SandboxSession:
    """A clone of a warm interpreter that evaluates one piece of code after another; a context
    manager. :meth:`SandboxPool.checkout` returns it.

    What one evaluation leaves in variables, modules and files is there for the next one of the
    session, and for no other session.
    """

    def __init__(self, session: PooledSession, conversation: Conversation, has_files: bool) -> None:
        self._session, self._conversation = session, conversation
        self._has_files = has_files

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def session(self) -> PooledSession:
        """Return the session of the pool, which has the files and the journal."""
        return self._session

    def evaluate(self, code: str) -> Evaluation:
        """Run code in the interpreter, and return its value, its output and its files.

        An error of the code is in the result. Raises ``EngineError`` if the clone has ended,
        ``WorkerDied`` if its worker has, and ``OptionError`` for code that is no text.
        """
        conversation = self._conversation
        reply = self._session.run(conversation.make_request(code))
        evaluation = conversation.accept_reply(reply)
        if self._has_files:
            evaluation = conversation.add_files(evaluation, self._session.files)
        return evaluation

    def close(self) -> None:
        """Give the clone back. Does nothing the second time."""
        self._session.close()


class AsyncSandboxSession:
    """The twin of :class:`SandboxSession` for asyncio. :meth:`SandboxPool.checkout_async` yields
    it.
    """

    def __init__(
        self, session: AsyncPooledSession, conversation: Conversation, has_files: bool
    ) -> None:
        self._session, self._conversation = session, conversation
        self._has_files = has_files

    @property
    def session(self) -> AsyncPooledSession:
        """Return the session of the pool, which has the files and the journal."""
        return self._session

    async def evaluate(self, code: str) -> Evaluation:
        """Run code in the interpreter, as :meth:`SandboxSession.evaluate` does."""
        conversation = self._conversation
        reply = await self._session.run(conversation.make_request(code))
        evaluation = conversation.accept_reply(reply)
        if self._has_files:
            evaluation = conversation.add_files(evaluation, await self._session.read_files())
        return evaluation


class SandboxPool:
    """Pool whose clones evaluate code; a context manager, also for ``async with``.

    ``pool`` serves the warm journal of a sandbox, and is closed with this object.
    :meth:`Sandbox.open` makes both. ``value_size_max`` bounds the JSON of a value in characters.
    Without ``files`` the evaluations have no files, which saves a request to the worker.
    """

    def __init__(
        self, pool: Pool, *, value_size_max: int = VALUE_SIZE_MAX, files: bool = True
    ) -> None:
        self.pool = check_type("pool", pool, Pool)
        self._value_size_max = check_int(
            "value_size_max", value_size_max, _VALUE_SIZE_LOW, _VALUE_SIZE_HIGH
        )
        self._has_files = check_flag("files", files)
        self._first_files: Mapping[str, bytes] | None = None

    def __enter__(self) -> Self:
        self.pool.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.pool.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        await self.pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        await self.pool.__aexit__(kind, error, trace)

    def checkout(
        self,
        *,
        timeout_seconds: float | None = None,
        journal: StrPath | None = None,
        affinity: Hashable = None,
        limits: SessionLimits | None = None,
    ) -> SandboxSession:
        """Return a session with a clone. The options and errors are those of
        :meth:`Pool.checkout`.
        """
        if self._has_files and self._first_files is None:
            with self.pool.checkout(timeout_seconds=timeout_seconds) as session:
                session.run(self._begin().make_request(""))  # Now the guest surely has its files.
                self._first_files = session.files
        session = self.pool.checkout(
            timeout_seconds=timeout_seconds, journal=journal, affinity=affinity, limits=limits
        )
        return SandboxSession(session, self._begin(), self._has_files)

    @asynccontextmanager
    async def checkout_async(
        self,
        *,
        timeout_seconds: float | None = None,
        journal: StrPath | None = None,
        affinity: Hashable = None,
        limits: SessionLimits | None = None,
    ) -> AsyncIterator[AsyncSandboxSession]:
        """Yield a session with a clone, as :meth:`checkout` does, for ``async with``."""
        if self._has_files and self._first_files is None:
            async with self.pool.checkout_async(timeout_seconds=timeout_seconds) as session:
                await session.run(self._begin().make_request(""))
                self._first_files = await session.read_files()
        async with self.pool.checkout_async(
            timeout_seconds=timeout_seconds, journal=journal, affinity=affinity, limits=limits
        ) as session:
            yield AsyncSandboxSession(session, self._begin(), self._has_files)

    def evaluate(
        self,
        code: str,
        *,
        seconds_max: float | None = None,
        timeout_seconds: float | None = None,
        journal: StrPath | None = None,
    ) -> Evaluation:
        """Run code in a clone of its own, and return its value, its output and its files.

        ``seconds_max`` replaces the time limit of the pool. ``timeout_seconds`` bounds the wait for
        a free clone. The other options and the errors are those of :meth:`checkout` and
        :meth:`SandboxSession.evaluate`.
        """
        check_code(code)
        limits = self._make_limits(seconds_max)
        with self.checkout(
            timeout_seconds=timeout_seconds, journal=journal, limits=limits
        ) as session:
            return session.evaluate(code)

    async def evaluate_async(
        self,
        code: str,
        *,
        seconds_max: float | None = None,
        timeout_seconds: float | None = None,
        journal: StrPath | None = None,
    ) -> Evaluation:
        """Run code in a clone of its own, as :meth:`evaluate` does."""
        check_code(code)
        limits = self._make_limits(seconds_max)
        async with self.checkout_async(
            timeout_seconds=timeout_seconds, journal=journal, limits=limits
        ) as session:
            return await session.evaluate(code)

    def close(self, *, drain: bool = True, timeout_seconds: float | None = None) -> None:
        """End the pool as :meth:`Pool.close` does."""
        self.pool.close(drain=drain, timeout_seconds=timeout_seconds)

    def _begin(self) -> Conversation:
        return Conversation(self._value_size_max, self._first_files or {})

    def _make_limits(self, seconds_max: float | None) -> SessionLimits | None:
        """Return the limits of the pool with another time limit; None for those of the pool."""
        check_optional("seconds_max", seconds_max, check_seconds)
        if seconds_max is None:
            return None
        return replace(self.pool.limits, seconds_max=seconds_max)
