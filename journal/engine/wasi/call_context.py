"""What a call sees of its process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns, time_ns

from journal.engine.runtime.bindings import GuestMemory
from journal.engine.tape import Tape
from journal.engine.wasi.descriptors import Descriptors
from journal.engine.wasi.sockets import GuestNetwork
from journal.engine.wasi.stdio.outbox import Outbox
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.engine.wasi.terminal import Terminal
from journal.engine.wasi_abi import CLOCK_MONOTONIC, CLOCK_REALTIME, Errno, WasiError
from journal.events import codec
from journal.events.inputs import ClockRead

#: A longer path is not even looked at; a long one is refused by whoever keeps the files.
TEXT_SIZE_MAX = 1 << 16

_pack_clock = codec.make_packer(ClockRead)


@dataclass(slots=True, eq=False)
class CallContext:
    """One process, as its calls see it."""

    tape: Tape
    outbox: Outbox
    interrupter: Interrupter
    arguments: list[bytes]
    environment: list[bytes]
    descriptors: Descriptors = field(default_factory=Descriptors)
    clocks: "GuestClocks" = field(default_factory=lambda: GuestClocks())
    memory: GuestMemory = field(default_factory=GuestMemory)
    network: GuestNetwork = field(init=False)
    terminal: Terminal = field(init=False)
    #: When a wait in a call began that was held up and is made again; monotonic ns.
    wait_started: int | None = None
    #: Called while a call waits that has had no effect yet: its name, and whether for long.
    waiting: Callable[[str, bool], None] = lambda function, idle: None
    #: Called before the guest may have to wait, and when input was taken that cannot be had again.
    before_wait: Callable[[], None] = lambda: None
    on_consumed: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.network = GuestNetwork(self.tape, self.descriptors)
        self.terminal = Terminal(self.tape)

    def close(self) -> None:
        """The run is over: give back the host's sockets, and its terminal as it was."""
        self.network.close()
        self.terminal.close()

    def read_text(self, pointer: int, size: int) -> str:
        """A path of the guest; refuses with ``ILSEQ`` what is not UTF-8."""
        if size > TEXT_SIZE_MAX:
            self.memory.check(pointer, size)
            raise WasiError(Errno.NAMETOOLONG)
        return decode_text(self.memory.read(pointer, size))


def decode_text(data: bytes) -> str:
    """``data`` as text; refuses with ``ILSEQ``."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise WasiError(Errno.ILSEQ) from error


class GuestClocks:
    """The guest's clocks. The monotonic one counts the time that the guest was run, from 0."""

    def __init__(self) -> None:
        self._offset = -monotonic_ns()
        self.live: tuple[Callable[[], bytes], Callable[[], bytes]] = (
            lambda: _pack_clock(CLOCK_REALTIME, time_ns()),
            lambda: _pack_clock(CLOCK_MONOTONIC, monotonic_ns() + self._offset),
        )

    def monotonic(self) -> int:
        """Nanoseconds on the guest's monotonic clock."""
        return monotonic_ns() + self._offset

    def resume_at(self, monotonic: int) -> None:
        """Let the monotonic clock say ``monotonic`` now."""
        self._offset = monotonic - monotonic_ns()
