"""Path resolution below a directory, shared by in-memory and host directories.

The resolution walks one name at a time and follows symbolic links itself, never through the
operating system. ``..`` returns to the previous directory, so no link, race or rename can lead
above the first directory.
"""

from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.wasi_abi import Errno, WasiError

LINKS_MAX = 40
PATH_SIZE_MAX = 4096
NAME_SIZE_MAX = 255

D = TypeVar("D")


class PathWalker(Protocol[D]):
    """Access to the directories of one kind during a path resolution."""

    def link_target(self, directory: D, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""

    def enter(self, directory: D, name: str) -> D:
        """Open the directory ``name``; raise ``WasiError`` with ``NOENT`` or ``NOTDIR``."""

    def leave(self, directory: D) -> None:
        """Release ``directory``."""


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
            raise WasiError(Errno.PERM)
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
            raise WasiError(Errno.LOOP)
        check_path(target)
        if not self._pending:
            self._must_be_directory |= target.endswith("/")
        self._pending += split_path(target)[::-1]
        return True


def release_location(location: PathLocation[D], walker: PathWalker[D]) -> None:
    """Release the directories opened to reach ``location``."""
    _leave_directories(location.trail, walker)


def _leave_directories(trail: list[D], walker: PathWalker[D]) -> None:
    while len(trail) > 1:
        walker.leave(trail.pop())


def check_path(path: str) -> None:
    """Raise ``WasiError`` for a path that is empty, absolute, too long, or contains NUL."""
    if not path:
        raise WasiError(Errno.NOENT)
    if path.startswith("/"):
        raise WasiError(Errno.PERM)
    if "\0" in path:
        raise WasiError(Errno.INVAL)
    if len(path.encode("utf-8", "surrogateescape")) >= PATH_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)
