"""Effects of every kind of event on a host of plain values, and refused events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import Frame, JournalError
from journal.events import (
    BY_TAG,
    FAMILIES,
    descriptors,
    memory,
    paths,
    ports,
    process,
    snapshots,
    streams,
    threads,
)
from journal.events.definition import Event, field_dict
from journal.events.memory import PAGE_SIZE
from journal.events.paths import FileType
from journal.events.wire_types import Network
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages
from journal.replay import FAMILIES as EFFECTS
from journal.replay import DirectoryHost, ModelHost, ReplayError, ReplayLimits, apply, play
from journal.replay.dispatch import apply_effect
from tests.support.sample_events import (
    frames_of_events,
    host_mount,
    listing,
    memory_mount,
    open_path,
    pages_event,
    play_events,
    refusal,
    region,
    thread,
    write,
)
from tests.support.strategies import every_event

# -- every kind ---------------------------------------------------------------------------------


def test_every_kind_of_event_has_an_effect() -> None:
    assert set(BY_TAG.values()) <= set(apply_effect.registry)


def test_effects_are_in_modules_named_like_those_of_events() -> None:
    names = [module.__name__.rpartition(".")[2] for module in EFFECTS]
    assert names == [family.__name__.rpartition(".")[2] for family in FAMILIES]
    for kind in BY_TAG.values():
        home = kind.__module__.rpartition(".")[2]
        assert apply_effect.registry[kind].__module__ == f"journal.replay.effects.{home}"


def use_few_names(event: Event) -> Event:
    """Return the event with few distinct descriptors and paths, so that some exist."""
    changes: dict[str, object] = {}
    for name, value in field_dict(event).items():
        if name.endswith(("fd", "fd1", "fd2")):
            changes[name] = value % 8
        elif name.endswith("path") and isinstance(value, str):
            changes[name] = ("a", "b", "d/a", "/a")[len(value) % 4]
        elif name in {"offset", "st_size", "len", "start", "end"}:
            changes[name] = value % 64
    if isinstance(event, memory.MemoryPages):
        pages = [
            ChangedPage(n, bytes([n + 1]) * PAGE_SIZE, ZERO_PAGE) for n in range(event.size % 4)
        ]
        return next(encode_pages(event.memory % 3, 1 << 16, pages))
    if isinstance(event, snapshots.DescriptorPositions):
        changes["positions"] = tuple((fd % 8, at) for fd, at in event.positions)
    return type(event)(**field_dict(event) | changes)


many_events = st.lists(every_event() | every_event().map(use_few_names), max_size=60)
START = (memory_mount(), host_mount(4), open_path(5, 3, "a", 1), open_path(6, 4, "a", 1))


def replay_without_refused(events: Iterable[Event]) -> ModelHost:
    """Return a host after a replay that skips refused events."""
    host = ModelHost(ReplayLimits(files_size_max=1 << 16, memory_size_max=1 << 20))
    for frame in frames_of_events(events):
        with suppress(ReplayError):
            play([frame], host)
    return host


@given(many_events)
def test_any_event_is_replayed_or_refused_with_its_number(events: Sequence[Event]) -> None:
    host = ModelHost(ReplayLimits(files_size_max=1 << 16, memory_size_max=1 << 20))
    for frame in frames_of_events([*START, *events]):
        refused = ""
        try:
            play([frame], host)
        except JournalError as error:
            refused = str(error)
        assert not refused or refused.startswith(f"event {frame.seq} cannot be replayed: ")
        assert len(refused.splitlines()) <= 1


@given(many_events)
def test_the_state_is_a_value_that_later_events_do_not_change(events: Sequence[Event]) -> None:
    host = ModelHost(ReplayLimits(files_size_max=1 << 16, memory_size_max=1 << 20))
    states = []
    for frame in frames_of_events([*START, *events]):
        with suppress(ReplayError):
            play([frame], host)
        states.append(host.state())
    for count in range(1, len(states) + 1, 7):
        assert replay_without_refused([*START, *events][:count]).state() == states[count - 1]


def test_an_event_without_a_frame_is_refused_without_a_number() -> None:
    with pytest.raises(ReplayError, match="an event cannot be replayed: descriptor 7 is not open"):
        apply(descriptors.CloseFileDescriptor(fd=7), ModelHost())


def test_bytes_that_are_no_event_are_refused_with_their_number() -> None:
    for tag, payload, reason in ((222, b"", "unknown event tag 222"), (11, b"\1", "at offset 64")):
        for upto in (None, 8):
            with pytest.raises(ReplayError, match="event 7 cannot be replayed: ") as caught:
                play([Frame(7, tag, payload, 0, 64)], ModelHost(), upto=upto)
            assert reason in caught.value.reason
        assert play([Frame(7, tag, payload, 0, 64)], ModelHost(), upto=7) == 0


def test_a_journal_is_replayed_from_its_reader(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "j") as writer:
        for event in (memory_mount(), open_path(4, 3, "a", 1), write(4, 0, b"abc")):
            writer.append(event)
    (tmp_path / "target").mkdir()
    with journal.Reader(tmp_path / "j") as reader, DirectoryHost(tmp_path / "target") as host:
        assert play(reader.frames(tags=host.tags), host, upto=2) == 2
        assert (tmp_path / "target" / "a").read_bytes() == b""
        assert play(reader.frames(2), host) == 1
    assert (tmp_path / "target" / "a").read_bytes() == b"abc"


# -- limits -------------------------------------------------------------------------------------


SMALL = ReplayLimits(
    files_size_max=4096, memory_size_max=65536, output_size_max=100, module_size_max=100
)
LONG = bytes(101)


@pytest.mark.parametrize(
    "event",
    [
        region(65536, b"x"),
        region((1 << 64) - 2, b"x"),
        memory.UpdateMemoryRegion(start=0, end=1 << 40, data=b"x"),
        thread(1, bytes(65537)),
        streams.StreamWrite(stream=1, offset=0, data=LONG),
        write(1, 0, LONG),
        process.ModulePart(offset=0, data=LONG),
        process.ModulePart(offset=1 << 40, data=b""),
        process.InstrumentedPart(offset=0, data=LONG),
        threads.TableSet(table=0, start=0xFFFFFFFF, functions=(1,)),
        threads.TableSet(table=0, start=10_000_000, functions=(1,)),
        pages_event(size=65536 + PAGE_SIZE),
        pages_event(size=1 << 32, numbers=((1 << 20) - 1,), kinds=b"\1", data=bytes(PAGE_SIZE)),
        pages_event(size=65536, numbers=(0, 0), kinds=b"\0\0"),
        pages_event(size=65536, numbers=(16,), kinds=b"\0"),
        pages_event(size=65536, numbers=(0,), kinds=b"\2", data=b"\1\0\0\0\0\0"),
        listing(3, *[b"name"] * 1000),
        listing(4, b"name"),
        listing(3, b"name", inodes=()),
        snapshots.DescriptorPositions(positions=((4, 0), (5, 0)), free=()),
        write(4, 4000, LONG),
        descriptors.FileDescriptorSetSize(fd=4, st_size=1 << 63),
        descriptors.FileDescriptorAllocate(fd=4, offset=1 << 63, len=1 << 63),
        paths.FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/b", data=bytes(4096)),
    ],
)
def test_an_event_above_a_limit_is_refused_and_allocates_nothing(event: Event) -> None:
    before = [memory_mount(), open_path(4, 3, "a", 1)]
    host = play_events(*before, limits=SMALL)
    state = host.state()
    assert refusal(*before, event, limits=SMALL)
    with pytest.raises(ReplayError):
        apply(event, host)
    if not isinstance(event, paths.FilePlaced):
        assert host.state() == state


def test_counts_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("journal.replay.limits.check_count.__defaults__", (4,))
    assert "5 descriptors" in refusal(memory_mount(), descriptors.EpollCreate(fd=9))
    monkeypatch.setattr("journal.replay.state.machine.MEMORIES_COUNT_MAX", 4)
    assert "5 memories" in refusal(*(pages_event(0, index) for index in range(5)))
    tables = (threads.TableSet(table=index, start=0, functions=()) for index in range(5))
    assert "5 tables" in refusal(*tables)
    assert "5 threads" in refusal(*map(thread, range(5)))
    assert "5 addresses" in refusal(
        *(ports.PortAddAddr(cidr=Network(ip_address(f"10.0.0.{n}"), 24)) for n in range(5))
    )
