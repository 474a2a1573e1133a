"""In-memory file system, recorded in the journal: a replay rebuilds the same files.

A change is checked, recorded on the tape, and then made with the time that the tape returns. So the
times of a node are those of the events that changed it, in every replay.
"""

from journal.engine.tape import Tape
from journal.engine.wasi.filesystem.interfaces import (
    WRITE_SIZE_MAX,
    GuestDirectory,
    OpenRequest,
    RequestedTimes,
    pack_create_directory,
    pack_link,
    pack_path_times,
    pack_remove_directory,
    pack_rename,
    pack_set_size,
    pack_set_times,
    pack_symlink,
    pack_unlink,
    pack_write,
)
from journal.engine.wasi.filesystem.memory_nodes import (
    DirectoryNode,
    FileNode,
    LinkNode,
    Node,
    NodeWalker,
    lookup,
)
from journal.engine.wasi.filesystem.path_resolution import PathLocation, resolve
from journal.events import descriptors, paths
from journal.wasi_abi import (
    SYMLINK_FOLLOW,
    DirectoryEntry,
    Errno,
    FileStat,
    OpenFlags,
    WasiError,
)

#: Bytes that a name and its node count towards the size limit of a mount, in addition to file data.
ENTRY_SIZE = 1024

#: An inode number has the sequence number of the creating event above these low bits, and an index
#: among the nodes of that event below.
INODE_SHIFT = 16

_WALKER = NodeWalker()
_WRITE = descriptors.FileDescriptorWrite.tag


class MemoryTree:
    """One mount: its root node, its size, its size limit and its inode numbers."""

    def __init__(self, tape: Tape, device: int, size_bytes_max: int) -> None:
        self.tape = tape
        self.device = device
        self.size_bytes = 0
        self.size_bytes_max = size_bytes_max
        self._last_creation = (0, 0)
        self.root = DirectoryNode(self.next_inode(0), device, links=2)

    def next_inode(self, seq: int) -> int:
        """Return a new inode number for a node that event ``seq`` creates.

        The number does not depend on other nodes, because compaction drops some of them.
        """
        last_seq, count = self._last_creation
        self._last_creation = seq, count + 1 if seq == last_seq else 1
        return seq << INODE_SHIFT | self._last_creation[1]

    def record(self, tag: int, payload: bytes) -> int:
        """Record an effect and return the time of the change in nanoseconds."""
        return self.tape.record_effect(tag, payload) * 1000

    def check_space(self, growth: int) -> None:
        """Raise ``WasiError`` with ``NOSPC`` if ``growth`` bytes exceed the size limit."""
        if self.size_bytes + growth > self.size_bytes_max:
            raise WasiError(Errno.NOSPC)

    def allocate(self, growth: int) -> None:
        """Add ``growth`` bytes to the used size; raise ``WasiError`` with ``NOSPC`` if full."""
        self.check_space(growth)
        self.size_bytes += growth

    def release(self, node: FileNode) -> None:
        """Free the data of a file that has neither a name nor an open descriptor."""
        if not node.links and not node.open_count:
            self.size_bytes -= len(node.data)
            node.data.clear()

    def remove_link(self, node: Node, now: int) -> None:
        """Decrement the link count of ``node`` after one of its names was removed."""
        node.links -= 1
        node.ctime = now
        if isinstance(node, DirectoryNode):
            node.links = 0


class MemoryFile:
    """An open in-memory file."""

    writable = True

    def __init__(self, tree: MemoryTree, node: FileNode) -> None:
        self._tree, self._node = tree, node
        node.open_count += 1

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""
        return self._node.stat()

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes at ``offset``."""
        return bytes(self._node.data[offset : offset + size])

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``; fill a gap before it with zeros."""
        size = len(data)
        if size > WRITE_SIZE_MAX:
            for start in range(0, size, WRITE_SIZE_MAX):
                self.write(fd, offset + start, data[start : start + WRITE_SIZE_MAX])
            return size
        if not size:
            return 0
        tree, node = self._tree, self._node
        content = node.data
        end = offset + size
        growth = end - len(content)
        if growth > 0:
            if tree.size_bytes + growth > tree.size_bytes_max:
                raise WasiError(Errno.NOSPC)
            tree.size_bytes += growth
        now = tree.tape.record_effect(_WRITE, pack_write(fd, offset, False, data)) * 1000
        if offset > len(content):
            content += bytes(offset - len(content))
        content[offset:end] = data
        node.mtime = node.ctime = now
        return size

    def size(self, fd: int) -> int:
        """Return the size in bytes."""
        return len(self._node.data)

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""
        tree, content = self._tree, self._node.data
        growth = size - len(content)
        tree.check_space(growth)
        now = tree.record(descriptors.FileDescriptorSetSize.tag, pack_set_size(fd, size))
        if growth > 0:
            content += bytes(growth)
        else:
            del content[size:]
        tree.size_bytes += growth
        self._node.touch(now)

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set the access and modification times."""
        _set_times(self._tree, self._node, fd, times)

    def sync(self, fd: int, *, data_only: bool) -> None:
        """Do nothing: the journal makes the file durable."""

    def close(self) -> None:
        """Close the file; free its data if this was the last descriptor of an unlinked file."""
        self._node.open_count -= 1
        self._tree.release(self._node)


def _set_times(tree: MemoryTree, node: Node, fd: int, times: RequestedTimes) -> None:
    effect = pack_set_times(fd, *times)
    now = tree.record(descriptors.FileDescriptorSetTimes.tag, effect)
    node.atime, node.mtime = times.resolve(now, node.stat())
    node.ctime = now


class MemoryDirectory:
    """An open in-memory directory."""

    writable = True

    def __init__(self, tree: MemoryTree, node: DirectoryNode) -> None:
        self._tree, self._node = tree, node

    def stat(self, fd: int) -> FileStat:
        """Return the attributes."""
        return self._node.stat()

    def set_times(self, fd: int, times: RequestedTimes) -> None:
        """Set the access and modification times."""
        _set_times(self._tree, self._node, fd, times)

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """Return the entries, sorted by name."""
        nodes = self._node.entries
        return [
            DirectoryEntry(name, nodes[name].inode, nodes[name].filetype) for name in sorted(nodes)
        ]

    def open(self, request: OpenRequest) -> "MemoryFile | MemoryDirectory":
        """Open the file or the directory at a path; create the file if the flags request it."""
        flags = request.flags
        exclusive = bool(flags & OpenFlags.CREATE and flags & OpenFlags.EXCLUSIVE)
        follow = bool(request.lookup & SYMLINK_FOLLOW) and not exclusive
        location = resolve(self._node, request.path, _WALKER, follow=follow)
        node = _find_node(location)
        if flags & OpenFlags.CREATE and location.must_be_directory and location.name != ".":
            raise WasiError(Errno.ISDIR)
        if node is None:
            return self._open_new(request, location)
        if exclusive:
            raise WasiError(Errno.EXIST)
        if isinstance(node, LinkNode):
            raise WasiError(Errno.LOOP)
        if isinstance(node, DirectoryNode):
            if request.is_writable:
                raise WasiError(Errno.ISDIR)
            self._tree.record(descriptors.OpenFileDescriptor.tag, request.effect)
            return MemoryDirectory(self._tree, node)
        assert isinstance(node, FileNode)
        if location.must_be_directory or flags & OpenFlags.DIRECTORY:
            raise WasiError(Errno.NOTDIR)
        now = self._tree.record(descriptors.OpenFileDescriptor.tag, request.effect)
        if flags & OpenFlags.TRUNCATE:
            self._tree.size_bytes -= len(node.data)
            node.data.clear()
            node.touch(now)
        return MemoryFile(self._tree, node)

    def _open_new(
        self, request: OpenRequest, location: PathLocation[DirectoryNode]
    ) -> "MemoryFile":
        if not request.flags & OpenFlags.CREATE:
            raise WasiError(Errno.NOENT)
        _check_linked(location.parent)
        self._tree.check_space(ENTRY_SIZE)
        now = self._tree.record(descriptors.OpenFileDescriptor.tag, request.effect)
        node = FileNode(self._tree.next_inode(self._tree.tape.last_effect_seq), self._tree.device)
        self._add(location, node, now)
        node.atime = node.mtime = now
        return MemoryFile(self._tree, node)

    def create_directory(self, fd: int, path: str) -> None:
        """Create a directory."""
        location = resolve(self._node, path, _WALKER, follow=False)
        _check_free(location)
        self._tree.check_space(ENTRY_SIZE)
        effect = pack_create_directory(fd, path)
        now = self._tree.record(paths.CreateDirectory.tag, effect)
        node = DirectoryNode(
            self._tree.next_inode(self._tree.tape.last_effect_seq), self._tree.device, links=1
        )
        node.parent = location.parent
        location.parent.links += 1
        self._add(location, node, now)
        node.atime = node.mtime = now

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""
        location = resolve(self._node, path, _WALKER, follow=False)
        node = _find_existing(location)
        if not isinstance(node, DirectoryNode):
            raise WasiError(Errno.NOTDIR)
        if location.must_be_directory:
            raise WasiError(Errno.INVAL)  # wasmtime refuses a trailing slash, too.
        if node.entries:
            raise WasiError(Errno.NOTEMPTY)
        now = self._tree.record(paths.RemoveDirectory.tag, pack_remove_directory(fd, path))
        self._drop(location, now)

    def unlink(self, fd: int, path: str) -> None:
        """Unlink a file or a symbolic link."""
        location = resolve(self._node, path, _WALKER, follow=False)
        node = _find_existing(location)
        if isinstance(node, DirectoryNode):
            raise WasiError(Errno.ISDIR)
        if location.must_be_directory:
            raise WasiError(Errno.NOTDIR)
        now = self._tree.record(paths.UnlinkFile.tag, pack_unlink(fd, path))
        self._drop(location, now)

    def read_link(self, fd: int, path: str) -> str:
        """Return the target of a symbolic link."""
        node = _find_existing(resolve(self._node, path, _WALKER, follow=False))
        if not isinstance(node, LinkNode):
            raise WasiError(Errno.INVAL)
        return node.target

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Return the attributes of the file at a path."""
        return _find_existing(resolve(self._node, path, _WALKER, follow=follow)).stat()

    def set_times_at(self, fd: int, path: str, lookup: int, times: RequestedTimes) -> None:
        """Set the access and modification times of the file at a path."""
        follow = bool(lookup & SYMLINK_FOLLOW)
        node = _find_existing(resolve(self._node, path, _WALKER, follow=follow))
        effect = pack_path_times(fd, lookup, *times, path)
        now = self._tree.record(paths.PathSetTimes.tag, effect)
        node.atime, node.mtime = times.resolve(now, node.stat())
        node.ctime = now

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Create a symbolic link to ``target``."""
        location = resolve(self._node, path, _WALKER, follow=False)
        _check_free(location)
        if location.must_be_directory:
            raise WasiError(Errno.NOENT)
        self._tree.check_space(ENTRY_SIZE)
        now = self._tree.record(paths.CreateSymbolicLink.tag, pack_symlink(fd, target, path))
        node = LinkNode(
            self._tree.next_inode(self._tree.tape.last_effect_seq), self._tree.device, target=target
        )
        self._add(location, node, now)
        node.atime = node.mtime = now

    def rename(self, fd: int, path: str, to: GuestDirectory, to_fd: int, to_path: str) -> None:
        """Rename a file or a directory, replacing an existing file at the new path."""
        source, target = self._resolve_both(path, to, to_path, follow=False)
        if "." in (source.name, target.name):
            raise WasiError(Errno.BUSY)
        node, replaced = _find_existing(source), _find_node(target)
        _check_rename(source, target, node, replaced)
        effect = pack_rename(fd, to_fd, path, to_path)
        now = self._tree.record(paths.PathRename.tag, effect)
        if node is replaced:
            return
        if replaced is not None:
            self._drop(target, now)
        del source.parent.entries[source.name]
        source.parent.touch(now)
        target.parent.entries[target.name] = node
        target.parent.touch(now)
        node.ctime = now
        if isinstance(node, DirectoryNode):
            source.parent.links -= 1
            target.parent.links += 1
            node.parent = target.parent

    def link(
        self, fd: int, lookup: int, path: str, to: GuestDirectory, to_fd: int, to_path: str
    ) -> None:
        """Create a hard link."""
        if lookup & SYMLINK_FOLLOW:
            raise WasiError(Errno.INVAL)
        source, target = self._resolve_both(path, to, to_path, follow=False)
        node = _find_existing(source)
        if source.must_be_directory and not isinstance(node, DirectoryNode):
            raise WasiError(Errno.NOTDIR)
        _check_free(target)
        if target.must_be_directory:
            raise WasiError(Errno.NOENT)
        if isinstance(node, DirectoryNode):
            raise WasiError(Errno.PERM)
        self._tree.check_space(ENTRY_SIZE)
        effect = pack_link(fd, lookup, to_fd, path, to_path)
        now = self._tree.record(paths.CreateHardLink.tag, effect)
        self._add(target, node, now)

    def close(self) -> None:
        """Do nothing: an open directory holds no resources."""

    def _resolve_both(
        self, path: str, to: GuestDirectory, to_path: str, *, follow: bool
    ) -> tuple[PathLocation[DirectoryNode], PathLocation[DirectoryNode]]:
        if not isinstance(to, MemoryDirectory) or to._tree is not self._tree:
            raise WasiError(Errno.XDEV)
        source = resolve(self._node, path, _WALKER, follow=follow)
        return source, resolve(to._node, to_path, _WALKER, follow=False)

    def _add(self, location: PathLocation[DirectoryNode], node: Node, now: int) -> None:
        self._tree.allocate(ENTRY_SIZE)
        location.parent.entries[location.name] = node
        location.parent.touch(now)
        node.links += 1
        node.ctime = now

    def _drop(self, location: PathLocation[DirectoryNode], now: int) -> None:
        node = location.parent.entries.pop(location.name)
        location.parent.touch(now)
        self._tree.remove_link(node, now)
        self._tree.size_bytes -= ENTRY_SIZE
        if isinstance(node, DirectoryNode):
            location.parent.links -= 1
        elif isinstance(node, FileNode):
            self._tree.release(node)


def _find_node(location: PathLocation[DirectoryNode]) -> Node | None:
    if location.name == ".":
        return location.parent
    return lookup(location.parent, location.name)


def _find_existing(location: PathLocation[DirectoryNode]) -> Node:
    node = _find_node(location)
    if node is None:
        raise WasiError(Errno.NOENT)
    if location.must_be_directory and not isinstance(node, (DirectoryNode, LinkNode)):
        raise WasiError(Errno.NOTDIR)
    return node


def _check_free(location: PathLocation[DirectoryNode]) -> None:
    if _find_node(location) is not None:
        raise WasiError(Errno.EXIST)
    _check_linked(location.parent)


def _check_linked(directory: DirectoryNode) -> None:
    if not directory.links:
        raise WasiError(Errno.NOENT)


def _check_rename(
    source: PathLocation[DirectoryNode],
    target: PathLocation[DirectoryNode],
    node: Node,
    replaced: Node | None,
) -> None:
    _check_linked(target.parent)
    if isinstance(replaced, DirectoryNode) and source.parent.is_inside(replaced):
        raise WasiError(Errno.NOTEMPTY)
    if isinstance(node, DirectoryNode):
        if target.parent.is_inside(node):
            raise WasiError(Errno.INVAL)
        if replaced is not None and not isinstance(replaced, DirectoryNode):
            raise WasiError(Errno.NOTDIR)
        if isinstance(replaced, DirectoryNode) and replaced.entries and replaced is not node:
            raise WasiError(Errno.NOTEMPTY)
        return
    if source.must_be_directory or target.must_be_directory:
        raise WasiError(Errno.NOTDIR)
    if isinstance(replaced, DirectoryNode):
        raise WasiError(Errno.ISDIR)
