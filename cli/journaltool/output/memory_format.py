"""Short texts of events of memory, globals, tables and threads, without their data."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages, UpdateMemoryRegion
from journal.events.threads import TABLE_NULL, GlobalsSet, SetThread, TableSet
from journal.pages.encoding import decode_pages

FieldFormatter = Callable[[bytes, int], tuple[str, ...]]
"""Function from payload and block offset (for errors) to the text after the name of the kind."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class PageRange(NamedTuple):
    """Adjacent pages of the same kind, and the bytes that the event stores for them."""

    first: int
    last: int
    kind: str
    size: int


def text_formatters(shown: int | None) -> dict[type[Event], FieldFormatter]:
    """Return the text formatters by event class. Lists are cut unless ``shown`` is None.

    Contents of memory are never shown. If ``shown`` is None, the other events have their full text.
    """

    def of_memory(payload: bytes, offset: int) -> tuple[str, ...]:
        event, ranges = _decode_pages(payload, offset)
        selected = ranges if shown is None else ranges[: 4 * shown]
        parts = [_format_range(page_range) for page_range in selected]
        parts += [f"… {len(ranges)} ranges in total"] if len(selected) < len(ranges) else []
        several = len(event.numbers) > 1
        text = f"page{'s' if several else ''} {', '.join(parts)}" if ranges else "no page"
        return (f"memory {event.memory} of {format_size(event.size)}: {text}",)

    whole: dict[type[Event], FieldFormatter] = {
        MemoryPages: of_memory,
        UpdateMemoryRegion: _format_region,
    }
    return whole if shown is None else whole | _SHORT_FORMATTERS


def json_formatters() -> dict[type[Event], FieldFormatter]:
    """Return the JSON formatters by event class, with ranges of pages instead of their data."""

    def of_memory(payload: bytes, offset: int) -> tuple[str, ...]:
        event, ranges = _decode_pages(payload, offset)
        return (json.dumps({"memory": event.memory, "size": event.size, "runs": ranges}),)

    def of_region(payload: bytes, offset: int) -> tuple[str, ...]:
        start, end, data = _unpack_region(payload, offset)
        found = {
            "start": start,
            "end": end,
            "size": len(data),
            "pages": _page_bounds(start, len(data)),
        }
        return (json.dumps(found),)

    return {MemoryPages: of_memory, UpdateMemoryRegion: of_region}


def format_size(size: int) -> str:
    """Return a size with a fitting unit: ``46 B``, ``1.2 MiB``."""
    found, unit = float(size), 0
    while found >= 1023.95 and unit + 1 < len(_UNITS):
        found, unit = found / 1024, unit + 1
    return f"{found:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"


def _decode_pages(payload: bytes, offset: int) -> tuple[MemoryPages, list[PageRange]]:
    event = codec.decode(MemoryPages.tag, payload, offset)
    assert isinstance(event, MemoryPages)
    try:
        return event, list(_page_ranges(event))
    except MalformedEvent as error:
        raise MalformedEvent(f"MemoryPages: {error.reason}", offset) from error


def _page_ranges(event: MemoryPages) -> Iterator[PageRange]:
    page_range: PageRange | None = None
    for number, kind, data in decode_pages(event):
        name = kind.name.lower()
        if page_range is not None and (page_range.last + 1, page_range.kind) == (number, name):
            page_range = page_range._replace(last=number, size=page_range.size + len(data))
            continue
        if page_range is not None:
            yield page_range
        page_range = PageRange(number, number, name, len(data))
    if page_range is not None:
        yield page_range


def _format_range(page_range: PageRange) -> str:
    size = f" ({format_size(page_range.size)})" if page_range.kind == "patched" else ""
    return f"{_format_bounds(page_range.first, page_range.last)} {page_range.kind}{size}"


def _format_bounds(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _page_bounds(start: int, size: int) -> tuple[int, int] | None:
    """Return the first and the last page of a range of bytes, or None for an empty range."""
    return (start // PAGE_SIZE, (start + size - 1) // PAGE_SIZE) if size else None


_unpack_region = codec.make_unpacker(UpdateMemoryRegion)
_unpack_globals = codec.make_unpacker(GlobalsSet)
_unpack_table = codec.make_unpacker(TableSet)


def _format_region(payload: bytes, offset: int) -> tuple[str, ...]:
    start, end, data = _unpack_region(payload, offset)
    span = _page_bounds(start, len(data))
    where = (
        f"in page{'s' if span[0] < span[1] else ''} {_format_bounds(*span)}" if span else "nowhere"
    )
    return (f"{format_size(len(data))} from {start} to before {end}, {where}",)


def _format_globals(payload: bytes, offset: int) -> tuple[str, ...]:
    (found,) = _unpack_globals(payload, offset)
    return (f"{len(found)} global{'' if len(found) == 1 else 's'}",)


def _format_table(payload: bytes, offset: int) -> tuple[str, ...]:
    table, start, functions = _unpack_table(payload, offset)
    if not functions:
        return (f"table {table}: no element",)
    empty = functions.count(TABLE_NULL)
    more = f", {empty} of them empty" if empty else ""
    several = "s" if len(functions) > 1 else ""
    bounds = _format_bounds(start, start + len(functions) - 1)
    return (f"table {table}: element{several} {bounds}{more}",)


def _format_thread(payload: bytes, offset: int) -> tuple[str, ...]:
    event: Any = codec.decode(SetThread.tag, payload, offset)
    sizes = {
        "call stack": event.call_stack,
        "memory stack": event.memory_stack,
        "store data": event.store_data,
    }
    stacks = [f"{name} of {format_size(len(data))}" for name, data in sizes.items() if data]
    return (f"thread {event.id}: {', '.join(stacks) or 'no stack'}",)


_SHORT_FORMATTERS: dict[type[Event], FieldFormatter] = {
    GlobalsSet: _format_globals,
    TableSet: _format_table,
    SetThread: _format_thread,
}
