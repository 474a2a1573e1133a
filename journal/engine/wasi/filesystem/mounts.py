"""Mounts of a guest: in-memory directories and directories of the host."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from journal.engine.tape import Tape
from journal.engine.wasi.descriptors import Descriptors, OpenDirectory
from journal.engine.wasi.filesystem.host_files import HostTree
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.interfaces import GuestDirectory
from journal.engine.wasi.filesystem.memory_fs import ENTRY_SIZE, MemoryDirectory, MemoryTree
from journal.engine.wasi.filesystem.memory_nodes import (
    DirectoryNode,
    FileNode,
    LinkNode,
    Node,
    NodeWalker,
)
from journal.engine.wasi.filesystem.path_resolution import resolve, split_path
from journal.errors import OptionError
from journal.events.paths import FilePlaced, FileType
from journal.events.process import Mount, MountKind
from journal.wasi_abi import WasiError

PART_SIZE = 1 << 20
FIRST_DESCRIPTOR = 3


@dataclass(frozen=True, slots=True)
class HostMount:
    """A directory of the host, mounted at ``guest``."""

    host: str
    guest: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """An in-memory directory, mounted at ``guest``."""

    guest: str


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A host file or directory, copied to ``guest`` in a memory mount before the guest starts."""

    host: str
    guest: str


def make_mount_events(mounts: Iterable[HostMount | MemoryMount]) -> list[Mount]:
    """Return the events of the mounts; raise ``OptionError`` for an invalid mount."""
    events: list[Mount] = []
    for fd, mount in enumerate(mounts, FIRST_DESCRIPTOR):
        if not mount.guest or "\0" in mount.guest:
            raise OptionError(
                f"mount name {mount.guest!r} is invalid: it must not be empty or contain NUL"
            )
        if any(split_path(mount.guest) == split_path(other.guest) for other in events):
            raise OptionError(
                f"mount name {mount.guest} is used twice: each mount needs its own name"
            )
        if isinstance(mount, MemoryMount):
            events.append(Mount(fd=fd, kind=MountKind.MEMORY, guest=mount.guest, host=""))
            continue
        kind = MountKind.HOST_READ_ONLY if mount.read_only else MountKind.HOST
        host = _check_directory(mount.host, mount.guest)
        events.append(Mount(fd=fd, kind=kind, guest=mount.guest, host=host))
    return events


def _check_directory(host: str, guest: str) -> str:
    path = Path(host)
    if not path.is_dir():
        raise OptionError(f"{path} is not a directory: it cannot be mounted as {guest}")
    return str(path.resolve())


def make_copy_events(copies: Iterable[FileCopy]) -> Iterator[FilePlaced]:
    """Yield the events that copy files into the guest, a directory before its entries."""
    for copy in copies:
        source = Path(copy.host)
        target = "/" + "/".join(split_path(copy.guest))
        if not source.exists() and not source.is_symlink():
            raise OptionError(f"{source} does not exist: it cannot be copied into the guest")
        yield from _tree_events(source, target)


def _tree_events(source: Path, target: str) -> Iterator[FilePlaced]:
    pending = [(source, target)]
    while pending:
        path, name = pending.pop()
        if path.is_symlink():
            link = str(path.readlink())
            yield _make_copy_event(FileType.SYMBOLIC_LINK, name, 0, os.fsencode(link))
        elif path.is_dir():
            yield _make_copy_event(FileType.DIRECTORY, name, 0, b"")
            entries = sorted(path.iterdir(), reverse=True)
            pending += [(entry, f"{name.rstrip('/')}/{entry.name}") for entry in entries]
        elif path.is_file():
            yield from _file_events(path, name)
        else:
            raise OptionError(
                f"{path} is neither a file, a directory nor a link: it cannot be copied"
            )


def _file_events(path: Path, name: str) -> Iterator[FilePlaced]:
    with path.open("rb") as file:
        offset = 0
        while True:
            data = file.read(PART_SIZE)
            if data or not offset:
                yield _make_copy_event(FileType.REGULAR_FILE, name, offset, data)
            if len(data) < PART_SIZE:
                return
            offset += len(data)


def _make_copy_event(kind: FileType, path: str, offset: int, data: bytes) -> FilePlaced:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise OptionError(
            f"path {path!r} is not UTF-8: it cannot be copied into the guest"
        ) from error
    return FilePlaced(kind=kind, path=path, offset=offset, data=data)


class Mounts:
    """Mounts of one process, with the files copied into them.

    ``moved_mounts`` maps names of host mounts in the guest to their present directories on the
    host. Raises ``OptionError`` for a name that is not a mount.
    """

    def __init__(
        self,
        tape: Tape,
        events: Iterable[Mount],
        files_size_max: int,
        moved_mounts: Mapping[str, str],
    ) -> None:
        self._memory: dict[str, MemoryTree] = {}
        self._host: dict[str, HostTree] = {}
        self._events = list(events)
        names = {event.guest for event in self._events}
        unknown = moved_mounts.keys() - names
        if unknown:
            raise OptionError(
                f"moved mount {min(unknown)} does not exist: the mounts of the guest are "
                + (", ".join(sorted(names)) or "none")
            )
        for event in self._events:
            if event.kind is MountKind.MEMORY:
                self._memory[event.guest] = MemoryTree(tape, event.fd, files_size_max)
            else:
                path = str(Path(moved_mounts.get(event.guest, event.host)).resolve())
                self._host[event.guest] = HostTree(
                    tape,
                    path,
                    writable=event.kind is MountKind.HOST,
                    is_moved=path != event.host,
                )

    def check_hosts(self) -> None:
        """Raise ``OptionError`` if the directory of a host mount does not exist."""
        for guest, tree in self._host.items():
            _check_directory(tree.path, guest)

    def reopen_handles(self) -> None:
        """Open the host files of the guest after a replay."""
        for tree in self._host.values():
            tree.reopen_handles()

    def preopen(self, descriptors: Descriptors) -> None:
        """Add the mounts to the descriptor table, each under its recorded number."""
        for event in self._events:
            directory: GuestDirectory
            if event.guest in self._memory:
                tree = self._memory[event.guest]
                directory = MemoryDirectory(tree, tree.root)
            else:
                directory = HostDirectory(self._host[event.guest])
            fd = descriptors.add(OpenDirectory(directory, preopen=event.guest))
            assert fd == event.fd, "mounts are numbered from 3 on"

    def add_file(self, event: FilePlaced, now: int, seq: int) -> None:
        """Create a copied file as event ``seq``; ``now`` is in nanoseconds since the epoch.

        Raises ``OptionError`` if the file exceeds the size limit.
        """
        tree, names = self._find_memory_mount(event.path)
        directory = tree.root
        for name in names if event.kind is FileType.DIRECTORY else names[:-1]:
            directory = _enter_or_create(tree, directory, name, now, seq)
        if event.kind is FileType.DIRECTORY or not names:
            return
        try:
            _add_file(tree, directory, names[-1], event, now, seq)
        except WasiError as error:
            raise OptionError(
                f"{event.path} does not fit into its mount of {tree.size_bytes_max} bytes"
            ) from error

    def read(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest; raise ``FileNotFoundError``."""
        mount, rest = self._find_mount(path)
        if mount in self._host:
            return (Path(self._host[mount].path) / rest).read_bytes()
        try:
            location = resolve(self._memory[mount].root, rest or ".", NodeWalker(), follow=True)
            node = location.parent.entries[location.name]
        except (WasiError, KeyError) as error:
            raise FileNotFoundError(path) from error
        if not isinstance(node, FileNode):
            raise IsADirectoryError(path)
        return bytes(node.data)

    def files(self) -> dict[str, bytes]:
        """Return the data of every in-memory regular file, by path in the guest."""
        contents: dict[str, bytes] = {}
        for guest, tree in self._memory.items():
            contents |= _read_files(tree.root, guest.rstrip("/"))
        return contents

    def close(self) -> None:
        """Close the host directories."""
        for tree in self._host.values():
            tree.close()

    def _find_mount(self, path: str) -> tuple[str, str]:
        """Return the innermost mount that contains ``path``, and the path relative to it."""
        absolute = "/" + "/".join(split_path(path))
        for guest in sorted((*self._memory, *self._host), key=len, reverse=True):
            root = "/" + "/".join(split_path(guest))
            if absolute == root or absolute.startswith(root.rstrip("/") + "/"):
                return guest, absolute[len(root) :].lstrip("/")
        raise FileNotFoundError(path)

    def _find_memory_mount(self, path: str) -> tuple[MemoryTree, list[str]]:
        try:
            mount, rest = self._find_mount(path)
        except FileNotFoundError as error:
            raise OptionError(
                f"{path} is in none of the mounts of the guest: it cannot be created"
            ) from error
        if mount not in self._memory:
            raise OptionError(
                f"{path} is in a host mount: files can be copied into memory mounts only"
            )
        return self._memory[mount], split_path(rest)


def _add_file(
    tree: MemoryTree, directory: DirectoryNode, name: str, event: FilePlaced, now: int, seq: int
) -> None:
    if event.kind is FileType.SYMBOLIC_LINK:
        target = event.data.decode(errors="replace")
        _add_entry(
            tree, directory, name, LinkNode(tree.next_inode(seq), tree.device, target=target), now
        )
        return
    node = directory.entries.get(name)
    if not event.offset or not isinstance(node, FileNode):
        node = FileNode(tree.next_inode(seq), tree.device)
        _add_entry(tree, directory, name, node, now)
    tree.allocate(len(event.data))
    node.data += event.data


def _enter_or_create(
    tree: MemoryTree, parent: DirectoryNode, name: str, now: int, seq: int
) -> DirectoryNode:
    node = parent.entries.get(name)
    if node is None:
        directory = DirectoryNode(tree.next_inode(seq), tree.device, links=1)
        directory.parent = parent
        parent.links += 1
        _add_entry(tree, parent, name, directory, now)
        return directory
    if not isinstance(node, DirectoryNode):
        raise OptionError(f"{name} is copied both as a file and as a directory")
    return node


def _add_entry(tree: MemoryTree, directory: DirectoryNode, name: str, node: Node, now: int) -> None:
    tree.allocate(ENTRY_SIZE)
    directory.entries[name] = node
    directory.touch(now)
    node.links += 1
    node.atime = now
    node.touch(now)


def _read_files(root: DirectoryNode, path: str) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    pending: list[tuple[str, Node]] = [(path, root)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, DirectoryNode):
            entries = sorted(node.entries.items(), reverse=True)
            pending += [(f"{path}/{name}", entry) for name, entry in entries]
        elif isinstance(node, FileNode):
            contents[path] = bytes(node.data)
    return contents
