"""All public functions, constructors and methods, with arguments that they accept."""

from __future__ import annotations

import inspect
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from enum import Enum
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import journal
from journal import adapters, compaction, engine, events, export, operations, pages, replay
from journal.events.memory import MemoryPages
from journal.events.wire_types import U32
from journal.format.block import Block
from journal.log import read_head, sign_journal
from journal.log.writer import Writer
from tests.support.programs import ROOT
from tests.support.sample_events import process_start, region, snapshot
from tests.support.signatures import read_hints
from tests.support.tiny_interpreter import TINY_INTERPRETER
from tests.support.wat import module

ROOMS = (
    "journal",
    "journal.adapters",
    "journal.compaction",
    "journal.engine",
    "journal.events",
    "journal.export",
    "journal.log",
    "journal.operations",
    "journal.pages",
    "journal.query",
    "journal.replay",
    "journal.snapshots",
)
"""Packages whose functions and classes a caller uses."""

_RESULT = "a result: the library makes it, and a caller reads it"
_EXPORT = "exports call it with the values of events that were decoded"
_EFFECT = "effects call it with the values of events that were decoded"
_MADE = "a function makes it"
_TREE = "Query checks the whole tree"
_ENGINE = "the engine calls it"
_TWIN = "the method of Session has the same checks"
_COROUTINES = ("aclose", "fork", "output", "pause", "read_file", "read_files", "run", "snapshot")
_SHARED = ("close", "end_input", "feed")
_WORKERS = "it needs a guest that waits: tests/engine/pool calls it"
_POOLED = ("begin", "read_file", "run", "save_journal", "stop")
_CHECKED = "record and Grants check each"

NOT_CALLED = {
    "AccessRequest": _RESULT,
    "Approval": _RESULT,
    "FilterResult": _RESULT,
    "KindStatistics": _RESULT,
    "MapResult": _RESULT,
    "MapResult.get": _RESULT,
    "ModulePreparation": _RESULT,
    "PageStatistics": _RESULT,
    "PeerStatistics": _RESULT,
    "PeersResult": _RESULT,
    "RecordedOptions": _RESULT,
    "ReplayResult": _RESULT,
    "ReplayState": _RESULT,
    "Reply": _RESULT,
    "ResumeCheck": _RESULT,
    "RunResult": _RESULT,
    "SnapshotCheck": _RESULT,
    "SnapshotInfo": _RESULT,
    "StatisticsResult": _RESULT,
    "VerifyCounts": _RESULT,
    "Damage.error": _RESULT,
    "Loss.error": _RESULT,
    "RedactedBytes.make_filler": _RESULT,
    "Redaction.redact_address": _EXPORT,
    "Redaction.redact_value": _EXPORT,
    "ScannedBlock.block": _RESULT,
    "Segment.is_superseded": _RESULT,
    "DirectoryHost.end_process": _EFFECT,
    "DirectoryHost.make_backend": _EFFECT,
    "DirectoryHost.mount": _EFFECT,
    "DirectoryHost.place_file": _EFFECT,
    "DirectoryHost.record": _EFFECT,
    "DirectoryHost.record_write": _EFFECT,
    "DirectoryHost.restart_module": _EFFECT,
    "DirectoryHost.set_generation": _EFFECT,
    "DirectoryHost.start_process": _EFFECT,
    "ModelHost.end_process": _EFFECT,
    "ModelHost.make_backend": _EFFECT,
    "ModelHost.mount": _EFFECT,
    "ModelHost.place_file": _EFFECT,
    "ModelHost.record": _EFFECT,
    "ModelHost.record_write": _EFFECT,
    "ModelHost.restart_module": _EFFECT,
    "ModelHost.set_generation": _EFFECT,
    "ModelHost.start_process": _EFFECT,
    "FedSource.begin_wait": _ENGINE,
    "FedSource.fileno": _ENGINE,
    "FedSource.is_ready": _ENGINE,
    "FedSource.make_opened_event": _ENGINE,
    "FedSource.read": _ENGINE,
    "NetworkPolicy": _MADE,
    "NetworkPolicy.may_connect": _ENGINE,
    "NetworkPolicy.may_listen": _ENGINE,
    "NetworkPolicy.may_listen_again": _ENGINE,
    "NetworkPolicy.may_resolve": _ENGINE,
    "PipeSink": _MADE,
    "PooledInstance": _MADE,
    "PooledSession": _MADE,
    "AsyncPooledSession": _MADE,
    "PoolStatus": _RESULT,
    **{f"Pool.{name}": _WORKERS for name in ("checkout", "checkout_async", "start")},
    **{f"PooledSession.{name}": _WORKERS for name in (*_POOLED, "close")},
    **{f"AsyncPooledSession.{name}": _WORKERS for name in (*_POOLED, "read_files")},
    "PipeSource": _MADE,
    "Recorder": _MADE,
    "Evaluation": _RESULT,
    "SandboxSession": _MADE,
    "AsyncSandboxSession": _MADE,
    "AsyncSandboxSession.evaluate": "the method of SandboxSession has the same checks",
    "SandboxPool.checkout_async": "the method checkout has the same checks",
    "SandboxPool.evaluate_async": "the method evaluate has the same checks",
    "AsyncOutput": _MADE,
    "AsyncSession": _MADE,
    "GuestSession": _MADE,
    "Session": _MADE,
    "SessionOpener": _MADE,
    "SessionOpener.open": "the caller closes the session",
    **{f"AsyncSession.{name}": _TWIN for name in _COROUTINES},
    **{f"{kind}.{name}": _TWIN for kind in ("AsyncSession", "GuestSession") for name in _SHARED},
    "And": _TREE,
    "BooleanField": _TREE,
    "Comparison": _TREE,
    "Not": _TREE,
    "Or": _TREE,
    "FileCopy": _CHECKED,
    "HostMount": _CHECKED,
    "MemoryMount": _CHECKED,
    "Adapter.append": "a base class",
    "Adapter.append_frame": "a base class",
    "Adapter.close": "a base class",
    "RollPolicy.check": "Writer calls it with each policy",
}
"""Public calls that the test of arguments does not make, and why."""

ALWAYS_REFUSED = {
    "ConcatenatedSource.append",
    "ConcatenatedSource.append_frame",
    "FilteredSource.append",
    "FilteredSource.append_frame",
    "PipeSource.append",
    "PipeSource.append_frame",
    "PythonSandbox.prepare",  # The path below is that of another journal.
    "QuickJSSandbox.prepare",
    "Recorder.fork",  # The recorder below was started without snapshots.
    "Recorder.snapshot",
    "Recorder.transaction",
    "Session.fork",  # The session below was started without snapshots.
    "Session.snapshot",
    "RejectingJournal.append",
    "RejectingJournal.append_frame",
}
"""Calls that raise OptionError for all arguments."""

_GUEST = ROOT / "fixtures/guests/exit7.wasm"
_LIBRARY = module('(module (memory (export "memory") 1) (func (export "one")))')
_ITEMS_MAX = 4
"""Number of items that are taken from an iterator."""


# -- files ----------------------------------------------------------------------------------------


class World:
    """Directory with small journals, which is made again after a change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._original = folder / "world", folder / "original"
        self._original.mkdir()
        _make_files(self._original)
        shutil.copytree(self._original, self.folder)
        self._first_files = self._read_files()
        self._files, self._states = self._first_files, self._read_states()
        self.opened: list[Any] = []
        """Objects to close before the files change."""

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def remember(self) -> None:
        """Remember the files as they are now."""
        states = self._read_states()
        if states != self._states:
            self._states, self._files = states, self._read_files()

    def has_changed(self) -> bool:
        """Return whether a file was created, changed or removed."""
        return self._read_states() != self._states and self._read_files() != self._files

    def restore(self) -> None:
        """Close all open files, and make the directory as it was at first."""
        close_all(self.opened)
        self.opened.clear()
        if self._read_files() == self._first_files:
            return
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._original, self.folder, dirs_exist_ok=True)

    def _paths(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self.folder):
            yield from (f"{folder}/{name}" for name in (*folders, *names))

    def _read_states(self) -> dict[str, Any]:
        states = ((path, os.lstat(path)) for path in self._paths())
        return {path: (each.st_ino, each.st_size, each.st_mtime_ns) for path, each in states}

    def _read_files(self) -> dict[str, Any]:
        paths = map(Path, self._paths())
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


def _make_files(folder: Path) -> None:
    (folder / "empty").mkdir()
    mounts = [journal.MemoryMount("/work")]
    with journal.record(_GUEST.read_bytes(), folder / "ended.journal", mounts=mounts) as guest:
        guest.wait()
    engine.QuickJSSandbox.prepare(TINY_INTERPRETER, folder / "warm.journal")
    with journal.Reader(folder / "ended.journal") as reader:
        last = max(frame.seq for frame in reader.frames())
    journal.cut(folder / "ended.journal", folder / "open.journal", at=last - 1)
    with journal.Writer(folder / "snapshot.journal") as writer:
        for event in (process_start(), region(0, b"memory"), snapshot()):
            writer.append(event)
    with journal.Writer(folder / "plain.journal") as writer:
        writer.append_payloads(224, [b"one", b"two", b"three"])
    shutil.copy(folder / "plain.journal", folder / "beside.journal")
    with journal.Writer(folder / "later.journal", first_seq=10) as writer:
        writer.append_frame(224, b"four")
    journal.SealKey.generate().write(folder / "key")
    _SIGNING_KEY.write(folder / "signing key")
    (folder / "public key").write_text(str(_SIGNING_KEY.public_key))
    with (folder / "lines.json").open("wb") as lines:
        journal.export_lines(folder / "plain.journal", lines)
    with suppress(journal.OptionError), (folder / "table.parquet").open("wb") as table:
        export.export_parquet(folder / "plain.journal", table)


# -- accepted arguments ---------------------------------------------------------------------------


@journal.application_event(tag=230)
class Probe(journal.Event):
    """Kind of an application."""

    value: U32


def _make_block(world: World) -> Block:
    with journal.Reader(world / "later.journal") as reader:
        return next(reader.blocks())


def _make_memory_journal(world: World) -> adapters.MemoryJournal:
    found = adapters.MemoryJournal()
    found.append_frame(224, b"x")
    return found


def _make_recorder(world: World) -> journal.Recorder:
    copies = [engine.FileCopy(str(world / "lines.json"), "/file")]
    path = world / "recorder.journal"
    return journal.record(_GUEST.read_bytes(), path, stdin=engine.FedSource(), copies=copies)


def _make_pipe_source(world: World) -> adapters.PipeSource:
    sink, source = adapters.pipe()
    sink.append_frame(224, b"x")
    sink.close()
    return source


def _make_session(world: World) -> engine.Session:
    copies = [engine.FileCopy(str(world / "lines.json"), "/file")]
    no_snapshots = engine.SnapshotOptions()
    return journal.session(_GUEST.read_bytes(), copies=copies, snapshots=no_snapshots).open()


def _make_sandbox_session(world: World) -> engine.SandboxSession:
    box = engine.SandboxPool(engine.Pool(world / "warm.journal", workers=0))
    world.opened.append(box)
    return box.checkout()


def _make_instance(world: World) -> engine.PooledInstance:
    pool = engine.InstancePool(_LIBRARY, allocation=engine.OnDemand())
    world.opened.append(pool)
    return pool.instantiate()


_MAKERS: dict[type, Callable[[World], Any]] = {
    engine.AccessRequest: lambda world: engine.AccessRequest(bytes(16), bytes(32)),
    engine.PooledInstance: _make_instance,
    journal.Recorder: _make_recorder,
    engine.SandboxSession: _make_sandbox_session,
    engine.Session: _make_session,
    adapters.MemoryJournal: _make_memory_journal,
    adapters.PipeSink: lambda world: adapters.pipe()[0],
    adapters.PipeSource: _make_pipe_source,
    pages.PageResolver: lambda world: pages.PageResolver.without_source(),
}
"""Functions that make an object, for classes whose constructor is not enough."""


def _make_signed_journal(world: World) -> Path:
    sign_journal(world / "plain.journal", _SIGNING_KEY)
    return world / "plain.journal"


_NO_PAGES = MemoryPages(memory=0, size=0, numbers=(), kinds=b"", data=b"")
_FRAME = journal.Frame(0, 224, b"x", 0, 0)
_SIGNING_KEY = journal.SigningKey(bytes(32))

_VALUES: dict[str, Any] = {
    "code": "1",
    "callback": lambda world: lambda: None,
    "count": 1,
    "data": b"x",
    "digest": bytes(32),
    "directory": lambda world: world / "target",
    "event": events.core.ProcessExit(exit_code=0),
    "expected": lambda world: read_head(world / "plain.journal"),
    "file": lambda world: (world / "lines.json").open("rb"),
    "find": lambda world: lambda seq: _FRAME,
    "frame": _FRAME,
    "function": lambda world: os.path.getsize,
    "frames": [_FRAME],
    "host": lambda world: replay.ModelHost(),
    "index_in_event": 0,
    "infos": [],
    "into": lambda world: world / "target",
    "inner": _make_memory_journal,
    "key": None,
    "journal": _make_memory_journal,
    "journal_id": bytes(16),
    "keep": [224],
    "kind": events.core.ProcessExit,
    "kinds": {},
    "level": "explicit",
    "module": _GUEST.read_bytes(),
    "name": "seq",
    "out": lambda world: io.BytesIO(),
    "path": lambda world: world / "plain.journal",
    "paths": [],
    "passphrase": "a passphrase",
    "pool": lambda world: engine.Pool(world / "warm.journal", workers=0),
    "payload": b"x",
    "payloads": [b"x"],
    "public_key": _SIGNING_KEY.public_key,
    "query": journal.Query(),
    "raw": bytes(32),
    "reader": lambda world: journal.Reader(world / "snapshot.journal"),
    "request": engine.AccessRequest(bytes(16), bytes(32)),
    "rows": [(1,)],
    "schedule": compaction.CompactionSchedule(),
    "secret": bytes(32),
    "seq": 0,
    "signature": bytes(64),
    "signing_key": _SIGNING_KEY,
    "sink": _make_memory_journal,
    "source": lambda world: world / "plain.journal",
    "sources": lambda world: [world / "plain.journal"],
    "tag": 224,
    "tags": [224],
    "target": lambda world: world / "target",
    "text": "seq == 1",
    "trigger": events.snapshots.Trigger.EXPLICIT,
    "upto": 1,
    "write_line": lambda world: lambda line: None,
    "writer": lambda world: Writer(world / "plain.journal"),
}
"""An accepted value of each parameter, or a function that makes it."""

_VALUES_OF_CALLS: dict[str, dict[str, Any]] = {
    "Approvals": {"directory": lambda world: world / "approvals"},
    "CombinedJournal": {"source": _make_memory_journal},
    "ConcatenatedSource": {"sources": lambda world: [_make_memory_journal(world)]},
    "DirectoryHost": {"path": lambda world: world / "empty"},
    "PooledInstance.call": {"name": "one"},
    "PooledInstance.read": {"offset": 0, "size": 1},
    "PooledInstance.write": {"offset": 0},
    "parse_allocation": {"text": "pooling:total_memories=2"},
    "InstancePool": {"module": _LIBRARY, "allocation": engine.OnDemand()},
    "InstancePool.call": {"name": "one"},
    "InstancePool.call_many": {"name": "one", "arguments": [()]},
    "NetworkPolicy.parse": {"rules": ["all"]},
    "PageResolver.cache": {"event": _NO_PAGES},
    "PageResolver.find_errors": {"event": _NO_PAGES},
    "PageResolver.resolve_event": {"event": _NO_PAGES},
    "PageResolver.resolve_payload": {"payload": journal.encode(_NO_PAGES)},
    "Reader.follow": {"stop": lambda world: lambda: True, "timeout_seconds": 0.0},
    "Recorder.read_file": {"path": "/file"},
    "Session.read_file": {"path": "/file"},
    "Recorder.signal": {"number": 15},
    "Recorder.set_path": {"path": lambda world: world / "recorder.journal"},
    "Recorder.wait": {"timeout_seconds": 0.0},
    "Head.parse": {"text": f"1-{bytes(32).hex()}"},
    "PublicKey.parse": {"text": str(_SIGNING_KEY.public_key)},
    "PublicKey.read": {"path": lambda world: world / "public key"},
    "SigningKey.read": {"path": lambda world: world / "signing key"},
    "SigningKey.write": {"path": lambda world: world / "target"},
    "check_signature": {"path": _make_signed_journal},
    "SealKey.deserialize": {"data": bytes(33)},
    "VerifyCursor.parse": {
        "text": str(operations.VerifyCursor(0, 128, 1, operations.VerifyCounts()))
    },
    "SealKey.read": {"path": lambda world: world / "key"},
    "SealKey.read_passphrase": {"path": lambda world: world / "key"},
    "SealKey.write": {"path": lambda world: world / "target"},
    "Writer.append_block": {"source": _make_block},
    "Writer.append_many": {"frames": [(224, b"x")]},
    "Writer.switch_to": {"beside": lambda world: world / "beside.journal"},
    "approve": {
        "path": lambda world: world / "ended.journal",
        "approvals": lambda world: world / "approvals",
    },
    "check_resume": {"path": lambda world: world / "open.journal"},
    "copy": {"source": _make_memory_journal},
    "cut": {"at": 1},
    "fork": {"at": 1},
    "extract_environment": {"source": lambda world: world / "ended.journal"},
    "extract_memory": {"source": lambda world: world / "snapshot.journal"},
    "import_parquet": {"source": lambda world: world / "table.parquet"},
    "read_recorded_options": {"path": lambda world: world / "ended.journal"},
    "read_request": {"path": lambda world: world / "ended.journal"},
    "record": {"path": lambda world: world / "target"},
    "resume": {"path": lambda world: world / "open.journal"},
    "resume_session": {"path": lambda world: world / "open.journal"},
    "split": {"at": [1]},
    "unpause": {"data": lambda world: (world / "open.journal").read_bytes()},
    "verify_replay": {"path": lambda world: world / "ended.journal"},
}
"""Accepted values of the parameters of single calls. They come first."""


# -- calls ----------------------------------------------------------------------------------------


@cache
def _read_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


class PublicCall(NamedTuple):
    """A public function, constructor or method; ``owner`` is the class of the last two."""

    room: str
    name: str
    function: Callable[..., Any]
    owner: type | None = None
    is_method: bool = False

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Parameters that are not keywords for another function, and without ``self``."""
        found = _read_parameters(self.function)
        found = found[1:] if self.is_method or self.is_constructor else found
        return [each for each in found if each.kind is not each.VAR_KEYWORD]

    @property
    def is_constructor(self) -> bool:
        """Whether the function is a constructor."""
        return self.owner is not None and self.name == self.owner.__name__

    @property
    def hints(self) -> dict[str, Any]:
        """Types of the parameters."""
        return read_hints(self.function)

    def make_owner(self, world: World) -> Any:
        """Return an object whose method can be called, or None for another call."""
        if not self.is_method:
            return None
        assert self.owner is not None
        if self.owner in _MAKERS:
            return _MAKERS[self.owner](world)
        constructor = next(call for call in _find_calls_of(self.owner, "") if call.is_constructor)
        arguments = constructor.make_arguments(world)
        world.opened += arguments.values()
        return self.owner(**arguments)

    def make_arguments(self, world: World, without: str = "") -> dict[str, Any]:
        """Return accepted values of the parameters without a default, and of some others."""
        made = dict(_VALUES_OF_CALLS.get(self.name, {}))
        for each in self.parameters:
            is_needed = each.default is each.empty and each.kind is not each.VAR_POSITIONAL
            if is_needed and each.name not in made:
                assert each.name in _VALUES, f"{self.name}: add a value of {each.name} or a reason"
                made[each.name] = _VALUES[each.name]
        return {
            name: value(world) if isinstance(value, FunctionType) else value
            for name, value in made.items()
            if name != without
        }

    def make(self, owner: Any, arguments: dict[str, Any]) -> None:
        """Make the call, and take the first items of an iterator that it returns."""
        function: Any = self.owner if self.is_constructor else self.function
        named = dict(arguments)
        names = [each.name for each in self.parameters]
        several = [each.name for each in self.parameters if each.kind is each.VAR_POSITIONAL]
        count = names.index(several[0]) + 1 if several and several[0] in named else 0
        positional = [named.pop(name) for name in names[:count]]
        result = function(*([owner] if self.is_method else []), *positional, **named)
        try:
            if isinstance(result, Iterator):
                list(islice(result, _ITEMS_MAX))
            elif isinstance(result, AbstractContextManager) and not hasattr(result, "close"):
                with result:
                    pass
        finally:
            close_all(result if isinstance(result, tuple) else [result])


def find_calls() -> list[PublicCall]:
    """Return the functions, constructors and methods of all rooms, each once."""
    calls: list[PublicCall] = []
    seen: set[int] = set()
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            found = getattr(module, name)
            if id(found) in seen:
                continue
            seen.add(id(found))
            if isinstance(found, FunctionType):
                is_taken = any(call.name == name for call in calls)
                calls.append(PublicCall(room, f"{room}.{name}" if is_taken else name, found))
            elif isinstance(found, type) and not issubclass(found, Enum | BaseException):
                calls += _find_calls_of(found, room)
    return calls


def _find_calls_of(owner: type, room: str) -> Iterator[PublicCall]:
    if getattr(owner, "_is_protocol", False):  # A protocol has no code.
        return
    for name, member in inspect.getmembers_static(owner):
        is_bound = isinstance(member, classmethod | staticmethod)
        function = getattr(owner, name) if is_bound else member
        if not isinstance(getattr(function, "__func__", function), FunctionType):
            continue
        if not function.__module__.startswith("journal."):
            continue
        if name == "__init__":
            yield PublicCall(room, owner.__name__, function, owner)
        elif not name.startswith("_"):
            yield PublicCall(room, f"{owner.__name__}.{name}", function, owner, not is_bound)


def close_all(found: Any) -> None:
    """Close what can be closed."""
    for each in found:
        if not isinstance(each, type) and callable(getattr(each, "close", None)):
            with suppress(Exception):
                each.close()
