"""The files of a mount in memory without their bytes: whose event each name, byte and time is."""

from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.interval_map import IntervalMap
from journal.compaction.liveness.write_batch import WriteBatch
from journal.events.paths import FileType, TimeFlags
from journal.replay.filesystem.directory_ops import TimeUpdate
from journal.replay.filesystem.memory_backend import (
    MemoryBackend,
    ReplayDirectoryNode,
    ReplayFileNode,
    ReplayLinkNode,
    ReplayMemoryFile,
    ReplayNode,
)
from journal.replay.limits import ENTRY_SIZE

_ATIME = TimeFlags.ATIME | TimeFlags.ATIME_NOW
_MTIME = TimeFlags.MTIME | TimeFlags.MTIME_NOW


class TimeOwners:
    """The events that set a node's times."""

    __slots__ = ("atime", "ctime", "mtime")

    def __init__(self, created: int = BEFORE_JOURNAL) -> None:
        self.atime = self.mtime = self.ctime = created

    def set_changed(self, seq: int) -> None:
        """Its contents changed."""
        self.mtime = self.ctime = seq

    def set_created(self, seq: int) -> None:
        """It was made."""
        self.atime = self.mtime = self.ctime = seq


class ProvenanceFileNode(ReplayFileNode):
    """A file; ``size`` is set by ``size_owner``."""

    __slots__ = ("intervals", "owners", "size", "size_owner")

    def __init__(
        self, inode: int, links: int = 0, made: int = 0, owner: int = BEFORE_JOURNAL
    ) -> None:
        super().__init__(inode, links, made)
        self.owners = TimeOwners(owner)
        self.intervals = IntervalMap()
        self.size = 0
        self.size_owner = BEFORE_JOURNAL


class ProvenanceLinkNode(ReplayLinkNode):
    """A symbolic link."""

    __slots__ = ("owners",)

    def __init__(self, inode: int, target: str) -> None:
        super().__init__(inode, target)
        self.owners = TimeOwners()


class ProvenanceDirectoryNode(ReplayDirectoryNode):
    """A directory; ``name_owners`` has who gave each of its name_owners to what has it."""

    __slots__ = ("name_owners", "owners")

    def __init__(self, inode: int, links: int, parent: ReplayDirectoryNode | None = None) -> None:
        super().__init__(inode, links, parent)
        self.owners = TimeOwners()
        self.name_owners: dict[str, int] = {}


def get_time_owners(node: ReplayNode) -> TimeOwners:
    """The events that set a node's times."""
    assert isinstance(node, ProvenanceFileNode | ProvenanceLinkNode | ProvenanceDirectoryNode)
    return node.owners


def iterate_owners(node: ReplayNode) -> Iterator[int]:
    """Give the owners of all that a node has."""
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
    """Keeps the files of one mount without their bytes. ``peak`` is the most room they ever took.

    Whatever looks at a name needs who gave it; whatever takes it away ends what that one began.
    """

    def __init__(self, size_max: int, graph: DependencyGraph) -> None:
        super().__init__(size_max, lambda: graph.seq)
        self._root = ProvenanceDirectoryNode(self._root.inode, links=2)
        self.peak = 0
        self.graph = graph
        self._is_renaming = False

    def root(self) -> ProvenanceDirectoryNode:
        """The mount's own directory."""
        root = self._root
        assert isinstance(root, ProvenanceDirectoryNode)
        return root

    def nodes(self) -> Iterator[ReplayNode]:
        """Give all that has a name, and the root; what has several comes several times."""
        pending: list[ReplayNode] = [self._root]
        while pending:
            node = pending.pop()
            yield node
            if isinstance(node, ReplayDirectoryNode):
                pending += node.entries.values()

    # -- looking ---------------------------------------------------------------------------------

    def _add_name_dependency(self, at: ReplayDirectoryNode, name: str) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        self.graph.add_dependency(at.name_owners.get(name, BEFORE_JOURNAL))

    def kind(self, at: ReplayDirectoryNode, name: str) -> FileType | None:
        """What ``name`` is."""
        self._add_name_dependency(at, name)
        return super().kind(at, name)

    def link_target(self, at: ReplayDirectoryNode, name: str) -> str | None:
        """What the link ``name`` says, if it is one."""
        self._add_name_dependency(at, name)
        return super().link_target(at, name)

    def enter(self, at: ReplayDirectoryNode, name: str) -> ReplayDirectoryNode:
        """The directory ``name``."""
        self._add_name_dependency(at, name)
        return super().enter(at, name)

    def open_file(self, at: ReplayDirectoryNode, name: str) -> "ProvenanceFile":
        """Open a regular file that is there."""
        self._add_name_dependency(at, name)
        super().open_file(at, name).close()
        node = at.entries[name]
        assert isinstance(node, ProvenanceFileNode)
        return ProvenanceFile(self, node)

    # -- changing --------------------------------------------------------------------------------

    def make_file(self, at: ReplayDirectoryNode, name: str, now: int) -> "ProvenanceFile":
        """Make a regular file, and open it: as ``_make`` would, in fewer steps, as many come."""
        self._check_place(at, name)
        assert isinstance(at, ProvenanceDirectoryNode)
        seq = self.graph.seq
        node = ProvenanceFileNode(self._next_inode(), 1, now, seq)
        self.reserve(ENTRY_SIZE)
        at.entries[name], at.name_owners[name] = node, seq
        at.changed(now)
        at.owners.set_changed(seq)
        return ProvenanceFile(self, node)

    def make_directory(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Make a directory."""
        self._check_place(at, name)
        self._make(at, name, ProvenanceDirectoryNode(self._next_inode(), links=1, parent=at), now)
        at.links += 1

    def make_symlink(self, at: ReplayDirectoryNode, name: str, target: str, now: int) -> None:
        """Make a symbolic link."""
        self._check_place(at, name)
        self._make(at, name, ProvenanceLinkNode(self._next_inode(), target), now)

    def make_hard_link(
        self, at: ReplayDirectoryNode, name: str, to: ReplayDirectoryNode, to_name: str, now: int
    ) -> None:
        """Give what is no directory one more name."""
        self._add_name_dependency(at, name)
        super().make_hard_link(at, name, to, to_name, now)

    def unlink(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Remove the name of what is no directory."""
        node = at.entries[name]
        is_retained = node.links > 1 or (isinstance(node, ReplayFileNode) and bool(node.opened))
        super().unlink(at, name, now)
        self._record_removal(at, name, node, depends=is_retained or not self._is_renaming)

    def remove_directory(self, at: ReplayDirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        node = at.entries[name]
        super().remove_directory(at, name, now)
        self._record_removal(at, name, node, depends=not self._is_renaming)

    def rename(
        self, at: ReplayDirectoryNode, name: str, to: ReplayDirectoryNode, to_name: str, now: int
    ) -> None:
        """Give something another name, in the place of what had it.

        What is replaced need not be there when this is done again without it.
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

    def move(
        self,
        at: ProvenanceDirectoryNode,
        name: str,
        to: ProvenanceDirectoryNode,
        to_name: str,
        now: int,
    ) -> None:
        """Rename a file to a name that a file may have: as ``rename`` does, in fewer steps.

        What it needs besides whoever gave the name_owners is known to who asks.
        """
        node, replaced = at.entries[name], to.entries.get(to_name)
        if node is replaced:
            return
        graph = self.graph
        seq = graph.seq
        if replaced is not None:
            assert isinstance(replaced, ProvenanceFileNode)
            owner = to.name_owners[to_name]
            if replaced.links > 1 or replaced.opened:
                graph.link(seq, owner)
            graph.link_reverse(owner)
            replaced.links -= 1
            replaced.ctime, replaced.owners.ctime = now, seq
            self._size -= ENTRY_SIZE
            self.release(replaced)
            del to.entries[to_name], to.name_owners[to_name]
        del at.entries[name]
        graph.link_reverse(at.name_owners.pop(name))
        to.entries[to_name], to.name_owners[to_name] = node, seq
        node.ctime = now
        get_time_owners(node).ctime = seq
        at.changed(now)
        at.owners.set_changed(seq)
        to.changed(now)
        to.owners.set_changed(seq)

    def set_times(self, at: ReplayDirectoryNode, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of what a name stands for."""
        self._add_name_dependency(at, name)
        super().set_times(at, name, times, now)
        self.record_times(at if name == "." else at.entries[name], times)

    def reserve(self, growth: int) -> None:
        """Count bytes that are used from now on."""
        super().reserve(growth)
        if self._size > self.peak:
            self.peak = self._size

    def release(self, node: ReplayFileNode) -> None:
        """Give back what a file used, when neither a name nor a descriptor keeps it."""
        assert isinstance(node, ProvenanceFileNode)
        if not node.links and not node.opened:
            self._size -= node.size
            node.size = 0

    def record_times(self, node: ReplayNode, times: TimeUpdate) -> None:
        """The event that is played has set times of a node."""
        owners, seq = get_time_owners(node), self.graph.seq
        if times.flags & _ATIME:
            owners.atime = seq
        if times.flags & _MTIME:
            owners.mtime = seq
        owners.ctime = seq

    def reset_peak(self) -> None:
        """The most room is what they take now."""
        self.peak = self._size

    def _make(self, at: ReplayDirectoryNode, name: str, node: ReplayNode, now: int) -> None:
        super()._make(at, name, node, now)
        get_time_owners(node).set_created(self.graph.seq)

    def _add(self, at: ReplayDirectoryNode, name: str, node: ReplayNode, now: int) -> None:
        super()._add(at, name, node, now)
        self._record_name(at, name, node)

    def _record_name(self, at: ReplayDirectoryNode, name: str, node: ReplayNode) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        at.name_owners[name] = self.graph.seq
        at.owners.set_changed(self.graph.seq)
        get_time_owners(node).ctime = self.graph.seq

    def _record_removal(
        self, at: ReplayDirectoryNode, name: str, node: ReplayNode, *, depends: bool
    ) -> None:
        assert isinstance(at, ProvenanceDirectoryNode)
        owner = at.name_owners.pop(name)
        if depends:
            self.graph.add_dependency(owner)
        self.graph.add_reverse_dependency(owner)
        at.owners.set_changed(self.graph.seq)
        get_time_owners(node).ctime = self.graph.seq


class ProvenanceFile(ReplayMemoryFile):
    """An open file without its bytes."""

    def __init__(self, backend: ProvenanceBackend, node: ProvenanceFileNode) -> None:
        super().__init__(backend, node)
        self.backend, self.node = backend, node

    def size(self) -> int:
        """Its size in bytes."""
        return self.node.size

    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Put ``data`` at ``offset``; its times stay if no now."""
        self.put(offset, len(data), now)

    def put(self, offset: int, size: int, now: int | None) -> None:
        """Write so many bytes at ``offset``."""
        node, seq = self.node, self.backend.graph.seq
        if size:
            end = offset + size
            if end >= node.size:
                self.backend.reserve(end - node.size)
                node.size, node.size_owner = end, seq
            node.intervals.put(offset, end, seq)
        if now is not None:
            node.mtime = node.ctime = now
            node.owners.mtime = node.owners.ctime = seq

    def defer(self, writes: WriteBatch, first: int, stop: int, now: int, needed: int) -> None:
        """Write some of ``writes``, all of which need ``needed``, the last of them now."""
        node, graph = self.node, self.backend.graph
        last, end = writes.seqs[stop - 1], writes.max_stop(first, stop)
        if end >= node.size:
            self.backend.reserve(end - node.size)
            node.size = end
            at = stop - 1
            while writes.stops[at] != end:
                at -= 1
            node.size_owner = writes.seqs[at]
            if at != stop - 1:
                graph.link_new(node.size_owner, needed)
        graph.link_new(last, needed)
        node.intervals.defer((writes, first, stop, needed))
        node.mtime = node.ctime = now
        node.owners.set_changed(last)

    def set_size(self, size: int, now: int) -> None:
        """Cut it, or lengthen it with zeros."""
        self.backend.reserve(size - self.node.size)
        self.node.intervals.truncate(size, self.backend.graph.seq)
        self._resize(size, now)

    def extend(self, size: int, now: int) -> None:
        """Lengthen it with zeros: who saw to it that nothing stands there is who did before.

        By itself, in front of something that stood there once, such an event would do nothing.
        """
        self.backend.reserve(size - self.node.size)
        self._resize(size, now)

    def _resize(self, size: int, now: int) -> None:
        node, seq = self.node, self.backend.graph.seq
        node.size, node.size_owner = size, seq
        node.changed(now)
        node.owners.set_changed(seq)

    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set its times."""
        super().set_times(times, now)
        self.backend.record_times(self.node, times)
