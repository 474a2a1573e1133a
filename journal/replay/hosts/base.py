"""What hosts share: everything but where the files of a mount stand."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from journal.events.definition import Event
from journal.events.paths import FilePlaced, FileType
from journal.events.process import Mount, MountKind
from journal.pages import PageResolver
from journal.replay.filesystem.directory_ops import Directory, Keeper
from journal.replay.filesystem.path_resolution import names_of
from journal.replay.limits import MOUNTS_COUNT_MAX, Limits, NotPlayable, check_count, shown
from journal.replay.state.descriptor_table import HostNode, OpenDirectory, Table
from journal.replay.state.machine import Machine
from journal.replay.state.process_state import Inputs, Network, Process, Streams

K = TypeVar("K", bound=Keeper[Any])


class BaseHost(ABC, Generic[K]):
    """A host whose parts are values; a subclass says who keeps the files."""

    keeps_output = True

    pending: Event | None
    pages: PageResolver
    process: Process
    table: Table
    machine: Machine
    streams: Streams
    inputs: Inputs
    network: Network

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.now = self.seq = 0
        self.pages = PageResolver.without_source()
        self._reset()

    @abstractmethod
    def keeper_of(self, guest: str) -> K:
        """Who keeps the files of the memory mount called ``guest``."""

    def begin(self) -> None:
        """Another process begins: nothing of the one before is left."""
        self._reset()

    def boot(self) -> None:
        """The process starts over the files that are there, with its mounts alone open."""
        self.end()
        self.process.ended = None
        self.table.open_streams()
        for event in self.process.mounts.values():
            self._preopen(event)

    def end(self) -> None:
        """The process is over: what only a living one has is gone."""
        self.table.close_all()
        self.machine.clear()
        self.pending = None

    def mount(self, event: Mount) -> None:
        """The guest has a directory from the start."""
        check_count("mounts", len(self.process.mounts) + 1, MOUNTS_COUNT_MAX)
        names = names_of(event.guest)
        if any(names_of(other.guest) == names for other in self.process.mounts.values()):
            raise NotPlayable(f"two mounts are called {shown(event.guest)}")
        self.table.check_free(event.fd)
        if event.kind is MountKind.MEMORY:
            self.keepers[event.guest] = self.keeper_of(event.guest)
        self.process.mounts[event.fd] = event
        self._preopen(event)

    def place(self, event: FilePlaced) -> None:
        """A file is there before the guest starts."""
        if not event.path.startswith("/"):
            raise NotPlayable(f"{shown(event.path)} is placed nowhere: it is not absolute")
        names = names_of(event.path)
        for guest in sorted(self.keepers, key=len, reverse=True):
            root = names_of(guest)
            if names[: len(root)] == root:
                keeper = self.keepers[guest]
                directory = Directory(keeper, keeper.root(), is_root=True)
                directory.place(names[len(root) :], event, self.now)
                return
        raise NotPlayable(f"{shown(event.path)} lies in no mount in memory")

    def _reset(self) -> None:
        self.keepers: dict[str, K] = {}
        self.pending = None
        self.process = Process()
        self.table = Table()
        self.machine = Machine(self.limits)
        self.streams = Streams(self.limits.output_size_max, self.keeps_output)
        self.inputs = Inputs()
        self.network = Network()

    def _preopen(self, event: Mount) -> None:
        if event.kind is not MountKind.MEMORY:
            self.table.add(event.fd, HostNode(FileType.DIRECTORY, event.guest))
            return
        keeper = self.keepers[event.guest]
        root = Directory(keeper, keeper.root(), is_root=True)
        self.table.add(event.fd, OpenDirectory(root, event.guest))
