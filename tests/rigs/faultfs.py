"""A FUSE file system on an in-memory disk, with unsynced data, power cuts and failing calls.

The page cache above it is the kernel's own: after a failed sync it still returns data that never
reached the disk, until it is dropped. Run as a process, by ``fused.Served``.
"""

from __future__ import annotations

import errno
import random
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from tests.rigs import fused
from tests.rigs.disk import Disk, Reserve, Resize, Write
from tests.rigs.faults import Fault, Faults

_P = ParamSpec("_P")
_R = TypeVar("_R")
Call = Callable[Concatenate["FaultFS", _P], _R]
_LIFE = 1 << 32
"""Handles of each life of the disk are higher than those of earlier lives."""


def _powered(call: Call[_P, _R]) -> Call[_P, _R]:
    """Run one operation at a time, while the disk has power."""

    def guarded(self: FaultFS, /, *arguments: _P.args, **options: _P.kwargs) -> _R:
        with self.guard:
            self.calls_left -= 1
            if not self.calls_left:
                self.cut()
            if not self.is_on:
                raise OSError(errno.EIO, "there is no power")
            return call(self, *arguments, **options)

    return guarded


class FaultFS:
    """Handlers of the kernel's requests. Paths begin with a slash, handles identify files."""

    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.disk = Disk()
        self.faults = Faults()
        self.is_on = True
        self.size_max = 0
        self.calls_left = 0
        self._cut = self.disk
        self._life = 0

    def init(self, _: str) -> None:
        fused.say({"answer": "mounted"})

    # -- requests of the tests----------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> object:
        """Execute a test's request."""
        match question["do"]:
            case "begin":  # Begins with an empty disk and these faults.
                self._live(Disk())
                self.faults = Faults(*(Fault(*fault) for fault in question["faults"]))
                self.size_max, self.calls_left = question["size_max"], question["calls"]
            case "arm":  # Continues with the present disk and these faults.
                self.faults = Faults(*(Fault(*fault) for fault in question["faults"]))
                self.calls_left = question["calls"]
            case "cut":
                self.cut()
            case "crash":  # Continues with a state that the last cut can have left.
                self._live(Disk(self._cut.crash(random.Random(question["seed"]))))
            case other:
                raise ValueError(other)
        return self.disk.paths()

    def cut(self) -> None:
        """Cut the power, if it is on."""
        if self.is_on:
            self._cut, self.is_on = self.disk, False

    def _live(self, disk: Disk) -> None:
        self.disk, self.is_on = disk, True
        self.faults, self.size_max, self.calls_left = Faults(), 0, 0
        self._life += _LIFE

    # -- names -------------------------------------------------------------------------------

    def _find(self, path: str | None, handle: int | None = None) -> int:
        if handle is not None:
            if handle < self._life:
                raise OSError(errno.EIO, "opened before the power was cut")
            return handle - self._life
        assert path is not None
        number = self.disk.find(path[1:])
        if number is None:
            raise OSError(errno.ENOENT, path)
        return number

    @_powered
    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        """Return the attributes of a file."""
        return self._attributes(self._find(path, handle))

    def _attributes(self, number: int) -> dict[str, int]:
        inode = 1 + number + (self._life >> 12)  # The inode number differs in each life.
        if number in self.disk.directories:
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": inode}
        size = self.disk.nodes[number].seen.size
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, "st_ino": inode}

    @_powered
    def readdir(self, path: str | None, handle: int) -> list[tuple[str, dict[str, int], int]]:
        """Return the names in a directory."""
        number = self._find(path, handle)
        names = {name: to for (folder, name), to in self.disk.names.items() if folder == number}
        return [
            (name, self._attributes(to), 0)
            for name, to in {".": number, "..": number, **names}.items()
        ]

    @_powered
    def mkdir(self, path: str, _: int) -> None:
        """Create a directory."""
        self.disk.mkdir(path[1:])

    @_powered
    def create(self, path: str, _: int) -> int:
        """Create a file and open it."""
        self.faults.strike("open")
        return self.disk.create(path[1:]) + self._life

    @_powered
    def link(self, target: str, source: str) -> None:
        """Add another name for a file."""
        self.faults.strike("link")
        self.disk.link(source[1:], target[1:])

    @_powered
    def rename(self, old: str, new: str) -> None:
        """Rename a file, and replace any file with the new name."""
        self.faults.strike("link")
        self.disk.rename(old[1:], new[1:])

    @_powered
    def unlink(self, path: str) -> None:
        """Remove a name."""
        self.disk.unlink(path[1:])

    rmdir = unlink

    @_powered
    def opendir(self, path: str) -> int:
        """Open a directory."""
        return self._find(path) + self._life

    @_powered
    def fsyncdir(self, path: str | None, _: int, handle: int) -> None:
        """Make the names in a directory durable."""
        number = self._find(path, handle)
        self.faults.strike("sync_directory")
        self.disk.sync_directory(number)

    # -- contents ----------------------------------------------------------------------------

    @_powered
    def open(self, path: str, _: int) -> int:
        """Open an existing file."""
        self.faults.strike("open")
        return self._find(path) + self._life

    @_powered
    def read(self, path: str | None, size: int, offset: int, handle: int) -> bytes:
        """Read data that the page cache does not have."""
        self.faults.strike("read")
        return self.disk.nodes[self._find(path, handle)].seen.read(size, offset)

    @_powered
    def write(self, path: str | None, data: bytes, offset: int, handle: int) -> int:
        """Write data, and queue it for a sync."""
        number = self._find(path, handle)
        short = self.faults.strike("write")
        self._make_room(number, offset + len(data))
        if short is not None:
            data = data[: short.kept]
        self.disk.change(number, Write(offset, data))
        return len(data)

    @_powered
    def truncate(self, path: str | None, size: int, handle: int | None = None) -> None:
        """Set the size of a file."""
        self.faults.strike("resize")
        self.disk.change(self._find(path, handle), Resize(size))

    @_powered
    def fallocate(self, path: str | None, mode: int, offset: int, size: int, handle: int) -> None:
        """Preallocate."""
        if mode:
            raise OSError(errno.EOPNOTSUPP, "only preallocation is supported")
        number = self._find(path, handle)
        self.faults.strike("reserve")
        self._make_room(number, offset + size)
        self.disk.change(number, Reserve(offset + size))

    @_powered
    def fsync(self, path: str | None, _: int, handle: int) -> None:
        """Make a file durable, or lose the queued changes and report that once."""
        number = self._find(path, handle)
        try:
            self.faults.strike("sync")
        except OSError as error:
            if error.errno == errno.EIO:
                self.disk.lose(number)
                self.disk.evict(number)  # The kernel's own cache still has the data.
            raise
        self.disk.sync(number)

    @_powered
    def utimens(self, path: str | None, times: object = None) -> None:
        """Ignore times."""

    @_powered
    def chmod(self, path: str, mode: int) -> None:
        """Ignore modes."""

    def statfs(self, _: str) -> dict[str, int]:
        """Report a disk with free space."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20}

    def _make_room(self, number: int, end: int) -> None:
        if self.size_max:
            used = {key: node.seen.size for key, node in self.disk.nodes.items()}
            used[number] = max(used[number], end)
            named = {number, *self.disk.names.values()}
            if sum(size for key, size in used.items() if key in named) > self.size_max:
                raise OSError(errno.ENOSPC, "the disk is full (on purpose)")


if __name__ == "__main__":
    served = FaultFS()
    fused.serve(served, sys.argv[1], served.answer, served.guard)
