"""Variants of a module: unmodified, with exported state, or instrumented for stacks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.configuration import SafePoints, SnapshotOptions, Stacks
from journal.engine.program.instrument import (
    InstrumentedModule,
    NotInstrumentable,
    check_instrumented,
    instrument,
)
from journal.engine.program.module import START_FUNCTION, GuestModule
from journal.engine.program.refusal import is_text
from journal.engine.program.user_cache import UserCache, get_default_cache
from journal.engine.wasm.feature_check import ModuleFeatures, find_features
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.engine.wasm.state_exports import (
    START_EXPORT,
    ExportedGlobal,
    ExportedState,
    export_state,
    has_start,
)
from journal.errors import ModuleRefused, NotResumable
from journal.rewrite.progress import ProgressCallback, ignore_progress

#: Suffix of a tool's name in a journal if loops are safe points too.
WITH_LOOPS = " loops"

_VARIANT, _FEATURES = "form", "facts"
"""Kinds of the cached files."""
#: Revisions of the cached files. One changes with the values of any module, and with their format.
_VARIANT_REVISION, _FEATURES_REVISION = b"1", b"1"


@dataclass(frozen=True, slots=True)
class ModuleVariant:
    """A variant of the module ``original``, with the names of its exports.

    ``memories`` are the memories of the guest. ``stack_memory`` is the memory of asyncify, empty
    without stacks. ``tables`` is empty if no code changes tables. ``entries`` are called one after
    the other. ``code`` is the hash of the instrumented module and ``instrumentation`` the name of
    the tool; both are empty without stacks. ``reason`` says why the variant has no stacks.
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
    instrumentation: str = ""
    reason: str = ""
    instrumented: bytes = field(default=b"", repr=False)

    @property
    def has_stacks(self) -> bool:
        """Return whether the guest's stack can be captured and restored."""
        return bool(self.stack_memory)

    @property
    def polls_loops(self) -> bool:
        """Return whether the guest can be suspended at loop heads."""
        return self.instrumentation.endswith(WITH_LOOPS)

    @property
    def exports_state(self) -> bool:
        """Return whether the guest's state can be read, so that snapshots can be taken."""
        return bool(self.memories)


Notify = Callable[[str], None]

_WASIX, _SNAPSHOT, _FORK = b"wasix_32v1", b"proc_snapshot", b"proc_fork"


def select_variant(
    module: GuestModule,
    snapshots: SnapshotOptions,
    cache: Path | None,
    note: Notify,
    progress: ProgressCallback = ignore_progress,
) -> ModuleVariant:
    """Return the variant for a new run: with exported state if snapshots may be taken.

    Raises ``ModuleRefused`` as ``make_snapshot_variant`` does.
    """
    is_wasix, by_default = _WASIX in module.data, snapshots.by_default
    can_fork = is_wasix and _FORK in module.data and snapshots.stacks is not Stacks.NEVER
    requests_snapshots = is_wasix and _SNAPSHOT in module.data
    is_optional = by_default and snapshots.stacks is not Stacks.ALWAYS and not requests_snapshots
    if not can_fork and (is_optional or not snapshots.is_enabled):
        return make_unmodified_variant(module)
    return make_snapshot_variant(module, snapshots, cache, note, progress)


def make_unmodified_variant(module: GuestModule) -> ModuleVariant:
    """Return the variant without exported state.

    Only a start function is exported and called later, so that the memory is known when the start
    function calls the host.
    """
    if not has_start(module.data):
        return ModuleVariant(module, module)
    prepared = GuestModule(export_state(module.data, start=True).data, module.path)
    return ModuleVariant(module, prepared, entries=(START_EXPORT, START_FUNCTION))


def make_snapshot_variant(
    module: GuestModule,
    snapshots: SnapshotOptions,
    cache: Path | None,
    note: Notify,
    progress: ProgressCallback = ignore_progress,
) -> ModuleVariant:
    """Return the variant that snapshots need.

    Raises ``ModuleRefused`` if stacks are required and not possible. ``note`` is called if stacks
    are not possible. ``progress`` receives the instrumentation, which takes minutes.
    """
    if is_text(module.data):
        raise ModuleRefused(
            "the module is text, and snapshots need a binary module: assemble it, for example "
            "with wat2wasm"
        )
    features = _load_features(module, cache)
    if snapshots.stacks is Stacks.NEVER:
        return _make_state_variant(module, features, reason="stacks are disabled")
    loops = snapshots.safe_points is SafePoints.LOOPS
    try:
        if features.drops_segments:
            raise NotInstrumentable(
                "the module drops segments, and the dropped segments cannot be captured"
            )
        instrumented_module = instrument(
            module.data, loops=loops, cache=cache or get_default_cache(), progress=progress
        )
    except NotInstrumentable as error:
        if snapshots.stacks is Stacks.ALWAYS:
            raise ModuleRefused(f"stacks cannot be captured in snapshots: {error}") from error
        note(f"snapshots have no stacks, so a resume executes the guest again: {error}")
        return _make_state_variant(module, features, reason=str(error))
    return _make_stack_variant(module, instrumented_module, cache, loops=loops)


def make_variant_with_tool(
    module: GuestModule, instrumentation: str, cache: Path | None, progress: ProgressCallback
) -> ModuleVariant | None:
    """Return the variant made by the tool of an earlier run, or None if that is impossible.

    ``instrumentation`` is the name of the tool in the journal.
    """
    loops = instrumentation.endswith(WITH_LOOPS)
    tool = instrumentation.removesuffix(WITH_LOOPS)
    try:
        instrumented_module = instrument(
            module.data,
            loops=loops,
            cache=cache or get_default_cache(),
            progress=progress,
            tool_name=tool,
        )
    except NotInstrumentable:
        return None
    if instrumented_module.tool != tool:
        return None
    return _make_stack_variant(module, instrumented_module, cache, loops=loops)


def find_cached_variant(
    module: GuestModule,
    code: bytes,
    cache: Path | None,
    make_variant: Callable[[], ModuleVariant | None],
) -> ModuleVariant | None:
    """Return the cached variant of ``module`` with the instrumented module ``code``, or None.

    Neither module is read. ``make_variant`` makes the variant again if its bytes are needed,
    because the compiled code is not cached.
    """

    def read() -> bytes:
        variant = make_variant()
        if variant is None:
            raise NotResumable("the tool that instrumented the module is not installed")
        return variant.module.data

    cached = UserCache.open(cache).read(_VARIANT, _variant_identity(module, code))
    if cached is None:
        return None
    values = json.loads(cached.data)
    return ModuleVariant(
        module,
        GuestModule.from_reader(bytes.fromhex(values["module"]), module.path, read),
        tuple(values["memories"]),
        values["stack_memory"],
        tuple(ExportedGlobal(*fields) for fields in values["globals"]),
        tuple(values["tables"]),
        tuple(values["functions"]),
        tuple(values["entries"]),
        code=code,
        instrumentation=values["made_by"],
    )


def _store_variant(variant: ModuleVariant, cache: Path | None) -> None:
    """Store a variant in the cache; a cache that cannot be written only costs time."""
    names = ("memories", "stack_memory", "globals", "tables", "functions", "entries")
    values = {
        "module": variant.module.hash.hex(),
        **{name: getattr(variant, name) for name in names},
        "made_by": variant.instrumentation,
    }
    files, identity = UserCache.open(cache), _variant_identity(variant.original, variant.code)
    if files.read(_VARIANT, identity) is None:
        files.write(_VARIANT, identity, json.dumps(values).encode())


def _variant_identity(module: GuestModule, code: bytes) -> bytes:
    return _VARIANT_REVISION + module.hash + code


def load_embedded_variant(
    module: GuestModule, instrumented: bytes, instrumentation: str, cache: Path | None
) -> ModuleVariant:
    """Return the variant of an earlier run whose journal contains the instrumented module.

    Raises ``NotResumable`` if it cannot have been made of the module.
    """
    loops, tool = instrumentation.endswith(WITH_LOOPS), instrumentation.removesuffix(WITH_LOOPS)
    try:
        check_instrumented(instrumented, module.data, tool)
    except NotInstrumentable as error:
        raise NotResumable(f"the journal's instrumented module cannot be used: {error}") from error
    instrumented_module = InstrumentedModule(instrumented, GuestModule(instrumented).hash, tool)
    return _make_stack_variant(module, instrumented_module, cache, loops=loops)


def _load_features(module: GuestModule, cache: Path | None) -> ModuleFeatures:
    """Return the features of a module, cached because the scan of all code takes a while."""
    files, identity = UserCache.open(cache), _FEATURES_REVISION + module.hash
    cached = files.read(_FEATURES, identity)
    if cached is not None:
        return ModuleFeatures(**json.loads(cached.data))
    features = find_features(module.data)
    files.write(_FEATURES, identity, json.dumps(features._asdict()).encode())
    return features


def _make_stack_variant(
    module: GuestModule, instrumented_module: InstrumentedModule, cache: Path | None, *, loops: bool
) -> ModuleVariant:
    features = _load_features(module, cache)
    exported_state = export_state(
        instrumented_module.data, functions=features.changes_tables, start=True
    )
    *memories, stack_memory = exported_state.memories
    variant = ModuleVariant(
        module,
        GuestModule(exported_state.data, module.path),
        tuple(memories),
        stack_memory,
        *_exported_names(exported_state, features),
        code=instrumented_module.hash,
        instrumentation=instrumented_module.tool + (WITH_LOOPS if loops else ""),
        instrumented=instrumented_module.data,
    )
    _store_variant(variant, cache)
    return variant


def _make_state_variant(
    module: GuestModule, features: ModuleFeatures, *, reason: str
) -> ModuleVariant:
    exported_state = export_state(module.data, functions=features.changes_tables, start=True)
    prepared = GuestModule(exported_state.data, module.path)
    return ModuleVariant(
        module,
        prepared,
        tuple(exported_state.memories),
        "",
        *_exported_names(exported_state, features),
        reason=reason,
    )


def _exported_names(
    exported_state: ExportedState, features: ModuleFeatures
) -> tuple[tuple[ExportedGlobal, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return globals, tables, functions and entries."""
    return (
        tuple(global_ for global_ in exported_state.globals if global_.name != POLL_FLAG),
        tuple(name for name in exported_state.tables if name != POLL_TABLE)
        if features.changes_tables
        else (),
        tuple(exported_state.functions),
        (START_EXPORT, START_FUNCTION) if exported_state.has_start else (START_FUNCTION,),
    )
