"""A FUSE file for a loop device: a disk that records writes and flushes, and can reject writes.

A real file system is mounted on it. A power cut leaves everything flushed, and any of the later
writes. Run as a process, by ``fused.Served``.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.rigs import fused
from tests.rigs.disk import SECTOR_SIZE

NAME = "disk"
_FLUSH = None
_ROOT = {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": 1}


class BlockDisk:
    """Handlers of the kernel's requests for the one file."""

    use_ns = True

    def __init__(self, image: Path) -> None:
        self.guard = threading.Lock()
        self._size = image.stat().st_size
        self._data = mmap.mmap(-1, self._size)
        self._start = list(_extents(image))
        for offset, data in self._start:
            self._data[offset : offset + len(data)] = data
        self._log: list[tuple[int, bytes] | None] = []
        self._marker = b""
        self._refusals_left = 0
        self._refused = 0

    def init(self, _: str) -> None:
        """Report that the disk is ready."""
        fused.say({"answer": "mounted"})

    def answer(self, question: dict[str, Any]) -> object:
        """Execute a test's request."""
        match question["do"]:
            case "position":  # A position in the log of writes and flushes.
                return len(self._log)
            case "image":  # Makes an image that a cut at a position can leave.
                rng = random.Random(question["seed"])
                self._lay_down(Path(question["path"]), question["position"], rng)
            case "refuse":  # Rejects a number of writes that contain a marker.
                self._marker = bytes.fromhex(question["marker"])
                self._refusals_left, self._refused = question["times"], 0
            case "refused":  # The number of rejected writes.
                return self._refused
            case other:
                raise ValueError(other)
        return None

    def _lay_down(self, path: Path, position: int, rng: random.Random) -> None:
        log = self._log[:position]
        flushed = max((n for n, write in enumerate(log) if write is _FLUSH), default=0)
        share = rng.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        with path.open("wb") as file:
            file.truncate(self._size)
            for number, write in enumerate([*self._start, *log]):
                if write is _FLUSH:
                    continue
                offset, data = write
                if number - len(self._start) >= flushed and rng.random() >= share:
                    data = data[: rng.randrange(len(data) + 1) // SECTOR_SIZE * SECTOR_SIZE]
                    data = data if rng.random() < 0.2 else b""  # Torn or lost.
                file.seek(offset)
                file.write(data)

    # -- requests of the kernel---------------------------------------------------------------

    def getattr(self, path: str, _: int | None = None) -> dict[str, int]:
        """Return the attributes of the directory and its file."""
        if path == "/":
            return _ROOT
        if path != f"/{NAME}":
            raise OSError(errno.ENOENT, path)
        mode = stat.S_IFREG | 0o600
        return {"st_mode": mode, "st_nlink": 1, "st_size": self._size, "st_ino": 2}

    def readdir(self, _: str, __: int) -> list[str]:
        """Return the only name."""
        return [".", "..", NAME]

    def open(self, _: str, __: int) -> int:
        """Open the file."""
        return 1

    def read(self, _: str, size: int, offset: int, __: int) -> bytes:
        """Read sectors."""
        return self._data[offset : offset + size]

    def write(self, _: str, data: bytes, offset: int, __: int) -> int:
        """Write sectors, or reject the write."""
        with self.guard:
            if self._refusals_left and self._marker in data:
                self._refusals_left -= 1
                self._refused += 1
                raise OSError(errno.EIO, "refused on purpose")
            self._log.append((offset, data))
            self._data[offset : offset + len(data)] = data
        return len(data)

    def fsync(self, _: str, __: int, ___: int) -> None:
        """Record a flush."""
        with self.guard:
            self._log.append(_FLUSH)

    def fallocate(self, _: str, mode: int, offset: int, size: int, __: int) -> None:
        """Reject discards: discarded data stays unchanged."""
        raise OSError(errno.EOPNOTSUPP, "only writes")

    def statfs(self, _: str) -> dict[str, int]:
        """Report a file system with free space."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20}


def _extents(image: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the parts of a file that are not holes."""
    with image.open("rb", buffering=0) as file:
        position, size = 0, os.fstat(file.fileno()).st_size
        while position < size:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            yield position, os.pread(file.fileno(), end - position, position)
            position = end


if __name__ == "__main__":
    served = BlockDisk(Path(sys.argv[2]))
    fused.serve(served, sys.argv[1], served.answer, served.guard)
