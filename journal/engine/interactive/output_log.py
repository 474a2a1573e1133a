"""Output log of a session: the chunks of output that a reply or an iteration still needs."""

from collections import deque
from itertools import islice
from typing import NamedTuple
from weakref import WeakSet

from journal.engine.wasi.stdio.outbox import STDERR, STDOUT


class OutputChunk(NamedTuple):
    """Bytes that the guest wrote to a stream: 1 is the standard output, 2 the standard error."""

    stream: int
    data: bytes


class OutputCursor:
    """Position of one iteration over the output: the number of its next chunk."""

    def __init__(self, position: int) -> None:
        self.position = position


class OutputLog:
    """Chunks of output, which are dropped when the reply and all iterations have had them.

    Not thread-safe. ``size`` counts the bytes of all output of the session.
    """

    def __init__(self) -> None:
        self._chunks: deque[OutputChunk] = deque()
        self._first = self._replied = 0
        self._cursors: WeakSet[OutputCursor] = WeakSet()
        self.size = 0

    @property
    def _end(self) -> int:
        return self._first + len(self._chunks)

    def append(self, chunk: OutputChunk) -> None:
        """Append a chunk."""
        self._chunks.append(chunk)
        self.size += len(chunk.data)

    def take_reply(self) -> tuple[bytes, bytes]:
        """Return both streams of the output that no reply had, and that no iteration took."""
        parts: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        for stream, data in islice(self._chunks, self._replied - self._first, None):
            parts[stream].append(data)
        self._replied = self._end
        self._drop()
        return b"".join(parts[STDOUT]), b"".join(parts[STDERR])

    def open_cursor(self) -> OutputCursor:
        """Return a cursor at the first chunk that no reply had. It need not be closed."""
        cursor = OutputCursor(self._replied)
        self._cursors.add(cursor)
        return cursor

    def has_chunk(self, cursor: OutputCursor) -> bool:
        """Return whether there is a next chunk for an iteration."""
        return cursor.position < self._end

    def read(self, cursor: OutputCursor, *, takes: bool) -> OutputChunk | None:
        """Return the next chunk of an iteration, or None if there is none yet.

        With ``takes``, the next reply does not have the chunk.
        """
        if not self.has_chunk(cursor):
            return None
        chunk = self._chunks[cursor.position - self._first]
        cursor.position += 1
        if takes:
            self._replied = max(self._replied, cursor.position)
        self._drop()
        return chunk

    def _drop(self) -> None:
        """Drop the chunks that nobody needs any more."""
        needed = min([self._replied, *(cursor.position for cursor in self._cursors)])
        while self._first < needed:
            self._chunks.popleft()
            self._first += 1
