"""Selection of the snapshot from which a run is resumed, and of its module variant."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from journal._arguments import quote
from journal.engine.configuration import SnapshotOptions, Stacks
from journal.engine.program import binaryen
from journal.engine.program.module import GuestModule
from journal.engine.program.variant import (
    WITH_LOOPS,
    ModuleVariant,
    find_cached_variant,
    load_embedded_variant,
    make_snapshot_variant,
    make_variant_with_tool,
    select_variant,
)
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.run_config import SessionConfig
from journal.engine.snapshot.memory_image import ImageCache
from journal.engine.snapshot.restore import (
    SnapshotRestorer,
    base_snapshots,
    prepare_restore,
    read_parts,
)
from journal.engine.tape import Batch
from journal.errors import NotResumable
from journal.events.process import RecordingLevel
from journal.operations.sequence_gaps import find_last_gap
from journal.rewrite.progress import report_phase
from journal.snapshots.catalog import SnapshotInfo
from journal.snapshots.resume_flags import has_gaps_allowed


class ResumePlan(NamedTuple):
    """Variant of the module, and the snapshot to resume from, or None to run from the start."""

    variant: ModuleVariant
    start: SnapshotRestorer | None


def plan_resume(
    recording: RecordedRun, module: GuestModule, config: SessionConfig, *, reexecute: bool = False
) -> ResumePlan:
    """Return the newest usable snapshot with its module variant.

    Without a usable snapshot, or with ``reexecute``, returns a variant to run from the start.
    Raises ``NotResumable`` if the journal does not have all inputs for that.
    """
    variants: dict[bytes, ModuleVariant | None] = {}
    for info in () if reexecute else reversed(recording.snapshots):
        if not info.resumable:
            continue
        if info.code not in variants:
            variants[info.code] = find_snapshot_variant(recording, module, info, config)
            if variants[info.code] is None:
                config.note(
                    f"the module variant of snapshot {info.seq} is not available, so the guest is "
                    "executed from an earlier snapshot or from its start"
                )
        variant = variants[info.code]
        if variant is None:
            continue
        _check_effects(recording, info)
        check_inputs(recording, info.seq)
        try:
            return ResumePlan(variant, make_restorer(recording, info, variant, config))
        except NotResumable as error:
            config.note(f"{error}; an earlier snapshot is used")
    _check_level(recording)
    check_inputs(recording, -1)
    return ResumePlan(_find_start_variant(recording, module, config), None)


def foresee_start(
    recording: RecordedRun, module: GuestModule, cache: Path | None
) -> SnapshotInfo | None:
    """Return the snapshot that ``plan_resume`` would select, None for the start of the program.

    Nothing is instrumented, and no snapshot is restored. Raises ``NotResumable`` as ``plan_resume``
    does.
    """
    for info in reversed(recording.snapshots):
        if not info.resumable or not _has_variant(recording, module, info, cache):
            continue
        _check_effects(recording, info)
        check_inputs(recording, info.seq)
        with suppress(NotResumable):
            read_parts(recording.reader, info)
            base_snapshots(recording.snapshots, info)
            return info
    _check_level(recording)
    check_inputs(recording, -1)
    return None


def _has_variant(
    recording: RecordedRun, module: GuestModule, info: SnapshotInfo, cache: Path | None
) -> bool:
    """Return whether the module variant of a snapshot is available, or can be made by its tool."""
    if not info.code or find_cached_variant(module, info.code, cache, lambda: None) is not None:
        return True
    if recording.identity.instrumented is not None:
        return hashlib.sha256(recording.identity.instrumented()).digest() == info.code
    tool = recording.identity.configuration.instrumentation.removesuffix(WITH_LOOPS)
    return any(installed.name == tool for installed in binaryen.list_tools())


def plan_resume_at(
    recording: RecordedRun, module: GuestModule, seq: int, config: SessionConfig
) -> ResumePlan:
    """Return the plan to resume from snapshot ``seq``.

    Raises ``NotResumable`` if the snapshot is missing or cannot be used.
    """
    info = next((info for info in recording.snapshots if info.seq == seq), None)
    if info is None:
        raise NotResumable(f"event {seq} is not a snapshot")
    if not info.resumable:
        raise NotResumable(f"snapshot {seq} cannot be resumed: {info.reason}")
    variant = find_snapshot_variant(recording, module, info, config)
    if variant is None:
        raise NotResumable(f"snapshot {seq} cannot be resumed: its module variant is not available")
    _check_effects(recording, info)
    check_inputs(recording, info.seq)
    return ResumePlan(variant, make_restorer(recording, info, variant, config))


def find_snapshot_variant(
    recording: RecordedRun, module: GuestModule, info: SnapshotInfo, config: SessionConfig
) -> ModuleVariant | None:
    """Return the module variant of a snapshot, or None if it is not available.

    The variant is that of the first session, or of a later session with another tool or other
    snapshot options.
    """
    instrumentation = recording.identity.configuration.instrumentation
    if not info.code:
        return make_snapshot_variant(
            module, SnapshotOptions(stacks=Stacks.NEVER), config.cache, config.note
        )

    def find() -> ModuleVariant | None:
        variant: ModuleVariant | None = None
        if recording.identity.instrumented is not None:
            variant = load_embedded_variant(
                module, recording.identity.instrumented(), instrumentation, config.cache
            )
        elif instrumentation:
            variant = make_variant_with_tool(module, instrumentation, config.cache, config.progress)
        if variant is None or variant.code != info.code:
            variant = make_snapshot_variant(
                module, config.snapshots, config.cache, config.note, config.progress
            )
        return variant if variant.code == info.code else None

    return find_cached_variant(module, info.code, config.cache, find) or find()


def _find_start_variant(
    recording: RecordedRun, module: GuestModule, config: SessionConfig
) -> ModuleVariant:
    instrumentation = recording.identity.configuration.instrumentation
    variant = (
        make_variant_with_tool(module, instrumentation, config.cache, config.progress)
        if instrumentation
        else None
    )
    return variant or select_variant(
        module, config.snapshots, config.cache, config.note, config.progress
    )


def _check_level(recording: RecordedRun) -> None:
    """Raise ``NotResumable`` unless the guest can be executed from its start."""
    if recording.identity.start.level is not RecordingLevel.FULL:
        raise NotResumable(
            "the journal was recorded at level state: it has no inputs to replay, and no usable "
            "snapshot to resume from"
        )


def _check_effects(recording: RecordedRun, info: SnapshotInfo) -> None:
    """Raise ``NotResumable`` if the events after a snapshot cannot be replayed."""
    if recording.identity.start.level is not RecordingLevel.FULL and recording.has_effects_after(
        info.seq
    ):
        raise NotResumable(
            f"the guest had effects after snapshot {info.seq}, but their inputs are not recorded: "
            f"resume from snapshot {info.seq} in a new journal"
        )


def check_inputs(recording: RecordedRun, seq: int) -> None:
    """Raise ``NotResumable`` if a compaction dropped inputs that a replay needs.

    The replay begins after event ``seq``, which is a snapshot, or at the start of the guest if
    ``seq`` is -1.
    """
    if has_gaps_allowed(recording.identity.start):
        return
    newest = recording.snapshots[-1].seq if recording.snapshots else -1
    gap = find_last_gap(recording.reader.path, newest) if seq < newest else -1
    if gap > seq:
        snapshot = next(info.seq for info in recording.snapshots if info.seq > gap)
        begin = "its start" if seq < 0 else f"snapshot {seq}"
        raise NotResumable(
            f"the journal was compacted: inputs before snapshot {snapshot} are missing, "
            f"so the guest cannot be executed from {begin}"
        )


def make_restorer(
    recording: RecordedRun, info: SnapshotInfo, variant: ModuleVariant, config: SessionConfig
) -> SnapshotRestorer:
    """Return the restorer of a snapshot. Raises ``NotResumable`` if it cannot be restored."""
    if info.entry and info.entry not in variant.entries:
        raise NotResumable(
            f"snapshot {info.seq} was taken in {quote(info.entry)}: this is not an entry function"
        )

    def read_history(tags: frozenset[int]) -> Iterable[Batch]:
        return recording.batches(recording.first_seq, tags)

    with report_phase(config.progress, f"reading snapshot {info.seq}"):
        return prepare_restore(
            recording.reader,
            recording.reader.journal_id,
            recording.snapshots,
            info,
            ImageCache.open(config.cache),
            read_history,
        )
