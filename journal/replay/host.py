"""What an event has an effect on."""

from typing import Protocol

from journal.events.definition import Event
from journal.events.paths import FilePlaced
from journal.events.process import Mount
from journal.pages import PageResolver
from journal.replay.limits import ReplayLimits
from journal.replay.state.descriptor_table import DescriptorTable
from journal.replay.state.machine import ReplayMachine
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState


class Host(Protocol):
    """A guest's outside world, without the guest.

    ``tags`` are the kinds of events that it heeds; ``now`` is the time of the event being played,
    in nanoseconds since the epoch, and ``seq`` its number. ``pending`` is something the guest asked
    of a directory of its former host, and the answer has not come. ``pages`` knows the pages of
    memory that were played lately.
    """

    limits: ReplayLimits
    now: int
    seq: int
    pending: Event | None
    pages: PageResolver
    process: ProcessState
    table: DescriptorTable
    machine: ReplayMachine
    streams: StreamState
    inputs: InputState
    network: NetworkState

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds."""

    def start_process(self) -> None:
        """Another process begins: nothing of the one before is left."""

    def restart_module(self) -> None:
        """The process starts over the files that are there, with its mounts alone open."""

    def end_process(self) -> None:
        """The process is over: what only a living one has is gone."""

    def mount(self, event: Mount) -> None:
        """The guest has a directory from the start."""

    def place_file(self, event: FilePlaced) -> None:
        """A file is there before the guest starts."""
