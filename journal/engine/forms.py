"""The form in which a module runs: as it is, with its state shown, or instrumented for stacks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.configuration import SafePoints, Snapshots, Stacks
from journal.engine.instrumenting import (
    Facts,
    Instrumented,
    NotInstrumentable,
    check,
    facts,
    instrument,
)
from journal.engine.loop_heads import FLAG, TABLE
from journal.engine.module import START, Module
from journal.engine.revealing import START as OWN_START
from journal.engine.revealing import Global, Revealed, has_start, reveal
from journal.errors import ModuleRefused, NotResumable

#: What the name of a tool is followed by in a journal where loops are safe points too.
WITH_LOOPS = " loops"


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
    found = facts(module.data)
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
    return _with_stacks(module, found, made, loops=loops)


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
    return _with_stacks(module, facts(module.data), made, loops=loops)


def form_of(module: Module, instrumented: bytes, made_by: str) -> Form:
    """The form of an earlier run whose journal holds the instrumented module.

    Raises ``NotResumable`` for one that cannot have been made of the module.
    """
    loops, tool = made_by.endswith(WITH_LOOPS), made_by.removesuffix(WITH_LOOPS)
    try:
        check(instrumented, module.data, tool)
    except NotInstrumentable as error:
        raise NotResumable(f"the journal's instrumented module cannot be run: {error}") from error
    made = Instrumented(instrumented, Module(instrumented).hash, tool)
    return _with_stacks(module, facts(module.data), made, loops=loops)


def _with_stacks(module: Module, found: Facts, made: Instrumented, *, loops: bool) -> Form:
    revealed = reveal(made.data, functions=found.changes_tables, start=True)
    *memories, stack_memory = revealed.memories
    return Form(
        module,
        Module(revealed.data, module.path),
        tuple(memories),
        stack_memory,
        *_rest(revealed, found),
        code=made.hash,
        made_by=made.tool + (WITH_LOOPS if loops else ""),
        instrumented=made.data,
    )


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
