"""Journals of WebAssembly processes: record a guest, kill it, and bring it back exactly.

The log stands on its own::

    with journal.Writer("log.journal") as writer:
        seq = writer.append(events.core.ProcessExit(exit_code=0))
        writer.sync()                  # what sync has returned from survives a power cut

    with journal.Reader("log.journal") as reader:
        for event in reader:
            print(event)

The engine needs the extra ``engine`` (wasmtime)::

    with journal.record("guest.wasm", "guest.journal", args=["guest"]) as guest:
        guest.feed(b"hello\\n")
        guest.close_stdin()
        outcome = guest.wait()         # kill this process at any moment, and then, in another:

    with journal.resume("guest.journal") as guest:
        outcome = guest.wait()

A session feeds a guest and waits for its reply, in threads or, with ``async``, in an event loop::

    with journal.session("guest.wasm", args=["guest"]) as guest:
        reply = guest.run(b"hello\\n")
        children = guest.fork(4)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from journal._compiled import IS_COMPILED as is_compiled
from journal._lazy import lazy_names
from journal._version import VERSION as __version__
from journal.errors import (
    CorruptBlock,
    DamagedJournal,
    Divergence,
    EngineError,
    EngineMismatch,
    ExpressionError,
    FormatError,
    GrantsMissing,
    HostMismatch,
    InstanceTrapped,
    JobFailed,
    JournalChanged,
    JournalError,
    JournalExists,
    JournalLocked,
    LimitExceeded,
    LostAcknowledged,
    MalformedEvent,
    MissingEvents,
    ModuleMismatch,
    ModuleRefused,
    NotAJournal,
    NotResumable,
    NotSigned,
    OptionError,
    OutputLost,
    PoolFull,
    ResourceRefused,
    StorageError,
    TornBlock,
    UnexpectedHead,
    UnknownEvent,
    UnsupportedVersion,
    WorkerDied,
    WrongKey,
    WrongProcess,
)

if TYPE_CHECKING:
    from journal import (
        adapters,
        compaction,
        engine,
        events,
        export,
        log,
        operations,
        query,
        replay,
        snapshots,
    )
    from journal.compaction import compact, compact_in_place, compact_online
    from journal.engine.interactive.opening import resume_session, session, unpause
    from journal.engine.pool.pool import Pool
    from journal.engine.session.api import record, resume
    from journal.engine.session.recorder import Recorder
    from journal.engine.session.verify import verify_replay
    from journal.engine.wasi.filesystem.mounts import HostMount, MemoryMount
    from journal.events.codec import decode, encode
    from journal.events.declared_kinds import application_event
    from journal.events.definition import Event
    from journal.events.opaque import OpaqueEvent
    from journal.export import export_lines, import_lines
    from journal.format.frame import Frame
    from journal.format.seal_key import SealKey
    from journal.format.signature import PublicKey, SigningKey
    from journal.log.reader import Reader
    from journal.log.writer import Writer
    from journal.operations.concat import concat
    from journal.operations.extract import extract_files, extract_memory
    from journal.operations.filter import filter
    from journal.operations.fork import fork
    from journal.operations.map import map
    from journal.operations.salvage import salvage
    from journal.operations.split import cut, split
    from journal.operations.verify import Verifier
    from journal.query.selection import Query
    from journal.replay import play
    from journal.snapshots.catalog import list_snapshots

_MODULES = {
    "Event": "events.definition",
    "Frame": "format.frame",
    "HostMount": "engine.wasi.filesystem.mounts",
    "MemoryMount": "engine.wasi.filesystem.mounts",
    "OpaqueEvent": "events.opaque",
    "Pool": "engine.pool.pool",
    "PublicKey": "format.signature",
    "Query": "query.selection",
    "Reader": "log.reader",
    "Recorder": "engine.session.recorder",
    "SealKey": "format.seal_key",
    "SigningKey": "format.signature",
    "Verifier": "operations.verify",
    "Writer": "log.writer",
    "application_event": "events.declared_kinds",
    "compact": "compaction",
    "compact_in_place": "compaction",
    "compact_online": "compaction",
    "concat": "operations.concat",
    "cut": "operations.split",
    "decode": "events.codec",
    "encode": "events.codec",
    "export_lines": "export",
    "extract_files": "operations.extract",
    "extract_memory": "operations.extract",
    "filter": "operations.filter",
    "fork": "operations.fork",
    "import_lines": "export",
    "list_snapshots": "snapshots.catalog",
    "map": "operations.map",
    "play": "replay",
    "record": "engine.session.api",
    "resume": "engine.session.api",
    "resume_session": "engine.interactive.opening",
    "salvage": "operations.salvage",
    "session": "engine.interactive.opening",
    "split": "operations.split",
    "unpause": "engine.interactive.opening",
    "verify_replay": "engine.session.verify",
}
"""The modules of the names that are imported when they are first used."""

_ROOMS = frozenset(
    {
        "adapters",
        "compaction",
        "engine",
        "events",
        "export",
        "log",
        "operations",
        "query",
        "replay",
        "snapshots",
    }
)
"""Packages of public names, imported when they are first used."""

__all__ = [
    "CorruptBlock",
    "DamagedJournal",
    "Divergence",
    "EngineError",
    "EngineMismatch",
    "Event",
    "ExpressionError",
    "FormatError",
    "Frame",
    "GrantsMissing",
    "HostMismatch",
    "HostMount",
    "InstanceTrapped",
    "JobFailed",
    "JournalChanged",
    "JournalError",
    "JournalExists",
    "JournalLocked",
    "LimitExceeded",
    "LostAcknowledged",
    "MalformedEvent",
    "MemoryMount",
    "MissingEvents",
    "ModuleMismatch",
    "ModuleRefused",
    "NotAJournal",
    "NotResumable",
    "NotSigned",
    "OpaqueEvent",
    "OptionError",
    "OutputLost",
    "Pool",
    "PoolFull",
    "PublicKey",
    "Query",
    "Reader",
    "Recorder",
    "ResourceRefused",
    "SealKey",
    "SigningKey",
    "StorageError",
    "TornBlock",
    "UnexpectedHead",
    "UnknownEvent",
    "UnsupportedVersion",
    "Verifier",
    "WorkerDied",
    "Writer",
    "WrongKey",
    "WrongProcess",
    "__version__",
    "adapters",
    "application_event",
    "compact",
    "compact_in_place",
    "compact_online",
    "compaction",
    "concat",
    "cut",
    "decode",
    "encode",
    "engine",
    "events",
    "export",
    "export_lines",
    "extract_files",
    "extract_memory",
    "filter",
    "fork",
    "import_lines",
    "is_compiled",
    "list_snapshots",
    "log",
    "map",
    "operations",
    "play",
    "query",
    "record",
    "replay",
    "resume",
    "resume_session",
    "salvage",
    "session",
    "snapshots",
    "split",
    "unpause",
    "verify_replay",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    _get, _ = lazy_names(__name__, _MODULES)

    def __getattr__(name: str) -> Any:
        return import_module(f"journal.{name}") if name in _ROOMS else _get(name)

    def __dir__() -> list[str]:
        return sorted(__all__)
