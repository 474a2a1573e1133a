"""Path resolution confined to a directory, for every kind of directory.

Paths are resolved one name at a time, and symbolic links are followed here, never by the operating
system. The name `..` returns to the directory visited before, so that no link, race or rename leads
above the start directory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.replay.limits import ReplayError, quote_path

LINKS_MAX = 40
PATH_SIZE_MAX = 4096
NAME_SIZE_MAX = 255

D = TypeVar("D")


class DirectoryWalker(Protocol[D]):
    """Access to one kind of directory, for path resolution."""

    def link_target(self, at: D, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""

    def enter(self, at: D, name: str) -> D:
        """Open the directory ``name`` without following links. Raises ReplayError without one."""

    def leave(self, at: D) -> None:
        """Close the directory ``at``."""


class ResolvedPath(NamedTuple, Generic[D]):
    """A resolved path: a directory and a name in it, which may not exist. ``.`` is ``parent``."""

    parent: D
    name: str
    must_be_directory: bool


def split_path(path: str) -> list[str]:
    """Return the names in ``path``."""
    return [name for name in path.split("/") if name]


@contextmanager
def resolve_path(
    start: D, path: str, walker: DirectoryWalker[D], *, follow: bool
) -> Iterator[ResolvedPath[D]]:
    """Resolve ``path`` from ``start``. A link as the last name is followed if ``follow`` is set.

    Raises ReplayError for a path that is empty, absolute or too long, leaves ``start``, or has a
    missing directory. Directories opened on the way are closed on exit.
    """
    resolution = _ReplayPathResolution(start, path, walker, follow=follow)
    try:
        yield resolution.resolve()
    finally:
        resolution.leave()


class _ReplayPathResolution(Generic[D]):
    """One resolution: the visited directories, and the remaining names, the next name last."""

    def __init__(self, start: D, path: str, walker: DirectoryWalker[D], *, follow: bool) -> None:
        self._path = path
        self._walker = walker
        self._follow = follow
        self._directories = [start]
        self._links = 0
        self._must_be_directory = path.endswith(("/", "/.", "/..")) or path in {".", ".."}
        self._pending = self._split_reversed(path)

    def resolve(self) -> ResolvedPath[D]:
        """Resolve all names."""
        while self._pending:
            name = self._pending.pop()
            if name == ".":
                continue
            if name == "..":
                self._go_up()
            elif not self._follow_link(name):
                if not self._pending:
                    return ResolvedPath(self._directories[-1], name, self._must_be_directory)
                self._directories.append(self._walker.enter(self._directories[-1], name))
        return ResolvedPath(self._directories[-1], ".", True)

    def leave(self) -> None:
        """Close the visited directories."""
        while len(self._directories) > 1:
            self._walker.leave(self._directories.pop())

    def _go_up(self) -> None:
        if len(self._directories) == 1:
            raise ReplayError(f"the path {quote_path(self._path)} leaves its directory")
        self._walker.leave(self._directories.pop())

    def _follow_link(self, name: str) -> bool:
        check_name(name)
        if not (self._pending or self._follow or self._must_be_directory):
            return False
        target = self._walker.link_target(self._directories[-1], name)
        if target is None:
            return False
        self._links += 1
        if self._links > LINKS_MAX:
            raise ReplayError(
                f"the path {quote_path(self._path)} has more than {LINKS_MAX} symbolic links"
            )
        if not self._pending:
            self._must_be_directory |= target.endswith("/")
        self._pending += self._split_reversed(target)
        return True

    def _split_reversed(self, path: str) -> list[str]:
        check_path(path)
        return split_path(path)[::-1]


def check_path(path: str) -> None:
    """Raise ReplayError unless ``path`` is a relative path. Its names are not checked."""
    if not path:
        raise ReplayError("a path is empty")
    if path.startswith("/"):
        raise ReplayError(f"the path {quote_path(path)} is absolute and leaves its directory")
    if "\0" in path:
        raise ReplayError(f"the path {quote_path(path)} contains a NUL")
    if (size := len(path.encode())) >= PATH_SIZE_MAX:
        raise ReplayError(
            f"the path {quote_path(path)} has {size} bytes, but the limit is {PATH_SIZE_MAX - 1}"
        )


def check_name(name: str) -> None:
    """Raise ReplayError for a name that is too long."""
    if (size := len(name.encode())) > NAME_SIZE_MAX:
        raise ReplayError(
            f"the name {quote_path(name)} has {size} bytes, but the limit is {NAME_SIZE_MAX}"
        )
