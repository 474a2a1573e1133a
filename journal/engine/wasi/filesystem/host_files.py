"""A directory of the host that the guest has: what it does and hears there passes the tape.

A replay neither reads nor writes the host: every answer is in the journal. A change is an event
first, then the deed, then a ``HostResult``. A crash between the event and the result leaves it open
whether the deed was done; the next session does it again, and a probe that was taken before tells
"it was there already" from "it was done".
"""

import os
import struct
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.filesystem.host_paths import (
    FileIdentity,
    capture_result,
    reopen,
    stat_of,
)
from journal.engine.wasi.filesystem.interfaces import (
    READ_SIZE_MAX,
    WRITE_SIZE_MAX,
    RequestedTimes,
    pack_set_size,
    pack_set_times,
    pack_write,
)
from journal.engine.wasi_abi import (
    FILESTAT,
    FileStat,
    WasiError,
)
from journal.events import descriptors
from journal.events.inputs import HostCall

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")


class HostTree:
    """One mount: the host's directory, which is not even opened while replaying.

    ``is_moved`` says that it is a copy of the directory that the journal knows.
    """

    def __init__(self, tape: Tape, path: str, *, writable: bool, is_moved: bool) -> None:
        self.tape = tape
        self.path = path
        self.writable = writable
        self.is_moved = is_moved
        self._root: int | None = None
        self.open_handles: weakref.WeakSet[HostHandle] = weakref.WeakSet()

    @property
    def root(self) -> int:
        """The mount's own directory."""
        if self._root is None:
            self._root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root

    def query_host(self, call: HostCall, fd: int, deed: Callable[[], bytes]) -> bytes:
        """The value of an answer; refuses with its errno."""
        return unwrap_result(self.tape.request_host_result(call, fd, lambda: capture_result(deed)))

    def update_names(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Something was renamed: what is open below it has other names now."""
        for opened in self.open_handles:
            opened.update_names(old, new)

    def reopen_handles(self) -> None:
        """The journal has been replayed: open what the guest has open, before it loses its name.

        What is not there any more refuses when it is used.
        """
        for opened in list(self.open_handles):
            with suppress(WasiError, OSError):
                _ = opened.handle

    def close(self) -> None:
        """Close the root and all that is open below it."""
        for opened in list(self.open_handles):
            opened.close()
        if self._root is not None:
            os.close(self._root)
            self._root = None


def unwrap_result(answer: HostReply) -> bytes:
    """The value of an answer; refuses with its errno."""
    errno, value = answer
    if errno:
        raise WasiError(errno)
    return value


class HostHandle:
    """A file or a directory that the guest has open, found again by name after a resume."""

    def __init__(
        self, tree: HostTree, node: FileIdentity | None, flags: int, handle: int | None
    ) -> None:
        self._tree = tree
        self._node = node
        self._flags = flags
        self._handle = handle
        tree.open_handles.add(self)

    @property
    def handle(self) -> int:
        """Its descriptor on the host."""
        if self._node is None:
            return self._tree.root
        if self._handle is None:
            tree = self._tree
            self._handle = reopen(tree.root, self._node, self._flags, is_moved=tree.is_moved)
        return self._handle

    @property
    def writable(self) -> bool:
        """Whether the mount may be changed."""
        return self._tree.writable

    @property
    def names(self) -> tuple[str, ...]:
        """Its names from the mount's root down."""
        return self._node.names if self._node else ()

    def update_names(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """``old`` is called ``new`` now."""
        if self._node and self._node.names[: len(old)] == old:
            self._node = self._node._replace(names=new + self._node.names[len(old) :])

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._tree.open_handles.discard(self)

    def stat(self, fd: int) -> FileStat:
        """Its attributes."""
        value = self._tree.query_host(
            HostCall.STAT, fd, lambda: stat_of(os.fstat(self.handle)).pack()
        )
        return FileStat(*FILESTAT.unpack(value))

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set its times."""

        def deed() -> bytes:
            resolved = times.resolved(time.time_ns(), stat_of(os.fstat(self.handle)))
            os.utime(f"/proc/self/fd/{self.handle}", ns=resolved)
            return b""

        self._change(
            descriptors.FileDescriptorSetTimes.tag,
            pack_set_times(fd, *times),
            HostCall.TIMES,
            fd,
            deed,
        )

    def _change(
        self, tag: int, effect: bytes, call: HostCall, fd: int, deed: Callable[[], bytes]
    ) -> bytes:
        """A change that may be done twice without harm."""
        return unwrap_result(
            self._tree.tape.perform(tag, effect, call, fd, lambda again: capture_result(deed))
        )


class HostFile(HostHandle):
    """An open file of the host. Reads and writes are at offsets; appending is not atomic."""

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """At most ``READ_SIZE_MAX`` bytes at ``offset``."""
        size = min(size, READ_SIZE_MAX)
        data = self._tree.query_host(HostCall.READ, fd, lambda: os.pread(self.handle, size, offset))
        if len(data) > size:
            raise ValueError(f"{len(data)} bytes read for {size}")
        return data

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Put ``data`` at ``offset``, as much as there is room for."""
        written = 0
        while written < len(data):
            part = data[written : written + WRITE_SIZE_MAX]
            try:
                count = self._write(fd, offset + written, part)
            except WasiError:
                if written:
                    return written
                raise
            written += count
            if count < len(part):
                break
        return written

    def _write(self, fd: int, offset: int, data: bytes) -> int:
        value = self._change(
            descriptors.FileDescriptorWrite.tag,
            pack_write(fd, offset, False, data),
            HostCall.WRITE,
            fd,
            lambda: _COUNT.pack(os.pwrite(self.handle, data, offset)),
        )
        (count,) = _COUNT.unpack(value)
        if count > len(data):
            raise ValueError(f"{count} bytes written of {len(data)}")
        return int(count)

    def size(self, fd: int) -> int:
        """Its size in bytes."""
        value = self._tree.query_host(
            HostCall.SIZE, fd, lambda: _SIZE.pack(os.fstat(self.handle).st_size)
        )
        return int(_SIZE.unpack(value)[0])

    def set_size(self, fd: int, size: int) -> None:
        """Cut it, or lengthen it with zeros."""

        def deed() -> bytes:
            os.ftruncate(self.handle, size)
            return b""

        self._change(
            descriptors.FileDescriptorSetSize.tag,
            pack_set_size(fd, size),
            HostCall.SIZE,
            fd,
            deed,
        )

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Make it durable on the host."""

        def deed() -> bytes:
            (os.fdatasync if data_only else os.fsync)(self.handle)
            return b""

        self._tree.query_host(HostCall.SYNC, fd, deed)
