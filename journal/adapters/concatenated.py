"""Several journals read as one."""

from collections.abc import Container, Iterator, Sequence

from journal.adapters.protocols import Adapter, Source, is_selected
from journal.format.frame import Frame


class ConcatenatedSource(Adapter):
    """Reads ``sources`` as one journal, in their order, with numbers that go on.

    The first keeps its numbers; the first event of each further one gets the number behind the last
    of those before, and holes between its events stay. It must read all of a journal to know where
    the next one goes on.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give the frames that are asked for, by their numbers in the whole."""
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
                moved = frame._replace(seq=seq)
                if is_selected(moved, start, stop, tags):
                    yield moved

    def close(self) -> None:
        """Close all of them."""
        for source in self.sources:
            source.close()
