"""Concatenation of several journals into one new file with continuous sequence numbers."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal._arguments import check_each, check_flag, check_path
from journal.errors import FormatError, OptionError
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.block_copier import BlockCopier, Loss, check_new_journal
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress


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
    paths = check_each("sources", sources, check_path, what="paths")
    new = check_path("target", target)
    check_flag("salvage", salvage)
    report = check_progress(progress)
    if not paths:
        raise OptionError("no source to concatenate: at least one journal is required")
    check_new_journal(new, paths)
    with BlockCopier(new) as copier:
        joiner = _Joiner(copier, salvage, report)
        for path in paths:
            joiner.add(path)
        copier.writer.publish()
        return ConcatResult(
            copier.writer.journal_id,
            joiner.size,
            copier.blocks,
            copier.events,
            copier.writer.next_seq,
            joiner.torn_size,
            joiner.debris_size,
            tuple(joiner.first_seqs),
            tuple(copier.losses),
        )


class _Joiner:
    """Writer of several journals into one, which tracks the next sequence number."""

    def __init__(self, copier: BlockCopier, salvage: bool, report: ProgressCallback) -> None:
        self.size = self.torn_size = self.debris_size = 0
        self.first_seqs: list[int] = []
        self._copier = copier
        self._has_begun = False
        self._next_seq = 0
        self._salvage = salvage
        self._report = report

    def add(self, path: Path) -> None:
        """Add a journal. A FormatError names its file."""
        losses = self._copier.losses
        first_loss = len(losses)
        try:
            with closing(SegmentFiles(path, patient=self._salvage)) as files:
                self._add(files)
        except FormatError as error:
            error.file = str(path / error.file)
            raise
        losses[first_loss:] = [
            loss._replace(file=str(path / loss.file)) for loss in losses[first_loss:]
        ]

    def _add(self, files: SegmentFiles) -> None:
        self._has_begun = False
        copier, progress = self._copier, ProgressScan(self._report, "copying")
        for scanned in scan.take_blocks(
            progress.items(files),
            on_damage=self._add_damage,
            on_segment=self._add_segment,
            on_tail=self._add_tail,
        ):
            if not copier.copy_block(scanned) and not self._salvage:
                raise copier.losses[-1].error()
        self.size += progress.size
        self.torn_size += progress.torn_size
        self.debris_size += progress.debris_size

    def _add_damage(self, damage: scan.Damage) -> None:
        self._begin(damage.first_seq)
        if not self._salvage:
            scan.raise_damage(damage)
        self._copier.add_damage(damage)
        self._advance(damage.last_seq + 1)

    def _add_segment(self, segment: scan.Segment) -> None:
        self._begin(segment.header.first_seq)
        self._copier.add_segment(segment)

    def _add_tail(self, tail: scan.Tail) -> None:
        self._advance(tail.next_seq)

    def _begin(self, first_seq: int) -> None:
        """Set the shift of a source's sequence numbers at the first item of its scan."""
        if not self._has_begun:
            self._has_begun = True
            if self.first_seqs:  # The first source keeps its sequence numbers.
                self._copier.shift = self._next_seq - first_seq
            self.first_seqs.append(first_seq + self._copier.shift)

    def _advance(self, next_seq: int) -> None:
        self._next_seq = max(self._next_seq, next_seq + self._copier.shift)
