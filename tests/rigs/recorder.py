"""Recording of a writer's system calls, from which every crash can be replayed.

Inside its ``with`` block, calls of ``os`` are executed, repeated on an in-memory disk, and
recorded. ``crash_points`` replays the record.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.rigs.disk import ROOT, Change, Disk, Reserve, Resize, State, Write
from tests.rigs.faults import Faults
from tests.rigs.promise import Promise

_SYNC_SECONDS = 0.0002
"""Minimum duration of a sync in seconds, so that other threads run during it."""


class Note(NamedTuple):
    """One call of a method of Disk, or a promise: ``acknowledged`` and ``created``."""

    method: str
    arguments: tuple[Any, ...]


class Recorder:
    """Records the calls below ``root``, and applies ``faults`` there."""

    def __init__(self, root: Path, faults: Faults | None = None, state: State | None = None):
        self.root = str(root)
        self.faults = faults or Faults()
        self.notes: list[Note] = []
        self.start: State = dict(state or {})
        self.disk = Disk(state)
        self._files: dict[int, int] = {}
        self._lock = threading.RLock()
        self._real: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in _WRAPPED:
            self._real[name] = getattr(os, name)
        for name in _WRAPPED:
            setattr(os, name, getattr(self, f"_{name}"))
        for name in _FORBIDDEN:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._forbidden(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)

    def listen_to(self, promise: Promise) -> None:
        """Record, among the calls, that a promise was made."""
        promise.listener = self._promised

    def check(self) -> None:
        """Check that the in-memory disk and the real one are equal: no call was missed."""
        found = {
            str(path.relative_to(self.root)): None if path.is_dir() else path.read_bytes()
            for path in Path(self.root).rglob("*")
        }
        for path in self.disk.paths():
            content = found.pop(path)
            if content is not None:
                seen = self.disk.nodes[self.disk.find(path) or ROOT].seen
                assert seen.read(seen.size, 0) == content, f"{path} was changed unheard"
        assert not found, f"{sorted(found)} came unheard"

    # -- inside ------------------------------------------------------------------------------

    def _promised(self, acknowledged: int, created: bool) -> None:
        with self._lock:
            self.notes.append(Note("", (acknowledged, created)))

    def _do(self, method: str, *arguments: Any) -> Any:
        self.notes.append(Note(method, arguments))
        return getattr(self.disk, method)(*arguments)

    def _name(self, path: object) -> str | None:
        """Return a path below the root relative to it; None for others."""
        if not isinstance(path, str | os.PathLike):
            return None
        name = str(Path(path).absolute())
        if name == self.root:
            return ""
        return name[len(self.root) + 1 :] if name.startswith(self.root + "/") else None

    def _node(self, descriptor: int) -> int | None:
        number = self._files.get(descriptor)
        return number if number in self.disk.nodes else None

    def _forbidden(self, call: str) -> Callable[..., Any]:
        def refuse(descriptor: object, *arguments: Any, **options: Any) -> Any:
            known = descriptor in self._files or self._name(descriptor) is not None
            assert not known, f"os.{call} is not recorded"
            return self._real[call](descriptor, *arguments, **options)

        return refuse

    # -- the calls ---------------------------------------------------------------------------

    def _open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        folder = self._files.get(options.get("dir_fd", -1))
        if folder is not None:
            path = Path(self.root, self.disk.path_of(folder), path)
            options = {}
        name = self._name(path)
        if name is None:
            return int(self._real["open"](path, flags, mode, **options))
        assert not options, "a path is opened by itself"
        with self._lock:
            is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            self.faults.strike("open")
            descriptor = int(self._real["open"](path, flags, mode))
            if is_new:
                self._do("create", name)
            number = self.disk.find(name)
            assert number is not None, f"{path} came unheard"
            if flags & os.O_TRUNC and not is_new:
                self._do("change", number, Resize(0))
            self._files[descriptor] = number
            return descriptor

    def _dup(self, descriptor: int) -> int:
        with self._lock:
            again = int(self._real["dup"](descriptor))
            if descriptor in self._files:
                self._files[again] = self._files[descriptor]
            return again

    def _close(self, descriptor: int) -> None:
        with self._lock:
            self._files.pop(descriptor, None)
            self._real["close"](descriptor)

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        number = self._node(descriptor)
        if not number:
            return int(self._real["pwrite"](descriptor, data, offset))
        content = bytes(data)
        with self._lock:
            short = self.faults.strike("write")
            if short is not None:
                content = content[: short.kept]
            written = int(self._real["pwrite"](descriptor, content, offset))
            self._do("change", number, Write(offset, content[:written]))
            return written

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        if self._node(descriptor) is not None:
            with self._lock:
                self.faults.strike("read")
        return bytes(self._real["pread"](descriptor, size, offset))

    def _pwritev(self, descriptor: int, buffers: Iterable[Any], offset: int, flags: int = 0) -> int:
        assert not flags
        return self._pwrite(descriptor, b"".join(buffers), offset)

    def _posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        self._change("reserve", descriptor, Reserve(offset + size), offset, size)

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._change("resize", descriptor, Resize(size), size)

    def _change(self, call: str, descriptor: int, change: Change, *arguments: int) -> None:
        name = {"reserve": "posix_fallocate", "resize": "ftruncate"}[call]
        number = self._node(descriptor)
        with self._lock:
            if number:
                self.faults.strike(call)
            self._real[name](descriptor, *arguments)
            if number:
                self._do("change", number, change)

    def _fdatasync(self, descriptor: int) -> None:
        number = self._files.get(descriptor)
        if number is None:
            self._real["fdatasync"](descriptor)
            return
        if number in self.disk.directories:
            with self._lock:
                self.faults.strike("sync_directory")
                self._do("sync_directory", number)
            return
        with self._lock:
            upto = self.disk.changes(number)
            try:
                self.faults.strike("sync")
            except OSError as error:
                if error.errno == errno.EIO:
                    self._do("lose", number)
                raise
        if threading.active_count() > 1:
            time.sleep(_SYNC_SECONDS)
        with self._lock:
            self._do("sync", number, upto)

    _fsync = _fdatasync

    def _posix_fadvise(self, descriptor: int, offset: int, size: int, advice: int) -> None:
        number = self._node(descriptor)
        if not number or advice != os.POSIX_FADV_DONTNEED:
            self._real["posix_fadvise"](descriptor, offset, size, advice)
            return
        with self._lock:
            self.disk.evict(number)  # Other visible data was not on the disk: this is no change.
            self.notes.append(Note("evict", (number,)))
            seen = self.disk.nodes[number].seen
            path = f"/proc/self/fd/{descriptor}"
            again = self._real["open"](path, os.O_WRONLY)
            self._real["pwrite"](again, seen.read(seen.end, 0), 0)
            self._real["close"](again)

    def _link(self, source: Any, target: Any, **options: Any) -> None:
        self._rebind("link", source, target, options)

    def _rename(self, source: Any, target: Any, **options: Any) -> None:
        self._rebind("rename", source, target, options)

    _replace = _rename

    def _rebind(self, call: str, source: Any, target: Any, options: dict[str, Any]) -> None:
        old, new = self._name(source), self._name(target)
        with self._lock:
            if new is not None:
                self.faults.strike("link")
            self._real[call](source, target, **options)
            if new is not None:
                self._do(call, old, new)

    def _unlink(self, path: Any, **options: Any) -> None:
        with self._lock:
            self._real["unlink"](path, **options)
            name = self._name(path)
            if name is not None:
                self._do("unlink", name)

    def _rmdir(self, path: Any, **options: Any) -> None:
        with self._lock:
            self._real["rmdir"](path, **options)
            name = self._name(path)
            if name is not None:
                self._do("unlink", name)

    def _mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        with self._lock:
            self._real["mkdir"](path, mode, **options)
            name = self._name(path)
            if name is not None:
                self._do("mkdir", name)


class CrashPoint(NamedTuple):
    """The disk and the promise at a moment."""

    disk: Disk
    acknowledged: int
    created: bool


def crash_points(recorder: Recorder) -> Iterator[CrashPoint]:
    """Yield the moment before each call, and the one after the last.

    The disk is the same object each time, and changes with each step.
    """
    disk, acknowledged, created = Disk(recorder.start), 0, False
    for method, arguments in recorder.notes:
        if not method:
            acknowledged, created = arguments
            continue
        yield CrashPoint(disk, acknowledged, created)
        getattr(disk, method)(*arguments)
    yield CrashPoint(disk, acknowledged, created)


_WRAPPED = (
    "open",
    "close",
    "dup",
    "pwrite",
    "pwritev",
    "pread",
    "posix_fallocate",
    "ftruncate",
    "fdatasync",
    "fsync",
    "posix_fadvise",
    "link",
    "rename",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
)
_FORBIDDEN = (
    "write",
    "writev",
    "preadv",
    "truncate",
    "remove",
    "symlink",
    "sendfile",
    "copy_file_range",
)
