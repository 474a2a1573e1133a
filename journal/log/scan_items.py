"""Items of a scan: blocks, debris, damage and tails of segments."""

from collections.abc import Callable
from typing import NamedTuple

from journal.errors import DamagedJournal, FormatError, LostAcknowledged, WrongKey
from journal.format.block import Block, BlockHeader, read_last_delta
from journal.format.block_header import SEALED, make_plain_header
from journal.log.header_scan import Segment


class ScannedBlock(NamedTuple):
    """A valid block and its position. ``body`` is read only if ``is_selected``.

    With the key of a sealed segment, ``body`` is decrypted; ``header`` is that of the file.
    """

    segment: Segment
    header: BlockHeader
    offset: int
    first_seq: int
    body: bytes
    is_selected: bool

    @property
    def next_seq(self) -> int:
        """Sequence number after the last event of the block."""
        header = self.header
        if header.has_seqs and header.frame_count:
            return self.first_seq + read_last_delta(header, self.body) + 1
        return self.first_seq + header.frame_count

    def block(self, shift: int = 0) -> Block:
        """Return the block, with ``shift`` added to its sequence numbers.

        Its body must be selected. Raises a FormatError for wrong columns, and WrongKey if the block
        is sealed and its key is not known.
        """
        header = self.header
        if header.flags & SEALED:
            if self.segment.seal is None:
                raise WrongKey("the journal is sealed: its key is needed to read events")
            header = make_plain_header(header)
        return Block(header, self.body, self.first_seq + shift, self.offset)


class Debris(NamedTuple):
    """Bytes that a crash left and that a later block explains: no event is lost.

    ``is_superseded`` is set for the bytes after the block that the next segment continues. The
    writer has left the file there, or another journal has gone on in it.
    """

    offset: int
    size: int
    name: str = ""
    is_superseded: bool = False


class Damage(NamedTuple):
    """Bytes and events that are lost although whole blocks follow them.

    ``link`` is the (end, hash) of the last block before them. If ``open_ended``, no block follows,
    and the number of lost events is unknown. ``is_rot`` is set for a block that one flipped bit
    makes whole: it was written, and no crash explains its state. ``is_forged`` is set for what is
    whole but for its seal: somebody without the key changed or moved it.
    """

    offset: int
    size: int
    first_seq: int
    last_seq: int
    acknowledged: bool
    reason: str
    kind: type[FormatError]
    link: tuple[int, int]
    name: str = ""
    open_ended: bool = False
    is_rot: bool = False
    is_forged: bool = False

    @property
    def may_end_journal(self) -> bool:
        """Return whether a crash explains the damage, and no sync had acknowledged the bytes."""
        return not (self.acknowledged or self.is_rot or self.is_forged)

    def error(self) -> FormatError:
        """Return the exception to raise for this damage."""
        if not issubclass(self.kind, DamagedJournal):
            return self.kind(self.reason, self.offset, self.name)
        kind = LostAcknowledged if self.acknowledged else self.kind
        return kind(
            self.reason,
            self.offset,
            size=self.size,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            file=self.name,
        )


class Tail(NamedTuple):
    """The end of a segment's last whole block. A block appended after it must record ``link``."""

    segment: Segment
    offset: int
    torn_size: int
    link: tuple[int, int]
    next_seq: int


ScanItem = Segment | ScannedBlock | Debris | Damage | Tail
BodySelector = Callable[[Segment, BlockHeader, int], bool]
"""Function of (segment, header, first sequence number): whether to read and check the body."""
