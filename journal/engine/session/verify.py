"""Verifying a journal by running it: the guest is executed again, and every snapshot is compared.

Each event that the guest makes is compared with the journal's as it comes; at each snapshot it is
held up where it was then, and the digest of its whole state is compared. Nothing of the host is
touched.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from journal.engine.configuration import SnapshotOptions
from journal.engine.program.module import GuestModule
from journal.engine.program.prepared import prepare
from journal.engine.program.variant import ModuleVariant, Notify, unmodified
from journal.engine.session import preamble as identities
from journal.engine.session.process import ExitKind, Process, RunResult
from journal.engine.session.recorded_run import NullWriter, RecordedRun
from journal.engine.session.recorder import start_guest_thread
from journal.engine.session.resume_plan import (
    ResumeOptions,
    check_inputs,
    find_snapshot_variant,
    plan_resume_at,
)
from journal.engine.snapshot.capture import CapturedSnapshot
from journal.engine.snapshot.restore import SnapshotRestorer, read_parts
from journal.engine.wasi.stdio.delivery import find_terminals
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT, OutputTarget
from journal.engine.wasi.stdio.stdin import BytesSource, Interrupter
from journal.errors import Divergence, EngineError, NotResumable
from journal.events import BY_TAG
from journal.events.process import RecordingLevel
from journal.events.streams import TargetKind
from journal.snapshots.catalog import SnapshotInfo

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class SnapshotCheck:
    """Result of the check of one snapshot; ``matches`` is None where it could not be checked."""

    info: SnapshotInfo
    matches: bool | None
    reason: str = ""


@dataclass(slots=True)
class ReplayResult:
    """What came of running a journal again.

    ``result`` is how the guest ended; None where the journal ends before. ``divergence`` is the
    first event that came out differently.
    """

    checks: list[SnapshotCheck] = field(default_factory=list)
    divergence: Divergence | None = None
    result: RunResult | None = None

    @property
    def matches(self) -> bool:
        """Whether nothing came out differently."""
        return self.divergence is None and all(one.matches is not False for one in self.checks)


class SnapshotCheckPlan:
    """The snapshots that a run comes by, in order, and what was found at each."""

    def __init__(
        self, infos: Sequence[SnapshotInfo], form: ModuleVariant, recording: RecordedRun
    ) -> None:
        self._recording = recording
        self._left: list[SnapshotInfo] = []
        self.checks: list[SnapshotCheck] = []
        self.payloads: list[tuple[int, bytes]] = []
        for info in infos:
            reason = _incomparable_reason(info, form)
            if reason:
                self.checks.append(SnapshotCheck(info, None, reason))
            else:
                self._left.append(info)

    @property
    def next_snapshot(self) -> SnapshotInfo | None:
        """The one that comes next."""
        return self._left[0] if self._left else None

    def compare(self, shot: CapturedSnapshot) -> None:
        """The guest is where the next one was taken: the state is this."""
        info = self._left.pop(0)
        matches = shot.digest == info.digest
        self.checks.append(SnapshotCheck(info, matches, "" if matches else self._difference(info)))
        self.payloads.clear()

    def _difference(self, info: SnapshotInfo) -> str:
        """What is different, as far as the journal tells."""
        try:
            kept = read_parts(self._recording.reader, info)
        except NotResumable as error:
            return str(error)
        for (tag, now), then in zip(self.payloads, kept.payloads, strict=False):
            if now != then:
                return f"its {BY_TAG[tag].__name__} is another"
        if len(self.payloads) != len(kept.payloads):
            return "it has more or less than memory and what else there was"
        return "memory is another"

    def list_missed(self) -> list[SnapshotCheck]:
        """Those that the guest did not come by."""
        return [SnapshotCheck(info, False, "the guest did not come there") for info in self._left]


def _mark_unusable(checked: SnapshotCheck, seq: int, reason: str) -> SnapshotCheck:
    """What was found, unless it is of this snapshot: nobody can go on from that."""
    return SnapshotCheck(checked.info, False, reason) if checked.info.seq == seq else checked


def _incomparable_reason(info: SnapshotInfo, form: ModuleVariant) -> str:
    """Why a snapshot cannot be compared; empty if it can."""
    if info.first_seq is None or not info.digest:
        return "it has no digest of ours"
    if info.code != form.code:
        return "what instrumented the module then is not here"
    if info.entry and not info.function:
        return "it was taken in a loop, and where that was cannot be found again"
    return ""


def verify_replay(
    path: StrPath,
    *,
    start: int | None = None,
    from_each_snapshot: bool = False,
    module: bytes | StrPath | None = None,
    cache: Path | None = None,
    note: Notify = lambda text: None,
    progress: Callable[[SnapshotCheck], None] = lambda checked: None,
) -> ReplayResult:
    """Execute the guest of a journal again and compare its events and snapshots.

    The guest runs from its beginning, or from the snapshot whose sequence number is ``start``.
    With ``from_each_snapshot`` it runs from each snapshot to the next, so that a difference at
    one snapshot does not affect the checks of later ones; ``start`` takes precedence. ``module`` is
    needed only where the journal does not contain its module. ``cache`` is the directory of
    compiled modules. ``note`` receives remarks for the user, ``progress`` each finished check.

    Nothing of the host is read or written. Raises ``NotResumable``, ``ModuleMismatch`` and
    ``EngineMismatch`` for a journal that cannot be executed here.
    """
    with RecordedRun(Path(path), None) as recording:
        identity = recording.identity
        identities.check_engine(identity, None)
        runner = _ReplayRunner(
            recording,
            identities.find_module(identity, module),
            ResumeOptions(SnapshotOptions(), cache, note, reexecute=False),
        )
        found = ReplayResult()
        if start is not None or not from_each_snapshot:
            runner.run(found, start, None)
        else:
            runner.run_each(found)
        for checked in found.checks:
            progress(checked)
        return found


@dataclass(slots=True)
class _ReplayRunner:
    """Runs parts of one journal."""

    recording: RecordedRun
    module: GuestModule
    choice: ResumeOptions

    def run_each(self, found: ReplayResult) -> None:
        """From the start and each snapshot to the next; past one that nobody can go on from."""
        starts = [info.seq for info in self.recording.snapshots if info.resumable]
        good: int | None = None
        for begin, end in zip([None, *starts], [*starts, None], strict=True):
            try:
                self.run(found, begin, end)
                good = begin
            except EngineError as error:
                if begin is None:
                    raise
                found.checks = [_mark_unusable(one, begin, str(error)) for one in found.checks]
                self.run(found, good, end, behind=begin)

    def run(
        self, found: ReplayResult, begin: int | None, end: int | None, behind: int | None = None
    ) -> None:
        """From one snapshot, or the start, to another, or the end.

        With ``behind`` only those behind that one are compared.
        """
        recording, choice = self.recording, self.choice
        since = begin if behind is None else behind
        infos = [
            info
            for info in recording.snapshots
            if (since is None or info.seq > since) and (end is None or info.seq <= end)
        ]
        first = next((one for one in infos if one.code), infos[0] if infos else None)
        if begin is None:
            check_inputs(recording, -1)
        form, start = None, None
        if begin is not None:
            form, start = plan_resume_at(recording, self.module, begin, choice)
        elif recording.identity.start.level is not RecordingLevel.FULL:
            raise NotResumable("the journal was recorded at level state, without inputs")
        elif first is not None:
            form = find_snapshot_variant(recording, self.module, first, choice)
        form = form or unmodified(self.module)
        plan = SnapshotCheckPlan(infos, form, recording)
        self._execute(found, plan, form, start, end)
        found.checks += plan.checks + ([] if found.divergence else plan.list_missed())
        found.checks.sort(key=lambda checked: checked.info.seq)

    def _execute(
        self,
        found: ReplayResult,
        plan: SnapshotCheckPlan,
        form: ModuleVariant,
        start: SnapshotRestorer | None,
        end: int | None,
    ) -> None:
        recording = self.recording
        settings = replace(recording.identity.configuration, instrumentation=form.made_by)
        begins = start.info.seq + 1 if start is not None else recording.first_seq
        interrupter = Interrupter()
        try:
            process = Process(
                prepare(form, settings, self.choice.cache),
                recording.identity,
                NullWriter(),
                output_targets={
                    stream: OutputTarget(TargetKind.CAPTURED) for stream in (STDOUT, STDERR)
                },
                stdin=BytesSource(b""),
                interrupter=interrupter,
                recorded=recording.batches(begins, until=end),
                terminals=find_terminals(recording.histories),
                start=start,
                plan=plan,
            )
            self._finish(found, process, settings.native_stack_size)
        finally:
            interrupter.close()

    def _finish(self, found: ReplayResult, process: Process, stack_size: int) -> None:
        errors: list[BaseException] = []

        def work() -> None:
            try:
                result = process.run()
                found.result = None if result.kind is ExitKind.STOPPED else result
            except Divergence as divergence:
                found.divergence = divergence
            except BaseException as error:
                errors.append(error)

        start_guest_thread(work, stack_size).join()
        if errors:
            raise errors[0]
