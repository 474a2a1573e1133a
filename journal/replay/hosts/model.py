"""A host of plain values: the state of a guest at any event, without running it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

from journal.events import BY_TAG
from journal.events.definition import Event
from journal.events.paths import FileType
from journal.replay.filesystem.memory_backend import MemoryBackend, ReplayMemoryFile, TreeEntry
from journal.replay.hosts.base import BaseHost
from journal.replay.state.descriptor_table import OpenMountDirectory, OpenMountFile, Pipe, PipeEnd
from journal.replay.state.memory_layers import MachineLayer
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState

ALL_TAGS = frozenset(BY_TAG)


class DescriptorState(NamedTuple):
    """One descriptor as a value: numbers with the same ``shared`` share all but the last two.

    ``thing`` is what it stands for; of a file and a directory in memory, its kind and its inode.
    """

    description_id: int
    object: Any
    flags: int
    position: int | None
    fd_flags: int
    rights: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ReplayState:
    """All that a model knows, as values that later events do not change: equal if it is the same.

    ``files`` are the entries of each memory mount, ``descriptors`` by number; ``machine`` is the
    state at the last snapshot, and what is staged for the next; ``pending`` has no answer yet.
    """

    process: ProcessState
    files: Mapping[str, Mapping[str, TreeEntry]]
    descriptors: Mapping[int, DescriptorState]
    machine: tuple[MachineLayer, MachineLayer]
    streams: StreamState
    inputs: InputState
    network: NetworkState
    pending: Event | None


class ModelHost(BaseHost[MemoryBackend]):
    """A host in memory, for looking at: it takes every event that there is."""

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds: all."""
        return ALL_TAGS

    def make_backend(self, guest: str) -> MemoryBackend:
        """Who keeps the files of a memory mount."""
        return MemoryBackend(self.limits.files_size_max, lambda: self.seq)

    @property
    def files(self) -> dict[str, bytes]:
        """Every regular file in memory, by its path in the guest."""
        return {
            f"{guest.rstrip('/')}/{path}": entry.content
            for guest, backend in self.backends.items()
            for path, entry in backend.entries().items()
            if entry.kind is FileType.REGULAR_FILE
        }

    @property
    def trees(self) -> dict[str, dict[str, TreeEntry]]:
        """All that is in each memory mount, by the mount's name and the path from there."""
        return {guest: backend.entries() for guest, backend in self.backends.items()}

    @property
    def stdout(self) -> bytes:
        """What the guest has printed to standard output."""
        return bytes(self.streams.output.get(1, b""))

    @property
    def stderr(self) -> bytes:
        """What the guest has printed to standard error."""
        return bytes(self.streams.output.get(2, b""))

    @property
    def descriptors(self) -> dict[int, DescriptorState]:
        """The open descriptors, by number."""
        shared: dict[int, int] = {}
        pipes: dict[int, int] = {}
        found = {}
        for fd, number in self.table:
            about = number.description
            share = shared.setdefault(id(about), len(shared))
            thing = _object_value(about.object, pipes)
            found[fd] = DescriptorState(
                share, thing, about.flags, about.position, number.fd_flags, number.rights
            )
        return found

    def state(self) -> ReplayState:
        """All that is known now."""
        return ReplayState(
            deepcopy(self.process),
            self.trees,
            self.descriptors,
            deepcopy(self.machine.layers()),
            deepcopy(self.streams),
            deepcopy(self.inputs),
            deepcopy(self.network),
            self.pending,
        )


def _object_value(thing: Any, pipes: dict[int, int]) -> Any:
    """What a descriptor stands for, without what it is kept by; pipes are numbered as they come."""
    if isinstance(thing, OpenMountFile):
        assert isinstance(thing.file, ReplayMemoryFile)
        return FileType.REGULAR_FILE, thing.file.inode
    if isinstance(thing, OpenMountDirectory):
        return FileType.DIRECTORY, thing.directory.at.inode, thing.preopen
    if isinstance(thing, PipeEnd):
        pipe: Pipe = thing.pipe
        return "pipe", pipes.setdefault(id(pipe), len(pipes)), thing.is_write_end, pipe.written
    return deepcopy(thing)
