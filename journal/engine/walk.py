"""Path resolution inside a directory that must not be left, once for every kind of directory.

A directory is walked one name at a time, and symbolic links are read and followed here, never by
the operating system: `..` goes back over the directories that were passed, so that no link, race
or rename leads above the first one.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.engine.abi import Errno, Refusal

LINKS_MAX = 40
PATH_SIZE_MAX = 4096
NAME_SIZE_MAX = 255

D = TypeVar("D")


class Steps(Protocol[D]):
    """How one kind of directory is walked."""

    def link_target(self, directory: D, name: str) -> str | None:
        """What the link ``name`` says, or ``None`` where there is no link of that name."""

    def enter(self, directory: D, name: str) -> D:
        """The directory ``name``; refuses with ``NOENT`` or ``NOTDIR``."""

    def leave(self, directory: D) -> None:
        """``directory`` is not needed any more."""


class Place(NamedTuple, Generic[D]):
    """Where a path leads: a name in a directory, which may not exist yet."""

    trail: list[D]
    names: tuple[str, ...]
    name: str
    must_be_directory: bool

    @property
    def parent(self) -> D:
        """The directory that has, or would have, ``name``; itself where ``name`` is ``.``."""
        return self.trail[-1]


def names_of(path: str) -> list[str]:
    """The names in ``path``, with the ``.`` that a trailing slash means kept apart."""
    return [name for name in path.split("/") if name]


def resolve(start: D, path: str, steps: Steps[D], *, follow: bool) -> Place[D]:
    """The place ``path`` leads to from ``start``; the last name is followed if ``follow``.

    Refuses with ``NOENT`` (empty path), ``PERM`` (it leads out), ``LOOP``, ``NAMETOOLONG``, and
    with what ``steps`` refuses. Give the place to :func:`release` when done.
    """
    _check(path)
    trail, names = [start], []
    pending = names_of(path)[::-1]
    must_be_directory = path.endswith(("/", "/.", "/..")) or path in {".", ".."}
    links = 0
    try:
        while pending:
            name = pending.pop()
            if name == ".":
                continue
            if name == "..":
                if len(trail) == 1:
                    raise Refusal(Errno.PERM)
                steps.leave(trail.pop())
                names.pop()
                continue
            if pending or follow or must_be_directory:
                target = steps.link_target(trail[-1], name)
                if target is not None:
                    links += 1
                    if links > LINKS_MAX:
                        raise Refusal(Errno.LOOP)
                    _check(target)
                    if not pending:
                        must_be_directory |= target.endswith("/")
                    pending += names_of(target)[::-1]
                    continue
            if not any(rest != "." for rest in pending):
                return Place(trail, (*names, name), name, must_be_directory or bool(pending))
            trail.append(steps.enter(trail[-1], name))
            names.append(name)
    except BaseException:
        _leave(trail, steps.leave)
        raise
    return Place(trail, tuple(names), ".", True)


def release(place: Place[D], steps: Steps[D]) -> None:
    """Give back what the walk to ``place`` holds."""
    _leave(place.trail, steps.leave)


def _leave(trail: list[D], leave: Callable[[D], None]) -> None:
    while len(trail) > 1:
        leave(trail.pop())


def _check(path: str) -> None:
    if not path:
        raise Refusal(Errno.NOENT)
    if path.startswith("/"):
        raise Refusal(Errno.PERM)
    if "\0" in path:
        raise Refusal(Errno.INVAL)
    if len(path.encode("utf-8", "surrogateescape")) >= PATH_SIZE_MAX:
        raise Refusal(Errno.NAMETOOLONG)
