"""The files of a mount in memory without their bytes: whose event each name, byte and time is."""

from collections.abc import Iterator

from journal.compaction.liveness.dependency_graph import BASE, Ledger
from journal.compaction.liveness.interval_map import Spans
from journal.compaction.liveness.write_batch import Writes
from journal.events.paths import FileType, TimeFlags
from journal.replay.filesystem.directory_ops import Times
from journal.replay.filesystem.memory_backend import (
    DirectoryNode,
    FileNode,
    LinkNode,
    MemoryFile,
    MemoryKeeper,
    Node,
)
from journal.replay.limits import ENTRY_SIZE

_ATIME = TimeFlags.ATIME | TimeFlags.ATIME_NOW
_MTIME = TimeFlags.MTIME | TimeFlags.MTIME_NOW


class Owners:
    """The events that set a node's times."""

    __slots__ = ("atime", "ctime", "mtime")

    def __init__(self, made: int = BASE) -> None:
        self.atime = self.mtime = self.ctime = made

    def changed(self, seq: int) -> None:
        """Its contents changed."""
        self.mtime = self.ctime = seq

    def made(self, seq: int) -> None:
        """It was made."""
        self.atime = self.mtime = self.ctime = seq


class SpanFileNode(FileNode):
    """A file; ``size`` is set by ``sized``."""

    __slots__ = ("owners", "size", "sized", "spans")

    def __init__(self, inode: int, links: int = 0, made: int = 0, owner: int = BASE) -> None:
        super().__init__(inode, links, made)
        self.owners = Owners(owner)
        self.spans = Spans()
        self.size = 0
        self.sized = BASE


class SpanLinkNode(LinkNode):
    """A symbolic link."""

    __slots__ = ("owners",)

    def __init__(self, inode: int, target: str) -> None:
        super().__init__(inode, target)
        self.owners = Owners()


class SpanDirectoryNode(DirectoryNode):
    """A directory; ``names`` has who gave each of its names to what has it."""

    __slots__ = ("names", "owners")

    def __init__(self, inode: int, links: int, parent: DirectoryNode | None = None) -> None:
        super().__init__(inode, links, parent)
        self.owners = Owners()
        self.names: dict[str, int] = {}


def owners_of(node: Node) -> Owners:
    """The events that set a node's times."""
    assert isinstance(node, SpanFileNode | SpanLinkNode | SpanDirectoryNode)
    return node.owners


def cells_of(node: Node) -> Iterator[int]:
    """Give the owners of all that a node has."""
    owners = owners_of(node)
    yield owners.atime
    yield owners.mtime
    yield owners.ctime
    if isinstance(node, SpanFileNode):
        yield node.sized
        yield from node.spans.owners()
    elif isinstance(node, SpanDirectoryNode):
        yield from node.names.values()


class SpanKeeper(MemoryKeeper):
    """Keeps the files of one mount without their bytes. ``peak`` is the most room they ever took.

    Whatever looks at a name needs who gave it; whatever takes it away ends what that one began.
    """

    def __init__(self, size_max: int, ledger: Ledger) -> None:
        super().__init__(size_max, lambda: ledger.seq)
        self._root = SpanDirectoryNode(self._root.inode, links=2)
        self.peak = 0
        self.ledger = ledger
        self._renames = False

    def root(self) -> SpanDirectoryNode:
        """The mount's own directory."""
        root = self._root
        assert isinstance(root, SpanDirectoryNode)
        return root

    def nodes(self) -> Iterator[Node]:
        """Give all that has a name, and the root; what has several comes several times."""
        pending: list[Node] = [self._root]
        while pending:
            node = pending.pop()
            yield node
            if isinstance(node, DirectoryNode):
                pending += node.entries.values()

    # -- looking ---------------------------------------------------------------------------------

    def _look(self, at: DirectoryNode, name: str) -> None:
        assert isinstance(at, SpanDirectoryNode)
        self.ledger.need(at.names.get(name, BASE))

    def kind(self, at: DirectoryNode, name: str) -> FileType | None:
        """What ``name`` is."""
        self._look(at, name)
        return super().kind(at, name)

    def link_target(self, at: DirectoryNode, name: str) -> str | None:
        """What the link ``name`` says, if it is one."""
        self._look(at, name)
        return super().link_target(at, name)

    def enter(self, at: DirectoryNode, name: str) -> DirectoryNode:
        """The directory ``name``."""
        self._look(at, name)
        return super().enter(at, name)

    def open_file(self, at: DirectoryNode, name: str) -> "SpanFile":
        """Open a regular file that is there."""
        self._look(at, name)
        super().open_file(at, name).close()
        node = at.entries[name]
        assert isinstance(node, SpanFileNode)
        return SpanFile(self, node)

    # -- changing --------------------------------------------------------------------------------

    def make_file(self, at: DirectoryNode, name: str, now: int) -> "SpanFile":
        """Make a regular file, and open it: as ``_make`` would, in fewer steps, as many come."""
        self._check_place(at, name)
        assert isinstance(at, SpanDirectoryNode)
        seq = self.ledger.seq
        node = SpanFileNode(self._next_inode(), 1, now, seq)
        self.take(ENTRY_SIZE)
        at.entries[name], at.names[name] = node, seq
        at.changed(now)
        at.owners.changed(seq)
        return SpanFile(self, node)

    def make_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Make a directory."""
        self._check_place(at, name)
        self._make(at, name, SpanDirectoryNode(self._next_inode(), links=1, parent=at), now)
        at.links += 1

    def make_link(self, at: DirectoryNode, name: str, target: str, now: int) -> None:
        """Make a symbolic link."""
        self._check_place(at, name)
        self._make(at, name, SpanLinkNode(self._next_inode(), target), now)

    def add_name(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Give what is no directory one more name."""
        self._look(at, name)
        super().add_name(at, name, to, to_name, now)

    def remove(self, at: DirectoryNode, name: str, now: int) -> None:
        """Remove the name of what is no directory."""
        node = at.entries[name]
        stays = node.links > 1 or (isinstance(node, FileNode) and bool(node.opened))
        super().remove(at, name, now)
        self._removed(at, name, node, needed=stays or not self._renames)

    def remove_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        node = at.entries[name]
        super().remove_directory(at, name, now)
        self._removed(at, name, node, needed=not self._renames)

    def rename(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Give something another name, in the place of what had it.

        What is replaced need not be there when this is done again without it.
        """
        node = at.entries.get(name)
        is_other = node is not to.entries.get(to_name)
        self._renames = True
        try:
            super().rename(at, name, to, to_name, now)
        finally:
            self._renames = False
        if node is not None and is_other:
            self._removed(at, name, node, needed=True)
            self._named(to, to_name, node)

    def move(
        self, at: SpanDirectoryNode, name: str, to: SpanDirectoryNode, to_name: str, now: int
    ) -> None:
        """Rename a file to a name that a file may have: as ``rename`` does, in fewer steps.

        What it needs besides whoever gave the names is known to who asks.
        """
        node, replaced = at.entries[name], to.entries.get(to_name)
        if node is replaced:
            return
        ledger = self.ledger
        seq = ledger.seq
        if replaced is not None:
            assert isinstance(replaced, SpanFileNode)
            owner = to.names[to_name]
            if replaced.links > 1 or replaced.opened:
                ledger.tie(seq, owner)
            ledger.end(owner)
            replaced.links -= 1
            replaced.ctime, replaced.owners.ctime = now, seq
            self._size -= ENTRY_SIZE
            self.release(replaced)
            del to.entries[to_name], to.names[to_name]
        del at.entries[name]
        ledger.end(at.names.pop(name))
        to.entries[to_name], to.names[to_name] = node, seq
        node.ctime = now
        owners_of(node).ctime = seq
        at.changed(now)
        at.owners.changed(seq)
        to.changed(now)
        to.owners.changed(seq)

    def set_times(self, at: DirectoryNode, name: str, times: Times, now: int) -> None:
        """Set the times of what a name stands for."""
        self._look(at, name)
        super().set_times(at, name, times, now)
        self.timed(at if name == "." else at.entries[name], times)

    def take(self, growth: int) -> None:
        """Count bytes that are used from now on."""
        super().take(growth)
        if self._size > self.peak:
            self.peak = self._size

    def release(self, node: FileNode) -> None:
        """Give back what a file used, when neither a name nor a descriptor keeps it."""
        assert isinstance(node, SpanFileNode)
        if not node.links and not node.opened:
            self._size -= node.size
            node.size = 0

    def timed(self, node: Node, times: Times) -> None:
        """The event that is played has set times of a node."""
        owners, seq = owners_of(node), self.ledger.seq
        if times.flags & _ATIME:
            owners.atime = seq
        if times.flags & _MTIME:
            owners.mtime = seq
        owners.ctime = seq

    def settle(self) -> None:
        """The most room is what they take now."""
        self.peak = self._size

    def _make(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        super()._make(at, name, node, now)
        owners_of(node).made(self.ledger.seq)

    def _add(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        super()._add(at, name, node, now)
        self._named(at, name, node)

    def _named(self, at: DirectoryNode, name: str, node: Node) -> None:
        assert isinstance(at, SpanDirectoryNode)
        at.names[name] = self.ledger.seq
        at.owners.changed(self.ledger.seq)
        owners_of(node).ctime = self.ledger.seq

    def _removed(self, at: DirectoryNode, name: str, node: Node, *, needed: bool) -> None:
        assert isinstance(at, SpanDirectoryNode)
        owner = at.names.pop(name)
        if needed:
            self.ledger.need(owner)
        self.ledger.ends(owner)
        at.owners.changed(self.ledger.seq)
        owners_of(node).ctime = self.ledger.seq


class SpanFile(MemoryFile):
    """An open file without its bytes."""

    def __init__(self, keeper: SpanKeeper, node: SpanFileNode) -> None:
        super().__init__(keeper, node)
        self.keeper, self.node = keeper, node

    def size(self) -> int:
        """Its size in bytes."""
        return self.node.size

    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Put ``data`` at ``offset``; its times stay if no now."""
        self.put(offset, len(data), now)

    def put(self, offset: int, size: int, now: int | None) -> None:
        """Write so many bytes at ``offset``."""
        node, seq = self.node, self.keeper.ledger.seq
        if size:
            end = offset + size
            if end >= node.size:
                self.keeper.take(end - node.size)
                node.size, node.sized = end, seq
            node.spans.put(offset, end, seq)
        if now is not None:
            node.mtime = node.ctime = now
            node.owners.mtime = node.owners.ctime = seq

    def put_late(self, writes: Writes, first: int, behind: int, now: int, needed: int) -> None:
        """Write some of ``writes``, all of which need ``needed``, the last of them now."""
        node, ledger = self.node, self.keeper.ledger
        last, end = writes.seqs[behind - 1], writes.end(first, behind)
        if end >= node.size:
            self.keeper.take(end - node.size)
            node.size = end
            at = behind - 1
            while writes.stops[at] != end:
                at -= 1
            node.sized = writes.seqs[at]
            if at != behind - 1:
                ledger.tie_new(node.sized, needed)
        ledger.tie_new(last, needed)
        node.spans.put_late((writes, first, behind, needed))
        node.mtime = node.ctime = now
        node.owners.changed(last)

    def set_size(self, size: int, now: int) -> None:
        """Cut it, or lengthen it with zeros."""
        self.keeper.take(size - self.node.size)
        self.node.spans.cut(size, self.keeper.ledger.seq)
        self._resize(size, now)

    def lengthen(self, size: int, now: int) -> None:
        """Lengthen it with zeros: who saw to it that nothing stands there is who did before.

        By itself, in front of something that stood there once, such an event would do nothing.
        """
        self.keeper.take(size - self.node.size)
        self._resize(size, now)

    def _resize(self, size: int, now: int) -> None:
        node, seq = self.node, self.keeper.ledger.seq
        node.size, node.sized = size, seq
        node.changed(now)
        node.owners.changed(seq)

    def set_times(self, times: Times, now: int) -> None:
        """Set its times."""
        super().set_times(times, now)
        self.keeper.timed(self.node, times)
