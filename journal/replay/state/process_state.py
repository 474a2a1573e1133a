"""State of a guest besides its files, descriptors and memory, as plain values."""

from dataclasses import dataclass, field

from journal.events.core import Clock, ProcessExit, SetClockTime, TtySet
from journal.events.ports import PortBridge, PortRouteAdd
from journal.events.process import (
    ClockPoint,
    Mount,
    ParentLink,
    ProcessStart,
    ProcessTrap,
    RecordingLevel,
    Reseeded,
    Seal,
    SessionStart,
)
from journal.events.processes import ChildStart, ProcessReplaced
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.events.wire_types import Network as Cidr
from journal.replay.limits import ReplayError, check_count, check_size


@dataclass(slots=True)
class ProcessState:
    """Identity and status of the process; most fields are the last event of their kind.

    ``module`` has the bytes of the module, as far as the journal contains them, ``instrumented``
    the bytes of the instrumented module that ran. ``mounts`` are by descriptor.
    ``working_directory`` is empty if the guest never changed it.
    """

    start: ProcessStart | None = None
    module: bytearray = field(default_factory=bytearray)
    instrumented: bytearray = field(default_factory=bytearray)
    module_hash: bytes = b""
    mounts: dict[int, Mount] = field(default_factory=dict)
    parent: ParentLink | None = None
    child: ChildStart | None = None
    session: SessionStart | None = None
    session_count: int = 0
    clock_point: ClockPoint | None = None
    reseeding: Reseeded | None = None
    end_event: ProcessExit | ProcessTrap | ProcessReplaced | None = None
    seal: Seal | None = None
    snapshot: Snapshot | None = None
    snapshot_count: int = 0
    clocks: dict[Clock, SetClockTime] = field(default_factory=dict)
    tty: TtySet | None = None
    working_directory: str = ""

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """Arguments of the program, with its name first."""
        return self.start.arguments if self.start else ()

    @property
    def environment(self) -> tuple[bytes, ...]:
        """Environment of the program, each entry ``NAME=value``."""
        return self.start.environment if self.start else ()

    @property
    def exit_code(self) -> int | None:
        """Exit code that the guest passed, as a u32; None without an exit or without a code."""
        if not isinstance(self.end_event, ProcessExit) or self.end_event.exit_code is None:
            return None
        return self.end_event.exit_code & 0xFFFFFFFF

    @property
    def has_host_results(self) -> bool:
        """Return whether the journal has the results of requests to the host."""
        return self.start is None or self.start.level is RecordingLevel.FULL


@dataclass(slots=True)
class StreamState:
    """Output, target and delivered size of each standard stream.

    ``output`` is empty if ``keeps_output`` is false; ``sizes`` counts the bytes in both cases.
    """

    size_max: int
    keeps_output: bool = True
    output: dict[int, bytearray] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    targets: dict[int, StreamOpened] = field(default_factory=dict)
    delivered: dict[int, StreamDelivered] = field(default_factory=dict)

    def write(self, stream: int, data: bytes, offset: int | None = None) -> None:
        """Append ``data`` to a stream.

        Raises ReplayError if ``offset`` is not the stream's size.
        """
        size = self.sizes.get(stream, 0)
        if offset is not None and offset != size:
            raise ReplayError(
                f"write at offset {offset} of stream {stream}, which has {size} bytes"
            )
        if self.keeps_output:
            check_size(f"the output of stream {stream}", size + len(data), self.size_max)
            self.output.setdefault(stream, bytearray()).extend(data)
        self.sizes[stream] = size + len(data)


@dataclass(slots=True)
class InputState:
    """Counts of inputs, and the last value of each clock, in nanoseconds."""

    clocks: dict[int, int] = field(default_factory=dict)
    resolutions: dict[int, int] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    random_size: int = 0
    poll_count: int = 0
    result_count: int = 0

    def record_read(self, stream: int, offset: int, size: int) -> None:
        """Count a read from a stream. Raises ReplayError if ``offset`` is not the bytes read."""
        before = self.read.get(stream, 0)
        if offset != before:
            raise ReplayError(
                f"read at offset {offset} of stream {stream}, of which {before} bytes were read"
            )
        self.read[stream] = before + size


@dataclass(slots=True)
class NetworkState:
    """Network interface of the guest."""

    addresses: dict[Cidr, None] = field(default_factory=dict)
    routes: dict[Cidr, PortRouteAdd] = field(default_factory=dict)
    gateway: object = None
    bridge: PortBridge | None = None
    has_requested_dhcp: bool = False

    def add_address(self, cidr: Cidr) -> None:
        """Add an address to the interface."""
        check_count("addresses", len(self.addresses) + (cidr not in self.addresses))
        self.addresses[cidr] = None

    def add_route(self, event: PortRouteAdd) -> None:
        """Add a route to the interface, or replace the route to the same network."""
        check_count("routes", len(self.routes) + (event.cidr not in self.routes))
        self.routes[event.cidr] = event
