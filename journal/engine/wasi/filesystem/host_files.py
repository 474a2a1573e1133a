"""Files of a host directory that is mounted in the guest.

A replay neither reads nor writes the host: the journal contains every result. A change is recorded
as an event, then performed, then recorded as a ``HostResult``. A crash between event and result
leaves open whether the change was performed. The next session performs it again, and the result of
a probe taken before the change distinguishes "it existed already" from "the first attempt created
it".
"""

import errno
import os
import struct
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from journal._arguments import to_line
from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.filesystem.host_paths import (
    FileIdentity,
    capture_result,
    resolve_host_path,
    resolve_times,
    stat_of,
)
from journal.engine.wasi.filesystem.own_files import Access, OwnFiles
from journal.engine.wasi.filesystem.reopening import (
    RecordedTimes,
    find_names,
    is_born_after,
    open_names,
    refusal,
    reopen,
    stat_names,
)
from journal.engine.wasi.filesystem.tape_recorder import pack_set_size, pack_set_times, pack_write
from journal.errors import HostMismatch
from journal.events import descriptors
from journal.events.inputs import HostCall
from journal.vfs.memory_backend import WRITE_SIZE_MAX
from journal.vfs.path_resolution import split_path
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import FILESTAT, Errno, FileStat, WasiError

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")

#: Largest read of a host file, in bytes. A longer read is short, as the specification allows.
READ_SIZE_MAX = 4 << 20


@dataclass(slots=True, weakref_slot=True)
class RecordedSize:
    """Size of a file according to its recording, in bytes: exact, or a lower bound."""

    size: int = 0
    is_exact: bool = False

    def set(self, size: int) -> None:
        """Set the exact size."""
        self.size, self.is_exact = size, True

    def extend(self, end: int) -> None:
        """Extend the size to at least ``end``."""
        self.size = max(self.size, end)


class HostTree:
    """One mounted host directory. A replay does not open it.

    If ``path`` is empty, the directory is closed: nothing opens it. ``writable`` says whether the
    mount was recorded as writable, ``is_read_only`` whether the user grants no change now.
    ``is_moved`` means that the directory is at another path than the journal recorded. ``guest`` is
    the name of the mount. The guest does not reach the files ``own``. Long operations call
    ``check``, which raises an exception to end them. ``open_handles`` contains the open files and
    directories below the mount, ``recorded_sizes`` the sizes of open files by device and inode, as
    far as replayed calls tell them. An inode number may be given out again after the last of its
    files was closed.
    """

    def __init__(
        self,
        tape: Tape,
        path: str,
        *,
        writable: bool,
        is_read_only: bool = False,
        is_moved: bool,
        guest: str = "/",
        times: RecordedTimes = RecordedTimes(),  # noqa: B008 - an immutable value
        own: OwnFiles | None = None,
    ) -> None:
        self.tape = tape
        self.path = path
        self.guest = guest
        self._is_writable = writable
        self.is_read_only = is_read_only or not writable
        self.is_moved = is_moved
        self.times = times
        self.own = own or OwnFiles()
        self.check: Callable[[], None] = lambda: None
        self._root: int | None = None
        self._is_other_root: bool | None = None
        self._found: dict[int, list[tuple[str, ...]]] = {}
        self.open_handles: weakref.WeakSet[HostHandle] = weakref.WeakSet()
        self.recorded_sizes: weakref.WeakValueDictionary[tuple[int, int], RecordedSize] = (
            weakref.WeakValueDictionary()
        )

    @property
    def root(self) -> int:
        """Return the descriptor of the mounted directory."""
        if self._root is None:
            self._root = self.open_root()
        return self._root

    def open_root(self) -> int:
        """Return a new descriptor of the mounted directory. The caller closes it.

        The path had no links when it was recorded, or when the user named it. A link there now was
        made later, perhaps by a guest, and raises ``HostMismatch``.
        """
        if not self.path:
            raise PermissionError(errno.EACCES, "the directory is not granted")
        top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_names(top, tuple(split_path(self.path)), os.O_PATH | os.O_DIRECTORY)
        except OSError:
            if os.path.realpath(self.path) == self.path:
                raise
            raise HostMismatch(
                f"{to_line(self.path)}, mounted as {to_line(self.guest)}, leads through a symbolic "
                "link now: name the directory of this mount, if it has moved"
            ) from None
        finally:
            os.close(top)

    @property
    def writable(self) -> bool:
        """Return whether calls that change the directory pass; a replay repeats recorded ones."""
        return self._is_writable if self.tape.replaying else not self.is_read_only

    @property
    def is_other_root(self) -> bool:
        """Return whether another directory than the recorded one is at the path.

        That directory was created after the start of the recording, or it is on another file
        system than its files were.
        """
        if self._is_other_root is None:
            self._is_other_root = is_born_after(self.root, self.times.started) or any(
                map(self._has_left_device, self.open_handles)
            )
        return self._is_other_root

    def _has_left_device(self, handle: "HostHandle") -> bool:
        """Return whether a file was on another file system than the root, and is on it now."""
        device = os.fstat(self.root).st_dev
        if handle.device in (None, device):
            return False
        status = stat_names(self.root, handle.names)
        return status is not None and status.st_dev == device

    def find_other_names(self, inode: int) -> list[tuple[str, ...]]:
        """Return the names below the root that lead to ``inode`` now."""
        if inode not in self._found:
            inodes = {handle.inode for handle in self.open_handles if handle.inode is not None}
            self._found = find_names(self.root, {inode, *inodes})
        return self._found[inode]

    def has_name(self, names: tuple[str, ...]) -> bool:
        """Return whether anything has this name below the root."""
        return stat_names(self.root, names) is not None

    def guest_path(self, names: tuple[str, ...]) -> str:
        """Return the path of a file in the guest, for messages."""
        return to_line("/".join((self.guest.rstrip("/"), *names)) or "/")

    def query_host(self, call: HostCall, fd: int, operation: Callable[[], bytes]) -> bytes:
        """Return the value of a host result; raise ``WasiError`` with its errno."""
        return unwrap_result(
            self.tape.request_host_result(call, fd, lambda: capture_result(operation))
        )

    def perform(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        action: Callable[[bool], HostReply],
        *,
        changes_host: bool = True,
    ) -> HostReply:
        """Perform an effect as ``Tape.perform`` does, but no change of a read-only directory.

        Such a change is recorded without a result if the directory was writable before a crash.
        """
        if changes_host and self.is_read_only:
            action = _refuse
        return self.tape.perform(tag, effect, call, fd, action, changes_host=changes_host)

    def update_names(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Update the names of all open handles below a renamed path."""
        if old != new:
            self.mark_removed(new)
        for handle in self.open_handles:
            handle.update_names(old, new)

    def mark_removed(self, names: tuple[str, ...]) -> None:
        """Note that the guest removed a name: an open file with this name has no name now."""
        for handle in self.open_handles:
            if handle.names == names:
                handle.is_removed = True

    def reopen_handles(self) -> None:
        """Open the host files of the guest after a replay, before they can be renamed or removed.

        A handle whose file no longer exists raises ``WasiError`` when it is used. Raises
        ``HostMismatch`` if the host refuses to open a file that exists. A closed directory has no
        files.
        """
        if not self.path:
            return
        for host_handle in list(self.open_handles):
            with suppress(WasiError):
                _ = host_handle.handle

    def close(self) -> None:
        """Close the root and all open handles below it."""
        for handle in list(self.open_handles):
            handle.close()
        if self._root is not None:
            os.close(self._root)
            self._root = None


def _refuse(again: bool) -> HostReply:
    return int(Errno.PERM), b""


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
        self.is_removed = False
        tree.open_handles.add(self)

    @property
    def handle(self) -> int:
        """Return the descriptor on the host, opened at the first use.

        Raises ``WasiError`` with ``STALE`` if the file no longer exists.
        """
        if self._node is None:
            return self._tree.root
        if self._handle is None:
            self._handle = self._reopen(self._node)
        return self._handle

    def _reopen(self, node: FileIdentity) -> int:
        """Open the file by its recorded names, or by another name that leads to it."""
        tree = self._tree
        path = tree.guest_path(node.names)
        flags = self._flags & ~os.O_ACCMODE if tree.is_read_only else self._flags
        try:
            is_moved = tree.is_moved or tree.is_other_root
        except OSError as error:
            raise refusal(path, error) from error
        for names in self._candidate_names(node, is_moved):
            found = node._replace(names=names)
            handle = reopen(tree.root, found, flags, is_moved=is_moved, times=tree.times, path=path)
            if handle is None:
                continue
            if self._is_own(handle, names):  # Only a forged journal names it.
                os.close(handle)
                continue
            self._node = found
            return handle
        raise WasiError(Errno.STALE)

    def _is_own(self, handle: int, names: tuple[str, ...]) -> bool:
        """Return whether the guest must not reach a file that was opened by its names."""
        own = self._tree.own
        try:
            with resolve_host_path(
                self._tree.root, "/".join(names) or ".", own, Access.FIND, follow=False
            ):
                return own.contains(os.fstat(handle))
        except WasiError:
            return True

    def _candidate_names(self, node: FileIdentity, is_moved: bool) -> Iterator[tuple[str, ...]]:
        if not self.is_removed:
            yield node.names
        if not is_moved:  # The inodes of a copy are others, so only its names lead to a file.
            yield from self._tree.find_other_names(node.inode)

    @property
    def device(self) -> int | None:
        """Return the recorded device, or None for the root of the mount."""
        return self._node.device if self._node else None

    @property
    def inode(self) -> int | None:
        """Return the recorded inode, or None for the root of the mount."""
        return self._node.inode if self._node else None

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
            self._tree.perform(tag, effect, call, fd, lambda again: capture_result(operation))
        )


class HostFile(HostHandle):
    """An open file of the host. Reads and writes take offsets; appending is not atomic."""

    _recorded_size: RecordedSize | None = None

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
        if self._tree.tape.replaying:
            self.recorded_size.extend(offset + int(count))
        return int(count)

    def identifies(self, other: "HostFile") -> bool:
        """Return whether both were the same file when they were opened."""
        return (self.device, self.inode) == (other.device, other.inode)

    @property
    def recorded_size(self) -> RecordedSize:
        """Return the size of this file according to the events before.

        All open files with one inode share it.
        """
        if self._recorded_size is None:
            assert self._node is not None, "a file has a name"
            key = self._node.device, self._node.inode
            self._recorded_size = self._tree.recorded_sizes.setdefault(key, RecordedSize())
        return self._recorded_size

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
        if self._tree.tape.replaying:
            self.recorded_size.set(size)

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Synchronize the file to disk on the host."""

        def operation() -> bytes:
            (os.fdatasync if data_only else os.fsync)(self.handle)
            return b""

        self._tree.query_host(HostCall.SYNC, fd, operation)
