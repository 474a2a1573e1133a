"""Configuration of a run, recorded in the journal so that a resume uses the same configuration."""

import platform as host_platform
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from journal._arguments import (
    INT_MAX,
    check_choice,
    check_each,
    check_flag,
    check_int,
    check_seconds,
    check_text,
    quote,
    to_line,
)
from journal.engine.memory.dirty_pages import DirtyPageTracking
from journal.errors import EngineMismatch, NotResumable, OptionError
from journal.events.snapshots import Trigger
from journal.snapshots.resume_flags import GAPS_ALLOWED, NOT_RESUMABLE, SECRET_ENVIRONMENT

ENGINE_NAME = "wasmtime"

#: Revision of the host functions. It increases by one whenever they return different results.
HOST_REVISION = 2

PAGE_SIZE = 65536
MEMORY_SIZE_MAX = 1 << 32
WASM_STACK_SIZE_MAX = 1 << 30

#: Prefix of the names of options that do not affect the guest, but that a resume keeps.
SESSION_PREFIX = "session."

#: Largest observed factor by which instrumentation enlarges a stack frame.
_INSTRUMENTED_FACTOR = 3

#: Further limits. The host revision fixes them, so that a guest fails at the same point on every
#: machine.
MEMORIES_MAX = 16
TABLE_ELEMENTS_MAX = 10_000_000


class UnknownImports(Enum):
    """Policy for imports that are not WASI functions."""

    REFUSE = "refuse"
    TRAP = "trap"


class Stacks(Enum):
    """Policy for guest stacks in snapshots. Stacks need an instrumented module, which is slower.

    A resume cannot start at a snapshot without stacks, and executes the guest again from its start.
    """

    AUTO = "auto"
    """Capture stacks if snapshots are requested and the module supports stacks."""
    ALWAYS = "always"
    """Capture stacks, or refuse the module."""
    NEVER = "never"


class SafePoints(Enum):
    """Kinds of safe points: locations at which a guest can be suspended."""

    CALLS = "calls"
    """At host calls."""
    LOOPS = "loops"
    """At host calls and loop heads, for guests that compute without host calls. Loop heads make the
    guest slower.
    """


_SNAPSHOT_CHOICES: dict[str, type[Enum]] = {
    "stacks": Stacks,
    "safe_points": SafePoints,
    "dirty_page_tracking": DirtyPageTracking,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """Triggers and options of the snapshots of a run.

    ``on`` is the set of triggers. ``every_events`` and ``every_bytes`` request a snapshot whenever
    the journal has grown by that much. With ``stop_after`` the run ends with its first snapshot, to
    be resumed there. ``dirty_page_tracking`` selects how dirty pages are found; it does not affect
    the journal.
    ``by_default`` means that the user has not chosen the triggers. Then a module is instrumented,
    which makes it slower, only if the module requests snapshots. With ``page_index`` the journal
    references pages that it already contains instead of storing them inline again.
    """

    on: frozenset[Trigger] = frozenset()
    period_seconds: float = 10.0
    every_events: int | None = None
    every_bytes: int | None = None
    stacks: Stacks = Stacks.AUTO
    safe_points: SafePoints = SafePoints.CALLS
    dirty_page_tracking: DirtyPageTracking = DirtyPageTracking.AUTO
    stop_after: bool = False
    by_default: bool = False
    page_index: bool = False

    def __post_init__(self) -> None:
        check = check_each("on", self.on, lambda name, each: check_choice(name, each, Trigger))
        object.__setattr__(self, "on", frozenset(check))
        check_seconds("period_seconds", self.period_seconds)
        for name in ("every_events", "every_bytes"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1)
        for name, kind in _SNAPSHOT_CHOICES.items():
            object.__setattr__(self, name, check_choice(name, getattr(self, name), kind))
        for name in ("stop_after", "by_default", "page_index"):
            check_flag(name, getattr(self, name))

    @property
    def is_enabled(self) -> bool:
        """Return whether any snapshot is requested."""
        return bool(self.on or self.every_events or self.every_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Limits and options that a guest can observe. Sizes are in bytes.

    ``memory_size_max`` bounds each linear memory, ``files_size_max`` each in-memory file system,
    ``stack_size`` the guest's call stack, and ``table_elements_max`` the elements of each table.
    ``instrumentation`` is the name of the tool that
    instrumented the module; the recorder sets it.
    """

    memory_size_max: int = MEMORY_SIZE_MAX
    files_size_max: int = 1 << 30
    stack_size: int = 8 << 20
    unknown_imports: UnknownImports = UnknownImports.REFUSE
    instrumentation: str = ""
    table_elements_max: int = TABLE_ELEMENTS_MAX

    def __post_init__(self) -> None:
        for name in ("memory_size_max", "files_size_max", "stack_size"):
            check_int(name, getattr(self, name), -INT_MAX)
        imports = check_choice("unknown_imports", self.unknown_imports, UnknownImports)
        object.__setattr__(self, "unknown_imports", imports)
        check_text("instrumentation", self.instrumentation)
        check_int("table_elements_max", self.table_elements_max, 0, TABLE_ELEMENTS_MAX)
        if not PAGE_SIZE <= self.memory_size_max <= MEMORY_SIZE_MAX:
            raise OptionError(
                f"the memory limit must be {PAGE_SIZE} to {MEMORY_SIZE_MAX} bytes, "
                f"got {self.memory_size_max}"
            )
        if not PAGE_SIZE <= self.stack_size <= WASM_STACK_SIZE_MAX:
            raise OptionError(
                f"the stack size must be {PAGE_SIZE} to {WASM_STACK_SIZE_MAX} bytes, "
                f"got {self.stack_size}"
            )
        if self.files_size_max < 0:
            raise OptionError(
                f"the size limit of in-memory files must not be negative, got {self.files_size_max}"
            )

    @property
    def native_stack_size(self) -> int:
        """Return the native stack size in bytes; frames of instrumented functions are larger."""
        return self.stack_size * (_INSTRUMENTED_FACTOR if self.instrumentation else 1)

    def to_pairs(self) -> tuple[tuple[str, str], ...]:
        """Return names and values as the journal stores them, without options that are not used."""
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        return tuple(
            (field.name, _to_text(value))
            for field, value in values
            if field.name not in _OMITTED_DEFAULTS or value != field.default
        )


_OMITTED_DEFAULTS = ("instrumentation", "table_elements_max")
"""Options that a journal stores only if they differ from their defaults: older versions of this
library know fewer options.
"""


def _to_text(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


_DIGITS_MAX = 19
"""Largest number of digits of a limit."""
_TOOL_SIZE_MAX = 200
"""Longest name of a tool, in characters."""


def parse_configuration(pairs: tuple[tuple[str, str], ...]) -> Configuration:
    """Return the configuration with these pairs; the inverse of :meth:`Configuration.to_pairs`.

    Raises ``EngineMismatch`` for a name or a value unknown to this version, because the guest may
    depend on it. Raises ``NotResumable`` if the journal is flagged as not resumable.
    """
    names = {field.name for field in fields(Configuration)}
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name == NOT_RESUMABLE:
            raise NotResumable(f"the journal cannot be resumed: {to_line(text)}")
        if name in (GAPS_ALLOWED, SECRET_ENVIRONMENT) or name.startswith(SESSION_PREFIX):
            continue
        if name not in names:
            raise EngineMismatch(
                f"the journal has the configuration option {quote(name)}, unknown to this version"
            )
        if name in values:
            raise NotResumable(f"the journal has the configuration option {name} twice")
        try:
            values[name] = _PARSERS.get(name, _parse_number)(text)
        except ValueError:
            raise EngineMismatch(
                f"the journal has an unknown value of {name}: {quote(text)}"
            ) from None
    try:
        return Configuration(**values)
    except OptionError as error:
        raise NotResumable(f"the configuration in the journal is invalid: {error}") from None


def _parse_number(text: str) -> int:
    """Return a number in the form in which it is written. Raises ``ValueError`` for other forms."""
    if not text.isdecimal() or not text.isascii() or len(text) > _DIGITS_MAX:
        raise ValueError(text)
    return int(text)


def _parse_tool(text: str) -> str:
    if len(text) > _TOOL_SIZE_MAX or not text.isprintable():
        raise ValueError(text)
    return text


_PARSERS: dict[str, Callable[[str], Any]] = {
    "unknown_imports": UnknownImports,
    "instrumentation": _parse_tool,
}


def get_platform() -> str:
    """Return system and machine, such as ``linux-x86_64``."""
    return f"{host_platform.system().lower()}-{host_platform.machine()}"
