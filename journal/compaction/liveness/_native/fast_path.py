"""Fast path for the most frequent events of files in memory: writes, opens and renames.

`ProvenanceHost.play` is the plain twin. The fast path makes the same changes, but decodes only what
it needs and resolves only plain paths. It leaves events with any uncommon property to the twin.
"""

import struct
from collections.abc import Callable

from journal.compaction.event_classes import WRITE_TAG
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
from journal.events.descriptors import OpenFileDescriptor
from journal.events.paths import OpenFlags, PathRename
from journal.replay.limits import COUNT_MAX
from journal.replay.state.descriptor_table import OpenMountDirectory, OpenMountFile
from journal.vfs.memory_backend import ENTRY_SIZE
from journal.vfs.path_resolution import NAME_SIZE_MAX

_WRITE = struct.Struct("<IQBI")
_OPEN = struct.Struct("<IIIHHQQI")
_RENAME = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)
_SPECIAL = frozenset(("", ".", ".."))


def _write(table: ProvenanceTable, seq: int, payload: bytes, now: int) -> bool:
    if len(payload) <= _WRITE.size:
        return False
    fd, offset, is_64bit, size = _WRITE.unpack_from(payload)
    stop = offset + size
    if size != len(payload) - _WRITE.size or is_64bit > 1:
        return False
    entry = table.entries.get(fd)
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
    if file.backend.size + stop > file.backend.size_max:
        return False
    table.graph.begin_with(seq, entry.owner)
    file.put(offset, size, now)
    description.position, description.position_owner = stop, seq
    return True


def _open(table: ProvenanceTable, seq: int, payload: bytes, now: int) -> bool:
    if len(payload) < _OPEN.size:
        return False
    fd, dirfd, _, flags, fs_flags, base, inheriting, size = _OPEN.unpack_from(payload)
    entries = table.entries
    if size != len(payload) - _OPEN.size or fd in entries or len(entries) >= COUNT_MAX:
        return False
    resolved = _resolve(table, dirfd, payload[_OPEN.size :])
    if resolved is None:
        return False
    backend, at, name, owners = resolved
    node, graph = at.entries.get(name), table.graph
    if node is None:
        is_full = backend.size + ENTRY_SIZE > backend.size_max
        if not flags & _CREATE or not at.links or is_full:
            return False
        graph.begin_with(seq, owners)
        file = backend.make_file(at, name, now)
    elif isinstance(node, ProvenanceFileNode) and not flags & (_EXCLUSIVE | _DIRECTORY):
        graph.begin_with(seq, (*owners, at.name_owners[name]))
        file = ProvenanceFile(backend, node)
        if flags & _TRUNCATE:
            file.resize(0, now)
    else:
        return False
    table.add(fd, OpenMountFile(file), flags=fs_flags, rights=(base, inheriting))
    return True


def _rename(table: ProvenanceTable, seq: int, payload: bytes, now: int) -> bool:
    if len(payload) < _RENAME.size:
        return False
    old_fd, new_fd, size = _RENAME.unpack_from(payload)
    middle = _RENAME.size + size
    stop = middle + _SIZE.size
    if int.from_bytes(payload[middle:stop], "little") != len(payload) - stop:
        return False
    old = _resolve(table, old_fd, payload[_RENAME.size : middle])
    new = _resolve(table, new_fd, payload[stop:])
    if old is None or new is None:
        return False
    (backend, at, name, owners), (to_backend, to, to_name, to_owners) = old, new
    old_node = to.entries.get(to_name)
    is_to_file = old_node is None or isinstance(old_node, ProvenanceFileNode)
    if backend is not to_backend or not to.links or not is_to_file:
        return False
    if not isinstance(at.entries.get(name), ProvenanceFileNode):
        return False
    graph = table.graph
    graph.begin_event(seq)
    for owner in (at.name_owners[name], *owners, *to_owners):
        graph.add_dependency(owner)
    backend.rename(at, name, to, to_name, now)
    graph.finish_event()
    return True


ResolvedName = tuple[ProvenanceBackend, ProvenanceDirectoryNode, str, tuple[int, ...]]
"""A name in a directory, and the owners of the descriptor and the names that lead there."""


def _resolve(table: ProvenanceTable, fd: int, path: bytes) -> ResolvedName | None:
    """Return the last name of a path; None if the path is not plain or passes a link."""
    entry = table.entries.get(fd)
    if entry is None or len(path) > NAME_SIZE_MAX or 0 in path:
        return None
    obj = entry.description.object
    if not isinstance(obj, OpenMountDirectory):
        return None
    try:
        *components, name = str(path, "utf-8").split("/")
    except UnicodeDecodeError:
        return None
    assert isinstance(entry, TrackedDescriptor)
    at, backend, owners = obj.directory.at, obj.directory.backend, [entry.owner]
    assert isinstance(at, ProvenanceDirectoryNode)
    assert isinstance(backend, ProvenanceBackend)
    for component in components:
        inner = at.entries.get(component)
        if component in _SPECIAL or not isinstance(inner, ProvenanceDirectoryNode):
            return None
        owners.append(at.name_owners[component])
        at = inner
    return None if name in _SPECIAL else (backend, at, name, tuple(owners))


FastEffect = Callable[[ProvenanceTable, int, bytes, int], bool]
"""Function that replays an event and returns True, or does nothing and returns False."""

FAST_EFFECTS: dict[int, FastEffect] = {
    WRITE_TAG: _write,
    OpenFileDescriptor.tag: _open,
    PathRename.tag: _rename,
}
