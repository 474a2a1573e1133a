"""Output journal that buffers its first blocks.

The first event may need a resumability flag that is known only at the end.
"""

from pathlib import Path

from journal.events.process import ProcessStart
from journal.format.block import Block
from journal.rewrite.block_builder import BlockMerger, PayloadChange
from journal.rewrite.block_copier import UnpublishedJournal
from journal.snapshots.resume_flags import add_flag_to_payload

PENDING_SIZE_MAX = 1 << 22
"""Maximum number of buffered bytes."""

ResumeFlag = tuple[str, str]
"""Name and reason of a flag that is added to the ProcessStart event."""


class OutputJournal(UnpublishedJournal):
    """Output journal made of blocks and parts of blocks; ``publish`` names it. A context manager.

    Without a path, blocks are counted and not written.

    With ``buffered``, blocks are kept in memory until ``release`` or ``publish``, which may add a
    resume flag to the first event. Once the journal ``is_overfull``, the caller must add no more
    blocks, and must start a new output journal with the flag given at construction.
    """

    def __init__(
        self, path: Path | None, *, flag: ResumeFlag | None = None, buffered: bool = False
    ) -> None:
        super().__init__(path)
        self.journal_id = bytes(16)
        self.size = self.blocks = self.blocks_whole = 0
        self._flag = flag
        self._pending: list[tuple[Block, bool]] | None = [] if buffered else None
        self._pending_size = 0
        self._merger = BlockMerger(self._put)

    @property
    def is_overfull(self) -> bool:
        """Return whether more bytes are buffered than the limit allows."""
        return self._pending is not None and self._pending_size > PENDING_SIZE_MAX

    def add_block(self, block: Block) -> None:
        """Add a whole block."""
        if self._needs_flag(block):
            self._merger.add_events(block, range(block.count), self._add_flag)
        else:
            self._merger.add_block(block)

    def add_events(
        self, block: Block, indices: list[int], change: PayloadChange | None = None
    ) -> None:
        """Add the events of a block at ``indices``, with payloads changed by ``change``."""
        needs_flag = change is None and self._needs_flag(block)
        self._merger.add_events(block, indices, self._add_flag if needs_flag else change)

    def release(self, flag: ResumeFlag | None = None) -> None:
        """End buffering: write the buffered blocks, with ``flag`` added if it is needed."""
        if self._pending is None:
            return
        if flag is not None:
            self._merger.flush()  # The collected events may include the ProcessStart event.
        buffered, self._pending, self._flag = self._pending, None, flag
        for block, is_whole in buffered:
            if self._needs_flag(block):
                self.add_block(block)
                self._merger.flush()
            else:
                self._put(block, is_whole)

    def publish(self, flag: ResumeFlag | None = None) -> None:
        """Write everything, make it durable, and give the journal its name."""
        assert not self.is_overfull
        self.release(flag)
        self._merger.flush()
        if self._path is not None:
            self.open_writer(self.journal_id).publish()

    def _put(self, block: Block, is_whole: bool) -> None:
        if self._pending is not None:
            self._pending.append((block, is_whole))
            self._pending_size += block.size
            return
        if self._path is not None:
            self.open_writer(self.journal_id).append_block(block)
        self.size += block.size
        self.blocks += 1
        self.blocks_whole += is_whole

    def _needs_flag(self, block: Block) -> bool:
        return self._flag is not None and ProcessStart.tag in block.tags

    def _add_flag(self, tag: int, payload: bytes) -> bytes:
        assert self._flag is not None
        name, reason = self._flag
        return add_flag_to_payload(payload, reason, name) if tag == ProcessStart.tag else payload
