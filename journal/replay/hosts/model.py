"""A host of plain values: the state of a guest at any event, without running it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

from journal.events import BY_TAG
from journal.events.definition import Event
from journal.events.paths import FileType
from journal.replay.filesystem.memory_backend import Entry, MemoryFile, MemoryKeeper
from journal.replay.hosts.base import BaseHost
from journal.replay.state.descriptor_table import OpenDirectory, OpenFile, Pipe, PipeEnd
from journal.replay.state.memory_layers import Layer
from journal.replay.state.process_state import Inputs, Network, Process, Streams

ALL_TAGS = frozenset(BY_TAG)


class Opened(NamedTuple):
    """One descriptor as a value: numbers with the same ``shared`` share all but the last two.

    ``thing`` is what it stands for; of a file and a directory in memory, its kind and its inode.
    """

    shared: int
    thing: Any
    flags: int
    position: int | None
    fd_flags: int
    rights: tuple[int, int]


@dataclass(frozen=True, slots=True)
class State:
    """All that a model knows, as values that later events do not change: equal if it is the same.

    ``files`` are the entries of each memory mount, ``descriptors`` by number; ``machine`` is the
    state at the last snapshot, and what is staged for the next; ``pending`` has no answer yet.
    """

    process: Process
    files: Mapping[str, Mapping[str, Entry]]
    descriptors: Mapping[int, Opened]
    machine: tuple[Layer, Layer]
    streams: Streams
    inputs: Inputs
    network: Network
    pending: Event | None


class ModelHost(BaseHost[MemoryKeeper]):
    """A host in memory, for looking at: it takes every event that there is."""

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds: all."""
        return ALL_TAGS

    def keeper_of(self, guest: str) -> MemoryKeeper:
        """Who keeps the files of a memory mount."""
        return MemoryKeeper(self.limits.files_size_max, lambda: self.seq)

    @property
    def files(self) -> dict[str, bytes]:
        """Every regular file in memory, by its path in the guest."""
        return {
            f"{guest.rstrip('/')}/{path}": entry.content
            for guest, keeper in self.keepers.items()
            for path, entry in keeper.entries().items()
            if entry.kind is FileType.REGULAR_FILE
        }

    @property
    def trees(self) -> dict[str, dict[str, Entry]]:
        """All that is in each memory mount, by the mount's name and the path from there."""
        return {guest: keeper.entries() for guest, keeper in self.keepers.items()}

    @property
    def stdout(self) -> bytes:
        """What the guest has printed to standard output."""
        return bytes(self.streams.output.get(1, b""))

    @property
    def stderr(self) -> bytes:
        """What the guest has printed to standard error."""
        return bytes(self.streams.output.get(2, b""))

    @property
    def descriptors(self) -> dict[int, Opened]:
        """The open descriptors, by number."""
        shared: dict[int, int] = {}
        pipes: dict[int, int] = {}
        found = {}
        for fd, number in self.table:
            about = number.description
            share = shared.setdefault(id(about), len(shared))
            thing = _value_of(about.thing, pipes)
            found[fd] = Opened(
                share, thing, about.flags, about.position, number.fd_flags, number.rights
            )
        return found

    def state(self) -> State:
        """All that is known now."""
        return State(
            deepcopy(self.process),
            self.trees,
            self.descriptors,
            deepcopy(self.machine.layers()),
            deepcopy(self.streams),
            deepcopy(self.inputs),
            deepcopy(self.network),
            self.pending,
        )


def _value_of(thing: Any, pipes: dict[int, int]) -> Any:
    """What a descriptor stands for, without what it is kept by; pipes are numbered as they come."""
    if isinstance(thing, OpenFile):
        assert isinstance(thing.file, MemoryFile)
        return FileType.REGULAR_FILE, thing.file.inode
    if isinstance(thing, OpenDirectory):
        return FileType.DIRECTORY, thing.directory.at.inode, thing.preopen
    if isinstance(thing, PipeEnd):
        pipe: Pipe = thing.pipe
        return "pipe", pipes.setdefault(id(pipe), len(pipes)), thing.writes, pipe.written
    return deepcopy(thing)
