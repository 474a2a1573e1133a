"""Source that reads several journals as one."""

from collections.abc import Container, Iterator, Sequence

from journal._arguments import check_each
from journal.adapters.protocols import (
    Adapter,
    Source,
    check_selection,
    check_source,
    is_selected,
)
from journal.format.frame import Frame


class ConcatenatedSource(Adapter):
    """Source that reads ``sources`` in order as one journal with increasing sequence numbers.

    The first source keeps its numbers. The first event of each further source gets the number after
    the last event before it; gaps between its events remain. Each source must be read completely to
    find the start number of the next.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(check_each("sources", sources, check_source, what="sources"))

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the selected frames, by their numbers in the whole journal."""
        check_selection(start, stop, tags)
        return self._frames(start, stop, tags)

    def _frames(self, start: int, stop: int | None, tags: Container[int] | None) -> Iterator[Frame]:
        next_seq: int | None = None
        for source in self.sources:
            shift: int | None = None
            for frame in source.frames():
                if shift is None:
                    shift = 0 if next_seq is None else next_seq - frame.seq
                seq = frame.seq + shift
                if stop is not None and seq >= stop:
                    return
                next_seq = seq + 1
                renumbered = frame._replace(seq=seq)
                if is_selected(renumbered, start, stop, tags):
                    yield renumbered

    def close(self) -> None:
        """Close all sources."""
        for source in self.sources:
            source.close()
