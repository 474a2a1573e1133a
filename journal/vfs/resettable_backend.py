"""Files in memory that return to a saved state, at the cost of the nodes that changed."""

from collections.abc import Callable

from journal.vfs.effects import EffectRecorder
from journal.vfs.errors import FileError
from journal.vfs.memory_backend import ENTRY_SIZE, MemoryBackend, MemoryFile
from journal.vfs.nodes import DirectoryNode, FileNode, Node
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import Errno

Times = tuple[int, int, int, int]
"""Links, access time, modification time and change time of a node."""


class ResettableBackend(MemoryBackend):
    """Backend of files in memory that can return to the state at the call of ``save``.

    Each node is saved before its first change after that. The bytes of an unchanged file are never
    copied, so backends may share them: see ``share``.

    ``on_limit`` is called before the files exceed the limit of ``set_limit``, and raises an
    exception. It is not called for a change that exceeds ``size_max``, which the guest sees.
    """

    def __init__(self, size_max: int, recorder: EffectRecorder, device: int = 0) -> None:
        super().__init__(size_max, recorder, device)
        self._is_saving = False
        self._full_size = size_max
        self._on_limit: Callable[[], None] | None = None
        self._saved_times: dict[Node, Times] = {}
        self._saved_entries: dict[DirectoryNode, tuple[dict[str, Node], DirectoryNode | None]] = {}
        self._saved_data: dict[FileNode, bytearray] = {}
        self._saved_counts: dict[FileNode, int] = {}
        self._saved_size = 0
        self._saved_creation = (0, 0)

    def save(self) -> None:
        """Save the present state, to which ``reset`` returns."""
        self._is_saving = True
        self._forget()
        self._saved_size, self._saved_creation = self.size, self._last_creation

    def reset(self) -> None:
        """Return to the saved state."""
        for node, (links, atime, mtime, ctime) in self._saved_times.items():
            node.links, node.atime, node.mtime, node.ctime = links, atime, mtime, ctime
        for directory, (entries, parent) in self._saved_entries.items():
            directory.entries, directory.parent = entries, parent
        for file, data in self._saved_data.items():
            file.data = data
        for file, count in self._saved_counts.items():
            file.open_count = count
        self._forget()
        self.size, self._last_creation = self._saved_size, self._saved_creation
        self.set_limit(None, None)

    def set_limit(self, size: int | None, on_limit: Callable[[], None] | None) -> None:
        """Set a limit of the files in bytes; None for none besides ``size_max``."""
        self._on_limit = on_limit
        self.size_max = self._full_size if size is None else min(size, self._full_size)

    def share(self, other: "ResettableBackend") -> None:
        """Use the bytes of equal files of ``other``. Call it right after ``save`` of both."""
        pairs: list[tuple[Node, Node]] = [(self._root, other.root())]
        while pairs:
            mine, theirs = pairs.pop()
            if isinstance(mine, DirectoryNode) and isinstance(theirs, DirectoryNode):
                for name, node in mine.entries.items():
                    twin = theirs.entries.get(name)
                    if twin is not None:
                        pairs.append((node, twin))
            elif (
                isinstance(mine, FileNode)
                and isinstance(theirs, FileNode)
                and mine.data == theirs.data
            ):
                mine.data = theirs.data

    def _forget(self) -> None:
        self._saved_times.clear()
        self._saved_entries.clear()
        self._saved_data.clear()
        self._saved_counts.clear()

    # -- before a change --------------------------------------------------------------------------

    def save_node(self, node: Node) -> None:
        """Save the attributes and the entries of a node before it changes."""
        if not self._is_saving or node in self._saved_times:
            return
        self._saved_times[node] = node.links, node.atime, node.mtime, node.ctime
        if isinstance(node, DirectoryNode):
            self._saved_entries[node] = node.entries, node.parent
            node.entries = dict(node.entries)

    def save_data(self, node: FileNode) -> None:
        """Save the attributes and the bytes of a file before it changes."""
        self.save_node(node)
        if self._is_saving and node not in self._saved_data:
            self._saved_data[node] = node.data
            node.data = bytearray(node.data)

    def save_count(self, node: FileNode) -> None:
        """Save the number of open descriptors of a file before it changes."""
        if self._is_saving and node not in self._saved_counts:
            self._saved_counts[node] = node.open_count

    def check_space(self, names: int, size: int) -> None:
        """Raise ``FileError`` with ``NOSPC`` above ``size_max``; call ``on_limit`` above the limit
        that was set.
        """
        total = self.size + names * ENTRY_SIZE + size
        if total > self._full_size:
            raise FileError(
                Errno.NOSPC,
                "the files would have {} bytes, but the limit is {}",
                total,
                self._full_size,
            )
        if total > self.size_max and self._on_limit is not None:
            self._on_limit()

    # -- changes ----------------------------------------------------------------------------------

    def unlink(self, at: DirectoryNode, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        self.save_node(at)
        self.save_node(at.entries[name])
        super().unlink(at, name, now)

    def remove_directory(self, at: DirectoryNode, name: str, now: int) -> None:
        """Remove an empty directory."""
        self.save_node(at)
        self.save_node(at.entries[name])
        super().remove_directory(at, name, now)

    def rename(
        self, at: DirectoryNode, name: str, to: DirectoryNode, to_name: str, now: int
    ) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""
        for node in (at, to, at.entries[name]):
            self.save_node(node)
        super().rename(at, name, to, to_name, now)

    def set_times(self, at: DirectoryNode, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name``."""
        self.save_node(at if name == "." else at.entries[name])
        super().set_times(at, name, times, now)

    def release(self, node: FileNode) -> None:
        """Free the bytes of a file that has neither a name nor an open descriptor."""
        if not node.links and not node.open_count:
            self.save_data(node)
            super().release(node)

    def _open(self, node: FileNode) -> "MemoryFile":
        return ResettableFile(self, node)

    def _add(self, at: DirectoryNode, name: str, node: Node, now: int) -> None:
        self.save_node(at)
        self.save_node(node)
        super()._add(at, name, node, now)


class ResettableFile(MemoryFile):
    """An open file that its backend saves before it changes."""

    def __init__(self, backend: ResettableBackend, node: FileNode) -> None:
        self._resettable = backend
        backend.save_count(node)
        super().__init__(backend, node)

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``, with zeros in a gap, and return the count of bytes."""
        self._resettable.save_data(self._node)
        return super().write(fd, offset, data)

    def append(self, data: bytes) -> None:
        """Append a part of a file that is put in place before the guest starts."""
        self._resettable.save_data(self._node)
        super().append(data)

    def resize(self, size: int, now: int) -> None:
        """Change the size at the time ``now``, as part of an effect that is already recorded."""
        self._resettable.save_data(self._node)
        super().resize(size, now)

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the access and modification times."""
        self._resettable.save_node(self._node)
        super().set_times(fd, times)

    def close(self) -> None:
        """Close the file. Its bytes are freed with the last descriptor if it has no name."""
        self._resettable.save_count(self._node)
        super().close()
