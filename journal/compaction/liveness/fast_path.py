"""Fast path for frequent events of memory files, which are replayed without decoding them.

The effects equal those of the host, in fewer steps. Events with any uncommon property are left to
the host.
"""

import struct
from collections.abc import Callable
from itertools import compress
from typing import NamedTuple

from journal.compaction.event_classes import WRITE_TAG
from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL, DependencyGraph
from journal.compaction.liveness.descriptor_provenance import (
    ProvenanceTable,
    TrackedDescription,
    TrackedDescriptor,
)
from journal.compaction.liveness.file_provenance import (
    ProvenanceBackend,
    ProvenanceDirectoryNode,
    ProvenanceFile,
    ProvenanceFileNode,
)
from journal.compaction.liveness.write_batch import WriteBatch, decode_writes
from journal.events import descriptors, paths
from journal.events.paths import OpenFlags
from journal.format.block import Block
from journal.replay.limits import COUNT_MAX
from journal.replay.state.descriptor_table import OpenMountDirectory, OpenMountFile
from journal.vfs.path_resolution import NAME_SIZE_MAX

_OPEN = struct.Struct("<IIIHHQQI")
_FD_PAIR = struct.Struct("<II")
_RENAME = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)
_SPECIAL = frozenset(("", ".", ".."))
_MICROSECOND = 1000
_IS_WRITE = bytes(tag == WRITE_TAG for tag in range(256))
_CLOSE_TAG = descriptors.CloseFileDescriptor.tag
_DUPLICATE_TAG = descriptors.DuplicateFileDescriptor.tag
_OPEN_TAG = descriptors.OpenFileDescriptor.tag
_RENAME_TAG = paths.PathRename.tag


class EventRows:
    """Events to replay, in columns.

    The payloads are ``raw[begins[i]:ends[i]]``; times are in µs since the epoch.
    """

    __slots__ = ("begins", "ends", "raw", "seqs", "tags", "times")

    def __init__(self, block: Block, mask: bytes) -> None:
        """Take the events of a block whose byte in ``mask`` is 1. The mask may be shorter."""
        self.raw, ends = block.payload_bytes()
        self.begins = list(compress([0, *ends], mask))
        self.ends = list(compress(ends, mask))
        self.seqs = list(compress(block.seqs, mask))
        self.times = list(compress(block.times, mask))
        self.tags = bytes(compress(block.tags, mask))

    def payload(self, index: int) -> bytes:
        """Return the payload at ``index``."""
        return self.raw[self.begins[index] : self.ends[index]]

    def writes(self, graph: DependencyGraph) -> WriteBatch | None:
        """Return the file writes as a batch; None if they must be replayed one by one."""
        mask = self.tags.translate(_IS_WRITE)
        begins, ends = list(compress(self.begins, mask)), list(compress(self.ends, mask))
        columns = decode_writes(self.raw, begins, ends)
        return None if columns is None else WriteBatch(columns, compress(self.seqs, mask), graph)


class ResolvedDirectory(NamedTuple):
    """Directory at the end of a path without links, with the owners of the names on the path."""

    backend: ProvenanceBackend
    at: ProvenanceDirectoryNode
    dependencies: tuple[int, ...]


class FastPath:
    """Player of frequent events onto a descriptor table and its files.

    The player caches resolved directories until an event is replayed elsewhere.
    """

    __slots__ = ("_directories", "_entries", "_graph")

    def __init__(self, table: ProvenanceTable, graph: DependencyGraph) -> None:
        self._graph = graph
        self._entries = table.entries
        self._directories: dict[tuple[int, bytes], ResolvedDirectory] = {}

    def play(self, rows: EventRows, play_slowly: Callable[[int, bool], ProvenanceTable]) -> bool:
        """Replay events. Return whether the last event was replayed on the fast path.

        ``play_slowly(index, was_fast)`` replays any other event, and returns the table after it.
        """
        seqs, tags, times = rows.seqs, rows.tags, rows.times
        writes = rows.writes(self._graph)
        at = write_index = 0
        count, was_fast = len(tags), False
        while at < count:
            tag, start = tags[at], at
            if tag == WRITE_TAG and writes is not None:
                at += _count_same_descriptor(tags, at, writes.fds, write_index)
                stop = write_index + at - start
                is_played = self._write(writes, write_index, stop, times[at - 1] * _MICROSECOND)
                write_index = stop
            else:
                at += 1
                now = times[start] * _MICROSECOND
                is_played = self._play_one(tag, seqs[start], rows.payload(start), now)
            if not is_played:
                for index in range(start, at):
                    table = play_slowly(index, was_fast)
                    was_fast = False
                self._entries = table.entries
                self._directories.clear()
            was_fast = is_played
        return was_fast

    def _play_one(self, tag: int, seq: int, payload: bytes, now: int) -> bool:
        """Replay an event and return True; or do nothing and return False."""
        if tag == _CLOSE_TAG:
            return self._close(seq, payload)
        if tag == _OPEN_TAG:
            return self._open(seq, payload, now)
        if tag == _RENAME_TAG:
            return self._rename(seq, payload, now)
        if tag == _DUPLICATE_TAG:
            return self._duplicate(seq, payload)
        return False

    def _write(self, writes: WriteBatch, first: int, stop: int, now: int) -> bool:
        """Replay consecutive writes through one descriptor."""
        entry = self._entries.get(writes.fds[first])
        if entry is None:
            return False
        description = entry.description
        obj = description.object
        if not isinstance(obj, OpenMountFile):
            return False
        file = obj.file
        assert isinstance(entry, TrackedDescriptor)
        assert isinstance(description, TrackedDescription)
        assert isinstance(file, ProvenanceFile)
        file.defer(writes, first, stop, now, entry.owner)
        description.position, description.position_owner = (
            writes.stops[stop - 1],
            writes.seqs[stop - 1],
        )
        return True

    def _close(self, seq: int, payload: bytes) -> bool:
        if len(payload) != _SIZE.size:
            return False
        fd = int.from_bytes(payload, "little")
        entry = self._entries.get(fd)
        if entry is None:
            return False
        description = entry.description
        obj = description.object
        assert isinstance(entry, TrackedDescriptor)
        if not isinstance(obj, OpenMountFile) or entry.owner == BEFORE_JOURNAL:
            return False
        graph = self._graph
        graph.seq = seq
        graph.link(seq, entry.owner)
        graph.link(entry.owner, seq)
        del self._entries[fd]
        description.entry_count -= 1
        if not description.entry_count:
            obj.file.close()
        return True

    def _duplicate(self, seq: int, payload: bytes) -> bool:
        if len(payload) != _FD_PAIR.size:
            return False
        original, copied = _FD_PAIR.unpack(payload)
        entries = self._entries
        entry = entries.get(original)
        if entry is None or copied in entries or len(entries) >= COUNT_MAX:
            return False
        description = entry.description
        if not isinstance(description.object, OpenMountFile):
            return False
        assert isinstance(entry, TrackedDescriptor)
        assert isinstance(description, TrackedDescription)
        self._graph.begin_with(seq, (entry.owner, entry.rights_owner))
        description.entry_count += 1
        entries[copied] = TrackedDescriptor(description, 0, entry.rights, seq)
        return True

    def _open(self, seq: int, payload: bytes, now: int) -> bool:
        if len(payload) < _OPEN.size:
            return False
        fd, dirfd, _, flags, fs_flags, base, inheriting, size = _OPEN.unpack_from(payload)
        entries = self._entries
        if size != len(payload) - _OPEN.size or fd in entries or len(entries) >= COUNT_MAX:
            return False
        resolved = self._resolve_path(dirfd, payload[_OPEN.size :])
        if resolved is None:
            return False
        (backend, at, dependencies), name = resolved
        node = at.entries.get(name)
        if node is None:
            if not flags & _CREATE or not at.links:
                return False
            self._graph.begin_with(seq, dependencies)
            file = backend.make_file(at, name, now)
        elif isinstance(node, ProvenanceFileNode) and not flags & (_EXCLUSIVE | _DIRECTORY):
            self._graph.begin_with(seq, (at.name_owners[name], *dependencies))
            file = ProvenanceFile(backend, node)
            if flags & _TRUNCATE:
                file.resize(0, now)
        else:
            return False
        description = TrackedDescription(OpenMountFile(file), fs_flags, seq)
        description.entry_count = 1
        entries[fd] = TrackedDescriptor(description, 0, (base, inheriting), seq)
        return True

    def _rename(self, seq: int, payload: bytes, now: int) -> bool:
        if len(payload) < _RENAME.size:
            return False
        old_fd, new_fd, size = _RENAME.unpack_from(payload)
        middle = _RENAME.size + size
        stop = middle + _SIZE.size
        if int.from_bytes(payload[middle:stop], "little") != len(payload) - stop:
            return False
        old = self._resolve_path(old_fd, payload[_RENAME.size : middle])
        new = self._resolve_path(new_fd, payload[stop:])
        if old is None or new is None:
            return False
        (backend, at, dependencies), name = old
        (other, to, new_dependencies), to_name = new
        if backend is not other or not to.links:
            return False
        old_node = to.entries.get(to_name)
        if not isinstance(at.entries.get(name), ProvenanceFileNode):
            return False
        if old_node is not None and not isinstance(old_node, ProvenanceFileNode):
            return False
        self._graph.begin_with(seq, (at.name_owners[name], *dependencies, *new_dependencies))
        backend.move(at, name, to, to_name, now)
        return True

    def _resolve_path(self, fd: int, path: bytes) -> tuple[ResolvedDirectory, str] | None:
        """Return the directory and the file name of a path; None if it passes a link."""
        if len(path) > NAME_SIZE_MAX or 0 in path:
            return None
        cut = path.rfind(b"/") + 1
        head = path[:cut]
        directory = self._directories.get((fd, head))
        try:
            if directory is None:
                directory = self._resolve_directory(fd, str(head, "utf-8"))
                if directory is None:
                    return None
                self._directories[fd, head] = directory
            name = str(path[cut:], "utf-8")
        except UnicodeDecodeError:
            return None
        return None if name in _SPECIAL else (directory, name)

    def _resolve_directory(self, fd: int, head: str) -> ResolvedDirectory | None:
        entry = self._entries.get(fd)
        if entry is None or not isinstance(obj := entry.description.object, OpenMountDirectory):
            return None
        assert isinstance(entry, TrackedDescriptor)
        at, backend, dependencies = obj.directory.at, obj.directory.backend, [entry.owner]
        assert isinstance(at, ProvenanceDirectoryNode)
        assert isinstance(backend, ProvenanceBackend)
        for component in head.split("/")[:-1]:
            inner = at.entries.get(component)
            if component in _SPECIAL or not isinstance(inner, ProvenanceDirectoryNode):
                return None
            dependencies.append(at.name_owners[component])
            at = inner
        return ResolvedDirectory(backend, at, tuple(dependencies))


def _count_same_descriptor(tags: bytes, at: int, fds: list[int], nth: int) -> int:
    """Return the number of consecutive writes through one descriptor."""
    fd, count, stop = fds[nth], 1, len(tags) - at
    while count < stop and tags[at + count] == WRITE_TAG and fds[nth + count] == fd:
        count += 1
    return count
