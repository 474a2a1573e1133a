"""Resolution of references to pages that earlier events store.

A reference leads to a whole page, so one look-up resolves it. The hash of the page is compared:
wrong bytes are never accepted, even in a journal whose events were renumbered.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Self

from journal._arguments import (
    check_bytes,
    check_callable,
    check_int,
    check_optional,
    check_type,
    iterate,
)
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
"""Maximum size in bytes of the cached events."""

_COUNT_AT = 4 + 8
_SAME = bytes((PageKind.SAME,))
_HEAD_SIZE_PER_PAGE = 4 + 1
_U64_MAX = (1 << 64) - 1


class _CachedEvent:
    """MemoryPages event in the cache; ``size`` is in bytes."""

    __slots__ = ("_event", "_pages", "size")

    def __init__(self, event: MemoryPages, size: int) -> None:
        self.size = size
        self._event = event
        self._pages: list[EncodedPage] | None = None

    def get_pages(self) -> list[EncodedPage]:
        """Return the pages of the event, which are decoded at the first call."""
        if self._pages is None:
            self._pages = list(islice(decode_pages(self._event), REFERENCE_INDEX_MAX + 1))
        return self._pages


class PageResolver:
    """Resolver of page references, with a cache of events in bounded memory.

    ``find``, usually ``Reader.frame``, returns the frame of a sequence number, and raises KeyError
    if there is none.
    """

    def __init__(self, find: Callable[[int], Frame], *, size_max: int | None = None) -> None:
        self._find = check_callable("find", find)
        limit = check_optional("size_max", size_max, check_int)
        self._size_max = CACHE_SIZE_MAX if limit is None else limit
        self._cache: OrderedDict[int, _CachedEvent] = OrderedDict()
        self._size = 0

    @classmethod
    def from_reader(cls, reader: Reader) -> Self:
        """Return a resolver that looks up events in a journal."""
        return cls(check_type("reader", reader, Reader).frame)

    @classmethod
    def without_source(cls, size_max: int | None = None) -> Self:
        """Return a resolver that finds cached events only."""
        return cls(_find_nothing, size_max=size_max)

    def __contains__(self, seq: int) -> bool:
        """Return whether an event is cached."""
        return seq in self._cache

    def cache(self, seq: int, event: MemoryPages) -> None:
        """Add a MemoryPages event to the cache."""
        _check_event(seq, event)
        if seq not in self._cache and PageKind.WHOLE in event.kinds:
            self._add_to_cache(seq, _CachedEvent(event, len(event.data)))

    def resolve_frames(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield frames with all page references resolved. Raises MalformedEvent."""
        return map(self.resolve_frame, iterate("frames", frames, "frames"))

    def resolve_frame(self, frame: Frame) -> Frame:
        """Return a frame with all page references resolved. Raises MalformedEvent."""
        check_type("frame", frame, Frame)
        if frame.tag != MemoryPages.tag or not has_references(frame.payload):
            return frame
        return frame._replace(payload=self.resolve_payload(frame.seq, frame.payload, frame.offset))

    def resolve_payload(self, seq: int, payload: bytes, offset: int = 0) -> bytes:
        """Return the payload of a MemoryPages event with all page references resolved."""
        check_int("offset", offset)
        event = codec.decode(MemoryPages.tag, check_bytes("payload", payload), offset)
        assert isinstance(event, MemoryPages)
        try:
            return codec.encode(self.resolve_event(seq, event))
        except MalformedEvent as error:
            raise MalformedEvent(error.reason, offset) from error

    def resolve_event(self, seq: int, event: MemoryPages) -> MemoryPages:
        """Return MemoryPages event ``seq`` with all page references resolved.

        Raises MalformedEvent if a reference cannot be resolved, and the errors of reading the
        journal.
        """
        _check_event(seq, event)
        if PageKind.SAME not in event.kinds:
            return event
        if _exceeds_payload_limit(event):
            raise _payload_limit_error(seq)
        kinds, parts, own = bytearray(event.kinds), list[bytes](), list[EncodedPage]()
        for index, page in enumerate(decode_pages(event)):
            if page.kind is PageKind.SAME:
                kinds[index] = PageKind.WHOLE
                parts.append(
                    self._resolve_reference(seq, page.number, parse_reference(page.data), own)
                )
            else:
                parts.append(page.data)
            if index <= REFERENCE_INDEX_MAX:
                own.append(page)
        return MemoryPages(
            memory=event.memory,
            size=event.size,
            numbers=event.numbers,
            kinds=bytes(kinds),
            data=b"".join(parts),
        )

    def find_errors(self, seq: int, event: MemoryPages) -> Iterator[MalformedEvent]:
        """Yield an error for each reference of event ``seq`` that cannot be resolved.

        Raises MalformedEvent if the event itself is malformed.
        """
        _check_event(seq, event)
        return self._find_errors(seq, event)

    def _find_errors(self, seq: int, event: MemoryPages) -> Iterator[MalformedEvent]:
        if _exceeds_payload_limit(event):
            yield _payload_limit_error(seq)
        own = list[EncodedPage]()
        for index, page in enumerate(decode_pages(event)):
            if page.kind is PageKind.SAME:
                reference = parse_reference(page.data)
                try:
                    self._resolve_reference(seq, page.number, reference, own)
                except MalformedEvent as error:
                    yield error
                except FormatError as error:
                    target = seq - reference.back
                    yield MalformedEvent(
                        f"page {page.number} refers to event {target}, which cannot be read: "
                        f"{error.reason}"
                    )
            if index <= REFERENCE_INDEX_MAX:
                own.append(page)

    def find_page(self, seq: int, index_in_event: int) -> bytes | None:
        """Return the bytes of a whole page, or None if there is no such event or whole page.

        Raises the errors of reading the journal.
        """
        check_int("seq", seq, 0, _U64_MAX)
        check_int("index_in_event", index_in_event, 0, _U64_MAX)
        try:
            pages = self._load_pages(seq, 0)
        except MalformedEvent:
            return None
        is_whole = index_in_event < len(pages) and pages[index_in_event].kind is PageKind.WHOLE
        return pages[index_in_event].data if is_whole else None

    def _resolve_reference(
        self, seq: int, number: int, reference: PageReference, own: list[EncodedPage]
    ) -> bytes:
        """Return the bytes of page ``number`` of event ``seq``; ``own`` are the pages before it."""
        back, index, page_hash = reference
        if back > seq or (not back and index >= len(own)):
            raise MalformedEvent(
                f"page {number} of event {seq} refers to index {index} of event {seq - back}, "
                "which is not an earlier page"
            )
        target = seq - back
        pages = own if not back else self._load_pages(target, number)
        if index >= len(pages):
            raise MalformedEvent(
                f"page {number} refers to index {index} of event {target}, "
                f"which has {len(pages)} pages"
            )
        page = pages[index]
        if page.kind is not PageKind.WHOLE:
            raise MalformedEvent(
                f"page {number} refers to index {index} of event {target}, "
                "which is not a whole page"
            )
        if hash_page_content(page.data) != page_hash:
            raise MalformedEvent(
                f"page {number} refers to index {index} of event {target}, "
                "where the page hash differs"
            )
        return page.data

    def _load_pages(self, seq: int, number: int) -> list[EncodedPage]:
        """Return the pages of event ``seq``, to which page ``number`` of a later event refers."""
        cached = self._cache.get(seq)
        if cached is not None:
            self._cache.move_to_end(seq)
            return cached.get_pages()
        try:
            frame = self._find(seq)
        except KeyError:
            raise MalformedEvent(
                f"page {number} refers to event {seq}, which the journal does not have"
            ) from None
        if frame.tag != MemoryPages.tag:
            raise MalformedEvent(f"page {number} refers to event {seq}, which stores no pages")
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(event, MemoryPages)
        cached = _CachedEvent(event, len(frame.payload))
        self._add_to_cache(seq, cached)
        return cached.get_pages()

    def _add_to_cache(self, seq: int, cached: _CachedEvent) -> None:
        self._cache[seq] = cached
        self._size += cached.size
        while self._size > self._size_max and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._size -= oldest.size


def _check_event(seq: int, event: MemoryPages) -> None:
    check_int("seq", seq, 0, _U64_MAX)
    check_type("event", event, MemoryPages)


def _find_nothing(seq: int) -> Frame:
    raise KeyError(seq)


def has_references(payload: bytes) -> bool:
    """Return whether the payload of a MemoryPages event has page references.

    Return False for a malformed payload.
    """
    payload = check_bytes("payload", payload)
    count = int.from_bytes(payload[_COUNT_AT : _COUNT_AT + 4], "little")
    start = _COUNT_AT + 4 + 4 * count + 4
    return payload.find(_SAME, start, start + count) >= 0


def get_references(event: MemoryPages) -> list[PageReference]:
    """Return all page references of an event."""
    return [parse_reference(data) for _, kind, data in decode_pages(event) if kind is PageKind.SAME]


def _exceeds_payload_limit(event: MemoryPages) -> bool:
    """Return whether an event exceeds the payload limit once its references are resolved."""
    growth = event.kinds.count(PageKind.SAME) * (PAGE_SIZE - REFERENCE_SIZE)
    data_size_max = PAYLOAD_SIZE_MAX - _HEAD_SIZE_PER_PAGE * len(event.numbers) - _COUNT_AT - 3 * 4
    return len(event.data) + growth > data_size_max


def _payload_limit_error(seq: int) -> MalformedEvent:
    return MalformedEvent(
        f"event {seq} would exceed {PAYLOAD_SIZE_MAX} bytes with its page references resolved"
    )
