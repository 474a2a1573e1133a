"""Scan of one segment, block by block: valid blocks, debris, damage and the tail.

The rules are those of spec/format.md, "What a reader concludes".
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from journal.errors import (
    CorruptBlock,
    FormatError,
    LimitExceeded,
    MissingEvents,
    TornBlock,
)
from journal.format.block import BLOCK_MAGIC, BlockHeader, find_flaw
from journal.format.block_header import SEALED
from journal.format.frame import SEQ_MAX
from journal.format.seal_cipher import TAG_SIZE
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import Bytes, ByteSource
from journal.log import bit_rot
from journal.log.header_scan import HashBudget, Segment, SegmentBytes
from journal.log.scan_items import BodySelector, Damage, Debris, ScanItem, ScannedBlock, Tail

if TYPE_CHECKING:
    from journal.format.segment_seal import SegmentSeal

_CHUNK_SIZE = 1 << 20
_ZEROS = bytes(_CHUNK_SIZE)


class _BlockFault(NamedTuple):
    """Reason why no valid block is stored at a position."""

    kind: type[FormatError]
    reason: str
    is_trusted: bool = False
    """The scan can continue at the next block."""
    is_torn: bool = False
    """A crash can leave the block in this state."""
    is_forged: bool = False
    """The block is whole, but its seal is not genuine."""


class SegmentScanner(SegmentBytes):
    """Scanner that follows the chain of blocks from the segment header."""

    def __init__(
        self,
        data: Bytes,
        segment: Segment,
        next_seq: int,
        select_body: BodySelector,
        verify: bool,
        budget: HashBudget,
        header_cache: dict[int, BlockHeader],
    ) -> None:
        super().__init__(data, segment.offset, segment.header, budget, header_cache)
        self._segment = segment
        self._limit = segment.limit
        self._continuation = segment.continuation
        self._select_body = select_body
        self._verify = verify
        self._position = segment.offset + SEGMENT_HEADER_SIZE
        self._link = (SEGMENT_HEADER_SIZE, segment.header.hash)
        self.next_seq = next_seq
        self._next_header: BlockHeader | None = None
        self._body_read = b""
        self._is_selected = False
        self._seal = segment.seal
        self._seal_tag = (0, b"")
        """End and tag of the block that was opened last."""

    @property
    def link(self) -> tuple[int, int]:
        """The (end, hash) of the last block."""
        return self._link

    def start_after(self, tail: Tail) -> None:
        """Start at the end of an earlier scan, or at the end of any whole block."""
        self._position, self._link = tail.offset, tail.link

    def run(self) -> Iterator[ScanItem]:
        """Yield the blocks and defects of the segment, and a Tail as the last item."""
        while True:
            if self._link == self._continuation:
                yield from self._yield_superseded()
                return
            links = self._segment.recovery_links
            linked = links.get(self._link, 0) + self._start if links else 0
            if linked > self._position:
                yield Debris(self._position, linked - self._position, self._segment.name)
                self._position, self._next_header = linked, None
            header = self._next_header or self._header(self._position)
            fault = self._find_fault(header)
            if fault is None:
                assert header is not None
                block = self._scanned_block(header)
                yield block
                self._accept(block)
                continue
            item = self._conclude(header, fault)
            if item is not None:
                yield item
            if isinstance(item, Tail):
                return

    def _scanned_block(self, header: BlockHeader) -> ScannedBlock:
        """Return the block at this position, in which ``_find_fault`` found no fault."""
        return ScannedBlock(
            self._segment,
            header,
            self._position,
            header.first_seq + self._segment.shift,
            self._body_read,
            self._is_selected,
        )

    def _accept(self, block: ScannedBlock) -> None:
        """Continue after a block."""
        header = block.header
        self._position += header.size
        self._link = (header.end, header.hash)
        self.next_seq = block.next_seq

    def _find_fault(
        self, header: BlockHeader | None, repaired_body: bytes = b""
    ) -> _BlockFault | None:
        """Return the reason why no valid block is here, or None.

        Reads the next header as confirmation. ``repaired_body`` replaces the body in the file.
        """
        self._next_header, self._body_read = None, b""
        if header is None:
            return _BlockFault(CorruptBlock, "no valid block header found", is_torn=True)
        is_checked = header.offset in self._header_cache
        if not is_checked and (error := find_flaw(header, is_sealed=self._is_sealed)):
            return _BlockFault(type(error), error.reason)
        seq = header.first_seq + self._segment.shift
        if not header.follows(*self._link):
            return _BlockFault(MissingEvents, "the block's predecessor is missing")
        if seq < self.next_seq or (seq > self.next_seq and not header.has_seqs):
            reason = f"the block starts with event {seq}, expected {self.next_seq}"
            return _BlockFault(MissingEvents, reason)
        if seq + header.frame_count > SEQ_MAX:
            reason = f"the block's first sequence number {seq} is too high, limit {SEQ_MAX}"
            return _BlockFault(LimitExceeded, reason)
        if self._segment.is_superseded(header):
            return _BlockFault(CorruptBlock, "a later block supersedes this block")
        end = self._start + header.end
        if end > self._limit:
            return _BlockFault(TornBlock, "the block is cut short", is_torn=True)
        return self._find_body_fault(header, end, repaired_body)

    def _find_body_fault(
        self, header: BlockHeader, end: int, repaired_body: bytes
    ) -> _BlockFault | None:
        next_header = self._header(end) if end < self._limit else None
        link = (end - self._start, header.hash)
        confirmed = link in self._segment.recovery_links or (
            next_header is not None and next_header.follows(*link)
        )
        first_seq = header.first_seq + self._segment.shift
        # If the sequence numbers have gaps, the last one is stored in the body.
        self._is_selected = self._select_body(self._segment, header, first_seq)
        sealed = self._seal is not None
        needs_body = header.has_seqs or self._is_selected or sealed
        body = repaired_body
        if not body and (needs_body or not confirmed):
            body = self._body(header)
        self._next_header = next_header
        check = not confirmed or (needs_body and self._verify) or sealed
        if check and not self._is_whole(header, body):
            reason = "the hash of the block's body does not match"
            return _BlockFault(
                CorruptBlock, reason, is_trusted=confirmed and next_header is not None, is_torn=True
            )
        if not confirmed and next_header is not None and next_header.previous_end == header.end:
            return _BlockFault(
                CorruptBlock, "the next block records another hash for this block", is_trusted=True
            )
        self._body_read = body
        if self._is_sealed and header.offset != SEGMENT_HEADER_SIZE:  # It is not the key block.
            return self._find_seal_fault(header, body)
        return None

    def _find_seal_fault(self, header: BlockHeader, body: bytes) -> _BlockFault | None:
        """Decrypt a body whose hash is right, and return why its seal is not genuine, or None."""
        if not header.flags & SEALED:
            reason = "a block without a seal is in a sealed segment"
            return _BlockFault(CorruptBlock, reason, is_forged=True)
        return None if self._seal is None else self._open(self._seal, header, body)

    def _open(self, seal: "SegmentSeal", header: BlockHeader, body: bytes) -> _BlockFault | None:
        """Decrypt a body. Each block is opened, selected or not.

        > Why each? Its header decides what the reader concludes about other blocks.
        """
        end, tag = self._seal_tag
        if end != header.previous_end:
            end = self._start + header.previous_end
            tag = self._data[end - TAG_SIZE : end]
        opened = seal.open(header, tag, body)
        self._seal_tag = (header.end, body[-TAG_SIZE:])
        if opened is None:
            reason = "the seal of the block is not genuine: it was changed, moved or mixed in"
            return _BlockFault(CorruptBlock, reason, is_forged=True)
        self._body_read = opened[1]
        return None

    def _conclude(self, header: BlockHeader | None, fault: _BlockFault) -> ScanItem | None:
        """Return the debris, damage or tail at this position; None to read the position again."""
        next_header, at = self._next_header, self._position
        anchor = next_header if fault.is_trusted else None
        if anchor is None:
            seq_min = self.next_seq - self._segment.shift
            linked = header is None or fault.kind is not MissingEvents
            anchor = self._find(at + 1 if linked else at, self._limit, seq_min)
            while anchor is not None and self._segment.is_superseded(anchor):
                anchor = self._find(self._start + anchor.offset + 1, self._limit, seq_min)
        if anchor and self._continuation and anchor.offset >= self._continuation[0]:
            anchor = None  # Blocks after the point where the next segment continues are superseded.
        # A live writer may have completed, in the meantime, a block that was written in part.
        if isinstance(self._data, ByteSource):
            self._data.invalidate()
        header = self._header(at)
        fault_now = self._find_fault(header)
        if fault_now is None:
            self._next_header = None
            return None
        end = self._limit if anchor is None else self._start + anchor.offset
        if anchor and end > at and anchor.follows(*self._link):
            self._position, self._next_header = end, None
            return Debris(at, end - at, self._segment.name)
        if header is not None and fault_now.is_forged:
            return self._skip_forged(header, fault_now)
        # A next segment continues only durable blocks.
        durable = self._segment.durable_upto > at - self._start or self._continuation is not None
        rot = None if durable else self._find_rot(header, fault_now)
        if rot is not None:
            return rot
        if anchor is None:
            return self._end(fault)
        self._position, self._next_header = end, None
        first, self.next_seq = self.next_seq, anchor.first_seq + self._segment.shift
        link, self._link = self._link, (anchor.previous_end, anchor.previous_hash)
        kind = MissingEvents if self._is_zero(at, end) else fault.kind
        kind = CorruptBlock if kind is TornBlock else kind
        return Damage(
            at,
            end - at,
            first,
            self.next_seq - 1,
            durable,
            fault.reason,
            kind,
            link,
            self._segment.name,
        )

    def _skip_forged(self, header: BlockHeader, fault: _BlockFault) -> Damage:
        """Report a block whose seal is not genuine, and continue after it."""
        at, first, before = self._position, self.next_seq, self._link
        durable = self._segment.durable_upto > at - self._start
        self._accept(self._scanned_block(header))
        self._next_header = None
        return Damage(
            at,
            header.size,
            first,
            self.next_seq - 1,
            durable,
            fault.reason,
            fault.kind,
            before,
            self._segment.name,
            is_forged=True,
        )

    def _find_rot(self, header: BlockHeader | None, fault: _BlockFault) -> Damage | None:
        """Return the damage if one flipped bit makes the block at this position whole.

        Such a block was written. The scan continues after it: its sequence numbers are taken.
        """
        if not fault.is_torn or fault.kind is not CorruptBlock:
            return None
        at, first, before, salt = self._position, self.next_seq, self._link, self._salt
        body, budget = b"", self._budget
        if header is None:
            header = bit_rot.repair_header(
                self._data, at, salt, at - self._start, budget.header_search
            )
        else:
            body = bit_rot.repair_body(self._data, at, header, salt, budget.body_search)
            if not body:
                return None
        if header is None or self._find_fault(header, body) is not None:
            return None
        block = self._scanned_block(header)
        self._accept(block)
        self._next_header = None
        reason = "one flipped bit, which journaltool recover repairs, in the block"
        return Damage(
            at,
            header.size,
            first,
            self.next_seq - 1,
            False,
            reason,
            CorruptBlock,
            before,
            self._segment.name,
            is_rot=True,
        )

    def _end(self, fault: _BlockFault) -> ScanItem:
        """Return a torn tail, or damage if no crash can leave such bytes.

        No block of the segment follows.
        """
        at, size = self._position, self._limit - self._position
        self._position = self._limit
        if self._continuation is not None:
            return self._missing_continuation(at, size)
        if self._is_zero(at, self._limit):
            return self._tail(at, 0)
        begin = self._data[at : min(at + len(BLOCK_MAGIC), self._limit)]
        if fault.is_torn and BLOCK_MAGIC.startswith(begin.rstrip(b"\0")):
            return self._tail(at, size)
        seq, name = self.next_seq, self._segment.name
        return Damage(
            at, size, seq, seq - 1, False, fault.reason, fault.kind, self._link, name, True
        )

    def _missing_continuation(self, at: int, size: int) -> Damage:
        """Report damage: the next segment continues a block that is missing here.

        That block had been synced.
        """
        self._continuation = None
        first, self.next_seq = self.next_seq, max(self.next_seq, self._segment.continuation_seq)
        reason = "the next segment continues a block that is missing"
        last, name = self.next_seq - 1, self._segment.name
        return Damage(at, size, first, last, True, reason, MissingEvents, self._link, name)

    def _yield_superseded(self) -> Iterator[ScanItem]:
        """Yield the superseded bytes after the block that the next segment continues."""
        if not self._is_zero(self._position, self._limit):
            size = self._limit - self._position
            yield Debris(self._position, size, self._segment.name, is_superseded=True)
        yield self._tail(self._position, 0)

    def _tail(self, at: int, torn_size: int) -> Tail:
        return Tail(self._segment, at, torn_size, self._link, self.next_seq)

    def _is_zero(self, start: int, end: int) -> bool:
        for position in range(start, end, _CHUNK_SIZE):
            chunk = self._data[position : min(position + _CHUNK_SIZE, end)]
            if chunk != _ZEROS[: len(chunk)]:
                return False
        return True
