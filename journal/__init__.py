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

from journal.build import ACCELERATED as accelerated
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
from journal.version import VERSION as __version__

if TYPE_CHECKING:
    from journal import events, shapes
    from journal.appender import Roll
    from journal.checking import Check, Cursor, Figures
    from journal.codec import decode, encode
    from journal.commit import Commit
    from journal.compaction import (
        Compaction,
        Policy,
        Upkeep,
        compact,
        compact_in_place,
        compact_online,
    )
    from journal.concatenating import Concatenation, concat
    from journal.engine.configuration import (
        Configuration,
        SafePoints,
        Snapshots,
        Stacks,
        UnknownImports,
    )
    from journal.engine.mounts import HostMount, MemoryMount, Placed
    from journal.engine.opening import record, resume
    from journal.engine.outputs import Durability, InFlight
    from journal.engine.process import Ending, Outcome
    from journal.engine.recorder import Recorder
    from journal.engine.verifying import Checked, Replay, verify_replay
    from journal.engine.written import Way
    from journal.event import Event, Group
    from journal.events.process import Level
    from journal.events.snapshots import Trigger
    from journal.export import export_lines, import_lines
    from journal.extracting import extract_files, extract_memory
    from journal.filtering import Filtered, filter
    from journal.findings import Finding, Summary
    from journal.forking import fork
    from journal.frame import Frame
    from journal.keeping import Loss
    from journal.log import Mode
    from journal.mending import Repair
    from journal.reader import Reader
    from journal.recovering import Recovery, recover
    from journal.replay import DirectoryHost, ModelHost, play
    from journal.sieve import Question
    from journal.snapshots import SnapshotInfo, snapshots_of
    from journal.splitting import cut, split
    from journal.writer import Writer

#: Where the other names are; imported when they are first used, because some are slow to import.
_HERE = {
    "Roll": "appender",
    "Check": "checking",
    "Cursor": "checking",
    "Figures": "checking",
    "decode": "codec",
    "encode": "codec",
    "Commit": "commit",
    "Compaction": "compaction",
    "Policy": "compaction",
    "compact": "compaction",
    "compact_in_place": "compaction",
    "compact_online": "compaction",
    "Upkeep": "compaction",
    "Concatenation": "concatenating",
    "concat": "concatenating",
    "export_lines": "export",
    "import_lines": "export",
    "extract_files": "extracting",
    "extract_memory": "extracting",
    "fork": "forking",
    "Filtered": "filtering",
    "filter": "filtering",
    "Question": "sieve",
    "Event": "event",
    "Group": "event",
    "Finding": "findings",
    "Summary": "findings",
    "Frame": "frame",
    "Loss": "keeping",
    "Mode": "log",
    "Repair": "mending",
    "Reader": "reader",
    "Recovery": "recovering",
    "recover": "recovering",
    "DirectoryHost": "replay",
    "ModelHost": "replay",
    "play": "replay",
    "SnapshotInfo": "snapshots",
    "snapshots_of": "snapshots",
    "cut": "splitting",
    "split": "splitting",
    "Writer": "writer",
    "Level": "events.process",
    "Trigger": "events.snapshots",
}

#: What needs the extra ``engine``, and where it is; imported when it is first used.
_ENGINE = {
    "Configuration": "configuration",
    "SafePoints": "configuration",
    "Snapshots": "configuration",
    "Stacks": "configuration",
    "UnknownImports": "configuration",
    "HostMount": "mounts",
    "MemoryMount": "mounts",
    "Placed": "mounts",
    "Durability": "outputs",
    "InFlight": "outputs",
    "Ending": "process",
    "Outcome": "process",
    "Recorder": "recorder",
    "record": "opening",
    "resume": "opening",
    "Checked": "verifying",
    "Replay": "verifying",
    "verify_replay": "verifying",
    "Way": "written",
}

__all__ = [
    "Check",
    "Checked",
    "Commit",
    "Compaction",
    "Concatenation",
    "Configuration",
    "CorruptBlock",
    "Cursor",
    "DirectoryHost",
    "Divergence",
    "Durability",
    "Ending",
    "EngineError",
    "EngineMismatch",
    "Event",
    "ExpressionError",
    "Figures",
    "Filtered",
    "Finding",
    "FormatError",
    "Frame",
    "Group",
    "HostMount",
    "InFlight",
    "JournalError",
    "JournalLocked",
    "Level",
    "LimitExceeded",
    "Loss",
    "LostAcknowledged",
    "MalformedEvent",
    "MemoryMount",
    "MissingEvents",
    "Mode",
    "ModelHost",
    "ModuleMismatch",
    "ModuleRefused",
    "NotAJournal",
    "NotResumable",
    "OptionError",
    "Outcome",
    "OutputLost",
    "Placed",
    "Policy",
    "Question",
    "Reader",
    "Recorder",
    "Recovery",
    "Repair",
    "Replay",
    "Roll",
    "SafePoints",
    "SnapshotInfo",
    "Snapshots",
    "Stacks",
    "StorageError",
    "Summary",
    "TornBlock",
    "Trigger",
    "UnknownEvent",
    "UnknownImports",
    "UnsupportedVersion",
    "Upkeep",
    "Way",
    "Writer",
    "__version__",
    "accelerated",
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
    "play",
    "record",
    "recover",
    "resume",
    "shapes",
    "snapshots_of",
    "split",
    "verify_replay",
]


def __getattr__(name: str) -> Any:
    if name in ("events", "shapes"):
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
