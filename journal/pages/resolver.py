"""Looking up pages that an event of memory names, and does not have.

A reference leads to a page that is whole, so that one step finds it; its hash is compared, so that
bytes that are others are never believed, even where numbers were given anew.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Self

from journal.errors import FormatError, MalformedEvent
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.frame import PAYLOAD_SIZE_MAX, Frame
from journal.log.reader import Reader
from journal.pages.encoding import (
    REFERENCE_INDEX_MAX,
    REFERENCE_SIZE,
    EncodedPage,
    PageReference,
    decode_pages,
    hash_page_content,
    parse_reference,
)

CACHE_SIZE_MAX = 32 << 20
"""Bytes of events that were looked up, and are kept for the next page that is."""

_COUNT_AT = 4 + 8
_SAME = bytes((PageKind.SAME,))
_HEAD_SIZE_EACH = 4 + 1


class _CachedEvent:
    """An event that was looked up, of so many bytes."""

    __slots__ = ("_event", "_pages", "size")

    def __init__(self, event: MemoryPages, size: int) -> None:
        self.size = size
        self._event = event
        self._pages: list[EncodedPage] | None = None

    def get_pages(self) -> list[EncodedPage]:
        """What it gives of each page, taken apart when that is asked for first."""
        if self._pages is None:
            self._pages = list(islice(decode_pages(self._event), REFERENCE_INDEX_MAX + 1))
        return self._pages


class PageResolver:
    """Gives events of memory with the bytes of all their pages.

    ``find`` gives the frame of a number, and raises KeyError where there is none: it is
    ``Reader.frame`` as a rule. What was found is kept for a while, in bounded memory.
    """

    def __init__(self, find: Callable[[int], Frame], *, size_max: int | None = None) -> None:
        self._find = find
        self._size_max = CACHE_SIZE_MAX if size_max is None else size_max
        self._cache: OrderedDict[int, _CachedEvent] = OrderedDict()
        self._size = 0

    @classmethod
    def from_reader(cls, reader: Reader) -> Self:
        """One that looks things up in a journal."""
        return cls(reader.frame)

    @classmethod
    def without_source(cls, size_max: int | None = None) -> Self:
        """One that knows what it was told lately, by ``note``, and nothing else."""
        return cls(_find_nothing, size_max=size_max)

    def __contains__(self, seq: int) -> bool:
        """Whether an event is known without being looked up."""
        return seq in self._cache

    def cache(self, seq: int, event: MemoryPages) -> None:
        """Keep an event of memory for a while, for those that name its pages."""
        if seq not in self._cache and PageKind.WHOLE in event.kinds:
            self._add_to_cache(seq, _CachedEvent(event, len(event.data)))

    def resolve_frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Give ``frames``, those of memory with the bytes of all pages; raises MalformedEvent."""
        return map(self.resolve_frame, frames)

    def resolve_frame(self, frame: Frame) -> Frame:
        """Give a frame; one of memory with the bytes of all its pages. Raises MalformedEvent."""
        if frame.tag != MemoryPages.tag or not has_references(frame.payload):
            return frame
        return frame._replace(payload=self.resolve_payload(frame.seq, frame.payload, frame.offset))

    def resolve_payload(self, seq: int, payload: bytes, offset: int = 0) -> bytes:
        """Give the payload of an event of memory, with the bytes of all its pages."""
        event = codec.decode(MemoryPages.tag, payload, offset)
        assert isinstance(event, MemoryPages)
        try:
            return codec.encode(self.resolve_event(seq, event))
        except MalformedEvent as error:
            raise MalformedEvent(error.reason, offset) from error

    def resolve_event(self, seq: int, event: MemoryPages) -> MemoryPages:
        """Give event number ``seq`` with the bytes of all its pages.

        Raises MalformedEvent where a reference leads nowhere, and what reading raises.
        """
        if PageKind.SAME not in event.kinds:
            return event
        if _exceeds_payload_limit(event):
            raise _payload_limit_error(seq)
        kinds, parts, own = bytearray(event.kinds), list[bytes](), list[EncodedPage]()
        for index, given in enumerate(decode_pages(event)):
            if given.kind is PageKind.SAME:
                kinds[index] = PageKind.WHOLE
                parts.append(
                    self._resolve_reference(seq, given.number, parse_reference(given.data), own)
                )
            else:
                parts.append(given.data)
            if index <= REFERENCE_INDEX_MAX:
                own.append(given)
        return MemoryPages(
            memory=event.memory,
            size=event.size,
            numbers=event.numbers,
            kinds=bytes(kinds),
            data=b"".join(parts),
        )

    def find_errors(self, seq: int, event: MemoryPages) -> Iterator[MalformedEvent]:
        """Give what is wrong with each reference of event ``seq``: nothing, if all its pages stand.

        Raises MalformedEvent where the event itself makes no sense.
        """
        if _exceeds_payload_limit(event):
            yield _payload_limit_error(seq)
        own = list[EncodedPage]()
        for index, given in enumerate(decode_pages(event)):
            if given.kind is PageKind.SAME:
                reference = parse_reference(given.data)
                try:
                    self._resolve_reference(seq, given.number, reference, own)
                except MalformedEvent as error:
                    yield error
                except FormatError as error:
                    what = f"page {given.number} stands in event {seq - reference.back}"
                    yield MalformedEvent(f"{what}, which cannot be read: {error.reason}")
            if index <= REFERENCE_INDEX_MAX:
                own.append(given)

    def find_page(self, seq: int, place: int) -> bytes | None:
        """Give the bytes of a page that is whole; None where there is none, or no such event.

        Raises what reading raises.
        """
        try:
            given = self._load_pages(seq, 0)
        except MalformedEvent:
            return None
        is_whole = place < len(given) and given[place].kind is PageKind.WHOLE
        return given[place].data if is_whole else None

    def _resolve_reference(
        self, seq: int, number: int, reference: PageReference, own: list[EncodedPage]
    ) -> bytes:
        """Give the bytes of page ``number`` of event ``seq``; ``own`` is in front of it there."""
        back, index, hashed = reference
        if back > seq or (not back and index >= len(own)):
            raise MalformedEvent(f"page {number} stands in no event in front of it")
        target = seq - back
        given = own if not back else self._load_pages(target, number)
        if index >= len(given):
            raise MalformedEvent(
                f"page {number} stands at index {index} of event {target}, which has {len(given)}"
            )
        found = given[index]
        if found.kind is not PageKind.WHOLE:
            raise MalformedEvent(
                f"page {number} stands in event {target} at index {index}, where none is whole"
            )
        if hash_page_content(found.data) != hashed:
            raise MalformedEvent(
                f"page {number} is another than at index {index} of event {target}: the hash is not"
                " its own"
            )
        return found.data

    def _load_pages(self, seq: int, number: int) -> list[EncodedPage]:
        """Give what an event says, for page ``number`` of a later one."""
        known = self._cache.get(seq)
        if known is not None:
            self._cache.move_to_end(seq)
            return known.get_pages()
        try:
            frame = self._find(seq)
        except KeyError:
            raise MalformedEvent(
                f"page {number} stands in event {seq}, which the journal does not have"
            ) from None
        if frame.tag != MemoryPages.tag:
            raise MalformedEvent(f"page {number} stands in event {seq}, which has no pages")
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(event, MemoryPages)
        known = _CachedEvent(event, len(frame.payload))
        self._add_to_cache(seq, known)
        return known.get_pages()

    def _add_to_cache(self, seq: int, known: _CachedEvent) -> None:
        self._cache[seq] = known
        self._size += known.size
        while self._size > self._size_max and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._size -= oldest.size


def _find_nothing(seq: int) -> Frame:
    raise KeyError(seq)


def has_references(payload: bytes) -> bool:
    """Whether the payload of an event of memory names pages that stand elsewhere.

    What is malformed is not refused here: there are none in it.
    """
    count = int.from_bytes(payload[_COUNT_AT : _COUNT_AT + 4], "little")
    start = _COUNT_AT + 4 + 4 * count + 4
    return payload.find(_SAME, start, start + count) >= 0


def get_references(event: MemoryPages) -> list[PageReference]:
    """Give all references of an event."""
    return [parse_reference(data) for _, kind, data in decode_pages(event) if kind is PageKind.SAME]


def _exceeds_payload_limit(event: MemoryPages) -> bool:
    """Whether an event would be one no more with the bytes of all its pages."""
    grown = event.kinds.count(PageKind.SAME) * (PAGE_SIZE - REFERENCE_SIZE)
    data_size_max = PAYLOAD_SIZE_MAX - _HEAD_SIZE_EACH * len(event.numbers) - _COUNT_AT - 3 * 4
    return len(event.data) + grown > data_size_max


def _payload_limit_error(seq: int) -> MalformedEvent:
    return MalformedEvent(
        f"event {seq} would have more than {PAYLOAD_SIZE_MAX} bytes with all its pages"
    )
