"""Slices of blocks, for the first and the last block of a journal that is cut."""

from journal.format import block_encoder
from journal.format.block import Block
from journal.format.block_header import BLOCK_HEADER_SIZE, BlockPlacement
from journal.format.columns import Frames


def slice_block(block: Block, start: int, stop: int) -> Block:
    """Return a block of the events from index ``start`` to before ``stop``.

    The events keep their sequence numbers and times.
    """
    if start <= 0 and stop >= block.count:
        return block
    seqs = list(block.seqs)[start:stop]
    frames = Frames(
        block.tags[start:stop],
        block.payloads(range(block.count)[start:stop]),
        block.times[start:stop],
    )
    first = seqs[0] if seqs else block.first_seq
    has_gaps = seqs and seqs[-1] - seqs[0] >= len(seqs)
    place = BlockPlacement(0, first, 0, 0, 0, 0)
    data, header = block_encoder.encode(place, frames, seqs=seqs if has_gaps else None)
    return Block(header, data[BLOCK_HEADER_SIZE:], first, block.offset)
