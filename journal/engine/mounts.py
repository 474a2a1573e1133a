"""The directories a guest has from the start: in memory, or of the host."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from journal.engine.abi import Refusal
from journal.engine.descriptors import Descriptors, OpenDirectory
from journal.engine.files import Directory
from journal.engine.host_directories import HostDirectory
from journal.engine.host_files import HostTree
from journal.engine.memory_files import MemoryDirectory, MemoryTree
from journal.engine.memory_nodes import DirectoryNode, FileNode, LinkNode, Node, NodeSteps
from journal.engine.tape import Tape
from journal.engine.walk import names_of, resolve
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
class Placed:
    """A file or a directory of the host, copied to ``guest`` in memory before the guest starts."""

    host: str
    guest: str


def mount_events(mounts: Iterable[HostMount | MemoryMount]) -> list[Mount]:
    """The events of the mounts; raises ``OptionError`` for what cannot be mounted."""
    events: list[Mount] = []
    for fd, mount in enumerate(mounts, FIRST_DESCRIPTOR):
        if not mount.guest or "\0" in mount.guest:
            raise OptionError(f"a mount needs a name in the guest, not {mount.guest!r}")
        if any(names_of(mount.guest) == names_of(other.guest) for other in events):
            raise OptionError(f"two mounts have the name {mount.guest} in the guest")
        if isinstance(mount, MemoryMount):
            events.append(Mount(fd=fd, kind=MountKind.MEMORY, guest=mount.guest, host=""))
            continue
        kind = MountKind.HOST_READ_ONLY if mount.read_only else MountKind.HOST
        host = _directory(mount.host, mount.guest)
        events.append(Mount(fd=fd, kind=kind, guest=mount.guest, host=host))
    return events


def _directory(host: str, guest: str) -> str:
    path = Path(host)
    if not path.is_dir():
        raise OptionError(f"{path} is not a directory, so the guest cannot have it as {guest}")
    return str(path.resolve())


def placed_events(placed: Iterable[Placed]) -> Iterator[FilePlaced]:
    """The events that copy files in, directories before what is in them."""
    for one in placed:
        source = Path(one.host)
        target = "/" + "/".join(names_of(one.guest))
        if not source.exists() and not source.is_symlink():
            raise OptionError(f"{source} does not exist, so it cannot be copied in")
        yield from _tree_events(source, target)


def _tree_events(source: Path, target: str) -> Iterator[FilePlaced]:
    if source.is_symlink():
        link = str(source.readlink())
        yield _placed(FileType.SYMBOLIC_LINK, target, 0, link.encode())
    elif source.is_dir():
        yield _placed(FileType.DIRECTORY, target, 0, b"")
        for entry in sorted(source.iterdir()):
            yield from _tree_events(entry, f"{target.rstrip('/')}/{entry.name}")
    elif source.is_file():
        with source.open("rb") as file:
            offset = 0
            while True:
                data = file.read(PART_SIZE)
                if data or not offset:
                    yield _placed(FileType.REGULAR_FILE, target, offset, data)
                if len(data) < PART_SIZE:
                    break
                offset += len(data)
    else:
        raise OptionError(f"{source} is neither a file nor a directory")


def _placed(kind: FileType, path: str, offset: int, data: bytes) -> FilePlaced:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise OptionError(f"{path!r} is not UTF-8, so a guest cannot see it") from error
    return FilePlaced(kind=kind, path=path, offset=offset, data=data)


class Mounts:
    """The mounts of one process, and the files that were placed in them.

    ``moved`` says where a mount's directory is now, by its name in the guest.
    """

    def __init__(
        self,
        tape: Tape,
        events: Iterable[Mount],
        files_size_max: int,
        moved: Mapping[str, str],
    ) -> None:
        self._memory: dict[str, MemoryTree] = {}
        self._host: dict[str, HostTree] = {}
        self._events = list(events)
        strangers = moved.keys() - {event.guest for event in self._events}
        if strangers:
            raise OptionError(f"the guest has no mount called {min(strangers)}")
        for event in self._events:
            if event.kind is MountKind.MEMORY:
                self._memory[event.guest] = MemoryTree(tape, event.fd, files_size_max)
            else:
                path = _directory(moved.get(event.guest, event.host), event.guest)
                self._host[event.guest] = HostTree(
                    tape,
                    path,
                    writable=event.kind is MountKind.HOST,
                    moved=path != event.host,
                )

    def preopen(self, descriptors: Descriptors) -> None:
        """Put the mounts into the table, each under its number."""
        for event in self._events:
            directory: Directory
            if event.guest in self._memory:
                tree = self._memory[event.guest]
                directory = MemoryDirectory(tree, tree.root)
            else:
                directory = HostDirectory(self._host[event.guest])
            fd = descriptors.add(OpenDirectory(directory, preopen=event.guest))
            assert fd == event.fd, "mounts are numbered from 3 on"

    def place(self, event: FilePlaced, now: int) -> None:
        """Put a file where it belongs; raises ``OptionError`` where there is no room for it."""
        tree, names = self._memory_at(event.path)
        at = tree.root
        for name in names if event.kind is FileType.DIRECTORY else names[:-1]:
            at = _directory_in(tree, at, name, now)
        if event.kind is FileType.DIRECTORY or not names:
            return
        if event.kind is FileType.SYMBOLIC_LINK:
            link = LinkNode(tree.next_inode(), tree.device, target=event.data.decode())
            _add(at, names[-1], link, now)
            return
        node = at.entries.get(names[-1])
        if not event.offset or not isinstance(node, FileNode):
            node = FileNode(tree.next_inode(), tree.device)
            _add(at, names[-1], node, now)
        try:
            tree.reserve(len(event.data))
        except Refusal as error:
            raise OptionError(f"{event.path} does not fit the files' size limit") from error
        tree.size_bytes += len(event.data)
        node.data += event.data

    def read(self, path: str) -> bytes:
        """The bytes of a file by its path in the guest; raises ``FileNotFoundError``."""
        mount, rest = self._mount_at(path)
        if mount in self._host:
            return (Path(self._host[mount].path) / rest).read_bytes()
        try:
            place = resolve(self._memory[mount].root, rest or ".", NodeSteps(), follow=True)
            node = place.parent.entries[place.name]
        except (Refusal, KeyError) as error:
            raise FileNotFoundError(path) from error
        if not isinstance(node, FileNode):
            raise IsADirectoryError(path)
        return bytes(node.data)

    def files(self) -> dict[str, bytes]:
        """Every regular file in memory, by its path in the guest."""
        found: dict[str, bytes] = {}
        for guest, tree in self._memory.items():
            _collect(tree.root, guest.rstrip("/"), found)
        return found

    def close(self) -> None:
        """Give the host's directories back."""
        for tree in self._host.values():
            tree.close()

    def _mount_at(self, path: str) -> tuple[str, str]:
        """The mount with the longest name that ``path`` lies in, and the path in it."""
        absolute = "/" + "/".join(names_of(path))
        for guest in sorted((*self._memory, *self._host), key=len, reverse=True):
            root = "/" + "/".join(names_of(guest))
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
        return self._memory[mount], names_of(rest)


def _directory_in(tree: MemoryTree, at: DirectoryNode, name: str, now: int) -> DirectoryNode:
    node = at.entries.get(name)
    if node is None:
        made = DirectoryNode(tree.next_inode(), tree.device, links=1)
        made.parent = at
        at.links += 1
        _add(at, name, made, now)
        return made
    if not isinstance(node, DirectoryNode):
        raise OptionError(f"{name} is a file and a directory at once")
    return node


def _add(at: DirectoryNode, name: str, node: Node, now: int) -> None:
    at.entries[name] = node
    at.changed(now)
    node.links += 1
    node.atime = now
    node.changed(now)


def _collect(directory: DirectoryNode, path: str, found: dict[str, bytes]) -> None:
    for name, node in sorted(directory.entries.items()):
        if isinstance(node, DirectoryNode):
            _collect(node, f"{path}/{name}", found)
        elif isinstance(node, FileNode):
            found[f"{path}/{name}"] = bytes(node.data)


__all__ = ["HostMount", "MemoryMount", "Mounts", "Placed", "mount_events", "placed_events"]
