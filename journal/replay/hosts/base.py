"""Base class of hosts: all state except the files of mounts."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from journal.events.definition import Event
from journal.events.paths import FilePlaced, FileType
from journal.events.process import Mount, MountKind
from journal.pages import PageResolver
from journal.replay.filesystem.directory_ops import FileBackend, MountDirectory
from journal.replay.filesystem.path_resolution import split_path
from journal.replay.limits import (
    MOUNTS_COUNT_MAX,
    ReplayError,
    ReplayLimits,
    check_count,
    quote_path,
)
from journal.replay.state.descriptor_table import DescriptorTable, HostNode, OpenMountDirectory
from journal.replay.state.machine import ReplayMachine
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState

K = TypeVar("K", bound=FileBackend[Any])


class BaseHost(ABC, Generic[K]):
    """A host whose state consists of values. A subclass chooses the backend of files."""

    keeps_output = True

    pending: Event | None
    pages: PageResolver
    process: ProcessState
    table: DescriptorTable
    machine: ReplayMachine
    streams: StreamState
    inputs: InputState
    network: NetworkState

    def __init__(self, limits: ReplayLimits | None = None) -> None:
        self.limits = limits or ReplayLimits()
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
        if event.kind is MountKind.MEMORY:
            self.backends[event.guest] = self.make_backend(event.guest)
        self.process.mounts[event.fd] = event
        self._preopen(event)

    def place_file(self, event: FilePlaced) -> None:
        """Put a file in place before the guest starts."""
        if not event.path.startswith("/"):
            raise ReplayError(f"the path {quote_path(event.path)} of a file is not absolute")
        names = split_path(event.path)
        for guest in sorted(self.backends, key=len, reverse=True):
            root = split_path(guest)
            if names[: len(root)] == root:
                backend = self.backends[guest]
                directory = MountDirectory(backend, backend.root(), is_root=True)
                directory.place_file(names[len(root) :], event, self.now)
                return
        raise ReplayError(f"the path {quote_path(event.path)} is outside all mounts in memory")

    def _reset(self) -> None:
        self.backends: dict[str, K] = {}
        self.pending = None
        self.process = ProcessState()
        self.table = DescriptorTable()
        self.machine = ReplayMachine(self.limits)
        self.streams = StreamState(self.limits.output_size_max, self.keeps_output)
        self.inputs = InputState()
        self.network = NetworkState()

    def _preopen(self, event: Mount) -> None:
        if event.kind is not MountKind.MEMORY:
            self.table.add(event.fd, HostNode(FileType.DIRECTORY, event.guest))
            return
        backend = self.backends[event.guest]
        root = MountDirectory(backend, backend.root(), is_root=True)
        self.table.add(event.fd, OpenMountDirectory(root, event.guest))
