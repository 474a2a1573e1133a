"""Base class of hosts: all state except the files of mounts."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from journal._arguments import check_optional, check_type
from journal.events.definition import Event
from journal.events.paths import FilePlaced, FileType
from journal.events.process import HOST_MOUNTS, Mount, MountKind
from journal.pages import PageResolver
from journal.replay.limits import MOUNTS_COUNT_MAX, ReplayError, ReplayLimits, check_count
from journal.replay.state.descriptor_table import HostNode, OpenMountDirectory, ReplayTable
from journal.replay.state.machine import ReplayMachine
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState
from journal.vfs.backend import FileBackend
from journal.vfs.directory import MountDirectory
from journal.vfs.errors import quote_path
from journal.vfs.generation import write_generation
from journal.vfs.path_resolution import find_mount, split_path
from journal.vfs.placement import place_file

K = TypeVar("K", bound=FileBackend[Any, Any])


class BaseHost(ABC, Generic[K]):
    """A host whose state consists of values. A subclass chooses the backend of files."""

    keeps_output = True

    pending: Event | None
    pages: PageResolver
    process: ProcessState
    table: ReplayTable
    machine: ReplayMachine
    streams: StreamState
    inputs: InputState
    network: NetworkState

    def __init__(self, limits: ReplayLimits | None = None) -> None:
        self.limits = check_optional("limits", limits, check_type, ReplayLimits) or ReplayLimits()
        self.now = self.seq = 0
        self.pages = PageResolver.without_source()
        self._reset()

    @abstractmethod
    def make_backend(self, guest: str) -> K:
        """Return a new backend for the files of the memory mount ``guest``."""

    def start_process(self) -> None:
        """Start a process: discard all state of the previous process."""
        self._reset()

    def restart_module(self) -> None:
        """Restart the process with the existing files. Only its mounts are open."""
        self.end_process()
        self.process.end_event = None
        self.table.open_streams()
        for event in self.process.mounts.values():
            self._preopen(event)

    def end_process(self) -> None:
        """End the process: discard its descriptors, memory and threads."""
        self.table.close_all()
        self.machine.clear()
        self.pending = None

    def mount(self, event: Mount) -> None:
        """Add a directory that the guest has from its start."""
        check_count("mounts", len(self.process.mounts) + 1, MOUNTS_COUNT_MAX)
        names = split_path(event.guest)
        if any(split_path(other.guest) == names for other in self.process.mounts.values()):
            raise ReplayError(f"the mount {quote_path(event.guest)} already exists")
        self.table.check_free(event.fd)
        if event.kind not in HOST_MOUNTS:
            self.backends[event.guest] = self.make_backend(event.guest)
        self.process.mounts[event.fd] = event
        self._preopen(event)

    def place_file(self, event: FilePlaced) -> None:
        """Put a file in place before the guest starts."""
        if not event.path.startswith("/"):
            raise ReplayError(f"the path {quote_path(event.path)} of a file is not absolute")
        mount = find_mount(self.backends, event.path)
        if mount is None:
            raise ReplayError(f"the path {quote_path(event.path)} is outside all mounts in memory")
        guest, names = mount
        place_file(self.backends[guest], names, event, self.now)

    def set_generation(self, generation: bytes) -> None:
        """Replace the content of the generation file, if the guest has one."""
        for event in self.process.mounts.values():
            if event.kind is MountKind.GENERATION:
                write_generation(self.backends[event.guest], generation)

    # -- recorder of the effects on files: each exists in the journal ----------------------------

    def record(self, kind: type[Event], *values: object) -> int:
        """Return the time of the current event, whose effect is being repeated."""
        return self.now

    def record_write(self, fd: int, offset: int, data: bytes) -> int:
        """Return the time of the current event, whose effect is being repeated."""
        return self.now

    def _reset(self) -> None:
        self.backends: dict[str, K] = {}
        self.pending = None
        self.process = ProcessState()
        self.table = ReplayTable()
        self.machine = ReplayMachine(self.limits)
        self.streams = StreamState(self.limits.output_size_max, self.keeps_output)
        self.inputs = InputState()
        self.network = NetworkState()

    def _preopen(self, event: Mount) -> None:
        if event.kind in HOST_MOUNTS:
            self.table.add(event.fd, HostNode(FileType.DIRECTORY, event.guest))
            return
        backend = self.backends[event.guest]
        root = MountDirectory(backend, backend.root(), is_root=True)
        self.table.add(event.fd, OpenMountDirectory(root, event.guest))
