"""Running guests from Python: record one, or resume one from its journal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from journal.engine.configuration import PAGE_SIZE, Configuration, SnapshotOptions, Stacks
from journal.engine.program import module as modules
from journal.engine.program import variant as forms
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import Notify
from journal.engine.session import preamble as identities
from journal.engine.session.process import JournalWriter, Process
from journal.engine.session.recorded_run import (
    NullWriter,
    RecordedRun,
    deliver_remaining,
    queue_undelivered,
)
from journal.engine.session.recorder import (
    GuestRun,
    Input,
    Output,
    Recorder,
    StrPath,
    connect_streams,
)
from journal.engine.session.resume_plan import ResumeOptions, plan_resume
from journal.engine.wasi.filesystem.mounts import FileCopy, HostMount, MemoryMount
from journal.engine.wasi.stdio.delivery import find_terminals, reconcile_outputs
from journal.engine.wasi.stdio.outbox import STDIN, Durability, InFlightPolicy, OutputTarget
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.errors import JournalError, NotResumable, OptionError
from journal.events.process import RecordingLevel
from journal.events.streams import TargetKind
from journal.log.appender import RollPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.operations.fork import fork
from journal.snapshots.catalog import list_snapshots

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule
    from journal.pages.page_index import PageIndex


def _ignore_note(text: str) -> None:
    """Nobody listens."""


def record(
    module: bytes | StrPath,
    path: StrPath,
    *,
    args: Sequence[str | bytes] = (),
    env: Mapping[str, str] | None = None,
    mounts: Iterable[HostMount | MemoryMount] | None = None,
    copies: Iterable[FileCopy] = (),
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability = Durability.OUTPUT,
    level: RecordingLevel = RecordingLevel.FULL,
    embed: bool = True,
    configuration: Configuration | None = None,
    cache: Path | None = None,
    roll: RollPolicy | None = None,
    network: bool = False,
    snapshots: SnapshotOptions | None = None,
    compaction: "CompactionSchedule | None" = None,
    note: Notify = _ignore_note,
) -> Recorder:
    """A new run of ``module``, recorded in a new journal at ``path``.

    ``args`` are the program's arguments, its own name first. ``mounts`` are its directories: by
    default one in memory, ``/``; ``copies`` are put there before it starts. ``stdin`` is bytes, a
    file or a descriptor, or nothing: then it is fed by :meth:`Recorder.feed`. ``stdout`` and
    ``stderr`` are files or descriptors, or captured. ``cache`` is where compiled modules are kept.
    With ``roll`` the journal is a directory of segments; with ``network`` the guest may have
    sockets. ``compaction`` says when the journal is compacted. Raises ``ModuleRefused``,
    ``OptionError``, and ``StorageError`` where the disk fails.
    """
    wanted = snapshots or SnapshotOptions()
    _check_options(wanted, compaction)
    settings = configuration or Configuration()
    # the memory that holds the stack counts among the guest's
    roomy = settings.memory_size_max >= STACK_MEMORY_PAGES * PAGE_SIZE
    wished = wanted if roomy else replace(wanted, stacks=Stacks.NEVER)
    form = forms.variant_to_record(modules.load_module(module), wished, cache, note)
    settings = replace(settings, instrumentation=form.made_by)
    program = prepare(form, settings, cache)
    streams = connect_streams(stdin, stdout, stderr)
    interrupter = Interrupter()
    writer = Writer(path, publish=False, roll=roll)
    with _close_on_error(writer, interrupter):
        identity = identities.write(
            writer,
            form.original,
            settings,
            arguments=[_encode_argument(argument) for argument in args] or [b"program"],
            environment=[f"{name}={value}".encode() for name, value in (env or {}).items()],
            mounts=list(mounts) if mounts is not None else [MemoryMount("/")],
            copies=list(copies),
            level=level,
            embed=embed,
            instrumented=form.instrumented if embed or level is RecordingLevel.STATE else b"",
        )
        process = Process(
            program,
            identity,
            writer,
            output_targets=streams.output_targets,
            stdin=streams.source,
            interrupter=interrupter,
            durability=durability,
            terminals=streams.terminals,
            network=network,
            snapshots=wanted,
            pages=_make_page_index(path, wanted, cache),
        )
        process.begin_session()
        writer.publish()
        run = GuestRun(process, settings.native_stack_size)
        return Recorder(writer, streams, interrupter, run=run, compaction=compaction, note=note)


def _check_options(snapshots: SnapshotOptions, compaction: "CompactionSchedule | None") -> None:
    if snapshots.page_index and compaction is not None and compaction.is_active:
        raise OptionError("what a page index names may go when a journal is compacted as it grows")


def _make_page_index(
    path: StrPath, snapshots: SnapshotOptions, cache: Path | None
) -> "PageIndex | None":
    """What knows the pages of a journal, if it is asked for."""
    if not snapshots.page_index:
        return None
    from journal.pages.page_index import PageIndex
    from journal.pages.user_key import load_key  # most runs need none of it

    key = load_key(None if cache is None else cache.parent / "pages.key")
    return PageIndex(path, key=key)


@contextmanager
def _close_on_error(writer: Writer, interrupter: Interrupter) -> Iterator[None]:
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
    moved_mounts: Mapping[str, str] | None = None,
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability = Durability.OUTPUT,
    in_flight: InFlightPolicy = InFlightPolicy.REPEAT,
    memory_size_max: int | None = None,
    cache: Path | None = None,
    network: bool = False,
    snapshots: SnapshotOptions | None = None,
    compaction: "CompactionSchedule | None" = None,
    at: int | None = None,
    into: StrPath | None = None,
    reexecute: bool = False,
    note: Notify = _ignore_note,
) -> Recorder:
    """The run of the journal at ``path``, from where the journal ends.

    The guest has the state of the newest snapshot that can be had, is replayed from there to the
    end, and goes on live; without one, or with ``reexecute``, it is replayed from its start. A
    program that had ended has its outcome at once. With ``into`` it goes on in a new journal, whose
    beginning is all up to event ``at`` (or up to the newest snapshot), and ``path`` stays as it is.
    ``module`` is needed only where the journal does not hold it; ``moved_mounts``
    says where directories of the host are now, by their names in the guest, if not where they were.
    ``memory_size_max`` refuses a journal whose guest may have more. ``compaction`` says when the
    journal is compacted. With ``network`` the guest may
    have sockets, and those that it had are made again. Raises ``NotResumable``,
    ``ModuleMismatch``, ``EngineMismatch``, and ``JournalLocked`` while another process runs it.
    """
    _check_options(snapshots or SnapshotOptions(), compaction)
    if not Path(path).exists():
        raise OptionError(f"{path} does not exist: there is no journal to resume")
    if at is not None or into is not None:
        path = _fork(path, at, into)
    interrupter = Interrupter()
    writer = Writer(path)
    with _close_on_error(writer, interrupter):
        recording = RecordedRun(writer.path, writer.next_seq)
        streams = connect_streams(stdin, stdout, stderr, recording.histories[STDIN])
        delivered_sizes = reconcile_outputs(
            streams.output_targets, recording.histories, recording.writes, in_flight
        )

        def run(keeper: JournalWriter, output_targets: dict[int, OutputTarget]) -> GuestRun:
            identity = recording.identity
            identities.check_engine(identity, memory_size_max)
            chosen = plan_resume(
                recording,
                identities.find_module(identity, module),
                ResumeOptions(snapshots or SnapshotOptions(), cache, note, reexecute=reexecute),
            )
            settings = replace(identity.configuration, instrumentation=chosen.form.made_by)
            start, begins = chosen.start, recording.first_seq
            if start is not None:
                begins = start.info.seq + 1
                start.queue_undelivered = lambda state: queue_undelivered(
                    recording, begins, state.outbox, output_targets
                )
            process = Process(
                prepare(chosen.form, settings, cache),
                identity,
                keeper,
                output_targets=output_targets,
                stdin=streams.source,
                interrupter=interrupter,
                durability=durability,
                recorded=recording.batches(begins),
                delivered_sizes=delivered_sizes,
                moved_mounts=moved_mounts,
                terminals=find_terminals(recording.histories),
                network=network,
                snapshots=snapshots,
                pages=pages if keeper is writer else None,
                fired={info.trigger for info in recording.snapshots},
                start=start,
            )
            return GuestRun(process, settings.native_stack_size)

        pages: PageIndex | None = None
        if recording.ended is None:
            pages = _make_page_index(path, snapshots or SnapshotOptions(), cache)
            if pages is not None:
                pages.open()
            live = run(writer, streams.output_targets)
            live.process.mounts.check_hosts()
            return Recorder(
                writer,
                streams,
                interrupter,
                run=live,
                reader=recording.reader,
                compaction=compaction,
                note=note,
            )
        deliver_remaining(
            writer, streams.output_targets, delivered_sizes, recording.writes(), interrupter
        )
        nowhere = {stream: OutputTarget(TargetKind.CAPTURED) for stream in streams.output_targets}
        return Recorder(
            writer,
            streams,
            interrupter,
            ended=recording.ended,
            replay=lambda: run(NullWriter(), nowhere),
            reader=recording.reader,
            compaction=compaction,
        )


def _fork(path: StrPath, at: int | None, into: StrPath | None) -> StrPath:
    """A new journal that begins as another one did."""
    if into is None:
        raise OptionError("a run goes on from another place in a new journal: say where")
    if at is None:
        with Reader(path) as reader:
            found = [
                info.seq for info in list_snapshots(reader, count_pages=False) if info.resumable
            ]
        if not found:
            raise NotResumable(f"{path} has no snapshot that can be resumed")
        at = found[-1]
    fork(path, into, upto=at)
    return into


def _encode_argument(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()
