"""Filtering: the events of a journal that are asked for, in a new one, with numbers and times.

Whole blocks go over as they are; the events of others gather in new ones, and of a block that has
nothing only the column of tags is looked at, to tell what was dropped. Pages of memory that stand
in what is dropped, and are named by what is kept, are given there.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path

from journal import log, sealing
from journal.block import Block, BlockHeader
from journal.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_EACH, Frames, pick, read_u32
from journal.commit import Commit
from journal.errors import FormatError
from journal.events.memory import MemoryPages
from journal.events.process import ProcessStart
from journal.findings import summarize
from journal.header import BLOCK_HEADER_SIZE, TIME_SPAN_MAX, Place, column_size_each
from journal.keeping import check_target
from journal.literals import Clock
from journal.marking import LEFT_OUT, NOT_RESUMABLE, marked_payload
from journal.mending import Progress, Watched, nobody
from journal.pages import Resolver
from journal.pages.leaving import LeftOut, Lookup
from journal.predicate import NO_CLOCK
from journal.seek import headers_only
from journal.segments import Files
from journal.sieve import Question, Sieve
from journal.source import Source
from journal.usability import Usability
from journal.writer import Writer

GATHERED_COUNT_MAX = 1 << 14
"""Events that are gathered for a new block, at most."""
NUMBER_SPAN_MAX = (1 << 32) - 1
"""How far the numbers of one block reach."""


Change = Callable[[int, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a filter kept and dropped, and what the journal can still be used for.

    ``size`` is that of the source in bytes, ``written`` that of the blocks that were written;
    ``blocks_whole`` went over as they were, ``blocks_passed`` were not even read. ``kept`` and
    ``dropped`` count events by tag.
    """

    journal_id: bytes
    size: int
    written: int
    blocks: int
    blocks_whole: int
    blocks_passed: int
    kept: dict[int, int]
    dropped: dict[int, int]
    next_seq: int
    resumable: bool
    reason: str

    @property
    def events(self) -> int:
        """How many events were kept."""
        return sum(self.kept.values())

    @property
    def events_dropped(self) -> int:
        """How many were not."""
        return sum(self.dropped.values())


def filter(  # the name is the command's
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    which: Question,
    *,
    keep: bool = True,
    preamble: bool = True,
    progress: Progress | None = None,
) -> Filtered:
    """Write the events of ``source`` that ``which`` means, or all others, to ``target``.

    Numbers, times and the journal's id stay. With ``preamble`` what says what ran is kept in any
    case; a Seal is kept in none. Where a resume would not notice what is missing, the new journal
    says of itself that it cannot be resumed. Without a ``target`` nothing is written, and only
    told. ``target`` is a new file, which gets its name when it is whole and durable. Raises
    OptionError where it exists or would stand in the source, and a FormatError for damage.
    """
    if target is not None:
        check_target(Path(target), [Path(source)])
    with closing(Files(source)) as files:
        asks_times = which.since is not None or which.until is not None or which.where is not None
        # when it begins and ends a look at all headers tells, which takes as long as the rest
        clock, report = _clock(files) if asks_times else NO_CLOCK, progress or nobody

        def sieve() -> Sieve:
            return Sieve(which, clock, keep=keep, preamble=preamble)

        mark: tuple[str, str] | None = None
        if target is None or _is_of_process(files):
            looked = _Filter(files, sieve(), "looking")
            found = looked.run(None, report)
            if target is None:
                return found
            if looked.must_say_so:
                mark = NOT_RESUMABLE, found.reason
            elif found.resumable and looked.leaves_holes:
                mark = LEFT_OUT, found.reason
        with Lookup(source) as pages:
            return _Filter(files, sieve(), "filtering", mark, pages).run(target, report)


def _everything(*_: object) -> bool:
    return True


def _is_of_process(files: Files) -> bool:
    """Whether a journal begins as that of a process does."""
    for item in log.walk(files.sources(files.names()), _everything):
        if isinstance(item, log.Placed) and item.header.frame_count:
            return ProcessStart.tag in Block(item.header, item.body, 0, item.offset).tags
    return False


def _clock(files: Files) -> Clock:
    names = files.names()
    found = summarize(log.walk(files.sources(names), headers_only), 0)
    return Clock(found.first_time, found.last_time)


Mark = tuple[str, str]
"""A name and a text, to stand among what the run depends on."""


class _Filter:
    """A journal on its way through a sieve; with ``mark`` it will say of itself what that is.

    ``pages`` looks up what is named by what is kept, and is dropped; without it nothing is written.

    > Why before it is written? What says what ran stands first, and what is missing is known last.
    """

    def __init__(
        self,
        files: Files,
        sieve: Sieve,
        what: str,
        mark: "Mark | None" = None,
        pages: Lookup | None = None,
    ) -> None:
        self._files = files
        self._pages = pages
        self._left_out = LeftOut()
        self._sieve = sieve
        self._what = what
        self._mark = mark
        self._use = Usability()
        self._kept: Counter[int] = Counter()
        self._dropped: Counter[int] = Counter()
        self._blocks_passed = 0
        self._opened: tuple[str, Source | None] | None = None

    def run(self, target: str | os.PathLike[str] | None, report: Progress) -> Filtered:
        """Write what is let through; tell about it."""
        walk = Watched(self._files, report, self._what, self._wants)
        gathered, journal_id = _Gathered(), bytes(16)
        try:
            for item in walk.items():
                if isinstance(item, log.Damage):
                    raise item.error()
                if isinstance(item, log.Segment) and gathered.writer is None:
                    journal_id = item.header.journal_id
                    if target is not None:
                        gathered.writer = _writer(Path(target), journal_id)
                elif isinstance(item, log.Placed) and item.header.frame_count:
                    self._take(item, gathered)
            gathered.flush()
            if gathered.writer is not None:
                gathered.writer.publish()
        finally:
            if gathered.writer is not None:
                gathered.writer.close()
        verdict = self._use.verdict
        return Filtered(
            journal_id=journal_id,
            size=walk.size,
            written=gathered.size,
            blocks=gathered.blocks,
            blocks_whole=gathered.blocks_whole,
            blocks_passed=self._blocks_passed,
            kept=dict(self._kept),
            dropped=dict(self._dropped),
            next_seq=gathered.next_seq,
            resumable=verdict.resumable,
            reason=verdict.reason,
        )

    def _wants(self, segment: log.Segment, header: BlockHeader, first_seq: int) -> bool:
        return bool(header.frame_count) and self._sieve.wants(header, first_seq)

    def _take(self, item: log.Placed, gathered: "_Gathered") -> None:
        if not item.asked:
            self._pass(item)
            return
        try:
            block = Block(item.header, item.body, item.first_seq, item.offset)
            mask = self._sieve.mask(block)
            self._use.see(block.tags, mask, block.seqs, block.payload)
            self._count(block.tags, mask)
            naming = self._left_out.naming(block, mask) if self._pages is not None else None
            if naming:
                self._gather_whole(block, mask, naming, gathered)
            elif self._mark is not None and ProcessStart.tag in block.tags:
                gathered.gather(block, list(compress(range(block.count), mask)), self._marked)
            elif 0 not in mask:
                gathered.take(block)
            elif 1 in mask:
                gathered.gather(block, list(compress(range(block.count), mask)))
        except FormatError as error:
            error.file = item.segment.name
            raise

    def _gather_whole(
        self, block: Block, mask: bytes, naming: frozenset[int], gathered: "_Gathered"
    ) -> None:
        """Gather events, one by one: those that name pages that are dropped get large."""
        assert self._pages is not None
        resolver = self._pages.resolver
        for place in compress(range(block.count), mask):
            seq = block.seq(place)
            named = seq in naming
            gathered.gather(
                block, [place], partial(_resolved, resolver, seq) if named else self._marked
            )

    @property
    def must_say_so(self) -> bool:
        """Whether a resume of what is kept would not notice what is missing."""
        return self._use.must_say_so

    @property
    def leaves_holes(self) -> bool:
        """Whether something is missing in front of a snapshot that is kept."""
        return self._use.leaves_holes

    def _marked(self, tag: int, payload: bytes) -> bytes:
        if self._mark is None or tag != ProcessStart.tag:
            return payload
        name, reason = self._mark
        return marked_payload(payload, reason, name)

    def _pass(self, item: log.Placed) -> None:
        """Take note of a block of which nothing is kept: its columns tell what it had."""
        header, count = item.header, item.header.frame_count
        self._blocks_passed += 1
        source = self._source(item.segment.name)
        tags, seqs = b"", None
        if source is not None:
            start = item.offset + BLOCK_HEADER_SIZE + header.payload_size
            tags_at = start if header.is_even else start + 4 * count
            tags = source[tags_at : tags_at + count]
            end = start + count * column_size_each(header)
            numbers = source[end - 4 * count : end] if header.has_numbers else b""
            if len(numbers) == 4 * count:
                seqs = [item.first_seq + each for each in read_u32(numbers, 0, count)]
        mask = bytes(len(tags))
        if MemoryPages.tag in tags:
            for at in compress(range(len(tags)), tags.translate(_PAGES)):
                self._left_out.note((seqs or range(item.first_seq, 1 << 63))[at], is_kept=False)
        self._use.see(tags, mask, seqs or range(item.first_seq, item.first_seq + count), _nothing)
        self._count(tags, mask)

    def _source(self, name: str) -> Source | None:
        """The file of this name: most blocks stand in the one that the last stood in."""
        if self._opened is None or self._opened[0] != name:
            self._opened = name, self._files.open(name)
        return self._opened[1]

    def _count(self, tags: bytes, mask: bytes) -> None:
        if 0 not in mask or 1 not in mask:
            found = self._dropped if 0 in mask else self._kept
            for tag in set(tags):
                found[tag] += tags.count(tag)
            return
        masked = int.from_bytes(tags, "little") & int.from_bytes(mask, "little") * 255
        kept = masked.to_bytes(len(tags), "little")
        for tag in set(tags):
            count = kept.count(tag)
            if count:
                self._kept[tag] += count
            if missing := tags.count(tag) - count:
                self._dropped[tag] += missing


_PAGES = bytes(tag == MemoryPages.tag for tag in range(256))


def _resolved(resolver: Resolver, seq: int, tag: int, payload: bytes) -> bytes:
    return resolver.payload(seq, payload)


def _nothing(index: int) -> bytes:
    raise AssertionError("what is dropped is not looked into")


def _writer(target: Path, journal_id: bytes) -> Writer:
    return Writer(target, publish=False, journal_id=journal_id, commit=Commit.NONE)


class _Gathered:
    """Events that wait for more to fill a block with; without a writer all is only counted."""

    def __init__(self) -> None:
        self.writer: Writer | None = None
        self.blocks = self.blocks_whole = self.size = self.next_seq = 0
        self._compressor = sealing.compressor()
        self._clear()

    def _clear(self) -> None:
        self._seqs: list[int] = []
        self._times: list[int] = []
        self._payloads: list[bytes] = []
        self._tags = bytearray()
        self._size = 0

    def take(self, block: Block) -> None:
        """Write a block as it is."""
        self.flush()
        self._write(block)
        self.blocks_whole += 1

    def gather(self, block: Block, places: list[int], change: Change | None = None) -> None:
        """Add some events of a block, with payloads that ``change`` makes of tags and payloads."""
        if not places:
            return
        seqs, times = pick(block.seqs, places), pick(block.times, places)
        if not self._fits(seqs, times):
            self.flush()
        payloads, tags = block.payloads(places), bytes(pick(block.tags, places))
        if change is not None:
            payloads = list(map(change, tags, payloads))
        self._seqs += seqs
        self._times += times
        self._payloads += payloads
        self._tags += tags
        self._size += sum(map(len, payloads)) + COLUMNS_SIZE_EACH * len(payloads)
        if self._size >= BLOCK_SIZE_TARGET or len(self._seqs) >= GATHERED_COUNT_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        seqs = self._seqs
        if not seqs:
            return
        holes = seqs[-1] - seqs[0] >= len(seqs)
        frames = Frames(self._tags, self._payloads, self._times)
        place = Place(0, seqs[0], 0, 0, 0, 0)
        data, header = sealing.encode(
            place, frames, self._compressor, numbers=seqs if holes else None
        )
        self._write(Block(header, data[BLOCK_HEADER_SIZE:], seqs[0], 0))
        self._clear()

    def _fits(self, seqs: Sequence[int], times: Sequence[int]) -> bool:
        """Whether one block can have them with the others: its times never go back."""
        if not self._seqs:
            return True
        near = seqs[-1] - self._seqs[0] <= NUMBER_SPAN_MAX
        return near and self._times[-1] <= times[0] and times[-1] - self._times[0] <= TIME_SPAN_MAX

    def _write(self, block: Block) -> None:
        if self.writer is not None:
            self.writer.append_block(block)
        self.blocks += 1
        self.size += block.size
        self.next_seq = block.last_seq + 1
