"""Reading a journal: frames or events from any number on, blocks by kind, and what is wrong."""

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from journal.errors import FormatError, NotAJournal, TornBlock
from journal.format import segment_header as segment
from journal.format.block import Block, BlockHeader, compute_tag_bitmap
from journal.format.frame import TAG_MAX, TAG_MIN, Frame
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import ByteSource
from journal.fs.file_watcher import FileWatcher
from journal.log import block_table, scan
from journal.log.block_locator import BlockLocator
from journal.log.frame_selection import FrameSelection
from journal.log.header_scan import Segment
from journal.log.scan import RecoveryMode
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Finding, Summary, check_block, summarize
from journal.log.tail_follower import TailFollower

if TYPE_CHECKING:
    from journal.events.definition import Event

_Selected = TypeVar("_Selected")
_SECOND = itemgetter(1)
_TAGS = range(TAG_MIN, TAG_MAX + 1)
_SEQ_END = 1 << 64


class Reader:
    """An open journal, a file or a directory of segments.

    A reader does not disturb a writer, and sees what was there when asked. ``mode`` says what may
    be wrong: with ``STRICT`` a torn tail raises too, with ``POINT_IN_TIME`` all ends quietly in
    front of damage that lost nothing acknowledged, with ``SALVAGE`` damage is passed over, and
    ``losses`` tells what of. With ``verify`` off, the hashes of bodies are not checked where a
    later block confirms them. ``flips`` gives bits to read otherwise, by file name ("" in a journal
    that is one file) and offset.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        verify: bool = True,
        mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL,
        flips: Mapping[str, Mapping[int, int]] | None = None,
    ) -> None:
        self.path = Path(path)
        self.losses: list[scan.Damage] = []
        self._verify = verify
        self._mode = mode
        self._files = SegmentFiles(path, patient=mode is RecoveryMode.SALVAGE, flips=flips)
        self._locator = BlockLocator(self._files)
        try:
            self._check_begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; blocks already given stay good."""
        self._files.close()

    @property
    def journal_id(self) -> bytes:
        """What tells this journal from all others: 16 bytes, from its first segment."""
        source = self._files.open(self._files.names()[0])
        if source is None:
            raise NotAJournal(f"{self.path} has lost its first segment")
        return segment.read(source[0:SEGMENT_HEADER_SIZE], 0).journal_id

    @property
    def size(self) -> int:
        """Bytes of all files, as they are now."""
        return sum(map(len, self._files.sources(self._files.names())))

    # -- forward -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator["Event"]:
        from journal.events.codec import decode  # construct is slow to import, frames do without

        for frame in self.frames():
            yield decode(frame.tag, frame.payload, frame.offset)

    def frames(
        self,
        start: int = 0,
        *,
        stop: int | None = None,
        tags: Container[int] | None = None,
        since: int | None = None,
    ) -> Iterator[Frame]:
        """Give the frames numbered ``start`` up to ``stop``, of any of ``tags``, in order.

        With ``since``, only those of that time (µs since the epoch) or later. Raises a
        DamagedJournal where events from ``start`` on are lost; ``frames`` from behind its
        ``last_seq`` goes on after them. Damage that cost no event is for ``summary`` and
        ``verify`` to tell.
        """
        return self._selected(FrameSelection(start, stop, tags, since), FrameSelection.frames)

    def rows(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[tuple[int, int, bytes]]:
        """Give what ``frames`` gives as tuples of number, tag and payload: it is faster."""
        return self._selected(FrameSelection(start, stop, tags), FrameSelection.rows)

    def payloads(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[bytes]:
        """Give the payloads alone of what ``frames`` gives: it is faster still."""
        return self._selected(FrameSelection(start, stop, tags), FrameSelection.payloads)

    def blocks(
        self,
        start: int = 0,
        tags: Container[int] | None = None,
        *,
        stop: int | None = None,
        since: int | None = None,
    ) -> Iterator[Block]:
        """Give the blocks with events from number ``start`` on, if they may have any of ``tags``.

        Raises as ``frames`` does.
        """
        return map(_SECOND, self._blocks(start, tags, stop, since))

    def _selected(
        self, wish: FrameSelection, tell: Callable[[FrameSelection, Block], Iterable[_Selected]]
    ) -> Iterator[_Selected]:
        """Give what is wanted of each block; chained, as a generator would look at each event."""
        blocks = self._blocks(wish.start, wish.tags, wish.stop, wish.since)
        return chain.from_iterable(
            self._select(name, block, partial(tell, wish)) for name, block in blocks
        )

    def _blocks(
        self, start: int, tags: Container[int] | None, stop: int | None, since: int | None
    ) -> Iterator[tuple[str, Block]]:
        """Give blocks with the names of their files."""
        end = _SEQ_END if stop is None else stop
        wants = self._body_selector(start, _tag_bitmap(tags), since)
        names = self._locator.names_from(start)
        if not names:
            raise NotAJournal(f"{self.path} holds no segment any more, nothing stands")
        middle = names[0] != self._files.names()[0]
        for item in scan.scan_files(
            self._files.sources(names), wants, self._verify, from_middle=middle
        ):
            if isinstance(item, scan.ScannedBlock):
                if item.first_seq >= end:
                    return
                if item.is_selected and item.header.frame_count:
                    block = self._block(item, start)
                    if block is not None:
                        yield item.segment.name, block
            elif isinstance(item, scan.Damage):
                costs = max(start, item.first_seq) <= min(item.last_seq, end - 1)
                # where nothing stands behind, nobody knows what was lost
                if self._ends_at(item, costs or item.open_ended):
                    return
            elif isinstance(item, scan.Tail):
                self._check_tail(item)

    def _body_selector(self, start: int, bitmap: int, since: int | None) -> scan.BodySelector:
        strict = self._mode is RecoveryMode.STRICT

        def wants(_: Segment, header: BlockHeader, first_seq: int) -> bool:
            if not header.frame_count:
                return strict
            if first_seq + header.frame_count <= start and not header.has_seqs:
                return False
            late_enough = since is None or header.time_last >= since
            return late_enough and bool(header.tag_bitmap & bitmap)

        return wants

    # -- one, and backward -------------------------------------------------------------------

    def frame(self, seq: int, *, verify: bool | None = None) -> Frame:
        """Give one frame by its number, found by bisection.

        Raises KeyError when there is no such event, a DamagedJournal when it is lost.
        """
        block, at = self._locator.find(seq, verify=self._verify if verify is None else verify)
        return block.frame(seq, at)

    def backward(
        self, start: int | None = None, *, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give the frames from number ``start`` (the last one) down, of any of ``tags``.

        Raises a DamagedJournal where it comes to events that are lost.
        """
        end = _SEQ_END if start is None else start + 1
        bitmap, bound, wish = _tag_bitmap(tags), end, FrameSelection(0, end, tags)
        for table in self._locator.backward():
            for row in range(table.find_row(end - 1), -1, -1):
                source = self._locator.source_of(table, row)
                for spot in reversed((source and table.block_refs(row, source)) or []):
                    if self._ends_among(table.damage_between(spot.first_seq, bound)):
                        return
                    bound = min(bound, spot.first_seq)
                    if source and spot.first_seq < end and spot.header.tag_bitmap & bitmap:
                        for name, block in self._block_at(source, spot):
                            yield from reversed(list(self._select(name, block, wish.frames)))
            if self._ends_among(table.damage_between(-1, bound)):
                return

    def _ends_among(self, lost: list[scan.Damage]) -> bool:
        """Whether reading backward ends at any of what cost events here; see ``_ends_at``."""
        return any([self._ends_at(damage, True) for damage in reversed(lost)])

    def last(self, count: int, *, tags: Container[int] | None = None) -> list[Frame]:
        """Give the last frames, oldest first."""
        return list(islice(self.backward(tags=tags), count))[::-1]

    # -- following ---------------------------------------------------------------------------

    def follow(
        self,
        start: int = 0,
        *,
        tags: Container[int] | None = None,
        stop: Callable[[], bool] | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Frame]:
        """Give the frames from number ``start`` on, and those to come as a writer writes them.

        It ends when ``stop``, asked whenever nothing more is there, says so, or when nothing came
        for ``timeout_seconds``; else never. Where another journal takes the place, as when a writer
        goes on in a compacted one, it goes on there.
        """
        until = _deadline_after(timeout_seconds)
        while True:
            follower = TailFollower(self._files, start, _tag_bitmap(tags), self._verify)
            with FileWatcher(self.path) as watch:
                while True:
                    # asked first: what the old one got before that is read to its end
                    is_replaced, came = self._files.is_replaced, False
                    for frame in self._follow_new(follower, tags):
                        came = True
                        yield frame
                    if is_replaced:
                        break
                    if came:
                        until = _deadline_after(timeout_seconds)
                    elif follower.is_finished or (stop is not None and stop()) or _is_past(until):
                        return
                    else:
                        watch.wait(None if until is None else until - time.monotonic())
            start = follower.next_seq
            self._files = self._files.reopen()
            self._locator = BlockLocator(self._files)

    def _follow_new(self, follower: TailFollower, tags: Container[int] | None) -> Iterator[Frame]:
        """Give what has come for a follower; where nothing more can come, it is over."""
        try:
            for item in follower.scan_new():
                start = follower.next_seq
                if isinstance(item, scan.ScannedBlock):
                    block, wish = self._block(item, start), FrameSelection(start, None, tags)
                    if block is not None:
                        yield from self._select(item.segment.name, block, wish.frames)
                        follower.next_seq = block.last_seq + 1
                elif follower.is_new(item) and self._ends_at(item, item.last_seq >= start):
                    follower.is_finished = True
                    return
        except FormatError:
            # the files of a directory go when another has taken its place
            if not self._files.is_replaced:
                raise

    # -- what is there, and what is wrong ----------------------------------------------------

    def summary(self) -> Summary:
        """Tell what the headers say, without reading what stands between them."""
        names = self._files.names()
        return summarize(
            scan.scan_files(self._files.sources(names), block_table.headers_only), self.size
        )

    @property
    def tail(self) -> int:
        """Offset of the end of the last whole block, in its file."""
        return self.summary().tail

    @property
    def torn_size(self) -> int:
        """Bytes behind the tail that are no whole block."""
        return self.summary().torn_size

    def verify(self, *, decode: bool = True) -> Iterator[Finding]:
        """Check every byte, and with ``decode`` every event; give what is wrong, going on behind.

        A torn tail and debris are not wrong: a crash leaves them.
        """
        for item in self.items(decode=decode):
            if isinstance(item, Finding):
                yield item

    def items(
        self, *, start: tuple[str, int] = ("", 0), decode: bool = True
    ) -> Iterator[scan.ScanItem | Finding]:
        """Give all that stands in the journal, each followed by what is wrong with it.

        Bodies from ``start`` on (file name and offset) are read and checked, with ``decode`` each
        event too; what is in front of it is judged by its headers. It never raises for damage.
        """

        def wants(segment: Segment, header: BlockHeader, _: int) -> bool:
            return (segment.name, segment.offset + header.offset) >= start

        try:
            for item in scan.scan_files(self._files.sources(self._files.names()), wants):
                yield item
                if isinstance(item, scan.Damage):
                    yield Finding(
                        item.offset, item.size, item.first_seq, item.last_seq, item.error()
                    )
                elif isinstance(item, scan.ScannedBlock) and item.is_selected:
                    yield from check_block(item, decode)
        except FormatError as error:
            yield Finding(error.offset, 0, 0, -1, error)

    # -- inside ------------------------------------------------------------------------------

    def _check_begin(self) -> None:
        names = self._files.names()
        if not names:
            raise NotAJournal(f"{self.path} holds no segment, nothing stands")
        source = self._files.open(names[0])
        if source is not None and not self._files.is_directory and not len(source):
            raise NotAJournal(f"{self.path} is empty, nothing stands")
        if source is not None and self._mode is not RecoveryMode.SALVAGE:
            try:
                segment.read(source[0:SEGMENT_HEADER_SIZE], 0)
            except FormatError as error:
                error.file = source.name
                raise

    def _block(self, item: scan.ScannedBlock, start: int) -> Block | None:
        """Give the block, unless it turns out to have nothing from ``start`` on."""
        segment, header, offset, first_seq, body, _ = item
        try:
            block = Block(header, body, first_seq, offset)
            return block if block.last_seq >= start else None
        except FormatError as error:
            self._skip_block(segment.name, first_seq, header, offset, error)
            return None

    def _block_at(
        self, source: ByteSource, spot: block_table.BlockRef
    ) -> Iterator[tuple[str, Block]]:
        """Read a block that a table names, unless it is damaged and this is salvage."""
        name = spot.segment.name
        try:
            yield name, block_table.read_block(source, spot, verify=self._verify)
        except FormatError as error:
            self._skip_block(name, spot.first_seq, spot.header, spot.offset, error)

    def _select(
        self, name: str, block: Block, tell: Callable[[Block], Iterable[_Selected]]
    ) -> Iterable[_Selected]:
        """Give what ``tell`` makes of a block, unless the block contradicts itself."""
        try:
            return tell(block)
        except FormatError as error:
            self._skip_block(name, block.first_seq, block.header, block.offset, error)
            return ()

    def _skip_block(
        self, name: str, first_seq: int, header: BlockHeader, offset: int, error: FormatError
    ) -> None:
        """Count a block as lost that no sound writer writes; raise unless this is salvage."""
        if self._mode is not RecoveryMode.SALVAGE:
            error.file = name
            raise error
        last_seq, kind = first_seq + header.frame_count - 1, type(error)
        self.losses.append(
            scan.Damage(
                offset, header.size, first_seq, last_seq, False, error.reason, kind, (0, 0), name
            )
        )

    def _ends_at(self, damage: scan.Damage, costs: bool) -> bool:
        """Whether reading ends at this damage; raise where the mode does not allow for it."""
        if self._mode is RecoveryMode.SALVAGE:
            self.losses.append(damage)
            return False
        if self._mode is RecoveryMode.POINT_IN_TIME and not damage.acknowledged:
            return True
        if costs or self._mode is RecoveryMode.STRICT:
            raise damage.error()
        return False

    def _check_tail(self, tail: scan.Tail) -> None:
        if self._mode is RecoveryMode.STRICT and tail.torn_size:
            name = tail.segment.name
            raise TornBlock("a crash cut the journal short", tail.offset, name)


def _tag_bitmap(tags: Container[int] | None) -> int:
    return -1 if tags is None else compute_tag_bitmap(tag for tag in _TAGS if tag in tags)


def _is_past(moment: float | None) -> bool:
    return moment is not None and time.monotonic() >= moment


def _deadline_after(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds
