"""Provenance of a memory mount's files, without their bytes: owners of names, bytes and times."""

from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.interval_map import IntervalMap
from journal.events.paths import TimeFlags
from journal.vfs.effects import EffectRecorder
from journal.vfs.memory_backend import ENTRY_SIZE, MemoryBackend, MemoryFile
from journal.vfs.nodes import DirectoryNode, FileNode, LinkNode, Node
from journal.vfs.times import TimeUpdate

_ATIME = TimeFlags.ATIME | TimeFlags.ATIME_NOW
_MTIME = TimeFlags.MTIME | TimeFlags.MTIME_NOW


class TimeOwners:
    """Owners of a node's times."""

    __slots__ = ("atime", "ctime", "mtime")

    def __init__(self, created: int = BEFORE_JOURNAL) -> None:
        self.atime = self.mtime = self.ctime = created

    def set_modified(self, seq: int) -> None:
        """Record that the contents changed."""
        self.mtime = self.ctime = seq

    def set_created(self, seq: int) -> None:
        """Record the creation."""
        self.atime = self.mtime = self.ctime = seq


class ProvenanceFileNode(FileNode):
    """File; ``size_owner`` is the owner of ``size``, ``intervals`` has the owners of its bytes."""

    __slots__ = ("intervals", "owners", "size", "size_owner")

    def __init__(
        self, inode: int, links: int = 0, time: int = 0, owner: int = BEFORE_JOURNAL
    ) -> None:
        super().__init__(inode, links, time)
        self.owners = TimeOwners(owner)
        self.intervals = IntervalMap()
        self.size = 0
        self.size_owner = BEFORE_JOURNAL


class ProvenanceLinkNode(LinkNode):
    """Symbolic link."""

    __slots__ = ("owners",)

    def __init__(self, inode: int, target: str) -> None:
        super().__init__(inode, target)
        self.owners = TimeOwners()


class ProvenanceDirectoryNode(DirectoryNode):
    """Directory. ``name_owners`` has the owner of each of its names."""

    __slots__ = ("name_owners", "owners")

    def __init__(self, inode: int, links: int, parent: DirectoryNode | None = None) -> None:
        super().__init__(inode, links, parent)
        self.owners = TimeOwners()
        self.name_owners: dict[str, int] = {}


def get_time_owners(node: Node) -> TimeOwners:
    """Return the owners of a node's times."""
    assert isinstance(node, ProvenanceFileNode | ProvenanceLinkNode | ProvenanceDirectoryNode)
    return node.owners


def iterate_owners(node: Node) -> Iterator[int]:
    """Yield all owners of a node."""
    owners = get_time_owners(node)
    yield owners.atime
    yield owners.mtime
    yield owners.ctime
    if isinstance(node, ProvenanceFileNode):
        yield node.size_owner
        yield from node.intervals.owners()
    elif isinstance(node, ProvenanceDirectoryNode):
        yield from node.name_owners.values()


class ProvenanceBackend(MemoryBackend):
    """Backend for the files of one mount, without their bytes. ``peak`` is the most bytes used.

    A look-up of a name depends on the owner of the name, and a removal ends what that owner began.
    """

    def __init__(self, size_max: int, recorder: EffectRecorder, graph: DependencyGraph) -> None:
        super().__init__(size_max, recorder)
        self._root = ProvenanceDirectoryNode(self._root.inode, links=2)
        self.peak = 0
        self.graph = graph
        self._is_renaming = False

    def root(self) -> ProvenanceDirectoryNode:
        """Return the mount's root directory."""
        root = self._root
        assert isinstance(root, ProvenanceDirectoryNode)
        return root

    def nodes(self) -> Iterator[Node]:
        """Yield the root, and the node of each name; a node with several names is repeated."""
        pending: list[Node] = [self._root]
        while pending:
            node = pending.pop()
            yield node
            if isinstance(node, DirectoryNode):
                pending += node.entries.values()

    # -- look-ups --------------------------------------------------------------------------------

    def _add_name_dependency(self, at: DirectoryNode, name: str) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        self.graph.add_dependency(at.name_owners.get(name, BEFORE_JOURNAL))

    def find(self, at: DirectoryNode, name: str) -> Node | None:
        """Return the node ``name``, or None."""
        self._add_name_dependency(at, name)
        return super().find(at, name)

    def link_target(self, at: DirectoryNode, name: str) -> str | None:
        """Return the target of ``name``, or None if it is not a link."""
        self._add_name_dependency(at, name)
        return super().link_target(at, name)

    def enter(self, at: DirectoryNode, name: str) -> DirectoryNode:
        """Return the directory ``name``."""
        self._add_name_dependency(at, name)
        return super().enter(at, name)

    def open_file(self, at: DirectoryNode, name: str) -> "ProvenanceFile":
        """Open an existing regular file."""
        node = at.entries[name]
        assert isinstance(node, ProvenanceFileNode)
        return ProvenanceFile(self, node)

    # -- changes ---------------------------------------------------------------------------------

    def make_file(self, at: DirectoryNode, name: str, now: int) -> "ProvenanceFile":
        """Create and open a regular file. This inlines ``_make``, because the event is frequent."""
        assert isinstance(at, ProvenanceDirectoryNode)
        seq = self.graph.seq
        node = ProvenanceFileNode(self._next_inode(), 1, now, seq)
        self.reserve(ENTRY_SIZE)
        at.entries[name], at.name_owners[name] = node, seq
        at.touch(now)
        at.owners.set_modified(seq)
        return ProvenanceFile(self, node)

    def make_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Create a directory."""
        self._make(at, name, ProvenanceDirectoryNode(self._next_inode(), links=1, parent=at), now)
        at.links += 1

    def make_symlink(self, at: DirectoryNode, name: str, target: str, now: int) -> None:
        """Create a symbolic link."""
        self._make(at, name, ProvenanceLinkNode(self._next_inode(), target), now)

    def unlink(self, at: DirectoryNode, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        node = at.entries[name]
        is_retained = node.links > 1 or (isinstance(node, FileNode) and bool(node.open_count))
        super().unlink(at, name, now)
        self._record_removal(at, name, node, depends=is_retained or not self._is_renaming)

    def remove_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        node = at.entries[name]
        super().remove_directory(at, name, now)
        self._record_removal(at, name, node, depends=not self._is_renaming)

    def rename(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Rename a node, and replace the node at the new name.

        The event does not depend on the old node, which may be absent in the compacted
        journal.
        """
        node = at.entries.get(name)
        is_other = node is not to.entries.get(to_name)
        self._is_renaming = True
        try:
            super().rename(at, name, to, to_name, now)
        finally:
            self._is_renaming = False
        if node is not None and is_other:
            self._record_removal(at, name, node, depends=True)
            self._record_name(to, to_name, node)

    def set_times(self, at: DirectoryNode, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of a node."""
        super().set_times(at, name, times, now)
        self.record_times(at if name == "." else at.entries[name], times)

    def reserve(self, growth: int) -> None:
        """Count ``growth`` more bytes as used."""
        super().reserve(growth)
        if self.size > self.peak:
            self.peak = self.size

    def release(self, node: FileNode) -> None:
        """Count the bytes of a file as free if neither a name nor a descriptor refers to it."""
        assert isinstance(node, ProvenanceFileNode)
        if not node.links and not node.open_count:
            self.size -= node.size
            node.size = 0

    def record_times(self, node: Node, times: TimeUpdate) -> None:
        """Record that the current event set times of a node."""
        owners, seq = get_time_owners(node), self.graph.seq
        if times.flags & _ATIME:
            owners.atime = seq
        if times.flags & _MTIME:
            owners.mtime = seq
        owners.ctime = seq

    def reset_peak(self) -> None:
        """Set the peak to the current use."""
        self.peak = self.size

    def _next_inode(self) -> int:
        return self._inode_of(self.graph.seq)

    def _make(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        super()._make(at, name, node, now)
        get_time_owners(node).set_created(self.graph.seq)

    def _add(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        super()._add(at, name, node, now)
        self._record_name(at, name, node)

    def _record_name(self, at: DirectoryNode, name: str, node: Node) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        at.name_owners[name] = self.graph.seq
        at.owners.set_modified(self.graph.seq)
        get_time_owners(node).ctime = self.graph.seq

    def _record_removal(self, at: DirectoryNode, name: str, node: Node, *, depends: bool) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        owner = at.name_owners.pop(name)
        if depends:
            self.graph.add_dependency(owner)
        self.graph.add_reverse_dependency(owner)
        at.owners.set_modified(self.graph.seq)
        get_time_owners(node).ctime = self.graph.seq


class ProvenanceFile(MemoryFile):
    """Open file without its bytes."""

    def __init__(self, backend: ProvenanceBackend, node: ProvenanceFileNode) -> None:
        super().__init__(backend, node)
        self.backend, self.node = backend, node

    def size(self, fd: int) -> int:
        """Return the size in bytes."""
        return self.node.size

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Record the owner of the bytes, of the size and of the times."""
        self.put(offset, len(data), self.backend.recorder.record_write(fd, offset, data))
        return len(data)

    def append(self, data: bytes) -> None:
        """Record the owner of the bytes and of the size."""
        self.put(self.node.size, len(data), None)

    def put(self, offset: int, size: int, now: int | None) -> None:
        """Record a write of ``size`` bytes. The times do not change if ``now`` is None."""
        node, seq, end = self.node, self.backend.graph.seq, offset + size
        if size:
            if end >= node.size:
                self.backend.reserve(end - node.size)
                node.size, node.size_owner = end, seq
            node.intervals.put(offset, end, seq)
        if now is not None:
            node.touch(now)
            node.owners.set_modified(seq)

    def resize(self, size: int, now: int) -> None:
        """Truncate the file, or extend it with zeros."""
        self.backend.reserve(size - self.node.size)
        self.node.intervals.truncate(size, self.backend.graph.seq)
        self._resize(size, now)

    def extend(self, size: int, now: int) -> None:
        """Extend the file with zeros, which the last truncation still owns.

        Without that truncation, a replay of this event would not clear old bytes.
        """
        self.backend.reserve(size - self.node.size)
        self._resize(size, now)

    def _resize(self, size: int, now: int) -> None:
        node, seq = self.node, self.backend.graph.seq
        node.size, node.size_owner = size, seq
        node.touch(now)
        node.owners.set_modified(seq)

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the times."""
        super().set_times(fd, times)
        self.backend.record_times(self.node, times)
