"""Running guests from Python: record one, or resume one from its journal."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from journal import codec
from journal.engine import identity as identities
from journal.engine import module as modules
from journal.engine.configuration import Configuration
from journal.engine.inputs import BytesSource, FedSource, Interrupter, Source, source_of
from journal.engine.mounts import HostMount, MemoryMount, Placed
from journal.engine.outputs import (
    STDERR,
    STDIN,
    STDOUT,
    Durability,
    InFlight,
    Outbox,
    Outlet,
    StreamHistory,
    history_of,
    marks_of_session,
    settle,
)
from journal.engine.process import Ending, Outcome, Process
from journal.engine.tape import Recorded
from journal.errors import EngineError, NotResumable, OptionError
from journal.event import Event
from journal.events.core import ProcessExit
from journal.events.process import Level, ProcessTrap
from journal.events.streams import StreamWrite, TargetKind
from journal.reader import Reader
from journal.writer import Writer

THREAD_STACK_EXTRA = 16 << 20  # for Python below and above the guest's calls

_STACK_SIZE_LOCK = threading.Lock()

Input = bytes | int | IO[Any] | FedSource | None
Output = int | IO[Any] | None
StrPath = str | os.PathLike[str]


class Recorder:
    """A guest that runs in a thread, recorded in a journal; a context manager.

    Entering starts the guest; leaving stops it, if it still runs, and closes the journal, which
    can be resumed. Use :func:`record` and :func:`resume` to make one.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._interrupter = Interrupter()
        self._writer: Writer | None = None
        self._process: Process | None = None
        self._thread: threading.Thread | None = None
        self._stack_size = 0
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._feed: FedSource | None = None
        self._outlets: dict[int, Outlet] = {}
        self._reader: Reader | None = None
        self._ended_before = False
        self._replay: Callable[[], tuple[Process, int]] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ended_before(self) -> bool:
        """Whether the journal's program had ended when it was resumed."""
        return self._ended_before

    def start(self) -> None:
        """Let the guest run."""
        if self._outcome is None and self._thread is None:
            self._start_thread()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="journal-guest", daemon=True)
        with _STACK_SIZE_LOCK:
            before = threading.stack_size(self._stack_size + THREAD_STACK_EXTRA)
            try:
                self._thread.start()
            finally:
                threading.stack_size(before)

    def _run(self) -> None:
        assert self._process is not None
        try:
            self._outcome = self._process.run()
        except BaseException as error:
            self._error = error

    def wait(self, timeout_seconds: float | None = None) -> Outcome | None:
        """Wait for the end, and give it; ``None`` if the time is over before.

        Raises the ``JournalError`` that ended the run, if one did: a ``Divergence``, a
        ``StorageError``, an ``OutputLost``.
        """
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                return None
        if self._error is not None:
            raise self._error
        return self._outcome

    def stop(self) -> None:
        """Let the guest stop at its next safe point: a call, a loop or a function's beginning.

        Returns at once. Safe from any thread and from signal handlers.
        """
        self._interrupter.request()
        process = self._process
        if process is not None:
            process.interrupt()

    def feed(self, data: bytes) -> None:
        """Give the guest more standard input; only if it was started without any."""
        self._fed().feed(data)

    def close_stdin(self) -> None:
        """Let the guest read the end of its standard input."""
        self._fed().close()

    def _fed(self) -> FedSource:
        if self._feed is None:
            raise OptionError("standard input was given at the start: it cannot be fed")
        return self._feed

    @property
    def stdout(self) -> bytes:
        """What the guest has printed, where standard output is captured."""
        return self._captured(STDOUT)

    @property
    def stderr(self) -> bytes:
        """What the guest has printed to standard error, where that is captured."""
        return self._captured(STDERR)

    def _captured(self, stream: int) -> bytes:
        outlet = self._outlets[stream]
        if outlet.kind is not TargetKind.CAPTURED:
            raise OptionError("this stream is not captured: it was given a target")
        return bytes(outlet.captured)

    def read_file(self, path: str) -> bytes:
        """The bytes of one of the guest's files, by the guest's path.

        Raises ``FileNotFoundError``. While the guest runs, it is what the file has at the moment.
        """
        return self._mounted().mounts.read(path)

    @property
    def files(self) -> dict[str, bytes]:
        """All regular files that the guest has in memory, by the guest's paths."""
        return self._mounted().mounts.files()

    def _mounted(self) -> Process:
        if self._process is None:
            assert self._replay is not None
            process, stack_size = self._replay()
            self._ready(process, stack_size)
            self._thread = None
            self._start_thread()
            self.wait()
        assert self._process is not None
        return self._process

    def close(self) -> None:
        """Stop the guest, make the journal durable, and let go of it."""
        if self._thread is not None and self._thread.is_alive():
            self.stop()
            self._thread.join()
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            finally:
                self._interrupter.close()

    # -- made by record() and resume() ---------------------------------------------------------

    def _own(self, writer: Writer) -> None:
        self._writer = writer

    def _connect(
        self, stdin: Input, stdout: Output, stderr: Output, history: StreamHistory | None
    ) -> Source:
        self._outlets = _outlets(stdout, stderr)
        source = _source(stdin, history)
        if isinstance(source, FedSource):
            self._feed = source
        return source

    def _ready(self, process: Process, stack_size: int) -> None:
        self._process, self._stack_size = process, stack_size


def record(
    module: bytes | StrPath,
    path: StrPath,
    *,
    args: Sequence[str | bytes] = (),
    env: Mapping[str, str] | None = None,
    mounts: Iterable[HostMount | MemoryMount] | None = None,
    copies: Iterable[Placed] = (),
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability = Durability.OUTPUT,
    level: Level = Level.FULL,
    embed: bool = True,
    configuration: Configuration | None = None,
    cache: Path | None = None,
) -> Recorder:
    """A new run of ``module``, recorded in a new journal at ``path``.

    ``args`` are the program's arguments, its own name first. ``mounts`` are its directories: by
    default one in memory, ``/``; ``copies`` are put there before it starts. ``stdin`` is bytes, a
    file or a descriptor, or nothing: then it is fed by :meth:`Recorder.feed`. ``stdout`` and
    ``stderr`` are files or descriptors, or captured. ``cache`` is where compiled modules are kept.
    Raises ``ModuleRefused``, ``OptionError``, and ``StorageError`` where the disk fails.
    """
    loaded = modules.load(module)
    settings = configuration or Configuration()
    engine = modules.engine_for(settings)
    compiled = modules.compiled(engine, loaded, settings, cache or modules.default_cache())
    recorder = Recorder(path)
    source = recorder._connect(stdin, stdout, stderr, None)
    writer = Writer(path, publish=False)
    recorder._own(writer)
    try:
        identity = identities.write(
            writer,
            loaded,
            settings,
            arguments=[_bytes(argument) for argument in args] or [b"program"],
            environment=[f"{name}={value}".encode() for name, value in (env or {}).items()],
            mounts=list(mounts) if mounts is not None else [MemoryMount("/")],
            placed=list(copies),
            level=level,
            embed=embed,
        )
        process = Process(
            engine,
            compiled,
            identity,
            writer,
            outlets=recorder._outlets,
            stdin=source,
            interrupter=recorder._interrupter,
            durability=durability,
        )
        process.begin_session()
        writer.publish()
    except BaseException:
        with suppress(EngineError):
            recorder.close()
        raise
    recorder._ready(process, settings.stack_size)
    return recorder


def resume(
    path: StrPath,
    *,
    module: bytes | StrPath | None = None,
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability = Durability.OUTPUT,
    in_flight: InFlight = InFlight.REPEAT,
    memory_size_max: int | None = None,
    cache: Path | None = None,
) -> Recorder:
    """The run of the journal at ``path``, from where the journal ends.

    The guest is replayed from its start to there, and goes on live; a program that had ended has
    its outcome at once. ``module`` is needed only where the journal does not hold it.
    ``memory_size_max`` refuses a journal whose guest may have more. Raises ``NotResumable``,
    ``ModuleMismatch``, ``EngineMismatch``, and ``JournalLocked`` while another process runs it.
    """
    if not Path(path).exists():
        raise OptionError(f"{path} does not exist: there is no journal to resume")
    recorder = Recorder(path)
    writer = Writer(path)
    recorder._own(writer)
    try:
        _resume(
            recorder,
            writer,
            module=module,
            streams=(stdin, stdout, stderr),
            durability=durability,
            in_flight=in_flight,
            memory_size_max=memory_size_max,
            cache=cache or modules.default_cache(),
        )
    except BaseException:
        with suppress(EngineError):
            recorder.close()
        raise
    return recorder


def _resume(
    recorder: Recorder,
    writer: Writer,
    *,
    module: bytes | StrPath | None,
    streams: tuple[Input, Output, Output],
    durability: Durability,
    in_flight: InFlight,
    memory_size_max: int | None,
    cache: Path,
) -> None:
    until = writer.next_seq
    recorder._reader = reader = Reader(recorder.path)
    identity, first = identities.read(reader.frames())
    if identity.start.level is not Level.FULL:
        raise NotResumable(
            "the journal was recorded at level state: it has no inputs, so it cannot be replayed"
        )
    landmarks = list(_frames_of(reader, identities.LANDMARKS))
    endings = (ProcessExit.tag, ProcessTrap.tag)
    histories = history_of(mark for mark in landmarks if mark[0] not in endings)
    source = recorder._connect(*streams, histories[STDIN])

    def writes() -> Iterator[tuple[int, bytes]]:
        for tag, payload in _frames_of(reader, frozenset((StreamWrite.tag,))):
            event = codec.decode(tag, payload)
            assert isinstance(event, StreamWrite)
            yield event.stream, event.data

    delivered = settle(recorder._outlets, histories, writes, in_flight)

    def process(keeper: Writer | Discard, outlets: dict[int, Outlet]) -> tuple[Process, int]:
        identities.check_engine(identity, memory_size_max)
        loaded = identities.module_of(identity, module)
        engine = modules.engine_for(identity.configuration)
        compiled = modules.compiled(engine, loaded, identity.configuration, cache)
        made = Process(
            engine,
            compiled,
            identity,
            keeper,
            outlets=outlets,
            stdin=source,
            interrupter=recorder._interrupter,
            durability=durability,
            recorded=_recorded(reader, first.seq, until),
            delivered=delivered,
        )
        return made, identity.configuration.stack_size

    ended = _ended(landmarks)
    if ended is None:
        recorder._ready(*process(writer, recorder._outlets))
        return
    outlets = recorder._outlets
    _deliver_rest(writer, outlets, delivered, writes())
    recorder._outcome, recorder._ended_before = ended, True
    nowhere = {stream: Outlet(TargetKind.CAPTURED) for stream in outlets}
    recorder._replay = lambda: process(Discard(), nowhere)


def _recorded(reader: Reader, start: int, until: int) -> Iterator[Recorded]:
    """What is replayed: the events from ``start`` on, without what this session appends."""
    for block in reader.blocks(start):
        if block.first_seq >= until:
            return
        for row in zip(block.seqs, block.tags, block.payloads(), block.times, strict=True):
            if row[0] >= start:
                yield Recorded._make(row)


def _frames_of(reader: Reader, tags: frozenset[int]) -> Iterator[tuple[int, bytes]]:
    """The frames of some kinds; blocks that have none are not even read."""
    for block in reader.blocks(tags=tags):
        payloads = None
        for index, tag in enumerate(block.tags):
            if tag in tags:
                payloads = payloads or block.payloads()
                yield tag, payloads[index]


def _ended(landmarks: list[tuple[int, bytes]]) -> Outcome | None:
    for tag, payload in reversed(landmarks):
        if tag == ProcessExit.tag:
            event = codec.decode(tag, payload)
            assert isinstance(event, ProcessExit)
            return Outcome(Ending.EXITED, (event.exit_code or 0) & 0xFFFFFFFF)
        if tag == ProcessTrap.tag:
            trap = codec.decode(tag, payload)
            assert isinstance(trap, ProcessTrap)
            return Outcome(Ending.TRAPPED, None, trap.kind, trap.message)
    return None


def _deliver_rest(
    writer: Writer,
    outlets: dict[int, Outlet],
    delivered: dict[int, int],
    writes: Iterator[tuple[int, bytes]],
) -> None:
    """Write what a program that ended has printed and its targets have not got."""
    outbox = Outbox(outlets, writer, writer.sync, lambda: None)
    positions = dict.fromkeys(outlets, 0)
    opened = False
    for stream, data in writes:
        if not opened and outlets[stream].skip < len(data):
            opened = True
            for event in marks_of_session(outlets, delivered):
                writer.append(event)
        outbox.put_again(stream, positions[stream], data)
        positions[stream] += len(data)
    outbox.deliver()


class Discard:
    """A writer that keeps nothing, for a replay that only looks."""

    time = 0
    next_seq = 0

    def append(self, event: Event) -> int:
        """Nothing happens."""
        return 0

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Nothing happens."""
        return 0

    def flush(self) -> None:
        """Nothing happens."""

    def sync(self) -> None:
        """Nothing happens."""


def _outlets(stdout: Output, stderr: Output) -> dict[int, Outlet]:
    """The targets; streams that lead to the same regular file share one, which keeps the order."""
    outlets: dict[int, Outlet] = {}
    for stream, target in ((STDOUT, stdout), (STDERR, stderr)):
        if target is None:
            outlets[stream] = Outlet(TargetKind.CAPTURED)
            continue
        outlet = Outlet.of_descriptor(_descriptor(target))
        twin = outlets.get(STDOUT)
        if (
            twin is not None
            and outlet.kind is twin.kind is TargetKind.REGULAR
            and (outlet.device, outlet.inode) == (twin.device, twin.inode)
        ):
            outlet = twin
        outlets[stream] = outlet
    return outlets


def _source(stdin: Input, history: StreamHistory | None) -> Source:
    if stdin is None:
        return FedSource()
    if isinstance(stdin, FedSource):
        return stdin
    if isinstance(stdin, bytes):
        return BytesSource(stdin)
    first = history.targets[0][0] if history and history.targets else None
    return source_of(_descriptor(stdin), first)


def _descriptor(file: int | IO[Any]) -> int:
    return file if isinstance(file, int) else file.fileno()


def _bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()
