"""Check that the segments of a sealed journal are genuine, and in their order.

Each segment states, in its sealed key block, the segment header and the tag of the block that it
continues. So no segment can be left out, moved, or taken from another copy of the journal.
"""

from typing import NamedTuple

from journal.errors import CorruptBlock, FormatError, MissingEvents, WrongKey
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import Bytes
from journal.log.header_scan import Segment
from journal.log.scan_items import Damage, Tail
from journal.log.seal_keys import ReadingKeys


class SealChain:
    """The segments of one scan. ``is_start`` states that it begins with the first segment."""

    def __init__(self, *, is_start: bool) -> None:
        self._is_start = is_start
        self._before: _Before | None = None

    def unseal(
        self, data: Bytes, segment: Segment, keys: ReadingKeys
    ) -> tuple[Segment, FormatError | None]:
        """Return the segment with its seal, and the error if that is not genuine.

        Without a key, a sealed segment is returned as it is. Raises WrongKey.
        """
        if not keys.keys:
            return segment, None
        try:
            if not segment.header.is_sealed:
                return segment, self._check_unsealed(keys)
            from journal.format import segment_seal  # Slow to import.

            if segment_seal.is_key_block_cut(data, segment.offset):
                return segment, None  # A crash ended the creation: there is no event.
            seal = segment_seal.load_seal(data, segment.offset, segment.header, keys.keys)
        except CorruptBlock as error:
            return segment, error
        except WrongKey:
            if self._before is None:
                raise
            # One key seals a whole journal, so this segment is not a part of it.
            return segment, MissingEvents("the segment is sealed with another key")
        segment = segment._replace(seal=seal)
        return segment, self._find_fault(segment)

    def end(self, data: Bytes, segment: Segment, link: tuple[int, int]) -> None:
        """Record that a segment ended at the block with this (end, hash)."""
        if segment.seal is not None:
            self._before = _Before(data, segment, link)

    def _check_unsealed(self, keys: ReadingKeys) -> FormatError | None:
        if self._before is not None:
            return CorruptBlock("a segment without a seal follows a sealed one")
        if keys.is_required:
            raise WrongKey("the journal is not sealed: read it without a key")
        return None

    def _find_fault(self, segment: Segment) -> FormatError | None:
        header, before = segment.header, self._before
        assert segment.seal is not None
        if before is None:
            if self._is_start and header.previous_hash and segment.offset + segment.file == 0:
                return MissingEvents("the first segment continues a segment that is missing")
            return None
        if not header.continues(before.segment.header):
            return MissingEvents("the sealed segment does not continue the one before it")
        link = (header.previous_end, header.previous_hash)
        if before.link == link:
            from journal.format import segment_seal

            tag = segment_seal.read_tag(before.data, before.segment.offset, header.previous_end)
            if tag != segment.seal.previous_tag:
                return MissingEvents("the sealed segment continues another segment")
        return None


class _Before(NamedTuple):
    """The segment before, its data, and the (end, hash) of its last block."""

    data: Bytes
    segment: Segment
    link: tuple[int, int]


def make_forged_items(segment: Segment, error: FormatError, next_seq: int) -> tuple[Damage, Tail]:
    """Return the items of a scan for a segment whose seal is not genuine: nothing of it is read."""
    at = segment.offset + SEGMENT_HEADER_SIZE
    link = (SEGMENT_HEADER_SIZE, segment.header.hash)
    damage = Damage(
        at,
        max(0, segment.limit - at),
        next_seq,
        next_seq - 1,
        False,
        error.reason,
        type(error),
        link,
        segment.name,
        open_ended=True,
        is_forged=True,
    )
    return damage, Tail(segment, segment.limit, 0, link, next_seq)
