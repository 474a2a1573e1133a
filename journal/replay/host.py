"""The host protocol: the object to which effects of events are applied."""

from typing import Protocol

from journal._arguments import check_methods
from journal.events.definition import Event
from journal.events.paths import FilePlaced
from journal.events.process import Mount
from journal.pages import PageResolver
from journal.replay.limits import ReplayLimits
from journal.replay.state.descriptor_table import ReplayTable
from journal.replay.state.machine import ReplayMachine
from journal.replay.state.process_state import InputState, NetworkState, ProcessState, StreamState


class Host(Protocol):
    """The environment of a guest, without the guest.

    ``now`` is the time of the current event, in nanoseconds since the epoch, and ``seq`` its
    sequence number. ``pending`` is a request of the guest to its former host that has no result
    yet. ``pages`` resolves pages of memory from recent events.
    """

    limits: ReplayLimits
    now: int
    seq: int
    pending: Event | None
    pages: PageResolver
    process: ProcessState
    table: ReplayTable
    machine: ReplayMachine
    streams: StreamState
    inputs: InputState
    network: NetworkState

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that the host processes."""

    def start_process(self) -> None:
        """Start a process: discard all state of the previous process."""

    def restart_module(self) -> None:
        """Restart the process with the existing files. Only its mounts are open."""

    def set_generation(self, generation: bytes) -> None:
        """Replace the content of the generation file, if the guest has one."""

    def end_process(self) -> None:
        """End the process: discard its descriptors, memory and threads."""

    def mount(self, event: Mount) -> None:
        """Add a directory that the guest has from its start."""

    def place_file(self, event: FilePlaced) -> None:
        """Put a file in place before the guest starts."""


def check_host(name: str, host: Host) -> Host:
    """Return an object with the methods of a host."""
    methods = ("start_process", "restart_module", "end_process", "mount", "place_file")
    check_methods(name, host, *methods)
    return host
