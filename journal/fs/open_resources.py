"""Resources that are open in this process: what a fork, a missing close and the exit do to them.

A forked child inherits the objects of its parent, with their descriptors and buffered events. It
has none of the parent's other threads, and any lock may be held by one of them for ever. So an
inherited object only releases its descriptors, and raises WrongProcess when it is used.
"""

import atexit
import os
import threading
import warnings
from contextlib import ExitStack, suppress
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

from journal.errors import WrongProcess


class Inheritable(Protocol):
    """Object that a forked child inherits, and must not use."""

    def _abandon(self, owner: int) -> None:
        """Release the descriptors, in a child that process ``owner`` has forked.

        Writes nothing, waits for nothing, and does not raise.
        """


class Closable(Protocol):
    """Object that must be closed."""

    def close(self) -> None:
        """Close the object."""

    def __del__(self) -> None:
        """Close the object with a warning, if nobody has closed it."""


class HomeProcess:
    """Process to which an object belongs."""

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        self._owner = 0

    @property
    def is_left(self) -> bool:
        """Return whether this process was forked from the object's."""
        return bool(self._owner)

    def leave(self, owner: int) -> None:
        """Record that process ``owner``, to which the object belongs, has forked this one."""
        self._owner = owner

    def check(self, path: str | os.PathLike[str]) -> None:
        """Raise WrongProcess in a forked child. ``path`` is the path of the journal."""
        if self._owner:
            raise WrongProcess(str(path), self._owner, os.getpid())


class OwnThread(threading.Thread):
    """Thread of the library. It may hold the locks of an object that nobody else refers to."""


class OpenResources:
    """The resources of this process, in the order in which they were opened.

    > Why a registry? The system calls no method of an object in a forked child or at the exit. The
    registry has weak references, so it keeps no object alive.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._number = count()
        self._inheritable: WeakValueDictionary[int, Inheritable] = WeakValueDictionary()
        self._closable: WeakValueDictionary[int, Closable] = WeakValueDictionary()

    def release_in_children(self, resource: Inheritable) -> None:
        """Let each forked child release ``resource``."""
        self._inheritable[next(self._number)] = resource

    def close_at_exit(self, resource: Closable) -> None:
        """Let the exit of this process close ``resource``, with a warning."""
        self._closable[next(self._number)] = resource

    def abandon_all(self) -> None:
        """Release all resources in a forked child."""
        owner, self._process = self._process, os.getpid()
        inherited = list(self._inheritable.values())
        self._inheritable, self._closable = WeakValueDictionary(), WeakValueDictionary()
        with ExitStack() as stack:  # An error of one does not keep the others open.
            for resource in inherited:
                stack.callback(resource._abandon, owner)

    def close_all(self) -> None:
        """Close all resources at the exit, the newest first: it may need an older one."""
        with ExitStack() as stack:
            for resource in list(self._closable.values()):
                stack.callback(resource.__del__)


OPEN_RESOURCES = OpenResources()
"""The resources of this process. There is one registry, as there is one process."""

if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=OPEN_RESOURCES.abandon_all)
atexit.register(OPEN_RESOURCES.close_all)


def close_unclosed(resource: Closable, name: str) -> None:
    """Close a resource that nobody closed, and warn; ``name`` says what it is.

    The garbage collector may call this in a thread of the library that holds the resource's locks.
    Another thread closes it then.
    """
    if isinstance(threading.current_thread(), OwnThread):
        OwnThread(target=_close_and_warn, args=(resource, name), name=f"close of {name}").start()
    else:
        _close_and_warn(resource, name)


def _close_and_warn(resource: Closable, name: str) -> None:
    """Close a resource in this thread, and warn."""
    try:
        resource.close()
    finally:
        warnings.warn(f"{name} was not closed", ResourceWarning, stacklevel=4, source=resource)


def close_descriptor(descriptor: int) -> None:
    """Close a descriptor, if it is one. An error of close carries no new information."""
    if descriptor >= 0:
        with suppress(OSError):
            os.close(descriptor)
