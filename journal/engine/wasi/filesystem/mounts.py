"""The directories a guest has from the start: in memory, or of the host."""

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
from journal.engine.wasi_abi import WasiError
from journal.errors import OptionError
from journal.events.paths import FilePlaced, FileType
from journal.events.process import Mount, MountKind

PART_SIZE = 1 << 20
FIRST_DESCRIPTOR = 3


@dataclass(frozen=True, slots=True)
class HostMount:
    """A directory of the host that the guest sees as ``guest``."""

    host: str
    guest: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """A directory in memory that the guest sees as ``guest``."""

    guest: str


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A file or a directory of the host, copied to ``guest`` in memory before the guest starts."""

    host: str
    guest: str


def make_mount_events(mounts: Iterable[HostMount | MemoryMount]) -> list[Mount]:
    """The events of the mounts; raises ``OptionError`` for what cannot be mounted."""
    events: list[Mount] = []
    for fd, mount in enumerate(mounts, FIRST_DESCRIPTOR):
        if not mount.guest or "\0" in mount.guest:
            raise OptionError(f"a mount needs a name in the guest, not {mount.guest!r}")
        if any(split_path(mount.guest) == split_path(other.guest) for other in events):
            raise OptionError(f"two mounts have the name {mount.guest} in the guest")
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
        raise OptionError(f"{path} is not a directory, so the guest cannot have it as {guest}")
    return str(path.resolve())


def make_copy_events(placed: Iterable[FileCopy]) -> Iterator[FilePlaced]:
    """The events that copy files in, directories before what is in them."""
    for one in placed:
        source = Path(one.host)
        target = "/" + "/".join(split_path(one.guest))
        if not source.exists() and not source.is_symlink():
            raise OptionError(f"{source} does not exist, so it cannot be copied in")
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
            below = sorted(path.iterdir(), reverse=True)
            pending += [(entry, f"{name.rstrip('/')}/{entry.name}") for entry in below]
        elif path.is_file():
            yield from _file_events(path, name)
        else:
            raise OptionError(f"{path} is neither a file nor a directory")


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
        raise OptionError(f"{path!r} is not UTF-8, so a guest cannot see it") from error
    return FilePlaced(kind=kind, path=path, offset=offset, data=data)


class Mounts:
    """The mounts of one process, and the files that were placed in them.

    ``moved_mounts`` says where a mount's directory is now, by its name in the guest.
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
        strangers = moved_mounts.keys() - {event.guest for event in self._events}
        if strangers:
            raise OptionError(f"the guest has no mount called {min(strangers)}")
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
        """Raise ``OptionError`` if a directory of the host is not there."""
        for guest, tree in self._host.items():
            _check_directory(tree.path, guest)

    def reopen_handles(self) -> None:
        """The journal has been replayed: hold on to the files of the host that are open."""
        for tree in self._host.values():
            tree.reopen_handles()

    def preopen(self, descriptors: Descriptors) -> None:
        """Put the mounts into the table, each under its number."""
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
        """Put a file where it belongs, as event ``seq``.

        Raises ``OptionError`` where there is no room for it.
        """
        tree, names = self._memory_at(event.path)
        at = tree.root
        for name in names if event.kind is FileType.DIRECTORY else names[:-1]:
            at = _enter_or_create(tree, at, name, now, seq)
        if event.kind is FileType.DIRECTORY or not names:
            return
        try:
            _add_file(tree, at, names[-1], event, now, seq)
        except WasiError as error:
            raise OptionError(f"{event.path} does not fit the files' size limit") from error

    def read(self, path: str) -> bytes:
        """The bytes of a file by its path in the guest; raises ``FileNotFoundError``."""
        mount, rest = self._mount_at(path)
        if mount in self._host:
            return (Path(self._host[mount].path) / rest).read_bytes()
        try:
            place = resolve(self._memory[mount].root, rest or ".", NodeWalker(), follow=True)
            node = place.parent.entries[place.name]
        except (WasiError, KeyError) as error:
            raise FileNotFoundError(path) from error
        if not isinstance(node, FileNode):
            raise IsADirectoryError(path)
        return bytes(node.data)

    def files(self) -> dict[str, bytes]:
        """Every regular file in memory, by its path in the guest."""
        found: dict[str, bytes] = {}
        for guest, tree in self._memory.items():
            found |= _read_files(tree.root, guest.rstrip("/"))
        return found

    def close(self) -> None:
        """Give the host's directories back."""
        for tree in self._host.values():
            tree.close()

    def _mount_at(self, path: str) -> tuple[str, str]:
        """The mount with the longest name that ``path`` lies in, and the path in it."""
        absolute = "/" + "/".join(split_path(path))
        for guest in sorted((*self._memory, *self._host), key=len, reverse=True):
            root = "/" + "/".join(split_path(guest))
            if absolute == root or absolute.startswith(root.rstrip("/") + "/"):
                return guest, absolute[len(root) :].lstrip("/")
        raise FileNotFoundError(path)

    def _memory_at(self, path: str) -> tuple[MemoryTree, list[str]]:
        try:
            mount, rest = self._mount_at(path)
        except FileNotFoundError as error:
            raise OptionError(f"{path} lies in no mount of the guest") from error
        if mount not in self._memory:
            raise OptionError(f"{path} lies in a directory of the host, not in memory")
        return self._memory[mount], split_path(rest)


def _add_file(
    tree: MemoryTree, at: DirectoryNode, name: str, event: FilePlaced, now: int, seq: int
) -> None:
    if event.kind is FileType.SYMBOLIC_LINK:
        target = event.data.decode(errors="replace")
        _add_entry(tree, at, name, LinkNode(tree.next_inode(seq), tree.device, target=target), now)
        return
    node = at.entries.get(name)
    if not event.offset or not isinstance(node, FileNode):
        node = FileNode(tree.next_inode(seq), tree.device)
        _add_entry(tree, at, name, node, now)
    tree.allocate(len(event.data))
    node.data += event.data


def _enter_or_create(
    tree: MemoryTree, at: DirectoryNode, name: str, now: int, seq: int
) -> DirectoryNode:
    node = at.entries.get(name)
    if node is None:
        made = DirectoryNode(tree.next_inode(seq), tree.device, links=1)
        made.parent = at
        at.links += 1
        _add_entry(tree, at, name, made, now)
        return made
    if not isinstance(node, DirectoryNode):
        raise OptionError(f"{name} is a file and a directory at once")
    return node


def _add_entry(tree: MemoryTree, at: DirectoryNode, name: str, node: Node, now: int) -> None:
    tree.allocate(ENTRY_SIZE)
    at.entries[name] = node
    at.touch(now)
    node.links += 1
    node.atime = now
    node.touch(now)


def _read_files(root: DirectoryNode, path: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    pending: list[tuple[str, Node]] = [(path, root)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, DirectoryNode):
            below = sorted(node.entries.items(), reverse=True)
            pending += [(f"{path}/{name}", entry) for name, entry in below]
        elif isinstance(node, FileNode):
            found[path] = bytes(node.data)
    return found
