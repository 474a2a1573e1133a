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
from journal.engine.program.module import START_FUNCTION, GuestModule, get_default_cache, is_private
from journal.engine.wasm.feature_check import ModuleFeatures, find_features
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.engine.wasm.state_exports import START_EXPORT as OWN_START
from journal.engine.wasm.state_exports import ExportedGlobal, ExportedState, export_state, has_start
from journal.errors import JournalError, ModuleRefused, NotResumable
from journal.fs import atomic_file

#: Suffix of a tool's name in a journal if loops are safe points too.
WITH_LOOPS = " loops"

#: Changed whenever a module gets another variant than before, or the file format changes.
_VARIANT_REVISION = b"1"


@dataclass(frozen=True, slots=True)
class ModuleVariant:
    """A module as it runs, with the names of its exports. ``original`` is the module that it was
    made of.

    ``memories`` are the guest's own, and ``stack_memory`` is asyncify's, empty without stacks.
    ``tables`` is empty if no code changes tables. ``entries`` are called one after the other.
    ``code`` is the hash of the instrumented module and ``made_by`` the tool; both are empty without
    stacks. Then ``reason`` may say why there are no stacks.
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
        """True if the guest's stack can be captured and restored."""
        return bool(self.stack_memory)

    @property
    def polls_loops(self) -> bool:
        """True if the guest can be suspended at loop heads."""
        return self.made_by.endswith(WITH_LOOPS)

    @property
    def exports_state(self) -> bool:
        """True if the guest's state can be read, so that snapshots can be taken."""
        return bool(self.memories)


Notify = Callable[[str], None]

_SNAPSHOT_IMPORT = (b"wasix_32v1", b"proc_snapshot")


def select_variant(
    module: GuestModule, snapshots: SnapshotOptions, cache: Path | None, note: Notify
) -> ModuleVariant:
    """Return the variant for a new run: with exported state if snapshots may be taken.

    Raises ``ModuleRefused`` as ``make_snapshot_variant`` does.
    """
    requests_snapshots = all(name in module.data for name in _SNAPSHOT_IMPORT)
    is_optional = snapshots.by_default and snapshots.stacks is not Stacks.ALWAYS
    if not snapshots.is_enabled or (is_optional and not requests_snapshots):
        return unmodified(module)
    return make_snapshot_variant(module, snapshots, cache, note)


def unmodified(module: GuestModule) -> ModuleVariant:
    """Return the variant without exported state.

    Only a start function is exported and called later, so that the memory is known when the start
    function calls the host.
    """
    if not has_start(module.data):
        return ModuleVariant(module, module)
    prepared = GuestModule(export_state(module.data, start=True).data, module.path)
    return ModuleVariant(module, prepared, entries=(OWN_START, START_FUNCTION))


def make_snapshot_variant(
    module: GuestModule, snapshots: SnapshotOptions, cache: Path | None, note: Notify
) -> ModuleVariant:
    """Return the variant that snapshots need.

    Raises ``ModuleRefused`` if stacks are required and not possible. ``note`` is called if an
    operation takes long or stacks are not possible.
    """
    features = _load_features(module, cache)
    if snapshots.stacks is Stacks.NEVER:
        return _make_exported(module, features, reason="stacks are disabled")
    loops = snapshots.safe_points is SafePoints.LOOPS
    try:
        if features.drops_segments:
            raise NotInstrumentable(
                "the module drops segments, and the dropped segments cannot be captured"
            )
        made = instrument(module.data, loops=loops, cache=cache, note=note)
    except NotInstrumentable as error:
        if snapshots.stacks is Stacks.ALWAYS:
            raise ModuleRefused(f"stacks cannot be captured in snapshots: {error}") from error
        note(f"snapshots have no stacks, so a resume executes the guest again: {error}")
        return _make_exported(module, features, reason=str(error))
    return _make_instrumented(module, made, cache, loops=loops)


def make_variant_with_tool(
    module: GuestModule, made_by: str, cache: Path | None, note: Notify
) -> ModuleVariant | None:
    """Return the variant that the tool ``made_by`` of an earlier run makes; None if impossible."""
    loops = made_by.endswith(WITH_LOOPS)
    tool = made_by.removesuffix(WITH_LOOPS)
    try:
        made = instrument(module.data, loops=loops, cache=cache, note=note, tool_name=tool)
    except NotInstrumentable:
        return None
    if made.tool != tool:
        return None
    return _make_instrumented(module, made, cache, loops=loops)


def find_cached_variant(
    module: GuestModule, code: bytes, cache: Path | None, made: Callable[[], ModuleVariant | None]
) -> ModuleVariant | None:
    """Return the cached variant of ``module`` with the instrumented module ``code``, or None.

    Neither module is read. ``made`` makes the variant again if its bytes are needed, because the
    compiled code is not cached.
    """

    def read() -> bytes:
        variant = made()
        if variant is None:
            raise NotResumable("the tool that instrumented the module is not installed")
        return variant.module.data

    folder = cache or get_default_cache()
    cached = folder / _variant_file_name(module, code)
    with suppress(OSError, ValueError, TypeError, LookupError):
        if is_private(folder) and is_private(cached):
            saved = json.loads(cached.read_text())
            return ModuleVariant(
                module,
                GuestModule.deferred(bytes.fromhex(saved["module"]), module.path, read),
                tuple(saved["memories"]),
                saved["stack_memory"],
                tuple(ExportedGlobal(*each) for each in saved["globals"]),
                tuple(saved["tables"]),
                tuple(saved["functions"]),
                tuple(saved["entries"]),
                code=code,
                made_by=saved["made_by"],
            )
    return None


def _store_variant(variant: ModuleVariant, cache: Path | None) -> None:
    """Store a variant in the cache; a cache that cannot be written only costs time."""
    names = ("memories", "stack_memory", "globals", "tables", "functions", "entries", "made_by")
    saved = {
        "module": variant.module.hash.hex(),
        **{name: getattr(variant, name) for name in names},
    }
    folder = cache or get_default_cache()
    cached = folder / _variant_file_name(variant.original, variant.code)
    with suppress(OSError, JournalError):
        if not cached.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(cached, json.dumps(saved).encode())


def _variant_file_name(module: GuestModule, code: bytes) -> str:
    return f"{hashlib.sha256(_VARIANT_REVISION + module.hash + code).hexdigest()}.form"


def load_embedded_variant(
    module: GuestModule, instrumented: bytes, made_by: str, cache: Path | None
) -> ModuleVariant:
    """Return the variant of an earlier run whose journal contains the instrumented module.

    Raises ``NotResumable`` if it cannot have been made of the module.
    """
    loops, tool = made_by.endswith(WITH_LOOPS), made_by.removesuffix(WITH_LOOPS)
    try:
        check_instrumented(instrumented, module.data, tool)
    except NotInstrumentable as error:
        raise NotResumable(f"the journal's instrumented module cannot be used: {error}") from error
    made = InstrumentedModule(instrumented, GuestModule(instrumented).hash, tool)
    return _make_instrumented(module, made, cache, loops=loops)


def _load_features(module: GuestModule, cache: Path | None) -> ModuleFeatures:
    """Return the features of a module, cached because the scan of all code takes a while."""
    folder = cache or get_default_cache()
    cached = folder / f"{module.hash.hex()}.facts"
    with suppress(OSError, ValueError, TypeError):
        if is_private(folder) and is_private(cached):
            return ModuleFeatures(**json.loads(cached.read_text()))
    features = find_features(module.data)
    with suppress(OSError, JournalError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_file.replace(cached, json.dumps(features._asdict()).encode())
    return features


def _make_instrumented(
    module: GuestModule, made: InstrumentedModule, cache: Path | None, *, loops: bool
) -> ModuleVariant:
    features = _load_features(module, cache)
    exported = export_state(made.data, functions=features.changes_tables, start=True)
    *memories, stack_memory = exported.memories
    variant = ModuleVariant(
        module,
        GuestModule(exported.data, module.path),
        tuple(memories),
        stack_memory,
        *_exported_names(exported, features),
        code=made.hash,
        made_by=made.tool + (WITH_LOOPS if loops else ""),
        instrumented=made.data,
    )
    _store_variant(variant, cache)
    return variant


def _make_exported(module: GuestModule, features: ModuleFeatures, *, reason: str) -> ModuleVariant:
    exported = export_state(module.data, functions=features.changes_tables, start=True)
    prepared = GuestModule(exported.data, module.path)
    return ModuleVariant(
        module,
        prepared,
        tuple(exported.memories),
        "",
        *_exported_names(exported, features),
        reason=reason,
    )


def _exported_names(
    exported: ExportedState, features: ModuleFeatures
) -> tuple[tuple[ExportedGlobal, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return globals, tables, functions and entries."""
    return (
        tuple(one for one in exported.globals if one.name != POLL_FLAG),
        tuple(name for name in exported.tables if name != POLL_TABLE)
        if features.changes_tables
        else (),
        tuple(exported.functions),
        (OWN_START, START_FUNCTION) if exported.has_start else (START_FUNCTION,),
    )
