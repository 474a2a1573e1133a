"""The form in which a module runs: as it is, with its state shown, or instrumented for stacks."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.configuration import SafePoints, Snapshots, Stacks
from journal.engine.program.instrument import (
    Facts,
    Instrumented,
    NotInstrumentable,
    check,
    facts,
    instrument,
)
from journal.engine.program.module import START, Module, default_cache, is_private
from journal.engine.wasm.loop_polls import FLAG, TABLE
from journal.engine.wasm.state_exports import START as OWN_START
from journal.engine.wasm.state_exports import Global, Revealed, has_start, reveal
from journal.errors import JournalError, ModuleRefused, NotResumable
from journal.fs import atomic_file as durable

#: What the name of a tool is followed by in a journal where loops are safe points too.
WITH_LOOPS = " loops"

#: Another one whenever a module is given another form than before, or a form is kept otherwise.
_FORM_REVISION = b"1"


@dataclass(frozen=True, slots=True)
class Form:
    """A module as it runs; names are those of exports. ``original`` is what it was made of.

    ``memories`` are the guest's own, ``stack_memory`` is asyncify's, empty without stacks, and
    ``tables`` are empty where no code changes them. ``entries`` are called one after the other.
    ``code`` is the hash of what was instrumented, and ``made_by`` names what did it; both are empty
    without stacks, and ``reason`` may say why there are none.
    """

    original: Module
    module: Module
    memories: tuple[str, ...] = ()
    stack_memory: str = ""
    globals: tuple[Global, ...] = ()
    tables: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    entries: tuple[str, ...] = (START,)
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
    def is_shown(self) -> bool:
        """Whether the guest's state can be read, so that snapshots can be taken."""
        return bool(self.memories)


Note = Callable[[str], None]

_ASKS_FOR_SNAPSHOTS = (b"wasix_32v1", b"proc_snapshot")


def form_to_record(module: Module, snapshots: Snapshots, cache: Path | None, note: Note) -> Form:
    """The form that a new run has: one that can be looked into if snapshots may be taken of it.

    Raises ``ModuleRefused`` as ``form_for`` does.
    """
    asks_itself = all(name in module.data for name in _ASKS_FOR_SNAPSHOTS)
    by_chance = snapshots.by_default and snapshots.stacks is not Stacks.ALWAYS
    if not snapshots.are_wanted or (by_chance and not asks_itself):
        return plain(module)
    return form_for(module, snapshots, cache, note)


def plain(module: Module) -> Form:
    """The module as it is: it cannot be looked into.

    Only a start function is called by us, so that it finds its memory when it calls its host.
    """
    if not has_start(module.data):
        return Form(module, module)
    shown = Module(reveal(module.data, start=True).data, module.path)
    return Form(module, shown, entries=(OWN_START, START))


def form_for(module: Module, snapshots: Snapshots, cache: Path | None, note: Note) -> Form:
    """The form that snapshots need.

    Raises ``ModuleRefused`` where stacks are demanded and cannot be had. ``note`` is told when
    something takes long, or is not to be had.
    """
    found = _facts_of(module, cache)
    if snapshots.stacks is Stacks.NEVER:
        return _shown(module, found, reason="stacks were not wanted")
    loops = snapshots.safe_points is SafePoints.LOOPS
    try:
        if found.drops_segments:
            raise NotInstrumentable("it drops segments, and which it has dropped cannot be told")
        made = instrument(module.data, loops=loops, cache=cache, note=note)
    except NotInstrumentable as error:
        if snapshots.stacks is Stacks.ALWAYS:
            raise ModuleRefused(f"snapshots cannot have the stacks: {error}") from error
        note(f"snapshots have no stacks, so a resume executes the guest again: {error}")
        return _shown(module, found, reason=str(error))
    return _with_stacks(module, made, cache, loops=loops)


def form_made_by(module: Module, made_by: str, cache: Path | None, note: Note) -> Form | None:
    """The form of an earlier run, whose journal says what made it; None if it cannot be had."""
    loops = made_by.endswith(WITH_LOOPS)
    tool = made_by.removesuffix(WITH_LOOPS)
    try:
        made = instrument(module.data, loops=loops, cache=cache, note=note, tool_name=tool)
    except NotInstrumentable:
        return None
    if made.tool != tool:
        return None
    return _with_stacks(module, made, cache, loops=loops)


def form_known(
    module: Module, code: bytes, cache: Path | None, made: Callable[[], Form | None]
) -> Form | None:
    """The form that was made of ``module`` by way of ``code`` before, if it is kept; else None.

    Neither module is looked at for that. ``made`` makes it again: where its bytes are needed after
    all, because it was not compiled here.
    """

    def read() -> bytes:
        form = made()
        if form is None:
            raise NotResumable("what instrumented the module is not here")
        return form.module.data

    folder = cache or default_cache()
    known = folder / _name_of(module, code)
    with suppress(OSError, ValueError, TypeError, LookupError):
        if is_private(folder) and is_private(known):
            kept = json.loads(known.read_text())
            return Form(
                module,
                Module.later(bytes.fromhex(kept["module"]), module.path, read),
                tuple(kept["memories"]),
                kept["stack_memory"],
                tuple(Global(*each) for each in kept["globals"]),
                tuple(kept["tables"]),
                tuple(kept["functions"]),
                tuple(kept["entries"]),
                code=code,
                made_by=kept["made_by"],
            )
    return None


def _keep(form: Form, cache: Path | None) -> None:
    """Let a form be known the next time; a cache that cannot be written costs time alone."""
    names = ("memories", "stack_memory", "globals", "tables", "functions", "entries", "made_by")
    kept = {"module": form.module.hash.hex(), **{name: getattr(form, name) for name in names}}
    folder = cache or default_cache()
    known = folder / _name_of(form.original, form.code)
    with suppress(OSError, JournalError):
        if not known.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(known, json.dumps(kept).encode())


def _name_of(module: Module, code: bytes) -> str:
    return f"{hashlib.sha256(_FORM_REVISION + module.hash + code).hexdigest()}.form"


def form_of(module: Module, instrumented: bytes, made_by: str, cache: Path | None) -> Form:
    """The form of an earlier run whose journal holds the instrumented module.

    Raises ``NotResumable`` for one that cannot have been made of the module.
    """
    loops, tool = made_by.endswith(WITH_LOOPS), made_by.removesuffix(WITH_LOOPS)
    try:
        check(instrumented, module.data, tool)
    except NotInstrumentable as error:
        raise NotResumable(f"the journal's instrumented module cannot be run: {error}") from error
    made = Instrumented(instrumented, Module(instrumented).hash, tool)
    return _with_stacks(module, made, cache, loops=loops)


def _facts_of(module: Module, cache: Path | None) -> Facts:
    """What was found out about a module: looking through all its code takes a while."""
    folder = cache or default_cache()
    known = folder / f"{module.hash.hex()}.facts"
    with suppress(OSError, ValueError, TypeError):
        if is_private(folder) and is_private(known):
            return Facts(**json.loads(known.read_text()))
    found = facts(module.data)
    with suppress(OSError, JournalError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(known, json.dumps(found._asdict()).encode())
    return found


def _with_stacks(module: Module, made: Instrumented, cache: Path | None, *, loops: bool) -> Form:
    found = _facts_of(module, cache)
    revealed = reveal(made.data, functions=found.changes_tables, start=True)
    *memories, stack_memory = revealed.memories
    form = Form(
        module,
        Module(revealed.data, module.path),
        tuple(memories),
        stack_memory,
        *_rest(revealed, found),
        code=made.hash,
        made_by=made.tool + (WITH_LOOPS if loops else ""),
        instrumented=made.data,
    )
    _keep(form, cache)
    return form


def _shown(module: Module, found: Facts, *, reason: str) -> Form:
    revealed = reveal(module.data, functions=found.changes_tables, start=True)
    shown = Module(revealed.data, module.path)
    return Form(module, shown, tuple(revealed.memories), "", *_rest(revealed, found), reason=reason)


def _rest(
    revealed: Revealed, found: Facts
) -> tuple[tuple[Global, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Globals, tables, functions and entries."""
    return (
        tuple(one for one in revealed.globals if one.name != FLAG),
        tuple(name for name in revealed.tables if name != TABLE) if found.changes_tables else (),
        tuple(revealed.functions),
        (OWN_START, START) if revealed.has_start else (START,),
    )
