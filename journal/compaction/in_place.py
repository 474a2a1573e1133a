"""Compaction in place: writes the new journal beside the old one, then replaces the old one."""

import os

from journal.compaction.compactor import CompactionPlan, CompactionResult
from journal.compaction.output import NullTarget
from journal.compaction.retention import RetentionPolicy
from journal.log.appender import RollPolicy
from journal.log.commit_policy import CommitPolicy
from journal.log.in_place_replacement import InPlaceReplacement
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.rewrite.progress import ProgressCallback, ignore_progress


def compact_in_place(
    path: str | os.PathLike[str],
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - an immutable value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
) -> CompactionResult:
    """Replace a journal by its compacted form; see ``compact``.

    After a crash the path holds either the old or the new journal; a leftover file beside it is
    hidden and has no use. If nothing is dropped, nothing is written. Raises JournalLocked while
    another process writes the journal.

    A ``Reader`` that has the file open continues with the old journal. A ``Reader`` of a directory
    opens segments by name: it raises NotAJournal, and must be opened again.
    """
    with InPlaceReplacement(path) as exchange, Reader(exchange.target) as reader:
        folder = exchange.target.parent
        plan = CompactionPlan(reader, policy, progress or ignore_progress)
        if dry_run:
            return plan.execute(NullTarget, folder)
        roll = RollPolicy() if exchange.is_directory else None

        def begin() -> Writer:
            journal_id = reader.journal_id
            return Writer(
                exchange.sibling,
                publish=False,
                journal_id=journal_id,
                commit=CommitPolicy.NONE,
                roll=roll,
            )

        found = plan.execute(begin, folder, publish_unchanged=False)
        if not found.is_unchanged:
            exchange.replace()
        return found
