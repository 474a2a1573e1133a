"""Events of memory, and of what runs on it, in short: what is said of which pages, and no data."""

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
"""What stands behind the name of a kind, of a payload and an offset for what is malformed."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class PageRange(NamedTuple):
    """Neighbouring pages of which the same is given, by its kind, in so many bytes."""

    first: int
    last: int
    kind: str
    size: int


def text_formatters(shown: int | None) -> dict[type[Event], FieldFormatter]:
    """What is told to people; lists are cut behind ``shown``, if that is not None.

    Memory is never shown, not even where everything is asked for; the rest is, in full.
    """

    def of_memory(payload: bytes, offset: int) -> tuple[str, ...]:
        event, runs = _decode_pages(payload, offset)
        kept = runs if shown is None else runs[: 4 * shown]
        parts = [_format_range(run) for run in kept]
        parts += [f"… {len(runs)} runs in all"] if len(kept) < len(runs) else []
        several = len(event.numbers) > 1
        told = f"page{'s' if several else ''} {', '.join(parts)}" if runs else "no page"
        return (f"memory {event.memory} of {format_size(event.size)}: {told}",)

    whole: dict[type[Event], FieldFormatter] = {
        MemoryPages: of_memory,
        UpdateMemoryRegion: _format_region,
    }
    return whole if shown is None else whole | _SHORT_FORMATTERS


def json_formatters() -> dict[type[Event], FieldFormatter]:
    """The fields of events of memory in JSON: runs of pages in the place of their data."""

    def of_memory(payload: bytes, offset: int) -> tuple[str, ...]:
        event, runs = _decode_pages(payload, offset)
        return (json.dumps({"memory": event.memory, "size": event.size, "runs": runs}),)

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
    """A size in the unit in which it is a small number: ``46 B``, ``1.2 MiB``."""
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
    run: PageRange | None = None
    for number, kind, data in decode_pages(event):
        name = kind.name.lower()
        if run is not None and (run.last + 1, run.kind) == (number, name):
            run = run._replace(last=number, size=run.size + len(data))
            continue
        if run is not None:
            yield run
        run = PageRange(number, number, name, len(data))
    if run is not None:
        yield run


def _format_range(run: PageRange) -> str:
    size = f" ({format_size(run.size)})" if run.kind == "patched" else ""
    return f"{_format_bounds(run.first, run.last)} {run.kind}{size}"


def _format_bounds(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _page_bounds(start: int, size: int) -> tuple[int, int] | None:
    """The first and the last page that bytes lie in."""
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
    told = [f"{name} of {format_size(len(data))}" for name, data in sizes.items() if data]
    return (f"thread {event.id}: {', '.join(told) or 'no stack'}",)


_SHORT_FORMATTERS: dict[type[Event], FieldFormatter] = {
    GlobalsSet: _format_globals,
    TableSet: _format_table,
    SetThread: _format_thread,
}
