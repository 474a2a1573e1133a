"""What is known of a guest besides its files, descriptors and memory: plain values."""

from dataclasses import dataclass, field

from journal.events.core import Clock, ProcessExit, SetClockTime, TtySet
from journal.events.ports import PortBridge, PortRouteAdd
from journal.events.process import (
    Mount,
    ParentLink,
    ProcessStart,
    ProcessTrap,
    RecordingLevel,
    Seal,
    SessionStart,
)
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamDelivered, StreamOpened
from journal.events.wire_types import Network as Cidr
from journal.replay.limits import ReplayError, check_count, check_size


@dataclass(slots=True)
class ProcessState:
    """What runs, on what, and whether it still does; mostly the last event that said so.

    ``module`` is the module's bytes, as far as the journal holds them, ``instrumented`` those of
    what ran in its place; ``mounts`` are by descriptor; ``directory`` is the working directory,
    empty where the guest never changed it.
    """

    start: ProcessStart | None = None
    module: bytearray = field(default_factory=bytearray)
    instrumented: bytearray = field(default_factory=bytearray)
    module_hash: bytes = b""
    mounts: dict[int, Mount] = field(default_factory=dict)
    parent: ParentLink | None = None
    session: SessionStart | None = None
    session_count: int = 0
    end_event: ProcessExit | ProcessTrap | None = None
    seal: Seal | None = None
    snapshot: Snapshot | None = None
    snapshot_count: int = 0
    clocks: dict[Clock, SetClockTime] = field(default_factory=dict)
    tty: TtySet | None = None
    working_directory: str = ""

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """The program's arguments, its own name first."""
        return self.start.arguments if self.start else ()

    @property
    def environment(self) -> tuple[bytes, ...]:
        """The program's environment, each ``NAME=value``."""
        return self.start.environment if self.start else ()

    @property
    def exit_code(self) -> int | None:
        """What the guest exited with, as it passed it; None if it did not, or did not say."""
        if not isinstance(self.end_event, ProcessExit) or self.end_event.exit_code is None:
            return None
        return self.end_event.exit_code & 0xFFFFFFFF

    @property
    def has_host_results(self) -> bool:
        """Whether the journal says what the host's directories answered."""
        return self.start is None or self.start.level is RecordingLevel.FULL


@dataclass(slots=True)
class StreamState:
    """What each standard stream got, what it leads to, and how far its target has taken it.

    ``output`` is empty where it is not to be kept, ``sizes`` counts it anyhow.
    """

    size_max: int
    keeps_output: bool = True
    output: dict[int, bytearray] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    targets: dict[int, StreamOpened] = field(default_factory=dict)
    delivered: dict[int, StreamDelivered] = field(default_factory=dict)

    def write(self, stream: int, data: bytes, offset: int | None = None) -> None:
        """The guest printed ``data``, behind all that it had printed there before."""
        size = self.sizes.get(stream, 0)
        if offset is not None and offset != size:
            raise ReplayError(f"stream {stream} has got {size} bytes, not {offset}")
        if self.keeps_output:
            check_size(f"the output of stream {stream}", size + len(data), self.size_max)
            self.output.setdefault(stream, bytearray()).extend(data)
        self.sizes[stream] = size + len(data)


@dataclass(slots=True)
class InputState:
    """How much the guest was told, and the last that the clocks said, in nanoseconds."""

    clocks: dict[int, int] = field(default_factory=dict)
    resolutions: dict[int, int] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    random_size: int = 0
    poll_count: int = 0
    result_count: int = 0

    def record_read(self, stream: int, offset: int, size: int) -> None:
        """The guest read from a standard stream."""
        before = self.read.get(stream, 0)
        if offset != before:
            raise ReplayError(f"{before} bytes of stream {stream} were read, not {offset}")
        self.read[stream] = before + size


@dataclass(slots=True)
class NetworkState:
    """The guest's network interface."""

    addresses: dict[Cidr, None] = field(default_factory=dict)
    routes: dict[Cidr, PortRouteAdd] = field(default_factory=dict)
    gateway: object = None
    bridge: PortBridge | None = None
    has_requested_dhcp: bool = False

    def add_address(self, cidr: Cidr) -> None:
        """The interface has one more address."""
        check_count("addresses", len(self.addresses) + (cidr not in self.addresses))
        self.addresses[cidr] = None

    def add_route(self, event: PortRouteAdd) -> None:
        """The interface has one more route, or another one to the same network."""
        check_count("routes", len(self.routes) + (event.cidr not in self.routes))
        self.routes[event.cidr] = event
