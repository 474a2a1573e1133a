"""A host of plain values: the state of a guest at any event, without execution of the guest."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

from journal.events import BY_TAG
from journal.events.definition import Event
from journal.events.descriptors import EpollEvent
from journal.events.paths import FileType
from journal.replay.hosts.base import BaseHost
from journal.replay.limits import translate_file_errors
from journal.replay.state.descriptor_table import (
    Epoll,
    OpenFileDescription,
    OpenMountDirectory,
    OpenMountFile,
    Pipe,
    PipeEnd,
)
from journal.replay.state.memory_layers import MachineLayer
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState
from journal.vfs.memory_backend import MemoryBackend, MemoryFile
from journal.vfs.tree_entries import TreeEntry, list_tree, read_files

ALL_TAGS = frozenset(BY_TAG)


class EpollState(NamedTuple):
    """An epoll instance as a value.

    ``watched`` has what the guest watches for, by the number of the watched descriptor and its
    ``description_id``, None if the number was not open.
    """

    watched: dict[tuple[int, int | None], EpollEvent | None]


class DescriptorState(NamedTuple):
    """One descriptor as a value.

    Descriptors with the same ``description_id`` are duplicates and share all fields except the last
    two. ``object`` is the open object; for a file or a directory in memory, its type and its inode
    number; for an epoll instance an :class:`EpollState`.
    """

    description_id: int
    object: Any
    flags: int
    position: int | None
    fd_flags: int
    rights: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ReplayState:
    """Complete state of a model host, as values that later events do not change.

    Equal states compare equal. ``files`` are the entries of each memory mount. ``machine`` is the
    state at the last snapshot, and the state staged for the next snapshot. ``pending`` is a request
    without a result.
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
    """A host in memory, for inspection. It processes every kind of event."""

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that the host processes: all tags."""
        return ALL_TAGS

    def make_backend(self, guest: str) -> MemoryBackend:
        """Return a new backend for the files of a memory mount."""
        return MemoryBackend(self.limits.files_size_max, self)

    @property
    def files(self) -> dict[str, bytes]:
        """Contents of each regular file in memory, by its path in the guest."""
        files: dict[str, bytes] = {}
        for guest, backend in self.backends.items():
            files |= read_files(backend.root(), guest)
        return files

    @property
    def trees(self) -> dict[str, dict[str, TreeEntry]]:
        """Entries of each memory mount, by the mount's name and the path relative to the mount."""
        with translate_file_errors():
            return {
                guest: list_tree(backend.root(), backend.size_max)
                for guest, backend in self.backends.items()
            }

    @property
    def stdout(self) -> bytes:
        """Bytes that the guest has written to standard output."""
        return bytes(self.streams.output.get(1, b""))

    @property
    def stderr(self) -> bytes:
        """Bytes that the guest has written to standard error."""
        return bytes(self.streams.output.get(2, b""))

    @property
    def descriptors(self) -> dict[int, DescriptorState]:
        """Open descriptors, by number."""
        description_ids = self.table.number_descriptions()
        pipes: dict[int, int] = {}
        states = {}
        for fd, entry in self.table:
            description = entry.description
            states[fd] = DescriptorState(
                description_ids[description],
                _object_value(description.object, pipes, description_ids),
                description.flags,
                description.position,
                entry.fd_flags,
                entry.rights,
            )
        return states

    def state(self) -> ReplayState:
        """Return a copy of the complete current state."""
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


def _object_value(
    open_object: Any, pipes: dict[int, int], description_ids: dict[OpenFileDescription, int]
) -> Any:
    """Return the value of an open object. Pipes are numbered in the order of their first use."""
    if isinstance(open_object, Epoll):
        watches = open_object.watches.items()
        return EpollState(
            {
                (watch.fd, description_ids[watch.target] if watch.target else None): event
                for watch, event in watches
            }
        )
    if isinstance(open_object, OpenMountFile):
        assert isinstance(open_object.file, MemoryFile)
        return FileType.REGULAR_FILE, open_object.file.inode
    if isinstance(open_object, OpenMountDirectory):
        return FileType.DIRECTORY, open_object.directory.at.inode, open_object.preopen
    if isinstance(open_object, PipeEnd):
        pipe: Pipe = open_object.pipe
        return (
            "pipe",
            pipes.setdefault(id(pipe), len(pipes)),
            open_object.is_write_end,
            pipe.written,
        )
    return deepcopy(open_object)
