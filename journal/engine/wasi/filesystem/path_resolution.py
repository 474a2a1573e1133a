"""Path resolution inside a directory that must not be left, once for every kind of directory.

A directory is walked one name at a time, and symbolic links are read and followed here, never by
the operating system: `..` goes back over the directories that were passed, so that no link, race
or rename leads above the first one.
"""

from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.engine.wasi_abi import Errno, WasiError

LINKS_MAX = 40
PATH_SIZE_MAX = 4096
NAME_SIZE_MAX = 255

D = TypeVar("D")


class PathWalker(Protocol[D]):
    """How one kind of directory is walked."""

    def link_target(self, directory: D, name: str) -> str | None:
        """What the link ``name`` says, or ``None`` where there is no link of that name."""

    def enter(self, directory: D, name: str) -> D:
        """The directory ``name``; refuses with ``NOENT`` or ``NOTDIR``."""

    def leave(self, directory: D) -> None:
        """``directory`` is not needed any more."""


class PathLocation(NamedTuple, Generic[D]):
    """Where a path leads: a name in a directory, which may not exist yet."""

    trail: list[D]
    names: tuple[str, ...]
    name: str
    must_be_directory: bool

    @property
    def parent(self) -> D:
        """The directory that has, or would have, ``name``; itself where ``name`` is ``.``."""
        return self.trail[-1]


def split_path(path: str) -> list[str]:
    """The names in ``path``, with the ``.`` that a trailing slash means kept apart."""
    return [name for name in path.split("/") if name]


def resolve(start: D, path: str, steps: PathWalker[D], *, follow: bool) -> PathLocation[D]:
    """The place ``path`` leads to from ``start``; the last name is followed if ``follow``.

    Refuses with ``NOENT`` (empty path), ``PERM`` (it leads out), ``LOOP``, ``NAMETOOLONG``, and
    with what ``steps`` refuses. Give the place to :func:`release` when done.
    """
    walk = _PathResolution(start, path, steps, follow=follow)
    try:
        return walk.place()
    except BaseException:
        _leave_directories(walk.trail, steps)
        raise


class _PathResolution(Generic[D]):
    """One resolution: the directories passed, and the names still to go, the next one last."""

    def __init__(self, start: D, path: str, steps: PathWalker[D], *, follow: bool) -> None:
        check_path(path)
        self.trail = [start]
        self._names: list[str] = []
        self._pending = split_path(path)[::-1]
        self._steps = steps
        self._must_be_directory = path.endswith(("/", "/.", "/..")) or path in {".", ".."}
        self._follow = follow
        self._links = 0

    def place(self) -> PathLocation[D]:
        """Walk to the end."""
        while self._pending:
            name = self._pending.pop()
            if name == ".":
                continue
            if name == "..":
                self._go_up()
            elif not self._went_through_link(name):
                if not self._pending:
                    names = (*self._names, name)
                    return PathLocation(self.trail, names, name, self._must_be_directory)
                self.trail.append(self._steps.enter(self.trail[-1], name))
                self._names.append(name)
        return PathLocation(self.trail, tuple(self._names), ".", True)

    def _go_up(self) -> None:
        if len(self.trail) == 1:
            raise WasiError(Errno.PERM)
        self._steps.leave(self.trail.pop())
        self._names.pop()

    def _went_through_link(self, name: str) -> bool:
        if not (self._pending or self._follow or self._must_be_directory):
            return False
        target = self._steps.link_target(self.trail[-1], name)
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


def release_location(place: PathLocation[D], steps: PathWalker[D]) -> None:
    """Give back what the walk to ``place`` holds."""
    _leave_directories(place.trail, steps)


def _leave_directories(trail: list[D], steps: PathWalker[D]) -> None:
    while len(trail) > 1:
        steps.leave(trail.pop())


def check_path(path: str) -> None:
    """Refuse what no directory can hold: nothing, an absolute path, a NUL, too many bytes."""
    if not path:
        raise WasiError(Errno.NOENT)
    if path.startswith("/"):
        raise WasiError(Errno.PERM)
    if "\0" in path:
        raise WasiError(Errno.INVAL)
    if len(path.encode("utf-8", "surrogateescape")) >= PATH_SIZE_MAX:
        raise WasiError(Errno.NAMETOOLONG)
