"""End of a sealed segment that is being written: the tags to which the next blocks are bound."""

from typing import TYPE_CHECKING

from journal.format.seal_cipher import TAG_SIZE
from journal.fs.byte_source import Bytes

if TYPE_CHECKING:
    from journal.format.segment_seal import SegmentSeal

_TAGS_MIN = 1 << 10


class SealedEnd:
    """The seal of a segment, and the tags of its last blocks by their ends.

    ``data`` is the segment's file; the block that ends at offset ``end`` is its last one.
    """

    __slots__ = ("_size_max", "_tags", "seal")

    def __init__(self, seal: "SegmentSeal", data: Bytes, segment_offset: int, end: int) -> None:
        self.seal = seal
        position = segment_offset + end
        self._tags = {end: data[position - TAG_SIZE : position]}
        self._size_max = _TAGS_MIN

    def add(self, end: int, last_part: bytes, durable_end: int) -> None:
        """Record the block that ends at ``end``, of which ``last_part`` are the last bytes."""
        self._tags[end] = last_part[-TAG_SIZE:]
        if len(self._tags) > self._size_max:
            # A new segment, or a fail-over, continues the durable block.
            self._tags = {at: tag for at, tag in self._tags.items() if at >= durable_end}
            self._size_max = max(_TAGS_MIN, 2 * len(self._tags))

    def tag_at(self, end: int) -> bytes:
        """Return the tag of the block that ends at ``end``, the last or the durable one."""
        return self._tags[end]
