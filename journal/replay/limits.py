"""Limits of a replay, and its error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from journal._arguments import check_int
from journal.errors import JournalError
from journal.vfs.errors import FileError

COUNT_MAX = 65536
"""Maximum descriptors, threads, routes, and other numbered or named objects, of each kind."""

MOUNTS_COUNT_MAX = 1024

MEMORIES_COUNT_MAX = 1024
"""Maximum memories, and maximum tables."""

ELEMENTS_COUNT_MAX = 10_000_000
"""Maximum elements of all tables together."""

MEMORY_PAGE_SIZE = 4096
"""Size of the pages in which memory is stored."""

WASM_PAGE_SIZE = 65536
"""Unit of growth of a memory."""

assert WASM_PAGE_SIZE % MEMORY_PAGE_SIZE == 0


class ReplayError(JournalError):
    """An event contradicts earlier events or exceeds a limit.

    ``seq`` is the sequence number of the event, None for an event without a frame.
    """

    def __init__(self, reason: str, seq: int | None = None) -> None:
        super().__init__(reason, seq)
        self.reason = reason
        self.seq = seq

    def __str__(self) -> str:
        subject = "an event" if self.seq is None else f"event {self.seq}"
        return f"{subject} cannot be replayed: {self.reason}"


@contextmanager
def translate_file_errors() -> Iterator[None]:
    """Convert each FileError inside the context to ReplayError."""
    try:
        yield
    except FileError as error:
        raise ReplayError(error.reason) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayLimits:
    """Maximum bytes that the replay of a journal may use.

    ``files_size_max`` applies to the files of each mount; ``memory_size_max`` to all linear
    memories, to the stacks of all threads and to all directory listings, each;
    ``output_size_max`` to each output stream; and ``module_size_max`` to the module and to the
    instrumented module, each.
    """

    files_size_max: int = 1 << 30
    memory_size_max: int = 1 << 30
    output_size_max: int = 1 << 28
    module_size_max: int = 1 << 28

    def __post_init__(self) -> None:
        for each in fields(self):
            check_int(each.name, getattr(self, each.name))


def check_size(subject: str, size: int, size_max: int) -> None:
    """Raise ReplayError if ``size`` is above its limit."""
    if size > size_max:
        raise ReplayError(f"{subject} would have {size} bytes, but the limit is {size_max}")


def check_count(subject: str, count: int, count_max: int = COUNT_MAX) -> None:
    """Raise ReplayError if ``count`` is above its limit."""
    if count > count_max:
        raise ReplayError(f"there would be {count} {subject}, but the limit is {count_max}")
