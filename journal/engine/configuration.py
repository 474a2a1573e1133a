"""What a run depends on besides its module: kept in the journal, so that a resume has the same."""

import platform as host_platform
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from journal.engine.memory.dirty_pages import DirtyPageTracking
from journal.errors import EngineMismatch, NotResumable, OptionError
from journal.events.snapshots import Trigger
from journal.snapshots.resume_flags import GAPS_ALLOWED, NOT_RESUMABLE

ENGINE_NAME = "wasmtime"

#: Raised by one whenever the functions of the host answer a guest differently than before.
HOST_REVISION = 2

PAGE_SIZE = 65536
MEMORY_SIZE_MAX = 1 << 32
WASM_STACK_SIZE_MAX = 1 << 30

#: How much larger the frame of an instrumented function is, at most, as far as was seen.
_INSTRUMENTED_TIMES = 3

#: Fixed with the revision of the host: what a guest may have besides, so that it fails everywhere
#: alike and not where the machine ends.
MEMORIES_MAX = 16
TABLE_ELEMENTS_MAX = 10_000_000


class UnknownImports(Enum):
    """What happens to an import that is not a function of WASI."""

    REFUSE = "refuse"
    TRAP = "trap"


class Stacks(Enum):
    """Whether snapshots have the guest's stacks: its module is instrumented for that, and slower.

    A snapshot without stacks says what memory was; a guest is not resumed from it, but executed
    again from its start.
    """

    AUTO = "auto"
    """If snapshots are asked for, by a trigger's name or by the guest, and it can be done."""
    ALWAYS = "always"
    """Or the guest is refused."""
    NEVER = "never"


class SafePoints(Enum):
    """Where a guest can stand still for a snapshot."""

    CALLS = "calls"
    """Where it calls its host."""
    LOOPS = "loops"
    """And where a loop begins again: for guests that compute without calling; they get slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """When snapshots are taken of a run, and how.

    ``on`` are the triggers; ``every_events`` and ``every_bytes`` of journal are two more. With
    ``stop_after`` the run ends with its first snapshot, and is resumed there.
    ``dirty_page_tracking`` selects how dirty pages are found; the journal is the same.
    ``by_default`` says that
    nobody has chosen the triggers: then a module is not instrumented for them, and slower, unless
    it asks for snapshots itself. With ``page_index`` pages whose bytes the journal has already are
    named in it, and not given again.
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

    @property
    def is_enabled(self) -> bool:
        """Whether any is asked for."""
        return bool(self.on or self.every_events or self.every_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The limits and the choices that a guest can notice. Sizes are in bytes.

    ``memory_size_max`` bounds each linear memory, ``files_size_max`` each file system in memory,
    ``stack_size`` the guest's calls. ``instrumentation`` is what has instrumented the module, and
    is found out by who records.
    """

    memory_size_max: int = MEMORY_SIZE_MAX
    files_size_max: int = 1 << 30
    stack_size: int = 8 << 20
    unknown_imports: UnknownImports = UnknownImports.REFUSE
    instrumentation: str = ""

    def __post_init__(self) -> None:
        if not PAGE_SIZE <= self.memory_size_max <= MEMORY_SIZE_MAX:
            raise OptionError(f"a memory limit is {PAGE_SIZE} to {MEMORY_SIZE_MAX} bytes")
        if not PAGE_SIZE <= self.stack_size <= WASM_STACK_SIZE_MAX:
            raise OptionError(f"a stack size is {PAGE_SIZE} to {WASM_STACK_SIZE_MAX} bytes")
        if self.files_size_max < 0:
            raise OptionError("a limit for files is not negative")

    @property
    def native_stack_size(self) -> int:
        """The stack that is given to the guest's calls: instrumented, they take more of it."""
        return self.stack_size * (_INSTRUMENTED_TIMES if self.instrumentation else 1)

    def to_pairs(self) -> tuple[tuple[str, str], ...]:
        """Names and values, as the journal keeps them."""
        found = ((field.name, _to_text(getattr(self, field.name))) for field in fields(self))
        return tuple((name, text) for name, text in found if text or name != "instrumentation")


def _to_text(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "unknown_imports": UnknownImports,
    "instrumentation": str,
}


def parse_configuration(pairs: tuple[tuple[str, str], ...]) -> Configuration:
    """The opposite of :meth:`Configuration.to_pairs`.

    Raises ``EngineMismatch`` for a name or a value that this version does not know: the guest may
    depend on it; and ``NotResumable`` where the journal says that nobody can resume it.
    """
    known = {field.name for field in fields(Configuration)}
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name == NOT_RESUMABLE:
            raise NotResumable(f"the journal cannot be resumed: {text}")
        if name == GAPS_ALLOWED:
            continue
        if name not in known:
            raise EngineMismatch(f"the journal's run depends on {name}, unknown to this version")
        try:
            values[name] = _PARSERS.get(name, int)(text)
        except ValueError as error:
            raise EngineMismatch(f"the journal's {name} is {text!r}, unknown here") from error
    return Configuration(**values)


def platform() -> str:
    """System and machine, such as ``linux-x86_64``."""
    return f"{host_platform.system().lower()}-{host_platform.machine()}"
