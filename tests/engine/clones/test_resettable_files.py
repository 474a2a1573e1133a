"""Files in memory that return to a saved state after any operations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from journal.events.definition import Event
from journal.vfs.nodes import DirectoryNode, FileNode, Node
from journal.vfs.resettable_backend import ResettableBackend
from journal.vfs.times import TimeUpdate

SIZE_MAX = 1 << 20
NAMES = ("a", "b", "c")
SET_BOTH_TIMES = 1 | 4


class CountingRecorder:
    """A recorder whose time is the number of effects."""

    def __init__(self) -> None:
        self.seq = 0

    def record(self, kind: type[Event], *values: object) -> int:
        self.seq += 1
        return self.seq

    def record_write(self, fd: int, offset: int, data: bytes) -> int:
        return self.record(Event)


def describe(backend: ResettableBackend) -> list[object]:
    """Return everything of a tree, with the identity of its nodes."""
    found: list[object] = [backend.size]
    pending: list[tuple[str, Node]] = [("", backend.root())]
    while pending:
        path, node = pending.pop()
        found.append((path, id(node), node.links, node.atime, node.mtime, node.ctime))
        if isinstance(node, FileNode):
            found.append((bytes(node.data), node.open_count))
        if isinstance(node, DirectoryNode):
            found.append(id(node.parent))
            pending += [(f"{path}/{name}", node.entries[name]) for name in sorted(node.entries)]
    return found


def make_tree() -> ResettableBackend:
    backend = ResettableBackend(SIZE_MAX, CountingRecorder())
    backend.make_directory(backend.root(), "a", 1)
    backend.make_file(backend.enter(backend.root(), "a"), "b", 2).write(3, 0, b"first")
    backend.make_file(backend.root(), "b", 3).write(3, 0, b"second")
    backend.make_symlink(backend.root(), "c", "a/b", 4)
    backend.save()
    return backend


def change(backend: ResettableBackend, operation: int, one: str, other: str, now: int) -> None:
    """Make one change of the tree, if its directories and names allow it."""
    root = backend.root()
    found = root.entries.get("a")
    at = found if isinstance(found, DirectoryNode) and now % 2 else root
    node, target = at.entries.get(one), root.entries.get(other)
    is_file, is_directory = isinstance(node, FileNode), isinstance(node, DirectoryNode)
    if node is None:
        if operation % 2:
            backend.make_directory(at, one, now)
        else:
            backend.make_file(at, one, now).write(3, 2, b"new")
    elif operation == 1 and is_file:
        file = backend.open_file(at, one)
        file.write(3, now % 7, b"changed")
        file.set_times(3, TimeUpdate(now, now, SET_BOTH_TIMES))
    elif operation == 2 and not is_directory:
        backend.unlink(at, one, now)
    elif operation == 3 and is_file:
        file = backend.open_file(at, one)
        file.set_size(3, now % 9)
        file.close()
    elif operation == 4 and not is_directory and not isinstance(target, DirectoryNode):
        backend.rename(at, one, root, other, now)
    elif operation == 5 and is_file and target is None:
        backend.make_hard_link(at, one, root, other, now)
    elif operation == 6 and isinstance(node, DirectoryNode) and not node.entries:
        backend.remove_directory(at, one, now)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(NAMES), st.sampled_from(NAMES))),
        max_size=3,
    )
)
def test_any_changes_are_undone(sessions: list[list[tuple[int, str, str]]]) -> None:
    backend = make_tree()
    before = describe(backend)
    for session in sessions:
        for now, (operation, one, other) in enumerate(session, 10):
            change(backend, operation, one, other, now)
        backend.reset()
        assert describe(backend) == before


def test_backends_share_the_bytes_that_no_session_changes() -> None:
    one, other = make_tree(), make_tree()
    other.share(one)
    mine, theirs = one.root().entries["b"], other.root().entries["b"]
    assert isinstance(mine, FileNode)
    assert isinstance(theirs, FileNode)
    assert mine.data is theirs.data
    other.open_file(other.root(), "b").write(3, 0, b"S")
    assert (bytes(mine.data), bytes(theirs.data)) == (b"second", b"Second")
    other.reset()
    assert mine.data is theirs.data
