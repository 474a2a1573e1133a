"""Tracker of open descriptors: their paths from the root of the guest's tree, and the sockets.

A path in an event is relative to a descriptor, and an operation on an open file has no path at all.
The tracker follows the journal from its start to know the file or the socket behind each
descriptor.
"""

import posixpath
from collections.abc import Callable
from typing import Any

from journal.events import BY_TAG
from journal.events.core import InitModule
from journal.events.definition import Closes, Copies, Event, Group, Moves, Opens
from journal.events.inputs import (
    DESCRIPTOR_MASK,
    NETWORK_CALLS,
    BytesReceived,
    EpollResult,
    HostResult,
    Resolved,
)
from journal.events.process import Listener, Mount, ProcessStart
from journal.events.snapshots import DescriptorContents
from journal.events.tag_sets import tags_in_group, tags_with_rule

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
    Listener.tag,
    Mount.tag,
    InitModule.tag,
    ProcessStart.tag,
}
"""Tags of the events that change the paths of descriptors. Paths outlive the end of a process."""

SOCKET_TAGS = tags_in_group(Group.SOCKETS) | {Resolved.tag}
"""Tags of the events that always belong to sockets or to the network."""

PATH_TAGS = frozenset(tag for tag in BY_TAG if _PATH_FIELDS[tag] or _DESCRIPTORS[tag])
"""Tags of the events that have a path or a descriptor."""


_HOST_RESULT, _EPOLL_RESULT = HostResult.tag, EpollResult.tag
_SOCKET_FIELDS = ("original_fd", "old_fd", "fd")


def _make_socket_getter(cls: type[Event]) -> Callable[[tuple[Any, ...]], int] | None:
    """Return a function that returns the descriptor of an event which may be a socket, or None."""
    may_be_socket = cls.group is Group.FILES and not isinstance(cls.rule, Opens)
    if may_be_socket or cls in (BytesReceived, DescriptorContents, HostResult):
        for name in _SOCKET_FIELDS:
            if name in cls.names:
                index = cls.names.index(name)
                return lambda values: int(values[index])
    return None


_SOCKET_GETTERS = {
    tag: getter for tag, cls in BY_TAG.items() if (getter := _make_socket_getter(cls)) is not None
}
SOCKET_TESTED_TAGS = frozenset((*_SOCKET_GETTERS, _EPOLL_RESULT))
"""Tags of the events that belong to sockets if their descriptor, or their call, does."""


class PathTracker:
    """Paths with which the guest opened its descriptors, and its sockets.

    All events must be tracked in order.
    """

    def __init__(self) -> None:
        self._open: dict[int, str] = {}
        self._sockets: dict[int, None] = {}

    def is_of_socket(self, tag: int, values: tuple[Any, ...]) -> bool:
        """Return whether an event of SOCKET_TESTED_TAGS belongs to a socket."""
        if tag == _EPOLL_RESULT:
            return any(one.fd & DESCRIPTOR_MASK in self._sockets for one in values[1])
        if tag == _HOST_RESULT and values[0] in NETWORK_CALLS:
            return True
        return _SOCKET_GETTERS[tag](values) in self._sockets

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
            self._sockets.clear()
        elif cls is Listener:
            self._set_socket(values_by_name["fd"], is_socket=True)
        elif cls is Mount:
            self._set_path(
                values_by_name["fd"],
                posixpath.normpath(posixpath.join("/", values_by_name["guest"])),
            )
        elif isinstance(rule, Opens):
            paths = self.find_paths(tag, values) if _PATH_FIELDS[tag] else ()
            for fd in rule.fds:
                self._set_path(values_by_name[fd], paths[-1] if paths else None)
                self._set_socket(values_by_name[fd], is_socket=cls.group is Group.SOCKETS)
        elif isinstance(rule, Copies | Moves):
            source, target = values_by_name[rule.source], values_by_name[rule.target]
            self._set_path(target, self._open.get(source))
            self._set_socket(target, is_socket=source in self._sockets)
            if isinstance(rule, Moves) and source != target:
                self._open.pop(source, None)
                self._sockets.pop(source, None)
        elif isinstance(rule, Closes):
            self._open.pop(values_by_name[rule.fd], None)
            self._sockets.pop(values_by_name[rule.fd], None)

    def _set_socket(self, fd: int, *, is_socket: bool) -> None:
        self._sockets.pop(fd, None)
        if is_socket:
            if len(self._sockets) >= DESCRIPTORS_MAX:
                del self._sockets[next(iter(self._sockets))]
            self._sockets[fd] = None

    def _set_path(self, fd: int, path: str | None) -> None:
        self._open.pop(fd, None)
        if path is None:
            return
        if len(self._open) >= DESCRIPTORS_MAX:
            del self._open[next(iter(self._open))]
        self._open[fd] = path
