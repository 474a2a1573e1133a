"""What playing refuses, in one sentence, and the limits that it keeps."""

from dataclasses import dataclass

from journal.errors import JournalError

COUNT_MAX = 65536
"""Descriptors, threads, routes, and whatever else has a number or a name: of each."""

MOUNTS_COUNT_MAX = 1024

MEMORIES_COUNT_MAX = 1024
"""Memories, and tables."""

ELEMENTS_COUNT_MAX = 10_000_000
"""Elements in all tables."""

ENTRY_SIZE = 1024
"""What a name and its node take of a mount's size, besides a file's bytes: as in the engine."""

MEMORY_PAGE_SIZE = 4096
"""Memory is kept in pages of this size."""

WASM_PAGE_SIZE = 65536
"""Memory grows by this size."""

assert WASM_PAGE_SIZE % MEMORY_PAGE_SIZE == 0

_QUOTED_SIZE_MAX = 60


class ReplayError(JournalError):
    """An event does not fit what was played before it, or is more than a limit allows.

    ``seq`` is its number, None for an event that was not in a frame.
    """

    def __init__(self, reason: str, seq: int | None = None) -> None:
        super().__init__(reason, seq)
        self.reason = reason
        self.seq = seq

    def __str__(self) -> str:
        which = "an event" if self.seq is None else f"event {self.seq}"
        return f"{which} cannot be played: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """What a journal may take of a host, in bytes.

    ``files_size_max`` bounds the files of each mount, ``memory_size_max`` all linear memories, the
    stacks of all threads, and the listings of directories, ``output_size_max`` each output stream,
    ``module_size_max`` the module, and the instrumented one.
    """

    files_size_max: int = 1 << 30
    memory_size_max: int = 1 << 30
    output_size_max: int = 1 << 28
    module_size_max: int = 1 << 28


def check_size(what: str, size: int, most: int) -> None:
    """Refuse a size above its limit."""
    if size > most:
        raise ReplayError(f"{what} would have {size} bytes, and the limit is {most}")


def check_count(what: str, count: int, most: int = COUNT_MAX) -> None:
    """Refuse a count above its limit."""
    if count > most:
        raise ReplayError(f"there would be {count} {what}, and the limit is {most}")


def quote_path(path: str) -> str:
    """A name or a path in a message: quoted, on one line, and cut."""
    return repr(path if len(path) <= _QUOTED_SIZE_MAX else path[:_QUOTED_SIZE_MAX] + "…")
