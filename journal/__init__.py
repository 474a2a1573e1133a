"""Journals of WebAssembly processes: record a guest, kill it, and bring it back exactly.

The log stands on its own::

    with journal.Writer("log.journal") as writer:
        seq = writer.append(events.core.ProcessExit(exit_code=0))
        writer.sync()                  # what sync has returned from survives a power cut

    for event in journal.Reader("log.journal"):
        print(event)

The engine needs the extra ``engine`` (wasmtime)::

    with journal.record("guest.wasm", "guest.journal", args=["guest"]) as guest:
        guest.feed(b"hello\\n")
        guest.close_stdin()
        outcome = guest.wait()         # kill this process at any moment, and then, in another:

    with journal.resume("guest.journal") as guest:
        outcome = guest.wait()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from journal._compiled import ACCELERATED as accelerated
from journal._version import VERSION as __version__
from journal.errors import (
    CorruptBlock,
    Divergence,
    EngineError,
    EngineMismatch,
    ExpressionError,
    FormatError,
    JournalError,
    JournalLocked,
    LimitExceeded,
    LostAcknowledged,
    MalformedEvent,
    MissingEvents,
    ModuleMismatch,
    ModuleRefused,
    NotAJournal,
    NotResumable,
    OptionError,
    OutputLost,
    StorageError,
    TornBlock,
    UnknownEvent,
    UnsupportedVersion,
)

if TYPE_CHECKING:
    from journal import adapters, events
    from journal.compaction import (
        CompactionResult,
        CompactionSchedule,
        RetentionPolicy,
        compact,
        compact_in_place,
        compact_online,
    )
    from journal.engine.configuration import (
        Configuration,
        SafePoints,
        SnapshotOptions,
        Stacks,
        UnknownImports,
    )
    from journal.engine.memory.dirty_pages import DirtyPageTracking
    from journal.engine.session.api import record, resume
    from journal.engine.session.process import ExitKind, RunResult
    from journal.engine.session.recorder import Recorder
    from journal.engine.session.verify import ReplayResult, SnapshotCheck, verify_replay
    from journal.engine.wasi.filesystem.mounts import FileCopy, HostMount, MemoryMount
    from journal.engine.wasi.stdio.outbox import Durability, InFlightPolicy
    from journal.events.codec import decode, encode
    from journal.events.definition import Event, Group
    from journal.events.process import RecordingLevel
    from journal.events.snapshots import Trigger
    from journal.export import export_lines, import_lines
    from journal.format.frame import Frame
    from journal.log.appender import RollPolicy
    from journal.log.commit_policy import CommitPolicy
    from journal.log.reader import Reader
    from journal.log.scan import RecoveryMode
    from journal.log.summary import Finding, Summary
    from journal.log.writer import Writer
    from journal.operations.concat import ConcatResult, concat
    from journal.operations.extract import extract_files, extract_memory
    from journal.operations.filter import FilterResult, filter
    from journal.operations.fork import fork
    from journal.operations.salvage import SalvageResult, salvage
    from journal.operations.split import cut, split
    from journal.operations.verify import Verifier, VerifyCounts, VerifyCursor
    from journal.query.selection import Query
    from journal.replay import DirectoryHost, ModelHost, play
    from journal.rewrite.bit_repair import BitRepair
    from journal.rewrite.block_copier import Loss
    from journal.snapshots.catalog import SnapshotInfo, list_snapshots

#: Where the other names are; imported when they are first used, because some are slow to import.
_HERE = {
    "RollPolicy": "log.appender",
    "Verifier": "operations.verify",
    "VerifyCursor": "operations.verify",
    "VerifyCounts": "operations.verify",
    "decode": "events.codec",
    "encode": "events.codec",
    "CommitPolicy": "log.commit_policy",
    "CompactionResult": "compaction",
    "RetentionPolicy": "compaction",
    "compact": "compaction",
    "compact_in_place": "compaction",
    "compact_online": "compaction",
    "CompactionSchedule": "compaction",
    "ConcatResult": "operations.concat",
    "concat": "operations.concat",
    "export_lines": "export",
    "import_lines": "export",
    "extract_files": "operations.extract",
    "extract_memory": "operations.extract",
    "fork": "operations.fork",
    "FilterResult": "operations.filter",
    "filter": "operations.filter",
    "Query": "query.selection",
    "Event": "events.definition",
    "Group": "events.definition",
    "Finding": "log.summary",
    "Summary": "log.summary",
    "Frame": "format.frame",
    "Loss": "rewrite.block_copier",
    "RecoveryMode": "log.scan",
    "BitRepair": "rewrite.bit_repair",
    "Reader": "log.reader",
    "SalvageResult": "operations.salvage",
    "salvage": "operations.salvage",
    "DirectoryHost": "replay",
    "ModelHost": "replay",
    "play": "replay",
    "SnapshotInfo": "snapshots.catalog",
    "list_snapshots": "snapshots.catalog",
    "cut": "operations.split",
    "split": "operations.split",
    "Writer": "log.writer",
    "RecordingLevel": "events.process",
    "Trigger": "events.snapshots",
}

#: What needs the extra ``engine``, and where it is; imported when it is first used.
_ENGINE = {
    "Configuration": "configuration",
    "SafePoints": "configuration",
    "SnapshotOptions": "configuration",
    "Stacks": "configuration",
    "UnknownImports": "configuration",
    "HostMount": "wasi.filesystem.mounts",
    "MemoryMount": "wasi.filesystem.mounts",
    "FileCopy": "wasi.filesystem.mounts",
    "Durability": "wasi.stdio.outbox",
    "InFlightPolicy": "wasi.stdio.outbox",
    "ExitKind": "session.process",
    "RunResult": "session.process",
    "Recorder": "session.recorder",
    "record": "session.api",
    "resume": "session.api",
    "SnapshotCheck": "session.verify",
    "ReplayResult": "session.verify",
    "verify_replay": "session.verify",
    "DirtyPageTracking": "memory.dirty_pages",
}

__all__ = [
    "BitRepair",
    "CommitPolicy",
    "CompactionResult",
    "CompactionSchedule",
    "ConcatResult",
    "Configuration",
    "CorruptBlock",
    "DirectoryHost",
    "DirtyPageTracking",
    "Divergence",
    "Durability",
    "EngineError",
    "EngineMismatch",
    "Event",
    "ExitKind",
    "ExpressionError",
    "FileCopy",
    "FilterResult",
    "Finding",
    "FormatError",
    "Frame",
    "Group",
    "HostMount",
    "InFlightPolicy",
    "JournalError",
    "JournalLocked",
    "LimitExceeded",
    "Loss",
    "LostAcknowledged",
    "MalformedEvent",
    "MemoryMount",
    "MissingEvents",
    "ModelHost",
    "ModuleMismatch",
    "ModuleRefused",
    "NotAJournal",
    "NotResumable",
    "OptionError",
    "OutputLost",
    "Query",
    "Reader",
    "Recorder",
    "RecordingLevel",
    "RecoveryMode",
    "ReplayResult",
    "RetentionPolicy",
    "RollPolicy",
    "RunResult",
    "SafePoints",
    "SalvageResult",
    "SnapshotCheck",
    "SnapshotInfo",
    "SnapshotOptions",
    "Stacks",
    "StorageError",
    "Summary",
    "TornBlock",
    "Trigger",
    "UnknownEvent",
    "UnknownImports",
    "UnsupportedVersion",
    "Verifier",
    "VerifyCounts",
    "VerifyCursor",
    "Writer",
    "__version__",
    "accelerated",
    "adapters",
    "compact",
    "compact_in_place",
    "compact_online",
    "concat",
    "cut",
    "decode",
    "encode",
    "events",
    "export_lines",
    "extract_files",
    "extract_memory",
    "filter",
    "fork",
    "import_lines",
    "list_snapshots",
    "play",
    "record",
    "resume",
    "salvage",
    "split",
    "verify_replay",
]


def __getattr__(name: str) -> Any:
    if name in ("events", "adapters"):
        return import_module(f"journal.{name}")
    if name in _HERE:
        return getattr(import_module(f"journal.{_HERE[name]}"), name)
    if name not in _ENGINE:
        raise AttributeError(f"module 'journal' has no attribute {name!r}")
    try:
        module = import_module(f"journal.engine.{_ENGINE[name]}")
    except ModuleNotFoundError as error:
        if error.name != "wasmtime":
            raise
        raise EngineError(
            f"journal.{name} needs wasmtime: pip install 'wasm-journal[engine]'"
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
