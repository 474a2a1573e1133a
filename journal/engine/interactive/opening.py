"""Opening of sessions: a new guest, a recorded one, or a paused one."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from journal._arguments import (
    check_bytes,
    check_callable,
    check_optional,
    check_path,
    check_type,
    quote,
)
from journal.engine.allocation import InstanceAllocationStrategy
from journal.engine.configuration import Configuration, SnapshotOptions
from journal.engine.interactive.async_session import AsyncSession
from journal.engine.interactive.event_loop import run_in_thread
from journal.engine.interactive.guest_session import GuestSession, OpenRecorder
from journal.engine.interactive.journal_place import JournalPlace
from journal.engine.interactive.pausing import check_complete, unpack_journal
from journal.engine.interactive.session import Session
from journal.engine.interactive.session_state import SessionState
from journal.engine.program.variant import Notify
from journal.engine.session.api import record, resume
from journal.engine.session.connection_check import LostConnections
from journal.engine.session.guest_time import SleepPolicy
from journal.engine.session.recorder import Recorder
from journal.engine.session.resource_policy import ResourcePolicy
from journal.engine.session.run_config import EventCallback, StrPath, check_module
from journal.engine.session.secret_environment import SecretValue
from journal.engine.session.session_limits import SessionLimits
from journal.engine.trust.grants import Grants
from journal.engine.wasi.filesystem.mounts import FileCopy, HostMount, MemoryMount
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.engine.wasi.stdio.outbox import Durability, InFlightPolicy, OutputCallback
from journal.errors import OptionError
from journal.events.process import RecordingLevel
from journal.events.snapshots import Trigger
from journal.rewrite.progress import ProgressCallback

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule

_SNAPSHOTS = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
"""Snapshots of a session: only explicit ones."""


class _Keywords(TypedDict, total=False):
    """Options of every session, which are those of :class:`RunConfig`."""

    durability: Durability
    cache: Path
    approvals: Path
    network: NetworkPolicy
    commands: Mapping[str, bytes | StrPath]
    processes_max: int
    snapshots: SnapshotOptions
    compaction: "CompactionSchedule"
    allocation: InstanceAllocationStrategy
    on_event: EventCallback
    on_output: OutputCallback
    note: Notify
    progress: ProgressCallback


class SessionOptions(_Keywords, total=False):
    """Options of a new session, which are those of :func:`record`."""

    args: Sequence[str | bytes]
    env: Mapping[str, str | SecretValue]
    mounts: Iterable[HostMount | MemoryMount]
    copies: Iterable[FileCopy]
    listeners: Iterable[str]
    level: RecordingLevel
    configuration: Configuration
    generation_file: bool


class ResumedSessionOptions(_Keywords, total=False):
    """Options of a session that continues a recorded guest, which are those of :func:`resume`."""

    module: bytes | StrPath
    grants: Grants
    in_flight: InFlightPolicy
    lost_connections: LostConnections
    policy: ResourcePolicy
    at: int
    into: StrPath
    reexecute: bool
    strict: bool
    secrets: Mapping[str, str | SecretValue]
    sleep: SleepPolicy
    reseed: bool


S = TypeVar("S", bound=GuestSession)


class SessionOpener:
    """A session that begins when it is entered.

    ``with`` gives a :class:`Session`, ``async with`` an :class:`AsyncSession`. :meth:`open` and
    ``await`` return one that the caller closes. A session begins once. A cancelled opening goes on
    in its thread, because compiling a module cannot be interrupted, and is closed there.
    """

    def __init__(
        self,
        path: StrPath | None,
        limits: SessionLimits,
        open_recorder: OpenRecorder,
        on_output: OutputCallback | None,
    ) -> None:
        check_optional("path", path, check_path)
        self._path, self._limits = path, limits
        self._open_recorder, self._on_output = open_recorder, on_output
        self._session: GuestSession | None = None
        self._has_begun = False

    def open(self) -> Session:
        """Begin the session, and return it."""
        self._begin()
        return self._make(Session)

    def __enter__(self) -> Session:
        self._session = session = self.open()
        return session

    def __exit__(self, *_: object) -> None:
        assert isinstance(self._session, Session)
        self._session.close()

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open_async().__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = session = await self
        return session

    async def __aexit__(self, *_: object) -> None:
        assert isinstance(self._session, AsyncSession)
        await self._session.aclose()

    async def _open_async(self) -> AsyncSession:
        self._begin()
        return await run_in_thread(lambda: self._make(AsyncSession), undo=AsyncSession.close)

    def _begin(self) -> None:
        if self._has_begun:
            raise OptionError("the session has begun before: open another one")
        self._has_begun = True

    def _make(self, kind: type[S]) -> S:
        return kind(JournalPlace(self._path), self._limits, self._open_recorder, self._on_output)


def session(
    module: bytes | StrPath,
    path: StrPath | None = None,
    *,
    limits: SessionLimits | None = None,
    **options: Unpack[SessionOptions],
) -> SessionOpener:
    """Return a session with a new guest that runs ``module``: enter it, or await it.

    The journal is at ``path``, or in a temporary directory that is removed when the session is
    closed. The ``options`` are those of :func:`record`. By default, snapshots are taken when the
    session asks for them, and the outputs of a temporary journal do not wait for syncs.

    ``limits`` bound the memory and the files of the guest, the time of each call, and the output of
    the session. A guest that exceeds its time or its output is stopped, and the reply says so; its
    journal can be resumed.

    Entering raises the errors of :func:`record`.
    """
    check_module("module", module)
    limits = _check_limits(limits)
    keywords: dict[str, Any] = {"snapshots": _SNAPSHOTS, **_check_options(options, SessionOptions)}
    if path is None:
        keywords.setdefault("durability", Durability.NONE)
    on_output = keywords.pop("on_output", None)
    keywords["configuration"] = _limit(keywords.get("configuration"), limits)

    def open_recorder(journal: Path, state: SessionState) -> Recorder:
        source, put = state.source, state.put
        return record(module, journal, stdin=source, on_output=put, **keywords)

    return SessionOpener(path, limits, open_recorder, on_output)


def resume_session(
    path: StrPath,
    *,
    limits: SessionLimits | None = None,
    **options: Unpack[ResumedSessionOptions],
) -> SessionOpener:
    """Return a session that continues the guest of the journal at ``path``: enter it, or await it.

    The ``options`` are those of :func:`resume`. The output of the session begins where that of the
    last one ended. ``limits`` are those of :func:`session`, but a journal that may use more memory
    or files is refused. Entering raises the errors of :func:`resume`.
    """
    check_path("path", path)
    limits, keywords = _limit_resume(limits, _check_options(options, ResumedSessionOptions))
    on_output = keywords.pop("on_output", None)
    return SessionOpener(path, limits, _open_resumed(keywords), on_output)


def unpause(
    data: bytes,
    path: StrPath | None = None,
    *,
    limits: SessionLimits | None = None,
    **options: Unpack[ResumedSessionOptions],
) -> SessionOpener:
    """Return a session that continues a paused guest: enter it, or await it.

    ``data`` are the bytes that :meth:`Session.pause` has returned. They may come from anybody: they
    grant nothing, and :func:`resume` checks them. They are written to a new journal at ``path``, or
    in a temporary directory. ``limits`` and ``options`` are those of :func:`resume_session`.
    """
    data = check_bytes("data", data)
    limits, keywords = _limit_resume(limits, _check_options(options, ResumedSessionOptions))
    on_output = keywords.pop("on_output", None)
    open_resumed = _open_resumed(keywords)

    def open_recorder(journal: Path, state: SessionState) -> Recorder:
        unpack_journal(data, journal)
        try:
            check_complete(journal)
            return open_resumed(journal, state)
        except BaseException:
            journal.unlink(missing_ok=True)
            raise

    return SessionOpener(path, limits, open_recorder, on_output)


def _open_resumed(keywords: dict[str, Any]) -> OpenRecorder:
    """Return the function that resumes a journal for a session."""

    def open_recorder(journal: Path, state: SessionState) -> Recorder:
        source, put = state.source, state.put
        return resume(journal, stdin=source, on_output=put, **keywords)

    return open_recorder


def _limit_resume(
    limits: SessionLimits | None, options: dict[str, Any]
) -> tuple[SessionLimits, dict[str, Any]]:
    """Return the limits of a resumed session, and its keywords for :func:`resume`."""
    limits = _check_limits(limits)
    sizes = {
        name: size
        for name in ("memory_size_max", "files_size_max")
        if (size := getattr(limits, name)) is not None
    }
    keywords = {"snapshots": _SNAPSHOTS, **options}
    if sizes:
        policy = keywords.get("policy") or ResourcePolicy()
        keywords["policy"] = replace(check_type("policy", policy, ResourcePolicy), **sizes)
    return limits, keywords


def _check_limits(limits: SessionLimits | None) -> SessionLimits:
    return SessionLimits() if limits is None else check_type("limits", limits, SessionLimits)


def _check_options(options: Mapping[str, Any], known: type) -> dict[str, Any]:
    """Return the options, of which each must be an annotation of ``known``."""
    for name in options:
        if name not in known.__annotations__:
            raise OptionError(f"a session has no option {quote(name)}")
    check_optional("on_output", options.get("on_output"), check_callable)
    return dict(options)


def _limit(configuration: Configuration | None, limits: SessionLimits) -> Configuration:
    """Return a configuration with the limits of a session."""
    if configuration is None:
        configuration = Configuration()
    check_type("configuration", configuration, Configuration)
    sizes = {
        name: min(size, getattr(configuration, name))
        for name in ("memory_size_max", "files_size_max")
        if (size := getattr(limits, name)) is not None
    }
    return replace(configuration, **sizes)
