"""What an event has an effect on."""

from typing import Protocol

from journal.events.definition import Event
from journal.events.paths import FilePlaced
from journal.events.process import Mount
from journal.pages import PageResolver
from journal.replay.limits import Limits
from journal.replay.state.descriptor_table import Table
from journal.replay.state.machine import Machine
from journal.replay.state.process_state import Inputs, Network, Process, Streams


class Host(Protocol):
    """A guest's outside world, without the guest.

    ``tags`` are the kinds of events that it heeds; ``now`` is the time of the event being played,
    in nanoseconds since the epoch, and ``seq`` its number. ``pending`` is something the guest asked
    of a directory of its former host, and the answer has not come. ``pages`` knows the pages of
    memory that were played lately.
    """

    limits: Limits
    now: int
    seq: int
    pending: Event | None
    pages: PageResolver
    process: Process
    table: Table
    machine: Machine
    streams: Streams
    inputs: Inputs
    network: Network

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that it heeds."""

    def begin(self) -> None:
        """Another process begins: nothing of the one before is left."""

    def boot(self) -> None:
        """The process starts over the files that are there, with its mounts alone open."""

    def end(self) -> None:
        """The process is over: what only a living one has is gone."""

    def mount(self, event: Mount) -> None:
        """The guest has a directory from the start."""

    def place(self, event: FilePlaced) -> None:
        """A file is there before the guest starts."""
