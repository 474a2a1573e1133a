"""Compaction in place, which writes a sibling journal and then replaces the old journal."""

import os

from journal._arguments import check_flag, check_path, check_type
from journal.compaction.compactor import CompactionPlan, CompactionResult
from journal.compaction.output import NullTarget
from journal.compaction.retention import RetentionPolicy
from journal.log.commit_policy import CommitPolicy
from journal.log.in_place_replacement import InPlaceReplacement
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer
from journal.rewrite.progress import ProgressCallback, check_progress


def compact_in_place(
    path: str | os.PathLike[str],
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - an immutable value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
) -> CompactionResult:
    """Replace a journal by its compacted form; see ``compact``.

    After a crash the path holds either the old or the new journal; a hidden sibling file that is
    left over can be deleted. If nothing is dropped, nothing is written. Raises JournalLocked while
    another process writes the journal.

    A ``Reader`` that has the file open continues with the old journal. A ``Reader`` of a directory
    opens segments by name, so it raises NotAJournal and must be opened again.
    """
    target = check_path("path", path)
    check_type("policy", policy, RetentionPolicy)
    report = check_progress(progress)
    check_flag("dry_run", dry_run)
    with InPlaceReplacement(target) as replacement, Reader(replacement.target) as reader:
        folder = replacement.target.parent
        plan = CompactionPlan(reader, policy, report)
        if dry_run:
            return plan.execute(NullTarget, folder)
        roll = RollPolicy() if replacement.is_directory else None

        def begin() -> Writer:
            journal_id = reader.journal_id
            return Writer(
                replacement.sibling,
                publish=False,
                journal_id=journal_id,
                commit=CommitPolicy.NONE,
                roll=roll,
            )

        result = plan.execute(begin, folder, publish_unchanged=False)
        if not result.is_unchanged:
            replacement.replace()
        return result
