"""CompactionResult in place: the new journal is whole and durable beside the old one, and then is
it."""

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
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - it is a value
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
) -> CompactionResult:
    """Put in the place of a journal what its states are made of; see ``compact``.

    Whatever crash comes, there is the old one or the new one; what a crash leaves beside it is
    hidden, and of no use. Where nothing goes, nothing is written. Raises JournalLocked while
    another process writes the journal.

    A ``Reader`` that has a file open goes on with the old one. One that reads a directory finds
    its segments by their names: it raises NotAJournal, and is to be opened again.
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
