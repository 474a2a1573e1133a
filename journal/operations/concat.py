"""Concatenation of several journals into one new file with continuous sequence numbers."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError, OptionError
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.block_copier import BlockCopier, Loss, check_new_journal
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress


class ConcatResult(NamedTuple):
    """Result of a concatenation; sizes are bytes of the sources.

    ``first_seqs`` has the new sequence number of the first event of each source. ``losses`` is
    empty unless ``salvage`` is set; each loss names its source in ``file``.
    """

    journal_id: bytes
    size: int
    blocks: int
    events: int
    next_seq: int
    torn_size: int
    debris_size: int
    first_seqs: tuple[int, ...]
    losses: tuple[Loss, ...]

    @property
    def lost_events(self) -> int:
        """Number of lost events, as far as known."""
        return sum(loss.events for loss in self.losses)

    @property
    def is_whole(self) -> bool:
        """Return whether no event is lost."""
        return not any(loss.events or loss.open_ended for loss in self.losses)


def concat(
    sources: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    salvage: bool = False,
    progress: ProgressCallback | None = None,
) -> ConcatResult:
    """Write the events of all ``sources``, one after the other, to the new file ``target``.

    The first source keeps its sequence numbers and its journal id. The events of each further
    source follow, renumbered by one constant, so that gaps remain. The debris of crashes is not
    copied. Damage raises a FormatError that names the source, unless ``salvage`` is set: lost
    events then become gaps. ``target`` gets its name when it is complete and durable. Raise
    OptionError if it exists or would be part of a source.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise OptionError("no source to concatenate: at least one journal is required")
    check_new_journal(Path(target), paths)
    joiner = _Joiner(salvage, progress or ignore_progress)
    with BlockCopier(Path(target)) as copier:
        for path in paths:
            joiner.add(path, copier)
        copier.writer.publish()
        return ConcatResult(
            copier.writer.journal_id,
            joiner.size,
            copier.blocks,
            copier.events,
            copier.writer.next_seq,
            copier.torn_size,
            copier.debris_size,
            tuple(joiner.first_seqs),
            tuple(copier.losses),
        )


class _Joiner:
    """Writer of several journals into one, which tracks the next sequence number."""

    def __init__(self, salvage: bool, report: ProgressCallback) -> None:
        self.size = 0
        self.first_seqs: list[int] = []
        self._next_seq: int | None = None
        self._salvage = salvage
        self._report = report

    def add(self, path: Path, copier: BlockCopier) -> None:
        """Add a journal. A FormatError names its file."""
        first_loss = len(copier.losses)
        try:
            with closing(SegmentFiles(path, patient=self._salvage)) as files:
                self._add(files, copier)
        except FormatError as error:
            error.file = str(path / error.file)
            raise
        copier.losses[first_loss:] = [
            loss._replace(file=str(path / loss.file)) for loss in copier.losses[first_loss:]
        ]

    def _add(self, files: SegmentFiles, copier: BlockCopier) -> None:
        blocks, has_begun, next_seq = ProgressScan(files, self._report, "copying"), False, 0
        for item in blocks.items():
            if not has_begun:
                has_begun, first = True, _first_seq(item)
                copier.shift = 0 if self._next_seq is None else self._next_seq - first
                self.first_seqs.append(first + copier.shift)
            if isinstance(item, scan.Damage) and not self._salvage:
                raise item.error()
            if isinstance(item, scan.Damage | scan.Tail):
                next_of_item = item.last_seq + 1 if isinstance(item, scan.Damage) else item.next_seq
                next_seq = max(next_seq, next_of_item)
            if not copier.add(item) and not self._salvage:
                raise copier.losses[-1].error()
        self._next_seq = next_seq + copier.shift
        self.size += blocks.size


def _first_seq(item: scan.ScanItem) -> int:
    """Return the first sequence number of a journal from its first scan item."""
    if isinstance(item, scan.Segment):
        return item.header.first_seq
    assert isinstance(item, scan.Damage), "a scan begins with a segment or with damage"
    return item.first_seq
