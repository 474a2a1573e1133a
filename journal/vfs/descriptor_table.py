"""Operations on descriptor numbers, the same for a running guest and for a replay."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from journal.vfs.errors import FileError
from journal.wasi_abi import Errno

E = TypeVar("E")


class DescriptorTable(Generic[E]):
    """Open descriptors of a process, by number.

    ``release(fd, entry)`` is called after an entry has lost its number, and closes what the entry
    refers to.
    """

    def __init__(self, release: Callable[[int, E], None]) -> None:
        self.entries: dict[int, E] = {}
        self._release_entry = release

    def entry(self, fd: int) -> E:
        """Return the entry of ``fd``; raise ``FileError`` with ``BADF`` if it is not open."""
        entry = self.entries.get(fd)
        if entry is None:
            raise FileError(Errno.BADF, "descriptor {} is not open", fd)
        return entry

    def close(self, fd: int) -> None:
        """Close ``fd``."""
        entry = self.entry(fd)
        del self.entries[fd]
        self._release_entry(fd, entry)

    def renumber(self, old: int, new: int) -> None:
        """Move the descriptor ``old`` to ``new``. Close ``new`` first if it is open."""
        entry = self.entry(old)
        if old == new:
            return
        replaced = self.entries.pop(new, None)
        if replaced is not None:
            self._release_entry(new, replaced)
        del self.entries[old]
        self.entries[new] = entry

    def close_all(self) -> None:
        """Close all descriptors."""
        for fd in list(self.entries):
            self.close(fd)

    def __iter__(self) -> Iterator[tuple[int, E]]:
        return iter(sorted(self.entries.items()))
