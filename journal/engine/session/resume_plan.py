"""From which snapshot a run is resumed, and in which form its module runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from journal.engine.configuration import SnapshotOptions, Stacks
from journal.engine.program.module import GuestModule
from journal.engine.program.variant import (
    ModuleVariant,
    Notify,
    cached_variant,
    variant_for_snapshots,
    variant_from_journal,
    variant_made_by,
    variant_to_record,
)
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.snapshot.memory_image import default_folder
from journal.engine.snapshot.restore import SnapshotRestorer, prepare_restore
from journal.engine.tape import Batch
from journal.errors import NotResumable
from journal.events.process import RecordingLevel
from journal.operations.sequence_gaps import find_last_gap
from journal.snapshots.catalog import SnapshotInfo
from journal.snapshots.resume_flags import has_gaps_allowed


class ResumeOptions(NamedTuple):
    """What the user wants; ``reexecute``: no snapshot, even if there is one."""

    snapshots: SnapshotOptions
    cache: Path | None
    note: Notify
    reexecute: bool


class ResumePlan(NamedTuple):
    """The form of the module, and the snapshot to go on from, if not from the start."""

    form: ModuleVariant
    start: SnapshotRestorer | None


def plan_resume(recording: RecordedRun, module: GuestModule, choice: ResumeOptions) -> ResumePlan:
    """The newest snapshot that can be had, with the form that it is of; else a form to run from
    the start.

    Raises ``NotResumable`` where the journal has no inputs to run from the start with.
    """
    forms: dict[bytes, ModuleVariant | None] = {}
    for info in () if choice.reexecute else reversed(recording.snapshots):
        if not info.resumable:
            continue
        if info.code not in forms:
            forms[info.code] = find_snapshot_variant(recording, module, info, choice)
            if forms[info.code] is None:
                choice.note(
                    f"what instrumented the module for snapshot {info.seq} is not here, so the "
                    "guest is executed from one before, or from its start"
                )
        form = forms[info.code]
        if form is None:
            continue
        _check_effects(recording, info)
        check_inputs(recording, info.seq)
        try:
            return ResumePlan(form, _make_restorer(recording, info, form, choice))
        except NotResumable as error:
            choice.note(f"{error}; the one before is taken")
    if recording.identity.start.level is not RecordingLevel.FULL:
        raise NotResumable(
            "the journal was recorded at level state: it has no inputs to replay, and no snapshot "
            "to go on from"
        )
    check_inputs(recording, -1)
    return ResumePlan(_find_start_variant(recording, module, choice), None)


def plan_resume_at(
    recording: RecordedRun, module: GuestModule, seq: int, choice: ResumeOptions
) -> ResumePlan:
    """The snapshot of this number, to go on from; raises ``NotResumable``."""
    info = next((info for info in recording.snapshots if info.seq == seq), None)
    if info is None:
        raise NotResumable(f"event {seq} is no snapshot")
    if not info.resumable:
        raise NotResumable(f"snapshot {seq} cannot be resumed: {info.reason}")
    form = find_snapshot_variant(recording, module, info, choice)
    if form is None:
        raise NotResumable("what instrumented the module is not here")
    _check_effects(recording, info)
    check_inputs(recording, info.seq)
    return ResumePlan(form, _make_restorer(recording, info, form, choice))


def find_snapshot_variant(
    recording: RecordedRun, module: GuestModule, info: SnapshotInfo, choice: ResumeOptions
) -> ModuleVariant | None:
    """The form that a snapshot is of, if it can be had.

    It is that of the first session, or of one that had another tool, or wanted other snapshots.
    """
    made_by = recording.identity.configuration.instrumentation
    if not info.code:
        return variant_for_snapshots(
            module, SnapshotOptions(stacks=Stacks.NEVER), choice.cache, choice.note
        )

    def made() -> ModuleVariant | None:
        form: ModuleVariant | None = None
        if recording.identity.instrumented is not None:
            form = variant_from_journal(
                module, recording.identity.instrumented(), made_by, choice.cache
            )
        elif made_by:
            form = variant_made_by(module, made_by, choice.cache, choice.note)
        if form is None or form.code != info.code:
            form = variant_for_snapshots(module, choice.snapshots, choice.cache, choice.note)
        return form if form.code == info.code else None

    return cached_variant(module, info.code, choice.cache, made) or made()


def _find_start_variant(
    recording: RecordedRun, module: GuestModule, choice: ResumeOptions
) -> ModuleVariant:
    made_by = recording.identity.configuration.instrumentation
    form = variant_made_by(module, made_by, choice.cache, choice.note) if made_by else None
    return form or variant_to_record(module, choice.snapshots, choice.cache, choice.note)


def _check_effects(recording: RecordedRun, info: SnapshotInfo) -> None:
    """Raise ``NotResumable`` where what is behind a snapshot cannot be executed again."""
    if recording.identity.start.level is not RecordingLevel.FULL and recording.has_effects_after(
        info.seq
    ):
        raise NotResumable(
            f"the guest did more behind snapshot {info.seq}, and what it heard there is not "
            f"recorded: with at {info.seq} it goes on from there in a new journal, named by into"
        )


def check_inputs(recording: RecordedRun, seq: int) -> None:
    """Raise ``NotResumable`` where a guest would be executed over what a compaction has dropped.

    From behind event ``seq``, which is a snapshot, or from its start: -1.
    """
    if has_gaps_allowed(recording.identity.start):
        return
    newest = recording.snapshots[-1].seq if recording.snapshots else -1
    hole = find_last_gap(recording.reader.path, newest) if seq < newest else -1
    if hole > seq:
        kept = next(info.seq for info in recording.snapshots if info.seq > hole)
        begin = "its start" if seq < 0 else f"snapshot {seq}"
        raise NotResumable(
            f"the journal was compacted: what the guest heard before snapshot {kept} is not all "
            f"there, so it cannot be executed from {begin}"
        )


def _make_restorer(
    recording: RecordedRun, info: SnapshotInfo, form: ModuleVariant, choice: ResumeOptions
) -> SnapshotRestorer:
    if info.entry and info.entry not in form.entries:
        raise NotResumable(f"snapshot {info.seq} was taken in {info.entry!r}, which nobody calls")

    def history(tags: frozenset[int]) -> Iterable[Batch]:
        return recording.batches(recording.first_seq, tags)

    return prepare_restore(
        recording.reader,
        recording.reader.journal_id,
        recording.snapshots,
        info,
        default_folder(choice.cache),
        history,
    )
