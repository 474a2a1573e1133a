"""Variants of a module: unmodified, with its state exported, or instrumented for stacks."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.configuration import SafePoints, SnapshotOptions, Stacks
from journal.engine.program.instrument import (
    InstrumentedModule,
    NotInstrumentable,
    check_instrumented,
    instrument,
)
from journal.engine.program.module import START_FUNCTION, GuestModule, default_cache, is_private
from journal.engine.wasm.feature_check import ModuleFeatures, find_features
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.engine.wasm.state_exports import START_EXPORT as OWN_START
from journal.engine.wasm.state_exports import ExportedGlobal, ExportedState, export_state, has_start
from journal.errors import JournalError, ModuleRefused, NotResumable
from journal.fs import atomic_file as durable

#: What the name of a tool is followed by in a journal where loops are safe points too.
WITH_LOOPS = " loops"

#: Changed whenever a module gets another variant than before, or the file format changes.
_VARIANT_REVISION = b"1"


@dataclass(frozen=True, slots=True)
class ModuleVariant:
    """A module as it runs; names are those of exports. ``original`` is what it was made of.

    ``memories`` are the guest's own, ``stack_memory`` is asyncify's, empty without stacks, and
    ``tables`` are empty where no code changes them. ``entries`` are called one after the other.
    ``code`` is the hash of what was instrumented, and ``made_by`` names what did it; both are empty
    without stacks, and ``reason`` may say why there are none.
    """

    original: GuestModule
    module: GuestModule
    memories: tuple[str, ...] = ()
    stack_memory: str = ""
    globals: tuple[ExportedGlobal, ...] = ()
    tables: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    entries: tuple[str, ...] = (START_FUNCTION,)
    code: bytes = b""
    made_by: str = ""
    reason: str = ""
    instrumented: bytes = field(default=b"", repr=False)

    @property
    def has_stacks(self) -> bool:
        """Whether the guest's stack can be taken and put back."""
        return bool(self.stack_memory)

    @property
    def polls_loops(self) -> bool:
        """Whether the guest can be held up where a loop begins again."""
        return self.made_by.endswith(WITH_LOOPS)

    @property
    def exports_state(self) -> bool:
        """Whether the guest's state can be read, so that snapshots can be taken."""
        return bool(self.memories)


Notify = Callable[[str], None]

_SNAPSHOT_IMPORT = (b"wasix_32v1", b"proc_snapshot")


def variant_to_record(
    module: GuestModule, snapshots: SnapshotOptions, cache: Path | None, note: Notify
) -> ModuleVariant:
    """The variant that a new run has: one that can be looked into if snapshots may be taken of it.

    Raises ``ModuleRefused`` as ``variant_for_snapshots`` does.
    """
    asks_itself = all(name in module.data for name in _SNAPSHOT_IMPORT)
    by_chance = snapshots.by_default and snapshots.stacks is not Stacks.ALWAYS
    if not snapshots.is_enabled or (by_chance and not asks_itself):
        return unmodified(module)
    return variant_for_snapshots(module, snapshots, cache, note)


def unmodified(module: GuestModule) -> ModuleVariant:
    """The module as it is: it cannot be looked into.

    Only a start function is called by us, so that it finds its memory when it calls its host.
    """
    if not has_start(module.data):
        return ModuleVariant(module, module)
    shown = GuestModule(export_state(module.data, start=True).data, module.path)
    return ModuleVariant(module, shown, entries=(OWN_START, START_FUNCTION))


def variant_for_snapshots(
    module: GuestModule, snapshots: SnapshotOptions, cache: Path | None, note: Notify
) -> ModuleVariant:
    """The variant that snapshots need.

    Raises ``ModuleRefused`` where stacks are demanded and cannot be had. ``note`` is told when
    something takes long, or is not to be had.
    """
    found = _load_features(module, cache)
    if snapshots.stacks is Stacks.NEVER:
        return _make_exported(module, found, reason="stacks were not wanted")
    loops = snapshots.safe_points is SafePoints.LOOPS
    try:
        if found.drops_segments:
            raise NotInstrumentable("it drops segments, and which it has dropped cannot be told")
        made = instrument(module.data, loops=loops, cache=cache, note=note)
    except NotInstrumentable as error:
        if snapshots.stacks is Stacks.ALWAYS:
            raise ModuleRefused(f"snapshots cannot have the stacks: {error}") from error
        note(f"snapshots have no stacks, so a resume executes the guest again: {error}")
        return _make_exported(module, found, reason=str(error))
    return _make_instrumented(module, made, cache, loops=loops)


def variant_made_by(
    module: GuestModule, made_by: str, cache: Path | None, note: Notify
) -> ModuleVariant | None:
    """The variant of an earlier run, whose journal says what made it; None if it cannot be had."""
    loops = made_by.endswith(WITH_LOOPS)
    tool = made_by.removesuffix(WITH_LOOPS)
    try:
        made = instrument(module.data, loops=loops, cache=cache, note=note, tool_name=tool)
    except NotInstrumentable:
        return None
    if made.tool != tool:
        return None
    return _make_instrumented(module, made, cache, loops=loops)


def cached_variant(
    module: GuestModule, code: bytes, cache: Path | None, made: Callable[[], ModuleVariant | None]
) -> ModuleVariant | None:
    """The variant that was made of ``module`` by way of ``code`` before, if it is kept; else None.

    Neither module is looked at for that. ``made`` makes it again: where its bytes are needed after
    all, because it was not compiled here.
    """

    def read() -> bytes:
        variant = made()
        if variant is None:
            raise NotResumable("what instrumented the module is not here")
        return variant.module.data

    folder = cache or default_cache()
    known = folder / _variant_file_name(module, code)
    with suppress(OSError, ValueError, TypeError, LookupError):
        if is_private(folder) and is_private(known):
            kept = json.loads(known.read_text())
            return ModuleVariant(
                module,
                GuestModule.later(bytes.fromhex(kept["module"]), module.path, read),
                tuple(kept["memories"]),
                kept["stack_memory"],
                tuple(ExportedGlobal(*each) for each in kept["globals"]),
                tuple(kept["tables"]),
                tuple(kept["functions"]),
                tuple(kept["entries"]),
                code=code,
                made_by=kept["made_by"],
            )
    return None


def _store_variant(variant: ModuleVariant, cache: Path | None) -> None:
    """Let a variant be known the next time; a cache that cannot be written costs time alone."""
    names = ("memories", "stack_memory", "globals", "tables", "functions", "entries", "made_by")
    kept = {"module": variant.module.hash.hex(), **{name: getattr(variant, name) for name in names}}
    folder = cache or default_cache()
    known = folder / _variant_file_name(variant.original, variant.code)
    with suppress(OSError, JournalError):
        if not known.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(known, json.dumps(kept).encode())


def _variant_file_name(module: GuestModule, code: bytes) -> str:
    return f"{hashlib.sha256(_VARIANT_REVISION + module.hash + code).hexdigest()}.form"


def variant_from_journal(
    module: GuestModule, instrumented: bytes, made_by: str, cache: Path | None
) -> ModuleVariant:
    """The variant of an earlier run whose journal holds the instrumented module.

    Raises ``NotResumable`` for one that cannot have been made of the module.
    """
    loops, tool = made_by.endswith(WITH_LOOPS), made_by.removesuffix(WITH_LOOPS)
    try:
        check_instrumented(instrumented, module.data, tool)
    except NotInstrumentable as error:
        raise NotResumable(f"the journal's instrumented module cannot be run: {error}") from error
    made = InstrumentedModule(instrumented, GuestModule(instrumented).hash, tool)
    return _make_instrumented(module, made, cache, loops=loops)


def _load_features(module: GuestModule, cache: Path | None) -> ModuleFeatures:
    """What was found out about a module: looking through all its code takes a while."""
    folder = cache or default_cache()
    known = folder / f"{module.hash.hex()}.facts"
    with suppress(OSError, ValueError, TypeError):
        if is_private(folder) and is_private(known):
            return ModuleFeatures(**json.loads(known.read_text()))
    found = find_features(module.data)
    with suppress(OSError, JournalError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(known, json.dumps(found._asdict()).encode())
    return found


def _make_instrumented(
    module: GuestModule, made: InstrumentedModule, cache: Path | None, *, loops: bool
) -> ModuleVariant:
    found = _load_features(module, cache)
    revealed = export_state(made.data, functions=found.changes_tables, start=True)
    *memories, stack_memory = revealed.memories
    variant = ModuleVariant(
        module,
        GuestModule(revealed.data, module.path),
        tuple(memories),
        stack_memory,
        *_exported_names(revealed, found),
        code=made.hash,
        made_by=made.tool + (WITH_LOOPS if loops else ""),
        instrumented=made.data,
    )
    _store_variant(variant, cache)
    return variant


def _make_exported(module: GuestModule, found: ModuleFeatures, *, reason: str) -> ModuleVariant:
    revealed = export_state(module.data, functions=found.changes_tables, start=True)
    shown = GuestModule(revealed.data, module.path)
    return ModuleVariant(
        module,
        shown,
        tuple(revealed.memories),
        "",
        *_exported_names(revealed, found),
        reason=reason,
    )


def _exported_names(
    revealed: ExportedState, found: ModuleFeatures
) -> tuple[tuple[ExportedGlobal, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Globals, tables, functions and entries."""
    return (
        tuple(one for one in revealed.globals if one.name != POLL_FLAG),
        tuple(name for name in revealed.tables if name != POLL_TABLE)
        if found.changes_tables
        else (),
        tuple(revealed.functions),
        (OWN_START, START_FUNCTION) if revealed.has_start else (START_FUNCTION,),
    )
