"""Running guests from Python: record one, or resume one from its journal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from journal.appender import Roll
from journal.engine import forms
from journal.engine import identity as identities
from journal.engine import module as modules
from journal.engine.asyncifying import STACK_MEMORY_PAGES
from journal.engine.choosing import Choice, choose
from journal.engine.configuration import PAGE_SIZE, Configuration, Snapshots, Stacks
from journal.engine.delivered import settle, terminals_in
from journal.engine.forms import Note
from journal.engine.inputs import Interrupter
from journal.engine.mounts import HostMount, MemoryMount, Placed
from journal.engine.outputs import STDIN, Durability, InFlight, Outlet
from journal.engine.process import Keeper, Process
from journal.engine.program import prepare
from journal.engine.recorded import Discard, Recording, deliver_rest, owed
from journal.engine.recorder import Input, Output, Recorder, Run, StrPath, connect
from journal.errors import JournalError, NotResumable, OptionError
from journal.events.process import Level
from journal.events.streams import TargetKind
from journal.forking import fork
from journal.reader import Reader
from journal.snapshots import snapshots_of
from journal.writer import Writer

if TYPE_CHECKING:
    from journal.compaction import Upkeep
    from journal.pages.recording import PageIndex


def _unheard(text: str) -> None:
    """Nobody listens."""


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
    snapshots: Snapshots | None = None,
    upkeep: "Upkeep | None" = None,
    note: Note = _unheard,
) -> Recorder:
    """A new run of ``module``, recorded in a new journal at ``path``.

    ``args`` are the program's arguments, its own name first. ``mounts`` are its directories: by
    default one in memory, ``/``; ``copies`` are put there before it starts. ``stdin`` is bytes, a
    file or a descriptor, or nothing: then it is fed by :meth:`Recorder.feed`. ``stdout`` and
    ``stderr`` are files or descriptors, or captured. ``cache`` is where compiled modules are kept.
    With ``roll`` the journal is a directory of segments; with ``network`` the guest may have
    sockets. ``upkeep`` says when the journal is compacted. Raises ``ModuleRefused``,
    ``OptionError``, and ``StorageError`` where the disk fails.
    """
    wanted = snapshots or Snapshots()
    _check(wanted, upkeep)
    settings = configuration or Configuration()
    # the memory that holds the stack counts among the guest's
    roomy = settings.memory_size_max >= STACK_MEMORY_PAGES * PAGE_SIZE
    wished = wanted if roomy else replace(wanted, stacks=Stacks.NEVER)
    form = forms.form_to_record(modules.load(module), wished, cache, note)
    settings = replace(settings, instrumentation=form.made_by)
    program = prepare(form, settings, cache)
    streams = connect(stdin, stdout, stderr)
    interrupter = Interrupter()
    writer = Writer(path, publish=False, roll=roll)
    with _letting_go(writer, interrupter):
        identity = identities.write(
            writer,
            form.original,
            settings,
            arguments=[_bytes(argument) for argument in args] or [b"program"],
            environment=[f"{name}={value}".encode() for name, value in (env or {}).items()],
            mounts=list(mounts) if mounts is not None else [MemoryMount("/")],
            placed=list(copies),
            level=level,
            embed=embed,
            instrumented=form.instrumented if embed or level is Level.STATE else b"",
        )
        process = Process(
            program,
            identity,
            writer,
            outlets=streams.outlets,
            stdin=streams.source,
            interrupter=interrupter,
            durability=durability,
            terminals=streams.terminals,
            network=network,
            snapshots=wanted,
            pages=_index(path, wanted, cache),
        )
        process.begin_session()
        writer.publish()
        run = Run(process, settings.native_stack_size)
        return Recorder(writer, streams, interrupter, run=run, upkeep=upkeep, note=note)


def _check(snapshots: Snapshots, upkeep: "Upkeep | None") -> None:
    if snapshots.page_index and upkeep is not None and upkeep.is_wished:
        raise OptionError("what a page index names may go when a journal is compacted as it grows")


def _index(path: StrPath, snapshots: Snapshots, cache: Path | None) -> "PageIndex | None":
    """What knows the pages of a journal, if it is asked for."""
    if not snapshots.page_index:
        return None
    from journal.pages.keys import key_at  # most runs need none of it
    from journal.pages.recording import PageIndex

    key = key_at(None if cache is None else cache.parent / "pages.key")
    return PageIndex(path, key=key)


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
    snapshots: Snapshots | None = None,
    upkeep: "Upkeep | None" = None,
    at: int | None = None,
    into: StrPath | None = None,
    reexecute: bool = False,
    note: Note = _unheard,
) -> Recorder:
    """The run of the journal at ``path``, from where the journal ends.

    The guest has the state of the newest snapshot that can be had, is replayed from there to the
    end, and goes on live; without one, or with ``reexecute``, it is replayed from its start. A
    program that had ended has its outcome at once. With ``into`` it goes on in a new journal, whose
    beginning is all up to event ``at`` (or up to the newest snapshot), and ``path`` stays as it is.
    ``module`` is needed only where the journal does not hold it; ``moved``
    says where directories of the host are now, by their names in the guest, if not where they were.
    ``memory_size_max`` refuses a journal whose guest may have more. ``upkeep`` says when the
    journal is compacted. With ``network`` the guest may
    have sockets, and those that it had are made again. Raises ``NotResumable``,
    ``ModuleMismatch``, ``EngineMismatch``, and ``JournalLocked`` while another process runs it.
    """
    _check(snapshots or Snapshots(), upkeep)
    if not Path(path).exists():
        raise OptionError(f"{path} does not exist: there is no journal to resume")
    if at is not None or into is not None:
        path = _forked(path, at, into)
    interrupter = Interrupter()
    writer = Writer(path)
    with _letting_go(writer, interrupter):
        journal = Recording(writer.path, writer.next_seq)
        streams = connect(stdin, stdout, stderr, journal.histories[STDIN])
        delivered = settle(streams.outlets, journal.histories, journal.writes, in_flight)

        def run(keeper: Keeper, outlets: dict[int, Outlet]) -> Run:
            identity = journal.identity
            identities.check_engine(identity, memory_size_max)
            chosen = choose(
                journal,
                identities.module_of(identity, module),
                Choice(snapshots or Snapshots(), cache, note, reexecute=reexecute),
            )
            settings = replace(identity.configuration, instrumentation=chosen.form.made_by)
            start, begins = chosen.start, journal.first_seq
            if start is not None:
                begins = start.info.seq + 1
                start.owe = lambda state: owed(journal, begins, state.outbox, outlets)
            process = Process(
                prepare(chosen.form, settings, cache),
                identity,
                keeper,
                outlets=outlets,
                stdin=streams.source,
                interrupter=interrupter,
                durability=durability,
                recorded=journal.batches(begins),
                delivered=delivered,
                moved=moved,
                terminals=terminals_in(journal.histories),
                network=network,
                snapshots=snapshots,
                pages=pages if keeper is writer else None,
                fired={info.trigger for info in journal.snapshots},
                start=start,
            )
            return Run(process, settings.native_stack_size)

        pages: PageIndex | None = None
        if journal.ended is None:
            pages = _index(path, snapshots or Snapshots(), cache)
            if pages is not None:
                pages.open()
            live = run(writer, streams.outlets)
            live.process.mounts.check_hosts()
            return Recorder(
                writer,
                streams,
                interrupter,
                run=live,
                reader=journal.reader,
                upkeep=upkeep,
                note=note,
            )
        deliver_rest(writer, streams.outlets, delivered, journal.writes(), interrupter)
        nowhere = {stream: Outlet(TargetKind.CAPTURED) for stream in streams.outlets}
        return Recorder(
            writer,
            streams,
            interrupter,
            ended=journal.ended,
            replay=lambda: run(Discard(), nowhere),
            reader=journal.reader,
            upkeep=upkeep,
        )


def _forked(path: StrPath, at: int | None, into: StrPath | None) -> StrPath:
    """A new journal that begins as another one did."""
    if into is None:
        raise OptionError("a run goes on from another place in a new journal: say where")
    if at is None:
        with Reader(path) as reader:
            found = [info.seq for info in snapshots_of(reader, counted=False) if info.resumable]
        if not found:
            raise NotResumable(f"{path} has no snapshot that can be resumed")
        at = found[-1]
    fork(path, into, upto=at)
    return into


def _bytes(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()
