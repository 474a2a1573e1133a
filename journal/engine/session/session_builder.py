"""Construction of a session: its writer, streams, process and recorder."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from journal.engine.configuration import Configuration
from journal.engine.program.module import load_module
from journal.engine.program.module_limits import lower_limits
from journal.engine.program.prepared import (
    PreparedModule,
    prepare,
    prepare_new_run,
    report_small_memory,
    without_stacks_in_small_memory,
)
from journal.engine.program.user_cache import UserCache
from journal.engine.session import preamble
from journal.engine.session.connection_check import LostConnections, check_connections
from journal.engine.session.guest_time import (
    SleepPolicy,
    find_generation,
    find_interrupted_wait,
    has_new_reseeding,
)
from journal.engine.session.host_check import compare_host, read_times, report_differences
from journal.engine.session.journal_trust import (
    approve_recording,
    check_recorded_files,
    decide,
)
from journal.engine.session.journal_writer import JournalWriter, NullWriter
from journal.engine.session.own_paths import find_own_files
from journal.engine.session.preamble_check import check_first
from journal.engine.session.process import Process
from journal.engine.session.recorded_options import (
    Pairs,
    RecordedOptions,
    check_commands,
    keep_options,
    make_pairs,
    parse_options,
    read_recorded_options,
)
from journal.engine.session.recorded_run import (
    RecordedRun,
    deliver_remaining,
    queue_undelivered,
    report_replay,
)
from journal.engine.session.recorder import Recorder
from journal.engine.session.replay import Replay
from journal.engine.session.resource_policy import ResourcePolicy, check_memory
from journal.engine.session.resume_plan import plan_resume
from journal.engine.session.run_config import RunConfig, SessionConfig, StrPath
from journal.engine.session.secret_environment import GuestEnvironment
from journal.engine.session.standard_streams import (
    StandardStreams,
    capture_outputs,
    connect_streams,
)
from journal.engine.snapshot.restore import SnapshotRestorer
from journal.engine.trust.access import HostAccess
from journal.engine.trust.grants import Grants
from journal.engine.wasi.filesystem.mounts import AnyMount, FileCopy
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.engine.wasi.network.listeners import open_listeners
from journal.engine.wasi.stdio.delivery import reconcile_outputs
from journal.engine.wasi.stdio.outbox import InFlightPolicy
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.errors import JournalError, OptionError
from journal.events.process import RecordingLevel
from journal.events.streams import TargetKind
from journal.events.wire_types import SocketAddress
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer
from journal.rewrite.progress import report_phase

if TYPE_CHECKING:
    from journal.engine.session.process_tree import ProcessTree
    from journal.pages.page_index import PageIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOptions:
    """Options of a new run besides those of any session; ``record`` documents them."""

    arguments: Sequence[bytes]
    environment: GuestEnvironment
    mounts: Sequence[AnyMount]
    listeners: Sequence[SocketAddress]
    copies: Sequence[FileCopy]
    level: RecordingLevel
    embed: bool
    configuration: Configuration
    roll: RollPolicy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions:
    """Options of a resumed run besides those of any session; ``resume`` documents them.

    ``access`` is the access of the guest if it was decided before, for a fork.
    """

    module: bytes | StrPath | None
    grants: Grants
    in_flight: InFlightPolicy
    lost_connections: LostConnections
    policy: ResourcePolicy
    reexecute: bool
    strict: bool
    secrets: Mapping[str, str]
    sleep: SleepPolicy
    on_input_wait: Callable[[bytes], object] | None
    access: HostAccess | None = None
    reseed: bool = False


def build_recorded(
    module: bytes | StrPath, path: StrPath, config: RunConfig, options: RecordOptions
) -> Recorder:
    """Create a journal at ``path`` and return a recorder that runs ``module`` in it."""
    configuration = lower_limits(options.configuration, config.allocation)
    options = replace(options, configuration=configuration)
    recorded_options = make_pairs(config, options.roll)
    if config.snapshots is not None:
        report_small_memory(config.snapshots, options.configuration, config.note)
    session = _make_session(config, RecordedOptions(), options.configuration)
    with open_listeners(options.listeners) as listeners:
        return _build_recorded(module, path, session, options, recorded_options, listeners)


def _build_recorded(
    module: bytes | StrPath,
    path: StrPath,
    config: SessionConfig,
    options: RecordOptions,
    recorded_options: Pairs,
    listeners: Sequence[socket.socket],
) -> Recorder:
    loaded, settings = load_module(module), (config.snapshots, options.configuration, config.cache)
    program = prepare_new_run(loaded, *settings, config.note, config.progress, config.allocation)
    streams = connect_streams(config)
    interrupter = Interrupter()
    writer = Writer(path, publish=False, roll=options.roll)
    with close_on_error(writer, interrupter):
        has_variant = options.embed or options.level is RecordingLevel.STATE
        identity = preamble.write(
            writer,
            program.variant.original,
            program.configuration,
            recorded_options,
            arguments=options.arguments,
            environment=options.environment,
            mounts=options.mounts,
            listeners=listeners,
            copies=options.copies,
            level=options.level,
            embed=options.embed,
            instrumented=program.variant.instrumented if has_variant else b"",
        )
        access = approve_recording(writer.journal_id, identity, config)
        own = find_own_files(writer.path, config.cache, config.approvals)
        tree = make_tree(writer, program, config)
        process = Process(
            program,
            identity,
            writer,
            streams,
            interrupter,
            config,
            replay=Replay(access=access),
            pages=make_page_index(path, config, is_sealed=writer.is_sealed),
            own=own,
            listeners=listeners,
            host=tree,
        )
        process.begin_session()
        writer.publish()
        own.add_journal(writer.path)  # The journal has its file under this name only now.
        return Recorder(writer, streams, interrupter, config, process=process, tree=tree)


def _make_session(
    config: RunConfig, recorded: RecordedOptions, configuration: Configuration
) -> SessionConfig:
    """Return the options of a session: those of ``config``, and else the recorded ones."""
    session = keep_options(config, recorded)
    snapshots = without_stacks_in_small_memory(session.snapshots, configuration)
    return replace(session, snapshots=snapshots)


def build_resumed(path: StrPath, config: RunConfig, options: ResumeOptions) -> Recorder:
    """Return a recorder that continues the run of the journal at ``path``."""
    roll = read_recorded_options(path).roll if Path(path).is_dir() else None
    interrupter = Interrupter()
    with report_phase(config.progress, "opening the journal"):
        writer = Writer(path, roll=roll)
    with close_on_error(writer, interrupter), ExitStack() as stack:
        with report_phase(config.progress, "reading the journal"):
            recording = stack.enter_context(
                RecordedRun(writer.path, writer.next_seq, options.policy)
            )
        identity = recording.identity
        recorded = parse_options(identity.start.configuration)
        session = _make_session(config, recorded, identity.configuration)
        recorder = _build_resumed(path, recording, writer, interrupter, session, options)
        stack.pop_all()  # The recorder closes the reader.
        return recorder


def _build_resumed(
    path: StrPath,
    recording: RecordedRun,
    writer: Writer,
    interrupter: Interrupter,
    config: SessionConfig,
    options: ResumeOptions,
) -> Recorder:
    if recording.result is None:
        preamble.check_engine(recording.identity)
    access = options.access or _decide_access(recording, config, options)
    if recording.result is None:
        preamble.set_secrets(recording.identity, options.secrets)
    if options.lost_connections is LostConnections.REFUSE:
        check_connections(recording)
    streams = connect_streams(config, recording.histories)
    times, differences = _compare_host(recording, streams, access, config, options)
    outputs = streams.output_targets
    with report_phase(config.progress, "comparing the output"):
        delivered_sizes = reconcile_outputs(
            outputs, recording.histories, recording.writes, options.in_flight
        )
    resumption = Resumption(recording, delivered_sizes, interrupter, config, options, access, times)
    if recording.result is None:
        return _continue(path, writer, streams, resumption, differences)
    deliver_remaining(writer, outputs, delivered_sizes, recording.writes(), interrupter)
    captured = replace(streams, output_targets=capture_outputs())
    return Recorder(
        writer,
        streams,
        interrupter,
        config,
        recorded_result=recording.result,
        replay=lambda: resumption.make_process(NullWriter(), captured),
        reader=recording.reader,
    )


def _continue(
    path: StrPath,
    writer: Writer,
    streams: StandardStreams,
    resumption: "Resumption",
    differences: tuple[str, ...],
) -> Recorder:
    """Return the recorder of a program that has not ended, with the other processes of its run."""
    config, interrupter = resumption.config, resumption.interrupter
    pages = make_page_index(path, config, is_sealed=writer.is_sealed)
    with ExitStack() as stack:
        if pages is not None:
            stack.enter_context(pages).open()
        process = resumption.make_process(writer, streams, pages)
        tree = resumption.tree
        if tree is not None:
            from journal.engine.session.tree_resume import resume_others  # Most runs have none.

            stack.callback(tree.close)
            resume_others(tree, resumption)
        recorder = Recorder(
            writer,
            streams,
            interrupter,
            config,
            process=process,
            reader=resumption.recording.reader,
            differences=differences,
            tree=tree,
        )
        stack.pop_all()  # The recorder closes the page index and the tree.
        return recorder


def _compare_host(
    recording: RecordedRun,
    streams: StandardStreams,
    access: HostAccess,
    config: SessionConfig,
    options: ResumeOptions,
) -> tuple[RecordedTimes, tuple[str, ...]]:
    """Return the times of the recording and the differences of the host, and report these.

    After the end of the program there is nothing to compare.
    """
    if recording.result is not None:
        return RecordedTimes(), ()
    times = read_times(recording)
    with report_phase(config.progress, "comparing the host"):
        differences = compare_host(recording, streams.source, access, times)
    report_differences(differences, is_strict=options.strict)
    return times, differences


def _decide_access(recording: RecordedRun, config: RunConfig, options: ResumeOptions) -> HostAccess:
    has_module = options.module is not None
    return decide(
        recording,
        options.grants,
        config.approvals,
        network=config.network,
        has_module=has_module,
    )


@dataclass(slots=True)
class Resumption:
    """A recorded run and the options to continue it.

    ``tree`` has the processes of the run, None until :meth:`make_process` has made the first one,
    and if its program can start no others. ``forked_as`` has the numbers of a process that another
    one forked, and of its parent.
    """

    recording: RecordedRun
    delivered_sizes: dict[int, int]
    interrupter: Interrupter
    config: SessionConfig
    options: ResumeOptions
    access: HostAccess
    times: RecordedTimes
    tree: "ProcessTree | None" = None
    forked_as: tuple[int, int] | None = None

    def make_process(
        self, writer: JournalWriter, streams: StandardStreams, pages: "PageIndex | None" = None
    ) -> Process:
        """Return the process that replays the recorded run, and continues it in ``writer``."""
        recording, config, options = self.recording, self.config, self.options
        identity = recording.identity
        preamble.check_engine(identity)
        preamble.set_secrets(identity, options.secrets)
        check_recorded_files(recording, self.access)
        module = preamble.find_module(identity, options.module, self.access)
        plan = plan_resume(recording, module, config, reexecute=options.reexecute)
        start, first_seq = plan.start, recording.first_seq
        if start is not None:
            first_seq = start.info.seq + 1
            start.queue_undelivered = lambda state: queue_undelivered(
                recording, first_seq, state.outbox, streams.output_targets
            )
        replay = self._make_replay(start, first_seq, streams)
        check_memory(plan.variant, identity.configuration, options.policy)
        settings = identity.configuration, config.cache, config.progress, config.allocation
        program = prepare(plan.variant, *settings)
        own = None
        if isinstance(writer, Writer):
            own = find_own_files(writer.path, config.cache, config.approvals)
            self._find_tree(writer, program)
        return Process(
            program,
            identity,
            writer,
            streams,
            self.interrupter,
            config,
            replay=replay,
            pages=pages,
            own=own,
            host=self.tree,
            forked_as=self.forked_as,
        )

    def _make_replay(
        self, start: SnapshotRestorer | None, first_seq: int, streams: StandardStreams
    ) -> Replay:
        recording, options = self.recording, self.options
        return Replay(
            batches=report_replay(recording, first_seq, self.config.progress),
            start=start,
            fired={info.trigger for info in recording.snapshots},
            delivered_sizes=self.delivered_sizes,
            access=self.access,
            times=self.times,
            wait=find_interrupted_wait(recording) if options.sleep is SleepPolicy.KEEP else None,
            on_input_wait=self._make_input_wait(streams),
            reseeds=options.reseed,
            counts_pause=options.reseed or has_new_reseeding(recording),
            generation=find_generation(recording),
        )

    def _find_tree(self, writer: Writer, program: PreparedModule) -> None:
        """Set the tree of processes if this is the first one, or check that the tree has it."""
        child = self.recording.identity.child
        if self.tree is not None:
            return
        if child is None:
            self.tree = make_tree(writer, program, self.config)
            if self.tree is not None:
                recorded = parse_options(self.recording.identity.start.configuration)
                check_commands(recorded, self.config)
        else:
            check_first(child)

    def _make_input_wait(self, streams: StandardStreams) -> Callable[[], object] | None:
        """Return the function to call when the guest waits for input without a sign of life."""
        recording, call = self.recording, self.options.on_input_wait
        if call is None:
            return None
        targets = streams.output_targets.items()
        terminals = {stream for stream, target in targets if target.kind is TargetKind.TERMINAL}
        return lambda: call(recording.read_unfinished_line(terminals))


def make_tree(
    writer: Writer, program: PreparedModule, config: SessionConfig
) -> "ProcessTree | None":
    """Return the tree of processes of a run whose program can start others, else None."""
    if not program.starts_processes:
        return None
    from journal.engine.session.process_tree import ProcessTree  # Most programs start none.

    return ProcessTree(writer.path, config)


def make_page_index(path: StrPath, config: SessionConfig, *, is_sealed: bool) -> "PageIndex | None":
    """Return a page index of the journal if the options request one, else None."""
    if not config.snapshots.page_index:
        return None
    if is_sealed:
        raise OptionError(
            "a sealed journal has no page index, which would hash its pages beside it"
        )
    from journal.pages.page_index import PageIndex  # Most runs need no page index.

    return PageIndex(path, key=UserCache.open(config.cache).key)


@contextmanager
def close_on_error(writer: Writer, interrupter: Interrupter) -> Iterator[None]:
    """Close ``writer`` and ``interrupter`` if the body fails and no recorder takes them over."""
    try:
        yield
    except BaseException:
        with suppress(JournalError):
            writer.close()
        interrupter.close()
        raise
