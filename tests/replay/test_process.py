"""Effects of events on a process: its identity, its memory, and its streams."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events import (
    core,
    descriptors,
    inputs,
    paths,
    process,
    snapshots,
    streams,
    threads,
)
from journal.events.definition import Event
from journal.events.paths import FileType
from journal.replay import DirectoryHost, ReplayError, play
from tests.support.sample_events import (
    frames_of_events,
    host_mount,
    memory_mount,
    open_path,
    play_events,
    process_start,
    refusal,
    region,
    snapshot,
    thread,
    write,
)

PAGE = 4096


# -- the process --------------------------------------------------------------------------------


def test_a_process_has_the_properties_in_its_events() -> None:
    tty = core.TtySet(
        cols=80,
        rows=24,
        width=0,
        height=0,
        stdin_tty=True,
        stdout_tty=True,
        stderr_tty=True,
        echo=True,
        line_buffered=True,
        line_feeds=True,
    )
    clock = core.SetClockTime(clock_id=core.Clock.REALTIME, time=5)
    link = process.ParentLink(journal=bytes(16), seq=8, hash=9)
    seal = process.Seal(count=9, hash=0)
    host = play_events(
        link,
        process_start(),
        process.ModulePart(offset=0, data=b"\0asm"),
        process.ModulePart(offset=4, data=b"rest"),
        process.InstrumentedPart(offset=0, data=b"of a session before"),
        process.InstrumentedPart(offset=0, data=b"\0asm"),
        process.InstrumentedPart(offset=4, data=b"more"),
        tty,
        clock,
        paths.ChangeDirectory(path="/home"),
        seal,
    )
    found = host.process
    assert found.arguments == (b"guest", b"argument")
    assert found.environment == (b"NAME=value",)
    assert found.module == b"\0asmrest"
    assert found.instrumented == b"\0asmmore"
    assert (found.parent, found.tty, found.working_directory, found.seal) == (
        link,
        tty,
        "/home",
        seal,
    )
    assert found.clocks == {core.Clock.REALTIME: clock}


@pytest.mark.parametrize(("passed_code", "code"), [(0, 0), (7, 7), (-1, 0xFFFFFFFF), (None, None)])
def test_an_exit_has_the_code_that_the_guest_passed(
    passed_code: int | None, code: int | None
) -> None:
    host = play_events(
        memory_mount(), open_path(4, 3, "a", 1), core.ProcessExit(exit_code=passed_code)
    )
    assert host.process.end_event == core.ProcessExit(exit_code=passed_code)
    assert host.process.exit_code == code
    assert host.files == {"/a": b""}


def test_the_end_of_a_process_removes_descriptors_threads_and_memory() -> None:
    trap = process.ProcessTrap(kind="unreachable", message="in main")
    for end in (core.ProcessExit(exit_code=0), trap):
        host = play_events(
            memory_mount(), region(0, b"x"), thread(1), snapshot(), region(1, b"y"), end
        )
        assert host.descriptors == {}
        assert (host.machine.pages, host.machine.threads, host.machine.memory_size) == ({}, {}, 0)
        assert host.process.end_event == end


def test_a_restarted_module_keeps_its_files_and_mounts() -> None:
    first = [memory_mount(), host_mount(4), open_path(5, 3, "a", 1), write(5, 0, b"abc"), thread(1)]
    host = play_events(*first, core.ProcessExit(exit_code=1), core.InitModule(wasm_hash=b"other"))
    assert sorted(host.descriptors) == [0, 1, 2, 3, 4]
    assert host.files == {"/a": b"abc"}
    assert host.process.end_event is None
    assert host.process.module_hash == b"other"


def test_a_new_process_has_nothing_of_the_previous_one(tmp_path: Path) -> None:
    first = [process_start(), memory_mount(), open_path(5, 3, "a", 1)]
    assert play_events(*first, process_start()).state() == play_events(process_start()).state()
    with DirectoryHost(tmp_path) as host, pytest.raises(ReplayError, match="event 3 "):
        play(frames_of_events([*first, process_start()]), host)


def test_mounts_are_distinguished() -> None:
    assert "the mount 'a/' already exists" in refusal(memory_mount(3, "/a"), memory_mount(4, "a/"))
    assert "descriptor 3 is already open" in refusal(memory_mount(3, "/a"), memory_mount(3, "/b"))
    host = play_events(memory_mount(3, "/a"), memory_mount(4, "/b"), open_path(5, 4, "x", 1))
    assert host.files == {"/b/x": b""}
    assert "different mounts" in refusal(
        memory_mount(3, "/a"),
        memory_mount(4, "/b"),
        open_path(5, 3, "x", 1),
        paths.PathRename(old_fd=3, new_fd=4, old_path="x", new_path="x"),
    )


def test_a_placed_file_lies_in_the_innermost_mount() -> None:
    for fds in ((3, 4), (4, 3)):
        mounts = memory_mount(fds[0], "/"), memory_mount(fds[1], "/in")
        placed = paths.FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/in/file", data=b"x")
        host = play_events(*sorted(mounts, key=lambda mount: mount.fd), placed)
        assert set(host.trees["/"]) == {"."}
        assert set(host.trees["/in"]) == {".", "file"}


def test_the_parts_of_a_placed_file_must_be_consecutive() -> None:
    def part(offset: int, data: bytes) -> paths.FilePlaced:
        return paths.FilePlaced(
            kind=FileType.REGULAR_FILE, offset=offset, path="/d/file", data=data
        )

    host = play_events(memory_mount(), part(0, b"one"), part(3, b"two"))
    assert host.files == {"/d/file": b"onetwo"}
    assert host.trees["/"]["d/file"].mtime == 1_000_001_000, "it is placed when it begins"
    assert "does not follow" in refusal(memory_mount(), part(0, b"one"), part(4, b"two"))
    assert "it does not exist" in refusal(memory_mount(), part(4, b"two"))


# -- memory, threads and snapshots --------------------------------------------------------------


def test_memory_is_that_of_the_last_snapshot() -> None:
    first = [region(PAGE - 2, b"abcd"), region(3 * PAGE, b"x" * PAGE), snapshot()]
    host = play_events(*first, region(PAGE, b"ZZ"))
    assert host.machine.memory_size == 65536
    assert host.machine.read(PAGE - 3, 6) == b"\0abcd\0"
    host = play_events(*first, region(PAGE, b"ZZ"), region(3 * PAGE, bytes(PAGE)), snapshot())
    assert host.machine.read(PAGE - 3, 6) == b"\0abZZ\0"
    assert sorted(host.machine.pages) == [0, 1]
    assert host.machine.read(65535, 10) == b"\0"
    assert host.process.snapshot_count == 2


@given(st.lists(st.tuples(st.integers(0, 20000), st.binary(max_size=9000)), max_size=8))
def test_memory_reads_like_one_flat_array(regions: list[tuple[int, bytes]]) -> None:
    flat = bytearray(65536)
    for start, data in regions:
        flat[start : start + len(data)] = data
    for cut in range(len(regions) + 1):
        events: list[Event] = [region(start, data) for start, data in regions]
        host = play_events(
            *events[:cut], snapshot(), *events[cut:], region(0, bytes(flat[:1])), snapshot()
        )
        assert host.machine.read(0, 1 << 20) == flat


def test_threads_globals_and_tables_take_effect_with_snapshots() -> None:
    values = threads.GlobalsSet(globals=((0, 0x7F, bytes(16)),))
    table = threads.TableSet(table=0, start=2, functions=(7, threads.TABLE_NULL))
    first = [thread(1, b"one"), thread(2), values, table]
    assert play_events(*first).machine.threads == {}
    host = play_events(*first, snapshot())
    assert host.machine.threads == {1: thread(1, b"one"), 2: thread(2)}
    assert host.machine.globals == values
    empty = threads.TABLE_NULL
    assert host.machine.elements == {(0, 0): empty, (0, 1): empty, (0, 2): 7, (0, 3): empty}
    closed = threads.CloseThread(id=1, exit_code=0)
    assert set(play_events(*first, snapshot(), closed).machine.threads) == {1, 2}
    assert set(play_events(*first, snapshot(), closed, snapshot()).machine.threads) == {2}


def test_parts_of_an_unfinished_snapshot_are_void() -> None:
    host = play_events(
        region(0, b"a"),
        thread(1),
        snapshot(),
        region(0, b"b"),
        thread(2),
        snapshots.ClearEthereal(),
        snapshot(),
    )
    assert host.machine.read(0, 1) == b"a"
    assert host.machine.threads == {}


# -- streams and inputs -------------------------------------------------------------------------


def test_streams_have_their_writes_in_order() -> None:
    def write_output(stream: int, offset: int, data: bytes) -> streams.StreamWrite:
        return streams.StreamWrite(stream=stream, offset=offset, data=data)

    delivered = streams.StreamDelivered(stream=1, upto=3)
    host = play_events(
        write_output(1, 0, b"one"),
        write_output(2, 0, b"error"),
        write_output(1, 3, b"two"),
        delivered,
    )
    assert (host.stdout, host.stderr) == (b"onetwo", b"error")
    assert host.streams.delivered == {1: delivered}
    assert "at offset 4 of stream 1, which has 3 bytes" in refusal(
        write_output(1, 0, b"one"), write_output(1, 4, b"two")
    )
    duplicate = descriptors.DuplicateFileDescriptor(original_fd=1, copied_fd=4)
    assert play_events(duplicate, write(4, 0, b"as in a converted journal")).stdout.startswith(
        b"as in"
    )


def test_inputs_are_counted() -> None:
    def read_input(offset: int, data: bytes) -> inputs.StreamRead:
        return inputs.StreamRead(stream=0, offset=offset, data=data)

    host = play_events(
        inputs.ClockRead(clock=0, time=5),
        inputs.ClockRead(clock=0, time=6),
        inputs.ClockResolution(clock=1, resolution=1),
        inputs.RandomBytes(data=bytes(7)),
        inputs.PollResult(events=b""),
        read_input(0, b"abc"),
        read_input(3, b""),
    )
    found = host.inputs
    assert (found.clocks, found.resolutions, found.random_size) == ({0: 6}, {1: 1}, 7)
    assert (found.poll_count, found.read) == (1, {0: 3})
    assert "of stream 0, of which 3 bytes were read" in refusal(
        read_input(0, b"abc"), read_input(0, b"abc")
    )
