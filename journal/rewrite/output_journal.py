"""A new journal whose beginning is known last: it says what is missing of the one it is made of."""

from pathlib import Path

from journal.events.process import ProcessStart
from journal.format.block import Block
from journal.rewrite.block_builder import BlockGatherer, Change
from journal.rewrite.block_copier import NewJournal
from journal.snapshots.resume_flags import marked_payload

HELD_SIZE_MAX = 1 << 22
"""Bytes of blocks that are held back, at most."""

Mark = tuple[str, str]
"""A name and a text, to stand among what the run depends on."""


class Target(NewJournal):
    """A new file for blocks and for parts of blocks, a context manager; ``publish`` names it.

    Without a path nothing is written, and only counted.

    Where it ``holds`` back what it is given, a mark can be left to ``publish``. Once it ``is_over``
    with that, it must be given no more, and has to be begun again with the mark.
    """

    def __init__(self, path: Path | None, *, mark: Mark | None = None, holds: bool = False) -> None:
        super().__init__(path)
        self.journal_id = bytes(16)
        self.size = self.blocks = self.blocks_whole = 0
        self._mark = mark
        self._held: list[tuple[Block, bool]] | None = [] if holds else None
        self._held_size = 0
        self._gatherer = BlockGatherer(self._put)

    @property
    def is_over(self) -> bool:
        """Whether more is held back than may be."""
        return self._held is not None and self._held_size > HELD_SIZE_MAX

    def take(self, block: Block) -> None:
        """Add a block as it is."""
        if self._is_marked(block):
            self._gatherer.gather(block, range(block.count), self._changed)
        else:
            self._gatherer.take(block)

    def gather(self, block: Block, places: list[int], change: Change | None = None) -> None:
        """Add some events of a block, with payloads that ``change`` makes of tags and payloads."""
        marks = change is None and self._is_marked(block)
        self._gatherer.gather(block, places, self._changed if marks else change)

    def release(self, mark: Mark | None = None) -> None:
        """Hold nothing back any more, as it is known by now which mark is needed."""
        if self._held is None:
            return
        if mark is not None:
            self._gatherer.flush()  # what still gathers may be what has to be marked
        held, self._held, self._mark = self._held, None, mark
        for block, is_whole in held:
            if self._is_marked(block):
                self.take(block)
                self._gatherer.flush()
            else:
                self._put(block, is_whole)

    def publish(self, mark: Mark | None = None) -> None:
        """Write all that there is, make it durable, and give the journal its name."""
        assert not self.is_over
        self.release(mark)
        self._gatherer.flush()
        if self._path is not None:
            self.begun(self.journal_id).publish()

    def _put(self, block: Block, is_whole: bool) -> None:
        if self._held is not None:
            self._held.append((block, is_whole))
            self._held_size += block.size
            return
        if self._path is not None:
            self.begun(self.journal_id).append_block(block)
        self.size += block.size
        self.blocks += 1
        self.blocks_whole += is_whole

    def _is_marked(self, block: Block) -> bool:
        return self._mark is not None and ProcessStart.tag in block.tags

    def _changed(self, tag: int, payload: bytes) -> bytes:
        assert self._mark is not None
        name, reason = self._mark
        return marked_payload(payload, reason, name) if tag == ProcessStart.tag else payload
