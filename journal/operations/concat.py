"""Concatenation: several journals as one new file, with numbers that go on from one to the next."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError, OptionError
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.block_copier import BlockCopier, Loss, check_output_path
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress


class ConcatResult(NamedTuple):
    """What a concatenation kept and left out; sizes are bytes of the sources.

    ``firsts`` has the number of the first event of each source. ``losses`` is empty unless salvage
    was asked for, and names the source in ``file``.
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
        """How many events are lost, as far as anything tells."""
        return sum(loss.events for loss in self.losses)

    @property
    def is_whole(self) -> bool:
        """Whether no event is lost."""
        return not any(loss.events or loss.open_ended for loss in self.losses)


def concat(
    sources: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    salvage: bool = False,
    progress: ProgressCallback | None = None,
) -> ConcatResult:
    """Write the events of all ``sources``, one behind the other, to ``target``, a new file.

    The first keeps its numbers and gives its id; each further one goes on behind, with the holes
    it has. What crashes left is left out. Damage is refused with a FormatError that names the
    source, unless ``salvage``: then what is lost becomes holes on purpose. ``target`` gets its name
    when it is whole and durable. Raises OptionError when it exists or would stand in a source.
    """
    paths = [Path(source) for source in sources]
    if not paths:
        raise OptionError("there is nothing to concatenate")
    check_output_path(Path(target), paths)
    joined = _Joiner(salvage, progress or ignore_progress)
    with BlockCopier(Path(target)) as keeper:
        for path in paths:
            joined.add(path, keeper)
        keeper.writer.publish()
        return ConcatResult(
            keeper.writer.journal_id,
            joined.size,
            keeper.blocks,
            keeper.events,
            keeper.writer.next_seq,
            keeper.torn_size,
            keeper.debris_size,
            tuple(joined.first_seqs),
            tuple(keeper.losses),
        )


class _Joiner:
    """The journals that are joined already: where the next one goes on."""

    def __init__(self, salvage: bool, report: ProgressCallback) -> None:
        self.size = 0
        self.first_seqs: list[int] = []
        self._next_seq: int | None = None
        self._salvage = salvage
        self._report = report

    def add(self, path: Path, keeper: BlockCopier) -> None:
        """Add a journal; its FormatErrors name it."""
        before = len(keeper.losses)
        try:
            with closing(SegmentFiles(path, patient=self._salvage)) as files:
                self._add(files, keeper)
        except FormatError as error:
            error.file = str(path / error.file)
            raise
        keeper.losses[before:] = [
            loss._replace(file=str(path / loss.file)) for loss in keeper.losses[before:]
        ]

    def _add(self, files: SegmentFiles, keeper: BlockCopier) -> None:
        walk, begun, next_seq = ProgressScan(files, self._report, "copying"), False, 0
        for item in walk.items():
            if not begun:
                begun, first = True, _first_seq(item)
                keeper.shift = 0 if self._next_seq is None else self._next_seq - first
                self.first_seqs.append(first + keeper.shift)
            if isinstance(item, scan.Damage) and not self._salvage:
                raise item.error()
            if isinstance(item, scan.Damage | scan.Tail):
                last = item.last_seq + 1 if isinstance(item, scan.Damage) else item.next_seq
                next_seq = max(next_seq, last)
            if not keeper.add(item) and not self._salvage:
                raise keeper.losses[-1].error()
        self._next_seq = next_seq + keeper.shift
        self.size += walk.size


def _first_seq(item: scan.ScanItem) -> int:
    """Give the number that a journal begins with, from what comes first in it."""
    if isinstance(item, scan.Segment):
        return item.header.first_seq
    assert isinstance(item, scan.Damage), "a walk begins with a segment, or what was one"
    return item.first_seq
