"""Files of a host directory that is mounted in the guest.

A replay neither reads nor writes the host: the journal contains every result. A change is recorded
as an event, then performed, then recorded as a ``HostResult``. A crash between event and result
leaves open whether the change was performed. The next session performs it again, and the result of
a probe taken before the change distinguishes "it existed already" from "the first attempt created
it".
"""

import os
import struct
import weakref
from collections.abc import Callable
from contextlib import suppress

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.filesystem.host_paths import (
    FileIdentity,
    capture_result,
    reopen,
    resolve_times,
    stat_of,
)
from journal.engine.wasi.filesystem.tape_recorder import pack_set_size, pack_set_times, pack_write
from journal.events import descriptors
from journal.events.inputs import HostCall
from journal.vfs.memory_backend import WRITE_SIZE_MAX
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import (
    FILESTAT,
    FileStat,
    WasiError,
)

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")

#: Largest read of a host file, in bytes. A longer read is short, as the specification allows.
READ_SIZE_MAX = 4 << 20


class HostTree:
    """One mounted host directory. A replay does not open it.

    ``is_moved`` means that the directory is a copy at another path than the journal recorded.
    ``open_handles`` contains the open files and directories below the mount.
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
        """Return the descriptor of the mounted directory."""
        if self._root is None:
            self._root = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root

    def query_host(self, call: HostCall, fd: int, operation: Callable[[], bytes]) -> bytes:
        """Return the value of a host result; raise ``WasiError`` with its errno."""
        return unwrap_result(
            self.tape.request_host_result(call, fd, lambda: capture_result(operation))
        )

    def update_names(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Update the names of all open handles below a renamed path."""
        for handle in self.open_handles:
            handle.update_names(old, new)

    def reopen_handles(self) -> None:
        """Open the host files of the guest after a replay, before they can be renamed or removed.

        A handle whose file no longer exists raises ``WasiError`` when it is used.
        """
        for host_handle in list(self.open_handles):
            with suppress(WasiError, OSError):
                _ = host_handle.handle

    def close(self) -> None:
        """Close the root and all open handles below it."""
        for handle in list(self.open_handles):
            handle.close()
        if self._root is not None:
            os.close(self._root)
            self._root = None


def unwrap_result(reply: HostReply) -> bytes:
    """Return the value of a host result; raise ``WasiError`` with its errno."""
    errno, value = reply
    if errno:
        raise WasiError(errno)
    return value


class HostHandle:
    """An open file or directory of the host, reopened by its names after a resume."""

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
        """Return the descriptor on the host, opened at the first use."""
        if self._node is None:
            return self._tree.root
        if self._handle is None:
            tree = self._tree
            self._handle = reopen(tree.root, self._node, self._flags, is_moved=tree.is_moved)
        return self._handle

    @property
    def writable(self) -> bool:
        """Return whether the mount is writable."""
        return self._tree.writable

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names from the root of the mount."""
        return self._node.names if self._node else ()

    def update_names(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Replace the leading names ``old`` with ``new``."""
        if self._node and self._node.names[: len(old)] == old:
            self._node = self._node._replace(names=new + self._node.names[len(old) :])

    def close(self) -> None:
        """Close the descriptor if it is open."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._tree.open_handles.discard(self)

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""
        value = self._tree.query_host(
            HostCall.STAT, fd, lambda: stat_of(os.fstat(self.handle)).pack()
        )
        return FileStat(*FILESTAT.unpack(value))

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the access and modification times."""

        def operation() -> bytes:
            resolved = resolve_times(times, stat_of(os.fstat(self.handle)))
            os.utime(f"/proc/self/fd/{self.handle}", ns=resolved)
            return b""

        self._perform(
            descriptors.FileDescriptorSetTimes.tag,
            pack_set_times(fd, *times),
            HostCall.TIMES,
            fd,
            operation,
        )

    def _perform(
        self, tag: int, effect: bytes, call: HostCall, fd: int, operation: Callable[[], bytes]
    ) -> bytes:
        """Perform an idempotent change."""
        return unwrap_result(
            self._tree.tape.perform(tag, effect, call, fd, lambda again: capture_result(operation))
        )


class HostFile(HostHandle):
    """An open file of the host. Reads and writes take offsets; appending is not atomic."""

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return at most ``READ_SIZE_MAX`` bytes at ``offset``."""
        size = min(size, READ_SIZE_MAX)
        data = self._tree.query_host(HostCall.READ, fd, lambda: os.pread(self.handle, size, offset))
        if len(data) > size:
            raise ValueError(
                f"recorded read result has {len(data)} bytes: at most {size} were requested"
            )
        return data

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset`` and return the count of written bytes.

        The count is short if the host refuses after a first part, as a full disk does.
        """
        written_size = 0
        while written_size < len(data):
            part = data[written_size : written_size + WRITE_SIZE_MAX]
            try:
                count = self._write(fd, offset + written_size, part)
            except WasiError:
                if written_size:
                    return written_size
                raise
            written_size += count
            if count < len(part):
                break
        return written_size

    def _write(self, fd: int, offset: int, data: bytes) -> int:
        value = self._perform(
            descriptors.FileDescriptorWrite.tag,
            pack_write(fd, offset, False, data),
            HostCall.WRITE,
            fd,
            lambda: _COUNT.pack(os.pwrite(self.handle, data, offset)),
        )
        (count,) = _COUNT.unpack(value)
        if count > len(data):
            raise ValueError(
                f"recorded write result is {count} bytes: only {len(data)} were passed"
            )
        return int(count)

    def size(self, fd: int) -> int:
        """Return the size in bytes."""
        value = self._tree.query_host(
            HostCall.SIZE, fd, lambda: _SIZE.pack(os.fstat(self.handle).st_size)
        )
        return int(_SIZE.unpack(value)[0])

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""

        def operation() -> bytes:
            os.ftruncate(self.handle, size)
            return b""

        self._perform(
            descriptors.FileDescriptorSetSize.tag,
            pack_set_size(fd, size),
            HostCall.SIZE,
            fd,
            operation,
        )

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Synchronize the file to disk on the host."""

        def operation() -> bytes:
            (os.fdatasync if data_only else os.fsync)(self.handle)
            return b""

        self._tree.query_host(HostCall.SYNC, fd, operation)
