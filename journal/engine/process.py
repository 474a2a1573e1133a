"""One running guest: its instance, its state, and its run from start to end."""

import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from journal import codec
from journal.engine import identity as identities
from journal.engine import outputs
from journal.engine.abi import Exit
from journal.engine.calls.state import State
from journal.engine.configuration import MEMORIES_MAX, TABLE_ELEMENTS_MAX
from journal.engine.delivered import marks_of_session
from journal.engine.descriptors import InputStream, OutputStream
from journal.engine.inputs import Interrupter, Source, Stopped
from journal.engine.module import START, define_imports
from journal.engine.mounts import Mounts
from journal.engine.outputs import STDERR, STDIN, STDOUT, Durability, Outbox, Outlet
from journal.engine.seam import Instance, Trapped, backtrace_of
from journal.engine.sockets import Network
from journal.engine.tape import Batch, Tape
from journal.engine.terminals import Terminal, terminal_of
from journal.errors import Divergence, NotResumable
from journal.event import Event
from journal.events.core import ProcessExit
from journal.events.process import Level, ProcessTrap, SessionStart

BACKTRACE_SIZE_MAX = 4096

#: What comes of taking apart an answer in a journal that is not what its kind says.
_MALFORMED = (struct.error, ValueError, LookupError)

#: How long a printed line may wait for others that share its sync: after a pause, and in a stream.
GATHER_SECONDS = 0.002
GATHER_IN_STREAM_SECONDS = 0.02
STREAM_PAUSE_SECONDS = 0.1
#: How often the journal is handed to the kernel, or synced, when nothing else does it.
INTERVAL_SECONDS = 1.0


class Keeper(outputs.Keeper, Protocol):
    """What a process needs of a journal's writer."""

    def append(self, event: Event) -> int:
        """Append an event."""

    def sync(self) -> None:
        """Make everything durable."""


class Ending(Enum):
    """How a run ended."""

    EXITED = "exited"
    TRAPPED = "trapped"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run. ``code`` is the exit code of a guest that exited, else ``None``.

    ``reason`` names the trap and ``backtrace`` where it was, innermost function first.
    """

    ending: Ending
    code: int | None = None
    reason: str = ""
    backtrace: str = ""


class Ticker:
    """Makes the guest's thread look up: soon after something was printed, and once a second."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._armed = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-ticker", daemon=True)

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def arm(self) -> None:
        """Tick soon."""
        self._armed.set()

    def close(self) -> None:
        """Stop ticking."""
        self._closed = True
        self._armed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        ticked = 0.0
        while not self._closed:
            if self._armed.wait(INTERVAL_SECONDS):
                self._armed.clear()
                in_stream = time.monotonic() - ticked < STREAM_PAUSE_SECONDS
                time.sleep(GATHER_IN_STREAM_SECONDS if in_stream else GATHER_SECONDS)
                ticked = time.monotonic()
            if not self._closed:
                self._tick()


class Process:
    """A guest, ready to run in a thread of its own.

    With ``recorded`` it first replays, and goes on live where that ends. ``outlets`` are settled:
    they know what they have of the recorded output; ``delivered`` says the same by stream.
    ``moved`` says where the mounts' directories are now. ``terminals`` are the streams that the
    guest sees as terminals; in a replay those of the first session, whatever they are now.
    ``network`` says whether the guest may have sockets.
    """

    def __init__(
        self,
        engine: Any,
        module: Any,
        identity: identities.Identity,
        writer: Keeper,
        *,
        outlets: dict[int, Outlet],
        stdin: Source,
        interrupter: Interrupter,
        durability: Durability = Durability.OUTPUT,
        recorded: Iterator[Batch] | None = None,
        delivered: dict[int, int] | None = None,
        moved: Mapping[str, str] | None = None,
        terminals: Collection[int] = (),
        network: bool = False,
    ) -> None:
        self._writer = writer
        self._durability = durability
        self._stdin = stdin
        self._outlets = outlets
        self._delivered = delivered or {}
        self._session: tuple[int, int] | None = None  # its µs, and its monotonic clock
        self._synced = time.monotonic()
        self.tape = Tape(
            writer,
            recorded,
            keep_inputs=identity.start.level is Level.FULL,
            on_mark=self._see_mark,
            on_live=self._go_on,
            barrier=self._barrier,
        )
        self._instance = Instance(engine, self._on_tick)
        self._ticker = Ticker(self._instance.increment_epoch)
        self.state = State(
            tape=self.tape,
            outbox=Outbox(
                outlets, writer, self._barrier, self._ticker.arm, interrupter.wait_writable
            ),
            interrupter=interrupter,
            arguments=list(identity.start.arguments),
            environment=list(identity.start.environment),
            before_wait=self._before_wait,
            on_consumed=writer.flush,
        )
        self.state.network = Network(self.tape, self.state.descriptors, allowed=network)
        self.state.terminal = Terminal(self.tape, terminals, terminal_of(stdin, outlets))
        self.mounts = Mounts(
            self.tape, identity.mounts, identity.configuration.files_size_max, moved or {}
        )
        self._open_descriptors(identity, terminals)
        self._instance.limit(
            memory_size_max=identity.configuration.memory_size_max,
            memories=MEMORIES_MAX,
            table_elements=TABLE_ELEMENTS_MAX,
        )
        define_imports(self._instance, module, identity.configuration, self.state)
        self._module = module

    def _open_descriptors(self, identity: identities.Identity, terminals: Collection[int]) -> None:
        table = self.state.descriptors
        table.add(InputStream(self._stdin, STDIN in terminals))
        for stream in (STDOUT, STDERR):
            table.add(OutputStream(stream, stream in terminals))
        self.mounts.preopen(table)
        for event, micros in identity.placed:
            self.mounts.place(event, micros * 1000)

    def begin_session(self) -> None:
        """Write down that a session begins, and where its streams lead."""
        self._writer.append(identities.session_start(self.state.clocks.monotonic()))
        self._open_streams()

    def _open_streams(self) -> None:
        self._writer.append(self._stdin.opened())
        for event in marks_of_session(self._outlets, self._delivered):
            self._writer.append(event)

    def interrupt(self) -> None:
        """Let the guest notice a request to stop. From any thread."""
        self._instance.increment_epoch()

    def run(self) -> Outcome:
        """Run the guest to its end, or to where it is stopped."""
        self._ticker.start()
        try:
            if self.tape.replaying:
                self._open_streams()  # before the first of the outputs that are still owed leaves
                self._writer.flush()
            outcome = self._run()
            with suppress(Stopped):  # what cannot leave now, a resume delivers
                self.state.outbox.deliver()
            return outcome
        finally:
            self._ticker.close()
            self.state.close()
            self.mounts.close()

    def _run(self) -> Outcome:
        try:
            self.tape.start()
            self.state.memory = self._instance.instantiate(self._module)
            self._instance.call(START)
            code = 0
        except Exit as exited:
            code = exited.code
        except Trapped as trapped:
            return self._trapped(trapped.kind, trapped.backtrace)
        except Stopped:
            return Outcome(Ending.STOPPED)
        except Divergence as divergence:
            divergence.backtrace = backtrace_of(divergence)
            raise
        except _MALFORMED as error:
            if self.tape.last_heard < 0:
                raise
            raise NotResumable(
                f"event {self.tape.last_heard} is no answer to what the guest asked: {error}"
            ) from error
        self.state.close()  # what has ended does not go on where the journal does
        self.tape.tell(ProcessExit.tag, codec.encode(ProcessExit(exit_code=_signed(code))))
        return Outcome(Ending.EXITED, code)

    def _trapped(self, kind: str, backtrace: str) -> Outcome:
        event = ProcessTrap(kind=kind, message=backtrace[:BACKTRACE_SIZE_MAX])
        self.state.close()
        self.tape.tell(ProcessTrap.tag, codec.encode(event))
        return Outcome(Ending.TRAPPED, None, kind, event.message)

    # -- what the tape, the outbox and the clock tick call, all in the guest's thread -----------

    def _barrier(self) -> None:
        if self._durability is Durability.OUTPUT:
            self._writer.sync()
        else:
            self._writer.flush()

    def _before_wait(self) -> None:
        self.state.outbox.deliver()
        self._keep_up()

    def _keep_up(self) -> None:
        """Let a crash lose little: hand the journal to the kernel, and sync it if it is time."""
        self._writer.flush()
        due = time.monotonic() - self._synced >= INTERVAL_SECONDS
        if due and self._durability is not Durability.NONE:
            self._writer.sync()
            self._synced = time.monotonic()

    def _on_tick(self) -> None:
        self.state.interrupter.check()
        self.state.outbox.deliver()
        self._keep_up()

    def _see_mark(self, tag: int, payload: bytes, micros: int) -> None:
        if tag == SessionStart.tag:
            event = codec.decode(tag, payload)
            assert isinstance(event, SessionStart)
            self._session = (micros, event.monotonic)

    def _go_on(self) -> None:
        """The journal has been replayed: what follows is new."""
        base = self.tape.told_monotonic
        if self._session is not None:
            began, monotonic = self._session
            base = max(base, monotonic + (self.tape.last_time - began) * 1000)
        self.state.clocks.go_on_from(base)
        self._writer.append(identities.session_start(base))
        self.state.network.settle()
        self.state.terminal.settle()
        self.state.outbox.deliver()


def _signed(code: int) -> int:
    return code - (1 << 32) if code >= 1 << 31 else code
