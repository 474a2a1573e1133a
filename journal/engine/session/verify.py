"""Verification of a journal by execution: the guest runs again, and every snapshot is compared.

Each event of the guest is compared with the recorded event. At each snapshot the guest is suspended
at the recorded point, and the digest of its whole state is compared. The host is not changed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from journal._arguments import check_callable, check_flag, check_int, check_optional, check_path
from journal.engine.allocation import DEFAULT_STRATEGY, InstanceAllocationStrategy
from journal.engine.program.module import GuestModule
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import ModuleVariant, Notify, make_unmodified_variant
from journal.engine.session import preamble
from journal.engine.session.journal_trust import decide_module
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.process import Process
from journal.engine.session.recorded_run import RecordedRun, report_replay
from journal.engine.session.recorder import start_guest_thread
from journal.engine.session.replay import Replay
from journal.engine.session.resource_policy import (
    ResourcePolicy,
    check_journal,
    check_memory,
    check_policy,
)
from journal.engine.session.resume_plan import (
    check_inputs,
    find_snapshot_variant,
    plan_resume_at,
)
from journal.engine.session.run_config import SessionConfig, StrPath, check_module, ignore_note
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.secret_environment import SecretValue, check_secrets
from journal.engine.session.standard_streams import StandardStreams, capture_outputs
from journal.engine.snapshot.capture import CapturedSnapshot, TrackedMemory
from journal.engine.snapshot.recorded_memory import PageLocations, RecordedMemory
from journal.engine.snapshot.restore import SnapshotRestorer, read_parts
from journal.engine.wasi.stdio.delivery import find_terminals
from journal.engine.wasi.stdio.stdin import BytesSource, Interrupter
from journal.errors import Divergence, EngineError, NotResumable
from journal.events import BY_TAG
from journal.events.process import RecordingLevel
from journal.rewrite.progress import ProgressCallback, ignore_progress, report_phase
from journal.snapshots.catalog import SnapshotInfo


@dataclass(frozen=True, slots=True)
class SnapshotCheck:
    """Result of the check of one snapshot.

    ``matches`` says whether the digest matches, None if it could not be compared. ``reason``
    says why ``matches`` is not true.
    """

    info: SnapshotInfo
    matches: bool | None
    reason: str = ""


@dataclass(slots=True)
class ReplayResult:
    """Result of a replay.

    ``result`` is the end of the guest, or None if the journal ends before. ``divergence`` is
    the first event that differs.
    """

    checks: list[SnapshotCheck] = field(default_factory=list)
    divergence: Divergence | None = None
    result: RunResult | None = None

    @property
    def matches(self) -> bool:
        """Return whether no event and no compared snapshot differs."""
        return self.divergence is None and all(check.matches is not False for check in self.checks)


class SnapshotCheckPlan:
    """The snapshots that a run passes, in order, and the results of their checks."""

    def __init__(
        self,
        infos: Sequence[SnapshotInfo],
        variant: ModuleVariant,
        recording: RecordedRun,
        memory: RecordedMemory,
    ) -> None:
        self._recording, self._memory = recording, memory
        self._remaining: list[SnapshotInfo] = []
        self.checks: list[SnapshotCheck] = []
        self.payloads: list[tuple[int, bytes]] = []
        self.changed: PageLocations = set()
        for info in infos:
            reason = _incomparable_reason(info, variant)
            if reason:
                self.checks.append(SnapshotCheck(info, None, reason))
            else:
                self._remaining.append(info)

    @property
    def next_snapshot(self) -> SnapshotInfo | None:
        """Return the snapshot that the run passes next, or None."""
        return self._remaining[0] if self._remaining else None

    def compare(self, snapshot: CapturedSnapshot, memories: Sequence[TrackedMemory]) -> None:
        """Compare the captured state with the next snapshot, byte by byte."""
        info = self._remaining.pop(0)
        difference = self._find_difference(info, memories)
        if not difference and snapshot.digest != info.digest:
            difference = "its digest is not that of its state"
        self.checks.append(SnapshotCheck(info, not difference, difference))

    def _find_difference(self, info: SnapshotInfo, memories: Sequence[TrackedMemory]) -> str:
        """Return a description of the first part that differs; empty if none does."""
        try:
            recorded = read_parts(self._recording.reader, info)
            self._memory.advance_to(info)
        except NotResumable as error:
            return str(error)
        for (tag, actual), expected in zip(self.payloads, recorded.payloads, strict=False):
            if actual != expected:
                return f"its {BY_TAG[tag].__name__} differs"
        if len(self.payloads) != len(recorded.payloads):
            return (
                f"the guest has {len(self.payloads)} parts of state besides memory: the snapshot "
                f"has {len(recorded.payloads)}"
            )
        difference = self._memory.find_difference(memories, self.changed)
        self.changed.clear()
        return difference

    def list_missed(self) -> list[SnapshotCheck]:
        """Return the checks of the snapshots that the guest did not reach."""
        return [
            SnapshotCheck(info, False, "the guest did not reach it") for info in self._remaining
        ]


def _mark_unusable(check: SnapshotCheck, seq: int, reason: str) -> SnapshotCheck:
    """Return the check, failed with ``reason`` if it is of snapshot ``seq``."""
    return SnapshotCheck(check.info, False, reason) if check.info.seq == seq else check


def _incomparable_reason(info: SnapshotInfo, variant: ModuleVariant) -> str:
    """Return why a snapshot cannot be compared; empty if it can."""
    if info.first_seq is None or not info.digest:
        return "it has no digest that this version can compare"
    if info.code != variant.code:
        return "its module variant is not available"
    if info.entry and not info.function:
        return "it was taken in a loop, whose position a replay cannot find again"
    return ""


def verify_replay(  # long: each option is a keyword with its documentation
    path: StrPath,
    *,
    start: int | None = None,
    from_each_snapshot: bool = False,
    module: bytes | StrPath | None = None,
    secrets: Mapping[str, str | SecretValue] | None = None,
    cache: Path | None = None,
    approvals: Path | None = None,
    policy: ResourcePolicy | None = None,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
    note: Notify = ignore_note,
    on_check: Callable[[SnapshotCheck], None] = lambda check: None,
    progress: ProgressCallback = ignore_progress,
) -> ReplayResult:
    """Execute the guest of a journal again and compare its events and snapshots.

    The guest runs from its beginning, or from the snapshot whose sequence number is ``start``.
    With ``from_each_snapshot`` it runs from each snapshot to the next, so that a difference at
    one snapshot does not affect the checks of later ones; ``start`` takes precedence. ``module`` is
    needed only if the journal does not contain its module, and ``secrets`` if environment
    variables were secret. ``cache`` is the directory of compiled modules. ``approvals`` is the
    directory of approvals, without which the path that a journal names as its module is not read.
    ``policy`` bounds what the journal may use, and ``allocation`` is the strategy by which wasmtime
    allocates the instances. ``note`` receives remarks for the user, ``on_check``
    each finished check, and ``progress`` the phases as :class:`SessionConfig` says.

    Nothing else of the host is read, and nothing is written. Raises ``NotResumable``,
    ``ModuleMismatch`` and ``EngineMismatch`` for a journal that cannot be executed here, and
    ``GrantsMissing`` for a module that is neither stored nor passed nor approved, and
    ``ResourceRefused`` for a journal that may exceed the policy.
    """
    journal = check_path("path", path)
    check_optional("start", start, check_int)
    check_flag("from_each_snapshot", from_each_snapshot)
    check_optional("module", module, check_module)
    approvals = check_optional("approvals", approvals, check_path)
    check_callable("on_check", on_check)
    values = check_secrets(secrets)
    policy = check_policy(policy)
    check_journal(journal, policy)
    config = SessionConfig(cache=cache, allocation=allocation, note=note, progress=progress)
    with ExitStack() as stack:
        with report_phase(progress, "reading the journal"):
            recording = stack.enter_context(RecordedRun(journal, policy=policy))
        identity = recording.identity
        preamble.check_engine(identity)
        preamble.set_secrets(identity, values)
        memory = stack.enter_context(RecordedMemory(recording.reader, recording.snapshots))
        access = decide_module(recording, approvals, has_module=module is not None)
        found = preamble.find_module(identity, module, access)
        runner, replay = _ReplayRunner(recording, found, config, memory), ReplayResult()
        if start is not None or not from_each_snapshot:
            runner.run(replay, start, None)
        else:
            runner.run_each(replay)
        for check in replay.checks:
            on_check(check)
        return replay


@dataclass(slots=True)
class _ReplayRunner:
    """Runs parts of one journal and collects the results."""

    recording: RecordedRun
    module: GuestModule
    config: SessionConfig
    memory: RecordedMemory

    def run_each(self, replay: ReplayResult) -> None:
        """Run from the start and from each snapshot to the next.

        If a snapshot cannot be resumed, its check fails and the run begins at the last
        usable one.
        """
        starts = [info.seq for info in self.recording.snapshots if info.resumable]
        last_usable: int | None = None
        for begin, end in zip([None, *starts], [*starts, None], strict=True):
            try:
                self.run(replay, begin, end)
                last_usable = begin
            except EngineError as error:
                if begin is None:
                    raise
                replay.checks = [
                    _mark_unusable(check, begin, str(error)) for check in replay.checks
                ]
                self.run(replay, last_usable, end, compare_after=begin)

    def run(
        self,
        replay: ReplayResult,
        begin: int | None,
        end: int | None,
        compare_after: int | None = None,
    ) -> None:
        """Run from snapshot ``begin`` or the start to snapshot ``end`` or the end of the journal.

        With ``compare_after`` only the snapshots after that one are compared.
        """
        recording, config = self.recording, self.config
        since = begin if compare_after is None else compare_after
        infos = [
            info
            for info in recording.snapshots
            if (since is None or info.seq > since) and (end is None or info.seq <= end)
        ]
        first = next((info for info in infos if info.code), infos[0] if infos else None)
        if begin is None:
            check_inputs(recording, -1)
        variant, start = None, None
        if begin is not None:
            variant, start = plan_resume_at(recording, self.module, begin, config)
            if start is not None:
                self.memory.advance_to(start.info)
        elif recording.identity.start.level is not RecordingLevel.FULL:
            raise NotResumable(
                "the journal was recorded at level state: it has no inputs to replay"
            )
        elif first is not None:
            variant = find_snapshot_variant(recording, self.module, first, config)
        variant = variant or make_unmodified_variant(self.module)
        plan = SnapshotCheckPlan(infos, variant, recording, self.memory)
        self._execute(replay, plan, variant, start, end)
        replay.checks += plan.checks + ([] if replay.divergence else plan.list_missed())
        replay.checks.sort(key=lambda check: check.info.seq)

    def _execute(
        self,
        replay: ReplayResult,
        plan: SnapshotCheckPlan,
        variant: ModuleVariant,
        start: SnapshotRestorer | None,
        end: int | None,
    ) -> None:
        recording = self.recording
        identity = recording.identity
        first_seq = start.info.seq + 1 if start is not None else recording.first_seq
        batches = report_replay(recording, first_seq, self.config.progress, end)
        streams = StandardStreams(
            BytesSource(b""), capture_outputs(), find_terminals(recording.histories)
        )
        check_memory(variant, identity.configuration, recording.policy)
        interrupter = Interrupter()
        try:
            process = Process(
                prepare(
                    variant,
                    identity.configuration,
                    self.config.cache,
                    self.config.progress,
                    self.config.allocation,
                ),
                identity,
                NullWriter(),
                streams,
                interrupter,
                self.config,
                replay=Replay(batches=batches, start=start, plan=plan),
            )
            self._finish(replay, process, interrupter)
        finally:
            interrupter.close()

    def _finish(self, replay: ReplayResult, process: Process, interrupter: Interrupter) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                result = process.run()
                replay.result = None if result.kind is ExitKind.STOPPED else result
            except Divergence as divergence:
                replay.divergence = divergence
            except BaseException as error:
                errors.append(error)

        thread = start_guest_thread(work, process.stack_size)
        try:
            thread.join()
        except BaseException:  # A signal handler raised it.
            interrupter.request_stop()
            process.interrupt()
            thread.join()
            raise
        if errors:
            raise errors[0]
