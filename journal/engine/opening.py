"""Running guests from Python: record one, or resume one from its journal."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from journal import codec
from journal.appender import Roll
from journal.engine import identity as identities
from journal.engine import module as modules
from journal.engine.configuration import Configuration
from journal.engine.delivered import history_of, marks_of_session, settle, terminals_in
from journal.engine.inputs import Interrupter
from journal.engine.mounts import HostMount, MemoryMount, Placed
from journal.engine.outputs import STDIN, Durability, InFlight, Outbox, Outlet
from journal.engine.process import Ending, Keeper, Outcome, Process
from journal.engine.recorder import Input, Output, Recorder, Run, StrPath, connect
from journal.engine.tape import Batch
from journal.errors import JournalError, NotResumable, OptionError
from journal.event import Event
from journal.events.core import ProcessExit
from journal.events.process import Level, ProcessTrap
from journal.events.streams import StreamWrite, TargetKind
from journal.reader import Reader
from journal.writer import Writer

_unpack_write = codec.unpacker(StreamWrite)


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
    roll: Roll | None = None,
    network: bool = False,
) -> Recorder:
    """A new run of ``module``, recorded in a new journal at ``path``.

    ``args`` are the program's arguments, its own name first. ``mounts`` are its directories: by
    default one in memory, ``/``; ``copies`` are put there before it starts. ``stdin`` is bytes, a
    file or a descriptor, or nothing: then it is fed by :meth:`Recorder.feed`. ``stdout`` and
    ``stderr`` are files or descriptors, or captured. ``cache`` is where compiled modules are kept.
    With ``roll`` the journal is a directory of segments; with ``network`` the guest may have
    sockets. Raises ``ModuleRefused``, ``OptionError``,
    and ``StorageError`` where the disk fails.
    """
    loaded = modules.load(module)
    settings = configuration or Configuration()
    engine = modules.engine_for(settings)
    compiled = modules.compiled(engine, loaded, settings, cache or modules.default_cache())
    modules.check_program(compiled, settings)
    streams = connect(stdin, stdout, stderr)
    interrupter = Interrupter()
    writer = Writer(path, publish=False, roll=roll)
    with _letting_go(writer, interrupter):
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
            outlets=streams.outlets,
            stdin=streams.source,
            interrupter=interrupter,
            durability=durability,
            terminals=streams.terminals,
            network=network,
        )
        process.begin_session()
        writer.publish()
        return Recorder(writer, streams, interrupter, run=Run(process, settings.stack_size))


@contextmanager
def _letting_go(writer: Writer, interrupter: Interrupter) -> Iterator[None]:
    """Close what no recorder will close, if there is an error."""
    try:
        yield
    except BaseException:
        with suppress(JournalError):
            writer.close()
        interrupter.close()
        raise


def resume(
    path: StrPath,
    *,
    module: bytes | StrPath | None = None,
    moved: Mapping[str, str] | None = None,
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability = Durability.OUTPUT,
    in_flight: InFlight = InFlight.REPEAT,
    memory_size_max: int | None = None,
    cache: Path | None = None,
    network: bool = False,
) -> Recorder:
    """The run of the journal at ``path``, from where the journal ends.

    The guest is replayed from its start to there, and goes on live; a program that had ended has
    its outcome at once. ``module`` is needed only where the journal does not hold it; ``moved``
    says where directories of the host are now, by their names in the guest, if not where they were.
    ``memory_size_max`` refuses a journal whose guest may have more. With ``network`` the guest may
    have sockets, and those that it had are made again. Raises ``NotResumable``,
    ``ModuleMismatch``, ``EngineMismatch``, and ``JournalLocked`` while another process runs it.
    """
    if not Path(path).exists():
        raise OptionError(f"{path} does not exist: there is no journal to resume")
    interrupter = Interrupter()
    writer = Writer(path)
    with _letting_go(writer, interrupter):
        journal = _Recording(writer)
        streams = connect(stdin, stdout, stderr, journal.histories[STDIN])
        delivered = settle(streams.outlets, journal.histories, journal.writes, in_flight)

        def run(keeper: Keeper, outlets: dict[int, Outlet]) -> Run:
            identity = journal.identity
            identities.check_engine(identity, memory_size_max)
            loaded = identities.module_of(identity, module)
            engine = modules.engine_for(identity.configuration)
            compiled = modules.compiled(
                engine, loaded, identity.configuration, cache or modules.default_cache()
            )
            modules.check_program(compiled, identity.configuration)
            process = Process(
                engine,
                compiled,
                identity,
                keeper,
                outlets=outlets,
                stdin=streams.source,
                interrupter=interrupter,
                durability=durability,
                recorded=journal.recorded(),
                delivered=delivered,
                moved=moved,
                terminals=terminals_in(journal.histories),
                network=network,
            )
            return Run(process, identity.configuration.stack_size)

        if journal.ended is None:
            live = run(writer, streams.outlets)
            live.process.mounts.check_hosts()
            return Recorder(writer, streams, interrupter, run=live, reader=journal.reader)
        _deliver_rest(writer, streams.outlets, delivered, journal.writes(), interrupter)
        nowhere = {stream: Outlet(TargetKind.CAPTURED) for stream in streams.outlets}
        return Recorder(
            writer,
            streams,
            interrupter,
            ended=journal.ended,
            replay=lambda: run(Discard(), nowhere),
            reader=journal.reader,
        )


class _Recording:
    """What a journal holds that is to be resumed; raises ``NotResumable``."""

    def __init__(self, writer: Writer) -> None:
        self.reader = Reader(writer.path)
        self._until = writer.next_seq  # what is appended from now on is not to be replayed
        self.identity, first = identities.read(self.reader.frames())
        self._first_seq = first.seq
        if self.identity.start.level is not Level.FULL:
            raise NotResumable(
                "the journal was recorded at level state: it has no inputs to replay"
            )
        self.ended: Outcome | None = None
        self.histories = history_of(self._marks())

    def _marks(self) -> Iterator[tuple[int, bytes]]:
        """The marks of the streams; passes the end of the program, if it has one."""
        for tag, payload in self._frames(identities.LANDMARKS):
            if tag in (ProcessExit.tag, ProcessTrap.tag):
                self.ended = _ending(codec.decode(tag, payload))
            else:
                yield tag, payload

    def recorded(self) -> Iterator[Batch]:
        """What the guest did and heard."""
        for block in self.reader.blocks(self._first_seq):
            if block.first_seq >= self._until:
                return
            first = bisect_left(block.seqs, self._first_seq)
            payloads, times = block.payloads(), block.times
            yield Batch(block.seqs[first:], block.tags[first:], payloads[first:], times[first:])

    def writes(self) -> Iterator[tuple[int, bytes]]:
        """What the guest printed: stream and bytes."""
        for _, payload in self._frames(frozenset((StreamWrite.tag,))):
            stream, _, data = _unpack_write(payload)
            yield stream, data

    def _frames(self, tags: frozenset[int]) -> Iterator[tuple[int, bytes]]:
        """The frames of some kinds; blocks that have none are not even read."""
        for block in self.reader.blocks(tags=tags):
            payloads = None
            for index, tag in enumerate(block.tags):
                if tag in tags:
                    payloads = payloads or block.payloads()
                    yield tag, payloads[index]


def _ending(event: Event) -> Outcome:
    if isinstance(event, ProcessTrap):
        return Outcome(Ending.TRAPPED, None, event.kind, event.message)
    assert isinstance(event, ProcessExit)
    return Outcome(Ending.EXITED, (event.exit_code or 0) & 0xFFFFFFFF)


def _deliver_rest(
    writer: Writer,
    outlets: dict[int, Outlet],
    delivered: dict[int, int],
    writes: Iterator[tuple[int, bytes]],
    interrupter: Interrupter,
) -> None:
    """Write what a program that ended has printed and its targets have not got."""
    outbox = Outbox(outlets, writer, writer.sync, lambda: None, interrupter.wait_writable)
    positions = dict.fromkeys(outlets, 0)
    opened = False
    for stream, data in writes:
        owed = outlets[stream].skip < len(data)
        if owed and not opened and outlets[stream].kind is not TargetKind.CAPTURED:
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


def _bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()
