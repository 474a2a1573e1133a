"""Reader of a journal: frames and events in both directions, blocks, and verification."""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Self, TypeVar

from journal._arguments import (
    check_callable,
    check_choice,
    check_flag,
    check_int,
    check_mapping,
    check_path,
    check_seconds,
    check_text,
    refuse,
)
from journal.errors import FormatError, MalformedEvent, NotAJournal, UnknownEvent
from journal.format import segment_header
from journal.format.block import Block, BlockHeader
from journal.format.frame import APPLICATION_TAG_MIN, Frame
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import ByteSource
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, close_unclosed
from journal.log import block_table, scan
from journal.log.block_locator import BlockLocator
from journal.log.damage_policy import DamagePolicy
from journal.log.declarations import Declarations, check_kinds, read_declarations
from journal.log.following import FrameFollower
from journal.log.frame_selection import SEQ_END, FrameSelection, check_range, tag_bitmap
from journal.log.header_scan import Segment
from journal.log.process_start import make_opaque, starts_process
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import check_key
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Finding, Summary, summarize
from journal.log.tail_follower import TailFollower
from journal.log.verification import find_defects

if TYPE_CHECKING:
    from journal.events.definition import Event
    from journal.format.seal_key import SealKey

_Selected = TypeVar("_Selected")
_SECOND = itemgetter(1)


class Reader:
    """An open journal, a file or a directory of segments. Importable as ``journal.Reader``.

    A reader does not disturb a writer, and sees the events that are stored at the time of the call.
    ``mode`` sets the accepted defects: ``STRICT`` also raises for a torn tail, ``POINT_IN_TIME``
    ends without an error before damage that lost nothing acknowledged, ``SALVAGE`` skips damage and
    lists it in ``losses``. Without ``verify``, the hash of a body is not checked if a later block
    confirms the block. ``flips`` lists bits to invert when reading: by file name ("" for a journal
    that is one file), a map from offset to bit mask. ``kinds`` are classes of application events:
    iteration returns their events as instances of these classes, unless the journal declares the
    tag in another way. ``key`` opens a sealed journal, and no other; without it, only headers can
    be read. Raises WrongKey.

    A forked child may use the readers of its parent. A reader that nobody closed is closed with a
    ResourceWarning.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        verify: bool = True,
        mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL,
        flips: Mapping[str, Mapping[int, int]] | None = None,
        kinds: "Iterable[type[Event]]" = (),
        key: "SealKey | None" = None,
    ) -> None:
        self.path = check_path("path", path)
        self._verify = check_flag("verify", verify)
        self._mode = check_choice("mode", mode, RecoveryMode)
        self._policy = DamagePolicy(str(self.path), self._mode)
        self.losses = self._policy.losses
        _check_flips(flips)
        self._kinds = check_kinds(kinds)
        self._records_process: bool | None = None
        is_patient = self._mode is RecoveryMode.SALVAGE
        self._files = SegmentFiles(path, patient=is_patient, flips=flips, key=check_key(key))
        self._locator = BlockLocator(self._files)
        self._home = HomeProcess()
        try:
            self._check_begin()
        except BaseException:
            self.close()
            raise
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Blocks already returned remain valid."""
        self._files.close()

    def __del__(self) -> None:
        # Without ``_home`` the constructor has failed. The parent closes an inherited reader.
        if hasattr(self, "_home") and self._files.is_open and not self._home.is_left:
            close_unclosed(self, f"the reader of {self.path}")

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)

    @property
    def journal_id(self) -> bytes:
        """The journal's unique id: 16 bytes, from its first segment."""
        source = self._files.open(self._files.names()[0])
        if source is None:
            raise NotAJournal(f"the first segment file of {self.path} was removed")
        return segment_header.read(source[0:SEGMENT_HEADER_SIZE], 0).journal_id

    @property
    def is_sealed(self) -> bool:
        """Whether the journal is sealed."""
        return self._files.is_sealed

    @property
    def size(self) -> int:
        """Current size of all files in bytes."""
        return self._files.size

    # -- forward -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator["Event"]:
        """Yield the decoded events. Raises MalformedEvent and UnknownEvent only in a journal that
        records a process; elsewhere, what does not fit a known kind is an OpaqueEvent.
        """
        from journal.events import BY_TAG  # Slow to import, and not needed for frames.
        from journal.events.codec import decode

        kinds: Mapping[int, type[Event]] = BY_TAG
        for frame in self.frames():
            if frame.tag >= APPLICATION_TAG_MIN and kinds is BY_TAG:
                kinds = self.declarations().kinds
            try:
                event = decode(frame.tag, frame.payload, frame.offset, kinds)
            except (MalformedEvent, UnknownEvent):
                if self.records_process():
                    raise
                event = make_opaque(frame)
            yield event

    def declarations(self) -> Declarations:
        """Return the kinds of application events that the journal declares, as of now.

        The classes that were passed as ``kinds`` count as declared. All headers are read.
        """
        return read_declarations(self._files, self._kinds)

    def records_process(self) -> bool:
        """Return whether the journal begins with a process, or its beginning is lost.

        A payload that does not fit its kind is an error only in such a journal. Elsewhere, the
        application may have used any tag for its own payloads.
        """
        if self._records_process is None:
            try:
                first = next(iter(self.blocks()), None)
            except FormatError:
                return True
            if first is None:
                return False  # A writer may still add the first event.
            self._records_process = starts_process(first)
        return self._records_process

    def frames(
        self,
        start: int = 0,
        *,
        stop: int | None = None,
        tags: Container[int] | None = None,
        since: int | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames from ``start`` to below ``stop`` with one of ``tags``, in order.

        ``since`` selects frames of that time (µs since the epoch) or later. Raises a
        DamagedJournal if events from ``start`` on are lost; a call with its ``last_seq + 1`` as
        ``start`` continues after them. Damage that lost no event is reported by ``summary`` and
        ``verify``.
        """
        check_range(start, stop, tags, since)
        return self._selected(FrameSelection(start, stop, tags, since), FrameSelection.frames)

    def rows(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield ``frames`` as tuples of sequence number, tag and payload, which is faster."""
        check_range(start, stop, tags)
        return self._selected(FrameSelection(start, stop, tags), FrameSelection.rows)

    def payloads(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[bytes]:
        """Yield only the payloads of these frames, which is faster still."""
        check_range(start, stop, tags)
        return self._selected(FrameSelection(start, stop, tags), FrameSelection.payloads)

    def blocks(
        self,
        start: int = 0,
        tags: Container[int] | None = None,
        *,
        stop: int | None = None,
        since: int | None = None,
    ) -> Iterator[Block]:
        """Yield the blocks with events from ``start`` on that can contain one of ``tags``.

        Raises as ``frames`` does.
        """
        check_range(start, stop, tags, since)
        return map(_SECOND, self._blocks(start, tags, stop, since))

    def _selected(
        self,
        selection: FrameSelection,
        select: Callable[[FrameSelection, Block], Iterable[_Selected]],
    ) -> Iterator[_Selected]:
        """Return an iterator over the selected part of each block.

        The iterator is a chain, because a generator would run Python code for each event.
        """
        blocks = self._blocks(selection.start, selection.tags, selection.stop, selection.since)
        return chain.from_iterable(
            self._policy.select(name, block, partial(select, selection)) for name, block in blocks
        )

    def _blocks(
        self, start: int, tags: Container[int] | None, stop: int | None, since: int | None
    ) -> Iterator[tuple[str, Block]]:
        """Yield blocks with the names of their files."""
        end = SEQ_END if stop is None else stop
        select_body = self._body_selector(start, tag_bitmap(tags), since)
        names = self._locator.names_from(start)
        if not names:
            raise NotAJournal(f"{self.path} no longer contains a segment file")
        from_middle = names[0] != self._files.names()[0]

        def ends_at(damage: scan.Damage) -> bool:
            loses_events = max(start, damage.first_seq) <= min(damage.last_seq, end - 1)
            # If no block follows, the number of lost events is unknown.
            return self._policy.ends_at(damage, loses_events or damage.open_ended)

        items = scan.scan_files(
            self._files.sources(names), select_body, self._verify, from_middle=from_middle
        )
        for scanned in scan.take_blocks(items, on_damage=ends_at, on_tail=self._policy.check_tail):
            if scanned.first_seq >= end:
                return
            if scanned.is_selected and scanned.header.frame_count:
                block = self._policy.unpack(scanned, start)
                if block is not None:
                    yield scanned.segment.name, block

    def _body_selector(self, start: int, bitmap: int, since: int | None) -> scan.BodySelector:
        strict = self._mode is RecoveryMode.STRICT

        def select_body(_: Segment, header: BlockHeader, first_seq: int) -> bool:
            if not header.frame_count:
                return strict
            if first_seq + header.frame_count <= start and not header.has_seqs:
                return False
            is_late_enough = since is None or header.time_last >= since
            return is_late_enough and bool(header.tag_bitmap & bitmap)

        return select_body

    # -- single and backward -----------------------------------------------------------------

    def frame(self, seq: int, *, verify: bool | None = None) -> Frame:
        """Return the frame with sequence number ``seq``, found by bisection.

        Raises KeyError if there is no such event, a DamagedJournal if it is lost.
        """
        check_int("seq", seq, -SEQ_END, SEQ_END)
        if verify is not None:
            check_flag("verify", verify)
        block, at = self._locator.find(seq, verify=self._verify if verify is None else verify)
        return block.frame(seq, at)

    def backward(
        self, start: int | None = None, *, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames from ``start`` (default: the last) downwards, with one of ``tags``.

        Raises a DamagedJournal on reaching lost events.
        """
        check_range(0 if start is None else start, None, tags)
        return self._backward(start, tags)

    def _backward(self, start: int | None, tags: Container[int] | None) -> Iterator[Frame]:
        end = SEQ_END if start is None else start + 1
        bitmap, bound, selection = tag_bitmap(tags), end, FrameSelection(0, end, tags)
        for table in self._locator.backward():
            for row in range(table.find_row(end - 1), -1, -1):
                source = self._locator.source_of(table, row)
                for ref in reversed((source and table.block_refs(row, source)) or []):
                    if self._policy.ends_among(table.damage_between(ref.first_seq, bound)):
                        return
                    bound = min(bound, ref.first_seq)
                    if source and ref.first_seq < end and ref.header.tag_bitmap & bitmap:
                        for name, block in self._block_at(source, ref):
                            yield from reversed(
                                list(self._policy.select(name, block, selection.frames))
                            )
            if self._policy.ends_among(table.damage_between(-1, bound)):
                return

    def last(self, count: int, *, tags: Container[int] | None = None) -> list[Frame]:
        """Return the last ``count`` frames, oldest first."""
        check_int("count", count)
        return list(islice(self.backward(tags=tags), count))[::-1]

    # -- follow ------------------------------------------------------------------------------

    def follow(
        self,
        start: int = 0,
        *,
        tags: Container[int] | None = None,
        stop: Callable[[], bool] | None = None,
        timeout_seconds: float | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames from ``start`` on, then wait for new frames and yield these.

        The iteration ends when ``stop()``, called whenever there is no new frame, returns true, or
        when nothing was appended for ``timeout_seconds``. If the compacted journal replaces this
        one, as in online compaction, the iteration continues in it. Raises JournalChanged if
        another journal replaces this one, or if it is cut, removed or renamed.
        """
        check_range(start, None, tags)
        if stop is not None:
            check_callable("stop", stop)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        return self._follow(start, tags, stop, timeout_seconds)

    def _follow(
        self,
        start: int,
        tags: Container[int] | None,
        stop: Callable[[], bool] | None,
        timeout_seconds: float | None,
    ) -> Iterator[Frame]:
        policy = self._policy
        tail = TailFollower(self._files, start, tag_bitmap(tags), self._verify, policy.ends_at)
        follower = FrameFollower(self._files, tail, tags, policy, self._replace_files)
        yield from follower.frames(stop, timeout_seconds)

    def _replace_files(self, files: SegmentFiles) -> None:
        self._files, self._locator = files, BlockLocator(files)

    # -- summary and verification -------------------------------------------------------------

    def summary(self) -> Summary:
        """Return a summary of all headers, without reading the bodies of blocks."""
        return summarize(self._files)

    @property
    def tail(self) -> int:
        """Offset of the end of the last whole block, in its file."""
        return self.summary().tail

    @property
    def torn_size(self) -> int:
        """Number of bytes after the tail that are not a whole block."""
        return self.summary().torn_size

    def verify(self, *, decode: bool = True) -> Iterator[Finding]:
        """Check every byte, and with ``decode`` every event; yield all defects.

        A torn tail and debris are not defects: a crash leaves them.
        """
        return (item for item in self.items(decode=decode) if isinstance(item, Finding))

    def items(
        self, *, start: tuple[str, int] = ("", 0), decode: bool = True
    ) -> Iterator[scan.ScanItem | Finding]:
        """Yield all items of the scan, each followed by its defects. Never raises for damage.

        Bodies from position ``start`` (file name, offset) on are read and checked, with ``decode``
        also each event. Before ``start``, only headers are checked.
        """
        check_flag("decode", decode)
        if not isinstance(start, tuple) or len(start) != 2:
            refuse("start", "a pair of a file name and an offset", start)
        name, offset = start
        position = check_text("file name", name), check_int("offset", offset)
        return find_defects(self._files, position, decode, self.records_process)

    # -- internals ---------------------------------------------------------------------------

    def _check_begin(self) -> None:
        names = self._files.names()
        if not names:
            raise NotAJournal(f"{self.path} contains no segment file")
        source = self._files.open(names[0])
        if source is not None and not self._files.is_directory and not len(source):
            raise NotAJournal(f"{self.path} is an empty file")
        if source is not None and self._mode is not RecoveryMode.SALVAGE:
            try:
                segment_header.read(source[0:SEGMENT_HEADER_SIZE], 0)
            except FormatError as error:
                error.file, error.path = source.name, str(self.path)
                raise
        self._files.check_key()

    def _block_at(
        self, source: ByteSource, ref: block_table.BlockRef
    ) -> Iterator[tuple[str, Block]]:
        """Yield a block from a table. Skip a damaged block in salvage mode."""
        name = ref.segment.name
        try:
            yield name, block_table.read_block(source, ref, verify=self._verify)
        except FormatError as error:
            self._policy.skip_block(name, ref.first_seq, ref.header, ref.offset, error)


def _check_flips(flips: Mapping[str, Mapping[int, int]] | None) -> None:
    for name, masks in check_mapping("flips", {} if flips is None else flips).items():
        check_text("each file name of flips", name)
        for offset, mask in check_mapping("each value of flips", masks).items():
            check_int("each offset of flips", offset)
            check_int("each mask of flips", mask, 0, 255)
