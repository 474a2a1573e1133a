"""A FUSE file system on a disk in memory: what is not synced waits, power can be cut, calls fail.

The page cache above it is the kernel's own: after a failed sync it goes on showing what the disk
never got, until it is told to forget. Run as a process, by ``fused.Served``.
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
"""Handles of each life of the disk are above those of the lives before."""


def _powered(call: Call[_P, _R]) -> Call[_P, _R]:
    """Do one thing at a time, as long as there is power."""

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
    """What the kernel asks; paths begin with a slash, handles stand for files."""

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

    # -- what the tests ask ------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> object:
        """Do what a test asks for."""
        match question["do"]:
            case "begin":  # with an empty disk, on which these faults come true
                self._live(Disk())
                self.faults = Faults(*(Fault(*fault) for fault in question["faults"]))
                self.size_max, self.calls_left = question["size_max"], question["calls"]
            case "arm":  # go on with the disk as it is, on which these faults come true
                self.faults = Faults(*(Fault(*fault) for fault in question["faults"]))
                self.calls_left = question["calls"]
            case "cut":
                self.cut()
            case "crash":  # go on with one of the states that the last cut may have left
                self._live(Disk(self._cut.crash(random.Random(question["seed"]))))
            case other:
                raise ValueError(other)
        return self.disk.paths()

    def cut(self) -> None:
        """Cut the power, if there is any."""
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
        """Tell what is known of a file."""
        return self._attributes(self._find(path, handle))

    def _attributes(self, number: int) -> dict[str, int]:
        inode = 1 + number + (self._life >> 12)  # another one in each life
        if number in self.disk.directories:
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": inode}
        size = self.disk.nodes[number].seen.size
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, "st_ino": inode}

    @_powered
    def readdir(self, path: str | None, handle: int) -> list[tuple[str, dict[str, int], int]]:
        """Give the names in a directory."""
        number = self._find(path, handle)
        names = {name: to for (folder, name), to in self.disk.names.items() if folder == number}
        return [
            (name, self._attributes(to), 0)
            for name, to in {".": number, "..": number, **names}.items()
        ]

    @_powered
    def mkdir(self, path: str, _: int) -> None:
        """Make a directory."""
        self.disk.mkdir(path[1:])

    @_powered
    def create(self, path: str, _: int) -> int:
        """Make a file and open it."""
        self.faults.strike("open")
        return self.disk.create(path[1:]) + self._life

    @_powered
    def link(self, target: str, source: str) -> None:
        """Give a file one more name."""
        self.faults.strike("link")
        self.disk.link(source[1:], target[1:])

    @_powered
    def rename(self, old: str, new: str) -> None:
        """Give a file another name, or take that name from another."""
        self.faults.strike("link")
        self.disk.rename(old[1:], new[1:])

    @_powered
    def unlink(self, path: str) -> None:
        """Take a name away."""
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
        """Open a file that is there."""
        self.faults.strike("open")
        return self._find(path) + self._life

    @_powered
    def read(self, path: str | None, size: int, offset: int, handle: int) -> bytes:
        """Read what the page cache does not have."""
        self.faults.strike("read")
        return self.disk.nodes[self._find(path, handle)].seen.read(size, offset)

    @_powered
    def write(self, path: str | None, data: bytes, offset: int, handle: int) -> int:
        """Write, and let it wait for a sync."""
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
        """Make a file durable, or lose what waits and say so once."""
        number = self._find(path, handle)
        try:
            self.faults.strike("sync")
        except OSError as error:
            if error.errno == errno.EIO:
                self.disk.lose(number)
                self.disk.evict(number)  # the kernel's cache above is what remembers
            raise
        self.disk.sync(number)

    @_powered
    def utimens(self, path: str | None, times: object = None) -> None:
        """Times are not kept."""

    @_powered
    def chmod(self, path: str, mode: int) -> None:
        """Neither are modes."""

    def statfs(self, _: str) -> dict[str, int]:
        """Tell of a disk with room."""
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
