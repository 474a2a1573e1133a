"""Tracker of the paths of open descriptors, from the root of the guest's tree.

A path in an event is relative to a descriptor, and an operation on an open file has no path at all.
The tracker follows the journal from its start to know the file behind each descriptor.
"""

import posixpath
from typing import Any

from journal.events import BY_TAG
from journal.events.core import InitModule
from journal.events.definition import Closes, Copies, Event, Moves, Opens
from journal.events.process import Mount, ProcessStart
from journal.events.tag_sets import tags_with_rule

DESCRIPTORS_MAX = 1 << 18
"""Maximum number of descriptors with a known path. Above it, the oldest one is dropped."""

_PATHS = ("path", "old_path", "new_path")
_BASES = {"old_path": ("old_fd",), "new_path": ("new_fd", "fd"), "path": ("dirfd", "fd")}


def descriptor_fields(cls: type[Event]) -> tuple[str, ...]:
    """Return the names of an event's fields that are descriptors or stream numbers of the guest."""
    return tuple(
        name for name in cls.names if name == "stream" or name.endswith(("fd", "fd1", "fd2"))
    )


def path_fields(cls: type[Event]) -> tuple[str, ...]:
    """Return the names of an event's fields that are paths of the guest."""
    return ("guest",) if cls is Mount else tuple(name for name in _PATHS if name in cls.names)


def _find_path_fields(cls: type[Event]) -> tuple[tuple[int, int | None], ...]:
    """Return the index of each path field, and that of its base descriptor."""
    indices: list[tuple[int, int | None]] = []
    for name in path_fields(cls):
        bases = [base for base in _BASES.get(name, ()) if base in cls.names]
        # The target of a symbolic link is stored text, not a path that the event acts on.
        is_link = "new_path" in cls.names and not bases
        if not is_link:
            indices.append((cls.names.index(name), cls.names.index(bases[0]) if bases else None))
    return tuple(indices)


_PATH_FIELDS = {tag: _find_path_fields(cls) for tag, cls in BY_TAG.items()}
_DESCRIPTORS = {
    tag: tuple(cls.names.index(name) for name in descriptor_fields(cls))
    for tag, cls in BY_TAG.items()
}

TRACKED_TAGS = tags_with_rule(Opens, Copies, Moves, Closes) | {
    Mount.tag,
    InitModule.tag,
    ProcessStart.tag,
}
"""Tags of the events that change the paths of descriptors. Paths outlive the end of a process."""

PATH_TAGS = frozenset(tag for tag in BY_TAG if _PATH_FIELDS[tag] or _DESCRIPTORS[tag])
"""Tags of the events that have a path or a descriptor."""


class PathTracker:
    """Paths with which the guest opened its descriptors. All events must be tracked in order."""

    def __init__(self) -> None:
        self._open: dict[int, str] = {}

    def find_paths(self, tag: int, values: tuple[Any, ...]) -> tuple[str, ...]:
        """Return all paths of an event: as stored in it, and from the root."""
        paths: list[str] = []
        for index, base in _PATH_FIELDS[tag]:
            path = str(values[index])
            paths.append(path)
            root = "/" if base is None else self._open.get(values[base])
            if root is not None:
                paths.append(posixpath.normpath(posixpath.join(root, path)))
        if not paths:
            open_paths = [self._open.get(values[index]) for index in _DESCRIPTORS[tag]]
            paths = [path for path in open_paths if path is not None]
        return tuple(dict.fromkeys(paths))

    def track(self, tag: int, values: tuple[Any, ...]) -> None:
        """Update the paths with an event."""
        cls = BY_TAG[tag]
        values_by_name = dict(zip(cls.names, values, strict=True))
        rule = cls.rule
        if cls is InitModule or cls is ProcessStart:
            self._open.clear()
        elif cls is Mount:
            self._set_path(
                values_by_name["fd"],
                posixpath.normpath(posixpath.join("/", values_by_name["guest"])),
            )
        elif isinstance(rule, Opens):
            paths = self.find_paths(tag, values) if _PATH_FIELDS[tag] else ()
            for fd in rule.fds:
                self._set_path(values_by_name[fd], paths[-1] if paths else None)
        elif isinstance(rule, Copies):
            self._set_path(values_by_name[rule.target], self._open.get(values_by_name[rule.source]))
        elif isinstance(rule, Moves):
            self._set_path(
                values_by_name[rule.target], self._open.pop(values_by_name[rule.source], None)
            )
        elif isinstance(rule, Closes):
            self._open.pop(values_by_name[rule.fd], None)

    def _set_path(self, fd: int, path: str | None) -> None:
        self._open.pop(fd, None)
        if path is None:
            return
        if len(self._open) >= DESCRIPTORS_MAX:
            del self._open[next(iter(self._open))]
        self._open[fd] = path
