"""Call context: the state of a process that WASI functions use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic_ns, time_ns
from typing import Protocol

from journal.engine.runtime.bindings import GuestMemory
from journal.engine.tape import Tape
from journal.engine.wasi.channel import ByteChannel, WaitSource
from journal.engine.wasi.descriptors import Descriptors
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.engine.wasi.network.interface import NetworkInterface
from journal.engine.wasi.objects.buffers import BufferLimit
from journal.engine.wasi.objects.inner_network import InnerNetwork
from journal.engine.wasi.processes import GuestProcesses
from journal.engine.wasi.signals import GuestSignals
from journal.engine.wasi.stdio.outbox import Outbox
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.engine.wasi.terminal import Terminal
from journal.events import codec
from journal.events.inputs import ClockRead
from journal.events.wire_types import decode_path
from journal.wasi_abi import CLOCK_MONOTONIC, CLOCK_REALTIME, Errno, WasiError

#: Longest path read from guest memory, in bytes. Shorter paths can still exceed the limit of the
#: file system.
PATH_SIZE_MAX = 1 << 16

#: Shortest wait whose start is recorded, in nanoseconds.
LONG_WAIT_NS = 1_000_000_000

_pack_clock = codec.make_packer(ClockRead)


class WaitRelay(Protocol):
    """A task that a guest does for other processes while it waits."""

    def serve(self) -> None:
        """Do what there is to do."""

    def watch(self, source: WaitSource | None) -> WaitSource:
        """Return a source that is ready as ``source``, and watches for new tasks, too."""


@dataclass(slots=True, eq=False)
class CallContext:
    """State of one process that its calls read and change."""

    tape: Tape
    outbox: Outbox
    interrupter: Interrupter
    arguments: list[bytes]
    environment: list[bytes]
    descriptors: Descriptors = field(default_factory=Descriptors)
    clocks: "GuestClocks" = field(default_factory=lambda: GuestClocks())
    memory: GuestMemory = field(default_factory=GuestMemory)
    network: GuestNetwork = field(init=False)
    inner_network: InnerNetwork = field(default_factory=InnerNetwork)
    interface: NetworkInterface = field(init=False)
    terminal: Terminal = field(init=False)
    signals: GuestSignals = field(init=False)
    buffers: BufferLimit = field(init=False)
    #: Absolute path of the working directory of a guest of WASIX.
    working_directory: str = "/"
    processes: GuestProcesses = field(init=False)
    #: Start of a wait whose call was interrupted and is repeated, in monotonic nanoseconds. The
    #: call was suspended, or the last session ended in it.
    wait_started: int | None = None
    #: Called when the guest begins a long wait that ends at a time.
    on_long_wait: Callable[[], None] = lambda: None
    #: Called with the name of the function and whether the guest is idle, while a call without
    #: effects waits.
    on_wait: Callable[[str, bool], None] = lambda function, idle: None
    #: Called before the guest may have to wait, with true if it waits for standard input.
    before_wait: Callable[[bool], None] = lambda needs_input: None
    #: Called after the guest consumed input that cannot be read again.
    on_consumed: Callable[[], None] = lambda: None
    #: Called when a write to a pipe or a socket fails because nobody can read it: SIGPIPE.
    on_broken_pipe: Callable[[], None] = lambda: None

    #: What else the guest does while it waits, for other processes.
    relay: "WaitRelay | None" = None

    def __post_init__(self) -> None:
        self.network = GuestNetwork(self.tape, self.descriptors)
        self.interface = NetworkInterface(self.tape)
        self.terminal = Terminal(self.tape)
        self.signals = GuestSignals(self)
        self.buffers = BufferLimit(self.descriptors)
        self.processes = GuestProcesses(self.tape, self.descriptors)

    def wait(
        self,
        function: str,
        source: WaitSource | None,
        timeout_ns: int | None = None,
        *,
        needs_input: bool = False,
    ) -> bool:
        """Wait in a call that has had no effect yet; return whether ``source`` is ready.

        Output is delivered before. The guest can be stopped, and suspended for a snapshot:
        ``function`` is the name of the called function, and the call is made again afterwards.
        ``needs_input`` says whether the guest waits for standard input.

        A signal that the guest handles, or that ends it, ends the wait: raises ``WasiError`` with
        ``INTR``. A caller in the ``live`` function of an input lets the error pass: the tape
        repeats it, because ``SignalDelivered`` then stands in place of the input. As the result of
        a host operation it is recorded as its error number, so that no effect lacks its result.
        """
        self.before_wait(needs_input)
        if self.relay is None:
            return self.interrupter.wait(source, timeout_ns, partial(self.on_wait, function))
        source = self.relay.watch(source)
        return self.interrupter.wait(source, timeout_ns, partial(self._serve_and_wait, function))

    def _serve_and_wait(self, function: str, idle: bool) -> None:
        assert self.relay is not None, "the guest waits with a relay"
        self.relay.serve()
        self.outbox.deliver()
        self.on_wait(function, idle)

    def wait_timed(
        self,
        function: str,
        source: WaitSource | None,
        start_ns: int,
        timeout_ns: int | None,
        *,
        needs_input: bool,
    ) -> bool:
        """Wait as :meth:`wait` does, for a time that began at ``start_ns`` of the monotonic clock.

        The start of a long wait is recorded: a resumed session continues to wait, and the time
        between the sessions counts.
        """
        now = monotonic_ns()
        if self.wait_started is None and timeout_ns is not None and timeout_ns >= LONG_WAIT_NS:
            self.on_long_wait()
        if timeout_ns is not None:
            timeout_ns = max(start_ns + timeout_ns - now, 0)
        self.wait_started = self.wait_started or now
        try:
            is_ready = self.wait(function, source, timeout_ns, needs_input=needs_input)
        except WasiError:
            self.wait_started = None
            raise
        self.wait_started = None
        return is_ready

    def close(self) -> None:
        """Close the sockets of the host and restore its terminal."""
        self.release_host()
        self.terminal.close()

    def release_host(self) -> None:
        """Close what the descriptors of the guest have of the host, except files."""
        self.network.close()
        self.release_channels()

    def release_channels(self) -> None:
        """Close what the channels of the guest have of the host, except sockets."""
        for descriptor in self.descriptors.used.values():
            if isinstance(descriptor, ByteChannel):
                descriptor.release_host()

    def read_path(self, pointer: int, size: int) -> str:
        """Return the path of a file that exists. Surrogates stand for bytes that are not UTF-8."""
        if size > PATH_SIZE_MAX:
            self.memory.check(pointer, size)
            raise WasiError(Errno.NAMETOOLONG)
        return decode_path(self.memory.read(pointer, size))

    def read_new_path(self, pointer: int, size: int) -> str:
        """Return a path for a new file; raise ``WasiError`` with ``ILSEQ`` if it is not UTF-8."""
        path = self.read_path(pointer, size)
        if not is_utf8(path):
            raise WasiError(Errno.ILSEQ)
        return path


def is_utf8(path: str) -> bool:
    """Return whether the bytes of a path are UTF-8."""
    if path.isascii():
        return True
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


class GuestClocks:
    """Clocks of the guest. The monotonic clock starts at 0 and counts the time of its sessions.

    ``realtime_offset`` is the difference, in nanoseconds, between the guest's clock and that of the
    host. It is 0 unless the guest has set its clock.
    """

    def __init__(self) -> None:
        self._offset = -monotonic_ns()
        self.realtime_offset = 0
        self.live: tuple[Callable[[], bytes], Callable[[], bytes]] = (
            lambda: _pack_clock(CLOCK_REALTIME, time_ns() + self.realtime_offset),
            lambda: _pack_clock(CLOCK_MONOTONIC, monotonic_ns() + self._offset),
        )

    def monotonic(self) -> int:
        """Return the monotonic clock of the guest in nanoseconds."""
        return monotonic_ns() + self._offset

    def realtime(self) -> int:
        """Return the guest's time since the epoch in nanoseconds."""
        return time_ns() + self.realtime_offset

    def resume_at(self, monotonic: int) -> None:
        """Set the monotonic clock to ``monotonic`` nanoseconds."""
        self._offset = monotonic - monotonic_ns()
