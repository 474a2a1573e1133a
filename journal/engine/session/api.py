"""Python interface to record a guest and to resume it from its journal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from journal.engine.configuration import PAGE_SIZE, Configuration, SnapshotOptions, Stacks
from journal.engine.program.asyncify_worker import STACK_MEMORY_PAGES
from journal.engine.program.module import load_module
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import Notify, select_variant
from journal.engine.session import preamble
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
    """Ignore a remark for the user."""


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
    """Create a journal at ``path`` and return a recorder that runs ``module`` in it.

    The guest starts when the recorder is entered as a context manager, or by
    :meth:`Recorder.start`.

    ``module`` is a WebAssembly module: its bytes or its path. ``args`` are the arguments of the
    program, its own name first (default: ``program``), and ``env`` its environment variables;
    the environment of the host is not inherited. ``mounts`` are the directories of the guest
    (default: one memory directory ``/``). ``copies`` are host files that are copied into memory
    directories before the start.

    ``stdin`` is bytes, a file object, a descriptor or a :class:`FedSource`. With None,
    :meth:`Recorder.feed` supplies the input. ``stdout`` and ``stderr`` are file objects or
    descriptors. With None, the recorder captures the output in memory. The caller keeps
    descriptors open until the recorder is closed, and closes them.

    ``durability`` says when output and changes of host files may happen relative to their
    events. With ``level`` ``STATE`` inputs are not recorded, so the run can be resumed only
    from a snapshot. ``embed`` stores the module in the journal; without it a resume reads the
    module from its path. ``configuration`` has the limits of the engine. ``cache`` is the
    directory of compiled modules and memory images (default: one in the cache directory of the
    user). With ``roll`` the journal is a directory of segment files. ``network`` allows
    sockets.

    ``snapshots`` says when snapshots are taken. ``compaction`` says when the journal is
    compacted; it cannot be combined with a page index. ``note`` receives remarks for the user,
    from the calling thread or threads of the recorder.

    Raises ``ModuleRefused`` if the engine cannot run the module, ``OptionError`` for options
    that are invalid or contradict each other, ``NotResumable`` for a module that could not be
    found again, and ``StorageError`` if the disk fails. On an error no journal is left at
    ``path``. Safe to call from several threads with different paths.
    """
    options = snapshots or SnapshotOptions()
    _check_options(options, compaction)
    settings = configuration or Configuration()
    # The memory that saves the stack counts towards the memory limit of the guest.
    has_stack_memory = settings.memory_size_max >= STACK_MEMORY_PAGES * PAGE_SIZE
    variant_options = options if has_stack_memory else replace(options, stacks=Stacks.NEVER)
    variant = select_variant(load_module(module), variant_options, cache, note)
    settings = replace(settings, instrumentation=variant.instrumentation)
    program = prepare(variant, settings, cache)
    streams = connect_streams(stdin, stdout, stderr)
    interrupter = Interrupter()
    writer = Writer(path, publish=False, roll=roll)
    with _close_on_error(writer, interrupter):
        identity = preamble.write(
            writer,
            variant.original,
            settings,
            arguments=[_encode_argument(argument) for argument in args] or [b"program"],
            environment=[f"{name}={value}".encode() for name, value in (env or {}).items()],
            mounts=list(mounts) if mounts is not None else [MemoryMount("/")],
            copies=list(copies),
            level=level,
            embed=embed,
            instrumented=variant.instrumented if embed or level is RecordingLevel.STATE else b"",
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
            snapshots=options,
            pages=_make_page_index(path, options, cache),
        )
        process.begin_session()
        writer.publish()
        run = GuestRun(process, settings.native_stack_size)
        return Recorder(writer, streams, interrupter, run=run, compaction=compaction, note=note)


def _check_options(snapshots: SnapshotOptions, compaction: "CompactionSchedule | None") -> None:
    if snapshots.page_index and compaction is not None and compaction.is_active:
        raise OptionError(
            "a page index and compaction cannot be combined: "
            "compaction may drop pages that the index refers to"
        )


def _make_page_index(
    path: StrPath, snapshots: SnapshotOptions, cache: Path | None
) -> "PageIndex | None":
    """Return a page index of the journal if ``snapshots`` requests one, else None."""
    if not snapshots.page_index:
        return None
    from journal.pages.page_index import PageIndex
    from journal.pages.user_key import load_key  # Most runs need no page index.

    key = load_key(None if cache is None else cache.parent / "pages.key")
    return PageIndex(path, key=key)


@contextmanager
def _close_on_error(writer: Writer, interrupter: Interrupter) -> Iterator[None]:
    """Close ``writer`` and ``interrupter`` if the body fails and no recorder takes them over."""
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
    """Return a recorder that continues the run of the journal at ``path``.

    The guest starts when the recorder is entered. It is restored from the newest usable
    snapshot, replays the events after the snapshot, and continues live at the end of the
    journal. Without a usable snapshot, or with ``reexecute``, it is replayed from its start. If
    the program had ended, outputs not yet delivered are delivered and the recorder returns
    the recorded result at once.

    ``module`` is needed only if the journal does not contain its module. ``moved_mounts`` maps
    names of host mounts in the guest to their present directories, for directories that have
    moved since. ``stdin``, ``stdout`` and ``stderr`` are as in :func:`record`. A regular file
    as input is read on from the recorded position; a regular file as output is compared with
    the recorded output, and receives only the rest. ``in_flight`` says whether the one write to
    a pipe or terminal that a crash left in doubt is repeated or dropped. A journal whose guest
    may use more than ``memory_size_max`` bytes of memory is refused. ``network`` allows
    sockets; sockets of the guest are created again.

    With ``into`` the run continues in a new journal at that path, and ``path`` is not changed.
    The new journal begins with the events up to ``at``, an event's sequence number, or up to
    the newest resumable snapshot by default. ``at`` requires ``into``. ``durability``,
    ``cache``, ``snapshots``, ``compaction`` and ``note`` are as in :func:`record`.

    Raises ``NotResumable`` for a journal without the data to resume it, ``ModuleMismatch`` for
    a different module, ``EngineMismatch`` for a different engine, platform or limit,
    ``JournalLocked`` while another process writes the journal, ``OptionError`` for invalid
    options, and ``StorageError`` if the disk fails. A guest that behaves differently raises
    ``Divergence`` from :meth:`Recorder.wait`. Safe to call from several threads with different
    journals.
    """
    _check_options(snapshots or SnapshotOptions(), compaction)
    if not Path(path).exists():
        raise OptionError(f"journal {path} does not exist: it cannot be resumed")
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

        def run(session_writer: JournalWriter, output_targets: dict[int, OutputTarget]) -> GuestRun:
            identity = recording.identity
            preamble.check_engine(identity, memory_size_max)
            plan = plan_resume(
                recording,
                preamble.find_module(identity, module),
                ResumeOptions(snapshots or SnapshotOptions(), cache, note, reexecute=reexecute),
            )
            settings = replace(identity.configuration, instrumentation=plan.variant.instrumentation)
            start, first_seq = plan.start, recording.first_seq
            if start is not None:
                first_seq = start.info.seq + 1
                start.queue_undelivered = lambda state: queue_undelivered(
                    recording, first_seq, state.outbox, output_targets
                )
            process = Process(
                prepare(plan.variant, settings, cache),
                identity,
                session_writer,
                output_targets=output_targets,
                stdin=streams.source,
                interrupter=interrupter,
                durability=durability,
                recorded=recording.batches(first_seq),
                delivered_sizes=delivered_sizes,
                moved_mounts=moved_mounts,
                terminals=find_terminals(recording.histories),
                network=network,
                snapshots=snapshots,
                pages=pages if session_writer is writer else None,
                fired={info.trigger for info in recording.snapshots},
                start=start,
            )
            return GuestRun(process, settings.native_stack_size)

        pages: PageIndex | None = None
        if recording.result is None:
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
        null_targets = {
            stream: OutputTarget(TargetKind.CAPTURED) for stream in streams.output_targets
        }
        return Recorder(
            writer,
            streams,
            interrupter,
            recorded_result=recording.result,
            replay=lambda: run(NullWriter(), null_targets),
            reader=recording.reader,
            compaction=compaction,
        )


def _fork(path: StrPath, at: int | None, into: StrPath | None) -> StrPath:
    """Create the journal ``into`` with the events of ``path`` up to ``at``, and return its path."""
    if into is None:
        raise OptionError("a resume at an event continues in a new journal: set its path (into)")
    if at is None:
        with Reader(path) as reader:
            seqs = [
                info.seq for info in list_snapshots(reader, count_pages=False) if info.resumable
            ]
        if not seqs:
            raise NotResumable(f"{path} has no resumable snapshot: choose the event to resume at")
        at = seqs[-1]
    fork(path, into, upto=at)
    return into


def _encode_argument(argument: str | bytes) -> bytes:
    return argument if isinstance(argument, bytes) else argument.encode()
