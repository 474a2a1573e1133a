"""The processes that a guest knows: itself, its parent and its children."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.descriptors import (
    Descriptors,
    InputStream,
    OutputStream,
)
from journal.engine.wasi.objects.shared_pipe import (
    PipeId,
    SharedEnd,
    SharedPipe,
    SharedReader,
    SharedWriter,
)
from journal.engine.wasi.objects.waits import Condition
from journal.events import codec
from journal.events.inputs import HostCall
from journal.events.processes import (
    ChildEnded,
    ChildStarted,
    EndKind,
    ProcessReplaced,
    ProcessSpawned,
    StartDescriptor,
    StartedKind,
    StartFile,
    StartKind,
)
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext


FIRST_PID = 1
"""Number of the first process of a run."""

PROCESS_FUNCTIONS = frozenset(
    (
        *("proc_spawn", "proc_spawn2", "proc_spawn3", "proc_fork", "proc_fork_env"),
        *("proc_exec", "proc_exec2", "proc_exec3", "proc_exec4"),
    )
)
"""Functions with which a guest starts a program. The pipes of a module that imports one are
recorded, because a child may get an end."""

_pack_spawned = codec.make_late_packer(ProcessSpawned)
_pack_started, _unpack_started = (
    codec.make_late_packer(ChildStarted),
    codec.make_late_unpacker(ChildStarted),
)
_pack_ended, _unpack_ended = (
    codec.make_late_packer(ChildEnded),
    codec.make_late_unpacker(ChildEnded),
)
_pack_replaced = codec.make_late_packer(ProcessReplaced)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A program to start, and what it gets from the process that starts it.

    ``ignored`` are the signals that the program ignores.
    ``seq`` is the number of the event of the request.
    """

    command: str
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    directory: str
    descriptors: tuple[StartDescriptor, ...] = ()
    files: tuple[StartFile, ...] = ()
    ignored: bytes = b""
    seq: int = 0


def _refuse_copy() -> Any:
    """Raise ``WasiError``: the stack of the guest cannot be copied."""
    raise WasiError(Errno.NOTSUP)


class ChildEnd(NamedTuple):
    """End of a child. ``code`` is its exit code, or the signal that killed it."""

    pid: int
    kind: EndKind
    code: int


NOT_ENDED = ChildEnd(0, EndKind.NONE, 0)


class ProcessReplacedError(BaseException):
    """Raised in a guest whose program was replaced: it ends, and its process does not."""


class ProcessHost(Protocol):
    """The other processes of a run. All methods are thread-safe."""

    def find_pipe(self, pipe_id: PipeId) -> SharedPipe:
        """Return a pipe; make it if it does not exist."""

    def create_child(self, parent: int, request: StartRequest) -> int:
        """Create the journal of a child, which does not run yet, and return its number.

        Raises ``WasiError`` for a program that cannot be started.
        """

    def start_child(self, pid: int) -> None:
        """Start a child that was created."""

    def create_successor(self, pid: int, image: int, request: StartRequest) -> None:
        """Create the journal in which a process continues with another program, its ``image``.

        Raises ``WasiError`` for a program that cannot be started.
        """

    def start_successor(self, pid: int) -> None:
        """Start the program that replaces that of a process."""

    def fork(self, parent: int, take_copy: Callable[[], Any]) -> int:
        """Create the journal of a child with a copy of its parent's state; return its number.

        Raises ``WasiError`` if that is impossible, and what ``take_copy`` raises.
        """

    def find_end(self, pid: int) -> ChildEnd | None:
        """Return the end of a process, None while it runs."""

    def send_signal(self, pid: int, signal: int) -> None:
        """Send a signal to a process. Raises ``WasiError`` if that is impossible."""

    def find_ended(self, parent: int, wanted: int) -> ChildEnd | None:
        """Return a child that has ended and was not joined, ``wanted`` or any for 0; else None.

        Raises ``WasiError`` with ``CHILD`` if there is no such child.
        """

    def join(self, pid: int) -> None:
        """Forget a child that has ended."""

    def wait_until_live(self, context: "CallContext") -> None:
        """Wait until all processes have been replayed to the ends of their journals."""

    def end_run(self) -> None:
        """Stop all other processes: the first one has ended."""


class OwnPipes:
    """Host of a guest that is alone, such as a clone: it can start no process."""

    def find_pipe(self, pipe_id: PipeId) -> SharedPipe:
        """Return a new pipe: both ends are in the guest, which asks once."""
        return SharedPipe()

    def create_child(self, parent: int, request: StartRequest) -> int:
        """Refuse with ``NOTSUP``."""
        raise WasiError(Errno.NOTSUP)

    def create_successor(self, pid: int, image: int, request: StartRequest) -> None:
        """Refuse with ``NOTSUP``."""
        raise WasiError(Errno.NOTSUP)

    def fork(self, parent: int, take_copy: Callable[[], Any]) -> int:
        """Refuse with ``NOTSUP``."""
        raise WasiError(Errno.NOTSUP)

    def find_ended(self, parent: int, wanted: int) -> ChildEnd | None:
        """Refuse with ``CHILD``: there is none."""
        raise WasiError(Errno.CHILD)

    def send_signal(self, pid: int, signal: int) -> None:
        """Refuse with ``SRCH``: there is no other process."""
        raise WasiError(Errno.SRCH)

    def find_end(self, pid: int) -> ChildEnd | None:
        """Return None: there is no other process."""
        return None

    def start_child(self, pid: int) -> None:
        """Do nothing: there is no child."""

    def start_successor(self, pid: int) -> None:
        """Do nothing: there is no other program."""

    def join(self, pid: int) -> None:
        """Do nothing: there is no child."""

    def wait_until_live(self, context: "CallContext") -> None:
        """Do nothing: no other process is replayed."""

    def end_run(self) -> None:
        """Do nothing: there is no other process."""


@dataclass(slots=True, eq=False)
class GuestProcesses:
    """The processes that a guest knows. Without a ``host`` it can start none.

    ``records_pipes`` says whether new pipes are those between processes. ``wake`` wakes a waiting
    guest, and ``barrier`` makes its events durable.
    """

    tape: Tape
    descriptors: Descriptors
    wake: Callable[[], None] = lambda: None
    barrier: Callable[[], None] = lambda: None
    pid: int = FIRST_PID
    parent: int = 0
    image: int = 0
    records_pipes: bool = False
    host: ProcessHost | None = None
    #: Number and parent of the process, in which proc_fork has not returned yet.
    forked_as: tuple[int, int] | None = None
    #: Returns a copy of the guest's state, for which the call is suspended and made again.
    take_copy: Callable[[], Any] = _refuse_copy
    #: Called when the process has got its number from a fork.
    on_forked: Callable[[], None] = lambda: None
    #: Called before the program is replaced.
    on_replaced: Callable[[], None] = lambda: None
    #: Files to open before the program starts, and duplicates of these.
    start_files: tuple[StartFile, ...] = ()
    start_copies: tuple[StartDescriptor, ...] = ()
    _held: list[SharedEnd] = field(default_factory=list)

    # -- pipes -------------------------------------------------------------------------------------

    def make_pipe(self) -> tuple[SharedReader, SharedWriter]:
        """Return the ends of a new pipe, whose CreatePipe event was just recorded."""
        pipe_id = PipeId(self.pid, self.tape.last_effect_seq)
        ends = SharedReader(pipe_id), SharedWriter(pipe_id)
        if self.host is not None and not self.tape.replaying:
            pipe = self.host.find_pipe(pipe_id)
            for end in ends:
                end.attach(pipe, self)
        return ends

    def attach(self, end: SharedEnd) -> None:
        """Connect an end with its pipe: the guest is live."""
        if self.host is not None:
            end.attach(self.host.find_pipe(end.id), self)

    def list_ends(self) -> list[SharedEnd]:
        """Return the ends of pipes between processes that the guest has, each once."""
        found = {id(each): each for each in self.descriptors.used.values()}
        return [each for each in found.values() if isinstance(each, SharedEnd)]

    def continue_live(self) -> None:
        """Connect all ends after a replay."""
        for end in self.list_ends():
            self.attach(end)
        for end in self._held:
            end.detach()
        self._held.clear()

    def hold_ends(self, parent: "GuestProcesses") -> None:
        """Keep the pipes of ``parent`` open until this process, which it forked, is live."""
        for end in parent.list_ends():
            held = SharedWriter(end.id) if end.is_writer else SharedReader(end.id)
            self.attach(held)
            self._held.append(held)

    def detach(self) -> None:
        """Disconnect all ends: the process has ended, and its events are durable."""
        for end in self.list_ends():
            end.detach()

    def add_start_descriptors(self, started: tuple[StartDescriptor, ...]) -> None:
        """Add the descriptors that the process has from its start; the mounts are there already.

        Raises ``ValueError`` for descriptors that no process can have.
        """
        used = self.descriptors.used
        for stream in range(3):
            self.descriptors.close(stream)
        copies = []
        for each in started:
            if each.origin is StartKind.DUPLICATE and each.source not in used:
                copies.append(each)
                continue
            if each.fd in used:
                self.descriptors.close(each.fd)
            if each.origin is StartKind.DUPLICATE:
                self.descriptors.duplicate(each.source, each.fd)
                continue
            kind = SharedReader if each.origin is StartKind.READ_END else SharedWriter
            end = kind(PipeId(each.creator, each.number))
            end.flags = each.flags
            self.descriptors.add_at(each.fd, end)
        self.start_copies = tuple(copies)

    # -- children ----------------------------------------------------------------------------------

    def spawn(self, request: StartRequest) -> int:
        """Start a child and return its number; raise ``WasiError`` if that is impossible."""
        fds = sorted(
            {each.fd for each in request.descriptors} | {each.fd for each in request.files}
        )
        payload = _pack_spawned(request.command, request.arguments, tuple(fds))
        self.tape.record_effect(ProcessSpawned.tag, payload)
        return self._request_child(request, self.tape.last_effect_seq)

    def _request_child(self, request: StartRequest, seq: int) -> int:
        """Return the number of a new child, which runs once that is durable."""
        host, is_created = self.host, False

        def live() -> bytes:
            nonlocal is_created
            try:
                if host is None:
                    raise WasiError(Errno.NOTSUP)
                pid = host.create_child(self.pid, replace(request, seq=seq))
            except WasiError as error:
                return _pack_started(error.errno, StartedKind.CHILD, 0, self.pid, 0)
            is_created = True
            return _pack_started(0, StartedKind.CHILD, pid, self.pid, 0)

        payload = self.tape.request_input(ChildStarted.tag, b"", live)
        errno, _, pid, *_ = _unpack_started(payload)
        if is_created and host is not None:
            self.barrier()
            host.start_child(pid)
        if errno:
            raise WasiError(errno)
        return int(pid)

    def replace(self, request: StartRequest) -> NoReturn:
        """Replace the program of the process; return only by raising.

        Raises ``WasiError`` if the program cannot be started, and else ``ProcessReplacedError``.
        With the result the process is that of the other journal, also after a crash.
        """
        host, is_created, image = self.host, False, self.image + 1
        itself = self.pid, self.parent, image

        def live() -> bytes:
            nonlocal is_created
            try:
                if host is None:
                    raise WasiError(Errno.NOTSUP)
                host.create_successor(self.pid, image, request)
            except WasiError as error:
                return _pack_started(error.errno, StartedKind.PROGRAM, *itself)
            is_created = True
            return _pack_started(0, StartedKind.PROGRAM, *itself)

        errno, *_ = _unpack_started(self.tape.request_input(ChildStarted.tag, b"", live))
        if errno:
            raise WasiError(errno)
        self.on_replaced()
        self.tape.record_effect(ProcessReplaced.tag, _pack_replaced(self.pid, image))
        if not self.tape.replaying:
            self.barrier()
            if is_created and host is not None:
                host.start_successor(self.pid)
            self.detach()
        raise ProcessReplacedError

    def fork(self) -> int:
        """Return the number of a new child that continues as this process does; 0 in the child.

        The call suspends the guest for a copy of its state, and is made again in both processes.
        Raises ``WasiError`` if the process cannot be forked.
        """
        host, is_created = self.host, False

        def live() -> bytes:
            nonlocal is_created
            if self.forked_as is not None:
                return _pack_started(0, StartedKind.ITSELF, *self.forked_as, 0)
            try:
                if host is None:
                    raise WasiError(Errno.NOTSUP)
                pid = host.fork(self.pid, self.take_copy)
            except WasiError as error:
                return _pack_started(error.errno, StartedKind.FORK, 0, self.pid, 0)
            is_created = True
            return _pack_started(0, StartedKind.FORK, pid, self.pid, 0)

        payload = self.tape.request_input(ChildStarted.tag, b"", live)
        errno, kind, pid, *_ = _unpack_started(payload)
        if is_created and host is not None:
            self.barrier()
            host.start_child(pid)
        if errno:
            raise WasiError(errno)
        self.repeat_start(payload)
        return 0 if kind is StartedKind.ITSELF else int(pid)

    def repeat_start(self, payload: bytes) -> None:
        """Become the process that a fork made, if this ChildStarted event says so.

        The standard streams are those of the first process, which other processes use by pipes.
        """
        errno, kind, pid, parent, _ = _unpack_started(payload)
        if errno or kind is not StartedKind.ITSELF:
            return
        self.forked_as = None
        self.pid, self.parent, self.image = pid, parent, 0
        self.on_forked()
        for stream in {id(each): each for each in self.descriptors.used.values()}.values():
            if not isinstance(stream, InputStream | OutputStream):
                continue
            is_input = isinstance(stream, InputStream)
            pipe_id = PipeId(0, 0 if isinstance(stream, InputStream) else stream.number)
            end = SharedReader(pipe_id) if is_input else SharedWriter(pipe_id)
            self.descriptors.substitute(stream, end)
            if not self.tape.replaying:
                self.attach(end)

    def send_signal(self, pid: int, signal: int) -> None:
        """Send a signal to another process. Raises ``WasiError`` if that is impossible."""

        def live() -> HostReply:
            try:
                if self.host is None:
                    raise WasiError(Errno.SRCH)
                self.host.send_signal(pid, signal)
            except WasiError as error:
                return error.errno, b""
            return 0, b""

        errno, _ = self.tape.request_host_result(HostCall.SIGNAL, pid, live)
        if errno:
            raise WasiError(errno)

    def join(self, context: "CallContext", wanted: int, *, waits: bool) -> ChildEnd:
        """Return the end of the child ``wanted``, 0 for any; ``NOT_ENDED`` without a wait."""

        def live() -> bytes:
            try:
                end = self._wait_for_end(context, wanted, waits=waits)
            except WasiError as error:
                if error.errno == Errno.INTR:  # The tape records the signal instead.
                    raise
                return _pack_ended(wanted, error.errno, *NOT_ENDED)
            return _pack_ended(wanted, 0, *end)

        prefix = wanted.to_bytes(4, "little")
        payload = self.tape.request_input(ChildEnded.tag, prefix, live)
        _, errno, pid, kind, code = _unpack_ended(payload)
        if errno:
            raise WasiError(errno)
        return ChildEnd(pid, EndKind(kind), code)

    def _wait_for_end(self, context: "CallContext", wanted: int, *, waits: bool) -> ChildEnd:
        host = self.host
        if host is None:
            raise WasiError(Errno.CHILD)
        while (end := host.find_ended(self.pid, wanted)) is None:
            if not waits:
                return NOT_ENDED
            context.wait(
                "proc_join", Condition(lambda: host.find_ended(self.pid, wanted) is not None)
            )
        host.join(end.pid)
        return end
