"""Path resolution confined to a directory, for every kind of directory.

Paths are resolved one name at a time, and symbolic links are followed here, never by the operating
system. The name `..` returns to the directory visited before, so that no link, race or rename leads
above the start directory.
"""

from collections.abc import Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.events.wire_types import encode_path
from journal.vfs.errors import FileError
from journal.wasi_abi import Errno

LINKS_MAX = 40
PATH_SIZE_MAX = 4096
NAME_SIZE_MAX = 255
NAME_LENGTH_SAFE = NAME_SIZE_MAX // 4
"""Largest number of characters that always fit, because a character has at most four bytes."""

D = TypeVar("D")


class PathWalker(Protocol[D]):
    """Access to one kind of directory, for path resolution. All methods raise ``WasiError``."""

    def link_target(self, at: D, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""

    def enter(self, at: D, name: str) -> D:
        """Open the directory ``name`` without following links."""

    def leave(self, at: D) -> None:
        """Close the directory ``at``."""


class PathLocation(NamedTuple, Generic[D]):
    """Result of a path resolution: a name in a directory. The name need not exist.

    ``trail`` contains the directories from the first directory to the parent of the location.
    ``names`` are the names from the first directory to the location.
    """

    trail: list[D]
    names: tuple[str, ...]
    name: str
    must_be_directory: bool

    @property
    def parent(self) -> D:
        """Return the directory that contains ``name``; for ``.`` the directory itself."""
        return self.trail[-1]


def split_path(path: str) -> list[str]:
    """Return the names in ``path``, without empty names."""
    return [name for name in path.split("/") if name]


def find_mount(mounts: Iterable[str], path: str) -> tuple[str, list[str]] | None:
    """Return the innermost of ``mounts`` that contains ``path``, and the names below it.

    Returns None if no mount contains the path.
    """
    names = split_path(path)
    for guest in sorted(mounts, key=len, reverse=True):
        root = split_path(guest)
        if names[: len(root)] == root:
            return guest, names[len(root) :]
    return None


def resolve(start: D, path: str, walker: PathWalker[D], *, follow: bool) -> PathLocation[D]:
    """Return the location of ``path`` below ``start``; follow the last name only if ``follow``.

    Raises ``WasiError`` with ``NOENT`` (empty path), ``PERM`` (the path leaves ``start``),
    ``LOOP``, ``NAMETOOLONG``, or the errno of ``walker``. Pass the location to
    :func:`release_location` after use.
    """
    resolution = _PathResolution(start, path, walker, follow=follow)
    try:
        return resolution.resolve()
    except BaseException:
        _leave_directories(resolution.trail, walker)
        raise


class _PathResolution(Generic[D]):
    """State of one resolution: the open directories, and the remaining names, next name last."""

    def __init__(self, start: D, path: str, walker: PathWalker[D], *, follow: bool) -> None:
        check_path(path)
        self.trail = [start]
        self._path = path
        self._names: list[str] = []
        self._pending = split_path(path)[::-1]
        self._walker = walker
        self._must_be_directory = path.endswith(("/", "/.", "/..")) or path in {".", ".."}
        self._follow = follow
        self._links = 0

    def resolve(self) -> PathLocation[D]:
        """Walk all names and return the location."""
        while self._pending:
            name = self._pending.pop()
            if name == ".":
                continue
            if name == "..":
                self._go_up()
            elif not self._follow_link(name):
                if not self._pending:
                    names = (*self._names, name)
                    return PathLocation(self.trail, names, name, self._must_be_directory)
                self.trail.append(self._walker.enter(self.trail[-1], name))
                self._names.append(name)
        return PathLocation(self.trail, tuple(self._names), ".", True)

    def _go_up(self) -> None:
        if len(self.trail) == 1:
            raise FileError(Errno.PERM, "the path {} leaves its directory", self._path)
        self._walker.leave(self.trail.pop())
        self._names.pop()

    def _follow_link(self, name: str) -> bool:
        if not (self._pending or self._follow or self._must_be_directory):
            return False
        target = self._walker.link_target(self.trail[-1], name)
        if target is None:
            return False
        self._links += 1
        if self._links > LINKS_MAX:
            raise FileError(
                Errno.LOOP, "the path {} has more than {} symbolic links", self._path, LINKS_MAX
            )
        check_path(target)
        if not self._pending:
            self._must_be_directory |= target.endswith("/")
        self._pending += split_path(target)[::-1]
        return True


def release_location(location: PathLocation[D], walker: PathWalker[D]) -> None:
    """Close the directories that were opened to reach ``location``."""
    if len(location.trail) > 1:
        _leave_directories(location.trail, walker)


def _leave_directories(trail: list[D], walker: PathWalker[D]) -> None:
    while len(trail) > 1:
        walker.leave(trail.pop())


def check_path(path: str) -> None:
    """Raise ``FileError`` unless ``path`` is a relative path. Its names are not checked."""
    if not path:
        raise FileError(Errno.NOENT, "a path is empty")
    if path.startswith("/"):
        raise FileError(Errno.PERM, "the path {} is absolute and leaves its directory", path)
    if "\0" in path:
        raise FileError(Errno.INVAL, "the path {} contains a NUL", path)
    if (size := _encoded_size(path)) >= PATH_SIZE_MAX:
        raise FileError(
            Errno.NAMETOOLONG,
            "the path {} has {} bytes, but the limit is {}",
            path,
            size,
            PATH_SIZE_MAX - 1,
        )


def check_name(name: str) -> None:
    """Raise ``FileError`` with ``NAMETOOLONG`` for a name that is too long."""
    if len(name) > NAME_LENGTH_SAFE and (size := _encoded_size(name)) > NAME_SIZE_MAX:
        raise FileError(
            Errno.NAMETOOLONG,
            "the name {} has {} bytes, but the limit is {}",
            name,
            size,
            NAME_SIZE_MAX,
        )


def _encoded_size(text: str) -> int:
    return len(encode_path(text))
