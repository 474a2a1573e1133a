"""Path resolution inside a directory that must not be left, for every kind of directory.

A directory is walked one name at a time, and symbolic links are read and followed here, never by
the operating system: `..` goes back over the directories that were passed, so that no link, race
or rename leads above the first one.
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
    """How one kind of directory is walked."""

    def link_target(self, at: D, name: str) -> str | None:
        """What the link ``name`` says, or None where there is no link of that name."""

    def enter(self, at: D, name: str) -> D:
        """The directory ``name``, never through a link; refuses where there is none."""

    def leave(self, at: D) -> None:
        """``at`` is not needed any more."""


class ResolvedPath(NamedTuple, Generic[D]):
    """Where a path leads: a name in a directory, which may not exist yet; ``.`` is ``parent``."""

    parent: D
    name: str
    must_be_directory: bool


def split_path(path: str) -> list[str]:
    """The names in ``path``."""
    return [name for name in path.split("/") if name]


@contextmanager
def resolve_path(
    start: D, path: str, steps: DirectoryWalker[D], *, follow: bool
) -> Iterator[ResolvedPath[D]]:
    """The place ``path`` leads to from ``start``; the last name is followed if ``follow``.

    Refuses a path that is empty, absolute or too long, that leads out, or that does not exist.
    """
    walk = _ReplayPathResolution(start, path, steps, follow=follow)
    try:
        yield walk.resolve()
    finally:
        walk.leave()


class _ReplayPathResolution(Generic[D]):
    """One resolution: the directories passed, and the names still to go, the next one last."""

    def __init__(self, start: D, path: str, steps: DirectoryWalker[D], *, follow: bool) -> None:
        self._path = path
        self._steps = steps
        self._follow = follow
        self._directories = [start]
        self._links = 0
        self._must_be_directory = path.endswith(("/", "/.", "/..")) or path in {".", ".."}
        self._pending = self._names(path)

    def resolve(self) -> ResolvedPath[D]:
        """Walk to the end."""
        while self._pending:
            name = self._pending.pop()
            if name == ".":
                continue
            if name == "..":
                self._go_up()
            elif not self._follow_link(name):
                if not self._pending:
                    return ResolvedPath(self._directories[-1], name, self._must_be_directory)
                self._directories.append(self._steps.enter(self._directories[-1], name))
        return ResolvedPath(self._directories[-1], ".", True)

    def leave(self) -> None:
        """Give back the directories that were passed."""
        while len(self._directories) > 1:
            self._steps.leave(self._directories.pop())

    def _go_up(self) -> None:
        if len(self._directories) == 1:
            raise ReplayError(f"the path {quote_path(self._path)} leads out of its directory")
        self._steps.leave(self._directories.pop())

    def _follow_link(self, name: str) -> bool:
        check_name(name)
        if not (self._pending or self._follow or self._must_be_directory):
            return False
        target = self._steps.link_target(self._directories[-1], name)
        if target is None:
            return False
        self._links += 1
        if self._links > LINKS_MAX:
            raise ReplayError(f"the path {quote_path(self._path)} leads through too many links")
        if not self._pending:
            self._must_be_directory |= target.endswith("/")
        self._pending += self._names(target)
        return True

    def _names(self, path: str) -> list[str]:
        check_path(path)
        return split_path(path)[::-1]


def check_path(path: str) -> None:
    """Refuse what cannot be a path in a directory; its names are checked where they lead to."""
    if not path:
        raise ReplayError("a path is empty")
    if path.startswith("/"):
        raise ReplayError(f"the path {quote_path(path)} leads out of its directory")
    if "\0" in path:
        raise ReplayError(f"the path {quote_path(path)} has a NUL in it")
    if len(path.encode()) >= PATH_SIZE_MAX:
        raise ReplayError(f"the path {quote_path(path)} is too long")


def check_name(name: str) -> None:
    """Refuse a name that no directory can have."""
    if len(name.encode()) > NAME_SIZE_MAX:
        raise ReplayError(f"the name {quote_path(name)} is too long")
