"""Split, which divides a journal into parts, and cut, which copies its beginning to a new file."""

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal._arguments import check_each, check_flag, check_int, check_optional, check_path
from journal.errors import LimitExceeded, OptionError
from journal.events import tag_sets
from journal.events.application import ApplicationKind
from journal.events.process import ProcessStart
from journal.events.snapshots import Snapshot
from journal.format.block import Block
from journal.format.block_slice import slice_block
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs import atomic_file, file_kind
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.pages.dropped_pages import DroppedPages, LazyPageResolver
from journal.rewrite.block_builder import BlockBuilder
from journal.rewrite.block_copier import check_new_journal
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, check_progress
from journal.snapshots.resume_flags import add_flag_to_payload

PARTS_COUNT_MAX = 1_000_000
"""Maximum number of parts, whose names have six digits."""

_DIGITS = 6
_PART_REASON = "this journal is a part of another one, without the events before event {}"

assert PARTS_COUNT_MAX == 10**_DIGITS


class JournalPart(NamedTuple):
    """One part: its file and its events, without the preamble that it repeats."""

    path: Path
    first_seq: int
    last_seq: int
    events: int
    size: int


class SplitResult(NamedTuple):
    """Result of a split; sizes are bytes of the source."""

    journal_id: bytes
    parts: tuple[JournalPart, ...]
    size: int
    torn_size: int
    debris_size: int

    @property
    def events(self) -> int:
        """Number of events in all parts."""
        return sum(part.events for part in self.parts)


class CutResult(NamedTuple):
    """Result of a cut."""

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
    """Write ``source`` in parts to files in the new directory ``directory``.

    The order of the parts is the order of their names.

    A part begins at each sequence number in ``at``, after each snapshot with ``snapshots``, and
    before a part would exceed ``size`` bytes. Parts keep sequence numbers, times and the journal
    id; ``concat`` or ``cat`` joins them to the same events. With ``self_contained``, each part
    first repeats the events that identify the program and its files, under their own sequence
    numbers, and is flagged as not resumable, because the events in between are missing. A page
    reference to another part is then replaced by the page.

    ``directory`` gets its name when everything is complete and durable. Raises OptionError if it
    exists, or if no part begins at a number in ``at``, and the errors of reading a damaged journal.
    """
    path, target = check_path("source", source), check_path("directory", directory)
    starts = check_each("at", at, check_int, what="sequence numbers")
    check_flag("snapshots", snapshots)
    check_optional("size", size, check_int, 1)
    check_flag("self_contained", self_contained)
    report = check_progress(progress)
    if not starts and not snapshots and size is None:
        raise OptionError("split needs a sequence number, snapshots, or a size to split at")
    check_new_journal(target, [path])
    points = _SplitPoints(sorted(set(starts)), snapshots, size)
    preamble_end = _find_preamble_end(path) if self_contained else None
    with _PartWriter(path, target, preamble_end) as parts:
        source_blocks = BlockStream(path, report)
        for block in source_blocks.blocks():
            if not parts.has_source:
                parts.set_source(source_blocks.journal_id, source_blocks.first_seq)
            _split_block(block, points, parts)
        points.check_used(path)
        parts.publish()
        return SplitResult(
            source_blocks.journal_id,
            tuple(parts.parts),
            source_blocks.size,
            source_blocks.torn_size,
            source_blocks.debris_size,
        )


def _split_block(block: Block, points: "_SplitPoints", parts: "_PartWriter") -> None:
    """Add the events of a block to the parts to which they belong."""
    start = 0
    for index in [*points.find_in(block, parts), block.count]:
        if index > start:
            parts.add(slice_block(block, start, index))
        if index < block.count:
            parts.end_part()
        start = index
    if points.splits_after(block):
        parts.end_part()


def cut(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: int,
    progress: ProgressCallback | None = None,
) -> CutResult:
    """Write the events of ``source`` up to event ``at``, included, to the new file ``target``.

    The new journal equals the source at that time: the journal id, sequence numbers and times do
    not change, and a resume works in the same way. ``fork`` makes a new journal instead. Later
    events are not read. ``target`` gets its name when it is complete and durable. Raises
    OptionError if there is no such event, and the errors of reading a damaged journal.
    """
    old, new = check_path("source", source), check_path("target", target)
    check_int("at", at)
    report = check_progress(progress)
    check_new_journal(new, [old])
    source_blocks, last_seq, events = BlockStream(old, report), -1, 0
    writer: Writer | None = None
    try:
        for block in source_blocks.blocks():
            if block.first_seq > at:
                break
            if writer is None:
                writer = _open_part(
                    new, source_blocks.journal_id, source_blocks.first_seq, publish=False
                )
            count = bisect_right(block.seqs, at)
            writer.append_block(slice_block(block, 0, count))
            last_seq, events = block.seqs[count - 1], events + count
            if last_seq == at:
                break
        if writer is None or last_seq != at:
            raise OptionError(f"{old} has no event {at} to cut after")
        writer.sync()
        writer.publish()
        return CutResult(
            source_blocks.journal_id, events, last_seq, writer.size + SEGMENT_HEADER_SIZE
        )
    finally:
        if writer is not None:
            writer.close()


class _SplitPoints:
    """Points at which parts begin."""

    def __init__(self, at: list[int], snapshots: bool, size: int | None) -> None:
        self._at = at
        self._snapshots = snapshots
        self._size = size

    def find_in(self, block: Block, parts: "_PartWriter") -> list[int]:
        """Return the indices of the block's events at which a part begins."""
        indices: set[int] = set()
        if self._size is not None and parts.size and parts.size + block.size > self._size:
            indices.add(0)
        if self._at and self._at[0] <= block.last_seq:
            seqs = block.seqs
            while self._at and self._at[0] <= block.last_seq:
                seq = self._at.pop(0)
                index = bisect_left(seqs, seq)
                if not (index or parts.size or parts.parts):
                    raise OptionError(f"cannot split at event {seq}: no event precedes it")
                indices.add(index)
        if self._snapshots:
            after = (index + 1 for index in block.select({Snapshot.tag}))
            indices.update(index for index in after if index < block.count)
        return sorted(indices)

    def splits_after(self, block: Block) -> bool:
        """Return whether a part ends with the block."""
        return self._snapshots and block.tags[-1] == Snapshot.tag

    def check_used(self, path: Path) -> None:
        """Raise OptionError if a requested sequence number is past the end of the journal."""
        if self._at:
            raise OptionError(
                f"cannot split at event {self._at[0]}: {path} has no event from there on"
            )


class _PartWriter:
    """Writer of the parts, in a temporary directory that gets its name at the end."""

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
        """Return whether the journal id of the source is known."""
        return self._journal_id is not None

    @property
    def size(self) -> int:
        """Size in bytes of the part that is being written; 0 if there is none."""
        return 0 if self._writer is None else self._writer.size + SEGMENT_HEADER_SIZE

    def set_source(self, journal_id: bytes, first_seq: int) -> None:
        """Set the journal id and the first sequence number of the source."""
        self._journal_id, self._origin, self._next_seq = journal_id, first_seq, first_seq

    def add(self, block: Block) -> None:
        """Add events to the open part, or to a new one."""
        first, last = block.first_seq, block.last_seq
        if self._writer is None:
            self._writer = self._open(first)
        self._append(self._writer, block)
        self._next_seq = last + 1
        part_first, _, count = self._seqs or (first, last, 0)
        self._seqs = (part_first, last, count + block.count)

    def _append(self, writer: Writer, block: Block) -> None:
        """Append a block, and resolve references to events that a self-contained part lacks."""
        referring = self._dropped_pages.find_referring_events(block)
        if not referring:
            writer.append_block(block)
            return
        builder = BlockBuilder(writer)
        for (seq, tag, payload), time in zip(block.rows(), block.times, strict=True):
            whole = (
                self._pages.resolver.resolve_payload(seq, payload) if seq in referring else payload
            )
            builder.add(seq, tag, whole, time)
        builder.flush()

    def end_part(self) -> None:
        """Complete the open part."""
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
            raise OptionError(f"{self._source} has no events to split")
        atomic_file.sync_directory(self._folder)
        file_kind.check_absent(self._target)
        self._folder.rename(self._target)
        atomic_file.sync_directory(self._target.parent)

    def _open(self, first_seq: int) -> Writer:
        if len(self.parts) >= PARTS_COUNT_MAX:
            raise LimitExceeded(
                f"{self._source} would be split into more than {PARTS_COUNT_MAX} parts"
            )
        name = f"{self._source.stem}.{len(self.parts):0{_DIGITS}d}.journal"
        preamble_end = self._preamble_end
        if preamble_end is None or first_seq < preamble_end:
            # A concatenation continues after the last sequence number of the previous part.
            return _open_part(self._folder / name, self._journal_id, self._next_seq)
        self._dropped_pages = DroppedPages(first_seq)
        writer = _open_part(self._folder / name, self._journal_id, self._origin)
        try:
            self._write_preamble(writer, preamble_end, first_seq)
        except BaseException:
            writer.close()
            raise
        return writer

    def _write_preamble(self, writer: Writer, end: int, first_seq: int) -> None:
        """Write the preamble of the source again, flagged if events after it are missing."""
        reason = _PART_REASON.format(first_seq) if first_seq > end else ""
        builder = BlockBuilder(writer)
        with Reader(self._source) as reader:
            for frame in reader.frames(stop=end):
                payload = frame.payload
                if reason and frame.tag == ProcessStart.tag:
                    payload = add_flag_to_payload(payload, reason)
                builder.add(frame.seq, frame.tag, payload, frame.time)
        builder.flush()


def _open_part(
    path: Path, journal_id: bytes | None, first_seq: int, *, publish: bool = True
) -> Writer:
    return Writer(
        path, publish=publish, journal_id=journal_id, commit=CommitPolicy.NONE, first_seq=first_seq
    )


def _find_preamble_end(path: Path) -> int:
    """Return the sequence number after the events that identify the program and its files.

    Declarations of applications are among them.
    """
    end: int | None = None
    head = {ProcessStart.tag, ApplicationKind.tag}
    with Reader(path) as reader:
        for frame in reader.frames():
            if frame.tag not in (head if end is None else tag_sets.PREAMBLE | head):
                break
            end = frame.seq + 1
    if end is None:
        raise OptionError(
            f"{path} has no ProcessStart event at its start, so no part can be self-contained"
        )
    return end
