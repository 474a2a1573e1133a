"""Backend of files in memory, with the times, link counts and inode numbers that a guest sees."""

from journal.events.descriptors import FileDescriptorSetSize, FileDescriptorSetTimes
from journal.vfs.effects import EffectRecorder
from journal.vfs.errors import FileError
from journal.vfs.nodes import DirectoryNode, FileNode, LinkNode, Node
from journal.vfs.path_resolution import NAME_LENGTH_SAFE, PathLocation, check_name
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import DirectoryEntry, Errno, FileStat

ENTRY_SIZE = 1024
"""Bytes that a name and its node count towards the size limit of a mount, besides file data."""

WRITE_SIZE_MAX = 1 << 20
"""Largest write of one event, in bytes. A longer write of the guest becomes several events."""

_INODE_SHIFT = 16
"""An inode number has the sequence number of the creating event above these low bits, and an index
among the nodes of that event below.
"""


class MemoryBackend:
    """Backend of the files of one mount in memory, with at most ``size_max`` bytes.

    ``device`` is the device number that the guest sees.
    """

    def __init__(self, size_max: int, recorder: EffectRecorder, device: int = 0) -> None:
        self.size = 0
        self.size_max = size_max
        self.recorder = recorder
        self.device = device
        self._last_creation = (0, 0)
        self._root = DirectoryNode(self._inode_of(0), links=2)

    def root(self) -> DirectoryNode:
        """Return the root directory of the mount."""
        return self._root

    def close(self) -> None:
        """Do nothing: no resource is open."""

    # -- queries ---------------------------------------------------------------------------------

    def find(self, at: DirectoryNode, name: str) -> Node | None:
        """Return the node ``name``, None if it does not exist."""
        if len(name) > NAME_LENGTH_SAFE:
            check_name(name)
        return at if name == "." else at.entries.get(name)

    def link_target(self, at: DirectoryNode, name: str) -> str | None:
        """Return the target of the link ``name``, or None if ``name`` is not a link."""
        if len(name) > NAME_LENGTH_SAFE:
            check_name(name)
        node = at.entries.get(name)
        return node.target if isinstance(node, LinkNode) else None

    def enter(self, at: DirectoryNode, name: str) -> DirectoryNode:
        """Return the directory ``name``."""
        node = self.find(at, name)
        if node is None:
            raise FileError(Errno.NOENT, "{} does not exist", name)
        if not isinstance(node, DirectoryNode):
            raise FileError(Errno.NOTDIR, "{} is not a directory", name)
        return node

    def leave(self, at: DirectoryNode) -> None:
        """Do nothing: no resource is open."""

    def open_file(self, at: DirectoryNode, name: str) -> "MemoryFile":
        """Open an existing regular file."""
        node = at.entries.get(name)
        if not isinstance(node, FileNode):
            raise FileError(Errno.INVAL, "{} is not a file", name)
        return self._open(node)

    def list_directory(self, at: DirectoryNode) -> list[DirectoryEntry]:
        """Return the entries of a directory, sorted by name."""
        nodes = at.entries
        return [
            DirectoryEntry(name, nodes[name].inode, nodes[name].filetype) for name in sorted(nodes)
        ]

    # -- checks before a change ------------------------------------------------------------------

    def check_space(self, names: int, size: int) -> None:
        """Raise ``FileError`` with ``NOSPC`` if new names and bytes exceed the size limit."""
        total = self.size + names * ENTRY_SIZE + size
        if total > self.size_max:
            raise FileError(
                Errno.NOSPC,
                "the files would have {} bytes, but the limit is {}",
                total,
                self.size_max,
            )

    def check_can_create(self, at: DirectoryNode, name: str) -> None:
        """Raise ``FileError`` with ``NOENT`` if the directory ``at`` was removed."""
        if not at.links:
            raise FileError(Errno.NOENT, "cannot create {}: its directory was removed", name)

    def check_empty(self, at: DirectoryNode, name: str) -> None:
        """Raise ``FileError`` with ``NOTEMPTY`` if the directory ``name`` has entries."""
        node = at.entries[name]
        if isinstance(node, DirectoryNode) and node.entries:
            raise FileError(Errno.NOTEMPTY, "the directory {} is not empty", name)

    def check_rename(
        self,
        source: PathLocation[DirectoryNode],
        target: PathLocation[DirectoryNode],
        node: Node,
    ) -> None:
        """Raise ``FileError`` unless ``node`` at ``source`` can be renamed to ``target``."""
        check_name(target.name)
        replaced = target.parent.entries.get(target.name)
        self.check_can_create(target.parent, target.name)
        if isinstance(replaced, DirectoryNode) and source.parent.is_inside(replaced):
            raise FileError(Errno.NOTEMPTY, "the directory {} is not empty", target.name)
        if isinstance(node, DirectoryNode):
            if target.parent.is_inside(node):
                raise FileError(Errno.INVAL, "a directory cannot be renamed into itself")
            if replaced is not None and not isinstance(replaced, DirectoryNode):
                raise FileError(Errno.NOTDIR, "{} is not a directory", target.name)
            if replaced is not None and replaced is not node:
                self.check_empty(target.parent, target.name)
        elif source.must_be_directory or target.must_be_directory:
            raise FileError(
                Errno.NOTDIR, "{} is a file, but its path names a directory", target.name
            )
        elif isinstance(replaced, DirectoryNode):
            raise FileError(Errno.ISDIR, "{} is a directory", target.name)

    # -- changes ---------------------------------------------------------------------------------

    def make_file(self, at: DirectoryNode, name: str, now: int) -> "MemoryFile":
        """Create and open a regular file."""
        node = FileNode(self._next_inode())
        self._make(at, name, node, now)
        return self._open(node)

    def make_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Create a directory."""
        self._make(at, name, DirectoryNode(self._next_inode(), links=1, parent=at), now)
        at.links += 1

    def make_symlink(self, at: DirectoryNode, name: str, target: str, now: int) -> None:
        """Create a symbolic link."""
        self._make(at, name, LinkNode(self._next_inode(), target), now)

    def make_hard_link(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Create a hard link to a file that is not a directory."""
        self._add(to, to_name, at.entries[name], now)

    def unlink(self, at: DirectoryNode, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        node = at.entries.pop(name)
        at.touch(now)
        node.links -= 1
        node.ctime = now
        self.size -= ENTRY_SIZE
        if isinstance(node, FileNode):
            self.release(node)

    def remove_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        node = at.entries.pop(name)
        at.touch(now)
        at.links -= 1
        node.links = 0
        node.ctime = now
        self.size -= ENTRY_SIZE

    def rename(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""
        node, replaced = at.entries[name], to.entries.get(to_name)
        if node is replaced:
            return
        if isinstance(replaced, DirectoryNode):
            self.remove_directory(to, to_name, now)
        elif replaced is not None:
            self.unlink(to, to_name, now)
        del at.entries[name]
        at.touch(now)
        to.entries[to_name] = node
        to.touch(now)
        node.ctime = now
        if isinstance(node, DirectoryNode):
            at.links -= 1
            to.links += 1
            node.parent = to

    def set_times(self, at: DirectoryNode, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name``."""
        set_times(at if name == "." else at.entries[name], times, now)

    def reserve(self, growth: int) -> None:
        """Add ``growth`` to the used bytes; raise ``FileError`` with ``NOSPC`` above the limit."""
        if growth > 0:
            self.check_space(0, growth)
        self.size += growth

    def release(self, node: FileNode) -> None:
        """Free the bytes of a file that has neither a name nor an open descriptor."""
        if not node.links and not node.open_count:
            self.size -= len(node.data)
            node.data.clear()

    def _open(self, node: FileNode) -> "MemoryFile":
        return MemoryFile(self, node)

    def _make(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        self._add(at, name, node, now)
        node.atime = node.mtime = now

    def _add(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        self.reserve(ENTRY_SIZE)
        at.entries[name] = node
        at.touch(now)
        node.links += 1
        node.ctime = now

    def _next_inode(self) -> int:
        return self._inode_of(self.recorder.seq)

    def _inode_of(self, seq: int) -> int:
        """Return a new inode number for a node that event ``seq`` creates.

        The number does not depend on other nodes, because compaction drops some of them.
        """
        last_seq, count = self._last_creation
        self._last_creation = seq, count + 1 if seq == last_seq else 1
        return seq << _INODE_SHIFT | self._last_creation[1]


class MemoryFile:
    """An open file in memory. The descriptor ``fd`` of a call is part of the recorded effect."""

    def __init__(self, backend: MemoryBackend, node: FileNode) -> None:
        self._backend, self._node = backend, node
        node.open_count += 1

    @property
    def inode(self) -> int:
        """Inode number of the file."""
        return self._node.inode

    @property
    def writable(self) -> bool:
        """Return True: each mount in memory is writable."""
        return True

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""
        return self._node.stat(self._backend.device)

    def size(self, fd: int) -> int:
        """Return the size in bytes."""
        return len(self._node.data)

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes at ``offset``; empty at the end of the file."""
        return bytes(self._node.data[offset : offset + size])

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``, with zeros in a gap, and return the count of bytes."""
        size = len(data)
        if not 0 < size <= WRITE_SIZE_MAX:
            for start in range(0, size, WRITE_SIZE_MAX):
                self.write(fd, offset + start, data[start : start + WRITE_SIZE_MAX])
            return size
        backend, node = self._backend, self._node
        content = node.data
        end, size_before = offset + size, len(content)
        if end > size_before:  # This inlines `reserve`, because the call is frequent.
            used = backend.size + end - size_before
            if used > backend.size_max:
                backend.check_space(0, end - size_before)
            backend.size = used
        now = backend.recorder.record_write(fd, offset, data)
        if offset > size_before:
            content += bytes(offset - size_before)
        content[offset:end] = data
        node.mtime = node.ctime = now
        return size

    def append(self, data: bytes) -> None:
        """Append a part of a file that is put in place before the guest starts."""
        self._backend.reserve(len(data))
        self._node.data += data

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""
        self._backend.check_space(0, max(size - self.size(fd), 0))
        self.resize(size, self._backend.recorder.record(FileDescriptorSetSize, fd, size))

    def resize(self, size: int, now: int) -> None:
        """Change the size at the time ``now``, as part of an effect that is already recorded."""
        content = self._node.data
        growth = size - len(content)
        self._backend.reserve(growth)
        if growth > 0:
            content += bytes(growth)
        else:
            del content[size:]
        self._node.touch(now)

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""
        self.resize(size, now)

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the access and modification times."""
        now = self._backend.recorder.record(FileDescriptorSetTimes, fd, *times)
        set_times(self._node, times, now)

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Do nothing: the journal makes the file durable."""

    def close(self) -> None:
        """Close the file. Its bytes are freed with the last descriptor if it has no name."""
        self._node.open_count -= 1
        self._backend.release(self._node)


def set_times(node: Node, times: TimeUpdate, now: int) -> None:
    """Set the times of a node."""
    node.atime, node.mtime = times.resolve(now, node.atime, node.mtime)
    node.ctime = now
