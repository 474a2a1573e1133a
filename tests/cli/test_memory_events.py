"""Output of events of memory: the affected pages, and never their contents."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journaltool.output import event_format
from journaltool.output.memory_format import format_size

import journal
from journal.events import codec, threads
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.pages.encoding import ZERO_PAGE, ChangedPage, decode_resolved_pages, encode_pages
from tests.support.command_line import run_inside
from tests.support.sample_events import pages_event, process_start, region, thread

SECRET = b"secret" * 682 + b"abcd"
CHANGED = b"S" + SECRET[1:]


def format_line(event: Event, bytes_max: int | None = 48) -> str:
    return event_format.text_formats(bytes_max)[event.tag].format(codec.encode(event), 0)


def json_fields(event: Event) -> dict[str, Any]:
    text = event_format.json_formats()[event.tag].format(codec.encode(event), 0)
    fields: dict[str, Any] = json.loads("{" + text + "}")["fields"]
    return fields


def make_pages_event(*pages: ChangedPage, size: int = 1_245_184, memory: int = 0) -> MemoryPages:
    """Return one event with any number of pages."""
    parts = list(encode_pages(memory, size, list(pages)))
    return MemoryPages(
        memory=memory,
        size=size,
        numbers=sum((part.numbers for part in parts), ()),
        kinds=b"".join(part.kinds for part in parts),
        data=b"".join(part.data for part in parts),
    )


def test_pages_are_printed_as_ranges() -> None:
    event = make_pages_event(
        *(ChangedPage(number, SECRET, ZERO_PAGE) for number in range(16, 20)),
        ChangedPage(23, CHANGED, SECRET),
        *(ChangedPage(number, ZERO_PAGE, SECRET) for number in range(40, 100)),
    )
    expected = "memory 0 of 1.2 MiB: pages 16-19 whole, 23 patched (22 B), 40-99 zero"
    assert format_line(event) == f"MemoryPages  {expected}"
    assert json_fields(event) == {
        "memory": 0,
        "size": 1_245_184,
        "runs": [[16, 19, "whole", 4 * PAGE_SIZE], [23, 23, "patched", 22], [40, 99, "zero", 0]],
    }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (make_pages_event(memory=3, size=0), "MemoryPages  memory 3 of 0 B: no page"),
        (
            make_pages_event(ChangedPage(5, SECRET, ZERO_PAGE), size=1 << 32),
            "MemoryPages  memory 0 of 4 GiB: page 5 whole",
        ),
        (region(4094, b"abcd"), "UpdateMemoryRegion  4 B from 4094 to before 4098, in pages 0-1"),
        (region(8192, SECRET), "UpdateMemoryRegion  4 KiB from 8192 to before 12288, in page 2"),
        (region(5, b""), "UpdateMemoryRegion  0 B from 5 to before 5, nowhere"),
        (threads.GlobalsSet(globals=((0, 0x7F, bytes(16)),)), "GlobalsSet  1 global"),
        (threads.GlobalsSet(globals=()), "GlobalsSet  0 globals"),
        (
            threads.TableSet(table=1, start=2, functions=(7, threads.TABLE_NULL, 8)),
            "TableSet  table 1: elements 2-4, 1 of them empty",
        ),
        (threads.TableSet(table=0, start=2, functions=(7,)), "TableSet  table 0: element 2"),
        (threads.TableSet(table=0, start=2, functions=()), "TableSet  table 0: no element"),
        (thread(0, SECRET), "SetThread  thread 0: call stack of 4 KiB"),
        (thread(1), "SetThread  thread 1: no stack"),
    ],
)
def test_parts_of_snapshots_are_printed_briefly(event: Event, expected: str) -> None:
    assert format_line(event) == expected


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (1 << 32, "4 GiB"),
        ((1 << 64) - 1, "16 EiB"),
    ],
)
def test_sizes_are_printed_with_units(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.dictionaries(st.integers(0, 30), st.sampled_from([SECRET, CHANGED, ZERO_PAGE])))
def test_ranges_cover_exactly_the_pages_of_the_event(pages: dict[int, bytes]) -> None:
    event = make_pages_event(
        *(ChangedPage(n, page, SECRET[::-1]) for n, page in sorted(pages.items()))
    )
    runs = json_fields(event)["runs"]
    kinds_in_runs = [(n, kind) for first, last, kind, _ in runs for n in range(first, last + 1)]
    assert kinds_in_runs == [
        (page.number, page.kind.name.lower()) for page in decode_resolved_pages(event)
    ]
    assert sum(size for *_, size in runs) == len(event.data)
    for one, other in pairwise(runs):
        assert one[1] + 1 < other[0] or one[2] != other[2], (
            "adjacent pages of one kind are one range"
        )


def test_many_ranges_are_cut() -> None:
    event = make_pages_event(*(ChangedPage(2 * n, ZERO_PAGE, SECRET) for n in range(100)))
    assert format_line(event, 1) == (
        "MemoryPages  memory 0 of 1.2 MiB: pages 0 zero, 2 zero, 4 zero, 6 zero, "
        "… 100 ranges in total"
    )
    assert format_line(event, None).count("zero") == 100
    assert len(json_fields(event)["runs"]) == 100


def test_memory_is_never_printed_and_stacks_only_on_request(tmp_path: Path) -> None:
    stack = base64.b64encode(b"of the stack")
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(
            make_pages_event(ChangedPage(0, SECRET, ZERO_PAGE), ChangedPage(1, CHANGED, SECRET))
        )
        writer.append(region(0, SECRET))
        writer.append(thread(0, b"of the stack"))
    for name in ("inspect", "tail"):
        for options in ((), ("--bytes", "all"), ("--json",)):
            done = run_inside(name, *options, "a", at=tmp_path)
            assert done.returncode == 0
            assert b"ecretsecret" not in done.stdout
            assert base64.b64encode(SECRET)[:16] not in done.stdout
            assert len(done.stdout.splitlines()) == 3
            assert (b"of the stack" in done.stdout) == (options == ("--bytes", "all"))
            assert (stack in done.stdout) == (options == ("--json",))


def test_pages_with_invalid_numbers_are_malformed(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append(pages_event(1 << 16, numbers=(1, 1), kinds=b"\0\0"))
        writer.append(thread(0))
    for options in ((), ("--json",)):
        done = run_inside("inspect", *options, "a", at=tmp_path)
        assert done.returncode == 3
        assert len(done.stdout.splitlines()) == 3
        assert b"page 1 follows page 1" in done.stderr
