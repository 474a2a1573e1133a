"""Reading a journal: frames or events from any number on, blocks by kind, and what is wrong."""

import mmap
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import dropwhile, repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from journal import log
from journal.block import Block, BlockHeader, bitmap_of
from journal.errors import FormatError, NotAJournal
from journal.frame import TAG_MAX, TAG_MIN, Frame
from journal.survey import Segment

if TYPE_CHECKING:
    from journal.event import Event

_new_frame: Callable[[type[Frame], Iterable[object]], Frame] = tuple.__new__  # in C, unlike _make
_TAGS = range(TAG_MIN, TAG_MAX + 1)


class Summary(NamedTuple):
    """What the headers of a journal say; offsets are the file's, times µs since the epoch.

    ``last_seq`` is ``first_seq - 1`` when there are no events. ``debris`` holds offsets and sizes,
    ``durable_upto`` is the offset below which a later block knew all to be durable.
    """

    segments: int
    blocks: int
    events: int
    first_seq: int
    last_seq: int
    first_time: int
    last_time: int
    size: int
    tail: int
    torn_size: int
    debris: tuple[tuple[int, int], ...]
    damage: tuple[log.Damage, ...]
    durable_upto: int
    journal_id: bytes
    created: int
    version: tuple[int, int]


class Finding(NamedTuple):
    """One thing that is wrong: ``error`` says what, from ``first_seq`` to ``last_seq``."""

    offset: int
    size: int
    first_seq: int
    last_seq: int
    error: FormatError


class Reader:
    """An open journal. A reader does not disturb a writer, and sees what was there when asked.

    With ``verify`` off, the hashes of bodies are not checked where a later block confirms them.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.path = Path(path)
        self._verify = verify
        self._map: mmap.mmap | None = None
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise NotAJournal(f"{self.path} is not a regular file")
            log.begin(self._data()[0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; blocks already given stay good."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._map = None

    def __iter__(self) -> Iterator["Event"]:
        from journal.codec import decode  # construct is slow to import, frames do without

        for frame in self.frames():
            yield decode(frame.tag, frame.payload, frame.offset)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Give every frame from number ``start`` on, up to the tail.

        Raises CorruptBlock or MissingEvents where events from ``start`` on are lost; ``frames``
        from behind its ``last_seq`` goes on after them. Damage that cost no event is for
        ``summary`` and ``verify`` to tell.
        """
        for block in self.blocks(start):
            rows = zip(block.seqs, block.tags, block.payloads(), block.times, repeat(block.offset))
            frames: Iterator[Frame] = map(_new_frame, repeat(Frame), rows)
            if block.first_seq < start:
                frames = dropwhile(lambda frame: frame.seq < start, frames)
            yield from frames

    def blocks(self, start: int = 0, tags: Container[int] | None = None) -> Iterator[Block]:
        """Give the blocks with events from number ``start`` on, if they may have any of ``tags``.

        Raises as ``frames`` does.
        """
        bitmap = _bitmap(tags)

        def wants(segment: Segment, header: BlockHeader, first_seq: int) -> bool:
            del segment
            past = first_seq + header.frame_count <= start and not header.has_numbers
            return not past and bool(header.frame_count and header.tag_bitmap & bitmap)

        limit = 0
        for item in self._walk(wants):
            if isinstance(item, Segment):
                limit = item.limit
            elif isinstance(item, log.Damage):
                # where nothing stands behind, nobody knows what was lost
                if max(start, item.first_seq) <= item.last_seq or item.offset + item.size == limit:
                    raise item.error()
            elif isinstance(item, log.Placed) and wants(item.segment, item.header, item.first_seq):
                block = Block(item.header, item.body, item.first_seq, item.offset)
                if block.seqs[-1] >= start:
                    yield block

    def summary(self) -> Summary:
        """Tell what the headers say, without reading what stands between them."""
        return _summarize(self._walk(lambda *_: False), self._data()[1])

    @property
    def tail(self) -> int:
        """The offset where the last whole block ends."""
        return self.summary().tail

    @property
    def torn_size(self) -> int:
        """Bytes that a crash left behind the tail."""
        return self.summary().torn_size

    def verify(self, *, decode: bool = True) -> Iterator[Finding]:
        """Check every hash and decode every event; give what is wrong and go on behind it."""
        try:
            for item in self._walk(lambda *_: True, verify=True):
                if isinstance(item, log.Damage):
                    offset, size, first, last, *_ = item
                    yield Finding(offset, size, first, last, item.error())
                elif isinstance(item, log.Placed):
                    yield from _findings(item, decode)
        except FormatError as error:
            yield Finding(error.offset, 0, 0, -1, error)

    def _walk(self, wants: log.Wants, verify: bool | None = None) -> Iterator[log.Item]:
        data, size = self._data()
        return log.walk(data, size, wants, self._verify if verify is None else verify)

    def _data(self) -> tuple[mmap.mmap, int]:
        """Map the file as far as it goes now: a writer may have gone on since the last time."""
        if self._descriptor < 0:
            raise ValueError(f"the reader of {self.path} is closed")
        size = os.fstat(self._descriptor).st_size
        if not size:
            raise NotAJournal(f"{self.path} is empty, nothing stands")
        if self._map is None or len(self._map) != size:
            self._map = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        return self._map, size


def _bitmap(tags: Container[int] | None) -> int:
    return -1 if tags is None else bitmap_of(tag for tag in _TAGS if tag in tags)


def _summarize(items: Iterator[log.Item], size: int) -> Summary:
    segments: list[Segment] = []
    debris: list[tuple[int, int]] = []
    damage: list[log.Damage] = []
    blocks = events = durable = 0
    first_time = last_time = None
    tail: log.Tail | None = None
    for item in items:
        if isinstance(item, log.Placed):
            blocks += 1
            events += item.header.frame_count
            if item.header.frame_count:
                last_time = item.header.time_last
                first_time = item.header.time_first if first_time is None else first_time
        elif isinstance(item, Segment):
            segments.append(item)
            durable = (
                max(durable, item.offset + item.durable_upto) if item.durable_upto else durable
            )
            if tail is not None and tail.torn_size:
                debris.append((tail.offset, tail.torn_size))
        elif isinstance(item, log.Debris):
            debris.append((item.offset, item.size))
        elif isinstance(item, log.Damage):
            damage.append(item)
        else:
            tail = item
    assert tail is not None
    header = segments[0].header
    return Summary(
        len(segments),
        blocks,
        events,
        header.first_seq,
        tail.next_seq - 1,
        first_time or header.created,
        last_time or header.created,
        size,
        tail.offset,
        tail.torn_size,
        tuple(debris),
        tuple(damage),
        durable,
        header.journal_id,
        header.created,
        (header.major, header.minor),
    )


def _findings(item: log.Placed, decode: bool) -> Iterator[Finding]:
    """Check one whole block beyond its hashes."""
    header = item.header
    last_seq = item.first_seq + header.frame_count - 1
    try:
        block = Block(header, item.body, item.first_seq, item.offset)
        frames = list(zip(block.seqs, block.tags, block.payloads(), strict=True))
        block.check()
    except FormatError as error:
        yield Finding(item.offset, header.size, item.first_seq, last_seq, error)
        return
    if not decode:
        return
    from journal.codec import decode as decode_event  # see Reader.__iter__

    for seq, tag, payload in frames:
        try:
            decode_event(tag, payload, item.offset)
        except FormatError as error:
            yield Finding(item.offset, header.size, seq, seq, error)
