"""Splitting: one journal into several that hold its parts; and cutting: its beginning alone."""

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal.errors import LimitExceeded, OptionError
from journal.events.paths import FilePlaced
from journal.events.process import InstrumentedPart, ModulePart, Mount, ProcessStart
from journal.events.snapshots import Snapshot
from journal.format.block import Block
from journal.format.block_slice import slice_block
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs import atomic_file
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.pages.dropped_pages import DroppedPages, LazyPageResolver
from journal.rewrite.block_builder import BlockBuilder
from journal.rewrite.block_copier import check_output_path
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, ignore_progress
from journal.snapshots.resume_flags import add_flag_to_payload

PARTS_COUNT_MAX = 1_000_000
"""Parts have six digits in their names."""

_DIGITS = 6
_PREAMBLE = frozenset(
    kind.tag for kind in (ProcessStart, ModulePart, InstrumentedPart, Mount, FilePlaced)
)
_PART_REASON = "it is a part of a journal, and what stood in front of event {} is not in it"

assert PARTS_COUNT_MAX == 10**_DIGITS


class JournalPart(NamedTuple):
    """One part: its file, and the numbers of its events, whatever it repeats of the identity."""

    path: Path
    first_seq: int
    last_seq: int
    events: int
    size: int


class SplitResult(NamedTuple):
    """What became of a journal; sizes are bytes of the source."""

    journal_id: bytes
    parts: tuple[JournalPart, ...]
    size: int
    torn_size: int
    debris_size: int

    @property
    def events(self) -> int:
        """Events of all parts."""
        return sum(part.events for part in self.parts)


class CutResult(NamedTuple):
    """The beginning of a journal that was kept."""

    journal_id: bytes
    events: int
    last_seq: int
    size: int


def split(
    source: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    at: Sequence[int] = (),
    snapshots: bool = False,
    size: int | None = None,
    self_contained: bool = False,
    progress: ProgressCallback | None = None,
) -> SplitResult:
    """Write the parts of ``source`` to ``directory``, a new one, as files in the order of names.

    A part begins at each number of ``at``, behind each snapshot if ``snapshots``, and where a part
    would get larger than ``size`` bytes. All keep numbers, times and the journal's id, and joined
    by ``concat`` or ``cat`` they are the same events again. If ``self_contained``, each repeats in
    front, under their own numbers, the events that say what ran and on what; it is marked, as what
    happened between them and the part is missing and nobody can resume it. Pages of memory that
    stand in another part are given in this one.

    ``directory`` gets its name when all is whole and durable. Raises OptionError where it exists,
    or a number of ``at`` splits nothing; and refuses damage with what reading raises.
    """
    if not at and not snapshots and size is None:
        raise OptionError("there is nothing to split at: numbers, snapshots, or a size")
    if size is not None and size <= 0:
        raise OptionError("a part has more bytes than none")
    path, target = Path(source), Path(directory)
    check_output_path(target, [path])
    marks = _SplitPoints(sorted(set(at)), snapshots, size)
    preamble_end = _find_preamble_end(path) if self_contained else None
    with _PartWriter(path, target, preamble_end) as parts:
        walked = BlockStream(path, progress or ignore_progress)
        for block in walked.blocks():
            if not parts.has_source:
                parts.set_source(walked.journal_id, walked.first_seq)
            start = 0
            for index in [*marks.find_in(block, parts), block.count]:
                if index > start:
                    parts.add(slice_block(block, start, index))
                if index < block.count:
                    parts.end_part()
                start = index
            if marks.splits_after(block):
                parts.end_part()
        marks.check_used(path)
        parts.publish()
        found = tuple(parts.parts)
        return SplitResult(
            walked.journal_id, found, walked.size, walked.torn_size, walked.debris_size
        )


def cut(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: int,
    progress: ProgressCallback | None = None,
) -> CutResult:
    """Write the events of ``source`` up to number ``at`` to ``target``, a new file.

    It is the same journal as it was then, id, numbers and times: what could be done with that can
    be done with it. ``fork`` makes one that goes its own way. What stands behind is not even read.
    ``target`` gets its name when it is whole and durable. Raises OptionError where there is no such
    event, and refuses damage in front of it with what reading raises.
    """
    check_output_path(Path(target), [Path(source)])
    walked, last_seq, events = BlockStream(Path(source), progress or ignore_progress), -1, 0
    writer: Writer | None = None
    try:
        for block in walked.blocks():
            if block.first_seq > at:
                break
            if writer is None:
                writer = _open_part(
                    Path(target), walked.journal_id, walked.first_seq, publish=False
                )
            count = bisect_right(block.seqs, at)
            writer.append_block(slice_block(block, 0, count))
            last_seq, events = block.seqs[count - 1], events + count
            if last_seq == at:
                break
        if writer is None or last_seq != at:
            raise OptionError(f"{source} has no event {at} to cut it behind")
        writer.sync()
        writer.publish()
        return CutResult(walked.journal_id, events, last_seq, writer.size + SEGMENT_HEADER_SIZE)
    finally:
        if writer is not None:
            writer.close()


class _SplitPoints:
    """Where parts begin."""

    def __init__(self, at: list[int], snapshots: bool, size: int | None) -> None:
        self._at = at
        self._snapshots = snapshots
        self._size = size

    def find_in(self, block: Block, parts: "_PartWriter") -> list[int]:
        """The indices of the block's events with which a part begins."""
        found: set[int] = set()
        if self._size is not None and parts.size and parts.size + block.size > self._size:
            found.add(0)
        if self._at and self._at[0] <= block.last_seq:
            seqs = block.seqs
            while self._at and self._at[0] <= block.last_seq:
                seq = self._at.pop(0)
                index = bisect_left(seqs, seq)
                if not (index or parts.size or parts.parts):
                    raise OptionError(f"no event stands in front of number {seq}")
                found.add(index)
        if self._snapshots:
            behind = (index + 1 for index in block.select({Snapshot.tag}))
            found.update(index for index in behind if index < block.count)
        return sorted(found)

    def splits_after(self, block: Block) -> bool:
        """Whether a part ends with the block."""
        return self._snapshots and block.tags[-1] == Snapshot.tag

    def check_used(self, path: Path) -> None:
        """Raise where there was nothing to split any more."""
        if self._at:
            raise OptionError(f"no event of {path} has the number {self._at[0]} or one above it")


class _PartWriter:
    """The parts as they are written, in a directory that has no name yet."""

    def __init__(self, source: Path, target: Path, preamble_end: int | None) -> None:
        self.parts: list[JournalPart] = []
        self._source = source
        self._target = target
        self._preamble_end = preamble_end
        self._folder = atomic_file.make_temporary_path(target)
        self._folder.mkdir(mode=0o700)
        self._writer: Writer | None = None
        self._journal_id: bytes | None = None
        self._origin = self._next_seq = 0
        self._seqs: tuple[int, int, int] | None = None
        self._dropped_pages = DroppedPages()
        self._pages = LazyPageResolver(source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._pages.__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def has_source(self) -> bool:
        """Whether anything is known of the source."""
        return self._journal_id is not None

    @property
    def size(self) -> int:
        """Bytes of the part that is being written; 0 where none is."""
        return 0 if self._writer is None else self._writer.size + SEGMENT_HEADER_SIZE

    def set_source(self, journal_id: bytes, first_seq: int) -> None:
        """Get to know the source."""
        self._journal_id, self._origin, self._next_seq = journal_id, first_seq, first_seq

    def add(self, block: Block) -> None:
        """Add events to the part, which begins with them if there is none."""
        first, last = block.first_seq, block.last_seq
        if self._writer is None:
            self._writer = self._open(first)
        self._append(self._writer, block)
        self._next_seq = last + 1
        begun, _, count = self._seqs or (first, last, 0)
        self._seqs = (begun, last, count + block.count)

    def _append(self, writer: Writer, block: Block) -> None:
        """Add a block; where the part is to be of use alone, with the bytes of all pages."""
        naming = self._dropped_pages.find_referring_events(block)
        if not naming:
            writer.append_block(block)
            return
        gatherer = BlockBuilder(writer)
        for (seq, tag, payload), time in zip(block.rows(), block.times, strict=True):
            whole = self._pages.resolver.resolve_payload(seq, payload) if seq in naming else payload
            gatherer.add(seq, tag, whole, time)
        gatherer.flush()

    def end_part(self) -> None:
        """The part is whole."""
        writer = self._writer
        if writer is None or self._seqs is None:
            return
        writer.close()
        path = self._target / writer.path.name
        self.parts.append(JournalPart(path, *self._seqs, writer.path.stat().st_size))
        self._writer = self._seqs = None

    def publish(self) -> None:
        """Give the directory its name."""
        self.end_part()
        if not self.parts:
            raise OptionError(f"{self._source} has no events: there is nothing to split")
        atomic_file.sync_directory(self._folder)
        if os.path.lexists(self._target):
            raise OptionError(f"{self._target} exists already")
        self._folder.rename(self._target)
        atomic_file.sync_directory(self._target.parent)

    def _open(self, first_seq: int) -> Writer:
        if len(self.parts) >= PARTS_COUNT_MAX:
            raise LimitExceeded(f"{self._source} would have more than {PARTS_COUNT_MAX} parts")
        name = f"{self._source.stem}.{len(self.parts):0{_DIGITS}d}.journal"
        repeated = self._preamble_end
        if repeated is None or first_seq < repeated:
            # what joins them again counts on from the number behind the last event before
            return _open_part(self._folder / name, self._journal_id, self._next_seq)
        self._dropped_pages = DroppedPages(first_seq)
        writer = _open_part(self._folder / name, self._journal_id, self._origin)
        try:
            self._write_preamble(writer, repeated, first_seq)
        except BaseException:
            writer.close()
            raise
        return writer

    def _write_preamble(self, writer: Writer, end: int, first_seq: int) -> None:
        """Write what the source begins with once more, marked if anything is left out behind it."""
        reason = _PART_REASON.format(first_seq) if first_seq > end else ""
        gatherer = BlockBuilder(writer)
        with Reader(self._source) as reader:
            for frame in reader.frames(stop=end):
                payload = frame.payload
                if reason and frame.tag == ProcessStart.tag:
                    payload = add_flag_to_payload(payload, reason)
                gatherer.add(frame.seq, frame.tag, payload, frame.time)
        gatherer.flush()


def _open_part(
    path: Path, journal_id: bytes | None, first_seq: int, *, publish: bool = True
) -> Writer:
    return Writer(
        path, publish=publish, journal_id=journal_id, commit=CommitPolicy.NONE, first_seq=first_seq
    )


def _find_preamble_end(path: Path) -> int:
    """The number behind the events that say what ran, on what."""
    end: int | None = None
    with Reader(path) as reader:
        for frame in reader.frames():
            if frame.tag not in _PREAMBLE or (end is None and frame.tag != ProcessStart.tag):
                break
            end = frame.seq + 1
    if end is None:
        raise OptionError(f"{path} does not say what ran: there is nothing to repeat in each part")
    return end
