"""Mounts of a guest: in-memory directories and directories of the host."""

import os
import stat
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from journal._arguments import (
    check_flag,
    check_path,
    check_text,
    check_type,
    quote,
    refuse,
    to_line,
)
from journal.engine.tape import Tape
from journal.engine.wasi.descriptors import Descriptors, GuestDirectory, OpenDirectory
from journal.engine.wasi.filesystem.generation_fs import GenerationBackend, GenerationDirectory
from journal.engine.wasi.filesystem.host_files import HostTree
from journal.engine.wasi.filesystem.host_fs import HostDirectory, read_host_file
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.filesystem.reopening import (
    RecordedTimes,
    open_names,
    raise_descriptor_limit,
)
from journal.engine.wasi.filesystem.tape_recorder import TapeRecorder
from journal.errors import HostMismatch, JournalError, OptionError
from journal.events.paths import FilePlaced, FileType
from journal.events.process import HOST_MOUNTS, Mount, MountKind
from journal.fs import file_kind
from journal.vfs.errors import FileError
from journal.vfs.generation import GENERATION_MOUNT
from journal.vfs.memory_backend import MemoryBackend
from journal.vfs.nodes import FileNode
from journal.vfs.path_resolution import PATH_SIZE_MAX, find_mount, resolve, split_path
from journal.vfs.placement import place_file
from journal.vfs.tree_entries import read_files
from journal.wasi_abi import Errno, WasiError

PART_SIZE = 1 << 20
FIRST_DESCRIPTOR = 3

MOUNTS_MAX = 1024
"""Largest number of mounts of a guest."""

_READ_ERRORS: dict[int, type[OSError]] = {
    Errno.ISDIR: IsADirectoryError,
    Errno.PERM: PermissionError,
    Errno.ACCES: PermissionError,
    Errno.NOTSUP: PermissionError,
}
"""Errors of a read by the embedder, by the errno that the guest would get. Others: not found."""


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
class GenerationMount:
    """The directory of the generation file, mounted at ``guest``."""

    guest: str = GENERATION_MOUNT


AnyMount = HostMount | MemoryMount | GenerationMount


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A host file or directory, copied to ``guest`` in a memory mount before the guest starts."""

    host: str
    guest: str


def check_mount(name: str, mount: HostMount | MemoryMount) -> HostMount | MemoryMount:
    """Return a mount whose values have the right types."""
    if not isinstance(mount, HostMount | MemoryMount):
        refuse(name, "a HostMount or a MemoryMount", mount)
    check_text("mount name", mount.guest)
    if isinstance(mount, HostMount):
        check_path("the directory of a mount", mount.host)
        check_flag("read_only of a mount", mount.read_only)
    return mount


def check_copy(name: str, copy: FileCopy) -> FileCopy:
    """Return a copy whose values have the right types."""
    check_type(name, copy, FileCopy)
    check_text("the name of a copied file", copy.guest)
    check_path("the path of a copied file", copy.host)
    return copy


def make_mount_events(mounts: Iterable[AnyMount]) -> list[Mount]:
    """Return the events of the mounts; raise ``OptionError`` for an invalid mount."""
    events: list[Mount] = []
    used: set[tuple[str, ...]] = set()
    for fd, mount in enumerate(mounts, FIRST_DESCRIPTOR):
        fault = explain_wrong_name(mount.guest, used)
        if fault:
            raise OptionError(fault)
        used.add(tuple(split_path(mount.guest)))
        if len(events) >= MOUNTS_MAX:
            raise OptionError(f"a guest has at most {MOUNTS_MAX} mounts")
        if not isinstance(mount, HostMount):
            is_memory = isinstance(mount, MemoryMount)
            kind = MountKind.MEMORY if is_memory else MountKind.GENERATION
            events.append(Mount(fd=fd, kind=kind, guest=mount.guest, host=""))
            continue
        kind = MountKind.HOST_READ_ONLY if mount.read_only else MountKind.HOST
        host = _check_directory(mount.host, mount.guest)
        events.append(Mount(fd=fd, kind=kind, guest=mount.guest, host=host))
    return events


def explain_wrong_name(guest: str, used: Container[tuple[str, ...]]) -> str:
    """Return why a mount cannot have the name ``guest``; empty if it can.

    ``used`` has the names of the other mounts, each as a tuple of its path components. A name
    is only compared with the beginnings of paths, so that relative and nested names and ".." are
    harmless.
    """
    if not guest or "\0" in guest or len(guest) > PATH_SIZE_MAX:
        return (
            f"mount name {quote(guest)} is invalid: it must not be empty, contain NUL or have more "
            f"than {PATH_SIZE_MAX} characters"
        )
    if tuple(split_path(guest)) in used:
        return f"mount name {to_line(guest)} is used twice: each mount needs its own name"
    return ""


def list_host_mounts(events: Iterable[Mount]) -> tuple[HostMount, ...]:
    """Return the recorded mounts of host directories."""
    return tuple(
        HostMount(event.host, event.guest, event.kind is MountKind.HOST_READ_ONLY)
        for event in events
        if event.kind in HOST_MOUNTS
    )


def _check_directory(host: str, guest: str) -> str:
    path = Path(host)
    if not path.is_dir():
        raise OptionError(
            f"{to_line(str(path))} is not a directory: it cannot be mounted as {to_line(guest)}"
        )
    return os.path.realpath(path)


def make_copy_events(copies: Iterable[FileCopy], size_max: int) -> Iterator[FilePlaced]:
    """Yield the events that copy files into the guest, a directory before its entries.

    Raises ``OptionError`` for a file of more than ``size_max`` bytes, without reading it.
    """
    for copy in copies:
        source = Path(copy.host)
        target = "/" + "/".join(split_path(copy.guest))
        if not source.exists() and not source.is_symlink():
            raise OptionError(f"{source} does not exist: it cannot be copied into the guest")
        yield from _tree_events(source, target, size_max)


def _tree_events(source: Path, target: str, size_max: int) -> Iterator[FilePlaced]:
    """Yield the events of a file, a link, or a directory with everything below it.

    Links are copied and not followed, also if a process puts one in the place of a directory
    meanwhile.
    """
    root = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        pending: list[tuple[tuple[str, ...], str]] = [((), target)]
        while pending:
            names, name = pending.pop()
            path = source.joinpath(*names)
            handle = open_names(root, names, os.O_PATH) if names else os.dup(root)
            try:
                yield from _entry_events(path, handle, name, size_max)
                if stat.S_ISDIR(os.fstat(handle).st_mode):
                    entries = sorted(_list_names(handle), reverse=True)
                    pending += [((*names, each), f"{name.rstrip('/')}/{each}") for each in entries]
            except OSError as error:
                error.filename = str(path)  # The system knows only a descriptor.
                raise
            finally:
                os.close(handle)
    finally:
        os.close(root)


def _entry_events(path: Path, handle: int, name: str, size_max: int) -> Iterator[FilePlaced]:
    """Yield the events of one entry, which was opened with ``O_PATH``."""
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode):
        yield FilePlaced(kind=FileType.DIRECTORY, path=name, offset=0, data=b"")
    elif stat.S_ISLNK(mode):
        link = os.fsencode(os.readlink("", dir_fd=handle))
        yield FilePlaced(kind=FileType.SYMBOLIC_LINK, path=name, offset=0, data=link)
    elif stat.S_ISREG(mode):
        yield from _file_events(path, handle, name, size_max)
    else:
        raise OptionError(f"{path} is neither a file, a directory nor a link: it cannot be copied")


def _list_names(directory: int) -> list[str]:
    """Return the names in a directory that was opened with ``O_PATH``."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(readable) as entries:
            return [entry.name for entry in entries]
    finally:
        os.close(readable)


def _file_events(path: Path, handle: int, name: str, size_max: int) -> Iterator[FilePlaced]:
    """Yield the parts of the file ``handle``, up to the size that it has when it is opened."""
    descriptor, status = file_kind.open_source(f"/proc/self/fd/{handle}", OptionError)
    with open(descriptor, "rb") as file:  # noqa: PTH123 (this is a descriptor)
        if status.st_size > size_max:
            raise OptionError(
                f"{to_line(str(path))} has {status.st_size} bytes: it does not fit into its mount "
                f"of {size_max} bytes"
            )
        offset = 0
        while True:
            data = file.read(min(PART_SIZE, status.st_size - offset))
            if data or not offset:
                yield FilePlaced(kind=FileType.REGULAR_FILE, path=name, offset=offset, data=data)
            if len(data) < PART_SIZE:
                return
            offset += len(data)


class Mounts:
    """Mounts of one process, with the files copied into them.

    ``directories`` has the directory of the host for each host mount, by guest path; their paths
    have no links. A host mount without one is closed: no file of the host is opened for it.
    ``times`` are those of the recording of a run that is resumed. ``own`` are the files that the
    guest does not reach. ``make_backend`` makes the backend of each in-memory directory.
    """

    def __init__(
        self,
        tape: Tape,
        events: Iterable[Mount],
        files_size_max: int,
        directories: Mapping[str, HostMount],
        times: RecordedTimes | None = None,
        own: OwnFiles | None = None,
        make_backend: type[MemoryBackend] = MemoryBackend,
    ) -> None:
        self._tape = tape
        self.own_files = own or OwnFiles()
        self._memory: dict[str, MemoryBackend] = {}
        self._host: dict[str, HostTree] = {}
        self._events = list(events)
        for event in self._events:
            if event.kind is MountKind.MEMORY:
                self._memory[event.guest] = make_backend(
                    files_size_max, TapeRecorder(tape), event.fd
                )
                continue
            if event.kind is MountKind.GENERATION:
                self._memory[event.guest] = GenerationBackend(tape, event.guest, event.fd)
                continue
            directory = directories.get(event.guest)
            path = "" if directory is None else directory.host
            self._host[event.guest] = HostTree(
                tape,
                path,
                writable=event.kind is MountKind.HOST,
                is_read_only=directory is None or directory.read_only,
                is_moved=path != event.host,
                guest=event.guest,
                times=times or RecordedTimes(),
                own=self.own_files,
            )

    def protect_own_files(self) -> None:
        """Raise ``OptionError`` for a mount of a directory that belongs to this library.

        Also pins the mounted directories: a guest that renames one could put a link in its place.
        """
        for guest, tree in self._host.items():
            if tree.path:
                self.own_files.check_outside(tree.path, guest)
                self.own_files.pin(tree.path)

    def check_hosts(self, named: Collection[str]) -> None:
        """Raise ``HostMismatch`` if a mounted directory is gone, or its path leads through a link.

        Raises ``OptionError`` instead for the mounts in ``named``, whose directory the user named.
        """
        for guest, tree in self._host.items():
            if not tree.path:
                continue
            if guest in named:
                _check_directory(tree.path, guest)
            elif not Path(tree.path).is_dir():
                raise HostMismatch(
                    f"{to_line(tree.path)}, mounted as {to_line(guest)}, is not a directory any "
                    "more: name its new location"
                )
            os.close(tree.open_root())

    def set_generation(self, generation: bytes) -> None:
        """Replace the content of the generation file, if the guest has one."""
        for backend in self._memory.values():
            if isinstance(backend, GenerationBackend):
                backend.set_generation(generation)

    @property
    def memory_backends(self) -> Mapping[str, MemoryBackend]:
        """Return the backends of the in-memory directories by their paths in the guest."""
        return self._memory

    @property
    def host_trees(self) -> Iterable[HostTree]:
        """Return the mounted host directories."""
        return self._host.values()

    def reopen_handles(self) -> None:
        """Open the host files of the guest after a replay, with a sufficient limit of open files.

        Raises ``HostMismatch`` if the host refuses to open a file that exists.
        """
        trees = self._host.values()
        raise_descriptor_limit(sum(1 + len(tree.open_handles) for tree in trees) if trees else 0)
        for tree in trees:
            tree.reopen_handles()

    def preopen(self, descriptors: Descriptors) -> None:
        """Add the mounts to the descriptor table, each under its recorded number."""
        for event in self._events:
            directory: GuestDirectory
            if event.guest in self._memory:
                backend = self._memory[event.guest]
                is_fixed = isinstance(backend, GenerationBackend)
                kind = GenerationDirectory if is_fixed else MemoryDirectory
                directory = kind(backend, backend.root(), is_root=True)
            else:
                directory = HostDirectory(self._host[event.guest])
            fd = descriptors.add(OpenDirectory(directory, preopen=event.guest))
            assert fd == event.fd, "mounts are numbered from 3 on"

    def add_copies(
        self, copies: Iterable[tuple[FilePlaced, int, int]], error: type[JournalError] = OptionError
    ) -> None:
        """Create the copied files, each with its time in µs and its sequence number.

        Raises ``error`` if a file cannot be created: the user named it, or a journal has it.
        """
        for event, micros, seq in copies:
            try:
                self._add_file(event, micros * 1000, seq)
            except OptionError as refusal:
                raise error(str(refusal)) from refusal

    def _add_file(self, event: FilePlaced, now: int, seq: int) -> None:
        mount = find_mount((*self._memory, *self._host), event.path)
        if mount is None:
            raise OptionError(
                f"{to_line(event.path)} is in none of the mounts of the guest: it cannot be created"
            )
        guest, names = mount
        if guest not in self._memory:
            raise OptionError(
                f"{to_line(event.path)} is in a host mount: "
                "files can be copied into memory mounts only"
            )
        self._tape.last_effect_seq = seq  # New inode numbers contain it.
        backend = self._memory[guest]
        try:
            if isinstance(backend, GenerationBackend):
                backend.check_placement(event)
            place_file(backend, names, event, now)
        except FileError as error:
            raise OptionError(_explain_refused_copy(event, self._memory[guest], error)) from error

    def read(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest, as the guest would find it.

        Raises ``FileNotFoundError``, ``IsADirectoryError``, and ``PermissionError`` for a path that
        leaves its mount.
        """
        mount = find_mount((*self._memory, *self._host), path)
        if mount is None:
            raise FileNotFoundError(path)
        guest, names = mount
        relative = "/".join(names) or "."
        try:
            if guest in self._host:
                return read_host_file(self._host[guest], relative)
            return _read_memory_file(self._memory[guest], relative)
        except WasiError as error:
            raise _READ_ERRORS.get(error.errno, FileNotFoundError)(path) from error

    def files(self) -> dict[str, bytes]:
        """Return the data of every in-memory regular file, by path in the guest."""
        contents: dict[str, bytes] = {}
        for guest, backend in self._memory.items():
            contents |= read_files(backend.root(), guest)
        return contents

    def close(self) -> None:
        """Close the host directories."""
        for tree in self._host.values():
            tree.close()


def _read_memory_file(backend: MemoryBackend, path: str) -> bytes:
    location = resolve(backend.root(), path, backend, follow=True)
    node = backend.find(location.parent, location.name)
    if node is None:
        raise WasiError(Errno.NOENT)
    if not isinstance(node, FileNode):
        raise WasiError(Errno.ISDIR)
    return node.content()


def _explain_refused_copy(event: FilePlaced, backend: MemoryBackend, error: FileError) -> str:
    path = to_line(event.path)
    if error.errno == Errno.NOSPC:
        return f"{path} does not fit into its mount of {backend.size_max} bytes"
    if error.errno in (Errno.NOTDIR, Errno.ISDIR):
        return f"{path} is copied both as a file and as a directory"
    return f"{path} cannot be copied into the guest: {error.reason}"
