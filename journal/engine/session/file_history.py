"""Events that made the files and descriptors of a running guest, for its children."""

import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from journal.engine.session.recorded_run import REBUILD_CACHE_SIZE_MAX
from journal.engine.snapshot.rebuild import REBUILD_TAGS
from journal.engine.tape import Batch
from journal.log.reader import Reader


class FileHistory:
    """Events that rebuild the files and descriptors of one guest. Thread-safe.

    The events are kept from one fork to the next, as long as they are small, so that a fork reads
    only the events since the last one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: list[Batch] | None = []
        self._size = self._end = 0

    def read(self, path: Path, upto: int, child: Path) -> Iterable[Batch]:
        """Return the events before event ``upto`` of the journal at ``path``.

        If they are large, they are read later, from the journal at ``child``, which has them too.
        """
        with self._lock:
            if self._batches is not None and self._end < upto:
                for batch in _read_batches(path, self._end, upto):
                    self._batches.append(batch)
                    self._size += sum(map(len, batch.payloads))
                    if self._size > REBUILD_CACHE_SIZE_MAX:
                        self._batches = None
                        break
                self._end = upto
            # A later fork appends further events, which a restore up to ``upto`` does not read.
            return _LateBatches(child, upto) if self._batches is None else tuple(self._batches)


class _LateBatches:
    """Events of a journal that are read when they are needed."""

    def __init__(self, path: Path, upto: int) -> None:
        self._read = partial(_read_batches, path, 0, upto)

    def __iter__(self) -> Iterator[Batch]:
        return self._read()


def _read_batches(path: Path, start: int, upto: int) -> Iterator[Batch]:
    """Yield the events with ``REBUILD_TAGS`` from ``start`` to before ``upto``, in whole blocks."""
    with Reader(path) as reader:
        for block in reader.blocks(start, tags=REBUILD_TAGS, stop=upto):
            rows = [at for at in block.select(REBUILD_TAGS) if start <= block.seq(at) < upto]
            if rows:
                yield Batch(
                    [block.seq(at) for at in rows],
                    [block.tags[at] for at in rows],
                    [block.payload(at) for at in rows],
                    [block.time(at) for at in rows],
                )
